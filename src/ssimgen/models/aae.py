"""Adversarial autoencoder (Makhzani et al. 2015) with any reconstruction objective, structural ones included.

An encoder E and a decoder learn to reconstruct images; an adversary A learns to tell their codes from draws of N(0, I),
and the encoder to fool it, so that the decoder makes images of such draws. In each iteration, in this order,

    encoder, decoder:  min  E d(x, decoder(E(x))),              d of :mod:`ssimgen.objectives.reconstruction`
    adversary:         min  -E log A(z) - E log(1 - A(E(x))),   z ~ N(0, I)
    encoder:           min  -E log A(E(x)).

Each has its own optimiser, so that with Adam the scale of d is of no consequence: there is no temperature. With
classes, decoder and adversary are given the class of the image (Makhzani et al., section 4): the code then holds what
the class does not tell, the codes of every class are N(0, I), and images of a class can be drawn.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ssimgen.batches import Batch, Shape
from ssimgen.models import networks
from ssimgen.models.classes import labels_of, of_class, with_class
from ssimgen.models.networks import Network
from ssimgen.models.steps import LatentAutoencoder, Step
from ssimgen.objectives.adversarial import discriminator_losses, generator_loss
from ssimgen.objectives.reconstruction import Objective, Reconstruction
from ssimgen.objectives.structure import Structure


@dataclass(frozen=True)
class AAEConfig:
    """Options of the adversarial autoencoder.

    Attributes:
        latent: dimensions of the code.
        num_classes: how many classes a conditional network draws; 0: it is not conditional.
        objective: the reconstruction error; docs/models.md has the formulas.
        structure: window, form and constants of the structural objectives; the others ignore it.
        alpha: weight of 1 - MS-SSIM in "mix", the rest being l1's.
        network: encoder and decoder.
        adversary: perceptron on codes; with classes, it has one output for each.

    Raises:
        ValueError: an option that is unknown or out of range, by its name.

    Example:
        >>> from ssimgen.models import AAEConfig
        >>> AAEConfig(objective="mix", alpha=0.5).reconstruction().alpha
        0.5
    """

    latent: int = 8
    num_classes: int = 0
    objective: Objective = "ssim"
    structure: Structure = field(default_factory=Structure)
    alpha: float = 0.84
    network: Network = field(default_factory=lambda: Network(width=16))
    adversary: Network = field(default_factory=lambda: Network("mlp", hidden=(256, 256), activation="leaky_relu"))

    def __post_init__(self) -> None:
        if self.latent < 1 or self.num_classes < 0:
            raise ValueError(
                f"latent must be at least 1 and num_classes at least 0, got {self.latent} and {self.num_classes}"
            )
        self.reconstruction()

    def reconstruction(self) -> Reconstruction:
        """The reconstruction error that `objective`, `structure` and `alpha` describe."""
        return Reconstruction(self.objective, self.structure, self.alpha)


class AAE(LatentAutoencoder):
    """Adversarial autoencoder, with any reconstruction error, conditional with --num-classes.

    An encoder E and a decoder minimise the reconstruction error; an adversary A learns to tell codes E(x) from draws of
    N(0, I), and E to fool it, with the loss -E log A(E(x)) (Makhzani et al. 2015).

    Example:
        >>> import torch
        >>> from ssimgen.models import AAE, AAEConfig
        >>> aae = AAE(AAEConfig(num_classes=10), (1, 16, 16))
        >>> aae.sample(2, labels=torch.tensor([3, 3])).shape
        torch.Size([2, 1, 16, 16])
    """

    name = "aae"
    averaged = ("encoder", "decoder")
    config: AAEConfig

    def __init__(self, config: AAEConfig, shape: Shape) -> None:
        super().__init__(config, shape, config.latent, config.num_classes)
        self.reconstruction = config.reconstruction()
        self.encoder = networks.encoder(config.network, shape, config.latent)
        self.decoder = networks.decoder(config.network, config.latent + config.num_classes, shape)
        self.adversary = networks.perceptron(config.adversary, config.latent, config.num_classes or 1)

    def draw(self, z: Float[Tensor, "n d"], labels: Int[Tensor, " n"] | None = None) -> Float[Tensor, "n C H W"]:
        """Decoded codes, as images of the classes `labels` if the model is conditional."""
        images: Tensor = self.decoder(with_class(z, labels, self.num_classes))
        return images

    def code(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B d"]:
        """The code of an image, whatever its class."""
        codes: Tensor = self.encoder(images)
        return codes

    @torch.no_grad()
    def reconstruct(
        self, images: Float[Tensor, "B C H W"], labels: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B C H W"]:
        """Decoded codes; of a conditional model without labels, as images of the class that fits best."""
        codes = self.code(images)
        if labels is not None or not self.num_classes:
            return self.draw(codes, labels)
        best, errors = torch.empty_like(images), images.new_full((len(images),), torch.inf)
        for label in range(self.num_classes):
            drawn = self.draw(codes, torch.full((len(images),), label, device=images.device))
            error = self.reconstruction(drawn, images)
            best[error < errors] = drawn[error < errors]
            errors = errors.minimum(error)
        return best

    def reconstruction_terms(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of encoder and decoder: the mean error of reconstructions."""
        labels = labels_of(batch, self.num_classes)
        return {
            "reconstruction": self.reconstruction(self.draw(self.encoder(batch.images), labels), batch.images).mean()
        }

    def adversary_terms(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of the adversary on draws from N(0, I), its "real" points, and on codes."""
        labels = labels_of(batch, self.num_classes)
        codes = self.encoder(batch.images)
        prior = self.noise(len(codes), self.latent)
        return discriminator_losses(of_class(self.adversary(prior), labels), of_class(self.adversary(codes), labels))

    def encoder_terms(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of the encoder against the adversary."""
        labels = labels_of(batch, self.num_classes)
        scores = of_class(self.adversary(self.encoder(batch.images)), labels)
        return {"fooling": generator_loss(scores, "non-saturating")}

    def steps(self) -> list[Step]:
        """Reconstruction, then the adversary, then the encoder against it."""
        return [
            Step("autoencoder", (self.encoder, self.decoder), self.reconstruction_terms),
            Step("adversary", (self.adversary,), self.adversary_terms),
            Step("encoder", (self.encoder,), self.encoder_terms),
        ]
