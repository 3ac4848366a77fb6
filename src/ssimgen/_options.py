"""Option records (frozen dataclasses) from the dictionaries of JSON and TOML files, every key checked."""

from __future__ import annotations

import collections.abc
import dataclasses
import difflib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cache, partial
from numbers import Integral, Real
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, Union

T = TypeVar("T")

_hints: Callable[[Any], dict[str, Any]] = cache(typing.get_type_hints)


def from_mapping(record: type[T], values: Mapping[str, Any], where: str = "", default: T | None = None) -> T:
    """A `record` whose fields are `values`, and those of `default`, or of the record itself, where nothing is said.

    Nested records come as nested mappings, and keep what the default of their field has: with a `network` that is
    Network(norm="batch") by default, {"network": {"width": 16}} changes its width alone.

    Raises ValueError, naming the key, for an unknown or a missing one, and for a value of another type.
    """
    filled = _filled(record, values, where, default, from_mapping)
    for name, value in filled.items():
        if value is dataclasses.MISSING:
            raise ValueError(f"option {where}{name} is missing and has no default")
    return record(**filled)


def draft(record: type[T], values: Mapping[str, Any], where: str = "", default: T | None = None, *, missing: Any) -> T:
    """As :func:`from_mapping`, but of a record still to be completed and checked; `missing` is what has no value yet.

    That is what a parser of command lines takes for defaults.
    """
    unchecked = object.__new__(record)
    for name, value in _filled(record, values, where, default, partial(draft, missing=missing)).items():
        object.__setattr__(unchecked, name, missing if value is dataclasses.MISSING else value)
    return unchecked


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`under`, with what `over` says instead, table by table."""
    both = dict(under)
    for key, value in over.items():
        below = both.get(key)
        both[key] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return both


def _filled(
    record: type[T], values: Mapping[str, Any], where: str, default: T | None, make: Callable[..., Any]
) -> dict[str, Any]:
    """Every field of a record, of `values` or by default, MISSING without either; `make` makes the records in it."""
    fields = {field.name: field for field in dataclasses.fields(record)}  # type: ignore[arg-type]
    hints = _hints(record)
    for key in values:
        if key not in fields:
            raise ValueError(f"unknown option {where}{key}{suggestion(key, fields)}")
    filled = {name: _default(field) if default is None else getattr(default, name) for name, field in fields.items()}
    return filled | {key: _value(hints[key], value, where + key, filled[key], make) for key, value in values.items()}


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
            check(_hints(hint), value, f"{where}{key}.")
        else:
            raise ValueError(f"option {where}{key} must be a table of options, got {value!r}")


def keep_types(record: Any) -> None:
    """Make the values of a frozen record those of the types of its fields, as numbers of other libraries can be.

    Words that are one of several are checked elsewhere.

    Raises:
        TypeError: a value that cannot be of the type, by the name of its field.
    """
    for name, hint in _hints(type(record)).items():
        value = getattr(record, name)
        if type(value) is not bool and isinstance(value, Real):
            value = int(value) if isinstance(value, Integral) else float(value)
        if typing.get_origin(hint) is not Literal:
            try:
                object.__setattr__(record, name, _value(hint, value, name))
            except ValueError:
                raise TypeError(f"{name} must be {_name(hint)}, got {getattr(record, name)!r}") from None


def suggestion(word: str, known: Iterable[str]) -> str:
    """': did you mean ...?', or nothing if no known word is close."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f": did you mean {close[0]!r}?" if close else ""


def short(value: Any) -> str:
    """A value of an option in a name."""
    if isinstance(value, (list, tuple)):
        return "-".join(map(short, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _default(field: dataclasses.Field[Any]) -> Any:
    """MISSING if there is none."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _value(hint: Any, value: Any, where: str, default: Any = None, make: Callable[..., Any] = from_mapping) -> Any:
    """`value` as the type `hint`, which is one of those that options have; of a record, on top of its default."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, Mapping):
        return make(hint, value, f"{where}.", default if isinstance(default, hint) else None)
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
        items = [arguments[0]] * len(value) if arguments[-1] is ... else list(arguments)
        with suppress(ValueError):  # of an item: the list is named
            return tuple(_value(item, v, where) for item, v in zip(items, value, strict=True))
    if origin in (dict, collections.abc.Mapping) and isinstance(value, Mapping):
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


_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    Path: "a path",
    NoneType: "None",
}


def _name(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if origin in (Union, types.UnionType):
        return " or ".join(map(_name, arguments))
    if origin is tuple and typing.get_origin(arguments[0]) is Literal:
        return _name(arguments[0]).replace("one of", "a list of", 1)
    if origin is tuple:
        count = "" if arguments[-1] is ... else f"{len(arguments)} "
        return f"a list of {count}{_name(arguments[0]).removeprefix('a ')}s"
    if origin in (dict, collections.abc.Mapping):
        return "a table"
    return _NAMES.get(hint, getattr(hint, "__name__", str(hint)))


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested mappings, by keys with dots: {"network": {"width": 8}} is {"network.width": 8}."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found
