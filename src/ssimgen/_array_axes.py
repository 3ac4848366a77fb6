"""Which axis of an array means what: batch, channels, places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssimgen import _arguments as arguments
from ssimgen._request import spatial_axes
from ssimgen.windows import Window


def meanings(array: NDArray[Any], channel_axis: int | None, batch_axis: int | None, window: Window) -> tuple[int, ...]:
    """Which of (B, C, *spatial) each axis of the array is."""
    places: dict[int, int] = {}
    for meaning, name, axis in ((0, "batch_axis", batch_axis), (1, "channel_axis", channel_axis)):
        if axis is None:
            continue
        if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)) or not -array.ndim <= axis < array.ndim:
            raise ValueError(f"{name} must be an axis of images of shape {array.shape}, got {axis!r}")
        place = int(axis) % array.ndim
        if place in places:
            raise ValueError(f"batch_axis and channel_axis are both axis {axis} of images of shape {array.shape}")
        places[place] = meaning
    spatial, allowed = array.ndim - len(places), spatial_axes(window)
    if spatial not in allowed or (spatial == 3 and _is_no_volume(array, places, window)):
        remedy = _remedy(array.shape, spatial, allowed)
        raise ValueError(
            f"images must have {_words(arguments.AXES[allowed[0]])} beside what channel_axis and batch_axis name, got "
            f"shape {array.shape}: {remedy}"
        )
    others = iter(range(2, 2 + spatial))
    return tuple(places[axis] if axis in places else next(others) for axis in range(array.ndim))


def _remedy(shape: tuple[int, ...], spatial: int, allowed: tuple[int, ...]) -> str:
    """What to do with images of `spatial` axes beside those of channels and of the batch."""
    if spatial > allowed[0]:
        remedy = "pass channel_axis=-1 if colours come last, batch_axis=0 for a batch"
        if 3 in allowed and spatial == len(shape) == 3:
            fitting = tuple(min(11, side) for side in shape)
            remedy += f", window=Window.gaussian({fitting}) for a volume"
        return remedy
    if spatial == len(shape) == 1:
        return "signals need a window of one axis, such as window=Window.gaussian((11,))"
    return "leave one out"


def _is_no_volume(array: NDArray[Any], places: Mapping[int, int], window: Window) -> bool:
    """Whether what would be a volume has no room for a window: colours or a batch whose axis was not said."""
    sides = [side for axis, side in enumerate(array.shape) if axis not in places]
    return window.ndim is None and not all(axis.fits(side) for axis, side in zip(window.axes(3), sides, strict=True))


def _words(axes: tuple[str, ...]) -> str:
    named = [f"a {axis}" for axis in axes]
    return " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)


def channels_first(array: NDArray[Any], axes: tuple[int, ...]) -> NDArray[Any]:
    """A view (B, C, *spatial)."""
    ordered = array.transpose([axes.index(axis) for axis in sorted(axes)])
    missing = tuple(axis for axis in (0, 1) if axis not in axes)
    return np.expand_dims(ordered, missing)
