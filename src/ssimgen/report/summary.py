"""What runs say together: means over seeds against a baseline, and models at matched rate."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

from ssimgen import scores
from ssimgen._holm import holm
from ssimgen.report import statistics
from ssimgen.report.results import Entry, Result


@dataclass(frozen=True, kw_only=True)
class Summary(Entry):
    """One metric of runs that differ only by their seed, and its difference from that of the baseline.

    At a matched `rate` the runs are those of a whole sweep, and have no point of it. `differences` are those of pairs,
    and `faults` why some of the runs, or of those of the baseline, compare with no other.
    """

    rate: float | None
    seeds: int
    value: float
    low: float | None
    high: float | None
    interval: str
    pairs: int
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    p_value: float | None
    p_adjusted: float | None = None
    verdict: str = ""
    differences: tuple[float, ...] = ()
    faults: tuple[str, ...] = ()


SUMMARY = (
    "study", "data", "group", "model", "variant", "point", "arm", "kind", "metric", "better", "trained_on", "seeds",
    "value", "low", "high", "interval", "reference", "baseline", "difference", "difference_low", "difference_high",
    "p_value", "p_adjusted", "verdict",
)  # fmt: skip
"""Columns of summary.csv."""
MATCHED = (
    "study", "data", "group", "model", "variant", "rate", "kind", "metric", "better", "trained_on", "seeds", "value",
    "low", "high", "reference", "baseline", "difference", "difference_low", "difference_high", "p_value", "p_adjusted",
    "verdict",
)  # fmt: skip
"""Columns of matched.csv."""


NO_JUDGE, NO_BETTER_THAN_ONE_PICTURE = "no judge", "no better than one picture"
COLLAPSED, EXPLORATORY, PRIMARY = "collapsed", "exploratory", "primary endpoint"
"""Verdicts that are none: by a metric that may not judge these images; of models that one picture could replace; of
models that collapsed or missed their rate; in a metric that the study did not name before it ran; and in the one that
it did, whose verdict is that over all primary endpoints."""


def summary(records: Sequence[Result]) -> list[Summary]:
    """Means over seeds, and differences from the baseline of the group seed by seed.

    The baseline at the same point of the sweep where it has that point, otherwise none: at different points models have
    different rates. P-values are adjusted (Holm) for all variants and points that are compared in a metric.
    """
    found = []
    for of_metric in _grouped(records, "study", "data", "group", "kind", "metric").values():
        arms = _grouped(of_metric, "variant", "point")
        seeds = {key: _by_seed(part) for key, part in arms.items()}
        block = []
        for (variant, point), part in arms.items():
            if not seeds[variant, point]:
                continue
            theirs = (part[0].baseline, point)
            row = _summarised(part[0], seeds[variant, point], part, seeds.get(theirs))
            row = replace(row, faults=_faults([*part, *arms.get(theirs, [])]))
            if len(part) == 1:  # an interval over the images of its evaluation
                row = replace(row, interval="images", low=part[0].low, high=part[0].high)
            block.append(row)
        found += _judged(block)
    return found


def matched(records: Sequence[Result], rates: Sequence[float] = ()) -> list[Summary]:
    """Variational models at equal KL: every metric interpolated between the points of a variant's sweep, seed by seed.

    Runs that collapsed are no points, and no line is drawn across them: a seed between whose neighbours at a rate there
    is one has no value there.

    Args:
        records: from :func:`records_of`.
        rates: nats at which to compare; empty: three, evenly spread over the rates that all variants and seeds of a
            group reach, without those that share none with the others. Beyond the ends of its curve a variant has no
            value.
    """
    found: list[Summary] = []
    for of_group in _grouped(records, "study", "data", "group").values():
        kl: dict[Hashable, float] = {
            (r.variant, r.point, r.seed): r.value
            for r in of_group
            if r.score.key == scores.RATE and r.value is not None
        }
        at = [r for r in of_group if (r.variant, r.point, r.seed) in kl and r.score.key != scores.RATE and not r.fault]
        baseline = of_group[0].baseline
        lost = any(r.variant == baseline for r in of_group) and not any(r.variant == baseline for r in at)
        chosen = list(rates) or ([] if lost else _common_rates(_curves(at, kl), baseline))
        for rate in chosen:
            for of_metric in _grouped(of_group, "kind", "metric").values():
                if of_metric[0].score.key != scores.RATE:
                    found += _judged(_at_rate(of_metric, kl, rate))
    return found


def reach(records: Sequence[Result]) -> dict[tuple[str, str], tuple[float, float]]:
    """The least and the greatest rate of each group and variant that has several, over its points and seeds."""
    rates: dict[tuple[str, str], list[float]] = {}
    for r in records:
        if r.score.key == scores.RATE and r.value is not None:
            rates.setdefault((r.group, r.variant), []).append(r.value)
    return {key: (min(values), max(values)) for key, values in rates.items() if len(values) > 1}


def _curves(records: Sequence[Result], kl: Mapping[Hashable, float]) -> dict[str, list[statistics.Curve]]:
    """The rates of each variant that was swept, a curve a seed of two points or more."""
    curves: dict[tuple[str, int], dict[float, float]] = {}
    for r in records:
        curves.setdefault((r.variant, r.seed), {})[kl[r.variant, r.point, r.seed]] = 0.0
    found: dict[str, list[statistics.Curve]] = {}
    for (variant, _), curve in curves.items():
        if len(curve) > 1:
            found.setdefault(variant, []).append(list(curve.items()))
    return found


def _common_rates(curves: Mapping[str, list[statistics.Curve]], baseline: str) -> list[float]:
    """Rates that all variants reach; if there are none, those of the variants that are left when as few as possible are
    taken away, one after the other, never the baseline."""
    if len(curves) == 1:
        return statistics.common_rates([curve for of_variant in curves.values() for curve in of_variant])
    left = dict(curves)
    while len(left) > 1:
        rates = statistics.common_rates([curve for of_variant in left.values() for curve in of_variant])
        if rates:
            return rates
        ends = {v: (max(_least(c) for c in cs), min(_greatest(c) for c in cs)) for v, cs in left.items()}
        others = [variant for variant in left if variant != baseline]
        del left[max(others, key=lambda variant: _overlap([ends[v] for v in left if v != variant]))]
    return []


def _least(curve: statistics.Curve) -> float:
    return min(rate for rate, _ in curve)


def _greatest(curve: statistics.Curve) -> float:
    return max(rate for rate, _ in curve)


def _overlap(ends: Sequence[tuple[float, float]]) -> float:
    """The length of what intervals share; negative if they share nothing."""
    return min(high for _, high in ends) - max(low for low, _ in ends)


def _at_rate(records: Sequence[Result], kl: Mapping[Hashable, float], rate: float) -> list[Summary]:
    """One metric of the variants of a group, at a rate. Seeds that have no value there and runs that collapsed are
    faults of their variant, and of all that is compared with it."""
    values: dict[Hashable, dict[Hashable, float]] = {}
    lost: dict[Hashable, list[Result]] = {}
    for (variant, seed), part in _grouped(records, "variant", "seed").items():
        value = _on_curve(part, kl, rate)
        if value is not None:
            values.setdefault(variant, {})[seed] = value
        else:
            lost.setdefault(variant, []).extend(r for r in part if r.fault)
    of_variants = {variant: part for (variant,), part in _grouped(records, "variant").items()}
    block = []
    for variant, of_variant in values.items():
        part = of_variants[variant]
        baseline = part[0].baseline
        row = _summarised(part[0], of_variant, part, values.get(baseline))
        faults = _faults([*lost.get(variant, []), *lost.get(baseline, [])])
        block.append(replace(row, rate=rate, point="", faults=faults))
    return block


def _on_curve(records: Sequence[Result], kl: Mapping[Hashable, float], rate: float) -> float | None:
    """The value of a seed at a rate, on the line between points of the sweep with none that collapsed among them."""
    parts: list[list[tuple[float, float]]] = [[]]
    for r in sorted(records, key=_place):
        if r.fault:
            parts.append([])
        elif r.value is not None and (r.variant, r.point, r.seed) in kl:
            parts[-1].append((kl[r.variant, r.point, r.seed], r.value))
    found = [statistics.at_rate(part, rate) for part in parts if part]
    return next((value for value in found if value is not None), None)


def _place(record: Result) -> list[tuple[float, str]]:
    """Where a run stands in the sweep of its variant, by the values of the options that are swept: a key to sort by."""
    point = json.loads(record.point or "{}")
    values = point.values() if isinstance(point, dict) else [point]
    return [(v, "") if isinstance(v, (int, float)) else (0.0, json.dumps(v)) for v in values]


def _summarised(
    first: Result,
    values: Mapping[Hashable, float],
    records: Sequence[Result],
    baseline: Mapping[Hashable, float] | None,
) -> Summary:
    """The mean of the values of seeds, which are of the records; and its difference from the baseline, if any."""
    mean = statistics.mean(list(values.values()))
    difference = statistics.paired(values, baseline) if baseline and first.variant != first.baseline else None
    shared = {field.name: getattr(first, field.name) for field in fields(Entry)}
    return Summary(
        **shared | {"reference": _mean_reference(records)},
        rate=None,
        seeds=mean.n,
        value=mean.value,
        low=mean.low,
        high=mean.high,
        interval="seeds",
        pairs=difference.n if difference else 0,
        difference=difference.value if difference else None,
        difference_low=difference.low if difference else None,
        difference_high=difference.high if difference else None,
        p_value=difference.p_value if difference else None,
        differences=difference.pairs if difference else (),
    )


def rank_key(cell: Summary | None) -> tuple[bool, float]:
    """Smaller is better: how far a value is from the best there can be; where there is none, last.

    The best value of a metric is the highest, the lowest, or that of real images, its reference.
    """
    if cell is None:
        return True, 0.0
    if cell.better == "reference":
        return False, abs(cell.value - (cell.reference or 0.0))
    return False, -cell.value if cell.better == "higher" else cell.value


def _judged(block: Sequence[Summary]) -> list[Summary]:
    """P-values adjusted for the comparisons of the block, and what they say: nothing while a seed is missing."""
    seeds = max((row.seeds for row in block), default=0)
    p_values = holm([row.p_value for row in block])
    adjusted = [replace(row, p_adjusted=p) for row, p in zip(block, p_values, strict=True)]
    return [replace(row, verdict=_verdict(row, seeds)) for row in adjusted]


def _verdict(row: Summary, seeds: int) -> str:
    """In words; `seeds` is how many there are of those rows that have the most."""
    if row.difference is None:
        return ""
    if row.pairs < seeds and not row.faults:
        return f"{row.pairs} of {seeds} seeds"
    if row.p_adjusted is None:
        return "one seed"
    if row.unfit:
        return NO_JUDGE
    if is_no_better_than_one_picture(row, row.difference):
        return NO_BETTER_THAN_ONE_PICTURE
    if row.faults:
        return COLLAPSED
    if row.p_adjusted > 0.05:
        return "no difference shown"
    if row.primary:
        return PRIMARY if row.score.key == row.primary else EXPLORATORY
    if row.better == "reference":
        return "differs"
    return "better" if (row.difference > 0) == (row.better == "higher") else "worse"


def _faults(records: Iterable[Result]) -> tuple[str, ...]:
    """Which runs compare with no other, and why."""
    return tuple(dict.fromkeys(f"{r.arm} seed {r.seed}: {r.fault}" for r in records if r.fault))


def is_no_better_than_one_picture(row: Summary, difference: float) -> bool:
    """Whether the mean image in the place of every image would do as well as the model, and as the baseline."""
    if row.mean_image is None:
        return False
    sign = 1 if row.better == "higher" else -1
    return max(sign * row.value, sign * (row.value - difference)) <= sign * row.mean_image


def _mean_reference(records: Sequence[Result]) -> float | None:
    values = [r.reference for r in records if r.reference is not None]
    return statistics.mean(values).value if values else None


def _by_seed(records: Iterable[Result]) -> dict[Hashable, float]:
    return {r.seed: r.value for r in records if r.value is not None}


def _grouped(records: Iterable[Result], *columns: str) -> dict[tuple[Hashable, ...], list[Result]]:
    """Records by the values of some columns, in the order of their first appearance."""
    groups: dict[tuple[Hashable, ...], list[Result]] = {}
    for record in records:
        groups.setdefault(tuple(getattr(record, column) for column in columns), []).append(record)
    return groups
