"""How a study is seen to go on: a progress bar, a line for each run, and what is left to do."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ssimgen.study.execution import run_study
from ssimgen.study.plan import Plan
from ssimgen.study.run import Outcome


def carry_on(
    plan: Plan,
    output: Path,
    *,
    budget: float | None,
    parallel: int,
    report: Callable[[Outcome], object] = lambda _: None,
) -> list[Outcome]:
    """Carry out a study, as :func:`run_study`, with a progress bar."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(plan.name, total=len(plan.trials) + len(plan.runs))

        def shown(outcome: Outcome) -> None:
            if outcome.status != "skipped":
                line = f"{outcome.status:<9} {outcome.run.folder}" + (f": {outcome.message}" if outcome.message else "")
                progress.console.print(line, highlight=False, markup=False, soft_wrap=True)
            progress.advance(task)
            report(outcome)

        return run_study(plan, output, budget=budget, parallel=parallel, report=shown)


def say_what_is_left(plan: Plan, outcomes: list[Outcome]) -> None:
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
