"""Reconstruction errors of autoencoders, classical and structural, on one footing.

Images are (B, C, H, W) in [0, 1]; each objective gives one value an image, >= 0 and 0 for a perfect
reconstruction (except `bce`), which does not grow with the size of the image:

=========  ======================================================  ========================================
name       value, y the reconstruction of x                        scale
=========  ======================================================  ========================================
l2         mean over pixels of (y - x)^2                           data_range^2
l1         mean over pixels of |y - x|                             data_range
bce        mean over pixels of -x log y - (1 - x) log(1 - y)       nats; at best the entropy of x, not 0
ssim       D^2 of any form; "product" with "rms": 1 - SSIM         none, <= 2
ms_ssim    1 - MS-SSIM                                             none, < 1
mix        alpha (1 - MS-SSIM) + (1 - alpha) mean |y - x|          mixed; Zhao, Gallo, Frosio, Kautz (2017)
pyramid    mean over 3 scales of D^2, + mean |y - x|               mixed, <= 4; `structure.PYRAMID`
features   D^2 in middle layers of a classifier                    none, <= 4; :mod:`ssimgen.objectives.deep`
=========  ======================================================  ========================================

`mix` is Eq. (13) of Zhao et al. with their alpha = 0.84. It differs from theirs in two points: they weight the
absolute difference by the Gaussian of the coarsest scale around each position, which sums to a blurred mean
and here is the plain mean; and they emulate scales by Gaussians of sigma 0.5 to 8 on the full image, where
MS-SSIM here halves the image (Wang, Simoncelli, Bovik 2003), as many times as fit.

`pyramid` is a squared Hilbertian metric, which MS-SSIM is not (docs/kernels.md, F7 and F11). `ssim` with
options of `structure` has other scales, constants and weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ssimgen._arguments import choice, in_common
from ssimgen.objectives import deep
from ssimgen.objectives.structure import PYRAMID, Structure

Objective = Literal["l2", "l1", "bce", "ssim", "ms_ssim", "mix", "pyramid", "features"]


@dataclass(frozen=True)
class Reconstruction:
    """A reconstruction error with its options; call it with (reconstruction, original), both (B, C, H, W) in [0, 1].

    Attributes:
        name: l2, l1, bce, ssim, ms_ssim, mix, pyramid or features.
        structure: window, form and constants of `ssim`, `ms_ssim` and `mix`; the others ignore it.
        alpha: weight of 1 - MS-SSIM in `mix`, the rest being l1's.

    Raises:
        ValueError: an unknown name, or an alpha outside [0, 1].

    Example:
        >>> import torch
        >>> from ssimgen.objectives.reconstruction import Reconstruction
        >>> images = torch.full((4, 1, 16, 16), 0.5)
        >>> Reconstruction("l1")(images + 0.25, images)
        tensor([0.2500, 0.2500, 0.2500, 0.2500])
        >>> Reconstruction("mix")(images, images)
        tensor([0., 0., 0., 0.])
    """

    name: Objective = "ssim"
    structure: Structure = field(default_factory=Structure)
    alpha: float = 0.84

    def __post_init__(self) -> None:
        choice("objective", self.name, OBJECTIVES)
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must be a fraction in [0, 1], got {self.alpha}")

    def __call__(self, y: Float[Tensor, "B C H W"], x: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"]:
        """The error of y as a reconstruction of x, one an image, in float32, or float64 where x or y is."""
        with torch.autocast(x.device.type, enabled=False):  # errors are small differences: full precision
            y, x = in_common(y, x)
            return OBJECTIVES[self.name](self, y, x)


def _l2(_: Reconstruction, y: Tensor, x: Tensor) -> Tensor:
    return (y - x).square().mean((1, 2, 3))


def _l1(_: Reconstruction, y: Tensor, x: Tensor) -> Tensor:
    return (y - x).abs().mean((1, 2, 3))


def _bce(_: Reconstruction, y: Tensor, x: Tensor) -> Tensor:
    return F.binary_cross_entropy(y, x, reduction="none").mean((1, 2, 3))


def _ssim(options: Reconstruction, y: Tensor, x: Tensor) -> Tensor:
    return options.structure.squared_distance(y, x)


def _ms_ssim(options: Reconstruction, y: Tensor, x: Tensor) -> Tensor:
    return 1 - options.structure.ms_ssim(y, x)


def _mix(options: Reconstruction, y: Tensor, x: Tensor) -> Tensor:
    return options.alpha * _ms_ssim(options, y, x) + (1 - options.alpha) * _l1(options, y, x)


def _pyramid(_: Reconstruction, y: Tensor, x: Tensor) -> Tensor:
    return PYRAMID.squared_distance(y, x)


def _features(_: Reconstruction, y: Tensor, x: Tensor) -> Tensor:
    return deep.squared_distance(y, x)


OBJECTIVES: dict[str, Callable[[Reconstruction, Tensor, Tensor], Tensor]] = {
    "l2": _l2,
    "l1": _l1,
    "bce": _bce,
    "ssim": _ssim,
    "ms_ssim": _ms_ssim,
    "mix": _mix,
    "pyramid": _pyramid,
    "features": _features,
}
