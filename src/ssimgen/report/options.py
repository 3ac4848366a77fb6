"""The options of a report: in which those of models differ, and which they share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ssimgen.report.arms import Group
from ssimgen.report.results import differing_options

_NONE = "-"


@dataclass(frozen=True)
class Line:
    """The options of an arm or of a group: each value, and whether it is unusual."""

    label: str
    baseline: bool
    cells: tuple[tuple[str, bool], ...]


@dataclass(frozen=True)
class OptionTable:
    """The options in which lines differ, a column each, and those that they share, by name."""

    group: str
    names: tuple[str, ...]
    lines: tuple[Line, ...]
    shared: Mapping[str, str] = field(default_factory=dict)


def options_of(group: Group) -> OptionTable:
    """Options in which the arms of a group differ, an arm a line, and those that they share."""
    runs = [arm.runs[0] for arm in group.arms]
    names = differing_options(runs)
    columns = [_marked([_shown(run.options.get(name)) for run in runs]) for name in names]
    lines = tuple(
        Line(arm.name, arm.baseline, tuple(column[i] for column in columns)) for i, arm in enumerate(group.arms)
    )
    shared = {name: _shown(value) for name, value in runs[0].options.items() if name not in names}
    return OptionTable(group.name, tuple(names), lines, shared)


def options_between(groups: Sequence[Group]) -> OptionTable:
    """Options that every group has one value of, but not the same."""
    found: dict[str, list[str]] = {}
    for name in groups[0].arms[0].runs[0].options:
        values = [{_shown(arm.runs[0].options.get(name)) for arm in group.arms} for group in groups]
        if all(len(each) == 1 and each != {_NONE} for each in values):
            found[name] = [next(iter(each)) for each in values]
    names = [name for name, values in found.items() if len(set(values)) > 1]
    columns = [_marked(found[name]) for name in names]
    lines = tuple(Line(group.name, False, tuple(column[i] for column in columns)) for i, group in enumerate(groups))
    return OptionTable("", tuple(names), lines)


def _marked(values: Sequence[str]) -> list[tuple[str, bool]]:
    """Each value, and whether it differs from that which half of them or more have."""
    given = [value for value in values if value != _NONE] or list(values)
    usual = max(dict.fromkeys(given), key=given.count)
    if 2 * given.count(usual) < len(given):
        return [(value, value != _NONE) for value in values]
    return [(value, value not in (usual, _NONE)) for value in values]


def _shown(value: Any) -> str:
    if value is None:
        return _NONE
    return value if isinstance(value, str) else json.dumps(value)
