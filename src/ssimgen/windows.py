"""The window of SSIM: which pixels form a patch, how they are weighted, and where patches stand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeVar

from ssimgen import _shown as shown
from ssimgen._numbers import is_positive, plain, positive_integer

Padding = Literal["valid", "reflect", "symmetric"]
PADDINGS: tuple[Padding, ...] = ("valid", "reflect", "symmetric")

Taps = tuple[float, ...]

T = TypeVar("T")


class AxisWindow(NamedTuple):
    """A window along one axis of an image: its weights, the distance of its positions, and what is beyond the edge.

    Example:
        >>> from ssimgen import Window
        >>> depth, height, width = Window.uniform((1, 8, 8), stride=(1, 8, 8), padding="reflect").axes(3)
        >>> height.positions(30), height.margins(30)
        (4, (1, 1))
    """

    taps: Taps
    stride: int = 1
    padding: Padding = "valid"

    @property
    def size(self) -> int:
        """Length in pixels."""
        return len(self.taps)

    def positions(self, length: int) -> int:
        """How many windows there are along an axis of `length` pixels (0 if none fits)."""
        return max(0, (length + sum(self.margins(length)) - self.size) // self.stride + 1)

    def margins(self, length: int) -> tuple[int, int]:
        """Pixels added before and after an axis, so that its length / stride windows, rounded up, end with it."""
        if self.padding == "valid":
            return 0, 0
        missing = max(0, (-(-length // self.stride) - 1) * self.stride + self.size - length)
        return missing - missing // 2, missing // 2

    def fits(self, length: int) -> bool:
        """Whether an axis of `length` pixels holds a window, or can be padded for it."""
        if self.padding == "valid":
            return length >= self.size
        return length >= max(self.margins(length)) + (self.padding == "reflect")


@dataclass(frozen=True)
class Window:
    """A separable window: the pixels of a patch are weighted by the products of taps, w_ij = taps_i taps_j.

    With the weights w > 0, sum 1, and the factor beta, the statistics of a patch are

        mu_x = sum w x,   var_x = beta sum w (x - mu_x)^2,   cov = beta sum w (x - mu_x)(y - mu_y).

    Make one with :meth:`gaussian` (Wang et al. 2004) or :meth:`uniform` (Ghojogh et al. 2020); the plain
    constructor takes any positive taps. One size, deviation and stride serve all axes, and so images of one, two and
    three; a tuple has one for each axis, as (depth, height, width).

    Patches stand every `stride` pixels from the upper left corner. With the padding "valid" the window lies wholly
    inside the image, so that pixels near its border are seen less than others: by a Gaussian of 11 px, a corner with
    1e-6 of the weight of the middle. With "symmetric" and "reflect" the image is mirrored beyond its border, with
    the border doubled or not (numpy's words), as far as is needed for length / stride positions, rounded up: with
    stride 1 one about each pixel (from size // 2 before it), with disjoint blocks as many as cover the image.

    Attributes:
        taps: one-dimensional weights, in the direction of each axis; positive, sum 1. Or a tuple of such for each axis.
        stride: distance in pixels between neighbouring patches, along all axes or for each; 1 = every position.
        beta: factor of variances and covariances; 1 for a weighted mean, q / (q - 1) for the sample
            covariance of q equally weighted pixels. Where `unbiased`, it is that of two axes.
        unbiased: 1 / (1 - sum w^2) instead of a given beta, for as many axes as the images have; that is q / (q - 1)
            for equal weights.
        padding: "valid", "symmetric" or "reflect".

    Raises:
        ValueError: taps not positive or not of sum 1, a stride that is not a whole number >= 1, beta not a positive
            number, tuples of different lengths or for more than three axes, or an unknown padding.

    Example:
        >>> from ssimgen import Window
        >>> Window((0.25, 0.5, 0.25), stride=2).positions(32)
        15
        >>> Window.gaussian(size=11, sigma=1.5).size
        11
        >>> Window.gaussian((3, 11, 11), (0.5, 1.5, 1.5), padding="symmetric").size
        (3, 11, 11)
        >>> Window(taps=(0.25,) * 4, stride=4)
        Window.uniform(4, stride=4)
    """

    taps: Taps | tuple[Taps, ...]
    stride: int | tuple[int, ...] = 1
    beta: float = 1.0
    unbiased: bool = field(default=False, kw_only=True)
    padding: Padding = field(default="valid", kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "taps", _per_axis(self.taps, _weights, nested=_has_axes(self.taps)))
        object.__setattr__(self, "stride", _per_axis(self.stride, _stride))
        _common_length(taps=self.taps if _has_axes(self.taps) else None, stride=self.stride)
        if not is_positive(self.beta):
            raise ValueError(
                f"beta must be a positive number, got {self.beta!r}: 1 for a weighted mean, "
                "q/(q-1) for the sample covariance of q pixels"
            )
        if self.padding not in PADDINGS:
            raise ValueError(f"padding must be one of {', '.join(map(repr, PADDINGS))}, got {self.padding!r}")
        axes = {ndim: self._along(ndim) for ndim in range(1, _MOST_AXES + 1) if self.ndim in (None, ndim)}
        object.__setattr__(self, "_axes", axes)  # looked up in every call
        object.__setattr__(self, "beta", float(self.beta))
        if self.unbiased:
            object.__setattr__(self, "beta", self.factor(self.ndim or 2))

    @classmethod
    def gaussian(
        cls,
        size: int | tuple[int, ...] = 11,
        sigma: float | tuple[float, ...] = 1.5,
        stride: int | tuple[int, ...] = 1,
        *,
        padding: Padding = "valid",
    ) -> Window:
        """Gaussian weights of standard deviation `sigma` pixels, beta = 1 (Wang et al. 2004, section III-C).

        Args:
            size: side in pixels, odd or even; an even window is centred between two pixels. Or one for each axis.
            sigma: standard deviation in pixels, before the window cuts the tails off; or one for each axis.
            stride: pixels between neighbouring patches, along all axes; or one for each.
            padding: what is beyond the border of images, as :class:`Window`.

        Raises:
            ValueError: a size or stride that is not a whole number of pixels >= 1, a sigma that is not a positive
                number, or one so small that the outer weights vanish; and as :class:`Window`.

        Example:
            >>> from ssimgen import Window
            >>> [round(weight, 3) for weight in Window.gaussian(size=3, sigma=1.0).taps]
            [0.274, 0.452, 0.274]
        """
        axes = _common_length(size=size, sigma=sigma, stride=stride)
        sizes, sigmas = _per_axis(size, _size), _per_axis(sigma, _deviation)
        if not isinstance(sizes, tuple) and not isinstance(sigmas, tuple):
            return cls(_gaussian(sizes, sigmas), stride, padding=padding)
        each = zip(_repeated(sizes, axes), _repeated(sigmas, axes), strict=True)
        return cls(tuple(_gaussian(*of_axis) for of_axis in each), stride, padding=padding)

    @classmethod
    def uniform(
        cls,
        size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        unbiased: bool = False,
        *,
        padding: Padding = "valid",
    ) -> Window:
        """Equal weights; `unbiased` takes the sample covariance, beta = q / (q - 1) for patches of q pixels.

        `Window.uniform(size, stride=size, unbiased=True)` is the paper's: disjoint blocks of q = size^2 pixels
        (Ghojogh et al. 2020, section 2).

        Args:
            size: side in pixels, odd or even; or one for each axis.
            stride: pixels between neighbouring patches, along all axes; or one for each.
            unbiased: divide by q - 1 instead of q; needs patches of at least two pixels.
            padding: what is beyond the border of images, as :class:`Window`.

        Raises:
            ValueError: a size or stride that is not a whole number of pixels >= 1, or `unbiased` with a size of 1; and
                as :class:`Window`.

        Example:
            >>> from ssimgen import Window
            >>> blocks = Window.uniform(8, stride=8, unbiased=True)
            >>> blocks.positions(32), round(blocks.beta, 3)
            (4, 1.016)
        """
        _common_length(size=size, stride=stride)
        sizes = _per_axis(size, _size)
        taps = tuple(map(_equal, sizes)) if isinstance(sizes, tuple) else _equal(sizes)
        return cls(taps, stride, unbiased=unbiased, padding=padding)

    def __repr__(self) -> str:
        """The call that makes such a window: by :meth:`uniform` or :meth:`gaussian` if it is one of theirs."""
        stride: dict[str, Any] = {} if self.stride == 1 else {"stride": self.stride}
        unbiased: dict[str, Any] = {"unbiased": True} if self.unbiased else {}
        padding: dict[str, Any] = {} if self.padding == "valid" else {"padding": self.padding}
        if Window.uniform(self.size, **stride, **unbiased, **padding) == self:
            return shown.call("Window.uniform", self.size, **stride, **unbiased, **padding)
        sigma = _deviation_of(self.taps)
        if sigma is not None and Window.gaussian(self.size, sigma, **stride, **padding) == self:
            return shown.call("Window.gaussian", self.size, sigma, **stride, **padding)
        beta: dict[str, Any] = {} if self.unbiased or self.beta == 1 else {"beta": self.beta}
        return shown.call("Window", self.taps, **stride, **beta, **unbiased, **padding)

    @property
    def ndim(self) -> int | None:
        """Number of spatial axes of the images that it is for; None where it serves any number."""
        if _has_axes(self.taps):
            return len(self.taps)
        return len(self.stride) if isinstance(self.stride, tuple) else None

    @property
    def size(self) -> int | tuple[int, ...]:
        """Side of the window in pixels, or one for each axis."""
        if not _has_axes(self.taps):
            return len(self.taps)
        return tuple(len(taps) for taps in self.taps)  # type: ignore[arg-type]

    def axes(self, ndim: int) -> tuple[AxisWindow, ...]:
        """The window along each of `ndim` axes.

        Raises:
            ValueError: it has another number of axes.
        """
        known: dict[int, tuple[AxisWindow, ...]] = self._axes  # type: ignore[attr-defined]
        if ndim not in known:
            raise ValueError(f"the window has {self.ndim or 'one to three'} axes, it was asked for {ndim}")
        return known[ndim]

    def _along(self, ndim: int) -> tuple[AxisWindow, ...]:
        all_taps: Any = self.taps if _has_axes(self.taps) else (self.taps,) * ndim
        return tuple(AxisWindow(*of, self.padding) for of in zip(all_taps, _repeated(self.stride, ndim), strict=True))

    def factor(self, ndim: int) -> float:
        """beta for images of so many axes.

        Raises:
            ValueError: the window is unbiased, and has a single pixel.
        """
        if not self.unbiased:
            return self.beta
        sum_of_squares = math.prod(math.fsum(w * w for w in axis.taps) for axis in self.axes(ndim))
        if all(axis.size == 1 for axis in self.axes(ndim)):
            raise ValueError("unbiased=True divides by q - 1 = 0 for a window of 1 px: take a larger size")
        return 1 / (1 - sum_of_squares)

    def positions(self, length: int, axis: int = 0) -> int:
        """How many windows there are along an axis of `length` pixels (0 if none fits)."""
        return self.axes(self.ndim or 1)[axis if self.ndim else 0].positions(length)


def _has_axes(taps: object) -> bool:
    """Whether there are taps for each axis."""
    return isinstance(taps, (tuple, list)) and bool(taps) and all(isinstance(part, (tuple, list)) for part in taps)


def _per_axis(value: Any, checked: Callable[[Any], T], nested: bool | None = None) -> T | tuple[T, ...]:
    """The checked value, or each of a tuple of them."""
    if isinstance(value, (tuple, list)) if nested is None else nested:
        return tuple(map(checked, value))
    return checked(value)


def _repeated(value: T | tuple[T, ...], axes: int) -> Sequence[T]:
    return value if isinstance(value, tuple) else (value,) * axes


def _common_length(**values: Any) -> int:
    """The length of those values that are tuples, 1 if none is."""
    lengths = {name: len(value) for name, value in values.items() if isinstance(value, (tuple, list))}
    if len(set(lengths.values())) > 1:
        each = " and ".join(f"{length} in {name}" for name, length in lengths.items())
        raise ValueError(
            f"a window has one number for each axis, got {each}: pass tuples of equal length, or one number"
        )
    length = max(lengths.values(), default=1)
    if lengths and not 1 <= length <= _MOST_AXES:
        raise ValueError(f"a window has at most {_MOST_AXES} axes, got {length}: pass (depth, height, width), or less")
    return length


def _size(value: Any) -> int:
    return _pixels("size", value)


def _stride(value: Any) -> int:
    return _pixels("stride", value)


def _pixels(name: str, value: int) -> int:
    """A number of pixels that some image might have."""
    number = positive_integer(name, value, "pixels")
    if number > _MOST_PIXELS:
        raise ValueError(f"{name} must be at most {_MOST_PIXELS} pixels, got {number}")
    return number


_MOST_PIXELS = 2**16  # of a side; weights are a tuple
_MOST_AXES = 3


def _deviation(sigma: Any) -> float:
    if not is_positive(sigma):
        raise ValueError(f"sigma must be a positive number of pixels, got {sigma!r}: the usual value is 1.5")
    return float(plain(sigma))


def _gaussian(size: int, sigma: float) -> Taps:
    centre = (size - 1) / 2
    units = [(i - centre) / sigma for i in range(size)]
    weights = [math.exp(-u * u / 2) for u in units]
    if weights[0] == 0:
        raise ValueError(
            f"sigma of {sigma!r} px is too small for a window of {size} px, whose outer weights vanish: "
            "take a smaller window or a larger sigma"
        )
    total = math.fsum(weights)
    return tuple(w / total for w in weights)


def _deviation_of(taps: Taps | tuple[Taps, ...]) -> float | tuple[float, ...] | None:
    """That of Gaussian taps, or of those of each axis, if it is a number of some digits."""
    if not _has_axes(taps):
        return _sigma_of(taps)  # type: ignore[arg-type]
    sigmas = [_sigma_of(of_axis) for of_axis in taps if len(of_axis) > 1]  # type: ignore[arg-type]
    if not sigmas or None in sigmas:
        return None
    if len(set(sigmas)) == 1:
        return sigmas[0]
    each = iter(sigmas)
    return tuple(next(each) if len(of_axis) > 1 else 1.5 for of_axis in taps)  # type: ignore[arg-type, misc]


def _sigma_of(taps: Taps) -> float | None:
    size, centre = len(taps), (len(taps) - 1) / 2
    if taps[0] >= taps[size // 2]:
        return None
    sigma = math.sqrt((centre**2 - (size // 2 - centre) ** 2) / (2 * math.log(taps[size // 2] / taps[0])))
    rounded = (float(f"{sigma:.{digits}g}") for digits in (4, 8, 12))
    return next((number for number in rounded if _gaussian(size, number) == taps), None)


def _equal(size: int) -> Taps:
    return (1 / size,) * size


def _weights(taps: Any) -> Taps:
    remedy = "divide weights by their sum, or use Window.gaussian(size, sigma) or Window.uniform(size)"
    try:
        numbers = tuple(taps)
    except TypeError:
        raise ValueError(f"taps must be positive numbers of sum 1, got {taps!r}: {remedy}") from None
    if not numbers or not all(is_positive(t) for t in numbers) or abs(math.fsum(numbers) - 1) > 1e-9:
        raise ValueError(f"taps must be positive numbers of sum 1, got {numbers}: {remedy}")
    return tuple(float(t) for t in numbers)
