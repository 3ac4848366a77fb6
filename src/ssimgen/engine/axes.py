"""What an engine need not know: borders, and axes along which a window has one pixel.

Beyond the border an image is mirrored, by copying it. Along an axis where a window is one pixel long and stands at
each, nothing joins what lies side by side: such an axis of a volume is one of channels. A signal is an image with one
row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ssimgen.engine.spec import PatchDistance
from ssimgen.windows import AxisWindow, Window

_POINT = AxisWindow((1.0,))
_Restore = Callable[[Tensor], Tensor]


def prepared(patch: PatchDistance, *images: Tensor) -> tuple[list[Tensor], PatchDistance, _Restore]:
    """Images (B, C, *spatial) of two axes, or of three that the window joins, it inside of them; and what makes a map
    of theirs a map of the images."""
    axes = patch.window.axes(images[0].ndim - 2)
    if len(axes) == 2 and all(axis.padding == "valid" for axis in axes):
        return list(images), patch, _as_it_is
    made = [_mirrored(z, axes) for z in images]
    patch = _with(patch, axes)
    axes = patch.window.axes(len(axes))
    if len(axes) == 1:
        return [z[:, :, None] for z in made], _with(patch, (_POINT, *axes)), lambda squares: squares.squeeze(2)
    single = [axis for axis, window in enumerate(axes) if window == _POINT]
    if len(axes) == 2 or not single:
        return made, patch, _as_it_is
    dim, channels = single[0] + 2, images[0].shape[1]
    joined = tuple(window for axis, window in enumerate(axes) if axis != single[0])

    def restored(squares: Tensor) -> Tensor:
        return squares.view(len(squares), channels, -1, *squares.shape[2:]).movedim(2, dim)

    return [z.movedim(dim, 2).flatten(1, 2) for z in made], _with(patch, joined), restored


def _as_it_is(squares: Tensor) -> Tensor:
    return squares


def _with(patch: PatchDistance, axes: tuple[AxisWindow, ...]) -> PatchDistance:
    """The request with a window of these axes, inside of images; what an axis of one pixel adds to beta is nothing."""
    taps, strides = tuple(axis.taps for axis in axes), tuple(axis.stride for axis in axes)
    return replace(patch, window=Window(taps, strides, patch.window.beta, unbiased=patch.window.unbiased))


def _mirrored(z: Tensor, axes: tuple[AxisWindow, ...]) -> Tensor:
    """The image with what padding adds along each axis."""
    for dim, axis in enumerate(axes, 2):
        before, after = axis.margins(z.shape[dim])
        if before or after:
            single = int(axis.padding == "reflect")  # whether the border is not the first of its mirror image
            first = z.narrow(dim, single, before).flip(dim)
            last = z.narrow(dim, z.shape[dim] - single - after, after).flip(dim)
            z = torch.cat([first, z, last], dim)
    return z
