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

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ssimgen._autocast import no_autocast
from ssimgen.engine.eager import widened
from ssimgen.engine.spec import Advance, PatchDistance, joined
from ssimgen.windows import Window

BLOCK = 2**20  # pairs times positions that are in memory at once, in about eight copies
IMAGES = 256  # of a set in one block, at most


def squared_all_pairs(
    x: Float[Tensor, "n C H W"],
    y: Float[Tensor, "m C H W"] | None,
    patch: PatchDistance,
    advance: Advance | None = None,
) -> Float[Tensor, "n m"]:
    """Mean d^2 over channels and positions, of all pairs; y = None is x against itself."""
    dtype = x.dtype
    x, y = widened(x), None if y is None else widened(y)
    second = x if y is None else y
    _, channels, height, width = x.shape
    down, across = patch.window.positions(height), patch.window.positions(width)
    side = max(1, min(IMAGES, math.isqrt(BLOCK // (channels * across))))
    parts, others = x.split(side), second.split(side)

    def block(i: int, j: int) -> Tensor:
        if y is None and j < i:
            return blocks[j][i].T
        square = _mean_over_positions(parts[i], others[j], patch, down)
        if advance is not None:
            share = 2 if y is None and i != j else 1
            advance(share * square.numel() / (len(x) * len(second)))
        if y is None and i == j:
            square = symmetric(square, 0 * square.detach().diagonal())  # NaN for images with NaN
        return square.to(dtype)

    blocks: list[list[Tensor]] = []
    with no_autocast(x.device):
        for i in range(len(parts)):
            blocks.append([])
            blocks[i].extend(block(i, j) for j in range(len(others)))
        return torch.cat([torch.cat(row, 1) for row in blocks])


def symmetric(square: Float[Tensor, "n n"], diagonal: Float[Tensor, " n"]) -> Float[Tensor, "n n"]:
    """Values of x against itself made exactly symmetric, with the diagonal that they must have, without gradient."""
    return torch.diagonal_scatter((square + square.T).div_(2), diagonal)


def _mean_over_positions(x: Tensor, y: Tensor, patch: PatchDistance, down: int) -> Tensor:
    """Mean d^2 of one block of pairs, some rows of window positions at a time."""
    size, stride = patch.window.size, patch.window.stride
    channels, width = x.shape[1], x.shape[3]
    positions = channels * patch.window.positions(width)
    rows = max(1, BLOCK // (len(x) * len(y) * positions))
    total = x.new_zeros(())
    for first in range(0, down, rows):
        begin, end = first * stride, (min(first + rows, down) - 1) * stride + size
        total = total + _recomputed(_sum_over_positions, x[:, :, begin:end], y[:, :, begin:end], patch)
    return total / (positions * down)


def _recomputed(function: Callable[..., Tensor], *arguments: object) -> Tensor:
    """function(*arguments), with a backward pass that keeps the arguments alone where PyTorch can do that."""
    if not torch.is_grad_enabled() or torch._C._are_functorch_transforms_active():
        return function(*arguments)
    result: Tensor = checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
    return result


def _sum_over_positions(
    x: Float[Tensor, "n C H W"], y: Float[Tensor, "m C H W"], patch: PatchDistance
) -> Float[Tensor, "n m"]:
    """Sum of d^2 over channels and positions."""
    mu_x, x = _patches(x - patch.lo, patch.window)
    mu_y, y = _patches(y - patch.lo, patch.window)
    v = (x * x).sum(-1)[:, :, None] / 2 + (y * y).sum(-1)[:, None] / 2  # (P, n, m)
    numerator = v - x @ y.mT
    numerator = numerator - numerator.detach().clamp_max(0)  # rounding falls below zero; derivatives see no kink
    denominator = v + patch.c2
    if patch.form == "centred":
        return (numerator / denominator).sum(0)
    mu_x, mu_y = mu_x[:, :, None], mu_y[:, None]
    m, e = (mu_x - mu_y) ** 2, mu_x**2 + mu_y**2
    if patch.form == "uncentred":
        beta = patch.window.beta
        return ((numerator + beta * m) / (denominator + beta * e)).sum(0)
    a, b = m / (e + patch.c1), numerator / denominator
    return joined(patch.form, a, b).sum(0)


def _patches(x: Float[Tensor, "n C H W"], window: Window) -> tuple[Float[Tensor, "P n"], Float[Tensor, "P n q"]]:
    """Mean of each patch, and its pixels about the mean times sqrt(2 beta w); P counts channels and positions."""
    taps = torch.tensor(window.taps, dtype=x.dtype, device=x.device)
    weights = torch.outer(taps, taps).flatten()
    patches = x.unfold(2, window.size, window.stride).unfold(3, window.size, window.stride)  # (n, C, h, w, k, k)
    patches = patches.flatten(-2).flatten(1, 3).transpose(0, 1)  # (P, n, q)
    centre = patches[..., len(weights) // 2, None]  # about which flat patches are exactly 0, however bright
    about = patches - centre
    mean = about @ weights
    return centre[..., 0] + mean, (about - mean[..., None]) * (2 * window.beta * weights).sqrt()
