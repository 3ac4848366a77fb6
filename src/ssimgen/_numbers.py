"""What counts as a number in an argument: finite, and not a bool or a string; tensors and arrays of no axes count."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import TypeVar

T = TypeVar("T")

_PLAIN = (float, int, str, type(None))


def plain(value: T) -> T:
    """The number in a tensor or an array of no axes, such as `x.max()`, alone or in a pair; all else as it is.

    It is a constant from then on: no gradient flows through it, and reading it from another device waits for that.
    """
    if type(value) in _PLAIN:  # what nearly all are
        return value
    if isinstance(value, (tuple, list)):
        return tuple(map(plain, value))  # type: ignore[return-value]
    if isinstance(value, Real) or getattr(value, "ndim", None) != 0 or not hasattr(value, "item"):
        return value
    number: T = value.item()  # type: ignore[attr-defined]
    return number


def as_number(value: object) -> float | None:
    """`value` as a finite number of Python, None if it is none."""
    if type(value) is float:  # what nearly all are, and the abstract classes of numbers are slow to ask
        return value if -math.inf < value < math.inf else None
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        number = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        return None
    return number if -math.inf < number < math.inf else None  # not math.isfinite, which torch.compile does not trace


def is_positive(value: object) -> bool:
    """Whether `value` is a finite number above zero."""
    number = as_number(value)
    return number is not None and number > 0


def positive_numbers(values: object) -> tuple[float, ...] | None:
    """A tuple or list of one or more numbers above zero, as numbers of Python; None if it is none."""
    if not isinstance(values, (tuple, list)) or not values:
        return None
    numbers = tuple(number for number in map(as_number, values) if number is not None and number > 0)
    return numbers if len(numbers) == len(values) else None


def positive_integer(name: str, value: object, unit: str) -> int:
    """`value` as an int >= 1."""
    number = plain(value)
    if isinstance(number, bool) or not isinstance(number, Integral) or number < 1:
        raise ValueError(f"{name} must be a whole number of {unit}, at least 1, got {value!r}")
    return int(number)
