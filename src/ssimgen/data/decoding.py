"""Pictures decoded by worker processes, in their order, a bounded number ahead of whoever takes them."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssimgen import pictures

_CHUNK = 16  # pictures sent to a worker at a time
_AHEAD = 4  # chunks a worker that are decoded before they are asked for


class Encoded(NamedTuple):
    """A picture as it is stored: a path, or the content of a file and what errors call it; or what is wrong with it."""

    name: str
    content: bytes | Path | None
    error: str = "is empty"


class Decoded(NamedTuple):
    """A picture made to fit, as bytes (C, H, W), and what was done to it; or None, and what is wrong with it."""

    name: str
    pixels: NDArray[np.uint8] | None
    error: str = ""
    changes: tuple[str, ...] = ()


Decode = Callable[[Iterable[Encoded]], Iterator[Decoded]]


@contextmanager
def decoder(
    fit: Callable[[Tensor], Tensor],
    expected: int | None = None,
    *,
    background: str = "white",
    data_range: tuple[float, float] | None = None,
) -> Iterator[Decode]:
    """A function that decodes pictures, each over `background` and made to `fit`, and gives them back in their order.

    Values of files are 0 and 1 at the ends of `data_range`, and cut off beyond.

    They are decoded by one process a core. A few (`expected`, where it is known), and all where no process can be
    forked (inside of a daemonic process, on systems other than Linux), by threads of this process instead. `fit` is
    sent to the workers, and so must not be a lambda.

    Raises:
        OSError: a worker process died.
    """
    processes = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    few = expected is not None and expected <= _CHUNK
    pool = ThreadPoolExecutor(processes) if few or not _can_fork() else _forked(processes)
    try:
        yield lambda encoded: _in_order(
            pool, encoded, partial(_decode_all, fit, background, data_range), _AHEAD * processes
        )
    except BrokenProcessPool as error:
        raise OSError(
            "a process that decoded pictures died, perhaps for want of memory or from a damaged picture"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _can_fork() -> bool:
    return sys.platform == "linux" and not multiprocessing.current_process().daemon


def _forked(processes: int) -> Executor:
    """Processes that run already: forked before threads of a progress bar are there."""
    context = multiprocessing.get_context("fork")  # at once, and from scripts without a main guard
    pool = ProcessPoolExecutor(processes, context, _begin_worker, (os.getpid(),))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: other threads; decoding needs none of them
        pool.submit(int).result()
    return pool


def _begin_worker(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)  # threads of the parent do not run in a forked process
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End when the parent was killed, and left us behind."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _in_order(
    pool: Executor, encoded: Iterable[Encoded], decode: Callable[[list[Encoded]], list[Decoded]], ahead: int
) -> Iterator[Decoded]:
    pictures_left = iter(encoded)
    waiting: deque[Future[list[Decoded]]] = deque()
    while chunk := list(itertools.islice(pictures_left, _CHUNK)):
        waiting.append(pool.submit(decode, chunk))
        if len(waiting) > ahead:
            yield from waiting.popleft().result()
    while waiting:
        yield from waiting.popleft().result()


def _decode_all(
    fit: Callable[[Tensor], Tensor], background: str, data_range: tuple[float, float] | None, chunk: list[Encoded]
) -> list[Decoded]:
    return [_decode(picture, fit, background, data_range) for picture in chunk]


def _decode(
    encoded: Encoded, fit: Callable[[Tensor], Tensor], background: str, data_range: tuple[float, float] | None
) -> Decoded:
    name, content, error = encoded
    if content is None:
        return Decoded(name, None, f"{name} {error}")
    try:
        picture = pictures.decode(content, name, background, data_range)
    except (ValueError, OSError) as damage:
        return Decoded(name, None, str(damage))
    try:
        pixels = (fit(picture.image.clamp(0, 1)) * 255).round().byte().numpy()
    except ValueError as misfit:
        return Decoded(name, None, f"{name} {misfit}")
    changes = [f"have transparency, laid on {background} (option background)"] if picture.transparent else []
    changes += ["have more than 8 bits a channel, rounded to 8"] if picture.bits > 8 else []
    changes += ["have values beyond the data range, cut off"] if picture.beyond else []
    return Decoded(name, pixels, changes=tuple(changes))
