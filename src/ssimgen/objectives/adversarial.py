"""Losses of adversarial networks: log loss, distances to labels, equilibrium, and the perceptual terms beside them.

Scores D are those of a discriminator before any sigmoid: (B, 1), one an image, or (B, 1, h, w), one a patch of it.

Ghojogh, Karray, Crowley (2020), Eq. (5), put the structural distance into the game by replacing its second term,

    min_G max_D  E log D(x) + E |x - G(z)|_S^2.

As printed this is no game: D appears in one term only, which D = 1 maximises, and x and z are independent, so that G
is best at one image, that which is nearest to all real ones on average. :class:`Perceptual` offers it (`literal`) to
show that, and two terms that are added to the adversarial loss instead: `paired`, the same distance, which draws
towards the average image as the adversary draws away from it; and `energy`, which has what Eq. (5) lacks, a repulsion
between generated images,

    2 E D(x, G) - E D(G, G') - E D(x, x'),

the energy distance of the structural distance D: 0 for equal distributions and, with forms "sum" and "product", only
for them (docs/kernels.md, F3 and F4).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ssimgen import engine
from ssimgen._arguments import choice, in_common
from ssimgen._request import patch_distance, patches
from ssimgen.batches import gathered
from ssimgen.discrepancy import energy_distance
from ssimgen.metrics import Euclidean, Metric
from ssimgen.objectives.reconstruction import Objective, Reconstruction
from ssimgen.objectives.structure import Structure

Game = Literal["non-saturating", "minimax", "wasserstein"]
GAMES: tuple[Game, ...] = ("non-saturating", "minimax", "wasserstein")


def discriminator_losses(
    real: Float[Tensor, "B 1 *map"], fake: Float[Tensor, "b 1 *map"], game: Game = "non-saturating"
) -> dict[str, Tensor]:
    """The discriminator's losses -E log sigmoid(D(x)) and -E log(1 - sigmoid(D(G))) (Goodfellow et al. 2014, Eq. 1).

    In the game "wasserstein" they are -E D(x) and E D(G) (Arjovsky, Chintala, Bottou 2017), without a lower bound
    unless D is kept from being steep (:mod:`ssimgen.objectives.lipschitz`).

    Args:
        real, fake: scores D of real and of generated images before any sigmoid, (B, 1) or, one a patch, (B, 1, h, w).
        game: the other two have the same losses of the discriminator.

    Returns:
        "real" and "fake", each a mean over scores; but for "wasserstein" in nats, >= 0, and log 2 where the
        discriminator cannot tell.

    Example:
        >>> import torch
        >>> from ssimgen.objectives.adversarial import discriminator_losses
        >>> discriminator_losses(real=torch.full((8, 1), 20.0), fake=torch.zeros(8, 1))["fake"]
        tensor(0.6931)
    """
    if game == "wasserstein":
        return {"real": -real.mean(), "fake": fake.mean()}
    return {"real": F.softplus(-real).mean(), "fake": F.softplus(fake).mean()}


def generator_loss(fake: Float[Tensor, "b 1 *map"], game: Game) -> Float[Tensor, ""]:
    """The generator's loss, a mean over scores (Goodfellow et al. 2014, section 3).

    Args:
        fake: scores D of generated images before any sigmoid, (B, 1) or, one a patch, (B, 1, h, w).
        game: "minimax", E log(1 - sigmoid(D(G))) <= 0; "non-saturating", -E log sigmoid(D(G)) >= 0, whose gradient
            does not fade where the discriminator is sure; or "wasserstein", -E D(G).

    Example:
        >>> import torch
        >>> from ssimgen.objectives.adversarial import generator_loss
        >>> zeros = torch.zeros(8, 1)
        >>> generator_loss(zeros, "non-saturating"), generator_loss(zeros, "minimax")
        (tensor(0.6931), tensor(-0.6931))
    """
    if game == "wasserstein":
        return -fake.mean()
    return F.softplus(-fake).mean() if game == "non-saturating" else -F.softplus(fake).mean()


@dataclass(frozen=True)
class Perceptual:
    """A term that compares generated images with real ones as images, in the generator's loss.

    Attributes:
        kind: "none"; "literal", Eq. (5) as printed, alone, without adversary; "paired", the error of each generated
            image against a real one of the batch, of the same class if the model is conditional, added to the
            adversarial loss; "energy", the energy distance of the two batches, added likewise, within classes if the
            model is conditional.
        weight: of the term; the adversarial loss has weight 1.
        error: how two images are compared: an objective of autoencoders, such as "ssim", of any form, or
            "ms_ssim" (Kancharla, Channappayya 2018); "energy" takes "ssim" and "l2".
        structure: window, form and constants of the structural ones.

    Raises:
        ValueError: an unknown kind or error, a negative weight, or "energy" with an error that is no metric.

    Example:
        >>> import torch
        >>> from ssimgen.objectives.adversarial import Perceptual
        >>> generated, real = torch.rand(2, 8, 1, 16, 16)
        >>> Perceptual("paired", error="l1")(generated, real).shape
        torch.Size([])
        >>> Perceptual("energy").metric().form
        'sum'
    """

    kind: Literal["none", "literal", "paired", "energy"] = "none"
    weight: float = 1.0
    error: Objective = "ssim"
    structure: Structure = field(default_factory=lambda: Structure(form="sum", window="uniform", size=8, stride=4))

    def __post_init__(self) -> None:
        choice("perceptual kind", self.kind, ("none", "literal", "paired", "energy"))
        Reconstruction(self.error, self.structure)
        if not self.weight >= 0:
            raise ValueError(f"the perceptual weight must not be negative, got {self.weight}")
        if self.kind == "energy" and self.error not in ("ssim", "l2"):
            raise ValueError(
                f"the perceptual kind 'energy' needs a metric between all pairs, 'ssim' or 'l2', got {self.error!r}: "
                "choose one of them, or kind='paired'"
            )

    def __call__(
        self,
        generated: Float[Tensor, "B C H W"],
        real: Float[Tensor, "B C H W"],
        labels: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, ""]:
        """The value of the term, 0-d, for images in [0, 1]; `labels` are the classes of both, image by image."""
        if self.kind != "energy":
            return Reconstruction(self.error, self.structure)(generated, real).mean()
        generated, real = gathered(generated), gathered(real)  # all devices' images: it is not a mean over images
        with torch.autocast(real.device.type, enabled=False):
            real, generated = in_common(real, generated)
            within = None if labels is None else gathered(labels)
            return energy_distance_within_classes(self.metric(), real, generated, within)

    def metric(self) -> Metric:
        """D of the kind "energy": structural or, where the error is "l2", Euclidean."""
        return Euclidean() if self.error == "l2" else self.structure.metric()


def energy_distance_within_classes(
    metric: Metric,
    real: Float[Tensor, "n C H W"],
    generated: Float[Tensor, "n C H W"],
    labels: Int[Tensor, " n"] | None = None,
) -> Float[Tensor, ""]:
    """The mean over images of the energy distance of their class, as U-statistic; without labels all are of one class.

    A class of one image tells nothing and counts 0. The part of the real images among themselves does not move the
    generator, but makes 0 the mean at equal distributions.

    Args:
        metric: D, as `StructuralDistance(data_range=1.0)`.
        real, generated: images, equally many.
        labels: the classes of both, image by image.

    Raises:
        ValueError: as :func:`ssimgen.discrepancy.energy_distance`.

    Example:
        >>> import torch
        >>> from ssimgen.metrics import Euclidean
        >>> from ssimgen.objectives.adversarial import energy_distance_within_classes
        >>> real = torch.tensor([0.0, 1.0, 5.0, 6.0]).view(4, 1, 1, 1)
        >>> energy_distance_within_classes(Euclidean(), real, real + 4, labels=torch.tensor([0, 0, 1, 1]))
        tensor(6.)
    """
    if labels is None:
        labels = torch.zeros(len(real), dtype=torch.long, device=real.device)
    matrices = (
        metric(real),
        metric(real, generated),
        metric(generated),
    )  # all pairs at once cost less than class by class
    total = 0 * matrices[1].sum()
    for label in labels.unique():
        (index,) = torch.where(labels == label)
        if len(index) > 1:
            d_xx, d_xy, d_yy = (d[index][:, index] for d in matrices)
            total = total + len(index) * energy_distance(d_xx, d_xy, d_yy, unbiased=True)
    return total / len(labels)


@dataclass(frozen=True)
class LabelDistance:
    """The distance of scores from the number they should have (Mao et al. 2017), squared or structural.

    "l2" is (D - b)^2 / 2. "structural" is Eq. (2) of Ghojogh, Karray, Crowley (2020): of a map of scores and a constant
    map of labels, or, of a single score, where there is no variance, its luminance part

        (D - b)^2 / (D^2 + b^2 + c1).

    (The factor q / (q - 1) that the paper gives its covariances is left out: it divides by 0 at q = 1.) It is at most 2
    and flat far from b. Where b = 0 it is D^2 / (D^2 + c1), flat from |D| > k1 on: k1 must be of the order of
    the distance between labels, not the 0.01 of images.

    Attributes:
        kind: "l2" or "structural".
        structure: window, norm and constants; k1 and k2 are in units of the scores. A single score has only k1.

    Raises:
        ValueError: an unknown kind, or scales, pixels or chroma, which scores have not; when called, maps of scores
            smaller than the window.

    Example:
        >>> import torch
        >>> from ssimgen.objectives.adversarial import LabelDistance
        >>> scores = torch.tensor([[0.0], [3.0]])
        >>> LabelDistance("l2")(scores, label=1.0), LabelDistance("structural")(scores, label=1.0).round(decimals=3)
        (tensor(1.2500), tensor(0.4320))
    """

    kind: Literal["l2", "structural"] = "l2"
    structure: Structure = field(
        default_factory=lambda: Structure(form="sum", window="uniform", size=3, k1=1.0, k2=1.0)
    )

    def __post_init__(self) -> None:
        choice("label distance", self.kind, ("l2", "structural"))
        s = self.structure
        if (s.scales, s.pixels, s.chroma) != (1, 0, None):
            raise ValueError(
                "scores are compared at one scale and have no pixels and no chroma: leave scales, pixels and chroma "
                "of the label distance as they are"
            )

    def __call__(self, scores: Float[Tensor, "B 1 *map"], label: float) -> Float[Tensor, ""]:
        """The mean distance of (B, 1) or (B, 1, h, w) scores from the label."""
        with torch.autocast(scores.device.type, enabled=False):
            scores = scores.float()
            if self.kind == "l2":
                return (scores - label).square().mean() / 2
            if scores.ndim == 2:
                c1 = self.structure.k1**2
                return ((scores - label).square() / (scores.square() + label**2 + c1)).mean()
            return self._of_maps(scores, torch.full_like(scores, label))

    def _of_maps(self, scores: Float[Tensor, "B 1 h w"], labels: Float[Tensor, "B 1 h w"]) -> Float[Tensor, ""]:
        """The mean of D^2. Scores are no images: they have no range that they could be outside of."""
        options, window = self.structure, self.structure.make_window()
        patch = patch_distance(scores, 1.0, window, options.k1, options.k2, options.form)
        square = engine.squared_mean(scores, labels, patch).mean()
        return square * patches(scores, window) if options.norm == "frobenius" else square


def moved_balance(
    balance: Float[Tensor, ""], real: Float[Tensor, ""], fake: Float[Tensor, ""], gamma: float, rate: float
) -> Float[Tensor, ""]:
    """The balance of BEGAN after an iteration, k + rate (gamma L(x) - L(G)), in [0, 1] (Berthelot et al. 2017, Eq. 5).

    Args:
        balance: k.
        real, fake: energies L(x) and L(G), means over images.
        gamma: the wanted ratio L(G) / L(x).
        rate: how fast k moves.

    Example:
        >>> import torch
        >>> from ssimgen.objectives.adversarial import moved_balance
        >>> moved_balance(torch.tensor(0.5), real=torch.tensor(1.0), fake=torch.tensor(0.25), gamma=0.5, rate=1.0)
        tensor(0.7500)
    """
    return (balance + rate * (gamma * real - fake)).clamp(0, 1).detach()


def convergence(real: Float[Tensor, ""], fake: Float[Tensor, ""], gamma: float) -> Float[Tensor, ""]:
    """BEGAN's measure L(x) + |gamma L(x) - L(G)|, which falls as training goes well (Berthelot et al. 2017, 3.4.1).

    Args:
        real, fake: energies L(x) and L(G), means over images.
        gamma: the wanted ratio L(G) / L(x).

    Example:
        >>> import torch
        >>> from ssimgen.objectives.adversarial import convergence
        >>> convergence(real=torch.tensor(1.0), fake=torch.tensor(0.25), gamma=0.5)
        tensor(1.2500)
    """
    return (real + (gamma * real - fake).abs()).detach()
