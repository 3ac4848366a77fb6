"""Penalties that keep the scores of a discriminator from changing faster than images do, by pixels or by structure.

The critic f of a Wasserstein network (Arjovsky, Chintala, Bottou 2017) is to be 1-Lipschitz: |f(x) - f(y)| <= d(x, y)
for all images. Then the most that E f(x) - E f(G) can be is the Wasserstein distance of the two distributions, and the
metric d of images says which one. Penalties do not enforce the bound but draw slopes to it,

    gradient  E (|grad f(m)| - 1)^2,  m = (1 - t) x + t G,  t uniform    d = l2 (Gulrajani et al. 2017, Eq. 3)
    slope     E max(0, |f(x) - f(G)| / D(x, G) - 1)^2                    d = D, structural or root mean square

of real images x and generated ones G. With the structural distance the second is, but for the maximum, what Kancharla,
Channappayya (2019, "Quality Aware Generative Adversarial Networks") add to the first, with the D of Brunet, Vrscay,
Wang (2012) that Eq. (2) of Ghojogh, Karray, Crowley (2020) has too. That D is a metric, which the duality needs, is F2
of docs/kernels.md.

The maximum (Petzka, Fischer, Lukovnikov 2018) lets slopes below 1 be. Without it a critic that begins with the wrong
sign stays there. Let all pairs have f(x) - f(G) = s D: the loss is -s D + w (|s| - 1)^2, which besides its minimum at
s = 1 + D / (2 w) has another at s = -1 + D / (2 w) whenever w > D / 2, and D <= sqrt(2) (form "sum", norm "rms"). A
length, as in "gradient", has no sign and no such minimum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ssimgen._arguments import choice
from ssimgen.objectives.reconstruction import Reconstruction
from ssimgen.objectives.structure import Structure
from ssimgen.similarity import root

Scores = Callable[[Tensor], Tensor]
"""What gives (B, 1) scores of images (B, C, H, W)."""

_KINDS: dict[str, tuple[str, ...]] = {
    "none": (),
    "gradient": ("gradient",),
    "slope": ("slope",),
    "both": ("gradient", "slope"),
}
_LEAST = 1e-6  # D of images that differ in nothing that can be seen


@dataclass(frozen=True)
class Penalty:
    """What is added to the loss of a discriminator for its slopes: in pixels where they are not 1, in D above 1.

    Attributes:
        kind: "none", "gradient", "slope" or "both".
        weight: of "gradient"; 10 in Gulrajani et al.
        slope_weight: of "slope".
        error: whose root is the D of "slope": "ssim", D^2 of any form, or "l2", the mean square of pixels.
        structure: window, form and constants of the structural distance.

    Raises:
        ValueError: an unknown kind or error, or a negative weight.

    Example:
        >>> import torch
        >>> from ssimgen.objectives.lipschitz import Penalty
        >>> real, generated = torch.zeros(4, 1, 16, 16), torch.ones(4, 1, 16, 16)
        >>> twice_as_steep = lambda images: 2 * images.flatten(1).norm(dim=1, keepdim=True)
        >>> Penalty("gradient").terms(twice_as_steep, real + 0.5, generated)
        {'gradient': tensor(1., grad_fn=<MeanBackward0>)}
    """

    kind: Literal["none", "gradient", "slope", "both"] = "none"
    weight: float = 10.0
    slope_weight: float = 1.0
    error: Literal["ssim", "l2"] = "ssim"
    structure: Structure = field(default_factory=lambda: Structure(form="sum", window="uniform", size=8, stride=4))

    def __post_init__(self) -> None:
        choice("penalty kind", self.kind, tuple(_KINDS))
        choice("penalty error", self.error, ("ssim", "l2"))
        for name in ("weight", "slope_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} of the penalty must not be negative, got {getattr(self, name)}")

    @property
    def weights(self) -> dict[str, float]:
        """Those of the terms."""
        weights = {"gradient": self.weight, "slope": self.slope_weight}
        return {name: weights[name] for name in _KINDS[self.kind]}

    def terms(
        self, scores: Scores, real: Float[Tensor, "B C H W"], generated: Float[Tensor, "B C H W"]
    ) -> dict[str, Tensor]:
        """The penalties by name, without weights.

        Args:
            scores: of images, (B, 1).
            real, generated: images in [0, 1], in pairs.
        """
        found: dict[str, Tensor] = {}
        if "gradient" in _KINDS[self.kind]:
            found["gradient"] = gradient_penalty(scores, real, generated)
        if "slope" in _KINDS[self.kind]:
            found["slope"] = slope_penalty(scores, real, generated, Reconstruction(self.error, self.structure))
        return found


def gradient_penalty(
    scores: Scores, real: Float[Tensor, "B C H W"], generated: Float[Tensor, "B C H W"]
) -> Float[Tensor, ""]:
    """E (|grad f(m)| - 1)^2 with m between a real and a generated image (Gulrajani et al. 2017, Eq. 3).

    Example:
        >>> import torch
        >>> from ssimgen.objectives.lipschitz import gradient_penalty
        >>> real, generated = torch.rand(2, 4, 1, 8, 8)
        >>> gradient_penalty(lambda images: images.flatten(1)[:, :1], real, generated).item()
        0.0
    """
    t = torch.rand(len(real), 1, 1, 1, device=real.device, dtype=real.dtype)
    between = torch.lerp(real, generated.detach().to(real.dtype), t).requires_grad_()
    (slopes,) = torch.autograd.grad(scores(between).sum(), between, create_graph=True)
    return (root(slopes.square().sum((1, 2, 3))) - 1).square().mean()


def slope_penalty(
    scores: Scores, real: Float[Tensor, "B C H W"], generated: Float[Tensor, "B C H W"], error: Reconstruction
) -> Float[Tensor, ""]:
    """E max(0, |f(x) - f(G)| / D(x, G) - 1)^2, after Kancharla, Channappayya (2019); D^2 is the error.

    Example:
        >>> import torch
        >>> from ssimgen.objectives.lipschitz import slope_penalty
        >>> from ssimgen.objectives.reconstruction import Reconstruction
        >>> error, black = Reconstruction("l2"), torch.zeros(4, 1, 16, 16)
        >>> twice_from_black = lambda images: 2 * error(images, black).sqrt()[:, None]
        >>> round(slope_penalty(twice_from_black, black, torch.rand(4, 1, 16, 16), error).item(), 4)
        1.0
    """
    generated = generated.detach()
    distances = root(error(generated, real)).clamp_min(_LEAST)
    differences = (scores(real) - scores(generated)).abs().squeeze(1)
    return (differences / distances - 1).clamp_min(0).square().mean()
