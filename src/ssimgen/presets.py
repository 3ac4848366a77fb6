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

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen._numbers import positive_integer
from ssimgen._range_check import notice_range
from ssimgen._request import DEFAULT_WINDOW, DataRange, patch_distance, window_fits, with_one_range
from ssimgen._scales import WANG_SCALE_WEIGHTS, fitting_scales, scale_complements, scale_weights
from ssimgen.similarity import ssim
from ssimgen.windows import Window


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
    x: Float[Tensor, "B C H W"],
    y: Float[Tensor, "B C H W"],
    *,
    data_range: DataRange,
    gaussian_weights: bool = False,
    use_sample_covariance: bool = True,
) -> Float[Tensor, " B"]:
    """SSIM by `skimage.metrics.structural_similarity`, with channel_axis set for colour; its other options at rest.

    It filters with mirrored borders and then crops them off, so that just the windows inside the image count.

    Args:
        x, y, data_range: as :func:`ssimgen.ssim`.
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
    window = scikit_image_window(None, gaussian_weights, 1.5, use_sample_covariance)
    x, y = arguments.image_pairs(x, y)
    window_fits(window, x, "use ssimgen.ssim with")
    return ssim(x, y, data_range=data_range, window=window)


def scikit_image_window(
    win_size: int | None = None,
    gaussian_weights: bool = False,
    sigma: float = 1.5,
    use_sample_covariance: bool = True,
) -> Window:
    """The window of `skimage.metrics.structural_similarity` with these options, for functions, losses and metrics here.

    Args:
        win_size: side of the uniform window, odd; None: 7 px. A Gaussian window is 2 floor(3.5 sigma + 1/2) + 1 px
            wide, and `win_size` must be that or None.
        gaussian_weights: Gaussian weights instead of uniform ones.
        sigma: of the Gaussian, in pixels.
        use_sample_covariance: beta = q / (q - 1) for a window of q pixels.

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
    window = Window.gaussian(size, sigma) if gaussian_weights else Window.uniform(size)
    q = size * size
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
    fitting = fitting_scales(min(x.shape[-2:]), window, lambda side: (side + 1) // 2)
    exponents = torch.tensor(scale_weights(weights, fitting, x, window), dtype=unit_x.dtype, device=x.device)
    terms = 1 - scale_complements(unit_x, unit_y, patch, len(exponents), _halved_with_the_edge)
    negative = terms <= 0  # not a clamp: the derivative of a power at 0, infinite, times 0 would be NaN
    powers = torch.where(negative, 0, torch.where(negative, 1, terms) ** exponents)
    return powers.prod(-1).mean(1).to(x.dtype)


def _halved_with_the_edge(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:
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
