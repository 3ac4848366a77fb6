"""Moment matching in the code space of an autoencoder (Li, Swersky, Zemel 2015, section 3.2).

The first part of a run trains an autoencoder, with codes in [0, 1]^d; then it rests, and a generator of codes is
trained so that its codes match those of real images. A sample is a decoded generated code. What can be compared:

- "codes" with metric "l2": Gaussians on codes, the original;
- "codes" with metric "ssim": each code as a single block of SSIM, as Ghojogh, Karray, Crowley (2020), section 3,
  write it. Codes have no places, so that this says nothing about the structure of images;
- "images": the decoded codes, generated and real, by any kernel on images. Real images are compared as the
  autoencoder returns them: what it cannot draw is no concern of the generator.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ssimgen._arguments import choice
from ssimgen.batches import Batch, Shape, gathered
from ssimgen.models import networks
from ssimgen.models.networks import Network
from ssimgen.models.steps import Autoencoder, LatentModel, Step
from ssimgen.objectives.moment_matching import MomentMatching, PairKernel, check_statistic, uniform
from ssimgen.objectives.reconstruction import Objective, Reconstruction
from ssimgen.objectives.structure import Structure


@dataclass(frozen=True)
class CodeGMMNConfig:
    """Options of the moment-matching network in code space.

    Attributes:
        code: dimensions of the code.
        latent: dimensions of the noise.
        compare: what is compared, "codes" or "images", decoded ones.
        kernel: how two of them are compared.
        unbiased: the U-statistic of MMD^2 instead of the V-statistic.
        root: minimise MMD instead of MMD^2.
        pretraining: fraction of the run that trains the autoencoder; the rest trains the generator.
        objective: reconstruction error of the autoencoder.
        structure: window, form and constants of a structural reconstruction error.
        network: encoder and decoder. Without a norm a convolutional one stays for long at the mean image.
        generator: perceptron from noise to code, its hidden layers named in that order.

    Raises:
        ValueError: an option that is unknown or out of range, by its name.

    Example:
        >>> from ssimgen.models import CodeGMMNConfig
        >>> CodeGMMNConfig(compare="images", pretraining=0.7).pretraining
        0.7
    """

    code: int = 32
    latent: int = 10
    compare: Literal["codes", "images"] = "codes"
    kernel: PairKernel = field(default_factory=lambda: PairKernel(metric="l2"))
    unbiased: bool = False
    root: bool = True
    pretraining: float = 0.5
    objective: Objective = "bce"
    structure: Structure = field(default_factory=Structure)
    network: Network = field(default_factory=lambda: Network(width=16, norm="group"))
    generator: Network = field(default_factory=lambda: Network("mlp", hidden=(64, 256, 256, 1024)))

    def __post_init__(self) -> None:
        choice("compare", self.compare, ("codes", "images"))
        if self.code < 2:
            raise ValueError(f"code must be at least 2 dimensions, got {self.code}")
        if self.latent < 1:
            raise ValueError(f"latent must be at least 1 dimension, got {self.latent}")
        if not 0 < self.pretraining < 1:
            raise ValueError(
                f"pretraining must be a fraction of the run between 0 and 1, got {self.pretraining}: the first part "
                "trains the autoencoder, the rest the generator"
            )
        check_statistic(self.unbiased, self.root)
        if self.compare == "codes" and self.kernel.metric not in ("l2", "ssim"):
            raise ValueError(
                f"compare='codes' takes kernel.metric 'l2' or 'ssim', got {self.kernel.metric!r}: set compare='images'"
            )
        Reconstruction(self.objective, self.structure)


class CodeGMMN(LatentModel, Autoencoder):
    """Moment matching in code space: trains an autoencoder, then a generator of its codes.

    The autoencoder has codes in [0, 1]^d and then rests; MMD is that of generated and real codes, or of the images that
    both are decoded to (Li, Swersky, Zemel 2015, section 3.2).

    Example:
        >>> from ssimgen.models import CodeGMMN, CodeGMMNConfig
        >>> model = CodeGMMN(CodeGMMNConfig(), (1, 16, 16))
        >>> [(step.name, step.span) for step in model.steps()]
        [('autoencoder', (0, 0.5)), ('generator', (0.5, 1))]
    """

    name = "code-gmmn"
    averaged = ("encoder", "decoder", "generator")
    config: CodeGMMNConfig

    def __init__(self, config: CodeGMMNConfig, shape: Shape) -> None:
        super().__init__(config, shape, config.latent)
        self.reconstruction = Reconstruction(config.objective, config.structure)
        self.encoder = nn.Sequential(networks.encoder(config.network, shape, config.code), nn.Sigmoid())
        self.decoder = networks.decoder(config.network, config.code, shape)
        self.generator = nn.Sequential(networks.perceptron(config.generator, config.latent, config.code), nn.Sigmoid())
        kernel = config.kernel
        metrics = kernel.code_metrics() if config.compare == "codes" else kernel.image_metrics(shape)
        self.matching = MomentMatching(kernel, metrics, unbiased=config.unbiased, root=config.root)

    def generate_codes(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "{n} d"]:
        """n codes of uniform noise, with gradients."""
        codes: Tensor = self.generator(uniform(self.noise(n, self.latent, generator)))
        return codes

    def draw(self, z: Float[Tensor, "n d"], labels: Int[Tensor, " n"] | None = None) -> Float[Tensor, "n C H W"]:
        """Decoded codes of normal noise, which is first made uniform."""
        images: Tensor = self.decoder(self.generator(uniform(z)))
        return images

    def reconstruction_terms(self, batch: Batch) -> dict[str, Tensor]:
        """Mean reconstruction error of the autoencoder."""
        return {"reconstruction": self.reconstruction(self.decoder(self.encoder(batch.images)), batch.images).mean()}

    def matching_terms(self, batch: Batch) -> dict[str, Tensor]:
        """The discrepancy of generated codes from those of the images, over all devices."""
        generated = self.generate_codes(len(batch.images))
        with _at_rest(self.encoder, self.decoder):
            real = self.encoder(batch.images)
            if self.config.compare == "images":
                generated, real = self.decoder(generated), self.decoder(real)
        return {"mmd": self.matching(gathered(generated), gathered(real))}

    def steps(self) -> list[Step]:
        """The autoencoder first, then the generator."""
        turn = self.config.pretraining
        return [
            Step("autoencoder", (self.encoder, self.decoder), self.reconstruction_terms, span=(0, turn)),
            Step("generator", (self.generator,), self.matching_terms, span=(turn, 1)),
        ]

    @torch.no_grad()
    def reconstruct(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """The images as the autoencoder returns them: their codes, decoded."""
        decoded: Tensor = self.decoder(self.encoder(images))
        return decoded


@contextmanager
def _at_rest(*modules: nn.Module) -> Iterator[None]:
    """While it lasts, modules are in evaluation mode: no dropout, and no change of batch statistics."""
    before = [module.training for module in modules]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for module, training in zip(modules, before, strict=True):
            module.train(training)
