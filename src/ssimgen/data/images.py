"""A set of images, in memory or in a file that is mapped into memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from ssimgen.batches import Batch, Shape
from ssimgen.data.collecting import take_on_disk


@dataclass(frozen=True)
class Images:
    """Images, as bytes or as numbers in [0, 1], with class numbers where known.

    Attributes:
        pixels: uint8, or float32 in [0, 1].
        labels: one class number an image, or None.
        source: where the images come from, in words.
        on_disk: the pixels are bytes in a temporary file, mapped into memory; so are those of a subset.

    Example:
        >>> import torch
        >>> from ssimgen.data import Images
        >>> images = Images(torch.full((10, 1, 16, 16), 255, dtype=torch.uint8), torch.arange(10) % 3, "white")
        >>> images.classes, images.shape, images.first(2).images.max()
        (3, (1, 16, 16), tensor(1.))
        >>> next(images.batches(4, seed=0)).labels.shape
        torch.Size([4])
    """

    pixels: UInt8[Tensor, "N C H W"] | Float[Tensor, "N C H W"]
    labels: Int[Tensor, " N"] | None
    source: str
    on_disk: bool = False

    def __repr__(self) -> str:
        """In one line."""
        channels, height, width = self.shape
        kind = str(self.pixels.dtype).removeprefix("torch.")
        of_classes = f", {self.classes} classes" if self.classes else ""
        return f"Images({len(self)} x {channels} x {height} x {width}, {kind}{of_classes}, source={self.source!r})"

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def shape(self) -> Shape:
        """The shape of an image: (channels, height, width)."""
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    @property
    def classes(self) -> int:
        """Number of classes; 0 without labels."""
        return 0 if self.labels is None else int(self.labels.max()) + 1

    @cached_property
    def digest(self) -> str:
        """SHA-256 of shape, pixels and labels."""
        sha = hashlib.sha256(f"{self.pixels.dtype} {tuple(self.pixels.shape)}".encode())
        sha.update(self.pixels.contiguous().numpy().data)
        if self.labels is not None:
            sha.update(self.labels.contiguous().numpy().data)
        return sha.hexdigest()

    def describe(self) -> dict[str, Any]:
        """Source, count and hash, for the configuration of a run."""
        return {"source": self.source, "images": len(self), "classes": self.classes, "hash": self.digest}

    def select(self, index: Int[Tensor, " n"] | slice) -> Batch:
        """Some of the images, in [0, 1]."""
        pixels = self.pixels[index]
        images = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
        return Batch(images, None if self.labels is None else self.labels[index])

    def first(self, n: int) -> Batch:
        """The first n images, or all if there are fewer."""
        return self.select(slice(n))

    def subset(self, index: Int[Tensor, " n"], source: str) -> Images:
        """Some of the images as a set of its own."""
        pixels = take_on_disk(self.pixels, index) if self.on_disk else self.pixels[index]
        return Images(pixels, None if self.labels is None else self.labels[index], source, self.on_disk)

    def some(self, most: int, seed: int) -> Images:
        """At most so many of the images, drawn at random."""
        if len(self) <= most:
            return self
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return self.subset(order[:most], self.source)

    def batches(self, size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Batches without end from the start-th on: each epoch in an order of its own, its remainder left out.

        The n-th batch is a function of (seed, n) alone.
        """
        per_epoch = len(self) // size
        if not per_epoch:
            raise ValueError(
                f"{self.source} has {len(self)} images, fewer than a batch of {size}: take a smaller batch"
            )
        return self._batches(size, seed, start, per_epoch)

    def _batches(self, size: int, seed: int, start: int, per_epoch: int) -> Iterator[Batch]:
        epoch, skipped = divmod(start, per_epoch)
        while True:
            order = _order(len(self), seed, epoch)
            for i in range(skipped, per_epoch):
                yield self.select(order[i * size : (i + 1) * size])
            epoch, skipped = epoch + 1, 0


def _order(n: int, seed: int, epoch: int) -> Tensor:
    """The order of the images in an epoch."""
    digest = hashlib.sha256(f"{seed} {epoch}".encode()).digest()  # neighbouring seeds give unrelated orders
    return torch.randperm(n, generator=torch.Generator().manual_seed(int.from_bytes(digest[:7])))
