"""Discrepancies of samples too large for memory, from batches: sums of Gram blocks, never the Gram matrix.

The results are those of :mod:`ssimgen.discrepancy` on the whole matrices; only two batches and the matrix between
them are in memory at a time. Same-sample sums compare each batch with all later ones, so a sample is read about
once for each of its batches: the larger the batches, the fewer the readings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ssimgen._precision import where_float64_is

__all__ = ["Batches", "PairFunction", "energy_distance", "mmd2"]

PairFunction = Callable[[Tensor, Tensor | None], Tensor]
"""What kernels and metrics are: f(x, y) is (n, m), f(x, None) is (n, n)."""

Batches = Iterable[Tensor | tuple[Tensor, ...] | list[Tensor]]
"""A sample in batches (b, ...) that can be read again and again; of tuples and lists, the first item counts."""


def mmd2(x: Batches, y: Batches, kernel: PairFunction, *, unbiased: bool = True) -> float:
    """Squared maximum mean discrepancy of two samples, as :func:`ssimgen.discrepancy.mmd2`, without gradients.

    Args:
        x, y: batches of points (b, ...), in the same order at every reading: a list of tensors, a DataLoader with
            shuffle=False and no random augmentation, or any object that `iter()` reads from the start each time.
            Where a batch is a tuple or a list, as (images, labels), its first item is taken.
        kernel: with its bandwidths set; `kernel.fit(part)` takes them from a part that fits in memory.
        unbiased: the U-statistic, otherwise the V-statistic.

    Raises:
        TypeError: a sample that can be read only once, or a batch that is no tensor.
        ValueError: a sample that is empty or changes between readings, fewer than two points with `unbiased`, or
            kernel values that are not finite.

    Example:
        >>> import torch
        >>> from ssimgen import streaming
        >>> from ssimgen.kernels import Gaussian
        >>> from ssimgen.metrics import Euclidean
        >>> x, y = [torch.tensor([[0.0]]), torch.tensor([[1.0]])], [torch.tensor([[4.0], [5.0]])]
        >>> round(streaming.mmd2(x, y, Gaussian(Euclidean(), bandwidths=(1.0,))), 3)
        1.207
    """
    for name, sample in (("x", x), ("y", y)):
        if isinstance(sample, Iterator):
            raise TypeError(
                f"{name} can be read only once, and every pair of its batches is needed: pass a list, a DataLoader, "
                f"or an object whose __iter__ starts anew, got {type(sample).__name__}"
            )
    with torch.no_grad():
        n, s_xx = _same_sample_sum("x", x, kernel, unbiased)
        m, s_yy = _same_sample_sum("y", y, kernel, unbiased)
        s_xy = sum(
            block_sum(a, b, kernel, f"batch {i} of x and batch {j} of y")
            for i, a in enumerate(_read("x", x))
            for j, b in enumerate(_read("y", y))
        )
    check_sizes(n, m, unbiased)
    value: float = from_sums(s_xx, s_xy, s_yy, n, m, unbiased)
    return value


def energy_distance(x: Batches, y: Batches, metric: PairFunction, *, unbiased: bool = True) -> float:
    """Energy distance of two samples, as :func:`ssimgen.discrepancy.energy_distance`, without gradients.

    Args:
        x, y: batches of points (b, ...), in the same order at every reading: a list of tensors, a DataLoader with
            shuffle=False and no random augmentation, or any object that `iter()` reads from the start each time.
            Where a batch is a tuple or a list, as (images, labels), its first item is taken.
        metric: D, as `StructuralDistance(data_range=1.0)`.
        unbiased: the U-statistic, otherwise the V-statistic.

    Raises:
        TypeError: a sample that can be read only once, or a batch that is no tensor.
        ValueError: a sample that is empty or changes between readings, fewer than two points with `unbiased`, or
            distances that are not finite.

    Example:
        >>> import torch
        >>> from ssimgen import streaming
        >>> from ssimgen.metrics import Euclidean
        >>> x, y = [torch.tensor([[0.0]]), torch.tensor([[1.0]])], [torch.tensor([[4.0], [5.0]])]
        >>> streaming.energy_distance(x, y, Euclidean())
        6.0
    """
    return -mmd2(x, y, metric, unbiased=unbiased)  # MMD^2 with the kernel -D is the energy distance


def block_sum(
    x: Float[Tensor, "n ..."], y: Float[Tensor, "m ..."] | None, kernel: PairFunction, where: str, diagonal: bool = True
) -> float:
    """The sum of a block of the Gram matrix, in float64; of x against itself, with or without its diagonal."""
    block = where_float64_is(kernel(x, y))
    total = block.sum(dtype=torch.float64).item()
    if not diagonal:
        total -= block.diagonal().sum(dtype=torch.float64).item()
    if not math.isfinite(total):
        raise ValueError(
            f"values that are not finite between {where}: look for NaN or infinite pixels, or a data_range or "
            "bandwidths out of proportion"
        )
    return total


def from_sums(s_xx: Any, s_xy: Any, s_yy: Any, n: int, m: int, unbiased: bool) -> Any:
    """MMD^2 from the sums of the three Gram matrices, those of one sample without their diagonals if unbiased.

    The sums are numbers, or lazy ones of dask.
    """
    return s_xx / (n * (n - unbiased)) + s_yy / (m * (m - unbiased)) - 2 * s_xy / (n * m)


def check_sizes(n: int, m: int, unbiased: bool) -> None:
    """Raise unless the samples have enough points for the estimate."""
    least = 2 if unbiased else 1
    if min(n, m) < least:
        raise ValueError(
            f"the {'unbiased' if unbiased else 'biased'} estimate needs at least {least} points a sample, "
            f"got {n} and {m}" + (": pass unbiased=False" if min(n, m) == 1 else "")
        )


def _same_sample_sum(name: str, sample: Batches, kernel: PairFunction, unbiased: bool) -> tuple[int, float]:
    """How many points the sample has, and the sum of its Gram matrix (without the diagonal if unbiased)."""
    n, total = 0, 0.0
    for i, batch in enumerate(_read(name, sample)):
        n += len(batch)
        total += block_sum(batch, None, kernel, f"the points of batch {i} of {name}", diagonal=not unbiased)
        again = _read(name, sample)
        if not _equal(batch, next(islice(again, i, None), None)):
            raise ValueError(
                f"{name} changes between readings, at batch {i}: pass batches in a fixed order (shuffle=False) and "
                "without random augmentation"
            )
        for j, later in enumerate(again, i + 1):
            total += 2 * block_sum(batch, later, kernel, f"batches {i} and {j} of {name}")
    return n, total


def _read(name: str, sample: Batches) -> Iterator[Tensor]:
    for i, batch in enumerate(sample):
        points = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
        if not isinstance(points, Tensor):
            raise TypeError(
                f"{name} must give batches of points as torch.Tensor, or tuples that begin with one, got "
                f"{type(batch).__name__} as batch {i}"
            )
        if len(points):
            yield points


def _equal(batch: Tensor, again: Tensor | None) -> bool:
    if again is None or batch.shape != again.shape:
        return False
    return bool(((batch == again) | (batch.isnan() & again.isnan())).all())
