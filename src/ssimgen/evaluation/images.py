"""Scores of single images: sharpness, and the nearest training image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen import pairwise
from ssimgen._request import DEFAULT_WINDOW, DataRange, lo_and_length
from ssimgen.windows import Window

_BLOCK = 512  # images compared with all training images at a time


def in_unit_range(name: str, images: Float[Tensor, "n C H W"], data_range: DataRange) -> Float[Tensor, "n C H W"]:
    """Images with values in [0, 1].

    Raises:
        TypeError, ValueError: images that are not finite, or beyond their data_range.
    """
    images = arguments.image_batch(name, images)
    arguments.finite(name, images)
    lo, length = lo_and_length(data_range)
    unit = (images - lo) / length
    least, greatest = unit.min().item(), unit.max().item()
    if least < -1e-6 or greatest > 1 + 1e-6:
        raise ValueError(
            f"{name} has values in [{lo + least * length:g}, {lo + greatest * length:g}], beyond its data_range "
            f"[{lo:g}, {lo + length:g}]: correct data_range, or clamp the images"
        )
    return unit


def sharpness(images: Float[Tensor, "n C H W"], *, data_range: DataRange) -> Float[Tensor, " n"]:
    """Variance of the Laplacian of each image, the mean over channels (Pech-Pacheco et al. 2000, LAPV).

    The Laplacian is that of four neighbours, 4 x - left - right - above - below, at inner pixels, of values scaled to
    [0, 1]. In [0, 16]; blur lowers it and noise raises it, so that closest to real images is best.

    Raises:
        TypeError, ValueError: images that are not finite, beyond their data_range, or smaller than 3 x 3 px.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation import sharpness
        >>> checks = (torch.arange(16)[:, None] + torch.arange(16)) % 2.0
        >>> sharpness(torch.stack([checks, checks / 2])[:, None], data_range=1.0)
        tensor([16.,  4.])
    """
    unit = in_unit_range("images", images, data_range)
    height, width = unit.shape[-2:]
    if min(height, width) < 3:
        raise ValueError(f"the Laplacian needs images of at least 3 x 3 px, got {height} x {width}")
    stencil = unit.new_tensor([[0, -1, 0], [-1, 4, -1], [0, -1, 0]])
    laplacian = F.conv2d(unit.flatten(0, 1)[:, None], stencil[None, None])  # (n C, 1, H-2, W-2)
    return laplacian.flatten(1).var(1, correction=0).view(unit.shape[:2]).mean(1)


@dataclass(frozen=True, eq=False)
class Nearest:
    """The nearest training image of each image, as :func:`nearest` finds it.

    Attributes:
        distance: how far it is, (n,).
        index: which it is, (n,).

    Example:
        >>> import torch
        >>> from ssimgen.evaluation import Nearest
        >>> Nearest(torch.tensor([0.0, 0.3]), torch.tensor([7, 2])).index
        tensor([7, 2])
    """

    distance: Float[Tensor, " n"]
    index: Int[Tensor, " n"]

    def __repr__(self) -> str:
        """In one line."""
        low, high = (end.item() for end in self.distance.aminmax())
        return f"Nearest(of {len(self.index)} images, at distances from {low:.4g} to {high:.4g})"


def nearest(
    images: Float[Tensor, "n C H W"],
    train: Float[Tensor, "m C H W"],
    *,
    data_range: DataRange,
    window: Window = DEFAULT_WINDOW,
) -> Nearest:
    """The training image nearest to each image in the structural distance (:func:`ssimgen.distance`, form "sum", rms).

    Samples nearer to training images than held-out images are have been memorised (Meehan, Chaudhuri, Dasgupta
    2020 make a test of it). The distance is 0 for a copy.

    Raises:
        TypeError, ValueError: images that are not finite, of unequal shapes, or smaller than the window.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation import nearest
        >>> train = torch.rand(5, 1, 16, 16)
        >>> nearest(train[[3, 1]], train, data_range=1.0).index
        tensor([3, 1])
    """
    arguments.finite("images", images)
    arguments.finite("train", train)
    blocks = [
        pairwise.distance(block, train, data_range=data_range, window=window).min(1) for block in images.split(_BLOCK)
    ]
    return Nearest(torch.cat([block.values for block in blocks]), torch.cat([block.indices for block in blocks]))
