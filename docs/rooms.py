"""The drawing of docs/architecture.md, made from the imports and docstrings of the code: `python docs/rooms.py`.

A room is a module or a package of `ssimgen`. It stands one row above the highest room that it imports from, so that
everything is built of what is drawn below it.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from functools import cache
from html import escape
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "ssimgen"
DRAWING = ROOT / "docs" / "rooms.svg"

WIDTH, MARGIN, GAP = 960, 12, 8
BOX, HEIGHT = 226, 62  # of a room with a description
SMALL, LOW = 108, 24  # of a room with an underscore, which has its name alone
LETTERS = 40  # of a description in a line


@cache
def rooms() -> dict[str, list[Path]]:
    """The files of each room."""
    found: dict[str, list[Path]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        found.setdefault("ssimgen" if name == "__init__" else name, []).append(path)
    return found


@cache
def imports(room: str) -> frozenset[str]:
    """The other rooms that a room imports from, inside functions too."""
    return frozenset(name for path in rooms()[room] for name in _imported(path)) - {room}


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            targets = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for first, *rest in (target.split(".") for target in targets):
            if first == "ssimgen":
                yield rest[0] if rest and rest[0] in rooms() else "ssimgen"


@cache
def row(room: str) -> int:
    """How many rooms stand below each other under this one, at most."""
    return max((row(below) + 1 for below in imports(room)), default=0)


def purpose(room: str) -> str:
    """The first sentence of a room's docstring."""
    path = next((path for path in rooms()[room] if path.name == "__init__.py"), rooms()[room][0])
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return re.sub(r":\w+:(?=`)|`", "", " ".join(text.split("\n\n")[0].split()))


def drawing() -> str:
    """The SVG."""
    shapes, top = [], MARGIN
    for level in range(max(map(row, rooms())), -1, -1):
        members = sorted((room for room in rooms() if row(room) == level), key=lambda room: (room[0] == "_", room))
        for line in _lines(members):
            left = MARGIN
            for room in line:
                width, height = _size(room)
                shapes.append(_box(room, left, top, width, height))
                left += width + GAP
            top += max(_size(room)[1] for room in line) + GAP
        top += GAP
        shapes.append(f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{top - GAP}" y2="{top - GAP}" stroke="#ddd"/>')
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}" '
            'font-family="sans-serif" role="img">',
            "<title>The rooms of ssimgen: each imports only from those below it</title>",
            f'<rect width="{WIDTH}" height="{top}" fill="white"/>',
            *shapes,
            "</svg>",
            "",
        ]
    )


def _size(room: str) -> tuple[int, int]:
    return (SMALL, LOW) if room.startswith("_") else (BOX, HEIGHT)


def _lines(members: list[str]) -> Iterator[list[str]]:
    """Rooms of one row, as many side by side as fit."""
    line: list[str] = []
    for room in members:
        if line and sum(_size(other)[0] + GAP for other in [*line, room]) > WIDTH - 2 * MARGIN + GAP:
            yield line
            line = []
        line.append(room)
    yield line


def _box(room: str, left: int, top: int, width: int, height: int) -> str:
    small = room.startswith("_")
    fill = "#f4f4f4" if small else "#e8f0fa" if len(rooms()[room]) > 1 else "#f7fafd"
    shape = f'<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="4" fill="{fill}" stroke="#9ab"/>'
    size, weight = (10, "normal") if small else (13, "bold")
    name = f'<text x="{left + 7}" y="{top + 16}" font-size="{size}" font-weight="{weight}">{escape(room)}</text>'
    if small:
        return f"<g><title>{escape(purpose(room))}</title>{shape}{name}</g>"
    words = textwrap.wrap(purpose(room), LETTERS, max_lines=3, placeholder=" …")
    text = "".join(
        f'<text x="{left + 7}" y="{top + 30 + 12 * i}" font-size="10" fill="#333">{escape(line)}</text>'
        for i, line in enumerate(words)
    )
    return f"<g><title>{escape(purpose(room))}</title>{shape}{name}{text}</g>"


if __name__ == "__main__":
    DRAWING.write_text(drawing())
