"""The arithmetic of SSIM, and the one place that decides which engine runs it.

An engine computes one primitive, the squared distance d^2 of every patch, in three reductions: kept as a
map, averaged over the positions of a channel, or averaged over channels and positions for all pairs of two
batches. Everything public (SSIM, distances, kernels, losses) is made of these. Images of pairs may be
float16 or bfloat16, one or both, if none is float64; results are float32 then.

`eager` is plain PyTorch: any device, any derivative order. `fused` is compiled for CPUs with numba, `triton` for GPUs.
Where one of them cannot be imported, a warning says so once, and `eager` does its work. None knows of borders or of
axes that a window does not join: `axes` prepares images first.

The environment variable SSIMGEN_ENGINE, read when the library is imported, chooses among them, to find errors: "eager"
is PyTorch for everything; "fused" takes `fused` where it can run; "triton", as without it, takes that too, on a GPU of
NVIDIA, and where it was asked for on one of AMD, which none has measured.
"""

from __future__ import annotations

import os
import warnings
from functools import cache
from importlib import import_module

import torch
from torch import Tensor

from ssimgen._precision import WIDE, widened
from ssimgen.engine import eager, eager_all_pairs
from ssimgen.engine.absolute import absolute_all_pairs
from ssimgen.engine.axes import prepared
from ssimgen.engine.masked import masked_map, masked_sums
from ssimgen.engine.spec import Advance, Form, Over, PatchDistance, positions
from ssimgen.engine.trouble import EngineWarning, level_of_caller
from ssimgen.engine.visibility import is_plain, may_be_launched, seen_by_others
from ssimgen.windows import Window

__all__ = [
    "Advance",
    "Form",
    "Over",
    "PatchDistance",
    "absolute_all_pairs",
    "masked_map",
    "masked_sums",
    "positions",
    "squared_all_pairs",
    "squared_map",
    "squared_mean",
    "widened",
]

_ENGINES = ("eager", "fused", "triton")
_chosen = os.environ.get("SSIMGEN_ENGINE", "triton")
if _chosen not in _ENGINES:
    raise ValueError(f"SSIMGEN_ENGINE must be one of {', '.join(_ENGINES)}, got {_chosen!r}")
_asked = "SSIMGEN_ENGINE" in os.environ
_interpreted = _asked and os.environ.get("TRITON_INTERPRET") == "1"


def squared_map(x: Tensor, y: Tensor, patch: PatchDistance) -> Tensor:
    """d^2 of every patch, (B, C, *spatial) x 2 -> (B, C, *positions)."""
    (x, y), patch, restored = prepared(patch, x, y)
    if not _fused_pairs_can(x, y):
        return restored(eager.squared_map(x, y, patch))
    from ssimgen.engine.fused import pairs

    return restored(pairs.squared_map(x, y, patch))


def squared_mean(x: Tensor, y: Tensor, patch: PatchDistance, over: Over = "positions") -> Tensor:
    """d^2 averaged over window positions, (B, C, *spatial) x 2 -> (B, C), or as `over` says."""
    channels = x.shape[1]
    (x, y), patch, _ = prepared(patch, x, y)
    mean = _squared_mean(x, y, patch, over)
    return mean if over != "positions" or mean.shape[1] == channels else mean.unflatten(1, (channels, -1)).mean(2)


def _squared_mean(x: Tensor, y: Tensor, patch: PatchDistance, over: Over) -> Tensor:
    if _triton_pairs_can(patch, x, y):
        from ssimgen.engine.triton import pairs as on_device

        return on_device.squared_mean(x, y, patch, over)
    if _fused_pairs_can(x, y):
        from ssimgen.engine.fused import pairs

        mean = pairs.squared_mean(x, y, patch)
    else:
        mean = eager.squared_mean(x, y, patch)
    return eager.averaged(mean, over)


def squared_all_pairs(
    x: Tensor, y: Tensor | None, patch: PatchDistance, advance: Advance | None = None, mask: Tensor | None = None
) -> Tensor:
    """d^2 averaged over channels and positions for all pairs, (n, C, *spatial), (m, C, *spatial) -> (n, m).

    y = None compares x with itself: exactly symmetric, with an exactly zero diagonal. A mask (1, C, *spatial) is that
    of all images.
    """
    if mask is not None:
        (x, mask, *others), patch, _ = prepared(patch, x, mask, *(() if y is None else (y,)))
        return eager_all_pairs.squared_all_pairs(x, others[0] if others else None, patch, advance, mask)
    (x, *others), patch, _ = prepared(patch, *((x,) if y is None else (x, y)))
    y = others[0] if others else None
    if _triton_all_pairs_can(patch, x, *others):
        from ssimgen.engine.triton import all_pairs as on_device

        return on_device.squared_all_pairs(x, y, patch, advance)
    if not _fused_all_pairs_can(patch, x, *others):
        return eager_all_pairs.squared_all_pairs(x, y, patch, advance)
    from ssimgen.engine.fused import all_pairs

    if _matrix_products_win(x.shape[2], x.shape[3], patch.window) and not eager.is_large(patch, x, *others):
        square = eager_all_pairs.squared_all_pairs(x, y, patch, advance)
        if not all_pairs.near_others(square.detach(), y is None).any():
            return square
    return all_pairs.squared_all_pairs(x, y, patch, advance)


def _matrix_products_win(height: int, width: int, window: Window) -> bool:
    """Whether the eager engine is the faster one for all pairs on a CPU: few large patches that do not overlap.

    Costs are nanoseconds a pair and channel on one core, fitted by `python benchmarks/pairwise.py --fit`.
    """
    axis, _ = window.axes(2)
    size, down, across = axis.size, axis.positions(height), axis.positions(width)
    multiplications = size * across * (height + down)  # of the separable filter
    fused = 0.05 * height * width + 0.03 * multiplications + 0.3 * down * across
    eager_ = (25 + 0.033 * size * size) * down * across
    return eager_ < fused


def _triton_pairs_can(patch: PatchDistance, x: Tensor, y: Tensor) -> bool:
    if not _for_triton(x, y):
        return False
    from ssimgen.engine.triton import pairs

    return pairs.can(x, patch)


def _triton_all_pairs_can(patch: PatchDistance, x: Tensor, *others: Tensor) -> bool:
    if not _for_triton(x, *others):
        return False
    from ssimgen.engine.triton import all_pairs

    return all_pairs.can(x, patch)


def _for_triton(*images: Tensor) -> bool:
    """Whether kernels for GPUs may take these images, in Triton's interpreter on a CPU if that was asked for."""
    there = _interpreted or (images[0].device.type == "cuda" and (_asked or torch.version.hip is None))
    return there and _chosen == "triton" and may_be_launched(*images)


def _fused_pairs_can(x: Tensor, y: Tensor) -> bool:
    return _chosen != "eager" and x.ndim in (4, 5) and fused_can(x, y) and _fused_is_there()


def _fused_all_pairs_can(patch: PatchDistance, x: Tensor, *others: Tensor) -> bool:
    """Kernels for all pairs are of planes in float32 or float64, and of windows that are the same along both axes."""
    takes = x.ndim == 4 and x.dtype in WIDE and len(set(patch.window.axes(2))) == 1
    return _chosen != "eager" and takes and fused_can(x, *others) and _fused_is_there()


@cache
def _fused_is_there() -> bool:
    """Whether compiled kernels can be imported; where they cannot, it is said."""
    try:
        import_module("ssimgen.engine.fused.pairs")
    except Exception as error:  # numba and llvmlite raise what they like where they do not fit what else is there
        warnings.warn(
            "the compiled kernels for CPUs cannot run, PyTorch's operations do their work with the same results, "
            f"several times slower: {error}; pip install --upgrade numba (SSIMGEN_ENGINE=eager: without this warning)",
            EngineWarning,
            stacklevel=level_of_caller(),
        )
        return False
    return True


def fused_can(*images: Tensor) -> bool:
    """Whether compiled kernels may take these images: plain numbers in the memory of the CPU, seen by nobody else."""
    return not seen_by_others() and all(is_plain(image) for image in images)
