"""What several runs of one kind say: means over seeds with intervals, paired comparisons, values at matched rate.

Seeds are few, so intervals are Student's, not bootstrap: mean +- t s / sqrt(n), t the quantile of n - 1 degrees of
freedom (Student 1908). One value has no interval, and none is made up.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

LEAST_PAIRS = 5  # of a verdict
_MOST_FLIPPED, _MOST_PAIRS = 16, 1000
_POINTS = 2000  # of the sum that stands for an integral: errors of 1e-4

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

    The last three are None for a single pair; `pairs` are the differences.
    """

    value: float
    low: float | None
    high: float | None
    p_value: float | None
    n: int
    pairs: tuple[float, ...] = field(default=(), compare=False)


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
    return Difference(found.value, found.low, found.high, p_value, found.n, tuple(differences))


@dataclass(frozen=True)
class Effect:
    """A mean of paired differences in units of their standard deviation, `spread`, and the ends of its interval."""

    value: float
    low: float
    high: float
    spread: float


def effect(differences: Sequence[float], level: float = 0.95) -> Effect | None:
    """Cohen's d of paired differences, with the interval of all noncentralities that Student's t does not refuse.

    None for fewer than two, or where all are equal. (Cumming, Finch 2001.)
    """
    n = len(differences)
    error = _standard_error(differences, math.fsum(differences) / n) if n > 1 else 0.0
    if error == 0:
        return None
    t = math.fsum(differences) / n / error
    tail = (1 - level) / 2

    def noncentrality(p: float) -> float:
        """The shift with which t has this probability or less, by bisection; it falls as the shift grows."""
        low, high = t - 40 - abs(t), t + 40 + abs(t)
        while high - low > 1e-6 * (1 + abs(t)):
            middle = (low + high) / 2
            low, high = (middle, high) if _noncentral_t(t, n - 1, middle) > p else (low, middle)
        return low

    root = math.sqrt(n)
    return Effect(t / root, noncentrality(1 - tail) / root, noncentrality(tail) / root, error * root)


def sign_flip(differences: Sequence[float]) -> float | None:
    """The exact p-value of paired differences: the share of all choices of their signs with a sum as far from 0.

    It supposes only that differences of equal models are symmetric about 0 (Fisher 1935). With n pairs it is never
    below 2 / 2^n, which is above 0.05 for 5. None for more than 16.
    """
    if not 0 < len(differences) <= _MOST_FLIPPED:
        return None
    sums = [0.0]
    for d in differences:
        sums = [total + sign * d for total in sums for sign in (1, -1)]
    observed = abs(math.fsum(differences)) * (1 - 1e-9)  # the observed signs are among them
    return sum(abs(total) >= observed for total in sums) / len(sums)


def power(size: float, n: int, level: float = 0.05) -> float:
    """The probability that Student's paired test of n pairs finds an effect of this size (Cohen's d) at a level."""
    if n < 2:
        return 0.0
    critical, shift = _quantile(1 - level, n - 1), abs(size) * math.sqrt(n)
    return 1 - _noncentral_t(critical, n - 1, shift) + _noncentral_t(-critical, n - 1, shift)


def detectable(n: int, level: float = 0.05, wanted: float = 0.8) -> float | None:
    """The least size of an effect that n pairs find with the power wanted; None for fewer than two."""
    if n < 2:
        return None
    low, high = 0.0, 1.0
    while power(high, n, level) < wanted:
        low, high = high, 2 * high
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if power(middle, n, level) < wanted else (low, middle)
    return high


def pairs_needed(size: float, level: float = 0.05, wanted: float = 0.8) -> int | None:
    """How many pairs find an effect of this size with the power wanted, at least 5; None for more than 1,000."""
    low, high = LEAST_PAIRS, _MOST_PAIRS
    if power(size, high, level) < wanted:
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if power(size, middle, level) >= wanted else (middle + 1, high)
    return low


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


def _noncentral_t(t: float, freedom: int, shift: float) -> float:
    """P(T <= t) = E Phi(t s - shift), s^2 = chi^2 / freedom (Johnson, Welch 1940): what SciPy has fails far out."""
    from scipy.special import ndtr

    return float(ndtr(t * _scales(freedom) - shift).mean())


@cache
def _scales(freedom: int) -> Any:
    """Equally probable values of sqrt(chi^2 / freedom)."""
    import numpy as np
    from scipy.stats import chi2

    return np.sqrt(chi2.ppf((np.arange(_POINTS) + 0.5) / _POINTS, freedom) / freedom)


def _two_sided(statistic: float, freedom: int) -> float:
    from scipy.stats import t

    return float(2 * t.sf(abs(statistic), freedom))
