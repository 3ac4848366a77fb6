"""The checker of annotations under pytest: beartype, with an int wherever a float is asked for (PEP 484).

Within a test it looks at the first calls of each function: where thousands follow, as in `gradcheck`, they are like
those, and to look at them all takes longer than they compute.
"""

import functools
import inspect
from collections.abc import Callable
from types import FunctionType, SimpleNamespace
from typing import Any, get_type_hints

import jaxtyping
from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
_jaxtyped = jaxtyping.jaxtyped
CALLS = 5  # of a function, that are looked at in a test
_test = 0


def another_test() -> None:
    """Calls are counted anew."""
    global _test
    _test += 1


def _outermost(*, typechecker: Callable[..., Any]) -> Callable[[Any], Any]:
    """Checks of all but functions within functions, which are made anew at each call, and so would be their checks,
    which would take longer than all that the tests compute; and but kernels for GPUs, of which Triton reads the source.
    """

    def checks(of: Any) -> Any:
        is_kernel = of.__module__.startswith("ssimgen.engine.triton.") and of.__module__.endswith("_kernels")
        if is_kernel or "<locals>" in of.__qualname__:
            return of
        hints = {} if inspect.isclass(of) else _hints(of)
        if inspect.isclass(of):
            return _jaxtyped(of, typechecker=typechecker)
        if inspect.isgeneratorfunction(of) or "jaxtyping" in repr(hints):
            return _at_first(of, functools.cache(lambda: _jaxtyped(of, typechecker=typechecker)))
        return _at_first(of, functools.cache(lambda: _without_shapes(of, hints)))

    return checks


def _at_first(of: Any, with_checks: Callable[[], Any]) -> Any:
    """The function, checked in its first calls. Checks are made at the first of all: many functions have none."""
    test, calls = -1, 0

    @functools.wraps(of)
    def either(*args: Any, **kwargs: Any) -> Any:
        nonlocal test, calls
        if test != _test:
            test, calls = _test, 0
        calls += 1
        return (of if calls > CALLS or jaxtyping.config.jaxtyping_disable else with_checks())(*args, **kwargs)

    return either


def _without_shapes(of: Any, hints: dict[str, Any]) -> Any:
    """Checks that bind no names to sizes, which takes longer than most functions."""
    same = FunctionType(of.__code__, of.__globals__, of.__name__, of.__defaults__, of.__closure__)
    same.__kwdefaults__, same.__qualname__, same.__annotations__ = of.__kwdefaults__, of.__qualname__, hints
    return checked(same)


def _hints(of: Any) -> dict[str, Any]:
    """The annotations that can be read: some are of modules that are imported for mypy only."""
    hints = {}
    for name, annotation in of.__annotations__.items():
        try:
            hints |= get_type_hints(SimpleNamespace(__annotations__={name: annotation}), of.__globals__)
        except NameError:
            hints[name] = Any
    return hints


jaxtyping.jaxtyped = _outermost
