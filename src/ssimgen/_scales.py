"""Scales of images: how many fit, how images are halved, and the weights and terms of MS-SSIM."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen import engine
from ssimgen._masks import check_some
from ssimgen._precision import dtype_of_result
from ssimgen.engine import PatchDistance
from ssimgen.engine.taps import numbers
from ssimgen.windows import AxisWindow, Window

WANG_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang, Simoncelli, Bovik (2003), section 3.2

_FLOOR = 0.01  # terms of MS-SSIM below it leave the product for the sum, see `ms_ssim`


def scale_complements(
    x: Float[Tensor, "B C *spatial"],
    y: Float[Tensor, "B C *spatial"],
    patch: PatchDistance,
    scales: int,
    halve: Callable[[Tensor, Window], Tensor],
) -> Float[Tensor, "B C M"]:
    """1 - t_j of each channel and scale: mean 1 - s2, and at the coarsest scale mean 1 - SSIM (`patch`)."""
    dtype = dtype_of_result(x, y)
    levels = levels_of_terms(x, y, patch, scales, halve)
    return torch.stack([engine.squared_mean(*level).to(dtype) for level in levels], -1)


def levels_of_terms(
    x: Float[Tensor, "B C *spatial"],
    y: Float[Tensor, "B C *spatial"],
    patch: PatchDistance,
    scales: int,
    halve: Callable[[Tensor, Window], Tensor],
) -> Iterator[tuple[Tensor, Tensor, PatchDistance]]:
    """The images of each scale of MS-SSIM, and what is asked there: 1 - s2, and at the coarsest `patch`.

    Images are halved in float64, and less lo: rounded averages of nearly equal images would differ by their rounding
    errors.
    """
    for _ in range(scales - 1):
        yield x, y, replace(patch, form="centred")
        x, y = (halve(_less(patch.lo, engine.widened(z)), patch.window) for z in (x, y))
        patch = replace(patch, lo=0.0)
    yield x, y, patch


def _less(lo: float, z: Tensor) -> Tensor:
    return z - lo if lo else z


def masked_scale_complements(
    x: Float[Tensor, "B C *spatial"],
    y: Float[Tensor, "B C *spatial"],
    mask: Float[Tensor, "b C *spatial"],
    patch: PatchDistance,
    scales: int,
) -> tuple[Float[Tensor, "B C M"], Float[Tensor, "B C"]]:
    """The same of images under a mask, and the weights with which channels count: those of the finest scale."""
    structure = replace(patch, form="centred")
    complements: list[Tensor] = []
    counts: list[Tensor] = []
    for scale in range(scales):
        if scale:
            (x, y), mask = halved_under(mask, (x, y), patch.window)
        squares, weights = engine.masked_sums(x, y, mask, structure if scale < scales - 1 else patch)
        counts.append(counts[0] * (weights > 0) if counts else weights)
        check_some(counts[-1], patch.window, f" at scale {scale + 1} of {scales}")
        complements.append(squares / torch.where(weights > 0, weights, 1.0))
    return torch.stack(complements, -1), counts[-1]


def halved(x: Float[Tensor, "B C *spatial"], window: Window) -> Float[Tensor, "B C *halves"]:
    """Averages over two pixels along every axis that the window joins; an odd last row or column is dropped.

    Cut into pairs, whose gradients are stacked: faster both ways than pooling on a CPU.
    """
    axes = window.axes(x.ndim - 2)
    joining = [axis.size > 1 for axis in axes]
    for dim, joins in enumerate(joining, 2):
        if joins or not any(joining):
            even = x.shape[dim] // 2 * 2
            x = x if even == x.shape[dim] else x.narrow(dim, 0, even)
            first, second = x.unflatten(dim, (-1, 2)).unbind(dim + 1)
            x = torch.add(first / 2, second, alpha=0.5)  # halves first: sums of large pixels are no numbers
    return x


def halved_under(
    mask: Float[Tensor, "b C *spatial"], images: Sequence[Float[Tensor, "B C *spatial"]], window: Window
) -> tuple[list[Tensor], Tensor]:
    """The same of what the mask shows, by its weights, and the averages of these, in float64."""
    mask = engine.widened(mask)
    halves = halved(mask, window)
    total = torch.where(halves > 0, halves, 1.0)
    return [halved(mask * torch.where(mask > 0, engine.widened(z), 0.0), window) / total for z in images], halves


def fitting_scales(x: Float[Tensor, "B C *spatial"], window: Window, halve: Callable[[int], int]) -> int:
    """How often images can be halved along the axes that the window joins and still hold one, counting themselves."""
    axes = list(zip(window.axes(x.ndim - 2), x.shape[2:], strict=True))
    joined = [(axis, side) for axis, side in axes if axis.size > 1] or axes
    return min(_fitting_scales(axis, side, halve) for axis, side in joined)


def _fitting_scales(axis: AxisWindow, side: int, halve: Callable[[int], int]) -> int:
    scales = 1
    while side > 1 and axis.fits(side := halve(side)):
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
            f"{min(x.shape[2:])} px with a window of {window.size} px: pass fewer weights or a smaller window"
        )
    return numbers


def join_scales(complements: Float[Tensor, "*axes M"], weights: tuple[float, ...]) -> Float[Tensor, "*axes"]:
    """1 - prod max(t, f)^w + sum w max(f - t, 0) over the last axis, for the complements 1 - t of the terms."""
    exponents = numbers(weights, complements)
    most = 1 - _FLOOR
    logarithm = (exponents * torch.log1p(-complements.clamp_max(most))).sum(-1)  # no matmul: autocast would halve it
    return (exponents * F.relu(complements - most)).sum(-1) - torch.expm1(logarithm)
