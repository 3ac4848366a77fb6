"""Colour patches of the photographs inside scikit-image and scikit-learn: real images without a download."""

from __future__ import annotations

from importlib.resources import as_file, files

import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

from ssimgen import pictures
from ssimgen._extras import extra
from ssimgen.data.images import Images

DEFAULT_SIZE = 32

_TRAINING = (
    ("skimage.data", "astronaut.png"),
    ("skimage.data", "coffee.png"),
    ("skimage.data", "motorcycle_left.png"),
    ("skimage.data", "rocket.jpg"),
    ("sklearn.datasets.images", "flower.jpg"),
)
_HELD_OUT = (
    ("skimage.data", "chelsea.png"),
    ("sklearn.datasets.images", "china.jpg"),
)


def read(size: int | None) -> list[Images]:
    """Patches of `size` px (None: 32) of five photographs to train on, and of two others, held out.

    Photographs are scaled to half their size, so that a patch shows more than one surface. Patches lie on a grid of a
    quarter of their size: neighbours overlap. No photograph is in both sets, and so the two differ more than random
    halves of one collection would.

    Raises:
        ValueError: patches that do not fit into the smallest photograph, of 150 px.
    """
    size = DEFAULT_SIZE if size is None else size
    return [_patches_of(_TRAINING, size, "photos, training"), _patches_of(_HELD_OUT, size, "photos, held out")]


def _patches_of(photographs: tuple[tuple[str, str], ...], size: int, source: str) -> Images:
    """The patches of some photographs, in a random order that is always the same."""
    pixels = torch.cat([patches(_photograph(package, name), size) for package, name in photographs])
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))
    return Images(pixels[order], None, source)


def _photograph(package: str, name: str) -> UInt8[Tensor, "3 H W"]:
    with extra("train", "data 'photos'"):
        folder = files(package)
    with as_file(folder / name) as path:
        halved = F.avg_pool2d(pictures.read(path), 2)
    return (halved * 255).round().byte()


def patches(photograph: UInt8[Tensor, "C H W"], size: int) -> UInt8[Tensor, "n C {size} {size}"]:
    """Squares of `size` px on a grid of a quarter of that distance; an incomplete margin is left out."""
    height, width = photograph.shape[1:]
    if size > min(height, width):
        raise ValueError(f"patches of {size} px do not fit into a photograph of {width} x {height} px: ask for smaller")
    step = max(1, size // 4)
    windows = photograph.unfold(1, size, step).unfold(2, size, step)  # (C, rows, columns, size, size)
    return windows.flatten(1, 2).movedim(1, 0).contiguous()
