"""Signals that ask a command to stop: one line and exit code 128 + n, whatever it is doing at the time.

Training and studies note them (:func:`noted`), and write checkpoints first. For the rest of a command handlers raise
:class:`Stopped`, so that what is open is closed. Where Python would lose that exception, among the initialisations of
imported libraries and in callbacks from C, nothing is open and the process ends at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn


class Stopped(KeyboardInterrupt):
    """Signal `signum` asked a command or a study to stop."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum


def install() -> None:
    """Handle SIGINT, SIGTERM and SIGHUP in this process; those that it was told to ignore, as by nohup, it ignores."""
    process, unraisable = os.getpid(), sys.unraisablehook

    def stop(signum: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a fork, whose parent was told too, and speaks for both
            os._exit(128 + signum)
        leave_dead_terminal()
        if _importing(frame):
            _leave(Stopped(signum))
        raise Stopped(signum)

    def lost(report: sys.UnraisableHookArgs) -> None:
        if isinstance(report.exc_value, Stopped):
            _leave(report.exc_value)
        unraisable(report)

    sys.unraisablehook = lost
    for asked in asking_to_stop():
        if signal.getsignal(asked) is not signal.SIG_IGN:
            signal.signal(asked, stop)


@contextmanager
def over() -> Iterator[None]:
    """After the block the command has its exit code, and signals that ask to stop no longer change it.

    Python gives up its handlers before it ends, and a signal in that time would end the process as if by itself.
    """
    try:
        try:
            yield
        finally:
            for asked in asking_to_stop():
                signal.signal(asked, signal.SIG_IGN)
    except Stopped as stop:  # in the last instant
        _leave(stop)


@contextmanager
def noted() -> Iterator[list[int]]:
    """A list to which the first SIGINT, SIGTERM or SIGHUP is added; a second one ends the process as usual.

    Those that the process was told to ignore, as by nohup, it ignores. A terminal that closes sends SIGHUP more than
    once: after the first signal it no longer counts.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received  # only the main thread may set handlers
        return
    before = {s: handler for s in asking_to_stop() if (handler := signal.getsignal(s)) is not signal.SIG_IGN}

    def note(signum: int, _: object) -> None:
        received.append(signum)
        leave_dead_terminal()
        for s, handler in before.items():
            signal.signal(s, signal.SIG_IGN if s == getattr(signal, "SIGHUP", None) else handler)

    for s in before:
        signal.signal(s, note)
    try:
        yield received
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)


@contextmanager
def withheld() -> Iterator[None]:
    """Signals that ask to stop wait: here during the block, in a process that is begun there until it lets
    them through.

    A terminal tells all processes of Ctrl-C, those too that are still importing.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # the first process would start it, and that lets signals through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, asking_to_stop())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def asking_to_stop() -> list[signal.Signals]:
    names = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
    return [signal.Signals[name] for name in names if name in signal.Signals.__members__]


def leave_dead_terminal() -> None:
    """Let what is still to be said go nowhere if the terminal has closed, which SIGHUP tells: to write there fails."""
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def interruption(error: BaseException) -> KeyboardInterrupt | None:
    """The interruption that `error` is, or came of: one in the middle of a library may make it fail in another way."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, KeyboardInterrupt):
        cause = cause.__cause__ or cause.__context__
    return cause


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _leave(stop: Stopped) -> NoReturn:
    cursor = b"\x1b[?25h" if os.isatty(2) else b""  # which a progress bar may have hidden
    with suppress(OSError):  # a terminal that is gone
        os.write(2, cursor + f"ssimgen: {stop}\n".encode())
    os._exit(128 + stop.signum)
