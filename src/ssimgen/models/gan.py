"""Generative adversarial network (Goodfellow et al. 2014), conditional if asked (Mirza, Osindero 2014).

A discriminator D learns to tell real images from generated ones, the generator G to fool it:

    D:  min  -E log D(x) - E log(1 - D(G(z)))
    G:  min  -E log D(G(z))             "non-saturating", or
        min   E log(1 - D(G(z)))        "minimax", in both  + weight * a perceptual term.

In the game "wasserstein" the scores f before any sigmoid are compared themselves, E f(x) - E f(G(z)), and a penalty
must keep them from being steep, in pixels or in the structural distance (:mod:`ssimgen.objectives.lipschitz`). The
other games can have one too.

The perceptual term compares generated and real images by their structure; :mod:`ssimgen.objectives.adversarial` says
which ones there are, and why Eq. (5) of Ghojogh, Karray, Crowley (2020) cannot be taken as printed. With
`perceptual.kind = "literal"` it is all the same: G then minimises E D^2(x, G(z)) alone, and D -E log D(x).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from jaxtyping import Float, Int
from torch import Tensor

from ssimgen._arguments import choice
from ssimgen.batches import Batch, Shape
from ssimgen.models import networks
from ssimgen.models.classes import labels_of, of_class, with_class
from ssimgen.models.networks import Network
from ssimgen.models.steps import LatentModel, Step
from ssimgen.objectives.adversarial import GAMES, Game, Perceptual, discriminator_losses, generator_loss
from ssimgen.objectives.lipschitz import Penalty


@dataclass(frozen=True)
class GANConfig:
    """Options of the generative adversarial network.

    Attributes:
        latent: dimensions of the noise.
        num_classes: how many classes a conditional network draws; 0: it is not conditional.
        game: losses of both, "non-saturating", "minimax" or "wasserstein"; the last one needs a penalty.
        perceptual: term of the generator that compares images by their structure.
        network: generator.
        discriminator: discriminator; with classes, it has one output for each.
        penalty: of the discriminator, for steep slopes, in pixels or in structure.

    Raises:
        ValueError: an option that is unknown or out of range, by its name; the game "wasserstein" without a penalty.

    Example:
        >>> from ssimgen.models import GANConfig
        >>> from ssimgen.objectives.adversarial import Perceptual
        >>> GANConfig(perceptual=Perceptual("energy", weight=0.1)).game
        'non-saturating'
    """

    latent: int = 32
    num_classes: int = 0
    game: Game = "non-saturating"
    perceptual: Perceptual = field(default_factory=Perceptual)
    network: Network = field(default_factory=lambda: Network(width=16, norm="batch"))
    discriminator: Network = field(default_factory=lambda: Network(width=16, activation="leaky_relu", dropout=0.3))
    penalty: Penalty = field(default_factory=Penalty)

    def __post_init__(self) -> None:
        choice("game", self.game, GAMES)
        if self.game == "wasserstein" and self.penalty.kind == "none":
            raise ValueError(
                "game='wasserstein' has no end without a penalty on steep discriminators: set penalty.kind to "
                "'gradient', 'slope' or 'both'"
            )
        if self.latent < 1 or self.num_classes < 0:
            raise ValueError(
                f"latent must be at least 1 and num_classes at least 0, got {self.latent} and {self.num_classes}"
            )


class GAN(LatentModel):
    """Generative adversarial network, conditional with --num-classes, with a structural term if asked.

    D minimises -E log D(x) - E log(1 - D(G(z))), and G -E log D(G(z)) or, in the "minimax" game, E log(1 - D(G(z)))
    (Goodfellow et al. 2014), plus the perceptual term (Ghojogh, Karray, Crowley 2020, Eq. 5), weighted.

    Example:
        >>> from ssimgen.models import GAN, GANConfig
        >>> gan = GAN(GANConfig(), (1, 16, 16))
        >>> gan.sample(4).shape, [step.name for step in gan.steps()]
        (torch.Size([4, 1, 16, 16]), ['discriminator', 'generator'])
    """

    name = "gan"
    averaged = ("generator",)
    config: GANConfig

    def __init__(self, config: GANConfig, shape: Shape) -> None:
        super().__init__(config, shape, config.latent, config.num_classes)
        self.generator = networks.decoder(config.network, config.latent + config.num_classes, shape)
        self.discriminator = networks.encoder(config.discriminator, shape, config.num_classes or 1)

    def draw(self, z: Float[Tensor, "n d"], labels: Int[Tensor, " n"] | None = None) -> Float[Tensor, "n C H W"]:
        """Generated images, of the classes `labels` if the model is conditional."""
        images: Tensor = self.generator(with_class(z, labels, self.num_classes))
        return images

    def scores(self, images: Float[Tensor, "B C H W"], labels: Int[Tensor, " B"] | None = None) -> Float[Tensor, "B 1"]:
        """How real the images look, as images of their class; log-odds."""
        return of_class(self.discriminator(images), labels)

    def discriminator_terms(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of the discriminator on real and on generated images of the same classes."""
        labels = labels_of(batch, self.num_classes)
        generated = self.draw(self.noise(len(batch.images), self.latent), labels).detach()
        real, fake = self.scores(batch.images, labels), self.scores(generated, labels)
        terms = discriminator_losses(real, fake, self.config.game)
        if self.config.perceptual.kind == "literal":
            del terms["fake"]
        return terms | self.config.penalty.terms(lambda images: self.scores(images, labels), batch.images, generated)

    def generator_terms(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of the generator: fooling the discriminator, and the perceptual term."""
        labels, perceptual = labels_of(batch, self.num_classes), self.config.perceptual
        generated = self.draw(self.noise(len(batch.images), self.latent), labels)
        terms = {}
        if perceptual.kind != "literal":
            terms["fooling"] = generator_loss(self.scores(generated, labels), self.config.game)
        if perceptual.kind != "none":
            terms["perceptual"] = perceptual(generated, batch.images, labels)
        return terms

    def steps(self) -> list[Step]:
        """The steps of an iteration: the discriminator's, then the generator's."""
        weights = {"perceptual": self.config.perceptual.weight} if self.config.perceptual.kind != "none" else {}
        return [
            Step("discriminator", (self.discriminator,), self.discriminator_terms, self.config.penalty.weights),
            Step("generator", (self.generator,), self.generator_terms, weights),
        ]
