"""The scales of MS-SSIM: how many fit, how they are weighted, and their terms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen import engine
from ssimgen.engine import PatchDistance
from ssimgen.windows import Window

WANG_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang, Simoncelli, Bovik (2003), section 3.2

_FLOOR = 0.01  # terms of MS-SSIM below it leave the product for the sum, see `ms_ssim`


def scale_complements(
    x: Float[Tensor, "B C H W"],
    y: Float[Tensor, "B C H W"],
    patch: PatchDistance,
    scales: int,
    halve: Callable[[Tensor], Tensor],
) -> Float[Tensor, "B C M"]:
    """1 - t_j of each channel and scale: mean 1 - s2, and at the coarsest scale mean 1 - SSIM (`patch`).

    Images are halved in float64: rounded averages of nearly equal images would differ by their rounding errors.
    """
    dtype, structure = x.dtype, replace(patch, form="centred")
    complements = []
    for _ in range(scales - 1):
        complements.append(engine.squared_mean(x, y, structure))
        x, y = halve(engine.widened(x)), halve(engine.widened(y))
    return torch.stack([part.to(dtype) for part in (*complements, engine.squared_mean(x, y, patch))], -1)


def halved(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:
    """2 x 2 averages; an odd last row or column is dropped."""
    return F.avg_pool2d(x, 2)


def fitting_scales(side: int, window: Window, halve: Callable[[int], int]) -> int:
    """How often an image can be halved and still hold a window, counting the image itself."""
    scales = 1
    while side > 1 and (side := halve(side)) >= window.size:
        scales += 1
    return scales


def renormalised_wang_weights(fitting: int) -> tuple[float, ...]:
    """The first of Wang's scale weights, divided by their sum."""
    kept = WANG_SCALE_WEIGHTS[:fitting]
    return tuple(w / sum(kept) for w in kept)


def scale_weights(weights: tuple[float, ...], fitting: int, x: Tensor, window: Window) -> tuple[float, ...]:
    """The checked weights of at most `fitting` scales."""
    numbers = arguments.positive_numbers(weights)
    if numbers is None:
        raise ValueError(
            f"weights must be a tuple of positive numbers, one a scale from fine to coarse, got {weights!r}: "
            f"Wang's are {WANG_SCALE_WEIGHTS}"
        )
    if len(numbers) > fitting:
        raise ValueError(
            f"weights ask for {len(numbers)} scales, but {fitting} fit images whose shorter side is "
            f"{min(x.shape[-2:])} px with a window of {window.size} px: pass fewer weights or a smaller window"
        )
    return numbers


def join_scales(complements: Float[Tensor, "B C M"], weights: tuple[float, ...]) -> Float[Tensor, "B C"]:
    """1 - prod max(t, f)^w + sum w max(f - t, 0) over the last axis, for the complements 1 - t of the terms."""
    exponents = torch.tensor(weights, dtype=complements.dtype, device=complements.device)
    most = 1 - _FLOOR
    logarithm = (exponents * torch.log1p(-complements.clamp_max(most))).sum(-1)  # no matmul: autocast would halve it
    return (exponents * F.relu(complements - most)).sum(-1) - torch.expm1(logarithm)
