"""Each component as a metric of all pairs."""

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
from ssimgen._masks import check_some, common_weights_of, digest
from ssimgen._precision import for_products, no_autocast, widened
from ssimgen._range_check import notice_range
from ssimgen._request import (
    DEFAULT_WINDOW,
    DataRange,
    checked_options,
    lo_and_length,
    patch_distance,
    spatial_axes,
)
from ssimgen.engine import PatchDistance, positions
from ssimgen.engine.axes import prepared
from ssimgen.engine.eager import covered, filtered
from ssimgen.engine.eager_all_pairs import PatchWeights, patch_weights, weighted_patches
from ssimgen.engine.masked import Seen
from ssimgen.metrics import Metric, against_itself
from ssimgen.windows import Window

Part = Literal["luminance", "contrast", "structure"]
PARTS: tuple[Part, ...] = ("luminance", "contrast", "structure")


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
        notice_range(self.data_range, x, y, seen)
        if seen is not None:
            x, y = torch.where(seen > 0, x, patch.lo), None if y is None else torch.where(seen > 0, y, patch.lo)
            weights = engine.masked_map(x[:1], x[:1], seen, patch).weights
            check_some(weights.flatten(2).sum(2), self.window)
        if self.part == "structure":
            with no_autocast(x.device):
                above = [for_products(z) - patch.lo for z in (x, y) if z is not None]
                return arguments.cast(_structure(above[0], above[1] if y is not None else None, seen, patch), x.dtype)
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
    z, window = covered(widened(x) - patch.lo, patch.window), patch.window
    if not masks:
        return _Windowed(z, lambda z: filtered(z, window), window.factor(x.ndim - 2), restored)
    seen = Seen.of(covered(widened(masks[0]), window), window)
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
