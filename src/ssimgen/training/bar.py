"""The progress bar of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column


@contextmanager
def progress_bar(
    name: str, total: float, done: float, *, visible: bool
) -> Iterator[Callable[[float, Mapping[str, float]], None]]:
    """A bar with the latest terms; yields what to call after each iteration with how much is done.

    Where no terminal is, as in a log, it is one line at the end. Nothing is cut: terms go on below each other.
    """
    console = Console()
    console.width -= 1  # the last column stays free, or what a terminal echoes (^C) breaks the line and stays
    columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn())
    terms_column = TextColumn("{task.fields[terms]}", markup=False, table_column=Column(ratio=1))
    live = visible and console.is_terminal
    terms = ""
    with Progress(*columns, terms_column, console=console, disable=not live, expand=True) as progress:
        task = progress.add_task(name, total=total, completed=int(done), terms="")

        def advance(now: float, values: Mapping[str, float]) -> None:
            nonlocal done, terms
            done = now
            terms = "  ".join(f"{key.split('/')[-1]} {value:.4g}" for key, value in values.items())
            progress.update(task, completed=done, terms=terms)

        try:
            yield advance
        finally:
            if visible and not live:
                print(f"{name} {done:.0f}/{total}  {terms}".rstrip())
