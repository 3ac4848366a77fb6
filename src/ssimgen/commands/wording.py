"""Errors of the library, which name arguments, in the words of the command line: --weight-decay for weight_decay."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_NAME = r"[a-z][a-z0-9_.]*[a-z0-9]|[a-z]"
_ALONE = rf"(?<![\w./'\"=-])({_NAME})(?![\w/'\"(]|\.\w)"  # no part of a path or of a quoted value


@contextmanager
def of_options(names: Collection[str]) -> Iterator[None]:
    """Let errors speak of options, which are called as `names` are: dotted, where they are of a record in a record."""
    try:
        yield
    except ValueError as error:
        error.args = (in_options(str(error), names), *error.args[1:])
        raise


def option_names(hints: Mapping[str, Any]) -> Iterator[str]:
    """The names of options, from the types of arguments or fields: dotted, where they are of a record."""
    for name, hint in hints.items():
        if dataclasses.is_dataclass(hint):
            yield from (f"{name}.{inner}" for inner in option_names(typing.get_type_hints(hint)))
        else:
            yield name


def in_options(message: str, names: Collection[str]) -> str:
    """An error in the words of the command line.

    Only what can be no other word is an option: names in front of what they must be, names with an underscore, those
    that are given a value, and those of a part of a run's configuration. An error in a record, as in
    "model.network: width must be ...", is of the options of that record.
    """
    if record := re.match(rf"[a-z]+\.({_NAME}): (?={_NAME} )", message):
        of_record = [name for name in names if name.startswith(f"{record[1]}.")]
        return in_options(message[record.end() :], of_record) if of_record else message

    def flag(name: str) -> str | None:
        """The option of a name, which may be in a record; none if there are several."""
        fitting = [known for known in names if f".{known}".endswith(f".{name}")]
        return "--" + fitting[0].replace("_", "-") if len(fitting) == 1 else None

    def option(found: re.Match[str]) -> str:
        return flag(found[1]) or found[0]

    def given(found: re.Match[str]) -> str:
        option, value = flag(found[1]), found[2].strip("'")
        if option is None:
            return found[0]
        if value == "False":
            place, _, last = option.removeprefix("--").rpartition(".")
            return f"--{place}{'.' if place else ''}no-{last}"
        return option if value == "True" else f"{option} {value}"

    def all_of(found: re.Match[str]) -> str:
        return re.sub(_ALONE, option, found[0])

    message = re.sub(rf"\b(?:config|training|optimiser)\.({_NAME})(?= = )", option, message)  # of a run's configuration
    message = re.sub(rf"(?<![\w./'\"-])(?<!got )({_NAME})=('[^']*'|-?[\w.+-]*\w)(?![\w(]|\.\w)", given, message)
    message = re.sub(rf"^(?:{_NAME})(?: and (?:{_NAME}))*(?= must )", all_of, message)
    message = re.sub(rf"(?<= and )({_NAME})(?= at least )|(?<=\bset )({_NAME})(?= to |$)", all_of, message)
    return re.sub(_ALONE, lambda found: option(found) if "_" in found[1] else found[0], message)
