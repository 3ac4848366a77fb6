"""Log-likelihood of held-out images under a Gaussian window on every sample: the Parzen estimate, in nats.

A weak measure, kept for comparison with published figures: in hundreds of dimensions it says little about the
likelihood of the model, and centres of clusters can beat training images as samples, which no model should (Theis, van
den Oord, Bethge 2016). Print it beside that of training images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen.metrics import Euclidean

SIGMAS = tuple(round(0.10 + 0.01 * i, 2) for i in range(20))
"""Bandwidths 0.10 ... 0.29 for pixels in [0, 1], the grid of Li, Swersky, Zemel (2015)."""

_BLOCK = 512  # images whose distances to all samples are in memory at a time


def parzen_log_likelihood(
    images: Float[Tensor, "n ..."], samples: Float[Tensor, "m ..."], *, sigma: float
) -> Float[Tensor, " n"]:
    """For each image x, of D pixels, in nats,

        log 1/m sum_j exp(-|x - s_j|^2 / (2 sigma^2)) - D/2 log(2 pi sigma^2)

    (Breuleux, Bengio, Vincent 2011; Goodfellow et al. 2014, section 5). Computed in float64, with log-sum-exp.

    Args:
        images: held-out images; not those that `sigma` was chosen on.
        samples: of the model, the centres of the windows. Published figures are for 10,000.
        sigma: bandwidth in the units of the pixels; from :func:`parzen_bandwidth`. Figures compare only for pixels in
            the same range: [0, 1] everywhere in print.

    Raises:
        TypeError, ValueError: images that are not finite or of unequal shapes, or a sigma that is not positive.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation import parzen_log_likelihood
        >>> parzen_log_likelihood(torch.zeros(1, 1), torch.zeros(1, 1), sigma=1.0).round(decimals=3)  # -log(2 pi) / 2
        tensor([-0.9190], dtype=torch.float64)
    """
    images, samples = arguments.finite_samples(images, samples, ("images", "samples"))
    (mean,) = _log_likelihoods(images, samples, (sigma,))
    return mean


def parzen_bandwidth(
    validation: Float[Tensor, "n ..."], samples: Float[Tensor, "m ..."], *, sigmas: Sequence[float] = SIGMAS
) -> float:
    """The sigma of the grid under which the validation images have the greatest mean log-likelihood.

    If it is at an end of the grid, extend the grid.

    Args:
        validation: real images, none of those that will be scored.
        samples: of the model, the centres of the windows.
        sigmas: the grid, in the units of the pixels; by default that of Li, Swersky, Zemel (2015).

    Raises:
        TypeError, ValueError: images that are not finite or of unequal shapes, no sigma, or one that is not positive.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation import parzen_bandwidth
        >>> parzen_bandwidth(torch.tensor([[0.0]]), torch.tensor([[0.2]]))
        0.2
    """
    validation, samples = arguments.finite_samples(validation, samples, ("validation", "samples"))
    if not sigmas:
        raise ValueError("sigmas must hold at least one bandwidth, got none")
    means = [values.mean() for values in _log_likelihoods(validation, samples, sigmas)]
    return float(sigmas[int(torch.stack(means).argmax())])


def _log_likelihoods(images: Tensor, samples: Tensor, sigmas: Sequence[float]) -> list[Float[Tensor, " n"]]:
    """One vector of log-likelihoods for each sigma."""
    for sigma in sigmas:
        if not arguments.is_positive(sigma):
            raise ValueError(f"sigma must be a positive number in the units of the pixels, got {sigma!r}")
    centres = samples.double()
    blocks: list[list[Tensor]] = [[] for _ in sigmas]
    for block in images.split(_BLOCK):
        squares = Euclidean().squared(block.double(), centres)  # (b, m)
        for values, sigma in zip(blocks, sigmas, strict=True):
            values.append(torch.logsumexp(squares / (-2 * sigma**2), 1))
    pixels = images[0].numel()
    return [
        torch.cat(values) - math.log(len(samples)) - pixels / 2 * math.log(2 * math.pi * sigma**2)
        for values, sigma in zip(blocks, sigmas, strict=True)
    ]
