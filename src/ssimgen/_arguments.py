"""Checks of what callers pass: every message names the argument, what came, and the remedy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
from torch import Tensor

from ssimgen._numbers import as_number as as_number  # for callers: `arguments.as_number`
from ssimgen._numbers import is_positive as is_positive
from ssimgen._numbers import plain as plain
from ssimgen._numbers import positive_numbers as positive_numbers
from ssimgen._options import suggestion
from ssimgen._precision import FLOATS
from ssimgen._precision import cast as cast
from ssimgen._precision import in_common as in_common

CHANNELS = (1, 3, 4)  # lengths that remedies take for an axis of channels


Word = TypeVar("Word", bound=str)

AXES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}  # by how many there are


def image_batch(name: str, x: Tensor, spatial: Sequence[int] = (2,)) -> Tensor:
    """x as (B, C, *spatial), of so many spatial axes, in float32 or float64; half precision is raised to float32."""
    check_batch(name, x, spatial)
    return in_common(x)[0]


def check_batch(name: str, x: Tensor, spatial: Sequence[int]) -> None:
    """Raise unless x is images (B, C, *spatial), of so many spatial axes, in floating point."""
    _check_tensor(name, x)
    if x.ndim - 2 not in spatial:
        axes = ", ".join(AXES[spatial[0]])
        raise ValueError(
            f"{name} must have shape (batch, channels, {axes}), got {tuple(x.shape)}: {_batch_remedy(name, x, spatial)}"
        )
    if x.dtype not in FLOATS:
        raise TypeError(
            f"{name} must be a floating-point tensor, got {x.dtype}: convert with {name}.float() "
            "and keep data_range in the same units (255 for bytes), or pass arrays of bytes to ssimgen.arrays"
        )
    if 0 in x.shape:
        raise ValueError(f"{name} is empty, shape {tuple(x.shape)}: pass at least one image of at least one pixel")


def image_batches(x: Tensor, y: Tensor, spatial: Sequence[int] = (2,)) -> tuple[Tensor, Tensor]:
    """Two image batches of one device, with images of one shape, in the wider dtype; the batch sizes may differ."""
    check_batches(x, y, spatial)
    a, b = in_common(x, y)
    return a, b


def check_batches(x: Tensor, y: Tensor, spatial: Sequence[int]) -> None:
    """Raise unless x and y are such, of one device, with images of one shape; the batch sizes may differ."""
    for name, images in (("x", x), ("y", y)):
        check_batch(name, images, spatial)
    if x.device != y.device:
        raise ValueError(f"x and y must share a device, got {x.device} and {y.device}: move one with y.to(x.device)")
    if x.ndim != y.ndim:
        name, least = ("x", y.ndim) if x.ndim > y.ndim else ("y", x.ndim)
        raise ValueError(
            f"x and y must have the same axes, got shapes {tuple(x.shape)} and {tuple(y.shape)}: for a batch of "
            f"series, fold the leading axes, {name}.flatten(0, {-least})"
        )
    if x.shape[1:] != y.shape[1:]:
        raise ValueError(
            f"images of x and y must have equal shapes, got {tuple(x.shape[1:])} and {tuple(y.shape[1:])} "
            f"(channels, {', '.join(AXES[x.ndim - 2])}): crop or resize one"
        )


def image_pairs(x: Tensor, y: Tensor, spatial: Sequence[int] = (2,)) -> tuple[Tensor, Tensor]:
    """Two image batches compared one to one."""
    check_pairs(x, y, spatial)
    a, b = in_common(x, y)
    return a, b


def check_pairs(x: Tensor, y: Tensor, spatial: Sequence[int]) -> None:
    """Raise unless x and y are such, of equal batch sizes."""
    check_batches(x, y, spatial)
    if len(x) != len(y):
        raise ValueError(
            f"x and y are compared pair by pair and must have equal batch sizes, got {len(x)} and {len(y)}: "
            "use ssimgen.pairwise for all pairs"
        )


def sample(name: str, x: Tensor) -> Tensor:
    """x as a sample of points along the first axis, in float32 or float64; half precision is raised to float32."""
    _check_tensor(name, x)
    if x.ndim < 2:
        remedy = f"pass {name}[:, None] for a sample of numbers" if x.ndim else "pass a sample (n, ...)"
        raise ValueError(f"{name} must have a sample axis and at least one more, got shape {tuple(x.shape)}: {remedy}")
    if x.dtype not in FLOATS:
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


def for_engine(*images: Tensor) -> tuple[Tensor, ...]:
    """Images in their common dtype, as engines take them: on devices in half precision too, which they read as it is,
    while a copy in float32 would be one more to write and read."""
    if len({x.dtype for x in images}) == 1 and images[0].device.type != "cpu":
        return images
    return in_common(*images)


def of_one_dtype(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """x and y, points of any kind, in the wider dtype if both are floating-point of two."""
    if x.dtype == y.dtype or not (x.is_floating_point() and y.is_floating_point()):
        return x, y
    x, y = in_common(x, y)
    return x, y


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


def _batch_remedy(name: str, x: Tensor, spatial: Sequence[int]) -> str:
    """What makes a batch of images of x, to judge by its shape."""
    if 2 not in spatial:
        return f"the window has {spatial[0]} spatial axes; one with a single size serves images of two or three"
    if x.ndim > 4:
        return f"fold the leading axes into the batch, {name}.flatten(0, -4)"
    if x.ndim < 2:
        return f"give the pixels their places, as in {name}.reshape(1, 1, height, width)"
    if x.ndim == 2:
        return f"add the missing axes, {name}[None, None] for one grey image"
    if x.shape[0] in CHANNELS:
        remedy = f"add the missing axis, {name}[None] for one image"
    elif x.shape[2] in CHANNELS:
        remedy = f"put the channels first, {name}.permute(2, 0, 1)[None] for one image"
    else:
        remedy = f"add the missing axis, {name}[:, None] for grey images"
    if 3 in spatial and x.shape[1] in CHANNELS:
        remedy += "; signals need a window of one axis, such as window=Window.gaussian((11,))"
    return remedy


def finite_samples(x: Tensor, y: Tensor, names: tuple[str, str] = ("x", "y")) -> tuple[Tensor, Tensor]:
    """Two samples as :func:`samples` returns them, whose values must be finite."""
    a, b = samples(x, y, names)
    for name, points in zip(names, (a, b), strict=True):
        finite(name, points)
    return a, b


def feature_sets(x: Tensor, y: Tensor, names: tuple[str, str], least: int, purpose: str) -> tuple[Tensor, Tensor]:
    """Two samples of finite feature vectors (n, F), each of as many points as `purpose` needs."""
    x, y = finite_samples(x, y, names)
    for name, features in zip(names, (x, y), strict=True):
        if features.ndim != 2:
            raise ValueError(
                f"{name} must be a matrix, one row of features a point, got shape {tuple(features.shape)}: "
                f"pass {name}.flatten(1), or the output of a feature network"
            )
        at_least(name, features, least, purpose)
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


def keep_plain(record: object, *names: str) -> None:
    """Replace fields of a frozen record by the numbers that they hold."""
    for name in names:
        object.__setattr__(record, name, plain(getattr(record, name)))


def choice(name: str, value: Word, allowed: Iterable[Word]) -> Word:
    """`value`, which must be one of `allowed`."""
    names = list(allowed)
    if value not in names:
        allowed_names = ", ".join(map(repr, names))
        raise ValueError(f"{name} must be one of {allowed_names}, got {value!r}{suggestion(str(value), names)}")
    return value
