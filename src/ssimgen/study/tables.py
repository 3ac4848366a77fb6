"""The tables of a study as files."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from ssimgen._files import write_atomically
from ssimgen.report.folders import read_runs
from ssimgen.report.tables import MATCHED, RESULTS, SUMMARY, Record, matched, records_of, summary
from ssimgen.study.execution import finished_folders
from ssimgen.study.plan import Plan


def results(plan: Plan, output: Path) -> list[Record]:
    """One record a finished run and metric."""
    records = []
    for folders in finished_folders(plan, output).values():
        for record in records_of(read_runs(folders)):
            folder = str(Path(record["folder"]).relative_to(output))
            records.append({**record, "study": plan.name, "folder": folder})
    return records


def write_tables(plan: Plan, output: Path) -> dict[str, list[Record]]:
    """results.csv, summary.csv and matched.csv (and .parquet, where pandas and pyarrow are there) in `output`."""
    records = results(plan, output)
    tables = {"results": records, "summary": summary(records), "matched": matched(records, plan.rates)}
    for (name, rows), columns in zip(tables.items(), (RESULTS, SUMMARY, MATCHED), strict=True):
        _write(output / f"{name}.csv", rows, columns)
        _write_parquet(output / f"{name}.parquet", rows, columns)
    return tables


def _write(path: Path, rows: Sequence[Record], columns: Sequence[str]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))


def _write_parquet(path: Path, rows: Sequence[Record], columns: Sequence[str]) -> None:
    try:
        import pandas
        import pyarrow  # noqa: F401 - what pandas writes with
    except ModuleNotFoundError:
        return
    frame = pandas.DataFrame([{key: row.get(key) for key in columns} for row in rows], columns=list(columns))
    write_atomically(path, lambda file: frame.to_parquet(file, index=False))
