"""Scores of image pairs that are not structural: PSNR and feature distance."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen._request import DataRange, lo_and_length


def psnr(x: Float[Tensor, "B C H W"], y: Float[Tensor, "B C H W"], *, data_range: DataRange) -> Float[Tensor, " B"]:
    """Peak signal-to-noise ratio of image pairs, 10 log10(l^2 / mean (x - y)^2), in decibels (ITU-T J.340).

    Infinite for equal images. The mean over a set is that of decibels, as is usual, and not the PSNR of the mean error.

    Args:
        x, y: images of equal shape, dtype and device.
        data_range: l, for values in [0, l], or (lo, hi) with l = hi - lo.

    Raises:
        TypeError, ValueError: as :func:`ssimgen.ssim`.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation import psnr
        >>> x = torch.zeros(1, 1, 16, 16)
        >>> round(psnr(x, x + 0.1, data_range=1.0).item(), 3)
        20.0
    """
    x, y = arguments.image_pairs(x, y)
    _, length = lo_and_length(data_range)
    error = (x - y).square().flatten(1).mean(1)
    return 10 * torch.log10(length**2 / error)


def feature_distance(x: Float[Tensor, "B F"], y: Float[Tensor, "B F"]) -> Float[Tensor, " B"]:
    """Mean squared difference of the features of image pairs, |x - y|^2 / F (Johnson, Alahi, Fei-Fei 2016, Eq. 2).

    In [0, inf), in squared units of the features; 0 for images that the network does not tell apart.

    Raises:
        TypeError, ValueError: features that are not finite, of unequal shapes or dtypes.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation import feature_distance
        >>> feature_distance(torch.zeros(1, 4), torch.ones(1, 4))
        tensor([1.])
    """
    x, y = arguments.feature_sets(x, y, ("x", "y"), 1, "a distance")
    if len(x) != len(y):
        raise ValueError(f"features are compared pair by pair, but x has {len(x)} rows and y {len(y)}")
    return (x - y).square().mean(1)
