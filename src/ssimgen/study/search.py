"""Equal search: as many random trials of the stated options for every model, judged on a part of the training images.

Whoever tunes the model that he likes, and takes the other as it comes, finds what he likes. So each variant of a group
has the same number of trials, on each set of images, of options drawn at random from what its file states. A trial is
trained without a part of the training images, the primary endpoint is taken on that part, and the best options are
those of the runs that are compared. Held-out images are seen by no trial.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ssimgen import scores
from ssimgen.data import Splits
from ssimgen.report.folders import read_runs
from ssimgen.report.results import Result, records_of
from ssimgen.study.plan import Plan, PlannedRun

_SHARE, _MOST = 5, 1000  # one in so many training images validates, and not more than so many


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a trial came to.

    Attributes:
        data, group, arm: of the model.
        trial: its number.
        options: those that were drawn.
        metric, value: the primary endpoint on validation images.
        fault: why it compares with no other; "" if it does.
        chosen: whether its options are those of the runs.
    """

    data: str
    group: str
    arm: str
    trial: int
    options: str
    metric: str
    value: float | None
    fault: str
    chosen: bool


TRIALS = ("data", "group", "arm", "trial", "options", "metric", "value", "fault", "chosen")
"""Columns of search.csv."""


def validation(splits: Splits) -> Splits:
    """The training images without a fifth of them, a thousand at most, and that fifth in the place of held-out ones."""
    train = splits.train
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    count = min(len(train) // _SHARE, _MOST)
    return Splits(
        train.subset(order[count:], f"{train.source}, without those for validation"),
        train.subset(order[:count], f"{train.source}, for validation"),
    )


def results_of_trials(plan: Plan, output: Path) -> list[Trial]:
    """The finished trials of a study, the best of each model chosen once all of its trials are there."""
    found = []
    for of_arm in _by_arm(plan.trials).values():
        records = [_record(run, output) for run in of_arm]
        best = _best(records)
        for run, record in zip(of_arm, records, strict=True):
            if record is not None:
                found.append(
                    Trial(
                        data=run.data,
                        group=run.group,
                        arm=run.arm,
                        trial=run.trial or 0,
                        options=" ".join(f"{name}={value}" for name, value in run.drawn.items()),
                        metric=record.metric,
                        value=record.value,
                        fault=record.fault,
                        chosen=record is best,
                    )
                )
    return found


def chosen(plan: Plan, output: Path) -> Plan:
    """The study with the options of the best trials; without the runs of models whose trials are not all finished."""
    best: dict[tuple[str, str, str], PlannedRun] = {}
    for key, of_arm in _by_arm(plan.trials).items():
        records = [_record(run, output) for run in of_arm]
        found = _best(records)
        if found is not None:
            best[key] = next(run for run, record in zip(of_arm, records, strict=True) if record is found)
    return replace(plan, runs=tuple(_with_options(plan.runs, best)))


def _with_options(runs: Sequence[PlannedRun], best: Mapping[tuple[str, str, str], PlannedRun]) -> Iterator[PlannedRun]:
    for run in runs:
        key = (run.data, run.group, run.arm)
        if not run.drawn:
            yield run
        elif key in best:
            yield replace(run, config=best[key].config, optimiser=best[key].optimiser, drawn=best[key].drawn)


def _by_arm(trials: Sequence[PlannedRun]) -> dict[tuple[str, str, str], list[PlannedRun]]:
    arms: dict[tuple[str, str, str], list[PlannedRun]] = {}
    for run in trials:
        arms.setdefault((run.data, run.group, run.arm), []).append(run)
    return arms


def _record(run: PlannedRun, output: Path) -> Result | None:
    """The primary endpoint of a trial, if it is finished."""
    try:
        records = records_of(read_runs([output / run.folder]))
    except ValueError:
        return None
    return next((r for r in records if r.score.key == run.primary), None)


def _best(records: Sequence[Result | None]) -> Result | None:
    """The best of all; one that compares with no other only where there is nothing else."""
    there = [record for record in records if record is not None and record.value is not None]
    if len(there) < len(records):
        return None

    def order(record: Result) -> tuple[bool, float]:
        higher = scores.METRICS[record.score.key].better == "higher"
        return bool(record.fault), -(record.value or 0.0) if higher else record.value or 0.0

    return min(there, key=order)
