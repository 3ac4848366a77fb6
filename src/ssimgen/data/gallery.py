"""Images by name, read when asked for: for what needs a part of a large set, or the files that images came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ssimgen.data import folders
from ssimgen.data.images import Images


@dataclass(frozen=True)
class Gallery:
    """Images that are read by name when they are asked for.

    Attributes:
        source: where they come from, in words.
        names: of the images, in their order: paths in a folder, or numbers in a file.
        read: the image of an index, in [0, 1].

    Example:
        >>> import torch
        >>> from ssimgen.data import Gallery
        >>> pictures = torch.rand(3, 1, 16, 16)
        >>> gallery = Gallery("memory", ["a.png", "b.png", "c.png"], lambda i: pictures[i])
        >>> len(gallery), gallery.images([0, 2]).shape
        (3, torch.Size([2, 1, 16, 16]))
    """

    source: str
    names: Sequence[str]
    read: Callable[[int], Float[Tensor, "C H W"]]

    def __len__(self) -> int:
        return len(self.names)

    def place(self, file: Path) -> int | None:
        """Which of the images a file is; None if it is none of them."""
        file, folder = file.resolve(), Path(self.source).resolve()
        name = str(file.relative_to(folder)) if file.is_relative_to(folder) else ""
        return self.names.index(name) if name in self.names else None

    def images(self, indices: Sequence[int]) -> Float[Tensor, "n C H W"]:
        """Some of the images; all in colour if one of them is.

        Raises:
            ValueError: a damaged picture, or images of different sizes, by their names.
        """
        with ThreadPoolExecutor() as pool:  # decoding leaves Python's lock
            images = list(pool.map(self.read, indices))
        channels = max(len(image) for image in images)
        for i, image in zip(indices, images, strict=True):
            if image.shape[1:] != images[0].shape[1:]:
                (_, h, w), (_, height, width) = images[0].shape, image.shape
                raise ValueError(
                    f"images of {self.source} differ in size: {self.names[indices[0]]} is {w} x {h} px, "
                    f"{self.names[i]} is {width} x {height} px: give a size to scale to"
                )
        return torch.stack([image.expand(channels, -1, -1) for image in images])


def of_folder(folder: Path, read: Callable[[Path], Tensor]) -> Gallery:
    """The pictures below a folder, each read when it is asked for."""
    paths = folders.picture_files(folder)
    if not paths:
        raise ValueError(folders.nothing_in(folder))
    names = [str(path.relative_to(folder)) for path in paths]
    return Gallery(str(folder), names, lambda i: read(paths[i]))


def of_sets(sets: Sequence[Images]) -> Gallery:
    """Sets in memory, one after the other."""
    places = [(images, i) for images in sets for i in range(len(images))]
    names = [str(i) if len(sets) == 1 else f"{images.source} {i}" for images, i in places]

    def read(index: int) -> Tensor:
        images, i = places[index]
        return images.select(slice(i, i + 1)).images[0]

    return Gallery(" and ".join(images.source for images in sets), names, read)
