"""How far apart two distributions are, from samples: MMD, energy distance, conditional MMD, two-sample test.

Everything but the test works on Gram or distance matrices, so that any kernel serves and hand-made matrices can be
checked by hand.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen import engine, pairwise
from ssimgen._autocast import no_autocast
from ssimgen.kernels import Kernel

__all__ = [
    "MeanEmbedding",
    "TwoSampleResult",
    "cmmd2",
    "embedded_mmd2",
    "energy_distance",
    "mmd2",
    "permutation_test",
    "two_sample_test",
]

_BLOCK = 256  # rows of a Gram matrix, or relabellings, that are in memory at once in float64
_MATRICES = 5  # of all pairs, that a kernel, its bandwidth and the test take at most; 4.1 were measured at N = 4,000
_DEVIATIONS, _ENOUGH = 4, 19  # above chance, by so many relabellings or more: see TwoSampleResult.paired


def mmd2(
    k_xx: Float[Tensor, "n n"],
    k_xy: Float[Tensor, "n m"],
    k_yy: Float[Tensor, "m m"],
    *,
    unbiased: bool = True,
) -> Float[Tensor, ""]:
    """Squared maximum mean discrepancy of two samples (Gretton et al. 2012),

        mean k(x_i, x_j) + mean k(y_i, y_j) - 2 mean k(x_i, y_j).

    Args:
        k_xx, k_xy, k_yy: `kernel(x)`, `kernel(x, y)`, `kernel(y)`.
        unbiased: leave the diagonals out of the same-sample means (their Eq. 3): the U-statistic, of mean 0 when the
            distributions are equal, and so negative about half of the time. Otherwise the V-statistic (their
            Eq. 5), never negative for a positive definite kernel.

    Raises:
        ValueError: matrices that do not fit each other, samples of one point with `unbiased`, or, of matrices on a
            CPU, a result that is not finite. On other devices, where asking would wait, and where PyTorch traces or
            transforms the call, such a result is returned.

    Example:
        >>> import torch
        >>> from ssimgen.discrepancy import mmd2
        >>> from ssimgen.kernels import Gaussian
        >>> from ssimgen.metrics import Euclidean
        >>> kernel, x, y = Gaussian(Euclidean(), (1.0,)), torch.tensor([[0.0], [1.0]]), torch.tensor([[4.0], [5.0]])
        >>> round(mmd2(kernel(x), kernel(x, y), kernel(y)).item(), 3)
        1.207
    """
    n, m = _sizes(k_xx, k_xy, k_yy, ("k_xx", "k_xy", "k_yy"))
    if unbiased:
        _check_unbiased(n, m)
    k_xx, k_xy, k_yy = arguments.in_common(k_xx, k_xy, k_yy)
    value = _same_sample_mean(k_xx, unbiased) + _same_sample_mean(k_yy, unbiased) - 2 * k_xy.mean()
    return _finite(value, "mmd2", (k_xx, k_xy, k_yy), ("k_xx", "k_xy", "k_yy"))


def energy_distance(
    d_xx: Float[Tensor, "n n"],
    d_xy: Float[Tensor, "n m"],
    d_yy: Float[Tensor, "m m"],
    *,
    unbiased: bool = True,
) -> Float[Tensor, ""]:
    """Energy distance of two samples (Szekely and Rizzo 2013),

        2 mean D(x_i, y_j) - mean D(x_i, x_j) - mean D(y_i, y_j),

    from distance matrices, not squared. It is twice the squared MMD of the paper's kernel -1/2 H D H
    (docs/kernels.md, F3), in the units of D.

    Args:
        d_xx, d_xy, d_yy: `metric(x)`, `metric(x, y)`, `metric(y)`.
        unbiased: leave the diagonals out of the same-sample means: the U-statistic, of mean 0 when the distributions
            are equal, and so negative about half of the time. Otherwise the V-statistic, never negative for a
            Hilbertian metric.

    Raises:
        ValueError: matrices that do not fit each other, samples of one point with `unbiased`, or, of matrices on a
            CPU, a result that is not finite. On other devices, where asking would wait, and where PyTorch traces or
            transforms the call, such a result is returned.

    Example:
        >>> import torch
        >>> from ssimgen.discrepancy import energy_distance
        >>> from ssimgen.metrics import Euclidean
        >>> metric, x, y = Euclidean(), torch.tensor([[0.0], [1.0]]), torch.tensor([[4.0], [5.0]])
        >>> energy_distance(metric(x), metric(x, y), metric(y))
        tensor(6.)
    """
    n, m = _sizes(d_xx, d_xy, d_yy, ("d_xx", "d_xy", "d_yy"))
    if unbiased:
        _check_unbiased(n, m)
    d_xx, d_xy, d_yy = arguments.in_common(d_xx, d_xy, d_yy)
    value = 2 * d_xy.mean() - _same_sample_mean(d_xx, unbiased) - _same_sample_mean(d_yy, unbiased)
    return _finite(value, "energy_distance", (d_xx, d_xy, d_yy), ("d_xx", "d_xy", "d_yy"))


def cmmd2(
    k_xx: Float[Tensor, "n n"],
    k_xy: Float[Tensor, "n m"],
    k_yy: Float[Tensor, "m m"],
    l_xx: Float[Tensor, "n n"],
    l_xy: Float[Tensor, "n m"],
    l_yy: Float[Tensor, "m m"],
    *,
    regularisation: float,
) -> Float[Tensor, ""]:
    """Squared conditional maximum mean discrepancy of two samples of (condition, outcome) (Ren et al. 2016, Eq. 3),

        Tr(K_d K~_d^-1 L_d K~_d^-1) + Tr(K_s K~_s^-1 L_s K~_s^-1) - 2 Tr(K_sd K~_d^-1 L_ds K~_s^-1),
        K~ = K + lambda I,

    the squared Hilbert-Schmidt norm of the difference of two conditional embedding operators; x is their d (data),
    y their s (samples of the model). Three Cholesky-factored solves, no inverse; differentiable in all six.

    Args:
        k_xx, k_xy, k_yy: Gram matrices of the conditions (labels, say).
        l_xx, l_xy, l_yy: Gram matrices of the outcomes (images), in the same order of samples.
        regularisation: lambda > 0, added to the diagonal of k_xx and k_yy. There is no default: it sets how sharply
            the estimate tells conditions apart, and K alone is singular as soon as two conditions are equal.

    Raises:
        ValueError: matrices that do not fit each other, a lambda that is not positive or, as for :func:`mmd2`, too
            small for the matrix to be factored, or a result that is not finite. Elsewhere these give NaN.

    Example:
        >>> import torch
        >>> from ssimgen.discrepancy import cmmd2
        >>> from ssimgen.kernels import SSIM
        >>> labels, x, y = torch.arange(8) % 2, torch.rand(8, 1, 16, 16), torch.rand(8, 1, 16, 16) / 4
        >>> k, outcome = (labels[:, None] == labels).float(), SSIM(data_range=1.0)
        >>> cmmd2(k, k, k, outcome(x), outcome(x, y), outcome(y), regularisation=1e-3).item() > 0.1
        True
    """
    names = ("k_xx", "k_xy", "k_yy", "l_xx", "l_xy", "l_yy")
    n, m = _sizes(k_xx, k_xy, k_yy, names[:3])
    sizes_l = _sizes(l_xx, l_xy, l_yy, names[3:])
    if sizes_l != (n, m):
        raise ValueError(
            f"conditions and outcomes must come from the same samples, got {n} and {m} conditions, "
            f"{sizes_l[0]} and {sizes_l[1]} outcomes"
        )
    ridge = arguments.as_number(regularisation)
    if ridge is None or ridge <= 0:
        raise ValueError(f"regularisation must be a positive number, got {regularisation!r}: 1e-3 is usual")
    k_xx, k_xy, k_yy, l_xx, l_xy, l_yy = arguments.in_common(k_xx, k_xy, k_yy, l_xx, l_xy, l_yy)
    with no_autocast(k_xx.device):
        x_factor = _regularised_factor("k_xx", k_xx, ridge)
        y_factor = _regularised_factor("k_yy", k_yy, ridge)
        weights_xx = _solve_both_sides(x_factor, k_xx, x_factor)  # K~_d^-1 K_d K~_d^-1
        weights_yy = _solve_both_sides(y_factor, k_yy, y_factor)
        weights_xy = _solve_both_sides(x_factor, k_xy, y_factor)
        value = (weights_xx * l_xx).sum() + (weights_yy * l_yy).sum() - 2 * (weights_xy * l_xy).sum()
    return _finite(value, "cmmd2", (k_xx, k_xy, k_yy, l_xx, l_xy, l_yy), names)


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
    total: Float[Tensor, " d"]
    squares: Float[Tensor, ""]

    @classmethod
    def of(cls, features: Float[Tensor, "n d"]) -> MeanEmbedding:
        """The embedding of points with these features, such as those of :class:`ssimgen.features.SSIMFeatures`."""
        phi = arguments.sample("features", features).double()
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
        _check_unbiased(x.count, y.count)
    means = [_embedded_mean(z, unbiased) for z in (x, y)]
    value = means[0] + means[1] - 2 * (x.total / x.count) @ (y.total / y.count)
    return _finite(value, "embedded_mmd2", (x.total, y.total), ("x", "y"))


def _embedded_mean(x: MeanEmbedding, unbiased: bool) -> Tensor:
    """The mean of phi(x_i) . phi(x_j), over i != j if unbiased."""
    everything = x.total @ x.total
    return (everything - x.squares) / (x.count * (x.count - 1)) if unbiased else everything / x.count**2


@dataclass(frozen=True, eq=False)
class TwoSampleResult:
    """What :func:`two_sample_test` found.

    Attributes:
        statistic: unbiased MMD^2 of the two samples.
        p_value: (1 + b) / (1 + B), with b of the B permutations at least as large as the statistic.
        level: of the test; `rejected` tells whether p_value <= level.
        null: (B,) the statistic under the permutations.
        witness_x: (n,) the witness function at the points of x: the mean kernel to x less the mean kernel to y, a
            point's kernel with itself left out. Largest where x has mass that y lacks.
        witness_y: (m,) the witness function at the points of y; smallest where y has mass that x lacks.
        across: how many of all points have their nearest other point, in the distance of the kernel, in the other
            sample.
        across_by_chance: (mean, standard deviation) of `across` under the permutations.
        shared: how many points of y are equal to one of x.

    Example:
        >>> import torch
        >>> from ssimgen.discrepancy import two_sample_test
        >>> from ssimgen.kernels import SSIM
        >>> x, y = torch.rand(2, 20, 1, 16, 16)
        >>> result = two_sample_test(x, y / 4, SSIM(data_range=1.0), permutations=99)
        >>> result.rejected, result.paired, result.shared
        (True, False, 0)
    """

    statistic: float
    p_value: float
    level: float
    null: Float[Tensor, " B"] = field(repr=False)
    witness_x: Float[Tensor, " n"] = field(repr=False)
    witness_y: Float[Tensor, " m"] = field(repr=False)
    across: int
    across_by_chance: tuple[float, float] = field(repr=False)
    shared: int = 0

    @property
    def rejected(self) -> bool:
        """Whether equality of the two distributions is rejected at `level`."""
        return self.p_value <= self.level

    @property
    def paired(self) -> bool:
        """Whether many more points have their nearest one in the other sample than independent draws would.

        So it is with points of x that were changed a little to make y, or with parts of one picture in both. The
        p-value is then too large, and says nothing: `across` is 4 standard deviations above its mean or more.
        """
        mean, deviation = self.across_by_chance
        return len(self.null) >= _ENOUGH and self.across > mean + _DEVIATIONS * deviation


def two_sample_test(
    x: Float[Tensor, "n ..."],
    y: Float[Tensor, "m ..."],
    kernel: Kernel,
    *,
    permutations: int = 1000,
    seed: int = 0,
    level: float = 0.05,
) -> TwoSampleResult:
    """Kernel two-sample test: are x and y drawn from one distribution? (Gretton et al. 2012)

    The statistic is the unbiased MMD^2; its null distribution comes from random relabellings of the pooled sample,
    all of them on one Gram matrix, in float64. The p-value (1 + b) / (1 + B) is exact: under the null, and for points
    that are independent, P(p <= t) <= t for every t and sample size.

    Args:
        x, y: samples of at least two points each.
        kernel: positive definite; where its bandwidths are "median", fitted on the pooled sample, which keeps the
            test exact because no permutation changes it.
        permutations: B. The least p-value is 1 / (1 + B).
        seed: of the relabellings; the same seed gives the same p-value.
        level: of the test, for `TwoSampleResult.rejected`.

    Raises:
        ValueError: samples of fewer than two points, values that are not finite, unequal shapes, or too few
            points or permutations for the level.

    Example:
        >>> import torch
        >>> from ssimgen.discrepancy import two_sample_test
        >>> from ssimgen.kernels import Gaussian
        >>> from ssimgen.metrics import StructuralDistance
        >>> kernel = Gaussian(StructuralDistance(data_range=1.0), bandwidths="median")
        >>> two_sample_test(torch.rand(20, 1, 16, 16), torch.rand(20, 1, 16, 16) / 4, kernel, permutations=99).p_value
        0.01
    """
    x, y = arguments.finite_samples(x, y)
    n, m = len(x), len(y)
    if min(n, m) < 2:
        raise ValueError(f"a two-sample test needs at least two points a sample, got {n} and {m}")
    check_level(n, m, permutations, level)
    with torch.no_grad():
        pooled = torch.cat([x, y])
        pairwise.check_room(pooled, pooled, _MATRICES, "pass a random part of each sample")
        gram = kernel.fit(pooled)(pooled)
    result = permutation_test(gram, n, permutations=permutations, seed=seed, level=level)
    return replace(result, shared=shared_points(x, y))


def shared_points(x: Float[Tensor, "n ..."], y: Float[Tensor, "m ..."]) -> int:
    """How many points of y are equal to one of x."""
    first, second = ([point.tobytes() for point in (z.detach() + 0).cpu().numpy()] for z in (x, y))  # -0 + 0 is 0
    known = set(first)
    return sum(point in known for point in second)


@torch.no_grad()
def permutation_test(
    gram: Float[Tensor, "N N"], n: int, *, permutations: int = 1000, seed: int = 0, level: float = 0.05
) -> TwoSampleResult:
    """Kernel two-sample test, as :func:`two_sample_test`, on the Gram matrix of the pooled sample.

    Nothing that depends on the order of the points may be in the matrix: bandwidths come from all of them.

    Args:
        gram: `kernel(torch.cat([x, y]))`, with the n points of x first.
        n: how many points x has.
        permutations: B. The least p-value is 1 / (1 + B).
        seed: of the relabellings; the same seed gives the same p-value.
        level: of the test, for `TwoSampleResult.rejected`.

    Returns:
        The result; `shared` is 0, since points cannot be told equal by their kernel values.

    Raises:
        ValueError: a matrix that is not square or not finite, fewer than two points in a sample, or too few points
            or permutations for the level.

    Example:
        >>> import torch
        >>> from ssimgen.discrepancy import permutation_test
        >>> from ssimgen.kernels import SSIM
        >>> pooled = torch.cat([torch.rand(20, 1, 16, 16), torch.rand(20, 1, 16, 16) / 4])
        >>> permutation_test(SSIM(data_range=1.0)(pooled), 20, permutations=99).p_value
        0.01
    """
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1]:
        raise ValueError(f"gram must be square, the pooled sample against itself, got shape {tuple(gram.shape)}")
    m = len(gram) - n
    if min(n, m) < 2:
        raise ValueError(f"a two-sample test needs at least two points a sample, got {n} and {m}")
    check_level(n, m, permutations, level)
    level = arguments.plain(level)
    labels = _relabellings(n, m, permutations, seed).to(gram.device)
    sums = _sums(gram, n)
    statistics = _relabelled_mmd2(gram, labels, sums.to_x + sums.to_y, n, m)
    observed, null = statistics[0].item(), statistics[1:].cpu()
    ties = 1e-12 * sums.largest  # equal in exact arithmetic, apart in rounding: counted as ties
    across = (labels != labels[:, sums.nearest]).sum(1, dtype=torch.float64)
    return TwoSampleResult(
        statistic=observed,
        p_value=(1 + int((null >= observed - ties).sum())) / (1 + permutations),
        level=level,
        null=null,
        witness_x=(sums.to_x / (n - 1) - sums.to_y / m)[:n],
        witness_y=(sums.to_x / n - sums.to_y / (m - 1))[n:],
        across=int(across[0]),
        across_by_chance=(across[1:].mean().item(), across[1:].std(correction=0).item()),
    )


def _relabellings(n: int, m: int, permutations: int, seed: int) -> Bool[Tensor, "B1 N"]:
    """True for the points of x: the observed labels, then random ones."""
    labels = torch.zeros(permutations + 1, n + m, dtype=torch.bool)
    labels[0, :n] = True
    generator = torch.Generator().manual_seed(seed)
    for part in labels[1:].split(_BLOCK):
        part.scatter_(1, torch.rand(part.shape, generator=generator).argsort(1)[:, :n], True)
    return labels


class _Sums(NamedTuple):
    """What one reading of a Gram matrix of N points gives, its diagonal left out."""

    to_x: Float[Tensor, " N"]  # sums over the points of x
    to_y: Float[Tensor, " N"]
    nearest: Int[Tensor, " N"]  # the other point at the least |phi_i - phi_j|
    largest: float  # absolute entry


def _sums(gram: Float[Tensor, "N N"], n: int) -> _Sums:
    norms = gram.diagonal().double()
    to_x, to_y, nearest, largest = [], [], [], []
    for rows, block in _rows(gram):
        to_x.append(block[:, :n].sum(1))
        to_y.append(block[:, n:].sum(1))
        largest += [abs(end.item()) for end in block.aminmax()]
        closeness = block.mul_(2).sub_(norms)  # |phi_i|^2 - |phi_i - phi_j|^2
        closeness[:, rows].fill_diagonal_(-math.inf)
        nearest.append(closeness.argmax(1))
    if not math.isfinite(sum(largest)):
        raise ValueError("the kernel returned values that are not finite: check its bandwidths and data_range")
    return _Sums(torch.cat(to_x), torch.cat(to_y), torch.cat(nearest), max(largest))


def _rows(gram: Float[Tensor, "N N"]) -> Iterator[tuple[slice, Float[Tensor, "b N"]]]:
    """Some rows at a time, in float64, with 0 on the diagonal: no second matrix."""
    for first in range(0, len(gram), _BLOCK):
        rows = slice(first, first + _BLOCK)
        block = gram[rows].to(torch.float64, copy=True)
        block[:, rows].fill_diagonal_(0)
        yield rows, block


def _relabelled_mmd2(
    gram: Float[Tensor, "N N"], labels: Bool[Tensor, "B N"], to_all: Float[Tensor, " N"], n: int, m: int
) -> Float[Tensor, " B"]:
    """Unbiased MMD^2 of the pooled sample split by each row of `labels`; the diagonal of gram is left out.

    With z a row, z'Kz sums over x and x, z'K1 over x and all, 1'K1 over all: the other sums follow.
    """
    statistics = []
    for part in labels.split(_BLOCK):
        z = part.double()
        s_xx = z.new_zeros(len(z))
        for rows, block in _rows(gram):
            s_xx += ((z @ block.T) * z[:, rows]).sum(1)
        s_xy = z @ to_all - s_xx
        s_yy = to_all.sum() - s_xx - 2 * s_xy
        statistics.append(s_xx / (n * (n - 1)) + s_yy / (m * (m - 1)) - 2 * s_xy / (n * m))
    return torch.cat(statistics)


def check_level(n: int, m: int, permutations: int, level: float) -> None:
    """Raise unless some outcome has p_value <= level."""
    number = arguments.as_number(level)
    if number is None or not 0 < number < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level!r}: 0.05 is usual")
    splits = math.comb(n + m, n)
    if splits < (2 if n == m else 1) / level:  # exchanging equally large samples changes nothing
        raise ValueError(
            f"samples of {n} and {m} points have {splits} splits, too few for p-values of {level}: pass larger samples"
        )
    if permutations < 1 or 1 / (1 + permutations) > level:
        raise ValueError(
            f"{permutations} permutations give p-values of at least {1 / (1 + max(permutations, 0)):.3g} and cannot "
            f"reach level {level}: pass permutations={_least_permutations(level)} or more"
        )


def _least_permutations(level: float) -> int:
    count = max(1, int(1 / level) - 2)
    while 1 / (1 + count) > level:
        count += 1
    return count


def _same_sample_mean(matrix: Tensor, unbiased: bool) -> Tensor:
    if not unbiased:
        return matrix.mean()
    n = len(matrix)
    return (matrix.sum() - matrix.diagonal().sum()) / (n * (n - 1))


def _check_unbiased(n: int, m: int) -> None:
    if min(n, m) < 2:
        raise ValueError(
            f"the unbiased estimate needs at least two points a sample, got {n} and {m}: pass unbiased=False"
        )


def _sizes(xx: Tensor, xy: Tensor, yy: Tensor, names: tuple[str, ...]) -> tuple[int, int]:
    """n and m, of matrices (n, n), (n, m), (m, m)."""
    for name, matrix in zip(names, (xx, xy, yy), strict=True):
        if matrix.ndim != 2 or 0 in matrix.shape:
            raise ValueError(f"{name} must be a matrix with at least one entry, got shape {tuple(matrix.shape)}")
    for name, matrix in ((names[0], xx), (names[2], yy)):
        if matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"{name} must be square, a sample against itself, got shape {tuple(matrix.shape)}")
    if xy.shape != (len(xx), len(yy)):
        raise ValueError(
            f"{names[1]} must have shape {(len(xx), len(yy))} to fit {names[0]} and {names[2]}, "
            f"got {tuple(xy.shape)}" + (f": pass {names[1]}.T" if xy.shape == (len(yy), len(xx)) else "")
        )
    return len(xx), len(yy)


def _finite(value: Tensor, function: str, matrices: tuple[Tensor, ...], names: tuple[str, ...]) -> Tensor:
    """`value`, unless it is NaN or infinite: then an error that says which matrix brought it in."""
    if not engine.fused_can(value) or value.isfinite():
        return value
    bad = [name for name, matrix in zip(names, matrices, strict=True) if not matrix.isfinite().all()]
    cause = f"{', '.join(bad)} held values that are not finite" if bad else "the sums overflowed"
    raise arguments.NonFiniteResultError(
        f"{function} is {value.item()}: {cause}; look for NaN or infinite pixels or weights"
    )


def _regularised_factor(name: str, gram: Tensor, regularisation: float) -> Tensor:
    identity = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    factor: Tensor
    factor, info = torch.linalg.cholesky_ex(gram + regularisation * identity)
    if not engine.fused_can(gram):
        return torch.where(info == 0, factor, math.nan)
    if info.item() != 0:
        raise ValueError(
            f"{name} + {regularisation} I is not positive definite in {str(gram.dtype).removeprefix('torch.')}: "
            "raise regularisation, use float64, or check that the kernel is positive definite and finite"
        )
    return factor


def _solve_both_sides(left: Tensor, matrix: Tensor, right: Tensor) -> Tensor:
    """left^-1 matrix right^-1, for Cholesky factors of the symmetric matrices left and right."""
    half = torch.cholesky_solve(matrix, left)
    return torch.cholesky_solve(half.T, right).T
