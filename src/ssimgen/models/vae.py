"""Variational autoencoder (Kingma, Welling 2014) with any reconstruction objective, structural ones included.

Ghojogh, Karray, Crowley (2020), Eq. (4), replace the l2 reconstruction error by the structural distance D. The
equation as printed is the evidence lower bound, which is to be maximised; what is minimised here is its negative,

    KL(q(z|x) || N(0, I)) + D^2(x, x^) / tau,     q(z|x) = N(mean(x), diag exp(log_variance(x))),

with the temperature tau (for l2: proportional to the variance of the decoder's Gaussian) explicit: it sets the
rate, and with it how much detail survives. Models are comparable at equal KL, not at equal tau. With a KL target tau is
steered: each iteration multiplies it by exp(_GAIN e), where e = KL / target - 1, of the batch and clipped to [-1, 1].
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ssimgen._arguments import is_positive
from ssimgen.batches import Batch, Shape, mean_over_processes
from ssimgen.models import networks
from ssimgen.models.networks import Network
from ssimgen.models.steps import LatentAutoencoder, Step
from ssimgen.objectives.reconstruction import Objective, Reconstruction
from ssimgen.objectives.structure import Structure

SUGGESTED_TAU: Mapping[Objective, float] = {
    "l2": 5e-4,
    "l1": 7e-4,
    "bce": 2e-3,
    "ssim": 6.5e-3,
    "ms_ssim": 2.5e-3,
    "mix": 2.3e-3,
    "pyramid": 3.3e-3,
    "features": 3.5e-3,
}
"""Temperatures at which every objective comes to a KL of about 22 nats on the digits of `mnist5k`."""

_GAIN = 0.05  # of the steering of tau, an iteration


@dataclass(frozen=True)
class VAEConfig:
    """Options of the variational autoencoder.

    Attributes:
        tau: temperature; the loss is KL + reconstruction / tau. Smaller: sharper reconstructions, higher KL,
            a latent space further from the prior. It has no default because it has no meaning without the scale
            of the objective. Starting points, for 28 x 28 digits: l2 5e-4, l1 7e-4, bce 2e-3, ssim 6.5e-3,
            ms_ssim 2.5e-3, mix 2.3e-3, pyramid 3.3e-3, features 3.5e-3.
        latent: dimensions of the code z.
        objective: the reconstruction error; docs/models.md has the formulas.
        structure: window, form and constants of the structural objectives; the others ignore it.
        alpha: weight of 1 - MS-SSIM in "mix", the rest being l1's.
        network: encoder and decoder.
        kl_target: nats to which the KL is brought by steering tau, which is then where training begins. Models of
            equal KL compare as they are.

    Raises:
        ValueError: an option that is unknown or out of range, by its name.

    Example:
        >>> from ssimgen.models import VAEConfig
        >>> VAEConfig(tau=6.5e-3, objective="ssim").reconstruction().name
        'ssim'
    """

    tau: float
    latent: int = 16
    objective: Objective = "ssim"
    structure: Structure = field(default_factory=Structure)
    alpha: float = 0.84
    network: Network = field(default_factory=Network)
    kl_target: float | None = None

    def __post_init__(self) -> None:
        if not is_positive(self.tau):
            raise ValueError(f"tau must be a positive number, got {self.tau!r}: the loss is KL + reconstruction / tau")
        if self.latent < 1:
            raise ValueError(f"latent must be at least 1 dimension, got {self.latent}")
        if self.kl_target is not None and not is_positive(self.kl_target):
            raise ValueError(f"kl_target must be a positive number of nats, got {self.kl_target!r}")
        self.reconstruction()

    def reconstruction(self) -> Reconstruction:
        """The reconstruction error that `objective`, `structure` and `alpha` describe."""
        return Reconstruction(self.objective, self.structure, self.alpha)


class VAE(LatentAutoencoder):
    """Variational autoencoder: minimises KL + reconstruction / tau; images are (B, C, H, W) in [0, 1].

    Minimises KL(q(z|x) || N(0, I)) + D^2(x, x^) / tau, with q(z|x) = N(mean(x), diag exp(log_variance(x))) and D^2 the
    reconstruction error (Kingma, Welling 2014; Ghojogh, Karray, Crowley 2020, Eq. 4).

    Example:
        >>> import torch
        >>> from ssimgen.models import VAE, VAEConfig
        >>> vae = VAE(VAEConfig(tau=6.5e-3), (1, 16, 16))
        >>> vae.reconstruct(torch.rand(2, 1, 16, 16)).shape, vae.sample(4).shape
        (torch.Size([2, 1, 16, 16]), torch.Size([4, 1, 16, 16]))
    """

    name = "vae"
    averaged = ("encoder", "decoder")
    config: VAEConfig
    log_tau: Tensor  # with a KL target

    def __init__(self, config: VAEConfig, shape: Shape) -> None:
        super().__init__(config, shape, config.latent)
        self.reconstruction = config.reconstruction()
        self.encoder = networks.encoder(config.network, shape, 2 * config.latent)
        self.decoder = networks.decoder(config.network, config.latent, shape)
        if config.kl_target is not None:
            self.register_buffer("log_tau", torch.tensor(math.log(config.tau), dtype=torch.float64))

    def encode(self, images: Float[Tensor, "B C H W"]) -> tuple[Float[Tensor, "B d"], Float[Tensor, "B d"]]:
        """Mean and log-variance of q(z|x) = N(mean, diag exp(log_variance)), for each image x."""
        mean, log_variance = self.encoder(images).float().chunk(2, dim=1)
        return mean, log_variance

    def code(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B d"]:
        """The mean of q(z|x)."""
        return self.encode(images)[0]

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """KL (nats an image, as :meth:`rate`) and reconstruction error, both means over the batch."""
        mean, log_variance = self.encode(batch.images)
        noise = self.noise(len(mean), self.config.latent)
        z = mean + (0.5 * log_variance).exp() * noise  # q(z|x), reparametrised (Kingma and Welling, section 2.4)
        reconstruction = self.reconstruction(self.decoder(z), batch.images)
        terms = {"kl": kl_to_standard_normal(mean, log_variance).mean(), "reconstruction": reconstruction.mean()}
        return terms if self.config.kl_target is None else self._steered(terms, self.config.kl_target)

    def _steered(self, terms: dict[str, Tensor], target: float) -> dict[str, Tensor]:
        """The loss with tau as it is now, which then moves towards where the KL is the target."""
        tau = self.log_tau.exp().float()
        loss = terms["kl"] + terms["reconstruction"] / tau
        if self.training:
            error = mean_over_processes(terms["kl"].detach()) / target - 1
            self.log_tau += _GAIN * error.clamp(-1, 1)
        return {**terms, "loss": loss, "tau": tau}

    def steps(self) -> list[Step]:
        """The one step of an iteration, which moves encoder and decoder."""
        if self.config.kl_target is None:
            weights = {"reconstruction": 1 / self.config.tau}
        else:
            weights = {"kl": 0.0, "reconstruction": 0.0, "tau": 0.0}  # all of it is in the loss
        return [Step("vae", (self.encoder, self.decoder), self.terms, weights)]

    def draw(self, z: Float[Tensor, "n d"], labels: Int[Tensor, " n"] | None = None) -> Float[Tensor, "n C H W"]:
        """Decoded codes; the prior of the codes is N(0, I)."""
        images: Tensor = self.decoder(z)
        return images

    @torch.no_grad()
    def rate(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"]:
        """KL(q(z|x) || N(0, I)) of each image, in nats."""
        return kl_to_standard_normal(*self.encode(images))

    @torch.no_grad()
    def reconstruct(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """The images that the decoder makes of the means of q(z|x)."""
        return self.draw(self.code(images))

    @torch.no_grad()
    def reconstruct_from_samples(
        self, images: Float[Tensor, "B C H W"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "B C H W"]:
        """The images that the decoder makes of codes drawn from q(z|x), which hold no more nats than the KL says."""
        mean, log_variance = self.encode(images)
        return self.draw(mean + (0.5 * log_variance).exp() * self.noise(len(mean), self.config.latent, generator))


def kl_to_standard_normal(mean: Float[Tensor, "B d"], log_variance: Float[Tensor, "B d"]) -> Float[Tensor, " B"]:
    """KL(N(mean, diag exp(log_variance)) || N(0, I)) in nats, summed over the d dimensions of the code.

    sum (exp(log_variance) + mean^2 - 1 - log_variance) / 2     (Kingma, Welling 2014, appendix B).
    """
    return 0.5 * (log_variance.exp() + mean**2 - 1 - log_variance).sum(1)
