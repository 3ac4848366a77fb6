"""Comparisons with the baseline as tables: models by rows, metrics by columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ssimgen import scores
from ssimgen.report.ranking import first_judge, has_judge
from ssimgen.report.summary import Summary, rank_key
from ssimgen.scores import Score


@dataclass(frozen=True)
class Line:
    """A model: its cells, one a column, None where it has no value."""

    label: str
    baseline: bool
    cells: tuple[Summary | None, ...]


@dataclass(frozen=True)
class Comparison:
    """A table of a group, at a rate if `rate` is not None; `place` is the column by which it is sorted, None if no
    metric may judge."""

    group: str
    rate: float | None
    columns: tuple[Summary, ...]
    lines: tuple[Line, ...]
    place: int | None

    @property
    def seeds(self) -> str:
        """How many seeds a value is the mean of: "3", or "2 to 3"."""
        counts = sorted({cell.seeds for line in self.lines for cell in line.cells if cell})
        return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def comparisons(rows: Sequence[Summary], label: Callable[[Summary], str]) -> list[Comparison]:
    """One table for each group and rate of `rows`, which are of a summary or at matched rates.

    Lines without a comparison are left out, but for the baseline that the others are compared with.
    """
    found: dict[tuple[str, float | None], list[Summary]] = {}
    for row in rows:
        if row.score.metric.ranked:
            found.setdefault((row.group, row.rate), []).append(row)
    tables = [_table(group, rate, block, label) for (group, rate), block in found.items()]
    return [table for table in tables if any(not line.baseline for line in table.lines)]


def _table(group: str, rate: float | None, rows: Sequence[Summary], label: Callable[[Summary], str]) -> Comparison:
    keyed = {(row.variant, row.point, row.kind, row.score): row for row in rows}
    points = {row.point for row in rows if row.difference is not None}
    columns: dict[tuple[str, Score], Summary] = {}
    lines: dict[tuple[str, str], str] = {}
    for row in rows:
        key = (row.variant, row.point)
        if row.difference is not None or rate is not None or (_is_baseline(row) and key[1] in points):
            lines.setdefault(key, label(row))
            columns.setdefault((row.kind, row.score), row)
    place = _place(list(columns.values()))
    filled = [
        Line(name, key[0] == rows[0].baseline, tuple(keyed.get((*key, *column)) for column in columns))
        for key, name in lines.items()
    ]
    if place is not None:
        filled.sort(key=lambda line: rank_key(line.cells[place]))
    return Comparison(group, rate, tuple(columns.values()), tuple(filled), place)


def _is_baseline(row: Summary) -> bool:
    return bool(row.baseline) and row.baseline == row.variant


def _place(columns: Sequence[Summary]) -> int | None:
    """The column that judges best: a neutral one, of reconstructions if there are any; the first without such."""
    of_kinds = {kind: [row for row in columns if row.kind == kind] for kind in scores.RANKED_BY}
    for kind, of_kind in of_kinds.items():
        found = first_judge(kind, of_kind)
        if found is not None:
            return columns.index(of_kind[found])
    return None if any(has_judge(kind, of_kind) for kind, of_kind in of_kinds.items()) else 0
