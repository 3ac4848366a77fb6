"""The three components of SSIM, each as a metric of its own: in which respect images differ.

With sigma' = sqrt(var + c2 / 2), the SSIM of a patch is the product of three similarities,

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

from dataclasses import dataclass
from typing import Literal, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen import pairwise
from ssimgen._autocast import no_autocast
from ssimgen._range_check import notice_range
from ssimgen._request import DEFAULT_WINDOW, DataRange, checked_options, lo_and_length, patch_distance
from ssimgen.engine import PatchDistance
from ssimgen.engine.eager import windowed_mean
from ssimgen.metrics import Metric, against_itself
from ssimgen.windows import Window

__all__ = ["PARTS", "Component", "Part"]

Part = Literal["luminance", "contrast", "structure"]
PARTS: tuple[Part, ...] = ("luminance", "contrast", "structure")

_POINT = Window((1.0,))


@final
@dataclass(frozen=True)
class Component(Metric):
    """D = sqrt(mean of 1 - similarity over patches and channels), of one component of SSIM.

    "luminance" sees the mean of patches alone, "contrast" their standard deviation alone, "structure" what is left
    of them when both are divided out: it is 0 between x and a x + b in patches of a variance well above c2.

    Args:
        part: "luminance", "contrast" or "structure".
        data_range, window, k1, k2: as :func:`ssimgen.ssim`.

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

    def __post_init__(self) -> None:
        arguments.choice("part", self.part, PARTS)
        checked_options(self.data_range, self.window, self.k1, self.k2, "sum")
        arguments.keep_plain(self, "data_range", "k1", "k2")

    @property
    def hilbertian(self) -> bool:
        return True

    def squared(self, x: Float[Tensor, "n C H W"], y: Float[Tensor, "m C H W"] | None = None) -> Float[Tensor, "n m"]:
        """D^2 of all pairs, in [0, 1]; up to 2 for "structure"."""
        if y is None:
            x = arguments.image_batch("x", x)
        else:
            x, y = arguments.image_batches(x, y)
        patch = patch_distance(x, self.data_range, self.window, self.k1, self.k2, "sum")
        notice_range(self.data_range, x, y)
        if self.part == "structure":
            with no_autocast(x.device):
                return _structure(x - patch.lo, None if y is None else y - patch.lo, patch)
        describe, k = (means, self.k1) if self.part == "luminance" else (deviations, 1e-9 * self.k2)
        return pairwise.distance(  # (u - v)^2 / (u^2 + v^2 + (k l)^2), averaged; contrast has its c2 in u and v
            describe(x, patch),
            None if y is None else describe(y, patch),
            data_range=lo_and_length(self.data_range)[1],
            form="uncentred",
            squared=True,
            window=_POINT,
            k2=k,
        )


def means(x: Float[Tensor, "n C H W"], patch: PatchDistance) -> Float[Tensor, "n C h w"]:
    """mu of every patch, above the least pixel value."""
    return windowed_mean(x.double() - patch.lo, patch.window).to(x.dtype)


def deviations(x: Float[Tensor, "n C H W"], patch: PatchDistance) -> Float[Tensor, "n C h w"]:
    """sigma' = sqrt(var + c2 / 2) of every patch."""
    z = x.double() - patch.lo
    variance = windowed_mean(z * z, patch.window) - windowed_mean(z, patch.window) ** 2
    return (patch.window.beta * variance.clamp_min(0) + patch.c2 / 2).sqrt().to(x.dtype)


def _structure(x: Tensor, y: Tensor | None, patch: PatchDistance) -> Tensor:
    """Mean of 1 - structure over patches, where structure is u . v for unit vectors; a row of patches at a time."""
    height, width = (patch.window.positions(side) for side in x.shape[-2:])
    similarity = x.new_zeros(len(x), len(x if y is None else y))
    for row in range(height):
        u = _unit_vectors(x, row, patch)
        v = u if y is None else _unit_vectors(y, row, patch)
        similarity = similarity + u @ v.T
    square = (1 - similarity / (x.shape[1] * height * width)).clamp_min(0)
    return square if y is not None else against_itself(square, x)


def _unit_vectors(x: Float[Tensor, "n C H W"], row: int, patch: PatchDistance) -> Float[Tensor, "n F"]:
    """Centred patches of one row, with sqrt(c2 / 2) as a further coordinate, divided by sigma'."""
    size, stride = patch.window.size, patch.window.stride
    taps = torch.tensor(patch.window.taps, dtype=x.dtype, device=x.device)
    weights = torch.outer(taps, taps).flatten()  # (q,)
    strip = x[:, :, row * stride : row * stride + size].unfold(3, size, stride)  # (n, C, size, w, size)
    patches = strip.movedim(3, 2).flatten(3)  # (n, C, w, q)
    centred = (patch.window.beta * weights).sqrt() * (patches - (patches @ weights)[..., None])
    constant = torch.full_like(centred[..., :1], patch.c2 / 2).sqrt()
    vectors = torch.cat([centred, constant], -1)
    return F.normalize(vectors, dim=-1).flatten(1)  # |vector| = sigma'
