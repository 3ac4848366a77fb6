"""A quick study from the first image to the report, planned anew after its first runs and after each seed."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ssimgen._files import writable_folder, write_atomically
from ssimgen._reading import read_options
from ssimgen.data import Source, Splits, load_images
from ssimgen.models import VAE
from ssimgen.report import Verdict, write_report
from ssimgen.runs import add_checks
from ssimgen.study.execution import is_finished
from ssimgen.study.export import write_tables
from ssimgen.study.plan import Plan, PlannedRun, make_plan
from ssimgen.study.progress import carry_on, say_what_is_left
from ssimgen.study.quick.concluding import recommendation
from ssimgen.study.quick.planning import (
    OBJECTIVES,
    Extent,
    check_judges,
    extent_of,
    given,
    measure,
    planned,
    replanned,
    study_file,
    warn_if_short,
)
from ssimgen.study.run import Outcome

_FILE = "quick.json"
_LEAST_IMAGES = 100


def quick_study(source: Source, output: Path, *, budget: float, parallel: int = 1, seeds: int = 3) -> Verdict:
    """Train VAEs with l2, l1 and structural errors on the images of `source`, and say whether structure helps.

    How many objectives, temperatures and iterations there are follows from the budget and from what an iteration
    costs here. It is planned anew after the first runs and after each seed, from what runs have cost: objectives are
    left out or come in, and seeds are added while there is time. quick.json keeps it, so that the same command goes
    on with an interrupted study.

    Args:
        source: the images.
        output: folder of runs, tables and report.
        budget: minutes.
        parallel: processes that train at the same time.
        seeds: how often each is repeated at least, 2 or more.

    Raises:
        ValueError: fewer than 100 images, images of less than 8 px, a budget too small for them, or a folder that
            holds a study of other images.

    Example:
        >>> import torch
        >>> from pathlib import Path
        >>> from ssimgen import pictures
        >>> from ssimgen.data import Source
        >>> from ssimgen.study.quick import quick_study
        >>> pictures.write_array(Path("few.npy"), torch.rand(60, 1, 12, 12))
        >>> try:
        ...     quick_study(Source("few.npy"), Path("study"), budget=20)
        ... except ValueError as error:
        ...     print(error)
        few.npy, images holds 60 images: an answer needs at least 100, and a thousand are better
    """
    if not budget > 0:
        raise ValueError(f"budget must be a positive number of minutes, got {budget}")
    if seeds < 2:
        raise ValueError(f"seeds must be at least 2, or nothing can be said of chance, got {seeds}")
    if parallel < 1:
        raise ValueError(f"parallel must be at least 1 process, got {parallel}")
    deadline = time.monotonic() + 60 * budget
    splits = load_images(source)
    _check_images(splits)
    plan = _kept(output, source)
    print("checking which metrics may judge models of these images")
    check_judges(splits)
    print("measuring what an iteration costs")
    costs = measure(splits)
    if plan is not None:
        print(f"going on with the study in {output}; for a longer or a shorter one choose another folder")
    else:
        extent = planned(costs, seconds=deadline - time.monotonic(), parallel=parallel, seeds=seeds)
        warn_if_short(extent, costs, parallel)
        plan = _keep(study_file(source, splits, extent), output)
    print(f"{len(plan.runs)} runs of {plan.runs[0].training.iterations} iterations")
    failed: list[Outcome] = []
    while (todo := _next_runs(plan, output, parallel)) and not failed:
        started = time.monotonic()
        left = max(0.05, (deadline - started) / 60)
        outcomes = carry_on(dataclasses.replace(plan, runs=todo), output, budget=left, parallel=parallel)
        failed = [outcome for outcome in outcomes if outcome.status == "failed"]
        if sum(outcome.status == "finished" for outcome in outcomes) < len(todo):
            break
        now = time.monotonic()
        costs = costs.corrected(todo, (now - started) * parallel)
        done = len(_whole_seeds(plan, output))
        extent = replanned(extent_of(plan), costs, seconds=deadline - now, parallel=parallel, done=done)
        plan = _keep(study_file(source, splits, extent), output)
        if now >= deadline and _next_runs(plan, output, parallel):
            print("budget used up", file=sys.stderr)
            break
    verdict = _concluded(plan, output)
    say_what_is_left(
        plan, [*(Outcome(run, "finished") for run in plan.runs if is_finished(run, output, plan.evaluation)), *failed]
    )
    return verdict


def _check_images(splits: Splits) -> None:
    images = len(splits.train) + len(splits.held_out)
    if images < _LEAST_IMAGES:
        raise ValueError(
            f"{splits.train.source.removesuffix(', training')} holds {images} images: an answer needs at least "
            f"{_LEAST_IMAGES}, and a thousand are better"
        )
    _, height, width = splits.train.shape
    if min(height, width) < 8:
        raise ValueError(f"images are {width} x {height} px: structure needs at least 8 x 8 px")
    (run,) = make_plan(study_file(Source(), splits, Extent(("l2",), 1, 1, 1)), "tried").runs
    with torch.device("meta"):  # at once, and without memory
        VAE(run.config, splits.train.shape)


def _keep(content: Mapping[str, Any], output: Path) -> Plan:
    """Write a study file for the next time; returns the study."""
    text = json.dumps(content, indent=2) + "\n"
    write_atomically(writable_folder(output) / _FILE, lambda file: file.write(text.encode()))
    return make_plan(content, "quick")


def _kept(output: Path, source: Source) -> Plan | None:
    """The study in the folder, if there is one."""
    path = output / _FILE
    if not path.exists():
        return None
    try:
        plan = make_plan(read_options(path), "quick")
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): remove it or choose another folder") from error
    before = plan.runs[0].source
    if before != source:
        raise ValueError(f"{output} holds a study of {given(before)}, not of {given(source)}: choose another folder")
    return plan


def _next_runs(plan: Plan, output: Path, parallel: int) -> tuple[PlannedRun, ...]:
    """The unfinished runs of the first seed that has some; at the very first, one a process, to know what they cost."""
    todo = [run for run in plan.runs if not is_finished(run, output, plan.evaluation)]
    return tuple(run for run in todo if run.seed == todo[0].seed)[: parallel if len(todo) == len(plan.runs) else None]


def _whole_seeds(plan: Plan, output: Path) -> list[int]:
    """Seeds of which every run is finished."""
    seeds = dict.fromkeys(run.seed for run in plan.runs)
    missing = {run.seed for run in plan.runs if not is_finished(run, output, plan.evaluation)}
    return [seed for seed in seeds if seed not in missing]


def _concluded(plan: Plan, output: Path) -> Verdict:
    """Tables, report and recommendation of what is finished."""
    finished = [output / run.folder for run in plan.runs if is_finished(run, output, plan.evaluation)]
    add_checks(finished, lambda line: print(line, file=sys.stderr))
    records, _ = write_tables(plan, output)
    whole = _whole_seeds(plan, output)
    verdict = recommendation(
        [record for record in records if record.seed in whole],
        plan.runs[0].training.iterations,
        finished=(len(finished), len(plan.runs)),
        left_out=[name for name in OBJECTIVES if name not in {run.variant for run in plan.runs}],
    )
    print(f"\n{verdict.heading}")
    for sentence in verdict.sentences:
        print(sentence)
    if finished:
        title = f"Does structure help on {plan.runs[0].source.data}?"
        path = write_report(finished, output / "report", title=title, verdict=verdict)
        print(f"report: {path}")
    return verdict
