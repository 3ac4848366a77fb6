"""The command `ssimgen study`: what is listed, and the tables and reports that a study leaves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from ssimgen._judged import left_out
from ssimgen.commands.common import command, note

if TYPE_CHECKING:
    from ssimgen.report import Verdict
    from ssimgen.study import Outcome, Plan, PlannedRun
    from ssimgen.study.export import Tables

_NAMED = 12  # missing runs


@command
def study(
    file: Annotated[Positional[Path | None], arg(metavar="FILE")] = None,
    /,
    *,
    output: Annotated[Path, arg(aliases=("-o",))] = Path("study"),
    budget: float | None = None,
    parallel: int = 1,
    list: bool = False,
    quick: bool = False,
    data: str | None = None,
    size: int | None = None,
    grey: bool = False,
    seeds: int = 3,
) -> None:
    """Carry out a study: many runs from one file, their tables and a report.

    Runs that are finished are skipped and interrupted ones go on, so that the same command continues a study.
    docs/study.md describes the file. With --quick there is no file: an autoencoder is trained on your images with l2
    and with structural errors, as long as the budget allows, and the report says whether structure helps.

    Args:
        file: the study file (TOML).
        output: folder of runs, tables (results.csv, summary.csv, matched.csv) and reports.
        budget: minutes; then running ones write a checkpoint and stop. None: no limit, with --quick 20.
        parallel: processes that train at the same time.
        list: only list the runs and whether they are finished.
        quick: does structure help on the images of --data?
        data: with --quick: the images, as for ssimgen train.
        size: with --quick: scale and crop all images to this side in pixels.
        grey: with --quick: turn colours into grey first.
        seeds: with --quick: how often each is repeated.
    """
    from ssimgen.data import Source
    from ssimgen.study import read_plan
    from ssimgen.study.quick import quick_study

    if quick:
        if data is None or file is not None:
            raise ValueError(
                "--quick takes its images from --data, and no study file: ssimgen study --quick --data FOLDER"
            )
        quick_study(
            Source(data, size=size, grey=grey),
            output,
            budget=20.0 if budget is None else budget,
            parallel=parallel,
            seeds=seeds,
        )
        return
    if file is None:
        raise ValueError("name a study file, or ask for --quick --data FOLDER; docs/study.md describes the file")
    if data is not None or size is not None or grey:
        raise ValueError("--data, --size and --grey belong to --quick: a study file names its images itself")
    plan = read_plan(file)
    if list:
        list_runs(plan, output)
    else:
        run_and_report(plan, output, budget=budget, parallel=parallel)


def list_runs(plan: Plan, output: Path) -> None:
    """Print every run and whether it is finished."""
    from ssimgen.study.execution import is_finished

    runs = (*plan.trials, *plan.runs)
    done = [is_finished(run, output, plan.evaluation) for run in runs]
    for run, finished in zip(runs, done, strict=True):
        print(f"{'finished' if finished else 'to do':<9} {run.folder}")
    print(f"{sum(done)} of {len(done)} runs are finished")


def run_and_report(plan: Plan, output: Path, *, budget: float | None, parallel: int) -> None:
    """Carry out a study and write its tables and a report for each set of images.

    Raises:
        ValueError: runs failed; tables and reports of the others are written all the same.
        Stopped: a signal came; likewise.
    """
    from ssimgen._interruption import Stopped
    from ssimgen.runs import add_checks
    from ssimgen.study import write_tables
    from ssimgen.study.execution import finished_folders
    from ssimgen.study.progress import carry_on, say_what_is_left

    outcomes: list[Outcome] = []
    stopped = None
    try:
        carry_on(plan, output, budget=budget, parallel=parallel, report=outcomes.append)
    except Stopped as stop:
        stopped = stop
    for data, folders in finished_folders(plan, output).items():
        add_checks(folders, note)
        say_what_may_not_judge(data, folders)
    for path in write_reports(plan, output, write_tables(plan, output)):
        print(f"report: {path}")
    print(f"tables: {output / 'results.csv'}, summary.csv, matched.csv")
    say_what_is_left(plan, outcomes)
    if stopped is not None:
        raise stopped


def say_what_may_not_judge(data: str, folders: list[Path]) -> None:
    """Print which metrics are left out of every verdict on a set of images, and why."""
    from ssimgen.report.folders import read_runs
    from ssimgen.report.results import checks_of

    for sentence in left_out(checks_of(read_runs(folders)).values()):
        print(f"{data}: {sentence}")


def write_reports(plan: Plan, output: Path, tables: Tables) -> list[Path]:
    """A report for each set of images with finished runs, and what it concludes printed."""
    from ssimgen.report import write_report
    from ssimgen.report.endpoints import conclusion, faults, unnamed
    from ssimgen.study.execution import finished_folders

    paths = []
    for data, folders in finished_folders(plan, output).items():
        here = [endpoint for endpoint in tables.primaries if endpoint.row.data == data]
        verdict = _unfinished([run for run in plan.runs if run.data == data], output, folders)
        if verdict is None:
            of_data = [record for record in tables.results if record.data == data]
            verdict = conclusion(here, [*unnamed(of_data, plan.rates), *faults(of_data), *_searched(plan, data)])
        if here:
            print(f"{data}: {verdict.heading}", *verdict.sentences, sep="\n")
        title, path = f"{plan.name}: {data}", output / "report" / data
        paths.append(write_report(folders, path, title=title, rates=plan.rates, verdict=verdict, primary=here))
    return paths


def _searched(plan: Plan, data: str) -> list[str]:
    """How options were chosen, where they were searched."""
    numbers: dict[str, int] = {}
    for run in plan.trials:
        if run.data == data:
            numbers[run.group] = max(numbers.get(run.group, 0), 1 + (run.trial or 0))
    return [
        f"{data}, {group}: the options of each model are the best of {trials} random trials, judged by the primary "
        "endpoint on a part of the training images (search.csv)."
        for group, trials in numbers.items()
    ]


def _unfinished(runs: list[PlannedRun], output: Path, finished: list[Path]) -> Verdict | None:
    """What stands first on a report while runs are missing."""
    from ssimgen.report import Verdict

    missing = [run for run in runs if output / run.folder not in finished]
    if not missing:
        return None
    named = ", ".join(f"{run.group} {run.arm} seed {run.seed}" for run in missing[:_NAMED])
    more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    return Verdict(
        "Unfinished: no conclusion",
        (f"{len(finished)} of {len(runs)} runs are finished. Missing: {named}{more}.",),
    )
