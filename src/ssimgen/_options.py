"""Option records (frozen dataclasses) from the dictionaries of JSON and TOML files, every key checked."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

T = TypeVar("T")


def from_mapping(record: type[T], values: Mapping[str, Any], where: str = "", default: T | None = None) -> T:
    """A `record` whose fields are `values`, and those of `default`, or of the record itself, where nothing is said.

    Nested records come as nested mappings, and keep what the default of their field has: with a `network` that is
    Network(norm="batch") by default, {"network": {"width": 16}} changes its width alone.

    Raises ValueError, naming the key, for an unknown or a missing one, and for a value of another type.
    """
    fields = {field.name: field for field in dataclasses.fields(record)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(record)
    for key in values:
        if key not in fields:
            raise ValueError(f"unknown option {where}{key}{suggestion(key, fields)}")
    defaults = {name: _default(field) if default is None else getattr(default, name) for name, field in fields.items()}
    for name in fields:
        if defaults[name] is dataclasses.MISSING and name not in values:
            raise ValueError(f"option {where}{name} is missing and has no default")
    return record(
        **defaults | {key: _value(hints[key], value, where + key, defaults[key]) for key, value in values.items()}
    )


def check(hints: Mapping[str, Any], values: Mapping[str, Any], where: str = "") -> None:
    """Raise ValueError, as :func:`from_mapping`, for a key that is not in `hints` or a value of another type.

    Nothing need be there: what is missing keeps its default.
    """
    for key, value in values.items():
        if key not in hints:
            raise ValueError(f"unknown option {where}{key}{suggestion(key, hints)}")
        hint = hints[key]
        if not dataclasses.is_dataclass(hint):
            _value(hint, value, where + key)
        elif isinstance(value, Mapping):
            check(typing.get_type_hints(hint), value, f"{where}{key}.")
        else:
            raise ValueError(f"option {where}{key} must be a table of options, got {value!r}")


def suggestion(word: str, known: Iterable[str]) -> str:
    """': did you mean ...?', or nothing if no known word is close."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f": did you mean {close[0]!r}?" if close else ""


def _default(field: dataclasses.Field[Any]) -> Any:
    """MISSING if there is none."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _value(hint: Any, value: Any, where: str, default: Any = None) -> Any:
    """`value` as the type `hint`, which is one of those that options have; of a record, on top of its default."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, Mapping):
        return from_mapping(hint, value, f"{where}.", default if isinstance(default, hint) else None)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal and value in arguments:
        return value
    if origin in (Union, types.UnionType):
        for alternative in arguments:
            try:
                return _value(alternative, value, where)
            except ValueError:
                continue
    if origin is tuple and isinstance(value, (list, tuple)):
        items = [arguments[0]] * len(value) if len(arguments) == 2 and arguments[1] is ... else list(arguments)
        if len(items) == len(value):
            return tuple(_value(item, v, where) for item, v in zip(items, value, strict=True))
    if origin is dict and isinstance(value, Mapping):
        return {key: _value(arguments[1], v, f"{where}.{key}") for key, v in value.items()}
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        with suppress(OverflowError):  # an int beyond every float
            return float(value)
    if hint is Any:
        return value
    if hint in (int, str, bool, type(None)) and type(value) is hint:
        return value
    if hint is Path and isinstance(value, str):
        return Path(value)
    raise ValueError(f"option {where} must be {_name(hint)}, got {value!r}")


def _name(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(hint)))
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
