"""The three components of SSIM: as maps of image pairs, with exponents, and each as a metric of its own.

:func:`maps` are those of Wang et al. (2004); :func:`ssim_map` and :func:`ssim` raise them to powers before they are
multiplied. :class:`Component` compares all pairs of two sets in one respect. With sigma' = sqrt(var + c2 / 2), the SSIM
of a patch is the product of three similarities,

    luminance    (2 mu_x mu_y + c1) / (mu_x^2 + mu_y^2 + c1)
    contrast     2 sigma'_x sigma'_y / (sigma'_x^2 + sigma'_y^2)
    structure    (cov + c2 / 2) / (sigma'_x sigma'_y).

They are those of Wang et al. (2004, Eqs. 6, 9 and 10 with c3 = c2 / 2) up to the place of c2: theirs add it to
sigma_x sigma_y, here it is inside sigma'. The product is the same. But so, each is a positive definite kernel of unit
diagonal, and 1 - similarity half a squared distance in its Hilbert space: luminance is s1 (docs/kernels.md, F1);
2ab / (a^2 + b^2) is the integral of 2 (a e^(-t a^2)) (b e^(-t b^2)) over t > 0; and structure is the kernel
cov + c2 / 2, an inner product of patches, divided by the root of its diagonal on either side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen import engine, pairwise
from ssimgen._autocast import no_autocast
from ssimgen._masks import check_some, common_weights_of, digest, weights_of
from ssimgen._range_check import notice_range
from ssimgen._request import (
    DEFAULT_WINDOW,
    DataRange,
    checked_options,
    lo_and_length,
    patch_distance,
    spatial_axes,
    with_one_range,
)
from ssimgen.engine import PatchDistance, positions
from ssimgen.engine.axes import prepared
from ssimgen.engine.eager import covered, filtered, merged_statistics
from ssimgen.engine.eager_all_pairs import PatchWeights, patch_weights, weighted_patches
from ssimgen.engine.masked import Seen
from ssimgen.metrics import Metric, against_itself
from ssimgen.similarity import root
from ssimgen.windows import Window

__all__ = ["PARTS", "Component", "Maps", "Part", "maps", "ssim", "ssim_map"]

Part = Literal["luminance", "contrast", "structure"]
PARTS: tuple[Part, ...] = ("luminance", "contrast", "structure")

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
    wide = _wide(x, y, data_range, window, k1, k2, mask)
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
    wide = _wide(x, y, data_range, window, k1, k2, mask)
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
    wide = _wide(x, y, data_range, window, k1, k2, mask)
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


def _wide(
    x: Tensor, y: Tensor, data_range: DataRange, window: Window, k1: float, k2: float, mask: Tensor | None
) -> _Wide:
    """Luminance, contrast and structure, from what they lack of 1, which is never negative."""
    x, y = arguments.image_pairs(x, y, spatial_axes(window))
    dtype = x.dtype
    unit_x, unit_y, unit = with_one_range(x, y, data_range)
    patch = patch_distance(x, unit, window, k1, k2, "product")
    seen = weights_of(mask, x)
    if seen is None:
        notice_range(data_range, x, y)
    (x, y, *masks), patch, restored = prepared(patch, unit_x, unit_y, *(() if seen is None else (seen,)))
    x, y, *masks = (covered(engine.widened(z), patch.window) for z in (x, y, *masks))
    x, y, (m,) = x - patch.lo, y - patch.lo, masks or (None,)
    beta: float | Tensor = patch.window.factor(x.ndim - 2)
    weights = None
    if m is not None:
        x, y = (torch.where(m > 0, z, 0.0) for z in (x, y))
        windows = Seen.of(m, patch.window)
        beta, weights = windows.beta, restored(windows.weights)
        check_some(weights.flatten(2).sum(2))
    mean_x, mean_y, *products = merged_statistics(x, y, patch.window, lambda x, y: (x, y), m)
    var_x, var_y, cov = (beta * product for product in products)
    deviations_ = root(var_x * var_y)  # sigma_x sigma_y
    luminance = 1 - (mean_x - mean_y) ** 2 / (mean_x**2 + mean_y**2 + patch.c1)
    contrast = 1 - _not_below_0(var_x + var_y - 2 * deviations_) / (var_x + var_y + patch.c2)
    structure = 1 - _not_below_0(deviations_ - cov) / (deviations_ + patch.c2 / 2)
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


def _not_below_0(z: Tensor) -> Tensor:
    """z without what rounding took too much; unlike a clamp, this leaves the derivatives alone."""
    return z + F.relu(-z.detach())


@final
@dataclass(frozen=True)
class Component(Metric):
    """D = sqrt(mean of 1 - similarity over patches and channels), of one component of SSIM.

    "luminance" sees the mean of patches alone, "contrast" their standard deviation alone, "structure" what is left
    of them when both are divided out: it is 0 between x and a x + b in patches of a variance well above c2.

    Args:
        part: "luminance", "contrast" or "structure".
        data_range, window, k1, k2: as :func:`ssimgen.ssim`.
        mask: that of all images, (C, *spatial) or less, as :func:`ssimgen.ssim`.

    Raises:
        TypeError, ValueError: an unknown part or options out of range, at once; images, when called, as
            :func:`ssimgen.ssim`.

    Example:
        >>> import torch
        >>> from ssimgen.components import Component
        >>> x = torch.rand(1, 1, 16, 16) / 2
        >>> Component("luminance", data_range=1.0)(x, x + 0.3).item() > 0.1
        True
        >>> Component("contrast", data_range=1.0)(x, x + 0.3).item() < 0.01
        True
    """

    part: Part
    data_range: DataRange
    window: Window = DEFAULT_WINDOW
    k1: float = 0.01
    k2: float = 0.03
    mask: Tensor | None = field(default=None, repr=False, compare=False)
    _mask: str = field(default="", init=False, repr=False)  # by which it is compared

    def __post_init__(self) -> None:
        object.__setattr__(self, "_mask", digest(self.mask))
        arguments.choice("part", self.part, PARTS)
        checked_options(self.data_range, self.window, self.k1, self.k2, "sum")
        arguments.keep_plain(self, "data_range", "k1", "k2")

    @property
    def hilbertian(self) -> bool:
        return True

    def squared(
        self, x: Float[Tensor, "n C *spatial"], y: Float[Tensor, "m C *spatial"] | None = None
    ) -> Float[Tensor, "n m"]:
        """D^2 of all pairs, in [0, 1]; up to 2 for "structure"."""
        if y is None:
            x = arguments.image_batch("x", x, spatial_axes(self.window))
        else:
            x, y = arguments.image_batches(x, y, spatial_axes(self.window))
        patch = patch_distance(x, self.data_range, self.window, self.k1, self.k2, "sum")
        seen, weights = common_weights_of(self.mask, x), None
        if seen is None:
            notice_range(self.data_range, x, y)
        else:
            x, y = torch.where(seen > 0, x, patch.lo), None if y is None else torch.where(seen > 0, y, patch.lo)
            weights = engine.masked_map(x[:1], x[:1], seen, patch).weights
            check_some(weights.flatten(2).sum(2))
        if self.part == "structure":
            with no_autocast(x.device):
                return _structure(x - patch.lo, None if y is None else y - patch.lo, seen, patch)
        describe, k = (means, self.k1) if self.part == "luminance" else (deviations, 1e-9 * self.k2)
        return pairwise.distance(  # (u - v)^2 / (u^2 + v^2 + (k l)^2), averaged; contrast has its c2 in u and v
            describe(x, patch, seen),
            None if y is None else describe(y, patch, seen),
            data_range=lo_and_length(self.data_range)[1],
            form="uncentred",
            squared=True,
            window=Window(((1.0,),) * (x.ndim - 2)),
            k2=k,
            mask=weights,
        )


def means(
    x: Float[Tensor, "n C *spatial"], patch: PatchDistance, mask: Float[Tensor, "1 C *spatial"] | None = None
) -> Float[Tensor, "n C *positions"]:
    """mu of every patch, above the least pixel value."""
    z, mean, _, restored = _windowed(x, patch, mask)
    return restored(mean(z)).to(x.dtype)


def deviations(
    x: Float[Tensor, "n C *spatial"], patch: PatchDistance, mask: Float[Tensor, "1 C *spatial"] | None = None
) -> Float[Tensor, "n C *positions"]:
    """sigma' = sqrt(var + c2 / 2) of every patch."""
    z, mean, beta, restored = _windowed(x, patch, mask)
    variance = mean(z * z) - mean(z) ** 2
    return restored((beta * variance.clamp_min(0) + patch.c2 / 2).sqrt()).to(x.dtype)


class _Windowed(NamedTuple):
    """Pixels above the least value, what averages them over windows, beta, and what restores the axes of maps."""

    z: Tensor
    mean: Callable[[Tensor], Tensor]
    beta: float | Tensor
    restored: Callable[[Tensor], Tensor]


def _windowed(x: Tensor, patch: PatchDistance, mask: Tensor | None) -> _Windowed:
    (x, *masks), patch, restored = prepared(patch, x, *(() if mask is None else (mask,)))
    z, window = covered(x.double() - patch.lo, patch.window), patch.window
    if not masks:
        return _Windowed(z, lambda z: filtered(z, window), window.factor(x.ndim - 2), restored)
    seen = Seen.of(covered(masks[0].double(), window), window)
    return _Windowed(z, seen.mean, seen.beta, restored)


def _structure(x: Tensor, y: Tensor | None, mask: Tensor | None, request: PatchDistance) -> Tensor:
    """Mean of 1 - structure over patches, where structure is u . v for unit vectors; a row of patches at a time."""
    (x, *others), patch, _ = prepared(request, *((x,) if y is None else (x, y)))
    seen = None if mask is None else prepared(request, mask)[0][0]
    second = others[0] if others else x
    axis, (rows, *across) = patch.window.axes(x.ndim - 2)[0], positions(x, patch.window)
    similarity, count = x.new_zeros(len(x), len(second)), x.new_zeros(())
    for row in range(rows):
        of_row = slice(row * axis.stride, row * axis.stride + axis.size)
        weights = patch_weights(x, patch.window, None if seen is None else seen[:, :, of_row])
        u = _unit_vectors(x[:, :, of_row], weights, patch)
        v = _unit_vectors(second[:, :, of_row], weights, patch) if others else u
        similarity = similarity + u @ v.T
        count = count + (x.shape[1] * math.prod(across) if weights.counts is None else weights.counts.sum())
    square = (1 - similarity / count).clamp_min(0)
    return square if others else against_itself(square, x)


def _unit_vectors(
    strip: Float[Tensor, "n C *spatial"], weights: PatchWeights, patch: PatchDistance
) -> Float[Tensor, "n F"]:
    """Centred patches of one row, with sqrt(c2 / 2) as a further coordinate, divided by sigma'; times the root of the
    weight with which they count."""
    _, centred = weighted_patches(strip, patch.window, weights)  # (P, n, q)
    constant = torch.full_like(centred[..., :1], patch.c2).sqrt()
    vectors = F.normalize(torch.cat([centred, constant], -1), dim=-1)  # |vector| = sqrt(2) sigma'
    if weights.counts is not None:
        vectors = vectors * weights.counts.sqrt()
    return vectors.transpose(0, 1).flatten(1)
