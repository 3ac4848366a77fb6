"""The threads of the compiled kernels."""

import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from ssimgen.engine.fused import workers


@pytest.fixture(autouse=True)
def _restored_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=["OpenMP", "pool"], autouse=True)
def _each_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """On PyTorch's threads, where they can be had, and on our own."""
    if request.param == "pool":
        monkeypatch.setattr(workers, "_parallel", None)


def threads_of(chunks: int) -> list[int]:
    """The thread that ran each chunk."""
    ran: list[tuple[int, int]] = []
    workers.run(lambda chunk: ran.append((chunk, threading.get_ident())), chunks)
    assert sorted(chunk for chunk, _ in ran) == list(range(chunks))
    return [thread for _, thread in ran]


@pytest.mark.parametrize(("threads", "chunks"), [(1, 5), (2, 1), (4, 1)])
def test_one_thread_or_one_chunk_stays_with_the_caller(threads: int, chunks: int) -> None:
    torch.set_num_threads(threads)
    assert set(threads_of(chunks)) == {threading.get_ident()}


def test_the_number_of_threads_is_that_of_torch() -> None:
    """Two chunks that wait for each other end only on two threads; more than two never run at once."""
    torch.set_num_threads(2)
    meeting = threading.Barrier(2, timeout=30)
    running, most, lock = 0, 0, threading.Lock()

    def task(_: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        meeting.wait()
        with lock:
            running -= 1

    workers.run(task, 8)
    assert most == 2


def test_callers_at_once_and_calls_within_a_task() -> None:
    torch.set_num_threads(2)
    done = []

    def outer(chunk: int) -> None:
        workers.run(lambda inner: done.append((chunk, inner)), 3)

    with ThreadPoolExecutor(6) as callers:
        for future in [callers.submit(workers.run, outer, 4) for _ in range(6)]:
            future.result(timeout=30)
    assert sorted(done) == sorted(6 * [(chunk, inner) for chunk in range(4) for inner in range(3)])


@pytest.mark.parametrize("threads", [1, 2])
def test_an_exception_reaches_the_caller_and_the_pool_lives_on(threads: int) -> None:
    torch.set_num_threads(threads)

    def task(chunk: int) -> None:
        if chunk == 3:
            raise ArithmeticError("chunk 3")

    with pytest.raises(ArithmeticError, match="chunk 3"):
        workers.run(task, 50)
    threads_of(20)


def test_no_thread_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller does everything where the pool refuses, as it does while the interpreter shuts down."""
    torch.set_num_threads(2)
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    monkeypatch.setattr(workers, "_pool", pool)
    monkeypatch.setattr(workers, "_parallel", None)
    assert set(threads_of(5)) == {threading.get_ident()}


def _work_on(until: threading.Timer) -> None:
    """For seconds, most of them between chunks."""
    until.start()
    for _ in range(1000):
        workers.run(lambda _: None, 5000)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_what_the_handler_of_a_signal_raises_is_not_lost(signum: int) -> None:
    """Not even between two chunks, in a callback from C."""
    torch.set_num_threads(2)
    before = signal.signal(signum, signal.default_int_handler)
    senders = []  # kept: what the end of a thread object calls would swallow the interrupt
    try:
        for _ in range(10):
            sender = threading.Timer(0.002, os.kill, (os.getpid(), signum))
            senders.append(sender)
            with pytest.raises(KeyboardInterrupt):
                _work_on(sender)
            sender.join()
        assert signal.getsignal(signum) is signal.default_int_handler
    finally:
        signal.signal(signum, before)


def test_a_signal_does_not_interrupt_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the midst of a submission it would leave a lock held, and the next call would wait for ever."""

    class Interrupted(ThreadPoolExecutor):
        def submit(self, *args: Any, **options: Any) -> Any:
            signal.raise_signal(signal.SIGINT)
            return super().submit(*args, **options)

    torch.set_num_threads(2)
    monkeypatch.setattr(workers, "_parallel", None)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    ran: list[int] = []
    try:
        with Interrupted(1) as pool:
            monkeypatch.setattr(workers, "_pool", pool)
            with pytest.raises(KeyboardInterrupt):
                workers.run(ran.append, 4)
    finally:
        signal.signal(signal.SIGINT, before)
    assert sorted(ran) == [0, 1, 2, 3]


def test_pytorch_lends_its_threads_where_it_runs_on_gnu_openmp() -> None:
    maps = Path("/proc/self/maps")
    loaded = maps.exists() and "/libgomp" in maps.read_text()
    assert (workers._openmp() is not None) == loaded


def test_a_forked_child_has_threads_of_its_own() -> None:
    torch.set_num_threads(2)
    threads_of(4)
    child = multiprocessing.get_context("fork").Process(target=threads_of, args=(4,))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads: what is tested
        child.start()
    child.join(30)
    assert child.exitcode == 0
