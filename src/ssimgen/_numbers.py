"""What counts as a number in an argument: finite, and not a bool, a string or a tensor."""

from __future__ import annotations

import math
import operator
from numbers import Real


def is_number(value: object) -> bool:
    """Whether `value` is a finite real number, of Python or NumPy."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    return -math.inf < float(value) < math.inf  # not math.isfinite, which torch.compile does not trace


def is_positive(value: object) -> bool:
    """Whether `value` is a finite number above zero."""
    return is_number(value) and bool(value > 0)  # type: ignore[operator]


def positive_integer(name: str, value: object, unit: str) -> int:
    """`value` as an int >= 1."""
    try:
        number = 0 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = 0
    if number < 1:
        raise ValueError(f"{name} must be a whole number of {unit}, at least 1, got {value!r}")
    return number
