"""What a quick study says: a recommendation, from comparisons at equal rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ssimgen import scores
from ssimgen.report import Verdict
from ssimgen.report.endpoints import faults, unequal
from ssimgen.report.results import Result
from ssimgen.report.summary import NO_BETTER_THAN_ONE_PICTURE, Summary, matched, reach
from ssimgen.study.quick.planning import PIXELS

JUDGES = scores.RANKED_BY["reconstruction"]  # no objective is trained on them
_MEASURED = {
    "st_lpips": "distance of reconstructions from held-out images as people see it (ST-LPIPS)",
    "feature_distance": "distance of reconstructions from held-out images in a feature network",
}
_HELP = "ST-LPIPS, a distance fitted to human choices, may be fit for them: pip install 'ssimgen[judges]'."


def recommendation(
    records: Sequence[Result],
    iterations: int,
    *,
    finished: tuple[int, int] = (0, 0),
    left_out: Sequence[str] = (),
) -> Verdict:
    """What the study says: whether a structural error brings reconstructions closer than l2 and l1 at equal rate.

    It says nothing of fewer than two seeds, nor where no judge is fit for these images, and it concludes nothing before
    all runs are finished.

    Judged by the first fit one of ST-LPIPS and the feature distance, on which no objective was trained, at the
    middle of the rates that all models reach (without those that share none with the others), against that of l2
    and l1 which is nearer: better or worse if the p-value of the paired comparison, adjusted for the number of
    objectives, is at most 0.05. What the other one says is said too; an objective that is better by one and worse
    by the other is not recommended.

    Args:
        records: of the seeds of which every run is finished.
        iterations: of a run.
        finished: how many runs are, and of how many.
        left_out: objectives that the study did not have the time for.

    Example:
        >>> from ssimgen.study.quick import recommendation
        >>> recommendation([], iterations=400, finished=(3, 18)).heading
        'No conclusion'
    """
    seeds = len({record.seed for record in records})
    gaps = [*_gaps(seeds, finished, left_out), *faults(records)]
    if seeds < 2:
        needed = "At least two seeds with every objective and temperature are needed: go on with the same command."
        return Verdict("No conclusion", (*gaps, needed))
    judge = next((key for key in JUDGES for r in records if r.score.key == key and not r.unfit), None)
    if judge is None:
        return _unjudged(records, gaps)
    rows, rate = _at_one_rate(records)
    of_pixels = {name: row.value for name, row in _by_variant(rows, judge).items() if name in PIXELS}
    nearer = min(of_pixels, key=of_pixels.__getitem__, default="l2")
    if nearer != "l2":
        rows, rate = _at_one_rate([replace(record, baseline=nearer) for record in records])
    judged = _by_variant(rows, judge)
    baseline = judged.pop(nearer, None)
    plain = [row for name, row in judged.items() if name in PIXELS and row.difference is not None]
    compared = {
        name: row
        for name, row in judged.items()
        if name not in PIXELS and row.difference is not None and not row.faults
    }
    if baseline is None or baseline.faults or not compared:
        return _none(records, gaps)
    if all(row.verdict == NO_BETTER_THAN_ONE_PICTURE for row in compared.values()):
        return _hopeless(compared, baseline, gaps)
    others = [_by_variant(rows, key) for key in JUDGES if key != judge]
    against = {name for other in others for name, row in other.items() if row.verdict == "worse"}
    better = [name for name, row in compared.items() if row.verdict == "better"]
    best = min(set(better) - against or better or compared, key=lambda name: compared[name].value)
    apart = sorted({r.variant for r in records} - {*PIXELS, *compared})
    control = f"{nearer}, the nearer one of l2 and l1," if plain else nearer
    heading = _heading(compared, best, nearer, best in against)
    if finished[0] < finished[1]:
        heading = f"No conclusion yet: {finished[0]} of {finished[1]} runs are finished"
    return Verdict(
        heading,
        (
            f"Compared with {control} at a KL of {rate:.3g} nats by the {_MEASURED[judge]}, on which none of "
            f"the models was trained; smaller is better.{_reference(records, judge)}",
            *(_sentence(row, baseline) for row in [*plain, *compared.values()]),
            *(sentence for other in others for sentence in _second_opinion(other, nearer, compared)),
            *_colours(rows),
            *([f"Not compared, as their rates do not reach that far: {', '.join(apart)}."] if apart else []),
            *gaps,
            *unequal([replace(record, baseline=nearer) for record in records]),
            f"The uncertainty is that of {baseline.seeds} seeds. Each model was trained for {iterations} iterations "
            "with one small network: longer training, another network or other weights can turn the order round.",
        ),
    )


def _at_one_rate(records: Sequence[Result]) -> tuple[list[Summary], float | None]:
    """What there is at the middle one of the rates that models share, and that rate."""
    rows = matched(records)
    rates = sorted({row.rate for row in rows if row.rate is not None})
    rate = rates[len(rates) // 2] if rates else None
    return [row for row in rows if row.rate == rate], rate


def _by_variant(rows: Sequence[Summary], judge: str) -> dict[str, Summary]:
    """What a judge, if it is fit, says of models."""
    return {row.variant: row for row in rows if row.score.key == judge and not row.unfit}


def _second_opinion(rows: Mapping[str, Summary], nearer: str, compared: Mapping[str, Summary]) -> list[str]:
    """What another judge says of the models that are compared."""
    baseline = rows.get(nearer)
    of_models = [rows[name] for name in compared if name in rows and rows[name].difference is not None]
    if baseline is None or not of_models:
        return []
    said = " ".join(_sentence(row, baseline) for row in of_models)
    return [f"By the {baseline.score.metric.name}, which may judge these images too: {said}"]


def _heading(compared: Mapping[str, Summary], best: str, pixels: str, disputed: bool) -> str:
    """What to do, where `pixels` is what structural errors are compared with; `disputed` is the best one where another
    judge calls it worse."""
    verdicts = {row.verdict for row in compared.values()}
    if "better" in verdicts and disputed:
        return "No conclusion: what is better for one judge is worse for another"
    if "better" in verdicts:
        return f"Structure helps on these images: train with {best}"
    if verdicts == {"worse"}:
        return f"Structure does not help on these images: train with {pixels}"
    if "worse" in verdicts:
        return f"Structure is not shown to help on these images, and some of it does harm: train with {pixels}"
    return f"No difference is shown on these images: there is no reason to leave {pixels}"


def _unjudged(records: Sequence[Result], gaps: Sequence[str]) -> Verdict:
    """No conclusion, as nothing here can tell good reconstructions of these images from bad ones."""
    why = {r.metric: r.unfit for r in records if r.score.key in JUDGES}
    reasons = [f"{metric}: {reason}." for metric, reason in why.items()]
    return Verdict(
        "No conclusion: no judge is fit for these images",
        (
            "What is to judge models must first rank degraded images as everyone would, and here nothing does.",
            *reasons,
            *([] if "st_lpips" in {r.score.key for r in records} else [_HELP]),
            *gaps,
        ),
    )


def _hopeless(compared: Mapping[str, Summary], baseline: Summary, gaps: Sequence[str]) -> Verdict:
    """No conclusion, as one grey picture would do as well as any model."""
    values = ", ".join(f"{row.variant} {row.value:.3g}" for row in (baseline, *compared.values()))
    return Verdict(
        "No conclusion: all models are far from real images",
        (
            f"By the {baseline.score.metric.name}, the mean image in the place of every reconstruction is at "
            f"{baseline.mean_image:.3g}, and no model is nearer ({values}): train longer.",
            *gaps,
        ),
    )


def _colours(rows: Sequence[Summary]) -> list[str]:
    """How far off colours are, where there is colour: a structural error can lose them unnoticed."""
    of_models = [row for row in rows if row.score.key == "colour_error" and not row.unfit]
    if not of_models:
        return []
    words = {verdict: f", {verdict} than {of_models[0].baseline}" for verdict in ("worse", "better")}
    values = ", ".join(f"{row.variant} {row.value:.2g}{words.get(row.verdict, '')}" for row in of_models)
    return [f"Colours: the mean colour of a reconstruction, of channels from 0 to 1, is off by {values}."]


def _reference(records: Sequence[Result], judge: str) -> str:
    """How far the nearest training image is, which tells a good reconstruction from a bad one."""
    values = [r.reference for r in records if r.score.key == judge and r.reference is not None]
    return f" For scale: the nearest training image is at {values[0]:.3g}." if values else ""


def _gaps(seeds: int, finished: tuple[int, int], left_out: Sequence[str]) -> list[str]:
    """What is missing in the study."""
    done, planned_runs = finished
    found = []
    if done < planned_runs:
        whole = f"all of {seeds} seed{'s' if seeds != 1 else ''}: other seeds" if seeds else "of no seed all: they"
        found.append(
            f"{done} of {planned_runs} runs are finished, {whole} do not count here, and the same command goes on with "
            "them."
        )
    if left_out:
        found.append(f"Left out for want of time: {', '.join(left_out)}. A larger budget in another folder tries more.")
    return found


def _none(records: Sequence[Result], gaps: Sequence[str]) -> Verdict:
    """No conclusion, why, and what to do about it."""
    reached = ", ".join(f"{variant} {low:.3g} to {high:.3g}" for (_, variant), (low, high) in reach(records).items())
    return Verdict(
        "No conclusion",
        (
            "The rates of the models do not meet, so that they cannot be compared at equal rate (KL in nats: "
            f"{reached}).",
            "Training was too short, or these images need other temperatures: give a larger budget and another folder, "
            "or write a study file with values of tau of your own.",
            *gaps,
        ),
    )


def _sentence(row: Summary, baseline: Summary) -> str:
    assert row.difference is not None
    change = 100 * row.difference / baseline.value
    text = f"{row.variant}: {row.value:.3g} instead of {baseline.value:.3g} ({change:+.0f}%"
    if row.difference_low is not None and row.difference_high is not None:
        ends = sorted(100 * end / baseline.value for end in (row.difference_low, row.difference_high))
        text += f", 95% interval {ends[0]:+.0f}% to {ends[1]:+.0f}%"
    return text + (f"; p = {row.p_adjusted:.2g})" if row.p_adjusted is not None else ")") + f": {row.verdict}."
