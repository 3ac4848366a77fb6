"""Kernels made of a distance, the bandwidths of a sample, and the kernel matrix of the paper."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen.kernels.kernel import Kernel
from ssimgen.metrics import Metric

GMMN_BANDWIDTHS = tuple(math.sqrt(sigma) for sigma in (2, 5, 10, 20, 40, 80))
"""The mixture of Li, Swersky, Zemel (2015) for Gaussian(Euclidean(), ...) on pixels in [0, 1].

Their code has k = exp(-d^2 / (2 sigma)) with sigma in {2, 5, 10, 20, 40, 80}, not squared; in the convention
here, exp(-d^2 / (2 s^2)), the same kernels have s = sqrt(sigma)."""

M = TypeVar("M", bound="_Mixture")


@dataclass(frozen=True)
class _Mixture(Kernel):
    """What kernels share that are a sum over bandwidths of a function of D."""

    metric: Metric
    bandwidths: tuple[float, ...] | Literal["median"]

    def __post_init__(self) -> None:
        object.__setattr__(self, "bandwidths", _bandwidths(self.bandwidths))

    @property
    def positive_definite(self) -> bool:
        return self.metric.hilbertian

    @property
    def unit_diagonal(self) -> bool:
        return self.bandwidths == "median" or len(self.bandwidths) == 1

    def fit(self: M, x: Float[Tensor, "n ..."]) -> M:
        return self if self.bandwidths != "median" else replace(self, bandwidths=(median_distance(self.metric, x),))

    def _fitted(self) -> tuple[float, ...]:
        if self.bandwidths == "median":
            raise ValueError("bandwidths='median' are not set yet: call kernel.fit(x), which returns the fitted kernel")
        return self.bandwidths


@final
@dataclass(frozen=True)
class Gaussian(_Mixture):
    """k(x, y) = sum over bandwidths s of exp(-D(x, y)^2 / (2 s^2)).

    Args:
        metric: D. Positive definite for every Hilbertian D (Schoenberg 1938), and universal on compact sets where
            D also separates points (docs/kernels.md, F4).
        bandwidths: s, in the units of D; or "median", to be set from data by :meth:`fit` (see
            :func:`median_distance`).

    Raises:
        ValueError: bandwidths that are not positive numbers; a call before `fit` where they are "median".

    Example:
        >>> import torch
        >>> from ssimgen.kernels import Gaussian
        >>> from ssimgen.metrics import Euclidean
        >>> kernel = Gaussian(Euclidean(), bandwidths=(1.0,))
        >>> kernel(torch.tensor([[0.0], [1.0]])).round(decimals=3)
        tensor([[1.0000, 0.6070],
                [0.6070, 1.0000]])
    """

    def __call__(self, x: Float[Tensor, "n ..."], y: Float[Tensor, "m ..."] | None = None) -> Float[Tensor, "n m"]:
        return _summed(self.metric.squared(x, y), [0.5 / s / s for s in self._fitted()])


@final
@dataclass(frozen=True)
class Laplacian(_Mixture):
    """k(x, y) = sum over bandwidths s of exp(-D(x, y) / s).

    Heavier tails than the Gaussian, and a kink at x = y.

    Args:
        metric: D. Positive definite for every Hilbertian D: D is itself of negative type (Schoenberg 1938).
        bandwidths: s, in the units of D; or "median", to be set from data by :meth:`fit` (see
            :func:`median_distance`).

    Raises:
        ValueError: bandwidths that are not positive numbers; a call before `fit` where they are "median".

    Example:
        >>> import torch
        >>> from ssimgen.kernels import Laplacian
        >>> from ssimgen.metrics import Euclidean
        >>> kernel = Laplacian(Euclidean(), bandwidths=(1.0,))
        >>> kernel(torch.tensor([[0.0], [1.0]])).round(decimals=3)
        tensor([[1.0000, 0.3680],
                [0.3680, 1.0000]])
    """

    def __call__(self, x: Float[Tensor, "n ..."], y: Float[Tensor, "m ..."] | None = None) -> Float[Tensor, "n m"]:
        return _summed(self.metric(x, y), [1 / s for s in self._fitted()])


@final
@dataclass(frozen=True, eq=False)
class DistanceInduced(Kernel):
    """k(x, y) = (D(x, b) + D(y, b) - D(x, y)) / 2 (Sejdinovic et al. 2013, Eq. 4.1).

    What the paper's K = -1/2 H D H is for a function of two images instead of one sample: MMD^2 with either is
    half the energy distance of D, whatever the base point b (docs/kernels.md, F3). b matters to the conditional
    discrepancy of samples with different conditions (F9) and to k itself, which is 0 at b.

    Args:
        metric: D, not squared.
        base: b, as a sample of one point: (1, C, H, W) for images.

    Raises:
        ValueError: a base of more than one point.

    Example:
        >>> import torch
        >>> from ssimgen.kernels import DistanceInduced
        >>> from ssimgen.metrics import Euclidean
        >>> kernel = DistanceInduced(Euclidean(), base=torch.tensor([[0.0]]))
        >>> kernel(torch.tensor([[1.0], [2.0], [-3.0]]))
        tensor([[1., 1., 0.],
                [1., 2., 0.],
                [0., 0., 3.]])
    """

    metric: Metric
    base: Float[Tensor, "1 ..."] = field(repr=False)

    def __post_init__(self) -> None:
        if len(arguments.sample("base", self.base)) != 1:
            raise ValueError(
                f"base must be a sample of one point, got {len(self.base)} of shape {tuple(self.base.shape[1:])}: "
                "pass x[:1]"
            )

    @property
    def positive_definite(self) -> bool:
        return self.metric.hilbertian

    @property
    def unit_diagonal(self) -> bool:
        return False

    def __call__(self, x: Float[Tensor, "n ..."], y: Float[Tensor, "m ..."] | None = None) -> Float[Tensor, "n m"]:
        if y is not None:
            x, y = arguments.of_one_dtype(x, y)
        base = self.base.to(x.device)
        to_x = self.metric(x, base)  # (n, 1)
        to_y = to_x if y is None else self.metric(y, base)  # (m, 1)
        return (to_x + to_y.T - self.metric(x, y)) / 2


def median_distance(metric: Metric, x: Float[Tensor, "n ..."]) -> float:
    """The median of D(x_i, x_j) over pairs i < j: the usual bandwidth of a kernel on a sample like x.

    The lower of the two middle values if their number is even. For a mixture, multiply:
    `m = median_distance(metric, x); Gaussian(metric, (m / 2, m, 2 * m))`.

    Args:
        metric: D.
        x: the sample, (n, ...).

    Raises:
        ValueError: fewer than two points, distances that are not finite, or a median of 0 (most points are equal).

    Example:
        >>> import torch
        >>> from ssimgen.kernels import median_distance
        >>> from ssimgen.metrics import Euclidean
        >>> median_distance(Euclidean(), torch.tensor([[0.0], [1.0], [5.0]]))
        4.0
    """
    with torch.no_grad():
        distances = metric(x)
    n = len(distances)
    if n < 2:
        raise ValueError("the median distance needs at least two points, got one: pass a larger sample")
    above = torch.ones_like(distances, dtype=torch.bool).triu(1)
    median = distances[above].median().item()
    if not arguments.is_positive(median):
        raise ValueError(
            f"the median distance of the {n} points is {median:g}, which is no bandwidth: "
            "pass bandwidths as numbers, or a sample whose points are finite and mostly different"
        )
    return median


def centred_gram(distances: Float[Tensor, "m n"], training: Float[Tensor, "n n"] | None = None) -> Float[Tensor, "m n"]:
    """K = -1/2 H D H, H = I - 1/n, the kernel matrix of one sample (Ghojogh, Karray, Crowley 2020, section 3).

    Positive semidefinite for D and for D^2 of every Hilbertian metric (docs/kernels.md, F2): no eigenvalue is
    clipped, here or later.

    Args:
        distances: D of a sample against itself, (n, n); or, with `training`, of m new points against it, (m, n).
        training: D of the sample against itself. New points are then centred by the means of the sample, as
            `sklearn.preprocessing.KernelCenterer` fitted on -D/2 does.

    Raises:
        ValueError: matrices that are not square or do not fit each other.

    Example:
        >>> import torch
        >>> from ssimgen.kernels import centred_gram
        >>> from ssimgen.metrics import StructuralDistance
        >>> gram = centred_gram(StructuralDistance(data_range=1.0)(torch.rand(5, 1, 16, 16)))
        >>> gram.sum(0).abs().max().item() < 1e-5
        True
    """
    sample = distances if training is None else training
    if sample.ndim != 2 or sample.shape[0] != sample.shape[1]:
        raise ValueError(
            f"the distances of a sample against itself must be a square matrix, got shape {tuple(sample.shape)}"
            + (": pass training=metric(x) beside the distances of new points" if training is None else "")
        )
    if distances.ndim != 2 or distances.shape[1] != len(sample):
        raise ValueError(
            f"distances must have one column for each of the {len(sample)} points of the sample, "
            f"got shape {tuple(distances.shape)}: pass metric(new, x)"
        )
    distances, sample = arguments.in_common(distances, sample)
    return -(distances - distances.mean(1, keepdim=True) - sample.mean(0) + sample.mean()) / 2


def _bandwidths(value: tuple[float, ...] | Literal["median"]) -> tuple[float, ...] | Literal["median"]:
    if value == "median":
        return "median"
    if not isinstance(value, (tuple, list)):
        raise ValueError(f"bandwidths must be a tuple of positive numbers or 'median', got {value!r}: pass (1.0,)")
    numbers = arguments.positive_numbers(value)
    if numbers is None:
        raise ValueError(f"bandwidths must be positive numbers in the units of the metric, got {value!r}")
    return numbers


def _summed(distances: Tensor, scales: list[float]) -> Tensor:
    """The sum over scales s of exp(-s d), entry by entry."""
    largest = torch.finfo(distances.dtype).max  # infinity times the zero of the diagonal would be NaN
    first, *others = ((distances * -min(scale, largest)).exp_() for scale in scales)
    return sum(others, first)  # in one order for every entry: a symmetric matrix stays exactly symmetric
