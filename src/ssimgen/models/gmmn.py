"""Generative moment matching network (Li, Swersky, Zemel 2015), with pixel or structural kernels.

A generator maps noise z ~ U[-1, 1]^d to images; it is trained to bring the kernel discrepancy between its images and
real ones down, MMD of the two batches, with no adversary:

    min over G of MMD(G(z), x),     MMD^2 = E k(x, x') + E k(G, G') - 2 E k(x, G).

The kernel is a mixture of Gaussians of the pixel distance in the original. Ghojogh, Karray, Crowley (2020), section 3,
take the SSIM kernel K = -1/2 H D H, with the structural distance D; its MMD^2 is half the energy distance of D
(docs/kernels.md, F3). All are in :mod:`ssimgen.objectives.moment_matching`; docs/gmmn-trials.md tells which do well.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ssimgen.batches import Batch, Shape, gathered
from ssimgen.models import networks
from ssimgen.models.networks import Network
from ssimgen.models.steps import LatentModel, Step
from ssimgen.objectives.moment_matching import MomentMatching, PairKernel, check_statistic, uniform


@dataclass(frozen=True)
class GMMNConfig:
    """Options of the moment-matching network.

    Attributes:
        latent: dimensions of the noise.
        kernel: how two images are compared.
        unbiased: the U-statistic of MMD^2 instead of the V-statistic.
        root: minimise MMD instead of MMD^2.
        network: generator; the hidden layers of an "mlp" are named from the image to the noise.

    Raises:
        ValueError: an option that is unknown or out of range, by its name.

    Example:
        >>> from ssimgen.models import GMMNConfig
        >>> from ssimgen.objectives.moment_matching import LI_2015
        >>> GMMNConfig(kernel=LI_2015).kernel.metric
        'l2'
    """

    latent: int = 10
    kernel: PairKernel = field(default_factory=PairKernel)
    unbiased: bool = False
    root: bool = True
    network: Network = field(default_factory=lambda: Network(norm="batch"))

    def __post_init__(self) -> None:
        if self.latent < 1:
            raise ValueError(f"latent must be at least 1 dimension, got {self.latent}")
        check_statistic(self.unbiased, self.root)


class GMMN(LatentModel):
    """Generative moment matching network: minimises the kernel discrepancy of its images from real ones.

    The generator G minimises MMD(G(z), x), with z uniform on [-1, 1]^d (Li, Swersky, Zemel 2015), of a mixture of
    Gaussians or of the SSIM kernel (Ghojogh, Karray, Crowley 2020, section 3).

    Example:
        >>> import torch
        >>> from ssimgen.batches import Batch
        >>> from ssimgen.models import GMMN, GMMNConfig
        >>> gmmn = GMMN(GMMNConfig(), (1, 16, 16))
        >>> gmmn.terms(Batch(torch.rand(8, 1, 16, 16)))["mmd"].item() > 0
        True
    """

    name = "gmmn"
    averaged = ("generator",)
    config: GMMNConfig

    def __init__(self, config: GMMNConfig, shape: Shape) -> None:
        super().__init__(config, shape, config.latent)
        self.generator = networks.decoder(config.network, config.latent, shape)
        self.matching = MomentMatching(
            config.kernel, config.kernel.image_metrics(shape), unbiased=config.unbiased, root=config.root
        )

    def generate(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "{n} C H W"]:
        """n generated images, with gradients to the network."""
        return self.draw(self.noise(n, self.latent, generator))

    def draw(self, z: Float[Tensor, "n d"], labels: Int[Tensor, " n"] | None = None) -> Float[Tensor, "n C H W"]:
        """The images of normal noise, which is first made uniform."""
        images: Tensor = self.generator(uniform(z))
        return images

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """The discrepancy of as many generated images as there are real ones, over all devices."""
        generated = self.generate(len(batch.images))
        return {"mmd": self.matching(gathered(generated), gathered(batch.images))}

    def steps(self) -> list[Step]:
        """One step that moves the generator."""
        return [Step("generator", (self.generator,), self.terms)]
