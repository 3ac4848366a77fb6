"""Kernel two-sample tests: are two samples from one distribution?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen import _shown as shown
from ssimgen import pairwise
from ssimgen._precision import where_float64_is
from ssimgen.kernels import Kernel

_BLOCK = 256  # rows of a Gram matrix, or relabellings, that are in memory at once in float64
_MATRICES = 5  # of all pairs, that a kernel, its bandwidth and the test take at most; 4.1 were measured at N = 4,000
_DEVIATIONS, _ENOUGH = 4, 19  # above chance, by so many relabellings or more: see TwoSampleResult.paired


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
        >>> result
        TwoSampleResult(statistic=..., p_value=0.01, level=0.05, across=..., shared=0)
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

    def _repr_html_(self) -> str:
        """A table, for notebooks."""
        found = "a difference" if self.rejected else "no difference found"
        chance = f"{self.across_by_chance[0]:.3g} by chance"
        paired = ", so that the samples are not independent and p says nothing" if self.paired else ""
        rows = [
            ("p-value", f"{self.p_value:.4g}, of {len(self.null)} permutations"),
            (f"at level {self.level:g}", found),
            ("unbiased MMD\N{SUPERSCRIPT TWO}", self.statistic),
            ("points", f"{len(self.witness_x)} and {len(self.witness_y)}, of which {self.shared} in both"),
            ("nearest to one of the other sample", f"{self.across} ({chance}){paired}"),
        ]
        return shown.html_table("two-sample test", rows)

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
    gram = where_float64_is(gram)
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
