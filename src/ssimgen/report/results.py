"""Every number of some runs, one record a run and metric."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ssimgen import scores
from ssimgen._judged import JudgeCheck
from ssimgen._options import short
from ssimgen._reading import Evaluation
from ssimgen.report.folders import Run
from ssimgen.scores import Answer, Score


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A metric of a model: what every record of a table says of both.

    Attributes:
        study: name of the study; "" outside of one.
        data: name of the images.
        group: the table of the study, within which variants are compared.
        model: its kind, as `ssimgen train` calls it.
        variant: name of its options.
        point: where it stands in the sweep of the variant, as JSON; "" without a sweep.
        arm: variant and point.
        baseline: the variant that others of the group are compared with; "" for none.
        kind: what is scored: "rate", "reconstruction" or "samples".
        score: the metric.
        better: "higher", "lower", or "reference" if the best value is that of real images.
        trained_on: whether the metric is what the model was trained on.
        reference: the value of real images.
        unfit: why the metric may not judge models of these images; "" if it may.
        primary: key of the metric in which the group is compared, named before it ran; "" for none.
        mean_image: its value for one and the same picture, the mean of the training images, where that is known.
    """

    study: str
    data: str
    group: str
    model: str
    variant: str
    point: str
    arm: str
    baseline: str
    kind: str
    score: Score
    better: str
    trained_on: Answer
    reference: float | None
    unfit: str = ""
    primary: str = ""
    mean_image: float | None = None

    @property
    def metric(self) -> str:
        """The label of the metric, as files and tables have it."""
        return self.score.label


@dataclass(frozen=True, kw_only=True)
class Result(Entry):
    """The value of one metric for one run; `fault` is why the run compares with no other, "" if it does."""

    seed: int
    iterations: int
    train_seconds: float | None
    evaluation_seconds: float | None
    value: float | None
    low: float | None
    high: float | None
    reference_low: float | None
    reference_high: float | None
    n: int
    note: str
    folder: str
    processor_seconds: float | None = None
    fault: str = ""
    kl_target: float | None = None


NEAR = 0.1  # of its KL target, which a model has to come to

RESULTS = (
    "study", "data", "group", "model", "variant", "point", "arm", "seed", "baseline", "iterations", "train_seconds",
    "evaluation_seconds", "kind", "metric", "value", "low", "high", "reference", "reference_low", "reference_high", "n",
    "better", "trained_on", "note", "folder",
)  # fmt: skip
"""Columns of results.csv."""


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


def records_of(runs: Sequence[Run], baseline: str = "") -> list[Result]:
    """One record a run and metric; `baseline` is a part of the name of a variant, in the place of the study's."""
    names = names_of(runs)
    if baseline and not any(baseline in variant for _, variant, _ in names):
        known = ", ".join(dict.fromkeys(variant for _, variant, _ in names))
        raise ValueError(f"no run is called {baseline!r}, as the baseline should be: there are {known}")
    checks = checks_of(runs)
    records = []
    for run, (group, variant, point) in zip(runs, names, strict=True):
        fault, kl_target = fault_of(run.evaluation, run.config), run.config["config"].get("kl_target")
        of_group = [v for g, v, _ in names if g == group]
        chosen = next((v for v in of_group if baseline in v), "") if baseline else run.study.get("baseline", "")
        for row in run.evaluation.rows:
            score = scores.read(row.metric)
            check = checks.get(row.metric)
            records.append(
                Result(
                    study="",
                    data=run.study.get("data", run.config["data"]["source"]),
                    group=group,
                    model=run.config["model"],
                    variant=variant,
                    point=point,
                    arm=run.study.get("arm", variant),
                    seed=run.seed,
                    baseline=chosen,
                    iterations=run.evaluation.iteration,
                    train_seconds=run.metrics[-1]["seconds"] if run.metrics else None,
                    processor_seconds=run.metrics[-1].get("processor_seconds") if run.metrics else None,
                    evaluation_seconds=run.evaluation.seconds,
                    kind=row.kind,
                    score=score,
                    value=row.value,
                    low=row.low,
                    high=row.high,
                    reference=row.reference,
                    unfit=_unfit(score.key, check),
                    primary=run.study.get("primary", ""),
                    mean_image=check.scores().get("mean image") if check else None,
                    reference_low=row.reference_low,
                    reference_high=row.reference_high,
                    n=row.n,
                    better=row.better,
                    trained_on=scores.trained_on(score, run.config["config"]),
                    note=row.note,
                    folder=str(run.path),
                    fault=fault,
                    kl_target=kl_target,
                )
            )
    return records


def checks_of(runs: Sequence[Run]) -> dict[str, JudgeCheck]:
    """Label of a metric -> the check of it as a judge of the images of the runs, on which all were evaluated."""
    return {check.metric: check for run in runs for check in run.evaluation.judges}


def fault_of(evaluation: Evaluation, config: Mapping[str, Any]) -> str:
    """Why a run of this config.json cannot be compared: it collapsed, or has another rate than it should."""
    rate = next((row.value for row in evaluation.rows if scores.read(row.metric).key == scores.RATE), None)
    if rate is not None and rate < scores.LEAST_RATE:
        return f"its code says {rate:.2g} nats of an image"
    target = config["config"].get("kl_target")
    if rate is not None and target is not None and abs(rate - target) > NEAR * target:
        return f"it has {rate:.3g} nats instead of {target:g}"
    return evaluation.collapsed


def _unfit(key: str, check: JudgeCheck | None) -> str:
    if key not in scores.JUDGES:
        return ""
    return check.reason if check else "nobody has checked whether it ranks degraded images as it must"
