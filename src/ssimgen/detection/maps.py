"""Anomaly maps: at every pixel, how far a reconstruction is from its image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy.ndimage import gaussian_filter
from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen import engine
from ssimgen._request import DataRange
from ssimgen._scales import fitting_scales, halved, join_scales, levels_of_terms, renormalised_wang_weights
from ssimgen.engine import Form
from ssimgen.similarity import Pairs, prepare, root
from ssimgen.windows import Window

Residual = Literal["l2", "ssim", "ms_ssim", "distance"]

WINDOW = Window.gaussian(11, 1.5, padding="symmetric")


@torch.no_grad()
def anomaly_map(
    x: Float[Tensor, "B C H W"],
    reconstruction: Float[Tensor, "B C H W"],
    *,
    data_range: DataRange,
    residual: Residual = "ssim",
    window: Window = WINDOW,
    smoothing: float = 0.0,
    k1: float = 0.01,
    k2: float = 0.03,
) -> Float[Tensor, "B H W"]:
    """How far a reconstruction y is from its image x at every pixel, by the window about it.

    ============  =================================================================  =============
    residual      value at a pixel, of C channels                                    range
    ============  =================================================================  =============
    "l2"          mean over channels of (x - y)^2 / l^2                              [0, 1]
    "ssim"        1 - mean over channels of SSIM                                     [0, 2]
    "ms_ssim"     1 - mean over channels of prod_j t_j^w_j, as :func:`ssimgen.       [0, 2]
                  ms_ssim` but at this pixel: t_j is the contrast-structure term of
                  scale j there, at the coarsest scale SSIM
    "distance"    sqrt of the mean over channels of d^2 = 2 - s1 - s2                [0, sqrt 3]
    ============  =================================================================  =============

    Borders are mirrored. Maps of coarser scales are enlarged bilinearly; there are as many scales as fit the images.

    Args:
        x, reconstruction: images of equal shape and device, floating point.
        data_range: l, for values in [0, l], or (lo, hi); or one value an image, as :func:`ssimgen.ssim`.
        residual: as in the table.
        window: patches of all but "l2"; with padding="symmetric" or "reflect" and stride 1, for a value at every pixel.
        smoothing: standard deviation in pixels of a Gaussian that the map is filtered with in the end; 0: none.
        k1, k2: stability constants, as :func:`ssimgen.ssim`.

    Returns:
        One map an image, >= 0, in float32, or float64 where x or y is. No gradient flows through it.

    Raises:
        TypeError, ValueError: as :func:`ssimgen.ssim`; an unknown residual, a negative smoothing, or a window that
            leaves pixels out.

    Example:
        >>> import torch
        >>> from ssimgen.detection import anomaly_map
        >>> good = torch.full((1, 1, 32, 32), 0.5)
        >>> scratched = good.clone()
        >>> scratched[..., 20, 4:28] = 1.0
        >>> found = anomaly_map(scratched, good, data_range=1.0)
        >>> found.shape, divmod(int(found.argmax()), 32)[0], round(found[0, 5, 5].item(), 6)
        (torch.Size([1, 32, 32]), 20, 0.0)
    """
    arguments.choice("residual", residual, _RESIDUALS)
    width = arguments.as_number(smoothing)
    if width is None or width < 0:
        raise ValueError(f"smoothing must be a number of pixels, at least 0, got {smoothing!r}")
    form: Form = "sum" if residual == "distance" else "product"
    pairs = prepare(x, reconstruction, data_range, window, k1, k2, form, None)
    if window.padding == "valid" or any(axis.stride > 1 for axis in window.axes(2)):
        raise ValueError(
            "window must have stride 1 and padding 'symmetric' or 'reflect', so that the map has a value for every "
            f"pixel, got {window.padding!r}: pass Window.gaussian(11, padding='symmetric')"
        )
    values = _RESIDUALS[residual](pairs).to(pairs.dtype)
    if not width:
        return values
    smooth = gaussian_filter(values.cpu().numpy(), (0, width, width), mode="reflect")
    return torch.from_numpy(smooth).to(values.device)


def _l2(pairs: Pairs) -> Tensor:
    difference = (engine.widened(pairs.x) - engine.widened(pairs.y)) / pairs.patch.length
    return difference.square().mean(1)


def _ssim(pairs: Pairs) -> Tensor:
    return engine.squared_map(pairs.x, pairs.y, pairs.patch).mean(1)


def _distance(pairs: Pairs) -> Tensor:
    return root(engine.squared_map(pairs.x, pairs.y, pairs.patch).mean(1))


def _ms_ssim(pairs: Pairs) -> Tensor:
    inside = replace(pairs.patch.window, padding="valid")
    weights = renormalised_wang_weights(fitting_scales(pairs.x, inside, lambda side: side // 2))
    levels = levels_of_terms(pairs.x, pairs.y, pairs.patch, len(weights), halved)
    height, width = pairs.x.shape[-2:]
    complements = [_enlarged(engine.squared_map(*level), 2**scale, height, width) for scale, level in enumerate(levels)]
    return join_scales(torch.stack(complements, -1), weights).mean(1)


def _enlarged(maps: Float[Tensor, "B C h w"], factor: int, height: int, width: int) -> Float[Tensor, "B C H W"]:
    """Maps of a coarser scale at every pixel; an odd last row or column, which halving drops, is as its neighbour."""
    if factor > 1:
        maps = F.interpolate(maps, scale_factor=factor, mode="bilinear", align_corners=False)
    below, right = height - maps.shape[-2], width - maps.shape[-1]
    return F.pad(maps, (0, right, 0, below), mode="replicate") if below or right else maps


_RESIDUALS: dict[str, Callable[[Pairs], Tensor]] = {
    "l2": _l2,
    "ssim": _ssim,
    "ms_ssim": _ms_ssim,
    "distance": _distance,
}
