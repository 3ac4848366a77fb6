"""The command `ssimgen evaluate`: scores of trained runs, as a table."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from rich.table import Table
from tyro.conf import Positional, arg

from ssimgen import scores
from ssimgen._judged import left_out
from ssimgen.commands.common import command, note, progress_bar

if TYPE_CHECKING:
    from ssimgen.runs import Evaluation


@command
def evaluate(
    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUNS")],
    /,
    *,
    images: int = 1000,
    resolution: int = 96,
    tested: int = 500,
    permutations: int = 500,
    window: int = 11,
    parzen: bool = False,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Score trained models beside real images: samples and reconstructions.

    Writes evaluation.json, and pictures of real images, of samples beside the nearest training images and of the worst
    reconstructions, into the folder of each run, and prints a table. docs/evaluation.md says what the metrics are.

    Args:
        runs: folders of runs, whose images must still be where they were.
        images: at most so many held-out images, training images and samples; Frechet distances of different numbers
            do not compare.
        resolution: side in pixels at which the feature network sees the images, a multiple of 32; 64 costs half of 96.
        tested: at most so many images of each set enter the two-sample tests.
        permutations: of the two-sample tests.
        window: side of the Gaussian window of SSIM in pixels; smaller for images smaller than 11 px.
        parzen: Parzen-window log-likelihood too.
        seed: of samples and intervals; the same seed gives the same result.
        json: print JSON instead of a table.
    """
    from ssimgen._reading import read_config
    from ssimgen.report.results import fault_of
    from ssimgen.runs import EvaluationOptions, evaluate_run

    if not runs:
        raise ValueError("name one or more folders of runs to evaluate")
    options = EvaluationOptions(images, resolution, tested, permutations, window, parzen, seed=seed)
    for run in runs:
        read_config(run)  # all of them, before any work is done
    with progress_bar() as progress:
        task = progress.add_task("evaluating", total=len(runs))
        found = []
        for run in runs:
            progress.update(task, description=f"evaluating {run}")
            found.append(evaluate_run(run, options))
            progress.advance(task)
    for run, result in zip(runs, found, strict=True):
        (print_json if json else print_table)(run, result)
        if not json and (fault := fault_of(result, read_config(run))):
            note(f"{run} cannot be compared: {fault}")


def print_table(path: Path, result: Evaluation) -> None:
    """Print the scores of a run as a table."""
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 150)
    table = Table(title=f"{path}, after {result.iteration:,} iterations; features: {result.network}")
    table.add_column("metric")
    for heading in ("value", "95% interval", "real images", "95% interval", "best", "n"):
        table.add_column(heading, justify="right", no_wrap=True)
    kind = None
    for row in result.rows:
        if row.kind != kind:
            kind = row.kind
            table.add_section()
        ours = _cells(row.value, row.low, row.high)
        real = _cells(row.reference, row.reference_low, row.reference_high)
        best = "as real" if row.better == "reference" else row.better
        table.add_row(scores.read(row.metric).short(result.network), *ours, *real, best, str(row.n))
    console.print(table)
    for row in result.rows:
        if row.value is None and row.note:
            console.print(f"{row.metric}: no score, as {row.note}", soft_wrap=True)
    for sentence in left_out(result.judges):
        console.print(sentence, soft_wrap=True)


def print_json(path: Path, result: Evaluation) -> None:
    """Print an evaluation as one JSON object on a line."""
    print(json.dumps({"run": str(path), **asdict(result)}))


def _cells(value: float | None, low: float | None, high: float | None) -> list[str]:
    """A value and its interval; nothing for what there is not."""
    interval = "" if low is None or high is None else f"{low:.4g} to {high:.4g}"
    return ["" if value is None else f"{value:.4g}", interval]
