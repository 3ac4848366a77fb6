"""Checks of what callers pass: every message names the argument, what came, and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from ssimgen._numbers import as_number as as_number  # for callers: `arguments.as_number`
from ssimgen._numbers import is_positive as is_positive
from ssimgen._numbers import plain as plain
from ssimgen._numbers import positive_numbers as positive_numbers
from ssimgen.windows import Window

DataRange = float | Tensor | tuple[float | Tensor, float | Tensor]
"""A number l, for values in [0, l], or (lo, hi); tensors and arrays of no axes, such as `x.max()`, are numbers."""

_LEAST_ROOT, _GREATEST_ROOT = 1e-18, 1e18  # their squares leave float32 room on either side
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_CHANNELS = (1, 3, 4)  # lengths that remedies take for an axis of channels


def image_batch(name: str, x: Tensor) -> Tensor:
    """x as (B, C, H, W) in float32 or float64; half precision is raised to float32."""
    _check_tensor(name, x)
    if x.ndim != 4:
        raise ValueError(
            f"{name} must have shape (batch, channels, height, width), got {tuple(x.shape)}: {_batch_remedy(name, x)}"
        )
    if x.dtype not in _FLOATS:
        raise TypeError(
            f"{name} must be a floating-point tensor, got {x.dtype}: convert with {name}.float() "
            "and keep data_range in the same units (255 for bytes)"
        )
    if 0 in x.shape:
        raise ValueError(f"{name} is empty, shape {tuple(x.shape)}: pass at least one image of at least one pixel")
    return in_common(x)[0]


def image_batches(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Two image batches of one device, with images of one shape, in the wider dtype; the batch sizes may differ."""
    a, b = image_batch("x", x), image_batch("y", y)
    if x.device != y.device:
        raise ValueError(f"x and y must share a device, got {x.device} and {y.device}: move one with y.to(x.device)")
    if x.shape[1:] != y.shape[1:]:
        raise ValueError(
            f"images of x and y must have equal shapes, got {tuple(x.shape[1:])} and {tuple(y.shape[1:])} "
            "(channels, height, width): crop or resize one"
        )
    a, b = in_common(a, b)
    return a, b


def image_pairs(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Two image batches compared one to one."""
    a, b = image_batches(x, y)
    if len(x) != len(y):
        raise ValueError(
            f"x and y are compared pair by pair and must have equal batch sizes, got {len(x)} and {len(y)}: "
            "use ssimgen.pairwise for all pairs"
        )
    return a, b


def sample(name: str, x: Tensor) -> Tensor:
    """x as a sample of points along the first axis, in float32 or float64; half precision is raised to float32."""
    _check_tensor(name, x)
    if x.ndim < 2:
        remedy = f"pass {name}[:, None] for a sample of numbers" if x.ndim else "pass a sample (n, ...)"
        raise ValueError(f"{name} must have a sample axis and at least one more, got shape {tuple(x.shape)}: {remedy}")
    if x.dtype not in _FLOATS:
        raise TypeError(f"{name} must be a floating-point tensor, got {x.dtype}: convert with {name}.float()")
    if 0 in x.shape:
        raise ValueError(f"{name} is empty, shape {tuple(x.shape)}: pass at least one point")
    return in_common(x)[0]


def samples(x: Tensor, y: Tensor, names: tuple[str, str] = ("x", "y")) -> tuple[Tensor, Tensor]:
    """Two samples of points of one shape and device, in the wider dtype; their sizes may differ."""
    first, second = names
    a, b = sample(first, x), sample(second, y)
    both = f"{first} and {second}"
    if x.device != y.device:
        raise ValueError(
            f"{both} must share a device, got {x.device} and {y.device}: move one with {second}.to({first}.device)"
        )
    if x.shape[1:] != y.shape[1:]:
        raise ValueError(f"points of {both} must have equal shapes, got {tuple(x.shape[1:])} and {tuple(y.shape[1:])}")
    a, b = in_common(a, b)
    return a, b


def in_common(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Floating-point tensors in the widest of their dtypes, float32 at least."""
    dtype = torch.float64 if any(x.dtype == torch.float64 for x in tensors) else torch.float32
    return tuple(x.to(dtype) for x in tensors)


def _check_tensor(name: str, x: object) -> None:
    if isinstance(x, Tensor):
        return
    if isinstance(x, np.ndarray):
        remedy = f"convert with torch.from_numpy({name})"
    elif isinstance(x, (list, tuple)):
        remedy = f"convert with torch.tensor({name})"
    elif hasattr(x, "__array__") or hasattr(x, "__array_interface__"):  # as pictures of PIL have
        remedy = f"convert with torch.from_numpy(numpy.array({name}))"
    else:
        remedy = "pass the pixels or numbers themselves"
    raise TypeError(f"{name} must be a torch.Tensor, got {type(x).__name__}: {remedy}")


def _batch_remedy(name: str, x: Tensor) -> str:
    """What makes a batch of images of x, to judge by its shape."""
    if x.ndim > 4:
        return f"fold the leading axes into the batch, {name}.flatten(0, -4)"
    if x.ndim < 2:
        return f"give the pixels their places, as in {name}.reshape(1, 1, height, width)"
    if x.ndim == 2:
        return f"add the missing axes, {name}[None, None] for one grey image"
    if x.shape[0] in _CHANNELS:
        return f"add the missing axis, {name}[None] for one image"
    if x.shape[2] in _CHANNELS:
        return f"put the channels first, {name}.permute(2, 0, 1)[None] for one image"
    return f"add the missing axis, {name}[:, None] for grey images"


def feature_sets(x: Tensor, y: Tensor, names: tuple[str, str], least: int, purpose: str) -> tuple[Tensor, Tensor]:
    """Two samples of finite feature vectors (n, F), each of as many points as `purpose` needs."""
    x, y = samples(x, y, names)
    for name, features in zip(names, (x, y), strict=True):
        if features.ndim != 2:
            raise ValueError(
                f"{name} must be a matrix, one row of features a point, got shape {tuple(features.shape)}: "
                f"pass {name}.flatten(1), or the output of a feature network"
            )
        at_least(name, features, least, purpose)
        finite(name, features)
    return x, y


class NonFiniteResultError(ValueError):
    """A result that is NaN or infinite, which is never returned."""


def finite(name: str, x: Tensor) -> None:
    """Raise if x holds NaN or infinite values."""
    good = x.isfinite().flatten(1).all(1)
    if not good.all():
        first = int((~good).nonzero()[0])
        raise ValueError(f"{name} has values that are not finite, first in {name}[{first}]: drop or repair it")


def at_least(name: str, x: Tensor, least: int, purpose: str) -> None:
    """Raise if the sample x holds fewer points than `purpose` needs."""
    if len(x) < least:
        raise ValueError(f"{purpose} needs at least {least} points, but {name} has {len(x)}: pass a larger sample")


def data_range(value: DataRange) -> tuple[float, float]:
    """(lo, l): the least value and the length of the range."""
    pair = value if isinstance(value, (tuple, list)) and len(value) == 2 else (0.0, value)
    lo, hi = (as_number(end) for end in pair)
    if lo is None or hi is None or not hi > lo:
        raise ValueError(
            "data_range must be a positive number l (values in [0, l]) or a pair (lo, hi) with lo < hi, "
            f"got {value!r}: pass 1.0 for images in [0, 1], 255 for bytes, (-1, 1) for tanh outputs"
        )
    return lo, hi - lo


def keep_plain(record: object, *names: str) -> None:
    """Replace fields of a frozen record by the numbers that they hold."""
    for name in names:
        object.__setattr__(record, name, plain(getattr(record, name)))


def stability_constants(length: float, k1: float, k2: float) -> tuple[float, float]:
    """c1 = (k1 l)^2 and c2 = (k2 l)^2 (Wang et al. 2004, Eqs. 7 and 11), which float32 must be able to hold."""
    constants = []
    for name, k in (("k1", k1), ("k2", k2)):
        number = as_number(k)
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
    """Raise unless at least one window lies inside the images of x; `otherwise` says where to give a smaller one."""
    window_type(window)
    height, width = x.shape[-2:]
    side = min(height, width)
    if side < window.size:
        channels_last = width in _CHANNELS and min(x.shape[-3:-1]) > max(_CHANNELS)
        remedy = (
            "are the channels last? Then pass x.permute(0, 3, 1, 2)"
            if channels_last
            else f"{otherwise} window=Window.gaussian({side}) or smaller, or enlarge the images"
        )
        raise ValueError(
            f"window of {window.size} x {window.size} px does not fit images of {height} x {width} px: {remedy}"
        )


def choice(name: str, value: str, allowed: Iterable[str]) -> str:
    """`value`, which must be one of `allowed`."""
    names = list(allowed)
    if value not in names:
        close = difflib.get_close_matches(str(value), names, n=1)
        hint = f": did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"{name} must be one of {', '.join(map(repr, names))}, got {value!r}{hint}")
    return value
