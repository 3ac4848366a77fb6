"""The figures of other implementations, for those who must compare with them.

Most differ from :func:`ssimgen.ssim` by the window alone; its default is tf.image.ssim, and ssim_index.m of
Wang et al. To use another's window elsewhere, in a loss or a map, pass it as `window`:

====================================================  =================================================
scikit-image structural_similarity                    Window.uniform(7, unbiased=True)
..., use_sample_covariance=False                      Window.uniform(7)
..., gaussian_weights=True                            Window(Window.gaussian(11, 1.5).taps, beta=121 / 120)
..., gaussian_weights=True, and no sample covariance  Window.gaussian(11, 1.5)
====================================================  =================================================
"""

from __future__ import annotations

import math
from functools import reduce

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen import engine
from ssimgen._numbers import positive_integer
from ssimgen._range_check import notice_range
from ssimgen._request import DEFAULT_WINDOW, DataRange, lo_and_length, patch_distance, window_fits, with_one_range
from ssimgen._scales import WANG_SCALE_WEIGHTS, fitting_scales, scale_complements, scale_weights
from ssimgen.engine.taps import numbers
from ssimgen.similarity import ssim
from ssimgen.windows import Window

_TIE = 1e-9  # by which a half may be too small in float64
_FFMPEG_WINDOW = Window.uniform(8, stride=4, unbiased=True)


def wang_2004(
    x: Float[Tensor, "B C H W"], y: Float[Tensor, "B C H W"], *, data_range: DataRange, downsample: bool = True
) -> Float[Tensor, " B"]:
    """SSIM by the MATLAB code of Wang et al. (2004), for grey images; of colour images, the mean over channels.

    Args:
        x, y, data_range: as :func:`ssimgen.ssim`.
        downsample: shrink the images first by f = max(1, round(min(H, W) / 256)), with averages over f x f px,
            as the authors did for the figures of the paper and do in ssim.m (2009). False is ssim_index.m
            (2003), which leaves that to the caller: :func:`ssimgen.ssim` with its defaults.

    Returns:
        One value a pair.

    Raises:
        TypeError, ValueError: as :func:`ssimgen.ssim`.

    Example:
        >>> import torch
        >>> from ssimgen import presets, ssim
        >>> x, y = torch.rand(2, 2, 1, 16, 16)
        >>> torch.equal(presets.wang_2004(x, y, data_range=1.0), ssim(x, y, data_range=1.0))  # below 384 px
        True
    """
    x, y = arguments.image_pairs(x, y)
    window_fits(DEFAULT_WINDOW, x, "use ssimgen.ssim with")
    factor = max(1, math.floor(min(x.shape[-2:]) / 256 + 0.5)) if downsample else 1
    return ssim(_box_downsampled(x, factor), _box_downsampled(y, factor), data_range=data_range)


def scikit_image(
    x: Float[Tensor, "B C *spatial"],
    y: Float[Tensor, "B C *spatial"],
    *,
    data_range: DataRange,
    gaussian_weights: bool = False,
    use_sample_covariance: bool = True,
) -> Float[Tensor, " B"]:
    """SSIM by `skimage.metrics.structural_similarity`, with channel_axis set for colour; its other options at rest.

    It filters with mirrored borders and then crops them off, so that just the windows inside the image count.

    Args:
        x, y, data_range: as :func:`ssimgen.ssim`; volumes (B, C, D, H, W) too; for signals, pass
            `scikit_image_window(axes=1)` to :func:`ssimgen.ssim`.
        gaussian_weights: a Gaussian of sigma 1.5 px cut at 11 px, instead of a uniform window of 7 px.
        use_sample_covariance: variances are multiplied by q / (q - 1) for windows of q pixels.

    Returns:
        One value a pair.

    Raises:
        TypeError, ValueError: as :func:`ssimgen.ssim`.

    Example:
        >>> import torch
        >>> from ssimgen import presets
        >>> x = torch.rand(2, 1, 16, 16)
        >>> presets.scikit_image(x, x, data_range=1.0)
        tensor([1., 1.])
    """
    x, y = arguments.image_pairs(x, y, (2, 3))
    window = scikit_image_window(None, gaussian_weights, 1.5, use_sample_covariance, axes=x.ndim - 2)
    window_fits(window, x, "use ssimgen.ssim with")
    return ssim(x, y, data_range=data_range, window=window)


def scikit_image_window(
    win_size: int | None = None,
    gaussian_weights: bool = False,
    sigma: float = 1.5,
    use_sample_covariance: bool = True,
    axes: int = 2,
) -> Window:
    """The window of `skimage.metrics.structural_similarity` with these options, for functions, losses and metrics here.

    Args:
        win_size: side of the uniform window, odd; None: 7 px. A Gaussian window is 2 floor(3.5 sigma + 1/2) + 1 px
            wide, and `win_size` must be that or None.
        gaussian_weights: Gaussian weights instead of uniform ones.
        sigma: of the Gaussian, in pixels.
        use_sample_covariance: beta = q / (q - 1) for a window of q pixels.
        axes: of the images; 3 for volumes, whose windows have q = size^3 pixels, 1 for signals.

    Raises:
        ValueError: a win_size that is even, less than 3 px, or not that of sigma; a sigma that is not positive.

    Example:
        >>> from ssimgen import Window, presets
        >>> presets.scikit_image_window() == Window.uniform(7, unbiased=True)
        True
        >>> presets.scikit_image_window(gaussian_weights=True, sigma=1.5, use_sample_covariance=False).size
        11
    """
    size = 7 if win_size is None else positive_integer("win_size", win_size, "pixels")
    if gaussian_weights:
        if not arguments.is_positive(sigma):
            raise ValueError(f"sigma must be a positive number of pixels, got {sigma!r}: the usual value is 1.5")
        size = 2 * math.floor(3.5 * sigma + 0.5) + 1
        if win_size not in (None, size):
            raise ValueError(
                f"win_size must be {size} with gaussian_weights and sigma={sigma!r}, or None, got {win_size!r}: for "
                "another window, pass window=Window.gaussian(size, sigma) to ssimgen.ssim or ssimgen.arrays.ssim"
            )
    if size < 3 or size % 2 == 0:
        raise ValueError(
            f"win_size must be odd and at least 3, got {size}: ssimgen.ssim takes window=Window.uniform({size})"
        )
    along = (size,) if axes == 1 else size  # a window that is for signals says so
    if not gaussian_weights:
        return Window.uniform(along, unbiased=use_sample_covariance)
    q = size**axes
    window = Window.gaussian(along, sigma)
    return Window(window.taps, beta=q / (q - 1)) if use_sample_covariance else window


def tensorflow_ms_ssim(
    x: Float[Tensor, "B C H W"],
    y: Float[Tensor, "B C H W"],
    *,
    data_range: DataRange,
    window: Window = DEFAULT_WINDOW,
    weights: tuple[float, ...] = WANG_SCALE_WEIGHTS,
) -> Float[Tensor, " B"]:
    """MS-SSIM by `tf.image.ssim_multiscale`, and by Wang's msssim.m: for figures, not as a loss.

    It differs from :func:`ssimgen.ms_ssim` in three points. An odd last row or column is doubled, not dropped,
    before images are halved; Wang's code mirrors the border there, which is the same. Negative terms count as 0,
    where value and gradient vanish, and where the slope of small terms has no bound. The weights are the published
    ones, of sum 1.0001; images too small for five scales need another `window` or `weights`.

    Args:
        x, y, data_range: as :func:`ssimgen.ssim`.
        window: of TensorFlow's filter_size and filter_sigma, `Window.gaussian(filter_size, filter_sigma)`.
        weights: TensorFlow's power_factors, from fine to coarse.

    Returns:
        One value a pair, in [0, 1].

    Raises:
        TypeError, ValueError: as :func:`ssimgen.ms_ssim`.

    Example:
        >>> import torch
        >>> from ssimgen import Window, presets
        >>> x = torch.rand(2, 1, 32, 32)
        >>> presets.tensorflow_ms_ssim(x, x, data_range=1.0, window=Window.gaussian(2, 1.5))
        tensor([1., 1.])
    """
    x, y = arguments.image_pairs(x, y)
    unit_x, unit_y, unit = with_one_range(x, y, data_range)
    patch = patch_distance(x, unit, window, 0.01, 0.03, "product")
    notice_range(data_range, x, y)
    fitting = fitting_scales(x, window, lambda side: (side + 1) // 2)
    exponents = numbers(scale_weights(weights, fitting, x, window), unit_x)
    terms = 1 - scale_complements(unit_x, unit_y, patch, len(exponents), _halved_with_the_edge)
    negative = terms <= 0  # not a clamp: the derivative of a power at 0, infinite, times 0 would be NaN
    powers = torch.where(negative, 0, torch.where(negative, 1, terms) ** exponents)
    return reduce(torch.mul, powers.unbind(-1)).mean(1).to(x.dtype)  # the derivative of prod waits for the device


def ffmpeg(x: Float[Tensor, "B C H W"], y: Float[Tensor, "B C H W"], *, data_range: DataRange) -> Float[Tensor, " B"]:
    """SSIM by the filter `ssim` of FFmpeg, of one frame a pair: for figures, within 1e-6 of what it prints.

    Uniform windows of 8 px every 4 px with sample covariances, and k1 = 0.01 / 8: its code sums 64 pixels and takes
    64 c1 where 64^2 c1 would be right, so that differences in dark patches count for more. It rounds c1 and c2, which
    are exact here.

    Args:
        x, y: planes of equal size as channels; of RGB, the result is its "All". Where chroma has fewer pixels, call it
            for each plane: All of yuv420p is (4 Y + U + V) / 6.
        data_range: 255 for 8 bits, 1023 for 10.

    Returns:
        One value a pair.

    Raises:
        TypeError, ValueError: as :func:`ssimgen.ssim`, for images smaller than 8 px too.

    Example:
        >>> import torch
        >>> from ssimgen import presets
        >>> x = torch.rand(2, 3, 16, 16)
        >>> presets.ffmpeg(x, x, data_range=1.0)
        tensor([1., 1.])
    """
    x, y = arguments.image_pairs(x, y)
    window_fits(_FFMPEG_WINDOW, x, "use ssimgen.ssim with")
    return ssim(x, y, data_range=data_range, window=_FFMPEG_WINDOW, k1=0.01 / 8)


def matlab_toolbox(
    x: Float[Tensor, "B C H W"], y: Float[Tensor, "B C H W"], *, data_range: DataRange
) -> Float[Tensor, " B"]:
    """SSIM by `ssim` of MATLAB's Image Processing Toolbox with its defaults, of grey images; of colours, the mean.

    The window is Wang's, but it stands at every pixel: images go on beyond their border as their edge pixels do, and
    the mean is over all pixels. MATLAB itself takes three channels for a volume, unless told otherwise ("SSC").

    Args:
        x, y: as :func:`ssimgen.ssim`, of any size.
        data_range: as :func:`ssimgen.ssim`; MATLAB's default is 1 for floating-point images, 255 for bytes.

    Returns:
        One value a pair.

    Raises:
        TypeError, ValueError: as :func:`ssimgen.ssim`.

    Example:
        >>> import torch
        >>> from ssimgen import presets
        >>> x = torch.rand(2, 1, 8, 8)
        >>> presets.matlab_toolbox(x, x, data_range=1.0)
        tensor([1., 1.])
    """
    x, y = arguments.image_pairs(x, y)
    beyond = DEFAULT_WINDOW.axes(2)[0].size // 2
    x, y = (F.pad(z, (beyond, beyond, beyond, beyond), mode="replicate") for z in (x, y))
    return ssim(x, y, data_range=data_range)


def super_resolution(
    x: Float[Tensor, "B C H W"],
    y: Float[Tensor, "B C H W"],
    *,
    data_range: DataRange,
    border: int,
    rounded: bool = True,
) -> Float[Tensor, " B"]:
    """SSIM as papers on super-resolution report it: of the luma Y, with a border cropped, by Wang's ssim_index.m.

    Their MATLAB scripts take Y from `rgb2ycbcr` of bytes (:func:`luma`), crop as many pixels as the images are enlarged
    times (:func:`crop_border`), and compare.

    Args:
        x, y: RGB images, or grey ones, which are taken for Y.
        data_range: 255 for bytes; one range for all images.
        border: pixels that are cropped on each side: usually the factor of enlargement.
        rounded: images are rounded to bytes, and then Y is, as by `rgb2ycbcr`; there is no gradient then. False is what
            Python code on floating-point images does.

    Returns:
        One value a pair.

    Raises:
        TypeError, ValueError: as :func:`luma`, :func:`crop_border` and :func:`ssimgen.ssim`.

    Example:
        >>> import torch
        >>> from ssimgen import presets
        >>> x = torch.randint(0, 256, (2, 3, 24, 24)).float()
        >>> presets.super_resolution(x, x, data_range=255, border=4)
        tensor([1., 1.])
    """
    x, y = arguments.image_pairs(x, y)
    lo, length = lo_and_length(data_range)
    notice_range(data_range, x, y)
    dtype, ends = x.dtype, (lo, lo + length)
    if rounded:
        x, y = (((engine.widened(z) - lo) * (255 / length)).round() for z in (x, y))
        ends = (0.0, 255.0)
    if x.shape[1] != 1:
        x, y = (luma(z, data_range=ends) for z in (x, y))
    if rounded:
        x, y = ((z + 0.5 + _TIE).floor() for z in (x, y))  # halves up, as in MATLAB
    x, y = crop_border(x, border), crop_border(y, border)
    window_fits(DEFAULT_WINDOW, x, "crop a smaller border, or use ssimgen.ssim on luma with")
    value: Tensor = ssim(x, y, data_range=ends)
    return value.to(dtype)


def luma(x: Float[Tensor, "B 3 H W"], *, data_range: DataRange) -> Float[Tensor, "B 1 H W"]:
    """Y of BT.601 in the studio range, as MATLAB's `rgb2ycbcr` and `skimage.color.rgb2ycbcr` have it:

        Y = 16 + 65.481 R + 128.553 G + 24.966 B        for R, G, B in [0, 1]

    in units of which 255 are the data_range: with data_range=255, black is 16 and white 235. Not rounded.

    Args:
        x: RGB images, floating point.
        data_range: l, for values in [0, l], or (lo, hi); one range for all images.

    Returns:
        Y, (B, 1, H, W), from lo + 16 l / 255 to lo + 235 l / 255, in the dtype of x, float32 at least.

    Raises:
        TypeError, ValueError: no floating-point images of three channels, or a data_range as :func:`ssimgen.ssim`.

    Example:
        >>> import torch
        >>> from ssimgen import presets
        >>> red = torch.tensor([255.0, 0.0, 0.0]).view(1, 3, 1, 1)
        >>> round(presets.luma(red, data_range=255).item(), 3)
        81.481
    """
    x = arguments.image_batch("x", x)
    if x.shape[1] != 3:
        raise ValueError(f"luma is of three channels, red, green and blue, got shape {tuple(x.shape)}")
    lo, length = lo_and_length(data_range)
    red, green, blue = (x - lo).split(1, 1)
    y: Tensor = lo + 16 * length / 255 + (65.481 * red + 128.553 * green + 24.966 * blue) / 255
    return y


def crop_border(x: Float[Tensor, "B C H W"], width: int) -> Float[Tensor, "B C h w"]:
    """The images without `width` pixels on each side: a view.

    Args:
        x: images.
        width: pixels, >= 0.

    Raises:
        ValueError: a width that is no whole number >= 0, or that leaves nothing of the images.

    Example:
        >>> import torch
        >>> from ssimgen import presets
        >>> presets.crop_border(torch.rand(2, 3, 24, 32), 4).shape
        torch.Size([2, 3, 16, 24])
    """
    number = 0 if arguments.plain(width) == 0 else positive_integer("width", width, "pixels")
    height, across = x.shape[-2:]
    if 2 * number >= min(height, across):
        raise ValueError(f"a border of {number} px leaves nothing of images of {height} x {across} px: crop less")
    return x[..., number : height - number, number : across - number]


def _halved_with_the_edge(x: Float[Tensor, "B C H W"], _: Window) -> Float[Tensor, "B C h w"]:
    height, width = x.shape[-2:]
    return F.avg_pool2d(F.pad(x, (0, width % 2, 0, height % 2), mode="replicate"), 2)


def _box_downsampled(x: Float[Tensor, "B C H W"], factor: int) -> Float[Tensor, "B C h w"]:
    """MATLAB's imfilter(x, ones(f) / f^2, 'symmetric', 'same') at the rows and columns 1:f:end.

    The box of a pixel begins (f - 1) // 2 px before it; beyond the border the image is mirrored, edge included.
    """
    for axis in (-2, -1):
        length = x.shape[axis]
        index = torch.arange(math.ceil(length / factor) * factor, device=x.device) - (factor - 1) // 2
        index = torch.where(index < 0, -1 - index, index)
        x = x.index_select(axis, torch.where(index >= length, 2 * length - 1 - index, index))
    return F.avg_pool2d(x, factor)
