"""The checker of annotations under pytest: beartype, with an int wherever a float is asked for (PEP 484)."""

from collections.abc import Callable
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
_jaxtyped = jaxtyping.jaxtyped


def _outermost(*, typechecker: Callable[..., Any]) -> Callable[[Any], Any]:
    """Checks of all but functions within functions, which are made anew at each call, and so would be their checks.

    That would take longer than all that the tests compute.
    """
    return lambda of: of if "<locals>" in of.__qualname__ else _jaxtyped(of, typechecker=typechecker)


jaxtyping.jaxtyped = _outermost
