"""The processes that carry out the runs of a study, one at a time each, until they are told to stop."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from ssimgen._interruption import asking_to_stop, withheld
from ssimgen.data import Source, Splits, load_images
from ssimgen.runs import EvaluationOptions
from ssimgen.study.plan import PlannedRun
from ssimgen.study.run import GRACE, Outcome, Status, carry_out
from ssimgen.training import Interrupted, NotFiniteError
from ssimgen.training.no_compiler import without_compiler


def carried_out(
    runs: Sequence[PlannedRun],
    output: Path,
    evaluation: EvaluationOptions,
    parallel: int,
    deadline: float | None,
    received: list[int],
) -> Iterator[Outcome]:
    """The runs, by `parallel` processes; until they are done, the deadline has passed, or a signal comes."""
    waiting = list(runs)
    threads = max(1, torch.get_num_threads() // max(1, parallel))
    with _Workers(output, evaluation, threads) as workers:
        while True:
            over = bool(received) or (deadline is not None and time.monotonic() >= deadline)
            if over:
                waiting.clear()
                workers.stop()
            while waiting and len(workers.busy) < parallel:
                workers.start(waiting.pop(0))
            if not workers.busy:
                break
            left = 1.0 if deadline is None or over else min(1.0, max(0.0, deadline - time.monotonic()))
            yield from workers.outcomes(left)


class _Workers:
    """Processes that each carry out one run at a time; idle ones wait for the next."""

    def __init__(self, output: Path, evaluation: EvaluationOptions, threads: int) -> None:
        self._arguments = (str(output), evaluation, threads)
        self._idle: list[tuple[Any, Connection]] = []
        self.busy: dict[Connection, tuple[Any, PlannedRun]] = {}
        self._stopping = False

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        busy = [(process, connection) for connection, (process, _) in self.busy.items()]
        for process, _connection in busy:
            process.terminate()
        for process, connection in [*self._idle, *busy]:
            connection.close()  # the idle end by that; a signal would meet them as they do
            process.join()

    def start(self, run: PlannedRun) -> None:
        """Have an idle process carry out a run, or a new one."""
        process, connection = self._idle.pop() if self._idle else self._made()
        connection.send(run)
        self.busy[connection] = (process, run)

    def stop(self) -> None:
        """Ask running ones to write a checkpoint and stop; once."""
        if not self._stopping:
            self._stopping = True
            for process, _ in self.busy.values():
                process.terminate()

    def outcomes(self, seconds: float) -> Iterator[Outcome]:
        """The outcomes that come in within some seconds."""
        for connection in wait(list(self.busy), timeout=seconds):
            assert isinstance(connection, Connection)
            process, run = self.busy.pop(connection)
            try:
                status, message = connection.recv()
                self._idle.append((process, connection))
            except (EOFError, ConnectionResetError):  # it died
                process.join()
                told = self._stopping or process.exitcode == 0  # perhaps by whoever tells us, before we know of it
                status, message = ("stopped", "") if told else ("failed", _death(process.exitcode))
            yield Outcome(run, status, message)

    def _made(self) -> tuple[Any, Connection]:
        context = multiprocessing.get_context("spawn")  # forks inherit threads that no longer run
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, *self._arguments), daemon=True)
        with withheld():
            process.start()
        theirs.close()
        return process, ours


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"its process was ended by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")
    return f"its process ended with code {code}"


def _take_signals() -> None:
    """Of the parent, SIGTERM; what a terminal has told all processes is for the parent alone, which tells us: a second
    signal would cost the checkpoint."""
    for number in asking_to_stop():
        signal.signal(number, _stop if number == signal.SIGTERM else signal.SIG_IGN)
    if hasattr(os, "setsid"):
        os.setsid()  # from here on it tells us nothing
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, asking_to_stop())


class _Stop(BaseException):
    """A signal came outside of training, while a run was at work: what is half written is removed on the way out."""


_at_work = False


def _stop(*_: object) -> None:
    """Of SIGTERM: what is at work ends by an exception, once; without, nothing is left to be done."""
    global _at_work
    if not _at_work:
        os._exit(0)
    _at_work = False
    raise _Stop


def _work(connection: Connection, output: str, evaluation: EvaluationOptions, threads: int) -> None:
    """Carry out the runs that come, until the connection closes or a signal comes."""
    _take_signals()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - progress bars of several runs would overwrite each other
    sources: dict[Source, Splits] = {}
    with without_compiler(), suppress(EOFError, ConnectionError):  # the parent is gone
        while True:
            run = connection.recv()
            connection.send(_outcome(run, Path(output), evaluation, sources))


def _end_with_parent() -> None:
    """Wait for the end of the parent, which may have been killed: then stop as it would have asked us to."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)  # a daemon's: it does not delay an end that is sooner
    os._exit(1)


def _outcome(
    run: PlannedRun, output: Path, evaluation: EvaluationOptions, sources: dict[Source, Splits]
) -> tuple[Status, str]:
    global _at_work
    try:
        _at_work = True
        outcome = _tried(run, output, evaluation, sources)
        _at_work = False
    except _Stop:
        return "stopped", ""
    return outcome


def _tried(
    run: PlannedRun, output: Path, evaluation: EvaluationOptions, sources: dict[Source, Splits]
) -> tuple[Status, str]:
    try:
        if run.source not in sources:
            sources[run.source] = load_images(run.source, report=lambda _: None)
        carry_out(run, output, evaluation, sources[run.source])
    except Interrupted as stop:
        return "stopped", f"after iteration {stop.iteration}, checkpoint written"
    except (ValueError, OSError, NotFiniteError, ModuleNotFoundError) as error:
        return "failed", str(error)
    return "finished", ""
