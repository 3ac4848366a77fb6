"""Worker processes that decode pictures: that there are some, that order holds, and what becomes of accidents."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssimgen.data import Source, decoding, load_images
from ssimgen.data.decoding import Encoded, decoder
from ssimgen.data.fitting import Fit

linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """100 pictures, the i-th of value i, of 8 x 8 px; one more that is none."""
    for i in range(100):
        Image.fromarray(np.full((8, 8), i, np.uint8)).save(tmp_path / f"{i:03}.png")
    (tmp_path / "050b.png").write_text("not a picture")
    return tmp_path


def encoded(folder: Path) -> list[Encoded]:
    return [Encoded(path.name, path) for path in sorted(folder.iterdir())]


class Where:
    """In the place of a fit: every pixel says in which process it was made; 0 is the one that this was made in."""

    def __init__(self) -> None:
        self.here = os.getpid()

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        number = 0 if os.getpid() == self.here else 1 + os.getpid() % 250
        return torch.full_like(images, number / 255)


class Dies:
    """In the place of a fit: a decoder that takes its process with it."""

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        os.kill(os.getpid(), signal.SIGKILL)
        return images


@linux
def test_pictures_are_decoded_elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    with decoder(Where()) as decode:
        made = {int(picture.pixels[0, 0, 0]) for picture in decode(encoded(folder)) if picture.pixels is not None}
    assert 0 not in made
    assert 1 <= len(made) <= 2
    with decoder(Where(), expected=3) as decode:
        (few,) = decode(encoded(folder)[:1])
    assert few.pixels is not None
    assert few.pixels[0, 0, 0] == 0


@pytest.mark.parametrize("forked", [pytest.param(True, marks=linux), False])
def test_order_and_damage(folder: Path, forked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not forked:
        monkeypatch.setattr(decoding, "_can_fork", lambda: False)
    with decoder(Fit()) as decode:
        found = list(decode(encoded(folder)))
    assert [picture.name for picture in found] == [picture.name for picture in encoded(folder)]
    assert [int(p.pixels[0, 0, 0]) for p in found if p.pixels is not None] == list(range(100))
    assert [p.name for p in found if p.pixels is None] == ["050b.png"]
    assert "050b.png is not a picture" in found[51].error


def test_only_so_many_pictures_are_read_ahead(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a stream that is larger than memory passes through."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    taken = []

    def endless() -> Iterator[Encoded]:
        while True:
            taken.append(1)
            yield Encoded("000.png", folder / "000.png")

    with decoder(Fit()) as decode:
        stream = decode(endless())
        for _ in range(50):
            next(stream)
        assert len(taken) <= 50 + (decoding._AHEAD + 2) * decoding._CHUNK


@linux
def test_a_worker_that_dies_ends_in_an_error(folder: Path) -> None:
    with (
        pytest.raises(OSError, match="a process that decoded pictures died, perhaps for want of memory"),
        decoder(Dies()) as decode,
    ):
        list(decode(encoded(folder)))


def test_the_random_state_of_the_caller_is_left_alone(folder: Path) -> None:
    before = torch.random.get_rng_state()
    load_images(str(folder), lambda _: None)
    assert torch.equal(before, torch.random.get_rng_state())


def _count(folder: str, results: "multiprocessing.Queue[int]") -> None:
    results.put(sum(len(part) for part in load_images(folder, lambda _: None)))


@linux
def test_daemonic_processes_read_pictures_too(folder: Path) -> None:
    """They may not start processes of their own, and a study trains in them."""
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[int] = context.Queue()
    process = context.Process(target=_count, args=(str(folder), results), daemon=True)
    process.start()
    assert results.get(timeout=200) == 100
    process.join()


@linux
def test_no_worker_outlives_its_parent(folder: Path) -> None:
    code = """
import multiprocessing, sys, time
from ssimgen.data.decoding import decoder
from ssimgen.data.fitting import Fit
with decoder(Fit()) as decode:
    print(*(worker.pid for worker in multiprocessing.active_children()))
    sys.stdout.flush()
    time.sleep(100)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        workers = [int(word) for word in parent.stdout.readline().split()]
        parent.kill()
    assert workers
    for _ in range(100):
        if not any(_runs(worker) for worker in workers):
            break
        time.sleep(0.2)
    assert not any(_runs(worker) for worker in workers)


def _runs(process: int) -> bool:
    try:
        return " Z " not in re.sub(r"\(.*\)", "", Path(f"/proc/{process}/stat").read_text())
    except FileNotFoundError:
        return False


def test_a_folder_larger_than_memory_lies_in_a_file(folder: Path) -> None:
    inside, outside = (load_images(Source(str(folder), memory=m), lambda _: None) for m in (None, 0.0))
    for here, there in zip(inside, outside, strict=True):
        assert (here.on_disk, there.on_disk) == (False, True)
        assert here.digest == there.digest
        assert torch.equal(next(here.batches(10, 1)).images, next(there.batches(10, 1)).images)
    limited = load_images(Source(str(folder), memory=0.0, limit=7), lambda _: None)
    assert limited.train.on_disk
    assert limited.train.digest == load_images(Source(str(folder), limit=7), lambda _: None).train.digest
