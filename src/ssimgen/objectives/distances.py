"""Distances that kernels of moment matching are made of, beside those of :mod:`ssimgen.metrics`."""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass
from typing import final

from jaxtyping import Float
from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen._request import FORMS, stability_constants
from ssimgen.engine import Form
from ssimgen.engine.spec import joined
from ssimgen.metrics import Euclidean, Metric


@final
@dataclass(frozen=True)
class RootMeanSquare(Metric):
    """D(x, y) = |x - y| / sqrt(number of pixels), which has the scale of a structural distance.

    Example:
        >>> import torch
        >>> from ssimgen.objectives.distances import RootMeanSquare
        >>> RootMeanSquare()(torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8))
        tensor([[1.]])
    """

    @property
    def hilbertian(self) -> bool:
        return True

    def squared(self, x: Float[Tensor, "n ..."], y: Float[Tensor, "m ..."] | None = None) -> Float[Tensor, "n m"]:
        """The mean squares of the differences of all pairs."""
        return Euclidean().squared(x, y) / max(1, x[:1].numel())


@final
@dataclass(frozen=True)
class MeanSquare(Metric):
    """D^2 = mean of (D_i / u_i)^2 over several metrics D_i, each in units u_i; Hilbertian if all of them are.

    Example:
        >>> import torch
        >>> from ssimgen.metrics import Euclidean
        >>> from ssimgen.objectives.distances import MeanSquare
        >>> MeanSquare((Euclidean(), Euclidean()), (1.0, 3.0)).squared(torch.zeros(1, 1), torch.full((1, 1), 3.0))
        tensor([[5.]])
    """

    metrics: tuple[Metric, ...]
    units: tuple[float, ...]

    @property
    def hilbertian(self) -> bool:
        return all(metric.hilbertian for metric in self.metrics)

    def squared(self, x: Float[Tensor, "n ..."], y: Float[Tensor, "m ..."] | None = None) -> Float[Tensor, "n m"]:
        """The mean squares of the distances of all pairs."""
        squares = [metric.squared(x, y) / unit**2 for metric, unit in zip(self.metrics, self.units, strict=True)]
        return functools.reduce(operator.add, squares) / len(squares)


@final
@dataclass(frozen=True)
class BlockDistance(Metric):
    """Structural distance of codes (n, d) in [0, 1], each code taken as one window with equal weights and beta = 1.

    The paper's reading of SSIM for codes: with mu and var over the d numbers of a code,

        a = (mu_x - mu_y)^2 / (mu_x^2 + mu_y^2 + c1),     b = var_{x-y} / (var_x + var_y + c2),

    and D^2 by `form` as for images. It has no meaning as the structure of an image, since codes have no places; it
    is a distance all the same, and Hilbertian as every structural one.

    Raises:
        ValueError: an unknown form, or a k1 or k2 that is not a positive number.

    Example:
        >>> import torch
        >>> from ssimgen.objectives.distances import BlockDistance
        >>> codes = torch.rand(4, 32)
        >>> BlockDistance(form="product")(codes).shape
        torch.Size([4, 4])
    """

    form: Form = "sum"
    k1: float = 0.01
    k2: float = 0.03

    def __post_init__(self) -> None:
        arguments.choice("form", self.form, FORMS)
        stability_constants(1.0, self.k1, self.k2)

    @property
    def hilbertian(self) -> bool:
        return True

    def squared(self, x: Float[Tensor, "n d"], y: Float[Tensor, "m d"] | None = None) -> Float[Tensor, "n m"]:
        """The squared distances D^2 of all pairs of two samples."""
        c1, c2 = stability_constants(1.0, self.k1, self.k2)
        d = x.shape[1]
        u, v = x, x if y is None else y
        if self.form == "uncentred":
            energy = u.square().mean(1)[:, None] + v.square().mean(1)  # (n, m)
            return Euclidean().squared(x, y) / d / (energy + c2)
        mu_x, mu_y = u.mean(1), v.mean(1)
        variance = Euclidean().squared(_centred(x), None if y is None else _centred(y)) / d  # of x - y
        b = variance / (u.var(1, correction=0)[:, None] + v.var(1, correction=0) + c2)
        if self.form == "centred":
            return b
        a = (mu_x[:, None] - mu_y).square() / (mu_x.square()[:, None] + mu_y.square() + c1)
        return joined(self.form, a, b)


def _centred(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    return x - x.mean(1, keepdim=True)
