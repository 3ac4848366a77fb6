"""SSIM as inner products of explicit features: a scikit-learn transformer.

Each factor of SSIM is (2 u.v + c) / (|u|^2 + |v|^2 + c), with u a patch's mean or its centred, weighted pixels. With
1/z replaced by a sum of exponentials, it is an inner product of finite vectors (docs/kernels.md, F1 and F6):

    1/z ~ sum_k w_k exp(-t_k z)   =>   s ~ sum_k f_k(u) . f_k(v),
    f_k(u) = sqrt(w_k) exp(-t_k (|u|^2 + c / 2)) (sqrt(2) u + sqrt(c) e),      e a unit vector orthogonal to every u,

and what works on vectors (linear models, mean embeddings, Euclidean nearest neighbours) works in SSIM.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ssimgen import _arguments as arguments
from ssimgen._extras import extra
from ssimgen._request import FORMS, DataRange, lo_and_length, spatial_axes, stability_constants, window_fits
from ssimgen.engine import Form
from ssimgen.windows import Window

with extra("sklearn", "ssimgen.features"):
    from scipy.optimize import least_squares
    from scipy.sparse import csr_array
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.random_projection import SparseRandomProjection
    from sklearn.utils import gen_batches
    from sklearn.utils.validation import check_is_fitted, validate_data

Array = NDArray[np.float64]

_CHUNK = 2**22  # numbers held at a time beyond the result
_MOST_TERMS = 24


@dataclass(frozen=True, eq=False)
class ExponentialSum:
    """1/z ~ sum_k weights_k exp(-exponents_k z), all positive, with relative error at most `error` on [low, high].

    Made by :meth:`reciprocal`; a call gives the sum at any z. Each term is a product exp(-a u) exp(-a v) of
    z = u + v, which is what turns SSIM into an inner product (docs/kernels.md, F6).

    Attributes:
        exponents, weights: (T,) one of each a term.
        low, high: ends of the interval.
        error: proved bound of |z sum - 1| on it.

    Example:
        >>> import numpy as np
        >>> from ssimgen.features import ExponentialSum
        >>> reciprocal = ExponentialSum.reciprocal(low=0.01, high=2.0, tolerance=0.01)
        >>> z = np.array([0.01, 0.5, 2.0])
        >>> np.allclose(reciprocal(z), 1 / z, rtol=reciprocal.error)
        True
    """

    exponents: Array
    weights: Array
    low: float
    high: float
    error: float

    @classmethod
    def reciprocal(cls, low: float, high: float, tolerance: float) -> ExponentialSum:
        """The shortest sum found with a relative error of at most `tolerance`.

        For each number of terms, exponents and weights are fitted by least squares at Chebyshev points of log z, which
        comes near the best uniform approximation. What is fitted is then proved: see :func:`_proved_error`.

        Raises:
            ValueError: a tolerance that no sum of up to 24 terms reaches.
        """
        exponents, weights, error = _shortest_exponentials(high / low, tolerance)
        return cls(exponents / low, weights / low, low, high, error)

    def __call__(self, z: ArrayLike) -> Array:
        """The sum at z."""
        values: Array = np.exp(-np.multiply.outer(np.asarray(z, float), self.exponents)) @ self.weights
        return values


@functools.cache
def _shortest_exponentials(ratio: float, tolerance: float) -> tuple[Array, Array, float]:
    """Exponents, weights and proved error for 1/z on [1, ratio]."""
    for terms in range(1, _MOST_TERMS + 1):
        exponents, weights = _fitted_exponentials(ratio, terms)
        error = _proved_error(exponents, weights, ratio)
        if error <= tolerance:
            return exponents, weights, error
    raise ValueError(
        f"no sum of {_MOST_TERMS} exponentials comes within {tolerance:.3g} of 1/z where z varies by a factor of "
        f"{ratio:.3g}: pass a larger tolerance, or larger k1 and k2"
    )


def _fitted_exponentials(ratio: float, terms: int) -> tuple[Array, Array]:
    """Exponents and weights for 1/z on [1, ratio], by least squares on the relative error."""
    nodes = (1 - np.cos(np.pi * (np.arange(200) + 0.5) / 200)) / 2
    z = ratio**nodes

    def terms_at(parameters: Array) -> tuple[Array, Array]:
        exponents, weights = np.exp(np.clip(parameters, -60, 60)).reshape(2, terms)  # logarithms keep both positive
        return z[:, None] * weights * np.exp(-np.outer(z, exponents)), exponents

    def residual(parameters: Array) -> Array:
        error: Array = terms_at(parameters)[0].sum(1) - 1
        return error

    def jacobian(parameters: Array) -> Array:
        values, exponents = terms_at(parameters)
        return np.hstack([-values * np.outer(z, exponents), values])

    spread = np.linspace(math.log(0.5 / ratio), 0, terms)  # the trapezoid rule of int e^-(z e^s) e^s ds = 1/z
    start = np.concatenate([spread, spread + math.log(math.log(2 * ratio) / terms)])
    solution = least_squares(residual, start, jacobian, method="lm", max_nfev=400).x
    exponents, weights = np.exp(solution).reshape(2, terms)
    return exponents, weights


def _proved_error(exponents: Array, weights: Array, ratio: float) -> float:
    """An upper bound of |z sum w exp(-t z) - 1| on [1, ratio], up to rounding.

    In the variable log z, each term (w / t) a exp(-a), a = t z, has a second derivative of at most 0.44 w / t, so
    between points h apart the error is at most its larger value at the two, plus 0.44 sum(w / t) h^2 / 8.
    """
    z, h = np.geomspace(1, ratio, 2**14), math.log(ratio) / (2**14 - 1)
    at_points = np.abs(z * (np.exp(-np.outer(z, exponents)) @ weights) - 1).max()
    return float(at_points + 0.44 * (weights / exponents).sum() * h * h / 8)


class SSIMFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Features phi of images with phi(x) . phi(y) ~ k(x, y), the SSIM kernel or one of its parts.

    ============  ==========================  ======================================
    form          k(x, y), mean over patches  |phi(x) - phi(y)|^2
    ============  ==========================  ======================================
    "product"     SSIM = s1 s2                2 D^2 of form "product"
    "sum"         s1 + s2                     2 D^2 of form "sum"
    "centred"     s2                          2 D^2 of form "centred"
    "uncentred"   1 - d^2                     2 D^2 of form "uncentred"
    ============  ==========================  ======================================

    D is :func:`ssimgen.distance` with norm "rms". For all images with values in `data_range`,
    |phi(x) . phi(y) - k(x, y)| <= `error_bound_` <= `tolerance` (docs/kernels.md, F6). So linear models
    are SSIM kernel machines, distances between mean features are MMD with the SSIM kernel
    (:class:`ssimgen.discrepancy.MeanEmbedding`), and D^2 of a Euclidean nearest neighbour is within 4 `error_bound_` of
    the least.

    Args:
        data_range: l, for values in [0, l], or (lo, hi). It has no default value: None raises when fitting.
        image_shape: (channels, height, width) of the images whose flattened pixels are the rows of X; of volumes and
            signals, with as many lengths. With None, rows are plain vectors and each is one patch of equally weighted
            entries (`window` must be None).
        form: as in the table.
        window: which patches are compared, for images.
        k1, k2: stability constants.
        tolerance: greatest error of an inner product, from 1e-4 to 1.
        n_components: project the features to this many by a sparse random projection, without storing them all. Inner
            products then vary about their values (docs/kernels.md, F6): of images whose features are spread evenly
            with a standard deviation of at most sqrt(2 / n_components) of |phi|^2, of others with a larger one.
        random_state: of the projection.

    With P patches of q pixels, and T1 and T2 terms for luminance and structure (9 and 6 at the default tolerance),
    there are 2 T1 T2 q P features for "product" and (2 T1 + T2 q) P for "sum" before the projection: 85,000 and 5,000
    for 28 x 28 images in blocks of 7 x 7 pixels. For "product" with overlapping windows, set n_components.

    Attributes:
        error_bound_: proved bound of |phi(x) . phi(y) - k(x, y)| before the projection.
        n_features_in_: pixels a row.
        sums_: the :class:`ExponentialSum` of each factor, luminance first.
        projection_: the random projection, or None.

    Example:
        >>> import numpy as np
        >>> from ssimgen.features import SSIMFeatures
        >>> X = np.random.default_rng(0).random((10, 16))  # rows are vectors: one patch each
        >>> features = SSIMFeatures(data_range=1.0).fit(X)
        >>> phi = features.transform(X)
        >>> np.allclose((phi**2).sum(1), 1, rtol=0, atol=features.error_bound_)  # SSIM of equal patches
        True
    """

    def __init__(
        self,
        *,
        data_range: DataRange | None = None,
        image_shape: tuple[int, ...] | None = None,
        form: Form = "product",
        window: Window | None = None,
        k1: float = 0.01,
        k2: float = 0.03,
        tolerance: float = 0.01,
        n_components: int | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.data_range = data_range
        self.image_shape = image_shape
        self.form = form
        self.window = window
        self.k1 = k1
        self.k2 = k2
        self.tolerance = tolerance
        self.n_components = n_components
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: Any = None) -> SSIMFeatures:
        """Set the features up for rows as long as those of X. Nothing else is learnt from X.

        Raises:
            ValueError, TypeError: options out of range, rows that are not images of `image_shape`, values outside
                `data_range` or not finite.
        """
        rows = validate_data(self, _readable(X), dtype=(np.float64, np.float32))
        if self.data_range is None:
            raise ValueError("data_range has no default: pass 1.0 for values in [0, 1], 255 for bytes, or (lo, hi)")
        self._lo, self._length = lo_and_length(self.data_range)
        arguments.choice("form", self.form, FORMS)
        self._c1, self._c2 = stability_constants(self._length, self.k1, self.k2)
        self._weights, self._beta = self._patch_weights(rows.shape[1])
        self._check_range(rows)
        self.sums_ = self._exponential_sums()
        self.error_bound_ = math.prod(1 + s.error for s in self.sums_) - 1
        self._width = self._explicit(rows[:1]).shape[1]
        self.projection_ = None
        if self.n_components is not None:
            projection = SparseRandomProjection(self.n_components, random_state=self.random_state)
            self.projection_ = projection.fit(csr_array((1, self._width)))
        self._n_features_out = self._width if self.n_components is None else self.n_components
        return self

    def transform(self, X: ArrayLike) -> NDArray[np.floating[Any]]:
        """phi of each row of X, (n, features), in the dtype of X."""
        check_is_fitted(self)
        rows = validate_data(self, _readable(X), dtype=(np.float64, np.float32), reset=False)
        self._check_range(rows)
        features = np.empty((len(rows), self._n_features_out), rows.dtype)
        for chunk in gen_batches(len(rows), max(1, _CHUNK // self._width)):
            explicit = self._explicit(rows[chunk])
            features[chunk] = explicit if self.projection_ is None else self.projection_.transform(explicit)
        return features

    def _patch_weights(self, pixels: int) -> tuple[Array, float]:
        """Weights (q,) of the pixels of a patch, and beta."""
        if (self.window is None) != (self.image_shape is None):
            raise ValueError(
                "window and image_shape go together: pass both for rows that are images, neither for rows that are "
                f"vectors, got window={self.window!r} and image_shape={self.image_shape!r}"
            )
        if self.window is None or self.image_shape is None:
            return np.full(pixels, 1 / pixels), 1.0
        spatial = len(self.image_shape) - 1
        if spatial not in spatial_axes(self.window) or math.prod(self.image_shape) != pixels:
            raise ValueError(
                f"rows of X have {pixels} pixels, which are no image of image_shape={self.image_shape!r} "
                f"(channels, {', '.join(arguments.AXES[spatial_axes(self.window)[0]])})"
            )
        window_fits(self.window, torch.empty((1, *self.image_shape), device="meta"))
        weights = np.ones(1)
        for axis in self.window.axes(spatial):
            weights = np.outer(weights, axis.taps).ravel()
        return weights, self.window.factor(spatial)

    def _check_range(self, X: NDArray[Any]) -> None:
        low, high = self._lo, self._lo + self._length
        if X.min() < low or X.max() > high:
            raise ValueError(
                f"X has values in [{X.min():g}, {X.max():g}], outside data_range [{low:g}, {high:g}], where the error "
                "bound does not hold: clip X or widen data_range"
            )

    def _exponential_sums(self) -> tuple[ExponentialSum, ...]:
        """One sum for each factor of the kernel, on the range of |u|^2 + |v|^2 + c that data_range allows."""
        if not (arguments.is_positive(self.tolerance) and 1e-4 <= self.tolerance <= 1):
            raise ValueError(
                f"tolerance must be a number from 1e-4 to 1, got {self.tolerance!r}: 0.01 is usual; "
                "for more digits use the kernel itself"
            )
        mean_square = self._length**2  # the greatest mu^2; the greatest variance is a quarter of it
        ranges = {
            "luminance": (self._c1, self._c1 + 2 * mean_square),
            "structure": (self._c2, self._c2 + self._beta * mean_square / 2),
            "uncentred": (self._c2, self._c2 + 2 * self._beta * mean_square),
        }
        factors = {"centred": ("structure",), "uncentred": ("uncentred",)}.get(self.form, ("luminance", "structure"))
        each = (1 + self.tolerance) ** (1 / len(factors)) - 1  # (1 + each)^2 - 1 = tolerance for two factors
        return tuple(ExponentialSum.reciprocal(*ranges[factor], each) for factor in factors)

    def _patches(self, X: NDArray[Any]) -> Array:
        """Rows as patches, (n, P, q)."""
        X = X.astype(np.float64) - self._lo
        if self.window is None or self.image_shape is None:
            return X[:, None]
        axes = self.window.axes(len(self.image_shape) - 1)
        images = X.reshape(-1, *self.image_shape)  # (n, C, *spatial)
        margins = [axis.margins(length) for axis, length in zip(axes, self.image_shape[1:], strict=True)]
        if self.window.padding != "valid":
            images = np.pad(images, [(0, 0), (0, 0), *margins], mode=self.window.padding)
        sizes = tuple(axis.size for axis in axes)
        windows = np.lib.stride_tricks.sliding_window_view(images, sizes, axis=tuple(range(2, images.ndim)))
        some = (slice(None), slice(None), *(slice(None, None, axis.stride) for axis in axes))
        return windows[some].reshape(len(X), -1, math.prod(sizes))

    def _explicit(self, X: NDArray[Any]) -> Array:
        """The features before the projection, (n, features)."""
        x, w = self._patches(X), self._weights
        if self.form == "uncentred":
            factors = [_lifted(*_widened(np.sqrt(self._beta * w) * x), self._c2, self.sums_[0])]
        else:
            mu = (x @ w)[..., None]  # (n, P, 1)
            centred = np.sqrt(self._beta * w) * (x - mu)
            factors = [_lifted(centred, np.sqrt(w), self._c2, self.sums_[-1])]
            if self.form != "centred":
                factors.insert(0, _lifted(*_widened(mu), self._c1, self.sums_[0]))
        if self.form == "product":
            features = factors[0][..., :, None] * factors[1][..., None, :]  # (n, P, 2 T1, T2 q)
        else:
            features = np.concatenate(factors, -1)
        flat: Array = features.reshape(len(X), -1) / math.sqrt(x.shape[1])
        return flat


def _readable(X: ArrayLike) -> ArrayLike:
    """X without bfloat16, which NumPy does not know."""
    return X.float() if isinstance(X, torch.Tensor) and X.dtype == torch.bfloat16 else X


def _widened(u: Array) -> tuple[Array, Array]:
    """u (..., d) with a further coordinate 0, and the unit vector along it."""
    return np.concatenate([u, np.zeros_like(u[..., :1])], -1), np.eye(1, u.shape[-1] + 1, u.shape[-1])[0]


def _lifted(u: Array, e: Array, c: float, reciprocal: ExponentialSum) -> Array:
    """f_k(u) for every term k of 1/z, (..., d) -> (..., T d); e is a unit vector orthogonal to every u."""
    norm = (u * u).sum(-1, keepdims=True) + c / 2
    scale = np.sqrt(reciprocal.weights) * np.exp(-reciprocal.exponents * norm)  # (..., T)
    line = math.sqrt(2) * u + math.sqrt(c) * e  # (..., d)
    terms: Array = scale[..., :, None] * line[..., None, :]
    return terms.reshape(*u.shape[:-1], -1)
