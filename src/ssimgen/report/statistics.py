"""What several runs of one kind say: means over seeds with intervals, paired comparisons, values at matched rate.

Seeds are few, so intervals are Student's, not bootstrap: mean +- t s / sqrt(n), t the quantile of n - 1 degrees of
freedom (Student 1908). One value has no interval, and none is made up.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

Curve = Sequence[tuple[float, float]]  # (rate, value) of some runs


@dataclass(frozen=True)
class Mean:
    """A mean of n values and the ends of its interval, None for a single value."""

    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences, the ends of its interval, and the p-value of Student's paired test.

    The last three are None for a single pair.
    """

    value: float
    low: float | None
    high: float | None
    p_value: float | None
    n: int


def mean(values: Sequence[float], level: float = 0.95) -> Mean:
    """The mean of one value a seed.

    Raises:
        ValueError: no values.
    """
    n = len(values)
    if not n:
        raise ValueError("a mean needs one value or more, got none")
    centre = math.fsum(values) / n
    if n == 1:
        return Mean(centre, None, None, 1)
    half = _quantile(level, n - 1) * _standard_error(values, centre)
    return Mean(centre, centre - half, centre + half, n)


def paired(
    values: Mapping[Hashable, float], baseline: Mapping[Hashable, float], level: float = 0.95
) -> Difference | None:
    """Values less those of the baseline, seed by seed; None if they have no seed in common.

    Equal seeds mean equal batches and equal initial weights where the networks agree: what they share cancels.
    """
    differences = [values[key] - baseline[key] for key in values if key in baseline]
    if not differences:
        return None
    found = mean(differences, level)
    p_value = None
    if found.n > 1:
        error = _standard_error(differences, found.value)
        p_value = float(found.value == 0) if error == 0 else _two_sided(found.value / error, found.n - 1)
    return Difference(found.value, found.low, found.high, p_value, found.n)


def at_rate(curve: Curve, rate: float) -> float | None:
    """The value of a curve at a rate, on the straight line between its neighbours; None beyond its ends.

    Points of equal rate count as their mean.
    """
    points = _merged(curve)
    for x, y in points:
        if x == rate:
            return y
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 < rate < x1:
            return y0 + (y1 - y0) * (rate - x0) / (x1 - x0)
    return None


def common_rates(curves: Sequence[Curve], fractions: Sequence[float] = (0.25, 0.5, 0.75)) -> list[float]:
    """Rates that every curve reaches: at `fractions` of the interval that all of them cover; empty if there is none."""
    if not curves or not all(curves):
        return []
    low = max(min(rate for rate, _ in curve) for curve in curves)
    high = min(max(rate for rate, _ in curve) for curve in curves)
    if not low < high:
        return [low] if low == high else []
    return [low + fraction * (high - low) for fraction in fractions]


def _merged(curve: Curve) -> list[tuple[float, float]]:
    by_rate: dict[float, list[float]] = {}
    for x, y in curve:
        by_rate.setdefault(x, []).append(y)
    return [(x, math.fsum(ys) / len(ys)) for x, ys in sorted(by_rate.items())]


def _standard_error(values: Sequence[float], centre: float) -> float:
    """Of the mean."""
    n = len(values)
    return math.sqrt(math.fsum((v - centre) ** 2 for v in values) / (n - 1) / n)


def _quantile(level: float, freedom: int) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + level) / 2, freedom))


def _two_sided(statistic: float, freedom: int) -> float:
    from scipy.stats import t

    return float(2 * t.sf(abs(statistic), freedom))
