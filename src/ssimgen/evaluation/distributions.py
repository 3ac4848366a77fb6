"""Distances between two sets of images in a feature space: Frechet and kernel distance.

With features of Inception-v3 they are known as FID and KID; with those of another network they are other numbers,
and must not go by these names.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen.evaluation.estimates import DEFAULT_BOOTSTRAP, Bootstrap, Estimate


def frechet_distance(
    x: Float[Tensor, "n F"], y: Float[Tensor, "m F"], *, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP
) -> Estimate:
    """Squared Frechet (2-Wasserstein) distance of the Gaussians with the means and covariances of two samples,

        |m_x - m_y|^2 + Tr(S_x + S_y - 2 (S_x S_y)^(1/2))        (Dowson, Landau 1982; Heusel et al. 2017, Eq. 6),

    with S the unbiased covariances. In [0, inf), in squared units of the features; biased upwards by an amount that
    falls as 1/n, so that only values of equal sample sizes compare.

    Tr (S_x S_y)^(1/2) is the sum of the singular values of X Y^T / sqrt((n-1)(m-1)), X and Y the centred features:
    no root of a matrix, nothing complex or negative to discard, and fewer images than features do no harm.

    Args:
        x, y: features, at least two points each.
        bootstrap: of the interval, from the influence of every image (:meth:`Bootstrap.linearised`).

    Raises:
        TypeError, ValueError: features that are not finite, of unequal dtypes or widths, or fewer than two points.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation import frechet_distance
        >>> round(frechet_distance(torch.tensor([[0.0], [1.0]]), torch.tensor([[4.0], [5.0]])).value, 3)
        16.0
    """
    x, y = arguments.feature_sets(x, y, ("x", "y"), 2, "a covariance")
    n, m = len(x), len(y)
    (mean_x, centred_x, q_x, r_x), (mean_y, centred_y, q_y, r_y) = _decomposed(x), _decomposed(y)
    u, s, vh = torch.linalg.svd(r_x @ r_y.T / ((n - 1) * (m - 1)) ** 0.5, full_matrices=False)
    shift = mean_x - mean_y
    variances = centred_x.square().sum() / (n - 1) + centred_y.square().sum() / (m - 1)
    value = max(0.0, (shift @ shift + variances - 2 * s.sum()).item())
    estimate = bootstrap.linearised(
        value,
        _frechet_influence(centred_x, q_x @ u, s, shift),
        _frechet_influence(centred_y, q_y @ vh.T, s, -shift),
    )
    return Estimate(value, max(0.0, estimate.low), estimate.high)


def kernel_distance(
    x: Float[Tensor, "n F"], y: Float[Tensor, "m F"], *, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP
) -> Estimate:
    """Unbiased squared MMD with the kernel (x . y / F + 1)^3 (Binkowski et al. 2018, section 4).

    Of mean zero, and so negative about half of the time, where the distributions are equal. All images enter at
    once, instead of the mean over subsets that is customary: the same expectation with less variance.

    Args:
        x, y: features, at least two points each. Gram matrices are computed in their dtype: n^2 + n m + m^2 numbers.
        bootstrap: of the interval (:meth:`Bootstrap.mmd2`).

    Raises:
        TypeError, ValueError: features that are not finite, of unequal dtypes or widths, or fewer than two points.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation import kernel_distance
        >>> round(kernel_distance(torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [3.0]])).value, 3)
        297.5
    """
    x, y = arguments.feature_sets(x, y, ("x", "y"), 2, "an unbiased estimate")
    return bootstrap.mmd2(_cubic_kernel(x, x), _cubic_kernel(x, y), _cubic_kernel(y, y))


def _cubic_kernel(x: Float[Tensor, "n F"], y: Float[Tensor, "m F"]) -> Float[Tensor, "n m"]:
    return torch.addmm(x.new_ones(1), x, y.T, alpha=1 / x.shape[1]).pow_(3)


def _decomposed(x: Float[Tensor, "n F"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean, centred features X, and the factors of X = Q R, in float64."""
    x = x.double()
    mean = x.mean(0)
    q, r = torch.linalg.qr(x - mean)  # (n, r), (r, F) with r = min(n, F)
    return mean, x - mean, q, r


def _frechet_influence(
    centred: Float[Tensor, "n F"], whitened: Float[Tensor, "n r"], s: Float[Tensor, " r"], shift: Float[Tensor, " F"]
) -> Float[Tensor, " n"]:
    """First-order change of the distance as the weight of each image of one sample grows.

    The mean contributes 2 shift . x_i; Tr S_x contributes |x_i|^2; and -2 Tr (S_x S_y)^(1/2) contributes
    -x_i' T x_i, with T the optimal map between the Gaussians (Villani 2009). With X = Q_x R_x, Y = Q_y R_y and the
    singular value decomposition U s V' of R_x R_y' / sqrt((n-1)(m-1)), X T X' = (n-1) Q_x U s U' Q_x', so that
    x_i' T x_i = (n-1) sum_k s_k w_ik^2, where w = Q_x U.
    """
    transported = (len(centred) - 1) * whitened.square() @ s
    influence = 2 * centred @ shift + centred.square().sum(1) - transported
    return influence - influence.mean()
