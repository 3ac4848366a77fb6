"""The tables of a study as files."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ssimgen._files import write_atomically
from ssimgen.report.endpoints import PRIMARIES, Endpoint, endpoints, table
from ssimgen.report.folders import read_runs
from ssimgen.report.results import RESULTS, Entry, Result, records_of
from ssimgen.report.summary import MATCHED, SUMMARY, matched, summary
from ssimgen.study.execution import finished_folders
from ssimgen.study.plan import Plan
from ssimgen.study.search import TRIALS, results_of_trials


def results(plan: Plan, output: Path) -> list[Result]:
    """The results of a study: one record a finished run and metric.

    Example:
        >>> from pathlib import Path
        >>> from ssimgen.study import make_plan, results
        >>> models = {"vae": {"variants": {"l2": {"options": {"objective": "l2"}, "sweep": {"tau": [0.01, 0.1]}}}}}
        >>> plan = make_plan({"data": {"digits": {"data": "mnist5k"}}, "models": models}, "taus")
        >>> results(plan, Path("study"))  # nothing is trained yet
        []
    """
    records = []
    for folders in finished_folders(plan, output).values():
        for record in records_of(read_runs(folders)):
            folder = str(Path(record.folder).relative_to(output))
            records.append(replace(record, study=plan.name, folder=folder))
    return records


class Tables(NamedTuple):
    """What the tables of a study hold.

    Attributes:
        results: one record a finished run and metric.
        primaries: the primary comparisons, without verdicts while a run is missing.

    Example:
        >>> from ssimgen.study.export import Tables
        >>> Tables([], []).primaries
        []
    """

    results: list[Result]
    primaries: list[Endpoint]


def write_tables(plan: Plan, output: Path) -> Tables:
    """results.csv, summary.csv, matched.csv and, where the study named primary endpoints, primaries.csv in `output`;
    and .parquet, where pandas and pyarrow are there.

    Returns the lines of the first and of the last.

    Example:
        >>> from pathlib import Path
        >>> from ssimgen.study import make_plan, write_tables
        >>> models = {"vae": {"variants": {"l2": {"options": {"objective": "l2"}, "sweep": {"tau": [0.01, 0.1]}}}}}
        >>> plan = make_plan({"data": {"digits": {"data": "mnist5k"}}, "models": models}, "taus")
        >>> write_tables(plan, Path("."))  # nothing is trained yet
        Tables(results=[], primaries=[])
        >>> Path("results.csv").read_text()[:16]
        'study,data,group'
    """
    records = results(plan, output)
    _write(output / "results", records, RESULTS)
    _write(output / "summary", summary(records), SUMMARY)
    _write(output / "matched", matched(records, plan.rates), MATCHED)
    if plan.trials:
        trials = [vars(trial) for trial in results_of_trials(plan, output)]
        _write_rows(output / "search", trials, TRIALS)
    done = sum(map(len, finished_folders(plan, output).values()))
    missing = "" if done == len(plan.runs) else "runs of the study are missing"
    primaries = endpoints(records, plan.rates, missing=missing)
    if primaries:
        _write_rows(output / "primaries", table(primaries), PRIMARIES)
    return Tables(records, primaries)


def _write(path: Path, records: Sequence[Entry], columns: Sequence[str]) -> None:
    _write_rows(path, [{column: getattr(record, column) for column in columns} for record in records], columns)


def _write_rows(path: Path, rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> None:
    _write_csv(path.with_suffix(".csv"), rows, columns)
    _write_parquet(path.with_suffix(".parquet"), rows, columns)


def _write_csv(path: Path, rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))


def _write_parquet(path: Path, rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> None:
    try:
        import pandas
        import pyarrow  # noqa: F401 - what pandas writes with
    except ModuleNotFoundError:
        return
    frame = pandas.DataFrame(rows, columns=list(columns))
    write_atomically(path, lambda file: frame.to_parquet(file, index=False))
