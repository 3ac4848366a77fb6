"""What was found for options that came before: to check them anew in every call takes as long as small images do."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

import torch

from ssimgen.windows import Window

P = ParamSpec("P")
R = TypeVar("R")

_WORDS = (float, int, str, type(None), Window)  # that are equal only where they mean the same, of one type


def remembered(function: Callable[P, R]) -> Callable[P, R]:
    """A function of options alone, whose results nobody changes: one for the same numbers, words and windows, alone or
    in tuples. Of anything else, and where calls are traced, it is called. Errors are raised anew."""
    known = lru_cache(maxsize=256, typed=True)(function)

    @wraps(function)
    def looked_up(*options: P.args, **named: P.kwargs) -> R:
        if torch.compiler.is_compiling() or not all(map(_is_word, options)):
            return function(*options, **named)
        return known(*options, **named)  # type: ignore[arg-type]

    return looked_up


def _is_word(option: object) -> bool:
    kind = type(option)
    return kind in _WORDS or (kind is tuple and all(type(part) in (float, int) for part in option))  # type: ignore[attr-defined]
