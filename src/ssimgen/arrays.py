"""SSIM, MS-SSIM and structural distances of NumPy arrays and PIL pictures, as they are.

Grey images (H, W), volumes (D, H, W), and colours with `channel_axis` as in scikit-image; signals (L,) with a window of
one axis; one pair, or batches with `batch_axis`; of bytes, 16-bit and bool values, and of floating-point numbers. Their
dtype tells the range of the first three; of other numbers, nobody can know it. Results are numbers and arrays, without
gradients.

:func:`ssim` and its like are those of :mod:`ssimgen`. :func:`structural_similarity` takes what
`skimage.metrics.structural_similarity` takes, and gives its figures: its users change the import.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssimgen import similarity
from ssimgen._array_axes import channels_first, meanings
from ssimgen._array_memory import tensor_of
from ssimgen._pyramid import EachScale
from ssimgen._request import DEFAULT_WINDOW, DataRange, Norm
from ssimgen.engine import Form
from ssimgen.presets import scikit_image_window
from ssimgen.windows import Window

__all__ = ["distance", "ms_ssim", "ssim", "ssim_map", "structural_similarity"]

Picture: TypeAlias = Any
"""A NumPy array, whatever `numpy.asarray` makes one of, or a PIL picture."""

_RANGES: Mapping[str, float] = {"bool": 1.0, "uint8": 255.0, "uint16": 65535.0}
_PIL_MODES = ("1", "L", "RGB", "I", "I;16", "I;16B", "I;16L", "F")
_LARGE = 2**18  # pixels that are worth a thread


def ssim(
    x: Picture,
    y: Picture,
    *,
    data_range: DataRange | None = None,
    channel_axis: int | None = None,
    batch_axis: int | None = None,
    window: Window = DEFAULT_WINDOW,
    k1: float = 0.01,
    k2: float = 0.03,
    mask: Picture | None = None,
) -> float | NDArray[Any]:
    """Structural similarity, as :func:`ssimgen.ssim` (Wang et al. 2004, Eqs. 13 and 17).

    Args:
        x, y: images of equal shape: (H, W) or (D, H, W), with an axis for channels and one for the batch if these are
            given; a window that has axes says how many.
        data_range: l, for values in [0, l], or (lo, hi); with `batch_axis`, perhaps arrays of one value an image. None:
            what the dtype says, 1 for bool, 255 for uint8, 65535 for uint16; all other dtypes do not say it.
        channel_axis: of colours, -1 for (H, W, C). None: grey. Pictures of PIL know it.
        batch_axis: of images, 0 for (B, H, W) or (B, H, W, C). None: one pair.
        window, k1, k2: as :func:`ssimgen.ssim`.
        mask: which pixels are seen, as :func:`ssimgen.ssim`: bool or weights >= 0, in the shape of the images, or
            without their axis of channels, or of their spatial axes alone. Of a masked array m it is ~m.mask.

    Returns:
        A number in [-1, 1], the mean over channels; with `batch_axis`, an array (B,).

    Raises:
        TypeError: tensors (they go to :func:`ssimgen.ssim`), masked arrays, and what holds no real numbers.
        ValueError: shapes that differ or are no images, a data_range that must be said, pictures of PIL in modes that
            are no grey or RGB values; and as :func:`ssimgen.ssim`.

    Example:
        >>> import numpy as np
        >>> from ssimgen import arrays
        >>> photograph = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
        >>> arrays.ssim(photograph, photograph, channel_axis=-1)
        1.0
        >>> arrays.ssim(photograph / 255, photograph[::-1] / 255, channel_axis=-1, data_range=1) < 0.1
        True
    """
    pair = _pair(x, y, data_range, channel_axis, batch_axis, window, mask)
    return pair.numbers(similarity.ssim, window=window, k1=k1, k2=k2)


def ssim_map(
    x: Picture,
    y: Picture,
    *,
    data_range: DataRange | None = None,
    channel_axis: int | None = None,
    batch_axis: int | None = None,
    window: Window = DEFAULT_WINDOW,
    k1: float = 0.01,
    k2: float = 0.03,
    mask: Picture | None = None,
    fill: float = math.nan,
) -> NDArray[Any]:
    """SSIM at every window position, as :func:`ssimgen.ssim_map`; arguments and errors as :func:`ssim`.

    Returns:
        The map, in [-1, 1], with the axes of the images: of (H, W, C), (h, w, C). `fill` where a window sees no pixel.

    Example:
        >>> import numpy as np
        >>> from ssimgen import arrays
        >>> photograph = np.zeros((48, 64, 3), np.uint8)
        >>> arrays.ssim_map(photograph, photograph, channel_axis=-1).shape
        (38, 54, 3)
    """
    pair = _pair(x, y, data_range, channel_axis, batch_axis, window, mask)
    return pair.map(similarity.ssim_map, window=window, k1=k1, k2=k2, fill=fill)


def ms_ssim(
    x: Picture,
    y: Picture,
    *,
    data_range: DataRange | None = None,
    channel_axis: int | None = None,
    batch_axis: int | None = None,
    window: Window = DEFAULT_WINDOW,
    weights: tuple[float, ...] | None = None,
    k1: float = 0.01,
    k2: float = 0.03,
    mask: Picture | None = None,
) -> float | NDArray[Any]:
    """Multi-scale SSIM, as :func:`ssimgen.ms_ssim` (Wang, Simoncelli, Bovik 2003, Eq. 7).

    Args:
        x, y, data_range, channel_axis, batch_axis, window, k1, k2, mask: as :func:`ssim`.
        weights: of the scales, as :func:`ssimgen.ms_ssim`.

    Returns:
        A number, or with `batch_axis` an array (B,).

    Raises:
        TypeError, ValueError: as :func:`ssim`, and for weights as :func:`ssimgen.ms_ssim`.

    Example:
        >>> import numpy as np
        >>> from ssimgen import arrays
        >>> batch = np.random.default_rng(0).integers(0, 256, (4, 48, 64), np.uint8)
        >>> arrays.ms_ssim(batch, batch, batch_axis=0)
        array([1., 1., 1., 1.], dtype=float32)
    """
    pair = _pair(x, y, data_range, channel_axis, batch_axis, window, mask)
    return pair.numbers(similarity.ms_ssim, window=window, weights=weights, k1=k1, k2=k2)


def distance(
    x: Picture,
    y: Picture,
    *,
    data_range: DataRange | None = None,
    channel_axis: int | None = None,
    batch_axis: int | None = None,
    form: Form = "sum",
    norm: Norm = "rms",
    squared: bool = False,
    window: Window = DEFAULT_WINDOW,
    k1: EachScale = 0.01,
    k2: EachScale = 0.03,
    mask: Picture | None = None,
    scales: int | None = 1,
    pixels: float = 0.0,
    chroma: float | None = None,
) -> float | NDArray[Any]:
    """Structural distance, as :func:`ssimgen.distance` (Ghojogh, Karray, Crowley 2020, Eqs. 1 and 2).

    Args:
        x, y, data_range, channel_axis, batch_axis, window, k1, k2, mask: as :func:`ssim`.
        form, norm, squared, scales, pixels, chroma: as :func:`ssimgen.distance`.

    Returns:
        A number >= 0, or with `batch_axis` an array (B,).

    Raises:
        TypeError, ValueError: as :func:`ssim`, and for an unknown form or norm.

    Example:
        >>> import numpy as np
        >>> from ssimgen import arrays
        >>> black, white = np.zeros((16, 16), bool), np.ones((16, 16), bool)
        >>> round(arrays.distance(black, white), 3)
        1.0
    """
    pair = _pair(x, y, data_range, channel_axis, batch_axis, window, mask)
    scale = {"scales": scales, "pixels": pixels, "chroma": chroma, "k1": k1, "k2": k2}
    return pair.numbers(similarity.distance, form=form, norm=norm, squared=squared, window=window, **scale)


def structural_similarity(
    im1: Picture,
    im2: Picture,
    *,
    win_size: int | None = None,
    gradient: bool = False,
    data_range: DataRange | None = None,
    channel_axis: int | None = None,
    gaussian_weights: bool = False,
    full: bool = False,
    K1: float = 0.01,
    K2: float = 0.03,
    sigma: float = 1.5,
    use_sample_covariance: bool = True,
) -> float | tuple[float, NDArray[Any]]:
    """SSIM by `skimage.metrics.structural_similarity`, under its names and with its figures.

    Args:
        im1, im2: images (H, W), volumes (D, H, W) or signals (L,), or with `channel_axis`, as :func:`ssim`.
        win_size: side of the uniform window, odd; 7 px. With `gaussian_weights` it follows from sigma.
        gradient: must be False: scikit-image's is not the derivative at the border. `ssimgen.ssim` has gradients.
        data_range: as :func:`ssim`; required of floating-point images, and of other integers, where scikit-image takes
            the whole range of the dtype.
        channel_axis: of colours.
        gaussian_weights: Gaussian weights, cut at 3.5 sigma, instead of uniform ones.
        full: return the map as well: the size of the images, which are mirrored at their borders.
        K1, K2: stability constants.
        sigma: of the Gaussian, in pixels.
        use_sample_covariance: variances are multiplied by q / (q - 1) for windows of q pixels.

    Returns:
        The mean over windows inside the images and over channels; with `full`, and the map.

    Raises:
        TypeError, ValueError: as :func:`ssim`; a win_size that is even or does not fit the images, and `gradient`.

    Example:
        >>> import numpy as np
        >>> from ssimgen.arrays import structural_similarity
        >>> image = np.arange(1024, dtype=np.uint8).reshape(32, 32)
        >>> structural_similarity(image, image // 2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False) < 1
        True
    """
    if gradient:
        raise ValueError(
            "gradient=True is not what ssimgen.arrays gives: pass tensors that require gradients to ssimgen.ssim and "
            "call backward(); it is exact at borders too, and reaches both images"
        )
    image, of_picture = _array("im1", im1)
    spatial = list(image.shape)
    channel = of_picture if channel_axis is None else channel_axis
    if isinstance(channel, (int, np.integer)) and -image.ndim <= channel < image.ndim:  # others are refused below
        spatial.pop(channel)
    axes = min(3, max(1, len(spatial)))
    window = scikit_image_window(win_size, gaussian_weights, sigma, use_sample_covariance, axes)
    if min(spatial, default=0) < (size := window.axes(axes)[0].size):
        sides, smaller = " x ".join(map(str, spatial)), "sigma" if gaussian_weights else "win_size"
        raise ValueError(
            f"window of {size} px does not fit images of {sides} px: pass a smaller {smaller}, or channel_axis=-1 if "
            "colours come last, or enlarge the images"
        )
    pair = _pair(im1, im2, data_range, channel_axis, None, window, None, names=("im1", "im2"))
    mean = pair.numbers(similarity.ssim, window=window, k1=K1, k2=K2)
    assert isinstance(mean, float)
    if not full:
        return mean
    return mean, pair.map(similarity.ssim_map, window=replace(window, padding="symmetric"), k1=K1, k2=K2)


@dataclass(frozen=True)
class _Pair:
    """Two image batches (B, C, *spatial), how their axes lay in the arrays, and their mask."""

    x: Tensor
    y: Tensor
    data_range: DataRange
    axes: tuple[int, ...]  # of the arrays, among (B, C, *spatial)
    mask: Tensor | None

    @torch.no_grad()
    def numbers(self, function: Callable[..., Tensor], **options: Any) -> float | NDArray[Any]:
        """One value a pair, alone if there is no axis of a batch."""
        values = function(self.x, self.y, data_range=self.data_range, mask=self.mask, **options)
        numbers: NDArray[Any] = values.numpy()
        return numbers if 0 in self.axes else float(numbers[0])

    @torch.no_grad()
    def map(self, function: Callable[..., Tensor], **options: Any) -> NDArray[Any]:
        """(B, C, *positions) with the axes of the arrays."""
        values = function(self.x, self.y, data_range=self.data_range, mask=self.mask, **options).numpy()
        missing = tuple(axis for axis in (0, 1) if axis not in self.axes)
        kept = sorted(self.axes)
        array: NDArray[Any] = values.squeeze(missing).transpose([kept.index(axis) for axis in self.axes])
        return array


def _pair(
    x: Picture,
    y: Picture,
    data_range: DataRange | None,
    channel_axis: int | None,
    batch_axis: int | None,
    window: Window,
    mask: Picture | None,
    names: tuple[str, str] = ("x", "y"),
) -> _Pair:
    (a, of_first), (b, of_second) = (_array(name, z) for name, z in zip(names, (x, y), strict=True))
    if a.shape != b.shape:
        both = " and ".join(names)
        raise ValueError(f"{both} must have equal shapes, got {a.shape} and {b.shape}: crop or resize one")
    of_picture = of_second if of_first is None else of_first
    axes = meanings(a, of_picture if channel_axis is None else channel_axis, batch_axis, window)
    ends = _said_range(a.dtype, b.dtype) if data_range is None else data_range
    first, second = (channels_first(z, axes) for z in (a, b))
    seen = None if mask is None else _mask(mask, a.shape, axes)
    if a.size < _LARGE or torch.get_num_threads() == 1:
        return _Pair(tensor_of(first), tensor_of(second), ends, axes, seen)
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(tensor_of, second)
        return _Pair(tensor_of(first), waiting.result(), ends, axes, seen)


def _mask(mask: Picture, shape: tuple[int, ...], axes: tuple[int, ...]) -> Tensor:
    """A mask as (B, C, *spatial), of images of this shape, or without some of the first two axes."""
    weights, _ = _array("mask", mask)
    suitable = {  # shapes, and what axes they have
        tuple(side for axis, side in zip(axes, shape, strict=True) if axis not in without): without
        for without in ((0, 1), (1,), ())
    }
    if weights.shape not in suitable:
        *others, last = (str(known) for known in reversed(suitable))
        shapes = f"{', '.join(others)} or {last}" if others else last
        raise ValueError(f"mask must have the shape of the images or less, {shapes}, got {weights.shape}")
    left_out = suitable[weights.shape]
    return tensor_of(channels_first(weights, tuple(axis for axis in axes if axis not in left_out)))


def _array(name: str, image: Picture) -> tuple[NDArray[Any], int | None]:
    """The image as an array of real numbers, and its axis of channels if it says so."""
    if isinstance(image, Tensor):
        raise TypeError(f"{name} is a tensor: pass it to the functions of ssimgen, or {name}.numpy() to ssimgen.arrays")
    if isinstance(image, (str, bytes)) or hasattr(image, "__fspath__"):
        raise TypeError(f"{name} must be an array or a picture, got {image!r}: read it first, with PIL.Image.open")
    if isinstance(image, np.ma.MaskedArray):
        raise TypeError(
            f"{name} is a masked array, whose mask would not be seen: pass {name}.data, and mask=~{name}.mask"
        )
    mode = getattr(image, "mode", None) if type(image).__module__.partition(".")[0] == "PIL" else None
    if mode is not None and mode not in _PIL_MODES:
        raise ValueError(f'{name} is a picture of mode {mode}: pass {name}.convert("RGB") or {name}.convert("L")')
    array = np.asarray(image)
    if array.dtype.kind not in "buif" or array.dtype.itemsize > 8:
        raise TypeError(
            f"{name} must hold real numbers of at most 64 bits, got {array.dtype}: convert with {name}.astype(float)"
        )
    return array, -1 if mode == "RGB" else None


def _said_range(first: np.dtype[Any], second: np.dtype[Any]) -> float:
    if first.name == second.name and first.name in _RANGES:
        return _RANGES[first.name]
    kinds = first.name if first.name == second.name else f"{first.name} and {second.name}"
    raise ValueError(
        f"data_range has no default for images of {kinds}: pass 1.0 for values in [0, 1], 255 for those of bytes, "
        "(lo, hi) for values that can be negative"
    )
