"""The arithmetic of SSIM, and the one place that decides which engine runs it.

An engine computes one primitive, the squared distance d^2 of every patch, in three reductions: kept as a
map, averaged over the positions of a channel, or averaged over channels and positions for all pairs of two
batches. Everything public (SSIM, distances, kernels, losses) is made of these.

`eager` is plain PyTorch: any device, any derivative order. `fused` is compiled for CPUs with numba.
"""

from __future__ import annotations

from torch import Tensor

from ssimgen.engine import eager, eager_all_pairs
from ssimgen.engine.eager import widened
from ssimgen.engine.spec import Advance, Form, PatchDistance
from ssimgen.engine.visibility import is_plain, seen_by_others
from ssimgen.windows import Window

__all__ = ["Advance", "Form", "PatchDistance", "squared_all_pairs", "squared_map", "squared_mean", "widened"]


def squared_map(x: Tensor, y: Tensor, patch: PatchDistance) -> Tensor:
    """d^2 of every patch, (B, C, H, W) x 2 -> (B, C, h, w)."""
    if not fused_can(x, y):
        return eager.squared_map(x, y, patch)
    from ssimgen.engine.fused import pairs

    return pairs.squared_map(x, y, patch)


def squared_mean(x: Tensor, y: Tensor, patch: PatchDistance) -> Tensor:
    """d^2 averaged over window positions, (B, C, H, W) x 2 -> (B, C)."""
    if not fused_can(x, y):
        return eager.squared_mean(x, y, patch)
    from ssimgen.engine.fused import pairs

    return pairs.squared_mean(x, y, patch)


def squared_all_pairs(x: Tensor, y: Tensor | None, patch: PatchDistance, advance: Advance | None = None) -> Tensor:
    """d^2 averaged over channels and positions for all pairs, (n, C, H, W), (m, C, H, W) -> (n, m).

    y = None compares x with itself: exactly symmetric, with an exactly zero diagonal.
    """
    both = (x,) if y is None else (x, y)
    if not fused_can(*both):
        return eager_all_pairs.squared_all_pairs(x, y, patch, advance)
    from ssimgen.engine.fused import all_pairs

    if _matrix_products_win(x.shape[2], x.shape[3], patch.window) and not eager.is_large(patch, *both):
        square = eager_all_pairs.squared_all_pairs(x, y, patch, advance)
        if not all_pairs.near_others(square.detach(), y is None).any():
            return square
    return all_pairs.squared_all_pairs(x, y, patch, advance)


def _matrix_products_win(height: int, width: int, window: Window) -> bool:
    """Whether the eager engine is the faster one for all pairs on a CPU: few large patches that do not overlap.

    Costs are nanoseconds a pair and channel on one core, fitted by `python benchmarks/pairwise.py --fit`.
    """
    size, down, across = window.size, window.positions(height), window.positions(width)
    multiplications = size * across * (height + down)  # of the separable filter
    fused = 0.05 * height * width + 0.03 * multiplications + 0.3 * down * across
    eager_ = (25 + 0.033 * size * size) * down * across
    return eager_ < fused


def fused_can(*images: Tensor) -> bool:
    """Whether compiled kernels may take these images: plain numbers in the memory of the CPU, seen by nobody else."""
    return not seen_by_others() and all(is_plain(image) for image in images)
