"""Words of a command line as options, by tyro, and complaints in one line.

Those of tyro take half a screen; of them, what is wrong and a hint are said.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ssimgen._extras import extra
from ssimgen._options import suggestion

_KINDS = {
    "INT": "a whole number",
    "FLOAT": "a number",
    "{None}|INT": "a whole number",
    "{None}|FLOAT": "a number",
    "{None}|{[FLOAT [FLOAT ...]]}": "numbers",
}


def parse(target: Callable[..., Any], words: Sequence[str], prog: str, **options: Any) -> Any:
    """`target` made of the words, as `tyro.cli` does.

    Raises:
        ValueError: an unknown option, named with a suggestion, one that is missing, or a value that it cannot have.
        SystemExit: help was asked for, and is printed.
    """
    with extra("train", "the command ssimgen"):
        import tyro

    if {"-h", "--help"} & set(words):
        return tyro.cli(target, args=words, prog=prog, **options)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), _unwrapped():
            return tyro.cli(target, args=words, prog=prog, **options)
    except SystemExit:
        raise ValueError(f"{_in_one_line(said.getvalue())}; see {prog} --help") from None


def complain(message: str) -> int:
    """One line; the library's remedies, as in "pass size=32", become options, whose names for windows help tells."""
    line = re.sub(r"\bpass ([a-z][a-z0-9_]*)=(-?\d[\w.+-]*\b)", _as_option, " ".join(message.split()))
    line = re.sub(
        r"\bpass window=Window\.(?:gaussian|uniform)\((\d+)\)", r"take a window (see --help) of size \1", line
    )
    print(f"ssimgen: {line}", file=sys.stderr)
    return 2


def _as_option(remedy: re.Match[str]) -> str:
    name, value = remedy.groups()
    return f"pass --{name.replace('_', '-')} {value}"


@contextlib.contextmanager
def _unwrapped() -> Iterator[None]:
    """Lines as long as they are: whoever reads them here has no screen."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "10000"
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def _in_one_line(complaint: str) -> str:
    """What tyro says in a box of several parts; what is of another form than known, its first part as it is."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", complaint)
    parts: list[list[str]] = [[]]
    for line in plain.splitlines()[1:]:  # without the title; lines are between bars or, in ASCII, indented by two
        inside = line[2:].rstrip(" \N{BOX DRAWINGS LIGHT VERTICAL}\N{BOX DRAWINGS LIGHT ARC UP AND LEFT}")
        if inside.strip("-\N{BOX DRAWINGS LIGHT HORIZONTAL}"):
            parts[-1].append(inside)
        else:
            parts.append([])
    parts = [part for part in parts if part]
    first = " ".join(" ".join(parts[0]).split()) if parts else "bad options"
    for known in (_missing, _unknown, _bad_value, _bad_choice, _no_value):
        if found := known(first, parts):
            return found
    return first


def _missing(first: str, parts: list[list[str]]) -> str | None:
    if not first.startswith("Missing from "):
        return None
    names = [re.sub(r"^-\w [^ ]+, ", "", line.strip()) for line in parts[0] if re.match(r" {4}\S", line)]
    return f"missing: {', '.join(names)}"


def _unknown(first: str, parts: list[list[str]]) -> str | None:
    tokens = first.removeprefix("Unrecognized options: ")
    if tokens == first:
        return None
    unknown = [word for word in tokens.split(", ") if word.startswith("-")]
    if not unknown:
        return f"one word too many: {tokens.split(', ')[0]!r}"
    close = [
        n for part in parts[1:-1] for line in part if line[:4] == "    " for n in re.findall(r"--[\w.-]+", line)[:1]
    ]
    return f"unknown option {unknown[0]}{suggestion(unknown[0], close)}"


def _bad_value(first: str, parts: list[list[str]]) -> str | None:
    match = re.match(r"Error parsing (\S+): (.*)", first)
    if match is None:
        return None
    option, reason = match[1].split("/")[-1], match[2]
    about = next((line.split(option)[-1].strip() for part in parts[1:] for line in part if option in line), "")
    value = re.search(r"(?:from \[|arguments: \[|: )('[^']*')", reason)
    if value is None or not about:
        return f"{option}: {reason}"
    return f"{option} must be {_KINDS.get(about, about)}, got {value[1]}"


def _bad_choice(first: str, _: list[list[str]]) -> str | None:
    match = re.match(r"invalid choice ('.*') for argument '(\S+)'\. Expected one of \((.*?),?\)\.$", first)
    if match is None:
        return None
    value, option, choices = match.groups()
    return f"{option.split('/')[-1]} must be one of {choices}, got {value}" + suggestion(
        value.strip("'"), re.findall(r"'([^']*)'", choices)
    )


def _no_value(first: str, _: list[list[str]]) -> str | None:
    match = re.match(r"Missing value for argument '(\S+)'", first)
    return f"{match[1].split('/')[-1]} needs a value" if match else None
