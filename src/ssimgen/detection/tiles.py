"""Images of any size through a model of one size: overlapping tiles, whose reconstructions fade into each other."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

_BATCH = 32  # tiles at a time


@torch.no_grad()
def reconstruct_in_tiles(
    reconstruct: Callable[[Float[Tensor, "B C h w"]], Float[Tensor, "B C h w"]],
    image: Float[Tensor, "C H W"],
    tile: tuple[int, int],
    overlap: float = 0.5,
) -> Float[Tensor, "C H W"]:
    """The reconstruction of an image, from those of tiles that cover it evenly.

    Where tiles overlap, their mean counts, weighted by sin^2(pi (i + 1/2) / h) sin^2(pi (j + 1/2) / w) at row i and
    column j of a tile: it changes smoothly from one tile to the next.

    Args:
        reconstruct: of tiles.
        image: at least as large as a tile.
        tile: height and width of a tile, as the model was trained on.
        overlap: share of a tile that its neighbour covers too, at least, along each axis; in [0, 1).

    Returns:
        An image of the size of `image`; of one tile, `reconstruct` of it as it is.

    Raises:
        ValueError: an image smaller than a tile, or an overlap out of range.

    Example:
        >>> import torch
        >>> from ssimgen.detection import reconstruct_in_tiles
        >>> image = torch.rand(1, 50, 70)
        >>> torch.allclose(reconstruct_in_tiles(lambda tiles: tiles, image, (16, 16)), image, atol=1e-6)
        True
    """
    check_overlap(overlap)
    (height, width), (h, w) = image.shape[1:], tile
    if height < h or width < w:
        raise ValueError(
            f"is {height} x {width} px, smaller than the {h} x {w} px that the model was trained on: enlarge it, "
            f"or pass size={max(h, w)}"
        )
    if (height, width) == (h, w):
        return reconstruct(image[None])[0]
    weights = torch.outer(_ramp(h), _ramp(w)).to(image)
    total, weight = torch.zeros_like(image), torch.zeros_like(image[0])
    corners = list(product(_starts(height, h, overlap), _starts(width, w, overlap)))
    for first in range(0, len(corners), _BATCH):
        some = corners[first : first + _BATCH]
        tiles = torch.stack([image[:, top : top + h, left : left + w] for top, left in some])
        for (top, left), part in zip(some, reconstruct(tiles), strict=True):
            total[:, top : top + h, left : left + w] += weights * part
            weight[top : top + h, left : left + w] += weights
    return total / weight


def check_overlap(overlap: float) -> None:
    """Raise ValueError unless it is one."""
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap must be a fraction in [0, 1), got {overlap}")


def _starts(length: int, side: int, overlap: float) -> list[int]:
    """Where tiles begin along an axis: evenly spaced from one border to the other."""
    step = max(1, math.floor(side * (1 - overlap)))
    gaps = math.ceil((length - side) / step)
    return [round(i * (length - side) / gaps) for i in range(gaps + 1)] if gaps else [0]


def _ramp(side: int) -> Float[Tensor, " side"]:
    return torch.sin(torch.pi * (torch.arange(side) + 0.5) / side).square()
