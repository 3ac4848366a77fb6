"""How options and results are shown: in one line, and as tables in notebooks."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from html import escape


def listed(options: Mapping[str, object]) -> str:
    """Options as they are passed by name, in one line."""
    return ", ".join(f"{name}={' '.join(repr(value).split())}" for name, value in options.items())


def attributes(record: object, *names: str) -> str:
    """Some attributes of an object, as :func:`listed`."""
    return listed({name: getattr(record, name) for name in names})


def options(made: object) -> str:
    """The options that an object was made with and keeps under their names, as :func:`listed`."""
    names = [name for name in inspect.signature(type(made)).parameters if hasattr(made, name)]
    return attributes(made, *names)


def call(name: str, *arguments: object, **options: object) -> str:
    """The call of a function, as code."""
    return f"{name}({', '.join(filter(None, [*map(repr, arguments), listed(options)]))})"


def html_table(title: str, rows: Iterable[Sequence[object]], head: Sequence[str] = ()) -> str:
    """A table for notebooks; numbers to four digits, None as nothing."""
    lines = [f"<caption>{escape(title)}</caption>"]
    if head:
        lines.append("<tr>" + "".join(f"<th>{escape(name)}</th>" for name in head) + "</tr>")
    lines += ["<tr>" + "".join(f"<td>{escape(_text(cell))}</td>" for cell in row) + "</tr>" for row in rows]
    return f"<table>{''.join(lines)}</table>"


def _text(cell: object) -> str:
    if cell is None:
        return ""
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def first_line(error: BaseException) -> str:
    """What an error says first, or what it is, if it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]
