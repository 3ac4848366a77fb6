"""Options of SSIM and structural distances as a plain record, for the configurations of models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen.engine import Form
from ssimgen.metrics import StructuralDistance
from ssimgen.similarity import distance, ms_ssim
from ssimgen.windows import Padding, Window


@dataclass(frozen=True)
class Structure:
    """Which structural distance, of images in [0, 1].

    Attributes:
        form: "product" (1 - SSIM), "sum", "centred" or "uncentred"; docs/mathematics.md has the formulas.
        norm: "rms", or "frobenius", which grows with the number of patches.
        window: "gaussian" or "uniform".
        size: side of the window in pixels.
        sigma: standard deviation of the Gaussian window in pixels.
        stride: distance between windows in pixels.
        unbiased: sample covariances, with the uniform window.
        k1: stability constant of luminance, in units of the range of the pixels.
        k2: stability constant of contrast and structure. The gradient fades where patches differ by much more
            than k1 and k2; larger values see further.
        padding: "valid", windows wholly inside the image, or "reflect" or "symmetric", mirrored borders.
        scales: of the image pyramid over which D^2 is averaged; docs/kernels.md, F11.
        pixels: weight of the mean absolute difference of pixels in D^2.
        chroma: by which chroma is multiplied, images being compared as luma and chroma; None: as they are.

    Raises:
        ValueError: an unknown form, norm, window or padding, or numbers out of range, as :class:`ssimgen.Window` and
            :func:`ssimgen.distance`.

    Example:
        >>> import torch
        >>> from ssimgen.objectives.structure import Structure
        >>> blocks = Structure(form="sum", window="uniform", size=8, stride=8)
        >>> images = torch.rand(4, 1, 16, 16)
        >>> blocks.squared_distance(images, images)
        tensor([0., 0., 0., 0.])
    """

    form: Form = "product"
    norm: Literal["rms", "frobenius"] = "rms"
    window: Literal["gaussian", "uniform"] = "gaussian"
    size: int = 11
    sigma: float = 1.5
    stride: int = 1
    unbiased: bool = False
    k1: float = 0.01
    k2: float = 0.03
    padding: Padding = "valid"
    scales: int = 1
    pixels: float = 0.0
    chroma: float | None = None

    def __post_init__(self) -> None:
        arguments.choice("window", self.window, ("gaussian", "uniform"))
        self.metric()

    def make_window(self) -> Window:
        """The window that `window`, `size`, `sigma`, `stride`, `unbiased` and `padding` describe."""
        if self.window == "gaussian":
            return Window.gaussian(self.size, self.sigma, self.stride, padding=self.padding)
        return Window.uniform(self.size, self.stride, self.unbiased, padding=self.padding)

    def metric(self) -> StructuralDistance:
        """D of all pairs of images in [0, 1]."""
        return StructuralDistance(1.0, window=self.make_window(), **self._options())

    def _options(self) -> dict[str, Any]:
        names = ("form", "norm", "k1", "k2", "scales", "pixels", "chroma")
        return {name: getattr(self, name) for name in names}

    def squared_distance(self, x: Float[Tensor, "B C H W"], y: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"]:
        """D^2 of image pairs in [0, 1]; :func:`ssimgen.distance`, squared."""
        return distance(x, y, data_range=1.0, squared=True, window=self.make_window(), **self._options())

    def ms_ssim(self, x: Float[Tensor, "B C H W"], y: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"]:
        """MS-SSIM of image pairs in [0, 1]; :func:`ssimgen.ms_ssim` (of the other options, window, k1 and k2 apply)."""
        return ms_ssim(x, y, data_range=1.0, window=self.make_window(), k1=self.k1, k2=self.k2)


PYRAMID = Structure(form="sum", window="uniform", size=5, k1=0.1, k2=0.1, padding="reflect", scales=3, pixels=1.0)
"""Three scales, mirrored borders, wide constants, and pixels: a distance to train with."""
