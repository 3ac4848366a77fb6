"""The command `ssimgen report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from ssimgen.commands.common import command, note


@command
def report(
    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUNS")],
    /,
    *,
    output: Annotated[Path, arg(aliases=("-o",))] = Path("report"),
    title: str = "",
    baseline: str = "",
) -> None:
    """Write a report of runs on the same images: one HTML file, which needs no network.

    Runs must have been evaluated (ssimgen evaluate). Those that differ only by their seed are taken together.

    Args:
        runs: folders of runs, or folders with runs somewhere below them.
        output: folder; the report is index.html in it.
        title: of the report.
        baseline: name, or part of it, of the runs with which others are compared.
    """
    from ssimgen.report import write_report
    from ssimgen.report.folders import run_folders
    from ssimgen.runs import add_checks

    add_checks(run_folders(runs), note)
    path = write_report(runs, output, title=title, baseline=baseline)
    print(f"the report is {path}")
