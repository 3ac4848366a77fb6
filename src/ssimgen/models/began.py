"""Boundary-equilibrium adversarial network (Berthelot, Schumm, Metz 2017), with classical or structural energies.

The discriminator D is an autoencoder. The energy L(v) of an image is the error of its reconstruction D(v); D learns to
reconstruct real images and not generated ones, G to be reconstructed:

    D:  min  L(x) - k L(G(z)),      G:  min  L(G(z)),      k <- k + rate (gamma L(x) - L(G(z))), in [0, 1],

so that k holds E L(G(z)) near gamma E L(x). With a structural error for L, both players play on the same structural
term: the reading of Eq. (5) of Ghojogh, Karray, Crowley (2020) in which it is a game.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ssimgen._arguments import choice, is_positive
from ssimgen.batches import Batch, Shape, mean_over_processes
from ssimgen.models import networks
from ssimgen.models.networks import Network
from ssimgen.models.steps import LatentModel, Step
from ssimgen.objectives.adversarial import convergence, moved_balance
from ssimgen.objectives.reconstruction import Reconstruction
from ssimgen.objectives.structure import Structure


@dataclass(frozen=True)
class BEGANConfig:
    """Options of the boundary-equilibrium adversarial network.

    Attributes:
        latent: dimensions of the noise.
        code: dimensions of the code of the discriminator.
        energy: error of the discriminator's reconstructions: "l1", "l2", "ssim" of any form, "ms_ssim" or "mix".
        structure: window, form and constants of a structural energy.
        gamma: energy of generated images as a fraction of that of real ones; smaller: less diverse, cleaner.
            Berthelot et al. take 0.5 and less, in runs a hundred times longer.
        rate: how fast k moves; theirs is 0.001.
        network: generator. Batch statistics make its images alike (docs/models.md).
        discriminator: encoder and decoder of the discriminator.

    Raises:
        ValueError: an option that is unknown or out of range, by its name.

    Example:
        >>> from ssimgen.models import BEGANConfig
        >>> BEGANConfig(energy="l1", gamma=0.5).gamma
        0.5
    """

    latent: int = 32
    code: int = 32
    energy: Literal["l1", "l2", "ssim", "ms_ssim", "mix"] = "ssim"
    structure: Structure = field(default_factory=Structure)
    gamma: float = 1.0
    rate: float = 0.1
    network: Network = field(default_factory=lambda: Network(width=16, norm="group"))
    discriminator: Network = field(default_factory=lambda: Network(width=16))

    def __post_init__(self) -> None:
        choice("energy", self.energy, ("l1", "l2", "ssim", "ms_ssim", "mix"))
        if min(self.latent, self.code) < 1:
            raise ValueError(f"latent and code must be at least 1 dimension, got {self.latent} and {self.code}")
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma must be a fraction in (0, 1], got {self.gamma}")
        if not is_positive(self.rate):
            raise ValueError(f"rate must be a positive number, got {self.rate}")


class BEGAN(LatentModel):
    """Boundary-equilibrium adversarial network: an autoencoder as discriminator, with a structural energy if asked.

    With L(v) the error of the discriminator's reconstruction of v, D minimises L(x) - k L(G(z)), and G L(G(z)); k moves
    by rate (gamma L(x) - L(G(z))), in [0, 1] (Berthelot, Schumm, Metz 2017).

    Example:
        >>> import torch
        >>> from ssimgen.models import BEGAN, BEGANConfig
        >>> began = BEGAN(BEGANConfig(), (1, 16, 16))
        >>> began.energy(torch.rand(4, 1, 16, 16)).shape, began.balance
        (torch.Size([]), tensor(0.))
    """

    name = "began"
    averaged = ("generator",)
    config: BEGANConfig
    balance: Float[Tensor, ""]

    def __init__(self, config: BEGANConfig, shape: Shape) -> None:
        super().__init__(config, shape, config.latent)
        self.error = Reconstruction(config.energy, config.structure)
        self.generator = networks.decoder(config.network, config.latent, shape)
        self.discriminator = nn.Sequential(
            networks.encoder(config.discriminator, shape, config.code),
            networks.decoder(config.discriminator, config.code, shape),
        )
        self.register_buffer("balance", torch.zeros(()))  # k

    def draw(self, z: Float[Tensor, "n d"], labels: Int[Tensor, " n"] | None = None) -> Float[Tensor, "n C H W"]:
        """The images that the generator makes of noise z."""
        images: Tensor = self.generator(z)
        return images

    def energy(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, ""]:
        """L: the mean error of the discriminator's reconstructions, with gradients to both it and the images."""
        return self.error(self.discriminator(images), images).mean()

    def discriminator_terms(self, batch: Batch) -> dict[str, Tensor]:
        """L(x) of real images and -k L(G(z)) of generated ones; k then moves. "k", "convergence" are only logged."""
        generated = self.draw(self.noise(len(batch.images), self.latent)).detach()
        real, fake, k = self.energy(batch.images), self.energy(generated), self.balance.clone()
        if self.training:  # of the energies of all devices, so that all have one k
            means = mean_over_processes(torch.stack([real, fake]).detach())
            self.balance.copy_(moved_balance(k, means[0], means[1], self.config.gamma, self.config.rate))
        return {"real": real, "fake": -k * fake, "k": k, "convergence": convergence(real, fake, self.config.gamma)}

    def generator_terms(self, batch: Batch) -> dict[str, Tensor]:
        """L(G(z)), the mean energy of generated images: how well the discriminator reconstructs them."""
        return {"energy": self.energy(self.draw(self.noise(len(batch.images), self.latent)))}

    def steps(self) -> list[Step]:
        """The discriminator, with k, then the generator."""
        watched = {"k": 0.0, "convergence": 0.0}
        return [
            Step("discriminator", (self.discriminator,), self.discriminator_terms, watched),
            Step("generator", (self.generator,), self.generator_terms),
        ]
