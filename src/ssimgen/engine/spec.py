"""What an engine is asked to compute: the squared distance of a patch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ssimgen.windows import Window

Form = Literal["product", "sum", "centred", "uncentred"]

Over = Literal["positions", "images", "batch"]
"""What d^2 is averaged over: the positions of a channel, (B, C); those of all channels of an image, (B,); all, ()."""

Advance = Callable[[float], None]
"""Told, from any thread, which fraction of the work was done since it was last told."""


@dataclass(frozen=True)
class PatchDistance:
    """d^2 of a patch, with a = 1 - s1 and b = 1 - s2 the complements of luminance and structure.

    product: a + b - ab = 1 - SSIM (Eq. 1, general); sum: a + b = 2 - s1 - s2 (Eq. 2);
    centred: b (Eq. 1 for zero-mean patches); uncentred: Eq. 1 without centring.
    Equations are those of Ghojogh, Karray, Crowley (2020).
    """

    window: Window
    form: Form
    c1: float
    c2: float
    lo: float  # the least pixel value; subtracted before anything else
    length: float = 0.0  # of the range of pixels, 0 where it is not known; an engine may choose its precision by it

    def overlooks_brightness(self, ndim: int) -> bool:
        """Whether d^2 of images with so many axes may be small where they differ in brightness much more than in
        contrast, which then is little beside rounding errors of x - y."""
        dim = self.form in ("product", "sum") and self.c1 * self.window.factor(ndim) > 1e3 * self.c2
        return dim or self.form == "centred"


def positions(x: Tensor, window: Window) -> tuple[int, ...]:
    """How many windows there are along each spatial axis of the images x, (B, C, *spatial)."""
    spatial = x.shape[2:]
    return tuple(axis.positions(length) for axis, length in zip(window.axes(len(spatial)), spatial, strict=True))


def joined(form: Form, a: Tensor, b: Tensor) -> Tensor:
    """d^2 of a form with luminance, "product" or "sum", from the complements."""
    return a + b if form == "sum" else a + b - a * b
