"""Decoded pictures gathered: in memory while they fit, beyond that in a temporary file mapped into memory."""

from __future__ import annotations

import mmap
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import IO, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Int, UInt8
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor

from ssimgen._memory import total_memory
from ssimgen.data.decoding import Decoded

_BLOCK = 1024  # images copied at a time
_NAMED = 3  # of those left out

T = TypeVar("T")


class Collected(NamedTuple):
    """Images, whether they lie in a file, and which of the pictures they are."""

    pixels: UInt8[Tensor, "N C H W"]
    on_disk: bool
    kept: list[int]


def collect(
    decoded: Iterable[Decoded], source: str, *, memory: float | None, strict: bool, report: Callable[[str], None]
) -> Collected:
    """All pictures that can be read, colour if any is coloured.

    Args:
        decoded: the pictures, in their order.
        source: what errors call them.
        memory: gigabytes that they may take; more of them lie in a temporary file. None: a quarter of the machine's.
        strict: refuse a damaged picture, instead of leaving it out.
        report: told how many were left out, and which, if any were; and how many were changed, and how.

    Raises:
        ValueError: pictures of different sizes, by name; a damaged one (`strict`); none that can be read.
        OSError: no room for the temporary file.
    """
    kept: list[int] = []
    errors: list[str] = []
    changes: Counter[str] = Counter()
    number = 0
    with closing(_Store(default_memory() if memory is None else memory * 1e9)) as store:
        for number, (name, pixels, error, changed) in enumerate(decoded, 1):
            if pixels is not None:
                store.add(pixels, name)
                kept.append(number - 1)
                changes.update(changed)
            elif strict:
                raise ValueError(f"{error} (strict: no picture may be left out)")
            else:
                errors.append(error)
        if not kept:
            first = f": {errors[0]}" if errors else ""
            raise ValueError(f"none of the {number} pictures of {source} can be read{first}")
        if errors:
            listed = "; ".join(errors[:_NAMED]) + ("; ..." if len(errors) > _NAMED else "")
            report(f"left out {len(errors)} of {number} pictures: {listed}")
        for change, count in changes.items():
            report(f"{count} of {len(kept)} pictures of {source} {change}")
        return Collected(store.pixels(), store.file is not None, kept)


def tracked(pictures: Iterable[T], source: str, total: int | None) -> Iterable[T]:
    """`pictures`, with a progress bar on standard error, gone when done; none where no one looks."""
    console = Console(stderr=True)
    text = f"reading {source}"
    return track(pictures, text, total=total, transient=True, console=console, disable=not console.is_terminal)


def default_memory() -> int:
    """A quarter of the machine's memory, in bytes; 2 GB where it does not tell."""
    return (total_memory() or 8 * 10**9) // 4


def take_on_disk(pixels: UInt8[Tensor, "N C H W"], index: Int[Tensor, " n"] | slice) -> UInt8[Tensor, "n C H W"]:
    """Some of the images in a temporary file of their own, a few at a time in memory."""
    chosen = torch.arange(len(pixels))[index] if isinstance(index, slice) else index
    with _temporary_file() as file:
        for block in chosen.split(_BLOCK):
            file.write(pixels[block].contiguous().numpy().data)
        return _mapped(file, (len(chosen), *pixels.shape[1:]))


class _Store:
    """Images of one size, of one or three channels."""

    def __init__(self, most: float) -> None:
        self._most = most  # bytes in memory
        self._first: tuple[str, tuple[int, ...]] | None = None
        self._channels = 1
        self._images: list[NDArray[np.uint8]] = []  # those in memory
        self._bytes = 0
        self._written = 0  # images in the file
        self.file: IO[bytes] | None = None

    def add(self, image: NDArray[np.uint8], name: str) -> None:
        """One more image, (C, H, W)."""
        first, shape = self._first = self._first or (name, image.shape)
        if image.shape[1:] != shape[1:]:
            sizes = [f"{n} is {width} x {height} px" for n, (_, height, width) in ((first, shape), (name, image.shape))]
            raise ValueError(f"pictures must have one size, but {sizes[0]} and {sizes[1]}: give a size to scale to")
        if len(image) > self._channels and self.file is not None:
            self._colour_file(len(image))
        self._channels = max(self._channels, len(image))
        if self.file is not None:
            self._write(image)
            return
        self._images.append(image)
        self._bytes += image.nbytes
        if self._bytes > self._most:
            self.file = _temporary_file()
            for earlier in self._images:
                self._write(earlier)
            self._images.clear()

    def pixels(self) -> UInt8[Tensor, "N C H W"]:
        """The pixels of all images that were collected so far."""
        assert self._first is not None
        shape = (self._channels, *self._first[1][1:])
        if self.file is not None:
            return _mapped(self.file, (self._written, *shape))
        return torch.from_numpy(np.stack([np.broadcast_to(image, shape) for image in self._images]))

    def close(self) -> None:
        """The file, if there is one, stays as long as the images that were made of it."""
        if self.file is not None:
            self.file.close()

    def _write(self, image: NDArray[np.uint8]) -> None:
        assert self.file is not None
        self.file.write(np.ascontiguousarray(np.broadcast_to(image, (self._channels, *image.shape[1:]))).data)
        self._written += 1

    def _colour_file(self, channels: int) -> None:
        """Grey images in the file become coloured ones: the first coloured one came."""
        assert self.file is not None
        assert self._first is not None
        grey = _mapped(self.file, (self._written, 1, *self._first[1][1:]))
        self.close()
        self.file = _temporary_file()
        for block in grey.split(_BLOCK):
            self.file.write(block.expand(-1, channels, -1, -1).contiguous().numpy().data)


def _temporary_file() -> IO[bytes]:
    """A file without a name: gone with the last that uses it, even if that is killed."""
    return tempfile.TemporaryFile(prefix="ssimgen-")


def _mapped(file: IO[bytes], shape: tuple[int, ...]) -> UInt8[Tensor, "N C H W"]:
    """A file seen as images; read from disk when looked at, and not held in memory for good."""
    file.flush()
    return torch.frombuffer(mmap.mmap(file.fileno(), 0), dtype=torch.uint8).reshape(shape)
