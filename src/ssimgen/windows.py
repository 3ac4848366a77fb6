"""The window of SSIM: which pixels form a patch, how they are weighted, and where patches stand."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ssimgen._numbers import is_positive, positive_integer


@dataclass(frozen=True)
class Window:
    """A square, separable window: the pixels of a patch are weighted by w_ij = taps_i taps_j.

    With the weights w > 0, sum 1, and the factor beta, the statistics of a patch are

        mu_x = sum w x,   var_x = beta sum w (x - mu_x)^2,   cov = beta sum w (x - mu_x)(y - mu_y).

    Make one with :meth:`gaussian` (Wang et al. 2004) or :meth:`uniform` (Ghojogh et al. 2020); the plain
    constructor takes any positive taps. Patches stand every `stride` pixels from the upper left corner, and
    only where the window lies wholly inside the image.

    Attributes:
        taps: one-dimensional weights, from top to bottom and from left to right; positive, sum 1.
        stride: distance in pixels between neighbouring patches, along both axes; 1 = every position.
        beta: factor of variances and covariances; 1 for a weighted mean, q / (q - 1) for the sample
            covariance of q equally weighted pixels.

    Raises:
        ValueError: taps not positive or not of sum 1, a stride that is not a whole number >= 1, or beta not
            a positive number.

    Example:
        >>> from ssimgen import Window
        >>> Window((0.25, 0.5, 0.25), stride=2)
        Window(taps=(0.25, 0.5, 0.25), stride=2, beta=1.0)
        >>> Window.gaussian(size=11, sigma=1.5).size
        11
    """

    taps: tuple[float, ...]
    stride: int = 1
    beta: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "taps", _weights(self.taps))
        object.__setattr__(self, "stride", _pixels("stride", self.stride))
        if not is_positive(self.beta):
            raise ValueError(
                f"beta must be a positive number, got {self.beta!r}: 1 for a weighted mean, "
                "q/(q-1) for the sample covariance of q pixels"
            )
        object.__setattr__(self, "beta", float(self.beta))

    @classmethod
    def gaussian(cls, size: int = 11, sigma: float = 1.5, stride: int = 1) -> Window:
        """Gaussian weights of standard deviation `sigma` pixels, beta = 1 (Wang et al. 2004, section III-C).

        Args:
            size: side in pixels, odd or even; an even window is centred between two pixels.
            sigma: standard deviation in pixels, before the window cuts the tails off.
            stride: pixels between neighbouring patches, along both axes.

        Raises:
            ValueError: a size or stride that is not a whole number of pixels >= 1, a sigma that is not a positive
                number, or one so small that the outer weights vanish.

        Example:
            >>> from ssimgen import Window
            >>> [round(weight, 3) for weight in Window.gaussian(size=3, sigma=1.0).taps]
            [0.274, 0.452, 0.274]
        """
        size = _pixels("size", size)
        if not is_positive(sigma):
            raise ValueError(f"sigma must be a positive number of pixels, got {sigma!r}: the usual value is 1.5")
        centre, deviation = (size - 1) / 2, float(sigma)
        units = [(i - centre) / deviation for i in range(size)]
        weights = [math.exp(-u * u / 2) for u in units]
        if weights[0] == 0:
            raise ValueError(
                f"sigma of {sigma!r} px is too small for a window of {size} px, whose outer weights vanish: "
                "take a smaller window or a larger sigma"
            )
        total = math.fsum(weights)
        return cls(tuple(w / total for w in weights), stride)

    @classmethod
    def uniform(cls, size: int, stride: int = 1, unbiased: bool = False) -> Window:
        """Equal weights; `unbiased` takes the sample covariance, beta = q / (q - 1) with q = size^2.

        `Window.uniform(size, stride=size, unbiased=True)` is the paper's: disjoint blocks of q pixels
        (Ghojogh et al. 2020, section 2).

        Args:
            size: side in pixels, odd or even.
            stride: pixels between neighbouring patches, along both axes.
            unbiased: divide by q - 1 instead of q; needs a size of at least 2.

        Raises:
            ValueError: a size or stride that is not a whole number of pixels >= 1, or `unbiased` with a size of 1.

        Example:
            >>> from ssimgen import Window
            >>> blocks = Window.uniform(8, stride=8, unbiased=True)
            >>> blocks.positions(32), round(blocks.beta, 3)
            (4, 1.016)
        """
        size = _pixels("size", size)
        if unbiased and size == 1:
            raise ValueError("unbiased=True divides by q - 1 = 0 for a window of 1 px: take a larger size")
        q = size * size
        return cls((1 / size,) * size, stride, q / (q - 1) if unbiased else 1.0)

    @property
    def size(self) -> int:
        """Side of the window in pixels."""
        return len(self.taps)

    def positions(self, length: int) -> int:
        """How many windows fit along an axis of `length` pixels (0 if none)."""
        return max(0, (length - self.size) // self.stride + 1)


def _pixels(name: str, value: int) -> int:
    """A number of pixels that some image might have."""
    number = positive_integer(name, value, "pixels")
    if number > _MOST_PIXELS:
        raise ValueError(f"{name} must be at most {_MOST_PIXELS} pixels, got {number}")
    return number


_MOST_PIXELS = 2**16  # of a side; weights are a tuple


def _weights(taps: tuple[float, ...]) -> tuple[float, ...]:
    remedy = "divide weights by their sum, or use Window.gaussian(size, sigma) or Window.uniform(size)"
    try:
        numbers = tuple(taps)
    except TypeError:
        raise ValueError(f"taps must be positive numbers of sum 1, got {taps!r}: {remedy}") from None
    if not numbers or not all(is_positive(t) for t in numbers) or abs(math.fsum(numbers) - 1) > 1e-9:
        raise ValueError(f"taps must be positive numbers of sum 1, got {numbers}: {remedy}")
    return tuple(float(t) for t in numbers)
