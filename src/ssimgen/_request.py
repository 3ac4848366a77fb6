"""What is asked of an engine: the options of structural similarity, checked, with their defaults."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen import engine
from ssimgen._remembered import remembered
from ssimgen.engine import Form, PatchDistance, positions
from ssimgen.windows import AxisWindow, Window

_End = float | Tensor | NDArray[Any]
DataRange = _End | tuple[_End, _End]
"""A number l, for values in [0, l], or (lo, hi); tensors and arrays of no axes, such as `x.max()`, are numbers.

Functions of pairs take tensors and arrays of shape (B,) too, alone or in (lo, hi): one value an image.
"""

FORMS: tuple[Form, ...] = ("product", "sum", "centred", "uncentred")
Norm = Literal["rms", "frobenius"]
NORMS: tuple[Norm, ...] = ("rms", "frobenius")
DEFAULT_WINDOW = Window.gaussian(11, 1.5)

_LEAST_ROOT, _GREATEST_ROOT = 1e-18, 1e18  # their squares leave float32 room on either side


def patch_distance(x: Tensor, data_range: DataRange, window: Window, k1: float, k2: float, form: Form) -> PatchDistance:
    """The checked request to an engine, for images of the size of x."""
    patch = checked_options(data_range, window, k1, k2, form)
    window_fits(window, x)
    return patch


@remembered
def checked_options(data_range: DataRange, window: Window, k1: float, k2: float, form: Form) -> PatchDistance:
    """The checked request to an engine, for images of any size."""
    arguments.choice("form", form, FORMS)
    window_type(window)
    lo, length = lo_and_length(data_range)
    c1, c2 = stability_constants(length, k1, k2)
    return PatchDistance(window, form, c1, c2, lo, length)


def patches(x: Tensor, window: Window) -> int:
    """How many patches, over channels and positions, an image of batch x has."""
    return x.shape[1] * math.prod(positions(x, window))


def spatial_axes(window: Window) -> tuple[int, ...]:
    """How many spatial axes images may have. A window that does not say so is not for signals: a single image without
    its batch axis looks like a batch of those."""
    window_type(window)
    return (2, 3) if window.ndim is None else (window.ndim,)


def ends_of_range(value: DataRange) -> tuple[_End, _End]:
    """(lo, hi), not checked yet."""
    return (value[0], value[1]) if isinstance(value, (tuple, list)) and len(value) == 2 else (0.0, value)


def differs_by_image(value: DataRange) -> bool:
    """Whether a range is given by tensors or arrays, one value an image."""
    return any(isinstance(end, (Tensor, np.ndarray)) and end.ndim > 0 for end in ends_of_range(value))


def of_first_image(value: DataRange) -> DataRange:
    """The range of the first image, where each has its own."""
    if not differs_by_image(value):
        return value
    lo, hi = (torch.as_tensor(end, dtype=torch.float64).flatten()[0].item() for end in ends_of_range(value))
    return lo, hi


def with_one_range(x: Tensor, y: Tensor, data_range: DataRange) -> tuple[Tensor, Tensor, DataRange]:
    """The request with one range for all pairs: where each has its own, (x - lo) / l and (y - lo) / l in float64.

    SSIM and the distances of images and of these are the same: c1 and c2 are in proportion to l^2.
    """
    if not differs_by_image(data_range):
        return x, y, data_range
    x, y = engine.widened(x), engine.widened(y)
    ends = ends_of_range(data_range)
    if any(getattr(end, "ndim", 0) == 0 and arguments.as_number(end) is None for end in ends):
        raise _no_range(data_range)
    lo, hi = (_of_each(end, x) for end in ends)
    length = hi - lo
    if engine.fused_can(length):  # nobody waits for it
        bad = ~((length > 0) & length.isfinite()).flatten()
        if bad.any():
            first = int(bad.nonzero()[0])
            raise ValueError(
                "data_range must be positive numbers l, or (lo, hi) with lo < hi, got "
                f"[{lo[first].item():g}, {hi[first].item():g}] for image {first}: pass the range of each image, "
                "such as its greatest possible value"
            )
    return (x - lo) / length, (y - lo) / length, 1.0


def _of_each(end: _End, x: Tensor) -> Tensor:
    """An end of the range of each image, (B, 1, 1, 1), as wide as x."""
    if isinstance(end, (int, float)) and not isinstance(end, bool):  # filled in where the images are, not copied there
        return x.new_full((len(x), *[1] * (x.ndim - 1)), end)
    values = torch.as_tensor(end)
    if values.dtype == torch.bool or values.is_complex():
        raise TypeError(f"data_range must be numbers, got values of {values.dtype}")
    values = torch.as_tensor(end, dtype=x.dtype, device=x.device).detach()
    if values.ndim and values.shape != x.shape[:1]:
        raise ValueError(
            f"data_range must be one value, or one value an image in shape ({len(x)},), got shape "
            f"{tuple(values.shape)}: "
            + ("pass data_range.flatten()" if values.numel() == len(x) else "one value serves for all images")
        )
    return values.expand(len(x)).view(-1, *[1] * (x.ndim - 1))


def lo_and_length(value: DataRange) -> tuple[float, float]:
    """(lo, l): the least value and the length of the range."""
    if differs_by_image(value):
        raise ValueError(
            "data_range must be one number or (lo, hi) here, got one value an image: a kernel, a metric or a loss is "
            "one function of two images, whatever others they come with. Divide each image by its own range and pass "
            "1.0, or call the functions of pairs, such as ssimgen.ssim and ssimgen.distance"
        )
    lo, hi = (arguments.as_number(end) for end in ends_of_range(value))
    if lo is None or hi is None or not hi > lo:
        raise _no_range(value)
    return lo, hi - lo


def _no_range(value: object) -> ValueError:
    return ValueError(
        "data_range must be a positive number l (values in [0, l]) or a pair (lo, hi) with lo < hi, "
        f"got {value!r}: pass 1.0 for images in [0, 1], 255 for bytes, (-1, 1) for tanh outputs"
    )


def stability_constants(length: float, k1: float, k2: float) -> tuple[float, float]:
    """c1 = (k1 l)^2 and c2 = (k2 l)^2 (Wang et al. 2004, Eqs. 7 and 11), which float32 must be able to hold."""
    constants = []
    for name, k in (("k1", k1), ("k2", k2)):
        number = arguments.as_number(k)
        if number is None or number <= 0:
            raise ValueError(f"{name} must be a positive number, got {k!r}: the usual values are k1=0.01, k2=0.03")
        root = number * length
        if not _LEAST_ROOT < root < _GREATEST_ROOT:
            raise ValueError(
                f"{name}={k!r} and a data_range of length {length!r} give ({name} * length)^2 beyond the range of "
                "float32: rescale the images and data_range, or take a less extreme constant"
            )
        constants.append(root * root)
    return constants[0], constants[1]


def window_type(window: Window) -> None:
    """Raise unless `window` is a Window."""
    if not isinstance(window, Window):
        raise TypeError(
            f"window must be a ssimgen.Window, got {window!r}: "
            "pass Window.gaussian(size, sigma) or Window.uniform(size)"
        )


def window_fits(window: Window, x: Tensor, otherwise: str = "pass") -> None:
    """Raise unless the images of x have a window; `otherwise` says where to give a smaller one."""
    window_type(window)
    spatial = x.shape[2:]
    axes, names = window.axes(len(spatial)), arguments.AXES[len(spatial)]
    short = [place for place, axis in enumerate(axes) if not axis.fits(spatial[place])]
    if not short:
        return
    size, sides = (" x ".join(map(str, lengths)) for lengths in ([axis.size for axis in axes], spatial))
    first = short[0]
    if window.padding != "valid":
        least = next(length for length in range(1, axes[first].size + 1) if axes[first].fits(length))
        raise ValueError(
            f"window of {size} px with padding={window.padding!r} does not fit images of {sides} px: to be mirrored, "
            f"the {names[first]} must be at least {least} px; {otherwise} a smaller window, or enlarge the images"
        )
    whose = f" along the {names[first]}" if len(spatial) != 2 or window.ndim else ""
    raise ValueError(
        f"window of {size} px does not fit images of {sides} px{whose}: {_smaller(window, x, axes, otherwise)}"
    )


def _smaller(window: Window, x: Tensor, axes: Sequence[AxisWindow], otherwise: str) -> str:
    """What to do with images for which the window is too large."""
    spatial = x.shape[2:]
    if len(spatial) == 2 and spatial[-1] in arguments.CHANNELS and min(x.shape[-3:-1]) > max(arguments.CHANNELS):
        return "are the channels last? Then pass x.permute(0, 3, 1, 2)"
    if len(spatial) == 3 and window.ndim is None and spatial[0] in arguments.CHANNELS:
        return "are these series of images? Then pass x.flatten(0, 1)"
    fitting = tuple(min(axis.size, length) for axis, length in zip(axes, spatial, strict=True))
    size = min(fitting) if window.ndim is None and len(spatial) == 2 else fitting
    kind = "uniform" if all(len(set(axis.taps)) == 1 for axis in axes) else "gaussian"
    return f"{otherwise} window=Window.{kind}({size}) or smaller, or enlarge the images"
