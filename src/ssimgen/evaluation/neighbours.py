"""The images of a set that are structurally nearest to one image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from ssimgen import pairwise
from ssimgen.data import Gallery
from ssimgen.metrics import StructuralDistance

_BATCH = 256  # images in memory at a time


@dataclass(frozen=True, eq=False)
class Neighbour:
    """An image of the set that is near to the query.

    Attributes:
        name: of the image in the set.
        image: with values in [0, 1].
        distance: of the two, in the metric of the search.
        ssim: of the two.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation.neighbours import Neighbour
        >>> Neighbour("faces/1.png", torch.rand(1, 16, 16), distance=0.1, ssim=0.99).name
        'faces/1.png'
    """

    name: str
    image: Float[Tensor, "C H W"] = field(repr=False)
    distance: float
    ssim: float


def neighbours(
    query: Float[Tensor, "C H W"],
    gallery: Gallery,
    metric: StructuralDistance,
    *,
    number: int,
    leave_out: int | None = None,
    track: Callable[[Sequence[list[int]]], Iterable[list[int]]] = iter,
) -> list[Neighbour]:
    """The `number` images of the gallery nearest to the query, nearest first; of equally near ones, the first.

    Images are read a batch at a time, so the set may be larger than memory.

    Args:
        query: with values in [0, 1].
        leave_out: place in the gallery of an image not to be found: the query itself.
        track: passes on what it iterates over, for a progress bar.

    Raises:
        ValueError: a number below 1, an empty choice, or an image whose size or channels are not those of the query,
            by name.

    Example:
        >>> import torch
        >>> from ssimgen.data import Gallery
        >>> from ssimgen.evaluation.neighbours import neighbours
        >>> from ssimgen.metrics import StructuralDistance
        >>> images = torch.rand(5, 1, 16, 16)
        >>> gallery = Gallery("memory", "abcde", lambda i: images[i])
        >>> [found.name for found in neighbours(images[2], gallery, StructuralDistance(data_range=1.0), number=1)]
        ['c']
    """
    if number < 1:
        raise ValueError(f"number must be at least 1, got {number}")
    places = [i for i in range(len(gallery)) if i != leave_out]
    if not places:
        raise ValueError(f"{gallery.source} holds no image but the query")
    batches = [places[i : i + _BATCH] for i in range(0, len(places), _BATCH)]
    with torch.no_grad():
        found = torch.cat([metric(query[None], _like(query, gallery, batch))[0] for batch in track(batches)])
    order = found.argsort(stable=True)[:number].tolist()
    nearest = [places[i] for i in order]
    images = _like(query, gallery, nearest)
    k1, k2 = metric.finest
    similarities = pairwise.ssim(query[None], images, data_range=metric.data_range, window=metric.window, k1=k1, k2=k2)[
        0
    ]
    return [
        Neighbour(gallery.names[place], image, found[i].item(), similarity.item())
        for place, image, i, similarity in zip(nearest, images, order, similarities, strict=True)
    ]


def _like(query: Tensor, gallery: Gallery, places: list[int]) -> Tensor:
    """Images of the size and channels of the query; grey ones beside a coloured query are taken as coloured."""
    images = gallery.images(places)
    first = gallery.names[places[0]]
    if images.shape[2:] != query.shape[1:]:
        raise ValueError(
            f"the query is {query.shape[2]} x {query.shape[1]} px, but {first} of {gallery.source} is "
            f"{images.shape[3]} x {images.shape[2]} px: give a size to scale to, with --size"
        )
    if images.shape[1] > len(query):
        raise ValueError(f"the query is grey, but {gallery.source} holds coloured images: turn all grey, with --grey")
    return images.expand(-1, len(query), -1, -1)
