"""One run of a study: trained to its end, evaluated, and what became of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import filelock

from ssimgen.data import Splits
from ssimgen.models import MODELS
from ssimgen.runs import EvaluationOptions, evaluate_run
from ssimgen.study.plan import PlannedRun
from ssimgen.study.search import validation
from ssimgen.training import RunFolder, make_model, train

Status = Literal["finished", "skipped", "stopped", "failed"]

GRACE = 10.0  # seconds in which workers whose parent is gone write a checkpoint and end


@dataclass(frozen=True)
class Outcome:
    """What became of a run: finished now, skipped as it was finished before, stopped half-way, or failed, and why.

    Example:
        >>> from ssimgen.study import Outcome, make_plan
        >>> models = {"vae": {"variants": {"l2": {"options": {"objective": "l2"}, "sweep": {"tau": [0.01, 0.1]}}}}}
        >>> plan = make_plan({"data": {"digits": {"data": "mnist5k"}}, "models": models}, "taus")
        >>> Outcome(plan.runs[0], "failed", "no room").status
        'failed'
    """

    run: PlannedRun
    status: Status
    message: str = ""


def carry_out(run: PlannedRun, output: Path, evaluation: EvaluationOptions, splits: Splits) -> None:
    """Train a run to its end, going on if it was begun, and evaluate it."""
    folder = output / run.folder
    _wait_for_leftovers(folder)
    if run.trial is not None:
        splits = validation(splits)
    make, _ = MODELS[run.model]
    train(
        make_model(make, run.config, splits.train.shape, run.seed),
        splits.train,
        folder,
        training=run.training,
        optimiser=run.optimiser,
        held_out=splits.held_out,
        resume=RunFolder(folder).config.exists(),
        notes={"source": dataclasses.asdict(run.source), "study": about(run)},
    )
    evaluate_run(folder, evaluation, splits=splits, check_judges=run.trial is None)


def _wait_for_leftovers(folder: Path) -> None:
    """Let a worker of a study that was killed end; whoever holds the folder for longer than that, `train` names."""
    lock = folder / ".lock"
    if lock.exists():
        with suppress(filelock.Timeout), filelock.FileLock(lock).acquire(timeout=1.5 * GRACE):
            pass


def about(run: PlannedRun) -> Mapping[str, Any]:
    """What the configuration of a run says of its place in the study."""
    return {
        "data": run.data,
        "group": run.group,
        "variant": run.variant,
        "point": dict(run.point),
        "arm": run.arm,
        "baseline": run.baseline,
        "primary": run.primary,
    }
