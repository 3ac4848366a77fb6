"""SSIM, MS-SSIM and structural distances of image pairs."""

from __future__ import annotations

import math
import operator
from functools import reduce
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen import engine
from ssimgen._masks import check_some, weights_of
from ssimgen._precision import dtype_of_result
from ssimgen._pyramid import EachScale, absolute_sums, pyramid_of
from ssimgen._range_check import notice_range
from ssimgen._request import (
    DEFAULT_WINDOW,
    NORMS,
    DataRange,
    Norm,
    patch_distance,
    patches,
    spatial_axes,
    with_one_range,
)
from ssimgen._scales import (
    fitting_scales,
    halved,
    join_scales,
    masked_scale_complements,
    renormalised_wang_weights,
    scale_complements,
    scale_weights,
)
from ssimgen.engine import Form, Over, PatchDistance
from ssimgen.windows import Window


def ssim(
    x: Float[Tensor, "B C *spatial"],
    y: Float[Tensor, "B C *spatial"],
    *,
    data_range: DataRange,
    window: Window = DEFAULT_WINDOW,
    k1: float = 0.01,
    k2: float = 0.03,
    mask: Tensor | None = None,
) -> Float[Tensor, " B"]:
    """Structural similarity of image pairs, the mean over window positions and channels of

        SSIM = (2 mu_x mu_y + c1) / (mu_x^2 + mu_y^2 + c1) * (2 cov + c2) / (var_x + var_y + c2),
        c1 = (k1 l)^2,  c2 = (k2 l)^2          (Wang et al. 2004, Eqs. 13 and 17).

    Args:
        x, y: images of equal shape and device, floating point; of two dtypes, in the wider one.
        data_range: l, for values in [0, l], or (lo, hi). There is no default: a guessed range is wrong silently. A
            tensor of no axes, as `x.max()`, is taken for its number, as everywhere: no gradient flows through it.
            Tensors or arrays of shape (B,), alone or in (lo, hi), are one value an image: the result is that of
            (x - lo) / l and (y - lo) / l, computed in float64.
            Images far outside are warned of once a process, by a `ssimgen.DataRangeWarning`.
        window: which patches are compared; the default is Wang's Gaussian, 11 x 11 px of sigma 1.5 px.
        k1, k2: stability constants; as bandwidths, they set how fast similarity falls on dark or flat patches.
        mask: which pixels are seen: bool, or weights m >= 0, in the shape of the images or broadcast to it. Weights of
            a window become w m / sum w m, and a position counts with sum w m. What is hidden, NaN too, touches neither
            value nor gradient. A mask of ones is none; no gradient flows through it.

    Returns:
        One value a pair, in [-1, 1]; 1 for identical images, never above. In float32, or float64 where x or y is.
        NaN pixels give NaN.

    Raises:
        TypeError: x or y is not a floating-point tensor, or window is no Window.
        ValueError: shapes or devices that differ, no pixel, images smaller than the window, or a data_range,
            k1 or k2 that is not a positive number; a data_range that is neither of one value nor of one an image; a
            mask of another shape, with negative weights, or that leaves nothing of an image.

    Example:
        >>> import torch
        >>> from ssimgen import ssim
        >>> x = torch.linspace(0, 1, 256).view(1, 1, 16, 16)
        >>> round(ssim(x, x / 2, data_range=1.0).item(), 3)
        0.652
    """
    pairs = prepare(x, y, data_range, window, k1, k2, "product", mask)
    return arguments.cast(1 - pairs.mean("images"), pairs.dtype)


def ssim_map(
    x: Float[Tensor, "B C *spatial"],
    y: Float[Tensor, "B C *spatial"],
    *,
    data_range: DataRange,
    window: Window = DEFAULT_WINDOW,
    k1: float = 0.01,
    k2: float = 0.03,
    mask: Tensor | None = None,
    fill: float = math.nan,
) -> Float[Tensor, "B C *positions"]:
    """SSIM of every window position and channel, of image pairs: the map whose mean is :func:`ssim`.

    Windows lie wholly inside the image, h = (H - size) // stride + 1, and w likewise; with a padding, h = H / stride,
    rounded up.

    Args:
        x, y: images of equal shape and device, floating point; of two dtypes, in the wider one.
        data_range: l, for values in [0, l], or (lo, hi); or one value an image, as :func:`ssim`.
        window, k1, k2, mask: which patches are compared, the stability constants, and which pixels are seen, as
            :func:`ssim`.
        fill: the value of the map where a window sees no pixel.

    Returns:
        The maps (B, C, h, w), with values in [-1, 1], never above; NaN where a window sees a NaN pixel.

    Raises:
        TypeError, ValueError: as :func:`ssim`.

    Example:
        >>> import torch
        >>> from ssimgen import ssim_map
        >>> x, y = torch.rand(2, 4, 3, 32, 32)
        >>> ssim_map(x, y, data_range=1.0).shape  # with the default window of 11 px
        torch.Size([4, 3, 22, 22])
    """
    x, y, patch, seen, dtype = prepare(x, y, data_range, window, k1, k2, "product", mask)
    if seen is None:
        return arguments.cast(1 - engine.squared_map(x, y, patch), dtype)
    squares, counts = engine.masked_map(x, y, seen, patch)
    check_some(counts.flatten(2).sum(2), patch.window)
    return torch.where(counts > 0, 1 - squares, fill).to(dtype)


def distance(
    x: Float[Tensor, "B C *spatial"],
    y: Float[Tensor, "B C *spatial"],
    *,
    data_range: DataRange,
    form: Form = "sum",
    norm: Norm = "rms",
    squared: bool = False,
    window: Window = DEFAULT_WINDOW,
    k1: EachScale = 0.01,
    k2: EachScale = 0.03,
    mask: Tensor | None = None,
    scales: int | None = 1,
    pixels: float = 0.0,
    chroma: float | None = None,
) -> Float[Tensor, " B"]:
    """Structural distance D of image pairs: the norm of the patch distances d over positions and channels.

    ============  =======================================  =======================================
    form          d^2 of a patch                           Ghojogh, Karray, Crowley (2020)
    ============  =======================================  =======================================
    "sum"         2 - s1 - s2                              Eq. (2)
    "product"     1 - SSIM = 1 - s1 s2                     Eq. (1), general
    "centred"     1 - s2                                   Eq. (1) for zero-mean patches
    "uncentred"   beta E (x - y)^2                         Eq. (1) without centring
                  / (beta E x^2 + beta E y^2 + c2)
    ============  =======================================  =======================================

    s1 is the luminance term of SSIM, s2 its contrast-structure term, E the windowed mean. Every form is a
    Hilbertian pseudo-metric: symmetric, zero for equal images, and it satisfies the triangle inequality. "sum"
    and "product" separate images that differ in a pixel some window covers; "centred" does not see a constant
    added to an image.

    With several scales, a term of pixels and colours weighed apart, all of that holds for

        D^2 = mean over scales s of D_s^2 + pixels * mean |x - y| / l,

    where D_s is the distance of images that were halved s - 1 times by 2 x 2 averages (an odd last row or column is
    dropped); docs/kernels.md, F11. It keeps colours and borders that D of one scale loses, and is made to train with.

    Args:
        x, y: images of equal shape and device, floating point; of two dtypes, in the wider one.
        data_range: l, for values in [0, l], or (lo, hi); or one value an image, as :func:`ssim`.
        form: d^2 of a patch, as in the table.
        norm: "rms", the root mean of d^2, which does not grow with the image; "frobenius", the root of its sum
            (the paper's).
        squared: return D^2, which is smooth where x = y and the natural term of a loss.
        window, k1, k2, mask: which patches are compared, the stability constants, and which pixels are seen, as
            :func:`ssim`; k1 and k2 may be tuples, of one number for each scale.
        scales: how many; None takes as many as fit the images, five at most, as :func:`ms_ssim`.
        pixels: weight of the mean absolute difference of pixels in D^2; "frobenius" has sums, over scales and pixels.
        chroma: by which blue and red less luma are multiplied, the channels red, green and blue being turned into luma
            and these two before they are compared by structure. None: channels are compared as they are.

    Returns:
        One distance a pair, >= 0. With "rms" and images in their range, D^2 is at most 3 for form "sum", 2 for
        "product" and "centred", 1 for "uncentred", and `pixels` more. Where D is 0 its gradient is 0, a subgradient.

    Raises:
        TypeError, ValueError: as :func:`ssim`, and for an unknown form or norm, scales that do not fit the images, or
            chroma of images that have not three channels.

    Example:
        >>> import torch
        >>> from ssimgen import distance
        >>> x, y, z = torch.rand(3, 1, 1, 16, 16)
        >>> d_xy, d_yz, d_xz = (distance(a, b, data_range=1.0) for a, b in ((x, y), (y, z), (x, z)))
        >>> (d_xz <= d_xy + d_yz).item()
        True
        >>> colours = torch.rand(2, 3, 32, 32)
        >>> distance(colours, colours / 2, data_range=1.0, scales=2, pixels=1.0, chroma=0.5).shape
        torch.Size([2])
    """
    square = squared_distance(
        x,
        y,
        "images",
        data_range=data_range,
        form=form,
        norm=norm,
        window=window,
        k1=k1,
        k2=k2,
        mask=mask,
        scales=scales,
        pixels=pixels,
        chroma=chroma,
    )
    return square if squared else root(square)


def squared_distance(
    x: Float[Tensor, "B C *spatial"],
    y: Float[Tensor, "B C *spatial"],
    over: Over,
    *,
    data_range: DataRange,
    form: Form,
    norm: Norm,
    window: Window,
    k1: EachScale,
    k2: EachScale,
    mask: Tensor | None,
    scales: int | None,
    pixels: float,
    chroma: float | None,
) -> Tensor:
    """D^2 of pairs, "images", (B,), or its average over the "batch", 0-d; other arguments as :func:`distance`."""
    arguments.choice("norm", norm, NORMS)
    pyramid = pyramid_of(scales, k1, k2, pixels, chroma)
    pairs = prepare(x, y, data_range, window, *pyramid.constants(0), form, mask)
    levels = [
        pairs._replace(x=x, y=y, mask=seen, patch=patch)
        for (x, y), seen, patch in pyramid.levels([pairs.x, pairs.y], pairs.mask, pairs.patch)
    ]
    if norm == "rms":
        square = reduce(operator.add, [level.mean(over) for level in levels])
        square = square if len(levels) == 1 else square / len(levels)
    else:
        square = reduce(operator.add, [level.sum(over) for level in levels])
    if pyramid.pixels:
        difference, count = absolute_sums(pairs.x, pairs.y, pairs.mask)
        weight = pyramid.pixels / pairs.patch.length
        square = square + weight * _averaged(difference / count if norm == "rms" else difference, over)
    return arguments.cast(square, pairs.dtype)


def ms_ssim(
    x: Float[Tensor, "B C *spatial"],
    y: Float[Tensor, "B C *spatial"],
    *,
    data_range: DataRange,
    window: Window = DEFAULT_WINDOW,
    weights: tuple[float, ...] | None = None,
    k1: float = 0.01,
    k2: float = 0.03,
    mask: Tensor | None = None,
) -> Float[Tensor, " B"]:
    """Multi-scale SSIM of image pairs (Wang, Simoncelli, Bovik 2003, Eq. 7), the mean over channels of

        t_1^w_1 t_2^w_2 ... t_M^w_M,

    where t_j is the mean contrast-structure term of scale j, and at the coarsest scale M the mean SSIM, which
    has the luminance in it. From scale to scale images are halved by 2 x 2 averages; an odd last row or column
    is dropped. Wang's msssim.m mirrors it instead: its figures are :func:`ssimgen.presets.tensorflow_ms_ssim`.

    A fractional power is not real below zero, and its slope is unbounded above it. Terms below f = 0.01
    therefore count as f in the product, and what they lack is subtracted by weight:

        prod_j max(t_j, f)^w_j - sum_j w_j max(f - t_j, 0).

    This is Eq. 7 wherever every t_j >= f. It is continuous and increases with every t_j: by w_j below f, at
    most by w_j f^(w_j - 1) < 8 above. With weights of sum 1 it is t if all t_j = t, for every t in [-1, 1], so
    a single scale is plain SSIM, and anti-correlated images keep the gradient that they have in SSIM.

    Args:
        x, y: images of equal shape and device, floating point; of two dtypes, in the wider one.
        data_range: l, for values in [0, l], or (lo, hi); or one value an image, as :func:`ssim`.
        window, k1, k2, mask: which patches are compared, the stability constants, and which pixels are seen, as
            :func:`ssim`.
        weights: positive exponents w_1 ... w_M from fine to coarse. None takes as many of Wang's five scales as
            fit the images (with 11 px: 1 below 22 px, 2 at 28 and 32 px, 3 at 64 px, 5 from 176 px), divided
            by their sum.

    Returns:
        One value a pair, in [-1, 1] for weights of sum 1; 1 for identical images, never above.

    Raises:
        TypeError, ValueError: as :func:`ssim`, and for weights that are not positive or do not fit the images.

    Example:
        >>> import torch
        >>> from ssimgen import ms_ssim
        >>> x = torch.linspace(0, 1, 1024).view(1, 1, 32, 32)
        >>> round(ms_ssim(x, x / 2, data_range=1.0).item(), 3)  # two scales fit
        0.676
    """
    return 1 - ms_complement(x, y, data_range=data_range, window=window, weights=weights, k1=k1, k2=k2, mask=mask)


def ms_complement(
    x: Float[Tensor, "B C *spatial"],
    y: Float[Tensor, "B C *spatial"],
    *,
    data_range: DataRange,
    window: Window,
    weights: tuple[float, ...] | None,
    k1: float,
    k2: float,
    mask: Tensor | None = None,
) -> Float[Tensor, " B"]:
    """1 - MS-SSIM, which nothing cancels in where images are nearly equal; arguments as :func:`ms_ssim`."""
    x, y, patch, seen, dtype = prepare(x, y, data_range, window, k1, k2, "product", mask)
    fitting = fitting_scales(x, window, lambda side: side // 2)
    exponents = renormalised_wang_weights(fitting) if weights is None else scale_weights(weights, fitting, x, window)
    if seen is None:
        complements = scale_complements(x, y, patch, len(exponents), halved)
        return join_scales(complements, exponents).mean(1).to(dtype)
    complements, counts = masked_scale_complements(x, y, seen, patch, len(exponents))
    return ((join_scales(complements, exponents) * counts).sum(1) / counts.sum(1)).to(dtype)


def _averaged(values: Float[Tensor, " B"], over: Over) -> Tensor:
    return values.mean() if over == "batch" else values


def root(square: Tensor) -> Tensor:
    """sqrt with the subgradient 0 at 0, where the derivative of sqrt is infinite; NaN stays NaN."""
    if not square.requires_grad and engine.fused_can(square):
        return square.clamp_min(0).sqrt_()  # the same with one copy: of all pairs, each takes as much as the matrix
    zero = square <= 0
    return torch.where(zero, 0, torch.where(zero, 1, square).sqrt())


class Pairs(NamedTuple):
    """What an engine is to compute, under which mask if any, and the dtype of its result for the caller.

    Half precision is as it came: engines read it.
    """

    x: Tensor
    y: Tensor
    patch: PatchDistance
    mask: Tensor | None
    dtype: torch.dtype

    def mean(self, over: Over) -> Tensor:
        """d^2 averaged over channels and positions, (B,), or over the batch, too, 0-d."""
        if self.mask is None:
            return engine.squared_mean(self.x, self.y, self.patch, over)
        squares, weights = self._sums(self.mask)
        return _averaged(squares / weights, over)

    def sum(self, over: Over) -> Tensor:
        """d^2 summed over them, and averaged over the batch if it is asked for."""
        if self.mask is None:
            return self.mean(over) * patches(self.x, self.patch.window)
        return _averaged(self._sums(self.mask)[0], over)

    def _sums(self, mask: Tensor) -> tuple[Tensor, Tensor]:
        squares, weights = engine.masked_sums(self.x, self.y, mask, self.patch)
        check_some(weights, self.patch.window)
        return squares.sum(1), weights.sum(1)


def prepare(
    x: Tensor,
    y: Tensor,
    data_range: DataRange,
    window: Window,
    k1: float,
    k2: float,
    form: Form,
    mask: Tensor | None,
) -> Pairs:
    arguments.check_pairs(x, y, spatial_axes(window))
    dtype = dtype_of_result(x, y)
    if dtype == torch.float64 or x.device.type != "cpu":
        x, y = arguments.for_engine(x, y)
    unit_x, unit_y, unit = with_one_range(x, y, data_range)
    patch = patch_distance(x, unit, window, k1, k2, form)
    seen = weights_of(mask, x)
    notice_range(data_range, x, y, seen)
    return Pairs(unit_x, unit_y, patch, seen, dtype)
