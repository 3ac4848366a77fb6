"""Primary endpoints: what a study named before it ran, tested once and for all together.

A study compares its models in many metrics, at many points, on several sets of images; some differ by chance. So its
file names one metric for each group of models, the runs note it when they begin, and a verdict is given on that alone:
by Student's paired test over seeds, adjusted (Holm) for all primary comparisons of the study. The rest is exploratory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ssimgen import scores
from ssimgen._holm import holm
from ssimgen._options import short
from ssimgen.report import statistics
from ssimgen.report.results import Result
from ssimgen.report.statistics import LEAST_PAIRS, Effect
from ssimgen.report.summary import (
    NO_BETTER_THAN_ONE_PICTURE,
    NO_JUDGE,
    Summary,
    is_no_better_than_one_picture,
    matched,
    summary,
)
from ssimgen.report.verdict import Verdict

_LEVEL = 0.05
_UNEQUAL = 0.1


@dataclass(frozen=True)
class Endpoint:
    """A primary comparison of a variant with the baseline.

    Attributes:
        row: means over seeds, their difference with its interval, p-values and verdict; the adjusted one is over all
            primary comparisons of the study.
        effect: the difference in standard deviations of the paired differences.
        p_sign_flip: the exact p-value, which supposes no distribution.
        power: of the test, at the strictest level of the adjustment, for a difference as large as the observed one.
        detectable: the difference that the test finds with a power of 0.8.
        needed: seeds with which it finds the observed one with that power; None for more than 1,000.
        why: why there is no verdict; "" if there is.
    """

    row: Summary
    effect: Effect | None = None
    p_sign_flip: float | None = None
    power: float | None = None
    detectable: float | None = None
    needed: int | None = None
    why: str = ""

    @property
    def name(self) -> str:
        """The comparison in words."""
        row = self.row
        point = [f"{key}={short(value)}" for key, value in json.loads(row.point or "{}").items()]
        place = [f"{row.rate:.3g} nats"] if row.rate is not None else point
        return f"{row.data}, {row.group}: {row.variant} against {row.baseline}" + f" at {' '.join(place)}" * bool(place)


PRIMARIES = (
    "study", "data", "group", "model", "variant", "point", "rate", "metric", "better", "trained_on", "seeds", "value",
    "baseline", "baseline_value", "difference", "difference_low", "difference_high", "effect", "effect_low",
    "effect_high", "p_value", "p_sign_flip", "p_adjusted", "power", "detectable", "seeds_needed", "verdict", "why",
)  # fmt: skip
"""Columns of primaries.csv."""


def endpoints(records: Sequence[Result], rates: Sequence[float] = (), *, missing: str = "") -> list[Endpoint]:
    """The primary comparisons of the groups that named an endpoint, on all sets of images of the study.

    Variational models without a KL target are compared at `rates`, others at equal points of their sweep.

    Args:
        records: from :func:`records_of`, of the whole study.
        rates: nats that the study named.
        missing: why runs of the study may be missing, so that there is no verdict; "" if none is.
    """
    rows = _rows(records, rates)
    strictest = _LEVEL / max(1, len(rows))
    own = {(r.data, r.group, r.variant): r.trained_on for r in records if r.score.key == r.primary}
    adjusted = holm([_p_value(row) for row in rows])  # what cannot be tested counts among the tests
    return [
        _judged(replace(row, p_adjusted=p), strictest, _why(row, missing, own))
        for row, p in zip(rows, adjusted, strict=True)
    ]


def unnamed(records: Sequence[Result], rates: Sequence[float] = ()) -> list[str]:
    """Why groups with a baseline have no primary comparison: a sentence each."""
    compared = {(row.data, row.group) for row in _rows(records, rates)}
    sentences = []
    for data, group in dict.fromkeys((r.data, r.group) for r in records if r.baseline):
        named = {r.primary for r in records if (r.data, r.group) == (data, group)}
        if (data, group) in compared:
            continue
        if named == {""}:
            why = "its file names no primary endpoint, and what is found is exploratory"
        elif len(named) > 1:
            why = "its primary endpoint was named, or changed, when some of its runs were there already"
        elif _at_rates([r for r in records if (r.data, r.group) == (data, group)]) and not rates:
            why = "its models have different rates, and its file names none at which to compare them (rates, kl_target)"
        else:
            why = f"no run has the score that it named, {scores.METRICS[named.pop()].name}"
        sentences.append(f"{data}, {group}: no verdict, as {why}.")
    return sentences


def faults(records: Sequence[Result]) -> list[str]:
    """Which runs compare with no other, and why: a sentence for each model and reason."""
    seeds: dict[tuple[str, str, str, str], list[str]] = {}
    for r in records:
        if r.fault and str(r.seed) not in seeds.setdefault((r.data, r.group, r.arm, r.fault), []):
            seeds[r.data, r.group, r.arm, r.fault].append(str(r.seed))
    return [
        f"{data}, {group}: {arm} with seed {', '.join(of_arm)} compares with no other, as {fault}."
        for (data, group, arm, fault), of_arm in seeds.items()
    ]


def unequal(records: Sequence[Result]) -> list[str]:
    """Where models had more processor time than the baseline by a tenth or more, or less: a sentence for each."""
    means: dict[tuple[str, str, str, str], float] = {}
    for key in dict.fromkeys((r.data, r.group, r.baseline, r.variant) for r in records if r.baseline):
        of_arm = {r.folder: r.processor_seconds for r in records if (r.data, r.group, r.baseline, r.variant) == key}
        known = [seconds for seconds in of_arm.values() if seconds is not None]
        if len(known) == len(of_arm):
            means[key] = statistics.mean(known).value
    sentences = []
    for (data, group, baseline, variant), seconds in means.items():
        theirs = means.get((data, group, baseline, baseline))
        if theirs and variant != baseline and abs(seconds / theirs - 1) > _UNEQUAL:
            sentences.append(
                f"{data}, {group}: {variant} had {seconds:.3g} s of processor time a run and {baseline} {theirs:.3g}: "
                "not equal time."
            )
    return sentences


def conclusion(found: Sequence[Endpoint], without: Sequence[str]) -> Verdict:
    """What a study says: the verdict on each primary endpoint, and why others have none."""
    better = [endpoint for endpoint in found if endpoint.row.verdict == "better"]
    worse = [endpoint for endpoint in found if endpoint.row.verdict == "worse"]
    if better or worse:
        parts = [f"{len(part)} {word}" for part, word in ((better, "better"), (worse, "worse")) if part]
        heading = f"Of {len(found)} primary comparison{'s' * (len(found) > 1)}, {' and '.join(parts)} than the baseline"
    elif any(not endpoint.why for endpoint in found):
        heading = "No difference is shown in a primary endpoint"
    else:
        heading = "No verdict" if found else "No verdict: what is here is exploratory"
    return Verdict(heading, (*map(_sentence, found), *without))


def table(found: Sequence[Endpoint]) -> list[dict[str, object]]:
    """The lines of primaries.csv."""
    lines = []
    for endpoint in found:
        row, effect = endpoint.row, endpoint.effect
        extra = {
            "baseline_value": row.value - (row.difference or 0.0),
            "effect": effect.value if effect else None,
            "effect_low": effect.low if effect else None,
            "effect_high": effect.high if effect else None,
            "p_sign_flip": endpoint.p_sign_flip,
            "power": endpoint.power,
            "detectable": endpoint.detectable,
            "seeds_needed": endpoint.needed,
            "why": endpoint.why,
        }
        lines.append({column: extra.get(column, getattr(row, column, None)) for column in PRIMARIES})
    return lines


def _rows(records: Sequence[Result], rates: Sequence[float]) -> list[Summary]:
    """The comparisons with the baseline in the endpoint that all runs of a group and set of images named."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for record in records:
        groups.setdefault((record.data, record.group), []).append(record)
    rows: list[Summary] = []
    for of_group in groups.values():
        if {r.primary for r in of_group} != {of_group[0].primary}:
            continue
        at_rates = _at_rates(of_group)
        compared = matched(of_group, rates) if at_rates and rates else [] if at_rates else summary(of_group)
        rows += [row for row in compared if row.score.key == row.primary and row.difference is not None]
    return rows


def _at_rates(of_group: Sequence[Result]) -> bool:
    """Whether models of a group have rates that nothing brings together."""
    return any(r.score.key == scores.RATE and r.kl_target is None for r in of_group)


def _p_value(row: Summary) -> float:
    return 1.0 if row.p_value is None or row.faults or row.unfit else row.p_value


def _judged(row: Summary, level: float, why: str) -> Endpoint:
    """A comparison with its verdict, unless there is a reason why there is none."""
    effect = statistics.effect(row.differences)
    least = statistics.detectable(row.pairs, level)
    return Endpoint(
        replace(row, verdict="no verdict" if why else _verdict(row)),
        effect,
        p_sign_flip=statistics.sign_flip(row.differences),
        power=statistics.power(effect.value, row.pairs, level) if effect else None,
        detectable=least * effect.spread if least is not None and effect else None,
        needed=statistics.pairs_needed(effect.value, level) if effect else None,
        why=why,
    )


def _why(row: Summary, missing: str, own: Mapping[tuple[str, str, str], str]) -> str:
    """Why there is no verdict; "" if there is one. `own` tells whether a variant was trained on the endpoint."""
    if missing:
        return missing
    if row.unfit:
        return f"{row.score.metric.name} is {NO_JUDGE} here: {row.unfit}"
    if row.faults:
        return "; ".join(row.faults)
    if row.pairs < row.seeds:
        return f"the baseline has {row.pairs} of its {row.seeds} seeds"
    if row.pairs < LEAST_PAIRS:
        return f"it has {row.pairs} seed{'s' * (row.pairs > 1)}, and a verdict needs {LEAST_PAIRS}"
    for answer, what in (("yes", "that very metric"), ("related", "a metric like that one")):
        trained = [v for v in (row.variant, row.baseline) if own.get((row.data, row.group, v)) == answer]
        if trained:
            return f"{' and '.join(trained)} {'was' if len(trained) == 1 else 'were'} trained on {what}"
    if row.score.key not in scores.JUDGES:
        return f"{row.score.metric.name} is not put to a test before it judges models"
    if row.difference is not None and is_no_better_than_one_picture(row, row.difference):
        return f"it is {NO_BETTER_THAN_ONE_PICTURE}"
    return ""


def _verdict(row: Summary) -> str:
    if row.p_adjusted is None or row.p_adjusted > _LEVEL or not row.difference:
        return "no difference shown"
    return "better" if (row.difference > 0) == (row.better == "higher") else "worse"


def _sentence(endpoint: Endpoint) -> str:
    row = endpoint.row
    difference = row.difference or 0.0
    before = row.value - difference
    share = f"{100 * difference / abs(before):+.1f}%" if before else f"{difference:+.3g}"
    numbers = [share]
    if row.difference_low is not None and row.difference_high is not None:
        numbers.append(f"95% interval {row.difference_low:+.3g} to {row.difference_high:+.3g}")
    if not endpoint.why and row.p_adjusted is not None:
        numbers.append(f"p = {row.p_adjusted:.2g} of all primary comparisons")
    verdict = f"no verdict, as {endpoint.why}" if endpoint.why else row.verdict
    text = (
        f"{endpoint.name}: {row.score.metric.name} {row.value:.3g} instead of {before:.3g} ({'; '.join(numbers)}): "
        f"{verdict}."
    )
    return text + _power(endpoint)


def _power(endpoint: Endpoint) -> str:
    """What the test could have found, where it found nothing or is none."""
    row = endpoint.row
    if row.verdict in ("better", "worse") or endpoint.detectable is None or endpoint.power is None:
        return ""
    needed = f"{endpoint.needed}" if endpoint.needed else "more than 1,000"
    return (
        f" At this spread {row.pairs} seeds find a difference of {endpoint.detectable:.2g} with a probability of 0.8, "
        f"and one like that observed with {endpoint.power:.2f}: that needs {needed} seeds."
    )
