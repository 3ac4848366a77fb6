"""d^2 of all pairs in plain PyTorch: any device, derivatives of any order, vmap and compile.

At one window position, the covariances of all pairs are one matrix product of patches, each about its own mean:

    2 cov = (sqrt(2 beta w) (x - mu_x)) . (sqrt(2 beta w) (y - mu_y)),   summed over the pixels of the patch.

Pairs and positions are cut into blocks that fit a fixed memory, and the backward pass computes each anew. As for
pairs (`eager`), float32 images are computed with in float64: 1 - s2 is a difference of such products where images are
nearly equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ssimgen._precision import dtype_of_result, no_autocast, widened
from ssimgen.engine.eager import not_below_0, window_weights
from ssimgen.engine.masked import of_samples
from ssimgen.engine.spec import Advance, PatchDistance, joined, positions
from ssimgen.engine.visibility import transformed
from ssimgen.windows import Window

BLOCK = 2**20  # pairs times positions that are in memory at once, in about eight copies
IMAGES = 256  # of a set in one block, at most


def squared_all_pairs(
    x: Float[Tensor, "n C *spatial"],
    y: Float[Tensor, "m C *spatial"] | None,
    patch: PatchDistance,
    advance: Advance | None = None,
    mask: Float[Tensor, "1 C *spatial"] | None = None,
) -> Float[Tensor, "n m"]:
    """Mean d^2 over channels and positions, of all pairs; y = None is x against itself. Under a mask, the mean weighs
    positions by sum w m, as in `masked`."""
    dtype = dtype_of_result(x)
    x, y = widened(x), None if y is None else widened(y)
    if mask is not None:
        mask = widened(mask)
        x, y = torch.where(mask > 0, x, patch.lo), None if y is None else torch.where(mask > 0, y, patch.lo)
    row = x.shape[1] * math.prod(positions(x, patch.window)[1:])  # positions with one place along the first axis
    side = max(1, min(IMAGES, math.isqrt(BLOCK // row)))

    def block(x: Tensor, y: Tensor | None) -> Tensor:
        square = _mean_over_positions(x, x if y is None else y, patch, mask)
        if y is None:
            square = symmetric(square, 0 * square.detach().diagonal())  # NaN for images with NaN
        return square.to(dtype)

    with no_autocast(x.device):
        return by_blocks(x, y, side, block, advance)


def by_blocks(
    x: Float[Tensor, "n C *spatial"],
    y: Float[Tensor, "m C *spatial"] | None,
    side: int,
    block: Callable[[Tensor, Tensor | None], Tensor],
    advance: Advance | None,
) -> Float[Tensor, "n m"]:
    """A symmetric function of all pairs, by blocks of at most `side` images of each set; y = None is x against itself,
    and each block above the diagonal serves below it."""
    second = x if y is None else y
    parts, others = x.split(side), second.split(side)
    rows: list[list[Tensor]] = []
    for i, part in enumerate(parts):
        rows.append([])
        for j, other in enumerate(others):
            if y is None and j < i:
                rows[i].append(rows[j][i].T)
                continue
            rows[i].append(block(part, None if y is None and j == i else other))
            if advance is not None:
                share = 2 if y is None and i != j else 1
                advance(share * len(part) * len(other) / (len(x) * len(second)))
    return rows[0][0] if len(parts) == len(others) == 1 else torch.cat([torch.cat(row, 1) for row in rows])


def symmetric(square: Float[Tensor, "n n"], diagonal: Float[Tensor, " n"]) -> Float[Tensor, "n n"]:
    """Values of x against itself made exactly symmetric, with the diagonal that they must have, without gradient."""
    return torch.diagonal_scatter((square + square.T).div_(2), diagonal)


def _mean_over_positions(x: Tensor, y: Tensor, patch: PatchDistance, mask: Tensor | None) -> Tensor:
    """Mean d^2 of one block of pairs, some rows of window positions at a time (slices of volumes)."""
    axis, (down, *others) = patch.window.axes(x.ndim - 2)[0], positions(x, patch.window)
    row = x.shape[1] * math.prod(others)
    rows = max(1, BLOCK // (len(x) * len(y) * row))
    total, count = x.new_zeros(()), x.new_zeros(())
    for first in range(0, down, rows):
        begin, end = first * axis.stride, (min(first + rows, down) - 1) * axis.stride + axis.size
        strips = (None if z is None else z[:, :, begin:end] for z in (x, y, mask))
        some, of_some = recomputed(_sums_over_positions, *strips, patch)
        total, count = total + some, count + of_some
    return not_below_0(total / count)


def recomputed(function: Callable[..., tuple[Tensor, Tensor]], *arguments: object) -> tuple[Tensor, Tensor]:
    """function(*arguments), with a backward pass that keeps the arguments alone where PyTorch can do that."""
    if not torch.is_grad_enabled() or transformed():
        return function(*arguments)
    result: tuple[Tensor, Tensor] = checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
    return result


def _sums_over_positions(
    x: Float[Tensor, "n C *spatial"],
    y: Float[Tensor, "m C *spatial"],
    mask: Float[Tensor, "1 C *spatial"] | None,
    patch: PatchDistance,
) -> tuple[Float[Tensor, "n m"], Float[Tensor, ""]]:
    """Sums over channels and positions of weighted d^2, and of the weights."""
    weights = patch_weights(x, patch.window, mask)
    mu_x, x = weighted_patches(x - patch.lo, patch.window, weights)
    mu_y, y = weighted_patches(y - patch.lo, patch.window, weights)
    v = (x * x).sum(-1)[:, :, None] / 2 + (y * y).sum(-1)[:, None] / 2  # (P, n, m)
    rounding = x.shape[-1] * torch.finfo(x.dtype).eps
    numerator = _without_rounding(v - x @ y.mT, rounding * v)
    denominator = v + patch.c2
    mu_x, mu_y = mu_x[:, :, None], mu_y[:, None]
    e = mu_x**2 + mu_y**2
    m = _without_rounding((mu_x - mu_y) ** 2, rounding**2 * (e + v / weights.beta))  # of means of such pixels
    if patch.form == "centred":
        square = numerator / denominator
    elif patch.form == "uncentred":
        square = (numerator + weights.beta * m) / (denominator + weights.beta * e)
    else:
        square = joined(patch.form, m / (e + patch.c1), numerator / denominator)
    if weights.counts is None:
        return square.sum(0), square.new_full((), len(square))
    return (weights.counts * square).sum(0), weights.counts.sum()


def _without_rounding(z: Tensor, error: Tensor) -> Tensor:
    """z, and 0 where rounding errors may be all of it: equal images then have the distance 0, with its gradient, and
    not the root of an error. Derivatives of z are left alone."""
    value = z.detach()
    return z - torch.where(value <= error.detach(), value, 0.0)


class PatchWeights(NamedTuple):
    """Of the pixels of each patch, w of sum 1, (P or 1, 1, q); beta, and with which weight a patch counts (None: 1),
    (P, 1, 1)."""

    w: Tensor
    beta: float | Tensor
    counts: Tensor | None = None


def patch_weights(x: Float[Tensor, "n C *spatial"], window: Window, mask: Tensor | None = None) -> PatchWeights:
    """Those of the window, times those of a mask."""
    w, beta = window_weights(window, x)[None, None], window.factor(x.ndim - 2)
    if mask is None:
        return PatchWeights(w, beta)
    seen = w * _patches(mask, window)
    counts = seen.sum(-1, keepdim=True)
    w = seen / torch.where(counts > 0, counts, 1.0)
    if not window.unbiased:
        return PatchWeights(w, beta, counts)
    return PatchWeights(w, *of_samples(counts, (w * w).sum(-1, keepdim=True)))


def weighted_patches(
    x: Float[Tensor, "n C *spatial"], window: Window, weights: PatchWeights
) -> tuple[Float[Tensor, "P n"], Float[Tensor, "P n q"]]:
    """Mean of each patch, and its pixels about the mean times sqrt(2 beta w); P counts channels and positions."""
    patches, w = _patches(x, window), weights.w
    if weights.counts is None:
        centre = patches[..., w.shape[-1] // 2, None]  # about which flat patches are exactly 0, however bright
        about = patches - centre
        mean = about @ w.flatten()
    else:
        centre = patches.gather(-1, w.argmax(-1, keepdim=True).expand(*patches.shape[:-1], 1))  # a pixel that is seen
        about = torch.where(w > 0, patches - centre, 0.0)
        mean = (about @ w.mT)[..., 0]
    return centre[..., 0] + mean, (about - mean[..., None]) * (2 * weights.beta * w).sqrt()


def _patches(x: Float[Tensor, "n C *spatial"], window: Window) -> Float[Tensor, "P n q"]:
    spatial = x.ndim - 2
    for dim, axis in enumerate(window.axes(spatial), 2):
        x = x.unfold(dim, axis.size, axis.stride)  # (n, C, *positions, *window), as far as they are cut
    return x.flatten(-spatial).flatten(1, -2).transpose(0, 1)
