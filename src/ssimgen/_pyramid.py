"""Structural distances over an image pyramid: the options, checked, the images of each scale, and the term of pixels.

With D_s the distance of images that were halved s - 1 times, the squared distance of all is

    mean over s of D_s^2 + pixels * mean |x - y| / l,

and with the norm "frobenius" the sums in place of the means. Halving, and the change to luma and chroma before all
else, are linear maps of the images, so that this is a squared Hilbertian distance as each D_s^2 is (docs/kernels.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen._numbers import positive_integer
from ssimgen._precision import in_common
from ssimgen._remembered import remembered
from ssimgen._request import DataRange, checked_options, stability_constants
from ssimgen._scales import WANG_SCALE_WEIGHTS, fitting_scales, halved, halved_under
from ssimgen.engine import Form, PatchDistance, fused_can
from ssimgen.windows import Window

EachScale = float | tuple[float, ...]
"""A number for all scales, or one for each, from fine to coarse."""


class Scale(NamedTuple):
    """The images of one scale, what is seen of them, and what is asked of an engine."""

    images: list[Tensor]
    mask: Tensor | None
    patch: PatchDistance


@dataclass(frozen=True)
class Pyramid:
    """Which scales are compared, by which constants, and what is added or done before.

    Raises:
        ValueError: an option out of range, by its name.
    """

    scales: int | None
    k1: EachScale
    k2: EachScale
    pixels: float
    chroma: float | None

    def __post_init__(self) -> None:
        arguments.keep_plain(self, "scales", "k1", "k2", "pixels", "chroma")
        if self.scales is not None:
            positive_integer("scales", self.scales, "scales")
        for name, k in (("k1", self.k1), ("k2", self.k2)):
            if isinstance(k, tuple) and len(k) != self.scales:
                raise ValueError(
                    f"{name} must be one number, or one for each of scales={self.scales}, got {len(k)}: "
                    f"pass scales={len(k)}, or one number"
                )
        weight = arguments.as_number(self.pixels)
        if weight is None or weight < 0:
            raise ValueError(
                f"pixels must be a number of at least 0, the weight of mean |x - y| / l, got {self.pixels!r}"
            )
        if self.chroma is not None and not arguments.is_positive(self.chroma):
            raise ValueError(
                f"chroma must be a positive number, by which chroma is multiplied, got {self.chroma!r}: "
                "None leaves colours as they are"
            )

    def checked(self, data_range: DataRange, window: Window, form: Form) -> None:
        """Raise for what else a distance has that is out of range."""
        for scale in range(self.scales or 1):
            checked_options(data_range, window, *self.constants(scale), form)

    def constants(self, scale: int) -> tuple[float, float]:
        """k1 and k2 of a scale, 0 being the finest."""
        k1, k2 = (k[scale] if isinstance(k, tuple) else k for k in (self.k1, self.k2))
        return k1, k2

    def levels(self, images: list[Tensor], mask: Tensor | None, patch: PatchDistance) -> Iterator[Scale]:
        """The scales from fine to coarse, for the request `patch` at the finest."""
        if self.chroma is not None:
            _check_colours(images[0], mask)
            images = [luma_and_chroma(z, patch.lo, self.chroma) for z in in_common(*images)]
            patch = replace(patch, lo=0.0)
        for scale in range(self._fitting(images[0], patch.window)):
            if scale:
                images, mask = _halved(images, mask, patch.window)
                c1, c2 = stability_constants(patch.length, *self.constants(scale))
                patch = replace(patch, c1=c1, c2=c2)
            yield Scale(images, mask, patch)

    def _fitting(self, x: Tensor, window: Window) -> int:
        """How many scales there are for images like x."""
        if self.scales == 1:
            return 1
        fitting = fitting_scales(x, window, lambda side: side // 2)
        if self.scales is None:
            return min(fitting, len(WANG_SCALE_WEIGHTS))
        if self.scales > fitting:
            sides, size = (" x ".join(map(str, n)) for n in (x.shape[2:], (a.size for a in window.axes(x.ndim - 2))))
            raise ValueError(
                f"scales={self.scales}, but {fitting} fit images of {sides} px with a window of {size} px: pass "
                f"scales={fitting} or less, a smaller window, or larger images"
            )
        return self.scales


pyramid_of = remembered(Pyramid)


def _halved(images: list[Tensor], mask: Tensor | None, window: Window) -> tuple[list[Tensor], Tensor | None]:
    return (
        halved_under(mask, images, window)
        if mask is not None
        else ([halved(z, window) for z in in_common(*images)], None)
    )


def luma_and_chroma(x: Float[Tensor, "B 3 *spatial"], lo: float, chroma: float) -> Float[Tensor, "B 3 *spatial"]:
    """Luma, and blue and red less luma times `chroma` (ITU-R BT.601-7, section 2.5: E'_Y, E'_CB, E'_CR), from lo = 0.

    Luma is written so that grey stays grey: chroma is then 0 to the last bit.
    """
    red, green, blue = (x - lo if lo else x).unbind(1)
    luma = green + 0.299 * (red - green) + 0.114 * (blue - green)
    return torch.stack([luma, (chroma / 1.772) * (blue - luma), (chroma / 1.402) * (red - luma)], 1)


def _check_colours(x: Tensor, mask: Tensor | None) -> None:
    if x.shape[1] != 3:
        raise ValueError(
            f"chroma is of images with the channels red, green and blue, got {x.shape[1]} channel(s): "
            "leave it out, chroma=None"
        )
    if mask is not None and fused_can(mask) and not bool((mask == mask[:, :1]).all()):
        raise ValueError("chroma joins the channels of a pixel, which mask must hide together: pass one of one channel")


def absolute_sums(x: Tensor, y: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Sums of |x - y| over the pixels of each pair, and how many there are; under a mask, by its weights."""
    x, y = in_common(x, y)
    if mask is None:
        return torch.linalg.vector_norm((x - y).flatten(1), 1, 1), x.new_full((), x[0].numel())
    shown = torch.where(mask > 0, x - y, 0.0) * mask
    return torch.linalg.vector_norm(shown.flatten(1), 1, 1), mask.flatten(1).sum(1)
