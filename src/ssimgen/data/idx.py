"""The IDX format of MNIST and its relatives: big-endian header, then bytes; gzipped or not.

Header: two zero bytes, the type (8: unsigned bytes), the number of axes, then the length of each axis in 32 bits.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from io import BufferedIOBase
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssimgen import pictures
from ssimgen._files import ordinary_file
from ssimgen._memory import check_fits
from ssimgen.data.images import Images

_UNSIGNED_BYTES = 8
_TYPES = (_UNSIGNED_BYTES, 9, 11, 12, 13, 14)  # 9 to 14: numbers of other kinds
_GZIP = b"\x1f\x8b"
_MOST_PACKED = 1032  # bytes that a byte of gzip can hold


def looks_like(path: Path) -> bool:
    """Whether a file begins as an IDX file does, gzipped or not, or has the name of one in MNIST."""
    return _axes(path) > 0 or _has_name(path)


def image_files(folder: Path) -> list[Path]:
    """The IDX files of images in a folder, those of training first."""
    found = [p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")]
    others = (p for p in found if p.suffix.lower() not in pictures.SUFFIXES)
    images = (p for p in others if _axes(p) > 1 or (_has_name(p) and "images" in p.name))
    return sorted(images, key=lambda p: ("train" not in p.name, p.name))


def _has_name(path: Path) -> bool:
    """As train-images-idx3-ubyte.gz: whatever it holds, so that a damaged one is not passed over."""
    return "idx" in path.name and "ubyte" in path.name


def _axes(path: Path) -> int:
    """Those of the array in an IDX file; 0 for any other file."""
    try:
        with _opened(path) as file:
            start = file.read(4)
    except (OSError, EOFError, zlib.error):  # not gzip after all, damaged, or not to be read
        return 0
    return start[3] if len(start) == 4 and start[:2] == b"\0\0" and start[2] in _TYPES else 0


def read(path: Path) -> list[Images]:
    """An IDX file of images, or the training and test files of a folder, each with the labels beside it."""
    files = image_files(path) if path.is_dir() else [path]
    if len(files) > 2:
        names = ", ".join(file.name for file in files)
        raise ValueError(f"{path} holds {len(files)} IDX files of images, not one or two ({names}): name the file")
    return [_images(file) for file in files]


def _images(path: Path) -> Images:
    pixels = read_array(path)
    if pixels.ndim != 3:
        raise ValueError(f"{path} holds an array of shape {tuple(pixels.shape)}, not images (number, height, width)")
    if 0 in pixels.shape:
        raise ValueError(f"{path} holds {len(pixels)} images of {pixels.shape[2]} x {pixels.shape[1]} px: no pixels")
    beside = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    labels = read_array(beside).long() if beside != path and beside.exists() else None
    if labels is not None and labels.shape != pixels.shape[:1]:
        raise ValueError(f"{beside} holds {tuple(labels.shape)} labels for the {len(pixels)} images of {path.name}")
    return Images(pixels[:, None], labels, str(path))


def read_array(path: Path) -> Tensor:
    """The array of unsigned bytes in an IDX file; memory is taken for what can be in the file, not for what it says.

    Raises:
        ValueError: no IDX file of bytes, damaged, incomplete or longer than it says, or too large for memory.
        OSError: the file is missing, no ordinary file, or cannot be read.
    """
    try:
        with _opened(path) as file:
            return _array(path, file)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is damaged or incomplete: {error}") from error


def _opened(path: Path) -> BufferedIOBase:
    with ordinary_file(path).open("rb") as file:
        packed = file.read(2) == _GZIP
    return gzip.open(path) if packed else path.open("rb")


def _array(path: Path, file: BufferedIOBase) -> Tensor:
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0":
        raise ValueError(f"{path} is not an IDX file: it does not begin with two zero bytes")
    kind, axes = start[2:]
    if kind != _UNSIGNED_BYTES:
        raise ValueError(f"{path} holds values of IDX type {kind:#04x}, only unsigned bytes (0x08) are images")
    lengths = file.read(4 * axes)
    shape = struct.unpack(f">{axes}I", lengths) if axes and len(lengths) == 4 * axes else ()
    declared, most = math.prod(shape), path.stat().st_size * (_MOST_PACKED if isinstance(file, gzip.GzipFile) else 1)
    check_fits(min(declared, most), f"the content of {path}", "split the file")
    content = file.read(min(declared, most) + 1) if shape else b""
    if len(content) < declared or not shape:
        raise ValueError(f"{path} is incomplete: its header declares shape {shape}, {len(content)} bytes follow")
    if len(content) > declared:
        raise ValueError(f"{path} goes on after the {declared} bytes of shape {shape} that its header declares")
    return torch.from_numpy(np.frombuffer(content, np.uint8).reshape(shape).copy())
