"""Discrepancies of two samples from their Gram or distance matrices: MMD, energy distance, conditional MMD."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen import engine
from ssimgen._precision import for_products, no_autocast


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
        check_unbiased(n, m)
    k_xx, k_xy, k_yy = arguments.in_common(k_xx, k_xy, k_yy)
    value = _same_sample_mean(k_xx, unbiased) + _same_sample_mean(k_yy, unbiased) - 2 * k_xy.mean()
    return finite(value, "mmd2", (k_xx, k_xy, k_yy), ("k_xx", "k_xy", "k_yy"))


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
        check_unbiased(n, m)
    d_xx, d_xy, d_yy = arguments.in_common(d_xx, d_xy, d_yy)
    value = 2 * d_xy.mean() - _same_sample_mean(d_xx, unbiased) - _same_sample_mean(d_yy, unbiased)
    return finite(value, "energy_distance", (d_xx, d_xy, d_yy), ("d_xx", "d_xy", "d_yy"))


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
    matrices = arguments.in_common(k_xx, k_xy, k_yy, l_xx, l_xy, l_yy)
    dtype = matrices[0].dtype
    with no_autocast(k_xx.device):
        k_xx, k_xy, k_yy, l_xx, l_xy, l_yy = map(for_products, matrices)
        x_factor = _regularised_factor("k_xx", k_xx, ridge)
        y_factor = _regularised_factor("k_yy", k_yy, ridge)
        weights_xx = _solve_both_sides(x_factor, k_xx, x_factor)  # K~_d^-1 K_d K~_d^-1
        weights_yy = _solve_both_sides(y_factor, k_yy, y_factor)
        weights_xy = _solve_both_sides(x_factor, k_xy, y_factor)
        value = (weights_xx * l_xx).sum() + (weights_yy * l_yy).sum() - 2 * (weights_xy * l_xy).sum()
    return finite(arguments.cast(value, dtype), "cmmd2", matrices, names)


def _same_sample_mean(matrix: Tensor, unbiased: bool) -> Tensor:
    if not unbiased:
        return matrix.mean()
    n = len(matrix)
    return (matrix.sum() - matrix.diagonal().sum()) / (n * (n - 1))


def check_unbiased(n: int, m: int) -> None:
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


def finite(value: Tensor, function: str, matrices: tuple[Tensor, ...], names: tuple[str, ...]) -> Tensor:
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
