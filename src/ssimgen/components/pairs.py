"""The components of image pairs as maps, and their product with exponents."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen import engine
from ssimgen._masks import check_some
from ssimgen._request import (
    DEFAULT_WINDOW,
    DataRange,
)
from ssimgen.engine.axes import prepared
from ssimgen.engine.eager import covered, merged_statistics, not_below_0
from ssimgen.engine.masked import Seen
from ssimgen.similarity import Pairs, prepare, root
from ssimgen.windows import Window

_STRUCTURE_FLOOR = 0.01  # least structure that is raised to a power


class Maps(NamedTuple):
    """Luminance, contrast and structure of every window position and channel, each (B, C, h, w).

    Example:
        >>> import torch
        >>> from ssimgen.components import maps
        >>> x = torch.rand(1, 1, 16, 16)
        >>> {name: part.min().item() for name, part in maps(x, x, data_range=1.0)._asdict().items()}
        {'luminance': 1.0, 'contrast': 1.0, 'structure': 1.0}
    """

    luminance: Float[Tensor, "B C *positions"]
    contrast: Float[Tensor, "B C *positions"]
    structure: Float[Tensor, "B C *positions"]


def maps(
    x: Float[Tensor, "B C *spatial"],
    y: Float[Tensor, "B C *spatial"],
    *,
    data_range: DataRange,
    window: Window = DEFAULT_WINDOW,
    k1: float = 0.01,
    k2: float = 0.03,
    mask: Tensor | None = None,
    fill: float = math.nan,
) -> Maps:
    """The three similarities whose product is SSIM, of image pairs (Wang et al. 2004, Eqs. 6, 9 and 10, c3 = c2 / 2):

        luminance  (2 mu_x mu_y + c1) / (mu_x^2 + mu_y^2 + c1)
        contrast   (2 sigma_x sigma_y + c2) / (sigma_x^2 + sigma_y^2 + c2)
        structure  (cov + c3) / (sigma_x sigma_y + c3)

    Statistics are computed in float64, variances about the mean of each window. Gradients of any order reach both
    images; where a patch is flat and sigma has no derivative, that is taken as 0.

    Args:
        x, y, data_range, window, k1, k2, mask: as :func:`ssimgen.ssim`; a range per image too.
        fill: the value of the maps where a window sees no pixel.

    Returns:
        The maps: structure in (-1, 1], contrast in (0, 1], luminance in (0, 1] for images in their range and in
        [-1, 1] for all; 1 for equal images, never above. NaN where a window holds a NaN pixel.

    Raises:
        TypeError, ValueError: as :func:`ssimgen.ssim`.

    Example:
        >>> import torch
        >>> from ssimgen import components
        >>> x = torch.rand(1, 1, 16, 16)
        >>> luminance, contrast, structure = components.maps(x, 1 - x, data_range=1.0)
        >>> contrast.min().item() > 0.999, structure.max().item() < -0.9
        (True, True)
    """
    wide = _wide(prepare(x, y, data_range, window, k1, k2, "product", mask))
    return Maps(*(wide.filled(part, fill) for part in wide.maps))


def ssim_map(
    x: Float[Tensor, "B C *spatial"],
    y: Float[Tensor, "B C *spatial"],
    *,
    data_range: DataRange,
    alpha: float = 1.0,
    beta: float = 1.0,
    gamma: float = 1.0,
    window: Window = DEFAULT_WINDOW,
    k1: float = 0.01,
    k2: float = 0.03,
    mask: Tensor | None = None,
    fill: float = math.nan,
) -> Float[Tensor, "B C *positions"]:
    """luminance^alpha contrast^beta structure^gamma of every window position and channel (Wang et al. 2004, Eq. 12).

    Structure is negative where patches are anti-correlated, and a power of it is then not real, or similar where it
    should not be; towards 0, slopes of powers below 1 have no bound. Below f = 0.01 its power is therefore the line

        f^gamma - (f - structure) (1 + f^gamma) / (1 + f),

    which goes from f^gamma at f to -1 at -1: continuous, increasing and, for gamma = 1, structure itself. Luminance and
    contrast go down to f = k1^2 / (1 + k1^2) and f = k2^2 / (k2^2 + q / 4) for images in their range, q being the beta
    of the window; below, where only other images are, they have the same line.

    Args:
        x, y, data_range, window, k1, k2, mask: as :func:`ssimgen.ssim`; a range per image too.
        alpha, beta, gamma: exponents of luminance, contrast and structure, >= 0; 0 leaves one out.
        fill: the value of the map where a window sees no pixel.

    Returns:
        The maps, in [-1, 1]; 1 for equal images, never above. With all exponents 1, :func:`ssimgen.ssim_map`.

    Raises:
        TypeError, ValueError: as :func:`ssimgen.ssim`, and for exponents that are no numbers >= 0.

    Example:
        >>> import torch
        >>> from ssimgen import components, ssim_map
        >>> x, y = torch.rand(2, 1, 1, 16, 16)
        >>> torch.allclose(components.ssim_map(x, y, data_range=1.0), ssim_map(x, y, data_range=1.0), atol=1e-6)
        True
    """
    exponents = _exponents(alpha, beta, gamma)
    wide = _wide(prepare(x, y, data_range, window, k1, k2, "product", mask))
    return wide.filled(wide.product(exponents, k1, k2), fill)


def ssim(
    x: Float[Tensor, "B C *spatial"],
    y: Float[Tensor, "B C *spatial"],
    *,
    data_range: DataRange,
    alpha: float = 1.0,
    beta: float = 1.0,
    gamma: float = 1.0,
    window: Window = DEFAULT_WINDOW,
    k1: float = 0.01,
    k2: float = 0.03,
    mask: Tensor | None = None,
) -> Float[Tensor, " B"]:
    """SSIM with exponents: the mean of :func:`ssim_map` over positions and channels (Wang et al. 2004, Eqs. 12 and 17).

    Slower than :func:`ssimgen.ssim`, which has the exponents 1. Arguments and errors are those of :func:`ssim_map`.

    Returns:
        One value a pair, in [-1, 1].

    Example:
        >>> import torch
        >>> from ssimgen import components
        >>> x = torch.rand(1, 1, 16, 16) / 2
        >>> components.ssim(x, x + 0.3, data_range=1.0, alpha=0.0).item() > 0.999  # without luminance
        True
    """
    exponents = _exponents(alpha, beta, gamma)
    wide = _wide(prepare(x, y, data_range, window, k1, k2, "product", mask))
    return wide.mean(wide.product(exponents, k1, k2))


class _Wide(NamedTuple):
    """The maps in float64, the beta of their windows, the weights of positions under a mask, and the caller's dtype."""

    maps: Maps
    beta: float | Tensor
    weights: Tensor | None
    dtype: torch.dtype

    def product(self, exponents: tuple[float, float, float], k1: float, k2: float) -> Tensor:
        """Of the powers, as far down as they are those of images in their range."""
        k1, k2 = arguments.plain(k1), arguments.plain(k2)
        least = k1**2 / (1 + k1**2), k2**2 / (k2**2 + self.beta / 4), _STRUCTURE_FLOOR
        product = torch.ones_like(self.maps.luminance)
        for similarity, exponent, end in zip(self.maps, exponents, least, strict=True):
            if exponent:
                product = product * _power(similarity, exponent, end)
        return product

    def filled(self, values: Tensor, fill: float) -> Tensor:
        """A map, with `fill` where nothing is seen."""
        return (values if self.weights is None else torch.where(self.weights > 0, values, fill)).to(self.dtype)

    def mean(self, values: Tensor) -> Tensor:
        """Over channels and positions, these by weight."""
        if self.weights is None:
            return values.flatten(1).mean(1).to(self.dtype)
        return ((values * self.weights).flatten(1).sum(1) / self.weights.flatten(1).sum(1)).to(self.dtype)


def _wide(pairs: Pairs) -> _Wide:
    """Luminance, contrast and structure, from what they lack of 1, which is never negative."""
    x, y, patch, seen, dtype = pairs
    (x, y, *masks), patch, restored = prepared(patch, x, y, *(() if seen is None else (seen,)))
    x, y, *masks = (covered(engine.widened(z), patch.window) for z in (x, y, *masks))
    x, y, (m,) = x - patch.lo, y - patch.lo, masks or (None,)
    beta: float | Tensor = patch.window.factor(x.ndim - 2)
    weights = None
    if m is not None:
        x, y = (torch.where(m > 0, z, 0.0) for z in (x, y))
        windows = Seen.of(m, patch.window)
        beta, weights = windows.beta, restored(windows.weights)
        check_some(weights.flatten(2).sum(2), patch.window)
    mean_x, mean_y, *products = merged_statistics(x, y, patch.window, lambda x, y: (x, y), m)
    var_x, var_y, cov = (beta * product for product in products)
    deviations_ = root(var_x * var_y)  # sigma_x sigma_y
    luminance = 1 - (mean_x - mean_y) ** 2 / (mean_x**2 + mean_y**2 + patch.c1)
    contrast = 1 - not_below_0(var_x + var_y - 2 * deviations_) / (var_x + var_y + patch.c2)
    structure = 1 - not_below_0(deviations_ - cov) / (deviations_ + patch.c2 / 2)
    maps = Maps(*map(restored, (luminance, contrast, structure)))
    return _Wide(maps, restored(beta) if isinstance(beta, Tensor) else beta, weights, dtype)


def _exponents(alpha: float, beta: float, gamma: float) -> tuple[float, float, float]:
    """The exponents, checked."""
    for name, exponent in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
        number = arguments.as_number(exponent)
        if number is None or number < 0:
            raise ValueError(f"{name} must be a number >= 0, got {exponent!r}: 1 is SSIM, 0 leaves the component out")
    return arguments.plain(alpha), arguments.plain(beta), arguments.plain(gamma)


def _power(similarity: Tensor, exponent: float, least: float | Tensor) -> Tensor:
    """similarity^exponent, and below `least` a line to -1 at -1."""
    if exponent == 1:
        return similarity
    low = similarity < least
    end = least**exponent
    line = end - (least - similarity) * (1 + end) / (1 + least)
    return torch.where(low, line, torch.where(low, 1, similarity) ** exponent)
