"""P-values of several tests at once."""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P-values of several tests at once (Holm 1979): the i-th smallest of m, times m - i + 1, made to rise."""
    order = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    greatest = 0.0
    for rank, (p, i) in enumerate(order):
        greatest = max(greatest, min(1.0, p * (len(order) - rank)))
        adjusted[i] = greatest
    return adjusted
