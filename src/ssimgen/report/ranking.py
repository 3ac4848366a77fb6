"""Models by rows, metrics by columns, the best model first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ssimgen.report.arms import Arm
from ssimgen.report.summary import Summary, rank_key
from ssimgen.scores import RANKED_BY, RATE, Score

_RATE = Score(RATE)


@dataclass(frozen=True)
class Column:
    """A metric: which value is best ("" where models are not ranked by it), the best there is, that of real images, and
    whether it may not judge models of these images."""

    score: Score
    better: str
    best: float | None
    reference: float | None
    unfit: bool = False


@dataclass(frozen=True)
class Line:
    """An arm: its cells, one a column, None where it has no value."""

    label: str
    seeds: int
    baseline: bool
    cells: tuple[Summary | None, ...]


@dataclass(frozen=True)
class Ranking:
    """Metrics of one kind; `by` is the column by which lines are sorted, None if no metric may judge, and `rated`
    whether the rate is among them."""

    kind: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    by: int | None
    rated: bool


def ranking(kind: str, summary: Sequence[Summary], arms: Sequence[Arm]) -> Ranking | None:
    """A table of one kind of metrics: arms by rows, best first; None without metrics of that kind."""
    rows = [row for row in summary if row.kind in (kind, "rate") and row.score.metric.ranked]
    if not any(row.kind == kind for row in rows):
        return None
    by_score: dict[Score, list[Summary]] = {}
    for row in rows:
        by_score.setdefault(row.score, []).append(row)
    rate = by_score.pop(_RATE, None)
    if rate and kind == "reconstruction":
        by_score = {_RATE: rate, **by_score}
    columns = tuple(_column(score, of_score) for score, of_score in by_score.items())
    by = first_judge(kind, columns)
    if by is None and not has_judge(kind, columns):
        by = len(columns) - 1
    cells = {(row.group, row.variant, row.point, row.score): row for row in rows}
    lines = []
    for arm in arms:
        line = tuple(cells.get((arm.group, arm.variant, arm.point, column.score)) for column in columns)
        if any(line):
            lines.append(Line(arm.label, len(arm.runs), arm.baseline, line))
    if by is not None:
        lines.sort(key=lambda line: rank_key(line.cells[by]))
    return Ranking(kind, columns, tuple(lines), by, _RATE in by_score)


def first_judge(kind: str, columns: Sequence[Column | Summary]) -> int | None:
    """The column by which models are ranked: of the first neutral judge that is fit."""
    fit = {column.score.key: i for i, column in enumerate(columns) if not column.unfit}
    return next((fit[key] for key in RANKED_BY[kind] if key in fit), None)


def has_judge(kind: str, columns: Sequence[Column | Summary]) -> bool:
    """Whether a neutral judge is among the columns, fit or not."""
    return any(column.score.key in RANKED_BY[kind] for column in columns)


def _column(score: Score, rows: Sequence[Summary]) -> Column:
    reference = next((row.reference for row in rows if row.reference is not None), None)
    if score == _RATE:
        return Column(score, "", None, reference)
    unfit = bool(rows[0].unfit)
    return Column(score, rows[0].better, None if unfit else _best(rows), reference, unfit)


def _best(rows: Sequence[Summary]) -> float | None:
    if len({row.value for row in rows}) < 2:  # nothing to choose from
        return None
    return min(rows, key=rank_key).value
