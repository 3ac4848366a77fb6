"""Checks of what callers pass: every message names the argument, what came, and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import torch
from torch import Tensor

from ssimgen._numbers import is_number
from ssimgen._numbers import is_positive as is_positive  # for callers: `arguments.is_positive`
from ssimgen.windows import Window

DataRange = float | tuple[float, float]

_LEAST_ROOT, _GREATEST_ROOT = 1e-18, 1e18  # their squares leave float32 room on either side
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def image_batch(name: str, x: Tensor) -> Tensor:
    """x as (B, C, H, W) in float32 or float64; half precision is raised to float32."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(x).__name__}: convert with torch.as_tensor")
    if x.ndim != 4:
        remedy = (
            f"add the missing axes, as in {name}[None, None] for one grey image"
            if x.ndim < 4
            else f"fold the leading axes into the batch, {name}.flatten(0, -4)"
        )
        raise ValueError(f"{name} must have shape (batch, channels, height, width), got {tuple(x.shape)}: {remedy}")
    if x.dtype not in _FLOATS:
        raise TypeError(
            f"{name} must be a floating-point tensor, got {x.dtype}: convert with {name}.float() "
            "and keep data_range in the same units (255 for bytes)"
        )
    if 0 in x.shape:
        raise ValueError(f"{name} is empty, shape {tuple(x.shape)}: pass at least one image of at least one pixel")
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def image_batches(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Two image batches of one dtype and device, with images of one shape; the batch sizes may differ."""
    a, b = image_batch("x", x), image_batch("y", y)
    if x.dtype != y.dtype:
        raise TypeError(f"x and y must share a dtype, got {x.dtype} and {y.dtype}: convert one with .to(x.dtype)")
    if x.device != y.device:
        raise ValueError(f"x and y must share a device, got {x.device} and {y.device}: move one with .to(x.device)")
    if x.shape[1:] != y.shape[1:]:
        raise ValueError(
            f"images of x and y must have equal shapes, got {tuple(x.shape[1:])} and {tuple(y.shape[1:])} "
            "(channels, height, width): crop or resize one"
        )
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
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(x).__name__}: convert with torch.as_tensor")
    if x.ndim < 2:
        raise ValueError(f"{name} must have a sample axis and at least one more, got shape {tuple(x.shape)}")
    if x.dtype not in _FLOATS:
        raise TypeError(f"{name} must be a floating-point tensor, got {x.dtype}: convert with {name}.float()")
    if 0 in x.shape:
        raise ValueError(f"{name} is empty, shape {tuple(x.shape)}: pass at least one point")
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def samples(x: Tensor, y: Tensor, names: tuple[str, str] = ("x", "y")) -> tuple[Tensor, Tensor]:
    """Two samples of points of one shape, dtype and device; their sizes may differ."""
    first, second = names
    a, b = sample(first, x), sample(second, y)
    both = f"{first} and {second}"
    if x.dtype != y.dtype:
        raise TypeError(f"{both} must share a dtype, got {x.dtype} and {y.dtype}: convert one with .to({first}.dtype)")
    if x.device != y.device:
        raise ValueError(
            f"{both} must share a device, got {x.device} and {y.device}: move one with .to({first}.device)"
        )
    if x.shape[1:] != y.shape[1:]:
        raise ValueError(f"points of {both} must have equal shapes, got {tuple(x.shape[1:])} and {tuple(y.shape[1:])}")
    return a, b


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
    lo, hi = value if isinstance(value, (tuple, list)) and len(value) == 2 else (0.0, value)
    if not (is_number(lo) and is_number(hi) and hi > lo):
        raise ValueError(
            "data_range must be a positive number l (values in [0, l]) or a pair (lo, hi) with lo < hi, "
            f"got {value!r}: pass 1.0 for images in [0, 1], 255 for bytes, (-1, 1) for tanh outputs"
        )
    return float(lo), float(hi) - float(lo)


def stability_constants(length: float, k1: float, k2: float) -> tuple[float, float]:
    """c1 = (k1 l)^2 and c2 = (k2 l)^2 (Wang et al. 2004, Eqs. 7 and 11), which float32 must be able to hold."""
    constants = []
    for name, k in (("k1", k1), ("k2", k2)):
        if not is_positive(k):
            raise ValueError(f"{name} must be a positive number, got {k!r}: the usual values are k1=0.01, k2=0.03")
        root = float(k) * length
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


def window_fits(window: Window, x: Tensor) -> None:
    """Raise unless at least one window lies inside the images of x."""
    window_type(window)
    height, width = x.shape[-2:]
    side = min(height, width)
    if side < window.size:
        channels_last = width <= 4 < min(x.shape[-3:-1])
        remedy = (
            "are the channels last? Then pass x.permute(0, 3, 1, 2)"
            if channels_last
            else f"pass window=Window.gaussian({side}) or smaller, or enlarge the images"
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
