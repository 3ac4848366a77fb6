"""Compiling kernels with numba, with their machine code kept on disk where that is possible."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any


def compiled(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel, compiled on its first call for the types of its arguments, run without the GIL.

    A kernel is defined in this folder, and closes over plain numbers at most. Its machine code is kept in
    `__pycache__` beside the source or in the user's cache folder (`code_cache` says how). Where it cannot be kept,
    every process compiles anew.
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
