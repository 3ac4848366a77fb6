"""Carrying out a study: what is checked before, a time budget, and going on where one stopped."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ssimgen._files import writable_folder
from ssimgen._interruption import Stopped, noted
from ssimgen._reading import read_config, read_evaluation
from ssimgen.batches import Shape
from ssimgen.data import load_images
from ssimgen.models import check_model
from ssimgen.runs import EvaluationOptions
from ssimgen.runs.folder import differences, must_agree
from ssimgen.study.plan import Plan, PlannedRun
from ssimgen.study.run import Outcome
from ssimgen.study.search import chosen
from ssimgen.study.workers import carried_out
from ssimgen.training import RunFolder


def run_study(
    plan: Plan,
    output: Path,
    *,
    budget: float | None = None,
    parallel: int = 1,
    report: Callable[[Outcome], object] = lambda _: None,
) -> list[Outcome]:
    """Train and evaluate every run of `plan` that is not finished in `output`; returns what became of each.

    A run that was interrupted goes on from its latest checkpoint. When the budget is used up, or a signal comes,
    running ones write a checkpoint and stop, and the remaining ones are not begun and not in the list.

    Args:
        plan: the study.
        output: its folder.
        budget: minutes; None: no limit.
        parallel: worker processes, among which the threads of this one are divided.
        report: called with each outcome as it comes.

    Raises:
        ValueError: a budget or a number of processes that is not positive; images that cannot be read or are too few;
            a run in the folder that has other options than the study.
        OSError: images are missing, or the folder cannot be written.
        Stopped: a signal came, SIGINT, SIGTERM or SIGHUP, and every running model wrote a checkpoint; the outcomes so
            far have been reported.

    Example:
        >>> from pathlib import Path
        >>> from ssimgen.study import make_plan, run_study
        >>> models = {"vae": {"variants": {"l2": {"options": {"objective": "l2"}, "sweep": {"tau": [0.01, 0.1]}}}}}
        >>> plan = make_plan({"data": {"digits": {"data": "mnist5k"}}, "models": models}, "taus")
        >>> run_study(plan, Path("study"), budget=0.001)  # minutes: too few to begin
        []
    """
    if budget is not None and not budget > 0:
        raise ValueError(f"budget must be a positive number of minutes, got {budget}")
    if parallel < 1:
        raise ValueError(f"parallel must be at least 1 process, got {parallel}")
    deadline = None if budget is None else time.monotonic() + 60 * budget
    hashes = _checked_data(plan)
    for run in (*chosen(plan, output).runs, *plan.trials):
        _check_before(run, output, None if run.trial is not None else hashes[run.data])
    writable_folder(output)
    outcomes: list[Outcome] = []

    def carry_out_all(runs: Sequence[PlannedRun], received: list[int]) -> None:
        waiting = []
        for run in runs:
            if is_finished(run, output, plan.evaluation):
                outcomes.append(Outcome(run, "skipped"))
                report(outcomes[-1])
            else:
                waiting.append(run)
        for outcome in carried_out(waiting, output, plan.evaluation, min(parallel, len(waiting)), deadline, received):
            outcomes.append(outcome)
            report(outcome)

    with noted() as received:
        carry_out_all(plan.trials, received)
        found = chosen(plan, output)
        if not received:
            carry_out_all(found.runs, received)
    if received:
        raise Stopped(received[0])
    lost = any(outcome.status == "failed" and outcome.run.trial is not None for outcome in outcomes)
    all_of_them = len(plan.trials) + (len(found.runs) if lost else len(plan.runs))
    if len(outcomes) < all_of_them or any(outcome.status == "stopped" for outcome in outcomes):
        print("budget used up", file=sys.stderr)
    return [outcome for outcome in outcomes if outcome.run.trial is None or outcome.status in ("stopped", "failed")]


def is_finished(run: PlannedRun, output: Path, evaluation: EvaluationOptions) -> bool:
    """Whether a run is trained to its end and evaluated as the study asks."""
    folder = RunFolder(output / run.folder)
    try:
        if not folder.config.exists() or not folder.is_trained(run.training):
            return False
        done = read_evaluation(folder.path)
    except ValueError:  # missing or damaged: it is made again, or training says what is wrong
        return False
    wanted = json.loads(json.dumps(dataclasses.asdict(evaluation)))
    return done.iteration == folder.latest_iteration() and done.options == wanted


def finished_folders(plan: Plan, output: Path) -> dict[str, list[Path]]:
    """The folders of finished runs, by set of images, in the order of the plan; without sets that have none."""
    folders: dict[str, list[Path]] = {}
    for run in plan.runs:
        if is_finished(run, output, plan.evaluation):
            folders.setdefault(run.data, []).append(output / run.folder)
    return folders


def _checked_data(plan: Plan) -> dict[str, str]:
    """Read all images once, and try all models on them, so that what is wrong is known before hours have passed.

    Returns the hashes of the images.
    """
    hashes: dict[str, str] = {}
    shapes: dict[str, Shape] = {}
    for run in plan.runs:
        if run.data not in hashes:
            images = load_images(run.source, report=lambda line: print(line, file=sys.stderr)).train
            hashes[run.data], shapes[run.data] = images.digest, images.shape
            for batch in {other.training.batch for other in plan.runs if other.data == run.data}:
                images.batches(batch, 0, 0)  # refuses if there are too few
    all_runs = (*plan.runs, *plan.trials)
    for run in {(run.data, run.model, run.arm, run.trial): run for run in all_runs}.values():
        try:
            check_model(run.model, run.config, shapes[run.data])
        except ValueError as error:
            raise ValueError(f"{run.folder}: {error}") from error
    return hashes


def _check_before(run: PlannedRun, output: Path, digest: str | None) -> None:
    """Refuse a run folder of other options or images; fewer iterations than wanted are no hindrance.

    Without a digest the images are what they are: those of a trial are a part of the others.
    """
    folder = RunFolder(output / run.folder)
    if not folder.config.exists():
        return
    before = read_config(folder.path)
    wanted = {
        "model": run.model,
        "shape": before.get("shape"),  # the hash of the images covers it
        "config": dataclasses.asdict(run.config),
        "optimiser": dataclasses.asdict(run.optimiser),
        "training": dataclasses.asdict(run.training),
        "data": {"hash": digest or before["data"]["hash"]},
    }
    for name, old, new in differences(before, must_agree(wanted)):
        if name == "data.hash":
            raise ValueError(
                f"{folder.path} holds a run of other images than those that the study calls {run.data}: choose "
                "another folder for the study, or remove that run"
            )
        raise ValueError(
            f"{folder.path} holds a run with {name} = {old!r}, but the study says {new!r}: "
            "choose another folder for the study, or remove that run"
        )
    (held, unit), (asked, of_study) = _length(before["training"]), _length(dataclasses.asdict(run.training))
    if unit != of_study or held > asked:
        other = f"more than the {asked}" if unit == of_study else f"not the {asked} {of_study}"
        raise ValueError(
            f"{folder.path} holds a run of {held} {unit}, {other} of the study: choose another folder for the study, "
            "or remove that run"
        )


def _length(training: Mapping[str, Any]) -> tuple[float, str]:
    """Of a run, and its unit."""
    seconds = training.get("seconds")
    return (training["iterations"], "iterations") if seconds is None else (seconds, "seconds")
