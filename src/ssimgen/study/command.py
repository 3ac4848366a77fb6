"""What `ssimgen study` shows and leaves."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ssimgen.report import Verdict, write_report
from ssimgen.report.tables import Record
from ssimgen.study.execution import Outcome, Stopped, finished_folders, is_finished, run_study
from ssimgen.study.plan import Plan, PlannedRun
from ssimgen.study.tables import write_tables

_NAMED = 12  # missing runs


def list_runs(plan: Plan, output: Path) -> None:
    """Print every run and whether it is finished."""
    done = [is_finished(run, output, plan.evaluation) for run in plan.runs]
    for run, finished in zip(plan.runs, done, strict=True):
        print(f"{'finished' if finished else 'to do':<9} {run.folder}")
    print(f"{sum(done)} of {len(done)} runs are finished")


def run_and_report(plan: Plan, output: Path, *, budget: float | None, parallel: int) -> dict[str, list[Record]]:
    """Carry out a study and write its tables and a report for each set of images.

    Raises:
        ValueError: runs failed; tables and reports of the others are written all the same.
        Stopped: a signal came; likewise.
    """
    stopped = None
    try:
        outcomes = carry_on(plan, output, budget=budget, parallel=parallel)
    except Stopped as stop:
        stopped, outcomes = stop, stop.outcomes
    tables = write_tables(plan, output)
    for path in write_reports(plan, output):
        print(f"report: {path}")
    print(f"tables: {output / 'results.csv'}, summary.csv, matched.csv")
    complain(plan, outcomes)
    if stopped is not None:
        raise stopped
    return tables


def carry_on(plan: Plan, output: Path, *, budget: float | None, parallel: int) -> list[Outcome]:
    """Carry out a study, with a progress bar."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(plan.name, total=len(plan.runs))

        def report(outcome: Outcome) -> None:
            if outcome.status != "skipped":
                line = f"{outcome.status:<9} {outcome.run.folder}" + (f": {outcome.message}" if outcome.message else "")
                progress.console.print(line, highlight=False, markup=False, soft_wrap=True)
            progress.advance(task)

        return run_study(plan, output, budget=budget, parallel=parallel, report=report)


def write_reports(plan: Plan, output: Path) -> list[Path]:
    """A report for each set of images with finished runs."""
    return [
        write_report(
            folders,
            output / "report" / data,
            title=f"{plan.name}: {data}",
            rates=plan.rates,
            verdict=_unfinished([run for run in plan.runs if run.data == data], output, folders),
        )
        for data, folders in finished_folders(plan, output).items()
    ]


def _unfinished(runs: list[PlannedRun], output: Path, finished: list[Path]) -> Verdict | None:
    """What stands first on a report while runs are missing."""
    missing = [run for run in runs if output / run.folder not in finished]
    if not missing:
        return None
    named = ", ".join(f"{run.group} {run.arm} seed {run.seed}" for run in missing[:_NAMED])
    more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    return Verdict(
        "Unfinished: no conclusion",
        (f"{len(finished)} of {len(runs)} runs are finished. Missing: {named}{more}.",),
    )


def complain(plan: Plan, outcomes: list[Outcome]) -> None:
    """Say how far the study has come; raise if runs failed."""
    counts = Counter(outcome.status for outcome in outcomes)
    done = counts["finished"] + counts["skipped"]
    if done < len(plan.runs):
        print(
            f"{done} of {len(plan.runs)} runs are finished; the same command goes on with the others", file=sys.stderr
        )
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    if failed:
        raise ValueError(f"{len(failed)} runs failed, the first, {failed[0].run.folder}, because {failed[0].message}")
