"""Files read and checked: config.json, evaluation.json and metrics.jsonl of a run, and files of options. No PyTorch.

Whatever they hold, the answer is content of the form that is written, or a ValueError of one line that names the file,
the place in it, and what is wrong there.
"""

from __future__ import annotations

import math
import reprlib
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, get_args

from ssimgen._files import parse_json
from ssimgen._judged import JudgeCheck
from ssimgen._options import from_mapping
from ssimgen.scores import Better, Kind

CONFIG, EVALUATION, METRICS = "config.json", "evaluation.json", "metrics.jsonl"
FORMAT = 1  # of evaluation.json

_DEEPEST = 32  # tables and lists within each other
_GREATEST = 1e100  # squares of numbers up to this, and sums of them, are numbers

# A form is a type, or several of which any will do; a set of texts, one of which it is; a list with the form of all its
# items; or a table of the forms of keys, of which those that end in "?" may be missing. Other keys may hold anything.
_NUMBER = (float, int)
_OPTIONAL = (float, int, type(None))
_CONFIG = {
    "model": str,
    "shape": [int],
    "config": dict,
    "training": {"seed": int, "iterations": int},
    "optimiser": dict,
    "data": {"source": str, "images": int, "hash": str},
    "source?": dict,
    "hardware?": dict,
    "evaluate_every?": int,
    "versions?": dict,
    "study?": {
        "data?": str,
        "group": str,
        "variant": str,
        "point": dict,
        "arm": str,
        "baseline?": str,
        "primary?": str,
    },
}
_ROW = {
    "kind": set(get_args(Kind)),
    "metric": str,
    "value": _OPTIONAL,
    "low": _OPTIONAL,
    "high": _OPTIONAL,
    "reference": _OPTIONAL,
    "reference_low?": _OPTIONAL,
    "reference_high?": _OPTIONAL,
    "n": int,
    "better": set(get_args(Better)),
    "note?": str,
}
_EVALUATION = {
    "iteration": int,
    "options": {"images": int},
    "network": (str, type(None)),
    "data": {"train": str, "held_out": str},
    "rows": [_ROW],
    "judges?": [dict],
    "worst?": [int],
    "collapsed?": str,
    "seconds?": _NUMBER,
    "versions?": dict,
}
_LINE = {"iteration": int, "seconds": _NUMBER}
_NAMES = {
    str: "a text", dict: "a table", list: "a list", int: "a whole number", _NUMBER: "a number",
    _OPTIONAL: "a number or null", (str, type(None)): "a text or null",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """One metric of a run, as evaluation.json has it: ends of intervals, and values, are None where there is none.

    Attributes:
        kind: what is scored: "rate", "reconstruction" or "samples".
        metric: its label.
        value, low, high: of the model, with its interval.
        reference, reference_low, reference_high: of real images in its place.
        n: how many of the model's images the value is of.
        better: "higher", "lower", or "reference" if the best value is that of real images.
        note: what else it depends on, or why there is no value.

    Example:
        >>> from ssimgen.runs import ScoreRow
        >>> row = ScoreRow(
        ...     kind="reconstruction", metric="SSIM", value=0.8, low=0.7, high=0.9, reference=0.5, n=20, better="higher"
        ... )
        >>> row.value > row.reference
        True
    """

    kind: Kind
    metric: str
    value: float | None
    low: float | None
    high: float | None
    reference: float | None
    reference_low: float | None = None
    reference_high: float | None = None
    n: int
    better: Better
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The scores of a run, as evaluation.json has them.

    Attributes:
        format: of the file.
        iteration: after how many the model was scored.
        options: of the evaluation; scores compare only where they are equal.
        network: name of that which the features are of.
        data: hashes of the training and the held-out images.
        rows: one a metric.
        judges: which of the metrics may judge models of these images; empty in a file of an earlier version.
        worst: places of the held-out images that come back worst, worst first.
        collapsed: in what way the model draws, or returns, one and the same for everything; "" if it does not.
        seconds: how long it took.
        versions: of what the numbers depend on.

    Example:
        >>> from ssimgen.runs import Evaluation, ScoreRow
        >>> row = ScoreRow(
        ...     kind="reconstruction", metric="SSIM", value=0.8, low=0.7, high=0.9, reference=0.5, n=20, better="higher"
        ... )
        >>> found = Evaluation(iteration=3000, options={"images": 20}, network=None, data={}, rows=(row,))
        >>> {row.metric: row.value for row in found.rows}
        {'SSIM': 0.8}
    """

    format: int = FORMAT
    iteration: int
    options: Mapping[str, Any]
    network: str | None
    data: Mapping[str, str]
    rows: tuple[ScoreRow, ...]
    judges: tuple[JudgeCheck, ...] = ()
    worst: tuple[int, ...] = ()
    collapsed: str = ""
    seconds: float | None = None
    versions: Mapping[str, str] = field(default_factory=dict)


T = TypeVar("T", ScoreRow, Evaluation)

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxlong = _repr.maxother = 70
_shown = _repr.repr


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of the run in `folder`.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    if not (folder / CONFIG).exists():
        raise ValueError(f"{folder} holds no run: {CONFIG} is missing")
    return _read(folder / CONFIG, _CONFIG, "train the run again, or leave it out")


def read_evaluation(folder: Path) -> Evaluation:
    """The evaluation of the run in `folder`.

    Raises:
        ValueError: there is none, or it is damaged or of another version.
    """
    path, remedy = folder / EVALUATION, "evaluate the run again"
    if not path.exists():
        raise ValueError(f"{folder} has not been evaluated: ssimgen evaluate {folder}")
    content = _read(path, dict, remedy)
    found = content.get("format")
    if found != FORMAT:
        raise ValueError(f"{path} has format {_shown(found)}, this version of ssimgen reads {FORMAT}: {remedy}")
    with _about(path, remedy):
        _check(content, _EVALUATION, "")
        if not content["rows"]:
            raise ValueError("'rows' is empty")
    rows = tuple(_record(ScoreRow, row) for row in content["rows"])
    with _about(path, remedy):
        judges = tuple(from_mapping(JudgeCheck, judge, "judges.") for judge in content.get("judges", ()))
    worst = tuple(content.get("worst", ()))
    return _record(Evaluation, {**content, "rows": rows, "judges": judges, "worst": worst})


def _record(record: type[T], content: Mapping[str, Any]) -> T:
    """A record of what its fields are called, without what else there is."""
    return record(**{field.name: content[field.name] for field in fields(record) if field.name in content})


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl of the run in `folder`, none without the file; one that was cut off is left out.

    Raises:
        ValueError: a line is damaged.

    Example:
        >>> from pathlib import Path
        >>> from ssimgen.training import read_metrics
        >>> _ = Path("metrics.jsonl").write_text('{"iteration": 50, "seconds": 1.5, "vae/kl": 9.0}\\n')
        >>> [line["vae/kl"] for line in read_metrics(Path("."))]
        [9.0]
    """
    return [content for _, content in whole_lines(folder / METRICS)]


def whole_lines(path: Path) -> list[tuple[bytes, dict[str, float]]]:
    """The lines of a log, as written and as read; errors as :func:`read_metrics`."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [(line, _line(path, number, line)) for number, line in enumerate(lines, 1)]


def read_options(path: Path) -> dict[str, Any]:
    """The content of a file of options: JSON if its name says so, otherwise TOML.

    Raises:
        ValueError: it is neither, or holds what no option can be.
        OSError: it cannot be read.
    """
    kind = "JSON" if path.suffix == ".json" else "TOML"
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is not an ordinary file")
    try:
        text = path.read_text(encoding="utf-8")
        content: dict[str, Any] = parse_json(text) if kind == "JSON" else tomllib.loads(text)
    except OSError as error:
        raise OSError(f"cannot read options from {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise ValueError(f"{path} is not valid {kind}: {reason}") from error
    try:
        _check(content, dict, "")
        _sound(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return content


def _sound(content: Any) -> None:
    """Refuse what no reader is prepared for: tables too deep to go through, numbers too great to compute with, texts
    that cannot be written.

    Raises:
        ValueError: naming the place.
    """
    left = [(content, "", 0)]
    while left:
        value, place, depth = left.pop()
        where = f"{place!r} is" if place else "it is"
        if depth > _DEEPEST:
            raise ValueError(f"{place[:60]!r} is nested too deeply")
        if isinstance(value, Mapping):
            left += [(key, f"{place} (a key)", depth) for key in value]
            left += [(inner, f"{place}.{key}" if place else str(key), depth + 1) for key, inner in value.items()]
        elif isinstance(value, list):
            left += [(inner, f"{place}[{i}]", depth + 1) for i, inner in enumerate(value)]
        elif isinstance(value, (int, float)) and not abs(value) <= _GREATEST:
            raise ValueError(f"{where} {_shown(value)}, not a number up to {_GREATEST:g}")
        elif isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise ValueError(f"{where} {_shown(value)}, which is no text") from None


def _read(path: Path, form: Any, remedy: str) -> dict[str, Any]:
    with _about(path, remedy):
        if not path.is_file():  # a pipe would be waited for
            raise ValueError("it is not an ordinary file")
        content: dict[str, Any] = parse_json(path.read_bytes())
        _sound(content)
        _check(content, form, "")
    return content


@contextmanager
def _about(path: Path, remedy: str) -> Iterator[None]:
    """Let errors name the file and what to do about it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}: {remedy}") from error


def _line(path: Path, number: int, line: bytes) -> dict[str, float]:
    try:
        content: dict[str, float] = parse_json(line)
        _check(content, _LINE, "")
        for name, value in content.items():
            _check(value, _OPTIONAL, name)
        _sound({key: value for key, value in content.items() if value is None or math.isfinite(value)})
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"{path} is damaged: line {number} is {_shown(line.decode(errors='replace'))} ({error}): "
            "restore it, or remove it to go on without"
        ) from error
    return content


def _check(value: Any, form: Any, place: str) -> None:
    """Raise ValueError, naming the place, unless `value` is of the form."""
    kind = type(form) if isinstance(form, (dict, list)) else form
    if isinstance(form, set):
        if not isinstance(value, str) or value not in form:
            raise ValueError(f"{place!r} is {_shown(value)}, not one of {', '.join(sorted(form))}")
    elif not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{f'{place!r} is' if place else 'it is'} {_shown(value)}, not {_NAMES[kind]}")
    if isinstance(form, list):
        for i, item in enumerate(value):
            _check(item, form[0], f"{place}[{i}]")
    elif isinstance(form, dict):
        for key, inner in form.items():
            name = key.removesuffix("?")
            inside = f"{place}.{name}" if place else name
            if name in value:
                _check(value[name], inner, inside)
            elif name == key:
                raise ValueError(f"it has no {inside!r}")
