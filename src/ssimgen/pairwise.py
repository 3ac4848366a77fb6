"""Every image of one batch against every image of another: SSIM and structural distances, n x m.

A pair costs one windowed average of x_i y_j; all else are statistics of single images. Memory beyond the images,
the matrix and their gradients is bounded, for any n and m: the backward pass computes pairs anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, reduce

import torch
from jaxtyping import Float
from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen import engine
from ssimgen._extras import extra
from ssimgen._masks import check_some, common_weights_of
from ssimgen._memory import check_fits
from ssimgen._pyramid import EachScale, Scale, pyramid_of
from ssimgen._range_check import notice_range
from ssimgen._request import DEFAULT_WINDOW, NORMS, DataRange, Norm, patch_distance, patches, spatial_axes
from ssimgen.engine import Advance, Form, PatchDistance
from ssimgen.similarity import root
from ssimgen.windows import Window

__all__ = ["distance", "ssim"]

_LARGE = 2**28  # bytes of a matrix that may not fit in memory
_BLOCKWISE = (
    "compare blocks of x, as in pairwise.distance(x[:1000], y), or use ssimgen.streaming for MMD and energy distance, "
    "ssimgen.distributed for matrices on disk"
)


def ssim(
    x: Float[Tensor, "n C *spatial"],
    y: Float[Tensor, "m C *spatial"] | None = None,
    *,
    data_range: DataRange,
    window: Window = DEFAULT_WINDOW,
    k1: float = 0.01,
    k2: float = 0.03,
    mask: Tensor | None = None,
    progress: bool = False,
) -> Float[Tensor, "n m"]:
    """SSIM of all pairs: entry (i, j) is :func:`ssimgen.ssim` of x_i and y_j.

    Args:
        x, y: images of equal shape and device, floating point; of two dtypes, in the wider one. y=None compares x
            with itself, in half the time: the matrix is exactly symmetric and its diagonal exactly 1, with gradient
            0; NaN for an image that holds NaN.
        data_range, window, k1, k2: as :func:`ssimgen.ssim`.
        mask: which pixels of all images are seen, as :func:`ssimgen.ssim`; without a batch axis, or of length 1.
        progress: draw a progress bar of the forward pass on the terminal; needs `rich`.

    Returns:
        The matrix, with values in [-1, 1], never above; gradients of any order reach x and y.

    Raises:
        TypeError, ValueError: as :func:`ssimgen.ssim`; and where the matrix does not fit in memory, before any work.

    Example:
        >>> import torch
        >>> from ssimgen import pairwise
        >>> x, y = torch.rand(4, 1, 16, 16), torch.rand(3, 1, 16, 16)
        >>> pairwise.ssim(x, y, data_range=1.0).shape
        torch.Size([4, 3])
        >>> pairwise.ssim(x, data_range=1.0).diagonal()
        tensor([1., 1., 1., 1.])
    """
    x, y = _batches(x, y, window)
    patch = patch_distance(x, data_range, window, k1, k2, "product")
    seen = _seen(mask, data_range, x, y)
    _patches_seen(x, seen, patch)
    check_room(x, x if y is None else y)
    with _advance(progress) as advance:
        square = engine.squared_all_pairs(x, y, patch, advance, seen)
    return square.neg_().add_(1)


def distance(
    x: Float[Tensor, "n C *spatial"],
    y: Float[Tensor, "m C *spatial"] | None = None,
    *,
    data_range: DataRange,
    form: Form = "sum",
    norm: Norm = "rms",
    squared: bool = False,
    window: Window = DEFAULT_WINDOW,
    k1: EachScale = 0.01,
    k2: EachScale = 0.03,
    mask: Tensor | None = None,
    scales: int | None = 1,
    pixels: float = 0.0,
    chroma: float | None = None,
    progress: bool = False,
) -> Float[Tensor, "n m"]:
    """Structural distance of all pairs: entry (i, j) is :func:`ssimgen.distance` of x_i and y_j, or its square.

    In float32, D^2 is within 1e-6 of its value for all finite images. Those for which float32 is not enough are
    computed in float64, in several times the time: pictures of wide flat areas in several tones, images far outside of
    their range, and pairs that are nearly equal, one by one if they are few; the gradient of an image that is nearly
    equal to another is computed anew for all its pairs. With several scales or chroma, that is D^2 of halves and
    colours rounded to float32; a term of pixels has a relative error of some 1e-6.

    Args:
        x, y: images of equal shape and device, floating point; of two dtypes, in the wider one. y=None compares x
            with itself, in half the time: the matrix is exactly symmetric and its diagonal exactly 0, with gradient
            0; NaN for an image that holds NaN.
        data_range, form, norm, squared, window, k1, k2, scales, pixels, chroma: as :func:`ssimgen.distance`.
        mask: which pixels of all images are seen, as :func:`ssimgen.ssim`; without a batch axis, or of length 1.
        progress: draw a progress bar of the forward pass on the terminal; needs `rich`.

    Returns:
        The matrix of distances, >= 0. Where D is 0 its gradient is 0, a subgradient.

    Raises:
        TypeError, ValueError: as :func:`ssimgen.distance`; and where the matrix does not fit in memory, before any
            work.

    Example:
        >>> import torch
        >>> from ssimgen import pairwise
        >>> x = torch.rand(3, 1, 16, 16)
        >>> d = pairwise.distance(x, data_range=1.0)
        >>> d[0, 1] <= d[0, 2] + d[2, 1]
        tensor(True)
    """
    arguments.choice("norm", norm, NORMS)
    pyramid = pyramid_of(scales, k1, k2, pixels, chroma)
    x, y = _batches(x, y, window)
    patch = patch_distance(x, data_range, window, *pyramid.constants(0), form)
    seen = _seen(mask, data_range, x, y)
    images = [x] if y is None else [x, y]
    levels = list(pyramid.levels(images, seen, patch))
    share = 1 / len(levels) if norm == "rms" else None
    parts: list[Callable[[Advance | None], Tensor]] = [partial(_of_scale, level, share) for level in levels]
    if pyramid.pixels:
        parts.append(partial(_of_pixels, images, seen, pyramid.pixels / patch.length, share))
    check_room(x, x if y is None else y, min(2, len(parts)))
    with _advance(progress, len(parts)) as advance:
        square = reduce(Tensor.add_, (part(advance) for part in parts))
    if squared:
        return square
    if square.requires_grad or not engine.fused_can(square):
        return root(square)
    return square.sqrt_()  # the same without a second matrix


def _of_scale(level: Scale, share: float | None, advance: Advance | None) -> Float[Tensor, "n m"]:
    """What one scale adds to D^2: its share of the mean, or the sum over patches."""
    (x, *others), seen, patch = level
    count = _patches_seen(x, seen, patch)
    square = engine.squared_all_pairs(x, others[0] if others else None, patch, advance, seen)
    factor = count if share is None else share
    return square if share == 1 else square.mul_(factor)


def _of_pixels(
    images: list[Tensor], seen: Tensor | None, weight: float, share: float | None, advance: Advance | None
) -> Float[Tensor, "n m"]:
    """What the pixels add: the weight times the mean of |x - y| where it is seen, or its sum."""
    if seen is not None:
        images = [torch.where(seen > 0, z, 0.0) * seen for z in images]
    x, *others = (z.flatten(1) for z in images)
    count = x.shape[1] if seen is None else seen.sum()
    sums = engine.absolute_all_pairs(x, others[0] if others else None, advance)
    return sums.mul_(weight if share is None else weight / count)


def _batches(x: Tensor, y: Tensor | None, window: Window) -> tuple[Tensor, Tensor | None]:
    spatial = spatial_axes(window)
    if y is None:
        arguments.check_batch("x", x, spatial)
        return arguments.for_engine(x)[0], None
    arguments.check_batches(x, y, spatial)
    x, y = arguments.for_engine(x, y)
    return x, y


def _seen(mask: Tensor | None, data_range: DataRange, x: Tensor, y: Tensor | None) -> Tensor | None:
    """The weights of the mask, None where all is seen."""
    seen = common_weights_of(mask, x)
    notice_range(data_range, x, y, seen)
    return seen


def _patches_seen(x: Tensor, seen: Tensor | None, patch: PatchDistance) -> float | Tensor:
    """The sum of the weights with which patches count, of which some must see a pixel."""
    if seen is None:
        return patches(x, patch.window)
    weights = engine.masked_sums(x[:1], x[:1], seen, patch).weights
    check_some(weights, patch.window)
    return weights.sum()


def check_room(x: Tensor, y: Tensor, matrices: int = 1, remedy: str = _BLOCKWISE) -> None:
    """Refuse matrices of all pairs that do not fit into the memory of the machine."""
    needed = matrices * len(x) * len(y) * x.element_size()
    if needed < _LARGE or x.device.type != "cpu":
        return
    what = f"the matrix of all pairs of {len(x)} and {len(y)} images"
    check_fits(needed, what if matrices == 1 else f"{what}, with what it is computed from,", remedy)


@contextmanager
def _advance(progress: bool, parts: int = 1) -> Iterator[Advance | None]:
    """What the `parts` of the work tell their progress to, if it is to be shown."""
    if not progress:
        yield None
        return
    with extra("progress", "progress=True"):
        from rich.console import Console
        from rich.progress import Progress
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("all pairs", total=1.0)
        yield lambda share: bar.advance(task, share / parts)
        bar.update(task, completed=1.0)
