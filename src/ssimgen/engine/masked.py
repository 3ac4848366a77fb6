"""d^2 where pixels have weights m >= 0, of which 0 hides a pixel: normalised convolution, in PyTorch, in float64.

A window's weights w become w' = w m / sum w m, at each position anew, and a position counts with its weight sum w m: 0
where it sees nothing, 1 where it sees all. So everything is continuous in m, and a mask of ones is no mask. Statistics
are those of the window, biased or not: unbiased, the factor is 1 / (1 - sum w'^2), and a position that sees one pixel
has no variance and does not count, as abruptly as a sample of one has no sample variance. (Knutsson, Westin 1993,
Normalized and differential convolution, CVPR, 515-523.)

Hidden pixels are put aside by selection and not by multiplication: whatever they hold, NaN too, touches no value and no
derivative of any order.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ssimgen._precision import dtype_of_result, widened
from ssimgen.engine.axes import prepared
from ssimgen.engine.eager import (
    are_near,
    covered,
    filtered,
    from_moments,
    inner_pixel,
    is_large,
    merged_squares,
    not_below_0,
    relied_on,
    structure,
    unit_of,
)
from ssimgen.engine.spec import PatchDistance
from ssimgen.windows import Window

_ONE_PIXEL = 1e-12  # 1 - sum w'^2 of a position that sees one pixel, at most


class Masked(NamedTuple):
    """d^2 and the weight with which it counts; where that is 0, d^2 is a number of no meaning."""

    squares: Tensor
    weights: Tensor


def masked_map(
    x: Float[Tensor, "B C *spatial"],
    y: Float[Tensor, "B C *spatial"],
    mask: Float[Tensor, "b C *spatial"],
    patch: PatchDistance,
) -> Masked:
    """Maps (B, C, *positions), and weights (b, C, *positions): the mask may be one for all images, b = 1."""
    dtype, form = dtype_of_result(x), patch.form
    (x, y, mask), patch, restored = prepared(patch, x, y, mask)
    window = patch.window
    m = covered(widened(mask), window)
    x, y = (torch.where(m > 0, covered(widened(z), window) - patch.lo, 0.0) for z in (x, y))
    large = is_large(patch, x, y)
    unit: float | Tensor = unit_of(x, y) if large else 1.0  # similarity does not depend on the unit of pixels
    x, y, c1, c2 = x * unit, y * unit, patch.c1 * unit**2, patch.c2 * unit**2
    seen = Seen.of(m, window)
    if form == "uncentred":
        q_s, q_d = (seen.beta * seen.mean(z * z) for z in (x + y, x - y))
        squares = structure(q_s, q_d, c2)
    elif not large:
        squares = from_moments(form, *seen.moments(x + y, patch.c2), *seen.moments(x - y, patch.c2), c1, c2)
        large = are_near(squares, x, y, patch)
    if large and form != "uncentred":
        squares = merged_squares(form, x, y, window, seen.beta, c1, c2, m)
    return Masked(restored(not_below_0(squares)).to(dtype), restored(seen.weights))


def masked_sums(
    x: Float[Tensor, "B C *spatial"],
    y: Float[Tensor, "B C *spatial"],
    mask: Float[Tensor, "b C *spatial"],
    patch: PatchDistance,
) -> Masked:
    """The sums over window positions of d^2 times its weight, and of the weights, (B, C) each, in float64."""
    squares, weights = masked_map(x, y, mask, patch)
    sums = (squares * weights).flatten(2).sum(2)
    return Masked(sums, weights.flatten(2).sum(2).expand_as(sums))


def of_samples(weights: Tensor, squares: Tensor) -> tuple[Tensor, Tensor]:
    """beta of sample covariances, 1 / (1 - sum w'^2), and with which weights positions count: those that see one pixel
    have no variance, and none."""
    rest = 1 - squares
    several = (weights > 0) & (rest > _ONE_PIXEL)
    return 1 / torch.where(several, rest, 1.0), torch.where(several, weights, 0.0)


class Seen(NamedTuple):
    """What the windows see: weights m of the pixels, sum w m (1 where that is 0), beta and weight of each position."""

    m: Tensor
    window: Window
    total: Tensor
    beta: float | Tensor
    weights: Tensor

    @classmethod
    def of(cls, m: Tensor, window: Window) -> Seen:
        weights = filtered(m, window)
        total = torch.where(weights > 0, weights, 1.0)
        if not window.unbiased:
            return cls(m, window, total, window.factor(m.ndim - 2), weights)
        return cls(m, window, total, *of_samples(weights, filtered(m * m, window, power=2) / total**2))

    def mean(self, z: Tensor) -> Tensor:
        """sum w' z."""
        return filtered(self.m * z, self.window) / self.total

    def moments(self, z: Tensor, c2: float) -> tuple[Tensor, Tensor]:
        """sum w' z and beta sum w' (z - mean)^2, about a pixel, so that rounding errors are small."""
        origin = inner_pixel(z, self.m)
        z = torch.where(self.m > 0, z - origin, 0.0)
        mean = self.mean(z)
        variance = not_below_0(self.mean(z * z) - mean * mean)
        return origin + mean, relied_on(self.beta, variance, mean, c2)
