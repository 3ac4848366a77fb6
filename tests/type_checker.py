"""The checker of annotations under pytest: beartype, with an int wherever a float is asked for (PEP 484)."""

import functools
import inspect
from collections.abc import Callable
from types import FunctionType, SimpleNamespace
from typing import Any, get_type_hints

import jaxtyping
from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
_jaxtyped = jaxtyping.jaxtyped


def _outermost(*, typechecker: Callable[..., Any]) -> Callable[[Any], Any]:
    """Checks of all but functions within functions, which are made anew at each call, and so would be their checks,
    which would take longer than all that the tests compute; and but kernels for GPUs, of which Triton reads the source.
    """

    def checks(of: Any) -> Any:
        is_kernel = of.__module__.startswith("ssimgen.engine.triton.") and of.__module__.endswith("_kernels")
        if is_kernel or "<locals>" in of.__qualname__:
            return of
        hints = {} if inspect.isclass(of) else _hints(of)
        if inspect.isclass(of) or inspect.isgeneratorfunction(of) or "jaxtyping" in repr(hints):
            return _jaxtyped(of, typechecker=typechecker)
        return _without_shapes(of, hints)

    return checks


def _without_shapes(of: Any, hints: dict[str, Any]) -> Any:
    """Checks that bind no names to sizes, which takes longer than most functions. They are made at the first call, as
    many functions are called in no process of the tests."""

    @functools.cache
    def of_user() -> Any:
        same = FunctionType(of.__code__, of.__globals__, of.__name__, of.__defaults__, of.__closure__)
        same.__kwdefaults__, same.__qualname__, same.__annotations__ = of.__kwdefaults__, of.__qualname__, hints
        return checked(same)

    @functools.wraps(of)
    def either(*args: Any, **kwargs: Any) -> Any:
        return (of if jaxtyping.config.jaxtyping_disable else of_user())(*args, **kwargs)

    return either


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
