"""Samples seen only through their features: MMD in linear time."""

from __future__ import annotations

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen._precision import where_float64_is
from ssimgen.discrepancy.matrices import check_unbiased, finite


@dataclass(frozen=True, eq=False)
class MeanEmbedding:
    """A sample seen only through its features phi, for MMD in linear time and of samples that do not fit in memory.

    Add the embeddings of parts to get that of the whole: `sum(parts[1:], parts[0])`, in any order, on any machine.
    Sums are in float64.

    Attributes:
        count: number of points n.
        total: sum of phi(x_i), (d,).
        squares: sum of |phi(x_i)|^2, 0-d.

    Example:
        >>> import torch
        >>> from ssimgen.discrepancy import MeanEmbedding
        >>> parts = torch.rand(3, 10, 4)  # three parts of ten points with four features
        >>> whole = sum((MeanEmbedding.of(part) for part in parts[1:]), MeanEmbedding.of(parts[0]))
        >>> whole.count, whole.total.shape
        (30, torch.Size([4]))
    """

    count: int
    total: Float[Tensor, " d"] = field(repr=False)
    squares: Float[Tensor, ""] = field(repr=False)

    @classmethod
    def of(cls, features: Float[Tensor, "n d"]) -> MeanEmbedding:
        """The embedding of points with these features, such as those of :class:`ssimgen.features.SSIMFeatures`."""
        phi = where_float64_is(arguments.sample("features", features)).double()
        return cls(len(phi), phi.sum(0), (phi * phi).sum())

    def __add__(self, other: MeanEmbedding) -> MeanEmbedding:
        return MeanEmbedding(self.count + other.count, self.total + other.total, self.squares + other.squares)


def embedded_mmd2(x: MeanEmbedding, y: MeanEmbedding, *, unbiased: bool = True) -> Float[Tensor, ""]:
    """Squared MMD with the kernel phi(x) . phi(y), from two mean embeddings: |mean phi(x_i) - mean phi(y_j)|^2.

    Where features approximate a kernel within e for every pair, this is within 4 e of :func:`mmd2` with that kernel:
    the weights of its entries have absolute values of sum 4.

    Args:
        x, y: embeddings of the two samples by the same features.
        unbiased: leave the products of points with themselves out: the U-statistic, of mean 0 when the distributions
            are equal. Otherwise the V-statistic, never negative.

    Raises:
        ValueError: embeddings of unequally many features, samples of one point with `unbiased`, or a result that is
            not finite.

    Example:
        >>> import torch
        >>> from ssimgen.discrepancy import MeanEmbedding, embedded_mmd2
        >>> x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[4.0], [5.0]])
        >>> embedded_mmd2(MeanEmbedding.of(x), MeanEmbedding.of(y), unbiased=False)
        tensor(16., dtype=torch.float64)
    """
    if x.total.shape != y.total.shape:
        raise ValueError(
            f"embeddings must have equally many features, got {len(x.total)} and {len(y.total)}: "
            "transform both samples with one fitted transformer"
        )
    if unbiased:
        check_unbiased(x.count, y.count)
    means = [_embedded_mean(z, unbiased) for z in (x, y)]
    value = means[0] + means[1] - 2 * (x.total / x.count) @ (y.total / y.count)
    return finite(value, "embedded_mmd2", (x.total, y.total), ("x", "y"))


def _embedded_mean(x: MeanEmbedding, unbiased: bool) -> Tensor:
    """The mean of phi(x_i) . phi(x_j), over i != j if unbiased."""
    everything = x.total @ x.total
    return (everything - x.squares) / (x.count * (x.count - 1)) if unbiased else everything / x.count**2
