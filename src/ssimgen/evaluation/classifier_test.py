"""Can a classifier tell two sets of images apart? The classifier two-sample test, as a measure in bits."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen.evaluation.estimates import DEFAULT_BOOTSTRAP, Bootstrap, Estimate

_FOLDS = 5
_RIDGE = 0.01  # weight of half the squared norm beside the mean cross-entropy
_STEPS = 100


def c2st(x: Float[Tensor, "n F"], y: Float[Tensor, "m F"], *, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP) -> Estimate:
    """How many bits a classifier knows of which of two sets an image is of (C2ST; Lopez-Paz, Oquab 2017).

    Logistic regression with a ridge on standardised features, of equally many images of either set, cross-fitted in
    five folds: each image is classified by one that has not seen it. The score is the mean of 1 + log2 p(the right
    set): a lower bound of the Jensen-Shannon divergence, 1 where the sets are always told apart, and 0, or a little
    less, where they cannot be. Unlike the rate of right answers, it still says who is closer when all are told apart.

    Args:
        x, y: features, at least ten images each.
        bootstrap: of the interval; its seed fixes the folds.

    Raises:
        TypeError, ValueError: features that are not finite, of unequal dtypes or widths, or of fewer than ten images.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation import c2st
        >>> x = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
        >>> abs(c2st(x[:50], x[50:]).value) < 0.1, c2st(x[:50], x[50:] + 3).value > 0.5
        (True, True)
    """
    x, y = arguments.feature_sets(x, y, ("x", "y"), 2 * _FOLDS, "cross-fitting")
    n = min(len(x), len(y))
    points = torch.cat([x[:n], y[:n]]).float()
    signs = torch.ones(2 * n).index_fill_(0, torch.arange(n, 2 * n), -1)
    generator = torch.Generator().manual_seed(bootstrap.seed)
    folds = torch.cat([torch.randperm(n, generator=generator) % _FOLDS for _ in range(2)])
    signs, folds = signs.to(points), folds.to(points.device)
    return bootstrap.mean(bits(signs, cross_fitted(standardised(points), signs, folds)))


def bits(signs: Float[Tensor, "*B n"], scores: Float[Tensor, "*B n"]) -> Float[Tensor, "*B n"]:
    """1 + log2 p(the right set), of log-odds."""
    return 1 - F.softplus(-signs * scores) / math.log(2)


def standardised(points: Float[Tensor, "n F"]) -> Float[Tensor, "n F+1"]:
    """Features of mean 0 and a mean squared norm of 1, and a constant beside them."""
    centred = points - points.mean(0)
    scaled = centred / (centred.square().mean(0).sqrt() + 1e-6) / points.shape[1] ** 0.5
    return torch.cat([scaled, scaled.new_ones(len(scaled), 1)], 1)


def cross_fitted(
    points: Float[Tensor, "n D"], signs: Float[Tensor, "*B n"], folds: Int[Tensor, " n"]
) -> Float[Tensor, "*B n"]:
    """The log-odds of each point, by the classifier trained without its fold; of one labelling, or of several.

    All classifiers are trained at once, by Nesterov's method for strongly convex functions: the curvature lies between
    the ridge and a quarter of the mean squared norm of the points beside it.
    """
    seen = (folds != torch.arange(_FOLDS, device=folds.device)[:, None]).to(points)  # (folds, n)
    signs = signs[..., None, :]
    shares = signs * seen / seen.sum(1, keepdim=True)
    steepest = 1.5 * points.square().sum(1).mean().item() / 4 + _RIDGE  # a fold can hold the longest points
    momentum = (1 - (_RIDGE / steepest) ** 0.5) / (1 + (_RIDGE / steepest) ** 0.5)
    weights = ahead = points.new_zeros(*shares.shape[:-1], points.shape[1])
    for _ in range(_STEPS):
        doubts = torch.sigmoid(-signs * F.linear(ahead, points))  # (..., folds, n), of the right set
        stepped = ahead + ((shares * doubts) @ points - _RIDGE * ahead) / steepest
        weights, ahead = stepped, stepped + momentum * (stepped - weights)
    return F.linear(weights, points)[..., folds, torch.arange(len(points))]
