"""What runs say together: every number, means over seeds against a baseline, and models at matched rate."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from ssimgen import scores
from ssimgen._holm import holm
from ssimgen._options import short
from ssimgen.report import statistics
from ssimgen.report.folders import Run

Record = dict[str, Any]


RESULTS = (
    "study", "data", "group", "model", "variant", "point", "arm", "seed", "baseline", "iterations", "train_seconds",
    "evaluation_seconds", "kind", "metric", "value", "low", "high", "reference", "reference_low", "reference_high", "n",
    "better", "trained_on", "note", "folder",
)  # fmt: skip
SUMMARY = (
    "study", "data", "group", "model", "variant", "point", "arm", "kind", "metric", "better", "trained_on", "seeds",
    "value", "low", "high", "interval", "reference", "baseline", "difference", "difference_low", "difference_high",
    "p_value", "p_adjusted", "verdict",
)  # fmt: skip
MATCHED = (
    "study", "data", "group", "model", "variant", "rate", "kind", "metric", "better", "trained_on", "seeds", "value",
    "low", "high", "reference", "baseline", "difference", "difference_low", "difference_high", "p_value", "p_adjusted",
    "verdict",
)  # fmt: skip


def names_of(runs: Sequence[Run]) -> list[tuple[str, str, str]]:
    """Group, variant and point of each run: those of the study, or made of the options in which runs differ."""
    differing = differing_options([run for run in runs if not run.study])
    names = []
    for run in runs:
        if run.study:
            point = run.study["point"]
            names.append((run.study["group"], run.study["variant"], json.dumps(point) if point else ""))
        else:
            parts = [f"{key.split('.')[-1]}={short(run.options.get(key))}" for key in differing if key != "model"]
            names.append((run.config["model"], " ".join(parts) or run.config["model"], ""))
    return names


def differing_options(runs: Sequence[Run]) -> list[str]:
    """Names of the options in which runs differ."""
    keys = dict.fromkeys(key for run in runs for key in run.options)
    return [key for key in keys if len({json.dumps(run.options.get(key)) for run in runs}) > 1]


def records_of(runs: Sequence[Run], baseline: str = "") -> list[Record]:
    """One record a run and metric; `baseline` is a part of the name of a variant, in the place of the study's."""
    names = names_of(runs)
    if baseline and not any(baseline in variant for _, variant, _ in names):
        known = ", ".join(dict.fromkeys(variant for _, variant, _ in names))
        raise ValueError(f"no run is called {baseline!r}, as the baseline should be: there are {known}")
    records = []
    for run, (group, variant, point) in zip(runs, names, strict=True):
        of_group = [v for g, v, _ in names if g == group]
        chosen = next((v for v in of_group if baseline in v), "") if baseline else run.study.get("baseline", "")
        same = {
            "study": "",
            "data": run.study.get("data", run.config["data"]["source"]),
            "group": group,
            "model": run.config["model"],
            "variant": variant,
            "point": point,
            "arm": run.study.get("arm", variant),
            "seed": run.seed,
            "baseline": chosen,
            "iterations": run.evaluation["iteration"],
            "train_seconds": run.metrics[-1]["seconds"] if run.metrics else None,
            "evaluation_seconds": run.evaluation.get("seconds"),
            "folder": str(run.path),
        }
        for row in run.evaluation["rows"]:
            judged = scores.trained_on(scores.read(row["metric"]), run.config["config"])
            records.append({**same, **row, "trained_on": judged})
    return records


def summary(records: Sequence[Record]) -> list[Record]:
    """Means over seeds, and differences from the baseline of the group seed by seed.

    The baseline at the same point of the sweep where it has that point, otherwise none: at different points models have
    different rates. P-values are adjusted (Holm) for all variants and points that are compared in a metric.
    """
    keys = ("study", "data", "group", "kind", "metric")
    found = []
    for _, of_metric in _grouped(records, keys):
        arms = _grouped(of_metric, ("variant", "point"))
        seeds = {key: _by_seed(part) for key, part in arms}
        block = []
        for (variant, point), part in arms:
            values = seeds[variant, point]
            if not values:
                continue
            first = part[0]
            baseline = first["baseline"]
            difference = None
            if baseline and variant != baseline and (baseline, point) in seeds:
                difference = statistics.paired(values, seeds[baseline, point])
            row = {key: first.get(key, "") for key in SUMMARY}
            block.append(
                {
                    **row,
                    **_mean(values),
                    **_interval(part),
                    "reference": _mean_of(part, "reference"),
                    **_difference(difference),
                }
            )
        found += _judged(block)
    return found


def matched(records: Sequence[Record], rates: Sequence[float] = ()) -> list[Record]:
    """Variational models at equal KL: every metric interpolated between the points of a variant's sweep, seed by seed.

    Args:
        records: from :func:`records_of`.
        rates: nats at which to compare; empty: three, evenly spread over the rates that all variants and seeds of a
            group reach, without those that share none with the others. Beyond the ends of its curve a variant has no
            value.
    """
    found = []
    for _, of_group in _grouped(records, ("study", "data", "group")):
        kl: dict[Hashable, float] = {
            (r["variant"], r["point"], r["seed"]): r["value"]
            for r in of_group
            if _is_rate(r) and r["value"] is not None
        }
        at = [r for r in of_group if (r["variant"], r["point"], r["seed"]) in kl and not _is_rate(r)]
        baseline = of_group[0]["baseline"]
        chosen = list(rates) or _common_rates(_curves(at, kl), baseline)
        for rate in chosen:
            for _, of_metric in _grouped(at, ("kind", "metric")):
                found += _judged(_at_rate(of_metric, kl, rate))
    return found


def reach(records: Sequence[Record]) -> dict[tuple[str, str], tuple[float, float]]:
    """The least and the greatest rate of each group and variant that has several, over its points and seeds."""
    rates: dict[tuple[str, str], list[float]] = {}
    for r in records:
        if _is_rate(r) and r["value"] is not None:
            rates.setdefault((r["group"], r["variant"]), []).append(r["value"])
    return {key: (min(values), max(values)) for key, values in rates.items() if len(values) > 1}


def _is_rate(record: Record) -> bool:
    return scores.read(record["metric"]).key == scores.RATE


def _curves(records: Sequence[Record], kl: Mapping[Hashable, float]) -> dict[str, list[statistics.Curve]]:
    """The rates of each variant that was swept, a curve a seed of two points or more."""
    curves: dict[tuple[str, int], dict[float, float]] = {}
    for r in records:
        curves.setdefault((r["variant"], r["seed"]), {})[kl[r["variant"], r["point"], r["seed"]]] = 0.0
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


def _at_rate(records: Sequence[Record], kl: Mapping[Hashable, float], rate: float) -> list[Record]:
    """One metric of the variants of a group, at a rate."""
    values: dict[str, dict[Hashable, float]] = {}
    first: dict[str, Record] = {}
    for (variant, seed), part in _grouped(records, ("variant", "seed")):
        curve = [(kl[variant, r["point"], seed], r["value"]) for r in part if r["value"] is not None]
        value = statistics.at_rate(curve, rate)
        first.setdefault(variant, part[0])
        if value is not None:
            values.setdefault(variant, {})[seed] = value
    references = {variant: _mean_of(part, "reference") for (variant,), part in _grouped(records, ("variant",))}
    block = []
    for variant, of_variant in values.items():
        baseline = first[variant]["baseline"]
        difference = None
        if baseline and variant != baseline and baseline in values:
            difference = statistics.paired(of_variant, values[baseline])
        row = {key: first[variant].get(key, "") for key in MATCHED}
        found = {"rate": rate, "reference": references.get(variant), **_mean(of_variant), **_difference(difference)}
        block.append({**row, **found})
    return block


def rank_key(cell: Record | None) -> tuple[bool, float]:
    """Smaller is better: how far a value is from the best there can be; what has none comes last.

    The best value of a metric is the highest, the lowest, or that of real images, its reference.
    """
    if cell is None or cell["value"] is None:
        return True, 0.0
    value = float(cell["value"])
    if cell["better"] == "reference":
        return False, abs(value - (cell["reference"] or 0.0))
    return False, -value if cell["better"] == "higher" else value


def _judged(block: list[Record]) -> list[Record]:
    """P-values adjusted for the comparisons of the block, and what they say: nothing while a seed is missing."""
    seeds = max((row["seeds"] for row in block), default=0)
    for row, p in zip(block, holm([row["p_value"] for row in block]), strict=True):
        row["p_adjusted"] = p
        row["verdict"] = _verdict(row, seeds)
    return block


def _verdict(row: Record, seeds: int) -> str:
    """In words; `seeds` is how many there are of those rows that have the most."""
    if row["difference"] is None:
        return ""
    if row["pairs"] < seeds:
        return f"{row['pairs']} of {seeds} seeds"
    if row["p_adjusted"] is None:
        return "one seed"
    if row["p_adjusted"] > 0.05 or row["better"] == "reference":
        return "no difference shown" if row["p_adjusted"] > 0.05 else "differs"
    return "better" if (row["difference"] > 0) == (row["better"] == "higher") else "worse"


def _interval(records: Sequence[Record]) -> Record:
    """What the interval of a mean is over: seeds; of a single seed, the images of its evaluation."""
    if len(records) > 1:
        return {"interval": "seeds"}
    return {"interval": "images", "low": records[0]["low"], "high": records[0]["high"]}


def _mean(values: Mapping[Hashable, float]) -> Record:
    mean = statistics.mean(list(values.values()))
    return {"seeds": mean.n, "value": mean.value, "low": mean.low, "high": mean.high}


def _difference(difference: statistics.Difference | None) -> Record:
    if difference is None:
        return {"pairs": 0, "difference": None, "difference_low": None, "difference_high": None, "p_value": None}
    return {
        "pairs": difference.n,
        "difference": difference.value,
        "difference_low": difference.low,
        "difference_high": difference.high,
        "p_value": difference.p_value,
    }


def _mean_of(records: Sequence[Record], key: str) -> float | None:
    values = [r[key] for r in records if r.get(key) is not None]
    return statistics.mean(values).value if values else None


def _by_seed(records: Iterable[Record]) -> dict[Hashable, float]:
    return {r["seed"]: r["value"] for r in records if r["value"] is not None}


def _grouped(records: Iterable[Record], keys: Sequence[str]) -> list[tuple[Any, list[Record]]]:
    """Records by the values of some keys, in the order of their first appearance."""
    groups: dict[Any, list[Record]] = {}
    for record in records:
        groups.setdefault(tuple(record[key] for key in keys), []).append(record)
    return list(groups.items())
