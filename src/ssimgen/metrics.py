"""Distances between all points of two samples, as objects that kernels and discrepancies take."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen import pairwise
from ssimgen._masks import digest
from ssimgen._precision import for_products, no_autocast
from ssimgen._pyramid import EachScale, pyramid_of
from ssimgen._request import DEFAULT_WINDOW, NORMS, DataRange, Norm
from ssimgen.engine import Form
from ssimgen.engine.eager_all_pairs import symmetric
from ssimgen.similarity import root
from ssimgen.windows import Window

__all__ = ["Euclidean", "Metric", "StructuralDistance"]


class Metric(ABC):
    """A distance D: `metric(x, y)` is the matrix of D(x_i, y_j), differentiable in both arguments.

    With y=None, x is compared with itself: exactly symmetric, with an exactly zero diagonal whose gradient is 0;
    NaN for points that are not finite.

    Attributes:
        hilbertian: claims that D(x, y) = |phi(x) - phi(y)| for a map phi into a Hilbert space. Then D satisfies
            the triangle inequality, -D and -D^2 are conditionally positive definite (Schoenberg 1938), and the
            kernels made from D are positive definite.

    Example:
        >>> import torch
        >>> from ssimgen.metrics import Euclidean, Metric
        >>> metric: Metric = Euclidean()
        >>> metric(torch.tensor([[0.0], [1.0]]), torch.tensor([[4.0]]))
        tensor([[4.],
                [3.]])
        >>> metric.hilbertian
        True
    """

    @property
    @abstractmethod
    def hilbertian(self) -> bool:
        """Whether D(x, y) = |phi(x) - phi(y)| for a map phi into a Hilbert space."""

    @abstractmethod
    def squared(self, x: Float[Tensor, "n ..."], y: Float[Tensor, "m ..."] | None = None) -> Float[Tensor, "n m"]:
        """D^2 of all pairs: for what needs no root, such as a Gaussian kernel, and smooth where x_i = y_j."""

    def __call__(self, x: Float[Tensor, "n ..."], y: Float[Tensor, "m ..."] | None = None) -> Float[Tensor, "n m"]:
        """D of all pairs. Where D is 0 its gradient is 0, a subgradient."""
        return root(self.squared(x, y))


@final
@dataclass(frozen=True)
class Euclidean(Metric):
    """D(x, y) = |x - y|, the Euclidean norm over all axes but the first: for vectors and for images.

    Example:
        >>> import torch
        >>> from ssimgen.metrics import Euclidean
        >>> Euclidean()(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
        tensor([[0., 5.],
                [5., 0.]])
    """

    @property
    def hilbertian(self) -> bool:
        return True

    def squared(self, x: Float[Tensor, "n ..."], y: Float[Tensor, "m ..."] | None = None) -> Float[Tensor, "n m"]:
        """D^2 of all pairs, |x_i|^2 + |y_j|^2 - 2 x_i . y_j about the mean of x: a common offset costs no digits."""
        if y is None:
            x = arguments.sample("x", x)
        else:
            x, y = arguments.samples(x, y)
        with no_autocast(x.device):
            u = for_products(x.flatten(1))
            centre = u.detach().nan_to_num(0, 0, 0).mean(0)  # any will do: an image that holds NaN must not spoil it
            u = u - centre
            v = u if y is None else for_products(y.flatten(1)) - centre
            norms = (u * u).sum(1)[:, None] + (v * v).sum(1)
            square = torch.addmm(norms, u, v.T, alpha=-2).clamp_min(0)
            return arguments.cast(square if y is not None else against_itself(square, x), x.dtype)


def against_itself(square: Float[Tensor, "n n"], x: Float[Tensor, "n ..."]) -> Float[Tensor, "n n"]:
    """Computed D^2 of x and x made exactly symmetric, with the diagonal 0, or NaN for what is not finite."""
    own = torch.where(x.isfinite().flatten(1).all(1), 0.0, math.nan).to(square)
    return symmetric(square, own)


@final
@dataclass(frozen=True)
class StructuralDistance(Metric):
    """D of :func:`ssimgen.distance` between images (n, C, H, W), with its options (Ghojogh et al. 2020, Eqs. 1 and 2).

    A mask is that of all images, (C, *spatial) or less. Every form is Hilbertian, under a mask too: each of s1, s2 and
    s1 s2 is a positive definite kernel of unit diagonal, so that 1 - s = |phi(x) - phi(y)|^2 / 2, and D^2 is a sum of
    such terms (docs/kernels.md, F1 and F2). So it is over several scales, with a term of pixels and with weighed
    colours (F11), unlike MS-SSIM.

    Raises:
        TypeError, ValueError: options out of range, at once; images and mask, when called, as :func:`ssimgen.distance`.

    Example:
        >>> import torch
        >>> from ssimgen import Window
        >>> from ssimgen.metrics import StructuralDistance
        >>> metric = StructuralDistance(data_range=1.0, form="product")
        >>> metric(torch.rand(4, 1, 16, 16), torch.rand(3, 1, 16, 16)).shape
        torch.Size([4, 3])
        >>> window = Window.uniform(5, padding="reflect")
        >>> metric = StructuralDistance(data_range=1.0, window=window, k1=0.1, k2=0.1, scales=3, pixels=1.0)
        >>> metric.squared(torch.rand(4, 1, 16, 16)).shape
        torch.Size([4, 4])
    """

    data_range: DataRange
    form: Form = "sum"
    norm: Norm = "rms"
    window: Window = DEFAULT_WINDOW
    k1: EachScale = 0.01
    k2: EachScale = 0.03
    mask: Tensor | None = field(default=None, repr=False, compare=False)
    scales: int | None = 1
    pixels: float = 0.0
    chroma: float | None = None
    _mask: str = field(default="", init=False, repr=False)  # by which it is compared

    def __post_init__(self) -> None:
        object.__setattr__(self, "_mask", digest(self.mask))
        pyramid = pyramid_of(self.scales, self.k1, self.k2, self.pixels, self.chroma)
        pyramid.checked(self.data_range, self.window, self.form)
        arguments.choice("norm", self.norm, NORMS)
        arguments.keep_plain(self, "data_range", "k1", "k2", "scales", "pixels", "chroma")

    @property
    def hilbertian(self) -> bool:
        return True

    @property
    def finest(self) -> tuple[float, float]:
        """k1 and k2 of the finest scale."""
        return pyramid_of(self.scales, self.k1, self.k2, self.pixels, self.chroma).constants(0)

    def squared(self, x: Float[Tensor, "n ..."], y: Float[Tensor, "m ..."] | None = None) -> Float[Tensor, "n m"]:
        """D^2 of all pairs, as :func:`ssimgen.pairwise.distance` with squared=True."""
        return pairwise.distance(
            x,
            y,
            data_range=self.data_range,
            form=self.form,
            norm=self.norm,
            squared=True,
            window=self.window,
            k1=self.k1,
            k2=self.k2,
            mask=self.mask,
            scales=self.scales,
            pixels=self.pixels,
            chroma=self.chroma,
        )
