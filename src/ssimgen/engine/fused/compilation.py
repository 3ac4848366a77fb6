"""Compiling kernels with numba, with the result kept on disk where that is possible."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any


def compiled(kernel: Callable[..., Any], fastmath: bool | set[str] = False) -> Callable[..., Any]:
    """The kernel, compiled on its first call for the types of its arguments, run without the GIL.

    The compiled code is kept in `__pycache__` beside the source or in the user's cache folder, and found again
    by the source file and the values that the kernel closes over (so these must be plain numbers). Where
    neither folder can be written, every process compiles anew.
    """
    from numba import njit  # takes long to import: only those who compute pay

    _finish_compiling_before_fork()
    try:
        return njit(nogil=True, cache=True, fastmath=fastmath)(kernel)
    except RuntimeError:  # numba: "cannot cache function: no locator available"
        return njit(nogil=True, fastmath=fastmath)(kernel)


@cache
def sources() -> int:
    """A fingerprint of this folder's sources, for kernels to close over.

    numba looks whether the file of a kernel has changed, but not the files of what the kernel calls.
    """
    return zlib.crc32(b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py"))))


@cache
def _finish_compiling_before_fork() -> None:
    """A child forked while another thread compiles would wait for ever on that thread's lock."""
    from numba.core.compiler_lock import global_compiler_lock as lock

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
