"""The IDX format of MNIST and its relatives: big-endian header, then bytes; gzipped or not.

Header: two zero bytes, the type (8: unsigned bytes), the number of axes, then the length of each axis in 32 bits.
"""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssimgen.data.images import Images

_UNSIGNED_BYTES = 8


def looks_like(path: Path) -> bool:
    """Whether the name is that of an IDX file."""
    return "idx" in path.name and path.is_file()


def image_files(folder: Path) -> list[Path]:
    """The IDX files of images in a folder, those of training first."""
    found = (p for p in folder.iterdir() if "images" in p.name and looks_like(p))
    return sorted(found, key=lambda p: ("train" not in p.name, p.name))


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
    beside = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    labels = read_array(beside).long() if beside != path and beside.exists() else None
    if labels is not None and labels.shape != pixels.shape[:1]:
        raise ValueError(f"{beside} holds {tuple(labels.shape)} labels for the {len(pixels)} images of {path.name}")
    return Images(pixels[:, None], labels, str(path))


def read_array(path: Path) -> Tensor:
    """The array of unsigned bytes in an IDX file."""
    raw = path.read_bytes()
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError) as error:
            raise ValueError(f"{path} is damaged or incomplete: {error}") from error
    if len(raw) < 4 or raw[:2] != b"\0\0":
        raise ValueError(f"{path} is not an IDX file: it does not begin with two zero bytes")
    kind, axes = raw[2], raw[3]
    if kind != _UNSIGNED_BYTES:
        raise ValueError(f"{path} holds values of IDX type {kind:#04x}, only unsigned bytes (0x08) are images")
    start = 4 + 4 * axes
    shape = struct.unpack(f">{axes}I", raw[4:start]) if len(raw) >= start else ()
    if len(raw) - start != math.prod(shape) or not axes:
        raise ValueError(f"{path} is incomplete: its header declares shape {shape}, {len(raw) - start} bytes follow")
    return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=start).reshape(shape).copy())
