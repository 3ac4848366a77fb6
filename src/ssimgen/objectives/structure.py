"""Options of SSIM and structural distances as a plain record, for the configurations of models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen._request import FORMS, NORMS, stability_constants
from ssimgen.engine import Form
from ssimgen.similarity import distance, ms_ssim
from ssimgen.windows import Window


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

    Raises:
        ValueError: an unknown form, norm or window, or numbers out of range, as :class:`ssimgen.Window`.

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

    def __post_init__(self) -> None:
        arguments.choice("form", self.form, FORMS)
        arguments.choice("norm", self.norm, NORMS)
        arguments.choice("window", self.window, ("gaussian", "uniform"))
        stability_constants(1.0, self.k1, self.k2)
        self.make_window()

    def make_window(self) -> Window:
        """The window that `window`, `size`, `sigma`, `stride` and `unbiased` describe."""
        if self.window == "gaussian":
            return Window.gaussian(self.size, self.sigma, self.stride)
        return Window.uniform(self.size, self.stride, self.unbiased)

    def squared_distance(self, x: Float[Tensor, "B C H W"], y: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"]:
        """D^2 of image pairs in [0, 1]; :func:`ssimgen.distance`, squared."""
        return distance(
            x,
            y,
            data_range=1.0,
            form=self.form,
            norm=self.norm,
            squared=True,
            window=self.make_window(),
            k1=self.k1,
            k2=self.k2,
        )

    def ms_ssim(self, x: Float[Tensor, "B C H W"], y: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"]:
        """MS-SSIM of image pairs in [0, 1]; :func:`ssimgen.ms_ssim` (form and norm do not apply)."""
        return ms_ssim(x, y, data_range=1.0, window=self.make_window(), k1=self.k1, k2=self.k2)
