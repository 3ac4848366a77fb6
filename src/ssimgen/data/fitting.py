"""How pictures of any size are made to fit: scaled, cropped about the centre, made grey."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ssimgen._stored_pixels import LARGEST

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's "L"


@dataclass(frozen=True)
class Fit:
    """A function of images in [0, 1]; can be sent to another process.

    Attributes:
        size: side in pixels; the shorter side is scaled to it (bicubic, antialiased), the longer one cropped about its
            centre. None: images stay as they are.
        grey: turn colours into grey.
    """

    size: int | None = None
    grey: bool = False

    def __call__(self, images: Float[Tensor, "*B C H W"]) -> Float[Tensor, "*B c h w"]:
        """Images resized and made grey as asked; ValueError if they would become too large on the way."""
        if self.grey and images.shape[-3] == 3:
            weights = images.new_tensor(_LUMA).view(3, 1, 1)
            images = (images * weights).sum(-3, keepdim=True)
        return images if self.size is None else _squares(images, self.size)


def scaled_size(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width of an image whose shorter side is scaled to `size`."""
    scale = size / min(height, width)
    return max(size, round(height * scale)), max(size, round(width * scale))


def scaled(images: Float[Tensor, "B C H W"], size: tuple[int, int]) -> Float[Tensor, "B C h w"]:
    """Images in [0, 1] of another size."""
    return F.interpolate(images, size, mode="bicubic", antialias=True).clamp(0, 1)  # bicubic overshoots


def _squares(images: Float[Tensor, "*B C H W"], size: int) -> Float[Tensor, "*B C {size} {size}"]:
    height, width = images.shape[-2:]
    if (height, width) == (size, size):
        return images
    h, w = scaled_size(height, width, size)
    if h * w > LARGEST:
        raise ValueError(
            f"is {width} x {height} px, which scaled to {size} px would be {w} x {h}, more than {LARGEST:,} pixels: "
            "crop it, or take a smaller size"
        )
    batch = images if images.ndim == 4 else images[None]
    batch = scaled(batch, (h, w))
    top, left = (h - size) // 2, (w - size) // 2
    batch = batch[..., top : top + size, left : left + size]
    return batch if images.ndim == 4 else batch[0]
