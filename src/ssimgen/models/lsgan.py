"""Least-squares generative adversarial network (Mao et al. 2017), with squared or structural distances to labels.

The discriminator gives numbers a to generated and b to real images, the generator wants its own to get c:

    D:  min  E d(D(x), b) + E d(D(G(z)), a)
    G:  min  E d(D(G(z)), c),

with d(s, t) = (s - t)^2 / 2, or a structural distance, as Ghojogh, Karray, Crowley (2020), section 2, have it. They
compare scalars with labels, which have no structure; :class:`ssimgen.objectives.adversarial.LabelDistance` has what is
left for a scalar, and the whole of their Eq. (2) for a discriminator that returns a map, one score a patch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from ssimgen._arguments import choice
from ssimgen.batches import Batch, Shape
from ssimgen.models import networks
from ssimgen.models.classes import labels_of, of_class, with_class
from ssimgen.models.networks import Network
from ssimgen.models.steps import LatentModel, Step
from ssimgen.objectives.adversarial import LabelDistance

CODES = {"0,1,1": (0.0, 1.0, 1.0), "-1,1,0": (-1.0, 1.0, 0.0)}
"""The labels (a, b, c) of Mao et al.: their Eq. (9), real and generated images apart, and Eq. (8), which minimises the
Pearson chi-squared divergence since b - c = 1 and b - a = 2."""


@dataclass(frozen=True)
class LSGANConfig:
    """Options of the least-squares adversarial network.

    Attributes:
        latent: dimensions of the noise.
        num_classes: how many classes a conditional network draws; 0: it is not conditional.
        labels: a, b, c: "0,1,1" or "-1,1,0".
        distance: of scores from labels.
        scores: "image", one score an image, or "patches", a map of scores, by a convolutional discriminator.
        network: generator.
        discriminator: discriminator; with classes, it has one output for each.

    Raises:
        ValueError: an option that is unknown or out of range, by its name.

    Example:
        >>> from ssimgen.models import LSGANConfig
        >>> from ssimgen.objectives.adversarial import LabelDistance
        >>> LSGANConfig(distance=LabelDistance("structural"), scores="patches").labels
        '0,1,1'
    """

    latent: int = 32
    num_classes: int = 0
    labels: Literal["0,1,1", "-1,1,0"] = "0,1,1"
    distance: LabelDistance = field(default_factory=LabelDistance)
    scores: Literal["image", "patches"] = "image"
    network: Network = field(default_factory=lambda: Network(width=16, norm="batch"))
    discriminator: Network = field(default_factory=lambda: Network(width=16, activation="leaky_relu", dropout=0.3))

    def __post_init__(self) -> None:
        choice("labels", self.labels, CODES)
        choice("scores", self.scores, ("image", "patches"))
        if self.latent < 1 or self.num_classes < 0:
            raise ValueError(
                f"latent must be at least 1 and num_classes at least 0, got {self.latent} and {self.num_classes}"
            )


class LSGAN(LatentModel):
    """Least-squares adversarial network, with squared or structural distances of scores from labels.

    D minimises E d(D(x), b) + E d(D(G(z)), a), and G minimises E d(D(G(z)), c), with d the squared distance (Mao et al.
    2017) or the structural one (Ghojogh, Karray, Crowley 2020, section 2).

    Example:
        >>> import torch
        >>> from ssimgen.models import LSGAN, LSGANConfig
        >>> lsgan = LSGAN(LSGANConfig(scores="patches"), (1, 16, 16))
        >>> lsgan.scores(torch.rand(4, 1, 16, 16)).shape
        torch.Size([4, 1, 8, 8])
    """

    name = "lsgan"
    averaged = ("generator",)
    config: LSGANConfig

    def __init__(self, config: LSGANConfig, shape: Shape) -> None:
        super().__init__(config, shape, config.latent, config.num_classes)
        make = networks.encoder if config.scores == "image" else networks.score_map
        self.generator = networks.decoder(config.network, config.latent + config.num_classes, shape)
        self.discriminator = make(config.discriminator, shape, config.num_classes or 1)

    def draw(self, z: Float[Tensor, "n d"], labels: Int[Tensor, " n"] | None = None) -> Float[Tensor, "n C H W"]:
        """Generated images, of the classes `labels` if the model is conditional."""
        images: Tensor = self.generator(with_class(z, labels, self.num_classes))
        return images

    def scores(
        self, images: Float[Tensor, "B C H W"], labels: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B 1 *map"]:
        """The score of each image, or of its patches, as an image of its class."""
        return of_class(self.discriminator(images), labels)

    def discriminator_terms(self, batch: Batch) -> dict[str, Tensor]:
        """Mean distances of the scores of real images from the label b, and of as many generated ones from a."""
        a, b, _ = CODES[self.config.labels]
        labels, distance = labels_of(batch, self.num_classes), self.config.distance
        generated = self.draw(self.noise(len(batch.images), self.latent), labels).detach()
        return {
            "real": distance(self.scores(batch.images, labels), b),
            "fake": distance(self.scores(generated, labels), a),
        }

    def generator_terms(self, batch: Batch) -> dict[str, Tensor]:
        """The mean distance of the scores of generated images from the label c."""
        _, _, c = CODES[self.config.labels]
        labels = labels_of(batch, self.num_classes)
        generated = self.draw(self.noise(len(batch.images), self.latent), labels)
        return {"fooling": self.config.distance(self.scores(generated, labels), c)}

    def steps(self) -> list[Step]:
        """The steps of an iteration: the discriminator's, then the generator's."""
        return [
            Step("discriminator", (self.discriminator,), self.discriminator_terms),
            Step("generator", (self.generator,), self.generator_terms),
        ]
