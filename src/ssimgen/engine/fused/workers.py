"""Threads for the compiled kernels.

Kernels are serial and release the GIL; here their work is spread over `torch.get_num_threads()` threads, of
which the caller is one. That follows `torch.set_num_threads`, is safe after fork and with callers in many
threads at once, and does not meet numba's own threading layers, which are neither.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None


def run(task: Callable[[int], None], chunks: int) -> None:
    """task(0), ..., task(chunks - 1), in any order and on several threads; returns when all are done.

    Threads take the next chunk when they finish one, so chunks may differ in cost. One chunk, or one thread,
    runs in the caller without touching the pool. An exception of a task is raised here.
    """
    helpers = min(torch.get_num_threads(), chunks) - 1
    if helpers < 1:
        for chunk in range(chunks):
            task(chunk)
        return

    waiting = deque(range(chunks))

    def drain() -> None:
        while True:
            try:
                chunk = waiting.popleft()
            except IndexError:
                return
            task(chunk)

    futures = _submit(drain, helpers)
    try:
        drain()
    finally:
        waiting.clear()  # after an exception nobody starts another chunk
        for future in futures:
            if not future.cancel():  # one that has not started has nothing left to do
                future.result()


def _submit(work: Callable[[], None], copies: int) -> list[Future[None]]:
    """Start `copies` of work on the pool; fewer where no thread can be had, for the caller does what is left."""
    global _pool
    futures: list[Future[None]] = []
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="ssimgen")
        try:
            for _ in range(copies):
                futures.append(_pool.submit(work))
        except RuntimeError:  # the interpreter is shutting down, or the system refuses a thread
            pass
    return futures


def _forget_pool() -> None:
    """In a forked child the pool's threads are gone and the lock may be held by one of them."""
    global _lock, _pool
    _lock, _pool = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
