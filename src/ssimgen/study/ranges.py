"""Ranges of options that a study file states, and options drawn from them."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any


def drawn(ranges: Mapping[str, Any], trials: int, place: str) -> list[dict[str, Any]]:
    """Options of some trials: of a list one of its items, of {from, to} a number, evenly on a logarithmic scale.

    They are a function of the arguments; `place` tells models and sets of images apart.

    Raises:
        ValueError: what is neither.
    """
    if not ranges:
        raise ValueError("no options to search: state some under search.options, of the variant or of the group")
    for name, range_ in ranges.items():
        _check_range(name, range_)
    source = random.Random(place)
    return [{name: _draw(range_, source) for name, range_ in ranges.items()} for _ in range(trials)]


def _check_range(name: str, range_: Any) -> None:
    if isinstance(range_, Mapping) and range_.keys() == {"from", "to"}:
        ends = [range_["from"], range_["to"]]
        if all(type(end) in (int, float) for end in ends) and 0 < ends[0] < ends[1] < math.inf:
            return
    elif isinstance(range_, list) and range_:
        return
    raise ValueError(
        f"search.options.{name} must be a list of values, or {{ from = a, to = b }} with numbers 0 < a < b, "
        f"got {range_!r}"
    )


def _draw(range_: Any, source: random.Random) -> Any:
    if isinstance(range_, list):
        return source.choice(range_)
    low, high = range_["from"], range_["to"]
    value = math.exp(source.uniform(math.log(low), math.log(high)))
    return round(value) if isinstance(low, int) and isinstance(high, int) else float(f"{value:.3g}")
