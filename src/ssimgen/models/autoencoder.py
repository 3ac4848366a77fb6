"""Plain autoencoder with any reconstruction objective, structural ones included: nothing but the error counts.

    min  E d(x, decoder(encoder(x))),        d of :mod:`ssimgen.objectives.reconstruction`

The narrow code alone keeps it from copying its input, which is what finding defects rests on: what good images do not
have does not come back (Bergmann et al. 2018; :mod:`ssimgen.detection`). No prior is asked of the codes. Images are
drawn from the normal distribution N(m, C) of the codes seen in training (Ghosh et al. 2020, section 4), whose moments
are kept as moving averages; `code` and `draw` speak of standardised codes, C^-1/2 (encoder(x) - m), with the Cholesky
factor for C^1/2, so that z ~ N(0, I) as in every other model.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ssimgen.batches import Batch, Shape, mean_over_processes
from ssimgen.models import networks
from ssimgen.models.networks import Network
from ssimgen.models.steps import LatentAutoencoder, Step
from ssimgen.objectives.reconstruction import Objective, Reconstruction
from ssimgen.objectives.structure import Structure

_FORGET = 0.01  # share of a batch in the moving averages of the moments
_LEAST = 1e-6  # share of the mean variance that every dimension has: those that the encoder does not use have none


@dataclass(frozen=True)
class PlainAutoencoderConfig:
    """Options of the plain autoencoder.

    Attributes:
        latent: dimensions of the code. The more, the more comes back, of defects too.
        objective: the reconstruction error; docs/models.md has the formulas.
        structure: window, form and constants of the structural objectives; the others ignore it.
        alpha: weight of 1 - MS-SSIM in "mix", the rest being l1's.
        network: encoder and decoder.

    Raises:
        ValueError: an option that is unknown or out of range, by its name.

    Example:
        >>> from ssimgen.models import PlainAutoencoderConfig
        >>> PlainAutoencoderConfig(objective="l2").reconstruction().name
        'l2'
    """

    latent: int = 16
    objective: Objective = "ssim"
    structure: Structure = field(default_factory=Structure)
    alpha: float = 0.84
    network: Network = field(default_factory=Network)

    def __post_init__(self) -> None:
        if self.latent < 1:
            raise ValueError(f"latent must be at least 1 dimension, got {self.latent}")
        self.reconstruction()

    def reconstruction(self) -> Reconstruction:
        """The reconstruction error that `objective`, `structure` and `alpha` describe."""
        return Reconstruction(self.objective, self.structure, self.alpha)


class PlainAutoencoder(LatentAutoencoder):
    """Plain autoencoder, with any reconstruction error: no prior, for finding defects.

    Minimises E d(x, decoder(encoder(x))); images are (B, C, H, W) in [0, 1]. Samples are decoded draws from the normal
    distribution of the codes seen in training.

    Example:
        >>> import torch
        >>> from ssimgen.models import PlainAutoencoder, PlainAutoencoderConfig
        >>> model = PlainAutoencoder(PlainAutoencoderConfig(latent=4), (1, 16, 16))
        >>> model.reconstruct(torch.rand(2, 1, 16, 16)).shape, model.sample(4).shape
        (torch.Size([2, 1, 16, 16]), torch.Size([4, 1, 16, 16]))
    """

    name = "autoencoder"
    averaged = ("encoder", "decoder")
    config: PlainAutoencoderConfig
    code_mean: Tensor  # (d,)
    code_covariance: Tensor  # (d, d)

    def __init__(self, config: PlainAutoencoderConfig, shape: Shape) -> None:
        super().__init__(config, shape, config.latent)
        self.reconstruction = config.reconstruction()
        self.encoder = networks.encoder(config.network, shape, config.latent)
        self.decoder = networks.decoder(config.network, config.latent, shape)
        self.register_buffer("code_mean", torch.zeros(config.latent))
        self.register_buffer("code_covariance", torch.eye(config.latent))

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """The mean error of reconstructions."""
        codes = self.encoder(batch.images)
        if self.training:
            self._see(codes.detach().float())
        return {"reconstruction": self.reconstruction(self.decoder(codes), batch.images).mean()}

    def _see(self, codes: Float[Tensor, "B d"]) -> None:
        """Let the moments of codes follow those of a batch, over all processes."""
        mean = mean_over_processes(codes.mean(0))
        away = codes - self.code_mean
        self.code_covariance.lerp_(mean_over_processes(away.T @ away / len(codes)), _FORGET)
        self.code_mean.lerp_(mean, _FORGET)

    def _spread(self) -> Float[Tensor, "d d"]:
        """The Cholesky factor of the covariance of codes."""
        covariance = self.code_covariance.double()
        least = _LEAST * covariance.diagonal().mean().clamp_min(_LEAST)
        factor: Tensor = torch.linalg.cholesky(covariance + least * torch.eye(len(covariance)).to(covariance))
        return factor.float()

    def steps(self) -> list[Step]:
        """The one step of an iteration, which moves encoder and decoder."""
        return [Step("autoencoder", (self.encoder, self.decoder), self.terms)]

    def code(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B d"]:
        """Standardised codes: of mean 0 and covariance I where images are like those of the training."""
        away = self.encoder(images).float() - self.code_mean
        codes: Tensor = torch.linalg.solve_triangular(self._spread(), away.T, upper=False)
        return codes.T

    def draw(self, z: Float[Tensor, "n d"], labels: Int[Tensor, " n"] | None = None) -> Float[Tensor, "n C H W"]:
        """Decoded standardised codes."""
        images: Tensor = self.decoder(self.code_mean + z @ self._spread().T)
        return images

    @torch.no_grad()
    def reconstruct(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Decoded codes."""
        reconstructed: Tensor = self.decoder(self.encoder(images))
        return reconstructed
