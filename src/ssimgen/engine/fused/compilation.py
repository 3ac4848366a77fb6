"""Compiling kernels with numba, with their machine code kept on disk where that is possible."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

MUCH_WORK = 2**28  # pixels, in which a kernel for one geometry has won the seconds that it takes to compile


class Kernels:
    """One kernel for windows of every geometry, their sizes and strides, and faster ones for one geometry each.

    They are one function, which takes the geometry as its first argument, or closes over it and ignores the argument;
    their results are equal to the last bit. Compiling one takes seconds, so that a geometry has its own only if it is
    usual, if it has much to do, if its code is on disk, or if somebody waits for it in `warmup`.
    """

    def __init__(self, define: Callable[..., Callable[..., None]], *usual: tuple[int, ...]) -> None:
        """define(known, *options) is the kernel for the geometry `known`, or for every one if that is None."""
        self._define = cache(define)
        self._usual = usual
        self._work: Counter[tuple[Any, ...]] = Counter()

    def fit(self, geometry: tuple[int, ...], pixels: int, *options: Any) -> Callable[..., None]:
        """The kernel for a geometry of which so many pixels are to be computed now, with its first argument."""
        own = geometry in self._usual or self._has_much_to_do(geometry, pixels, options)
        return partial(self._define(geometry if own else None, *options), geometry)

    def _has_much_to_do(self, geometry: tuple[int, ...], pixels: int, options: tuple[Any, ...]) -> bool:
        request = geometry, *options
        if _warmups or (request not in self._work and _is_on_disk(self._define(geometry, *options))):
            self._work[request] = MUCH_WORK
        self._work[request] += pixels
        return self._work[request] >= MUCH_WORK


_warmups = 0  # that somebody is in


@contextmanager
def warmup() -> Iterator[None]:
    """Compile what calls within it need at once, rather than when it would pay.

    On a CPU, a window other than the default first shares kernels with all others, which take up to twice the time; its
    own are compiled, for a second or two each, when as many pixels have come as make it worth that. They are kept on
    disk, and later processes begin with them. Where the first steps must be as fast as the last, or none may wait,
    compile ahead by one call as you will make it, of any images: kernels belong to a window, its stride, the dtype,
    whether there are gradients, and for all pairs to the form and the size of images. Results are the same to the last
    bit either way.

    Example:
        >>> import torch
        >>> import ssimgen
        >>> x, y = torch.rand(2, 1, 1, 16, 16)
        >>> with ssimgen.warmup():
        ...     loss = ssimgen.distance(x.requires_grad_(), y, data_range=1.0, window=ssimgen.Window.uniform(7)).sum()
    """
    global _warmups
    _warmups += 1
    try:
        yield
    finally:
        _warmups -= 1


def _is_on_disk(kernel: Callable[..., None]) -> bool:
    """Whether code of a kernel is kept, for whatever types of arguments."""
    code = getattr(kernel, "_cache", None)
    return bool(code and code.has_files)


def compiled(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel, compiled on its first call for the types of its arguments, run without the GIL.

    A kernel is defined in this folder, and closes over plain numbers, and tuples of them, at most. Its machine code is
    kept in `__pycache__` beside the source or in the user's cache folder (`code_cache` says how). Where it cannot be
    kept, every process compiles anew.
    """
    from numba import njit

    _finish_compiling_before_fork()
    code = _code_on_disk(kernel)
    if code is not None:
        kernel.__qualname__ = code.symbol
    dispatcher: Callable[..., Any] = njit(nogil=True, no_cfunc_wrapper=True)(kernel)  # type: ignore[call-overload]
    if code is not None:
        dispatcher._cache = code  # type: ignore[attr-defined]
    return dispatcher


def part(function: Callable[..., Any]) -> Any:
    """What kernels call, compiled into them. It has no entry for Python, which would take as long to compile as it."""
    return _njit(function)


def inlined(function: Callable[..., Any]) -> Any:
    """The same, written out wherever it is called."""
    return _njit(function, forceinline=True)


def _njit(function: Callable[..., Any], **options: bool) -> Any:
    from numba import njit

    return njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **options)(function)  # type: ignore[call-overload]


def _code_on_disk(kernel: Callable[..., Any]) -> Any | None:
    """The kernel's place on disk, or None if it can have none."""
    try:
        from ssimgen.engine.fused.code_cache import CodeCache

        # What this process has imported would be kept under the name of what replaced it, by an update for instance.
        return CodeCache(kernel, SOURCES) if SOURCES and _sources() == SOURCES else None
    except Exception:  # no folder can be written, or this numba keeps its code in another way
        return None


def _sources() -> str:
    """A digest of the modules of this folder, as a kernel is compiled with all that it calls; or ""."""
    try:
        modules = [(module.name, module.read_bytes()) for module in sorted(Path(__file__).parent.glob("*.py"))]
    except OSError:
        return ""
    return sha256(repr(modules).encode()).hexdigest() if modules else ""


SOURCES = _sources()


@cache
def _finish_compiling_before_fork() -> None:
    """A child forked while another thread compiles would wait for ever on that thread's lock."""
    from numba.core.compiler_lock import global_compiler_lock as lock

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
