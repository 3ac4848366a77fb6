"""Threads for the compiled kernels.

Kernels are serial and release the GIL; here their work is spread over `torch.get_num_threads()` threads, of
which the caller is one. That follows `torch.set_num_threads`, is safe after fork and with callers in many
threads at once, and does not meet numba's own threading layers, which are neither.

Where PyTorch runs on GNU OpenMP, as its Linux wheels do, the threads are PyTorch's own: they wait for their next
work by spinning for some milliseconds, in which other threads would have to share the processors with them. Elsewhere,
and in forked children, where OpenMP does not survive, they are a pool's.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what `signal` wraps in enumerations, which here would take as long as some kernels
import ctypes
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch

_Work = Callable[[], None]
_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_STOPPING = (_signal.SIGINT, _signal.SIGTERM)

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None


def _openmp() -> Callable[..., None] | None:
    """GOMP_parallel(function, data, threads, flags) of the GNU OpenMP that PyTorch has loaded, if it has."""
    packages = Path(torch.__file__).parent.parent
    bundled = map(str, [*packages.glob("torch/lib/libgomp*"), *packages.glob("torch.libs/libgomp*")])
    for name in (*bundled, "libgomp.so.1"):
        try:
            return ctypes.CDLL(name, mode=os.RTLD_NOLOAD | os.RTLD_NOW).GOMP_parallel
        except (OSError, AttributeError):  # not loaded, or not a system that has such libraries
            continue
    return None


_parallel = _openmp()


def run(task: Callable[[int], None], chunks: int) -> None:
    """task(0), ..., task(chunks - 1), in any order and on several threads; returns when all are done.

    Threads take the next chunk when they finish one, so chunks may differ in cost. One chunk, or one thread,
    runs in the caller alone. An exception of a task is raised here.
    """
    threads = min(torch.get_num_threads(), chunks)
    if threads < 2:
        for chunk in range(chunks):
            task(chunk)
        return

    waiting = deque(range(chunks))
    errors: list[BaseException] = []

    def drain() -> None:
        while not errors:
            try:
                chunk = waiting.popleft()
            except IndexError:
                return
            try:
                task(chunk)
            except BaseException as error:  # nothing may be raised through C
                errors.append(error)

    _on_threads(drain, threads)
    if errors:
        raise errors[0]


def _on_threads(work: _Work, threads: int) -> None:
    """Call `work`, which raises nothing, on so many threads, or fewer where they cannot be had."""
    with _signals_held():
        if _parallel is not None:
            _parallel(_CALLBACK(lambda _: work()), None, threads, 0)
            return
        futures = _submit(work, threads - 1)
        work()
        for future in futures:
            if not future.cancel():  # one that has not started has nothing left to do
                future.result()


@contextmanager
def _signals_held() -> Iterator[None]:
    """Let handlers of SIGINT and SIGTERM run when it is over.

    What they raise would be lost in a callback from C, and leave locks of the pool held for ever.
    """
    if threading.current_thread() is not threading.main_thread():  # handlers run in the main thread
        yield
        return
    received: list[int] = []
    before = [(s, handler) for s in _STOPPING if callable(handler := _signal.getsignal(s))]
    try:
        for s, _ in before:
            _signal.signal(s, lambda signum, _: received.append(signum))
        yield
    finally:
        for s, handler in before:
            _signal.signal(s, handler)
        for signum in received:
            _signal.raise_signal(signum)


def _submit(work: _Work, copies: int) -> list[Future[None]]:
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


def _forget_threads() -> None:
    """In a forked child all threads but one are gone, and the lock may be held by one of them."""
    global _lock, _pool, _parallel
    _lock, _pool, _parallel = threading.Lock(), None, None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
