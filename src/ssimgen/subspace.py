"""Image structure component analysis: principal components of images under a structural distance."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ssimgen._extras import extra
from ssimgen.metrics import Metric

with extra("sklearn", "ssimgen.subspace"):
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.decomposition import KernelPCA
    from sklearn.utils.validation import check_is_fitted, validate_data

Array = NDArray[np.float64]


class KernelISCA(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Kernel image structure component analysis (Ghojogh, Karray, Crowley 2019, arXiv 1908.09287).

    Kernel PCA with K = -1/2 H D H, D the distances of the training images. In the Hilbert space of
    k(x, y) = (D(x, b) + D(y, b) - D(x, y)) / 2, which is that of every base point b up to a shift, these are the
    principal components of the images. K is positive semidefinite for Hilbertian metrics (docs/kernels.md, F2): what
    is negative in its spectrum is rounding, and scikit-learn raises if it is more.

    Args:
        metric: such as StructuralDistance(data_range=1.0); None raises when fitting.
        n_components: dimensions of the subspace.
        image_shape: (channels, height, width) of the images whose flattened pixels are the rows of X. With None, rows
            are plain vectors (for metrics that take vectors).

    Attributes:
        eigenvalues_: the leading eigenvalues of K, descending.
        n_features_in_: pixels a row.

    Distances are computed in float64.

    Example:
        >>> import numpy as np
        >>> from ssimgen.metrics import StructuralDistance
        >>> from ssimgen.subspace import KernelISCA
        >>> X = np.random.default_rng(0).random((10, 256))
        >>> isca = KernelISCA(StructuralDistance(data_range=1.0), image_shape=(1, 16, 16))
        >>> isca.fit_transform(X).shape
        (10, 2)
    """

    def __init__(
        self,
        metric: Metric | None = None,
        *,
        n_components: int = 2,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        self.metric = metric
        self.n_components = n_components
        self.image_shape = image_shape

    def fit(self, X: ArrayLike, y: Any = None) -> KernelISCA:
        """Find the subspace of the rows of X.

        Raises:
            ValueError: no metric, fewer than two rows, or rows that are not images of `image_shape`.
        """
        self._fit(X)
        return self

    def fit_transform(self, X: ArrayLike, y: Any = None) -> Array:
        """`fit(X).transform(X)`, with the distances computed once; (n, n_components)."""
        return self._project(self._fit(X))

    def transform(self, X: ArrayLike) -> Array:
        """Coordinates in the subspace of each row of X, (n, n_components)."""
        return self._project(self._distances(X))

    def reconstruction_error(self, X: ArrayLike) -> Array:
        """Squared distance in the Hilbert space from each row of X to the subspace, (n,).

        |phi(x) - mean|^2 less the squared length of the projection, where
        |phi(x) - mean|^2 = mean_i D(x, x_i) - 1/2 mean_ij D(x_i, x_j). Images unlike the training images have a
        large one.
        """
        distances = self._distances(X)
        residual: Array = distances.mean(1) - self._mean_distance / 2 - (self._project(distances) ** 2).sum(1)
        return residual

    def _fit(self, X: ArrayLike) -> Array:
        rows = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        self._training = self._points(rows)
        distances = self._distance_matrix(self._training, None)
        self._mean_distance = distances.mean()
        self._pca = KernelPCA(self.n_components, kernel="precomputed").fit(-distances / 2)  # which centres: H . H
        self.eigenvalues_ = self._pca.eigenvalues_
        self._n_features_out = len(self.eigenvalues_)
        return distances

    def _distances(self, X: ArrayLike) -> Array:
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=np.float64, reset=False)
        return self._distance_matrix(self._points(rows), self._training)

    def _distance_matrix(self, x: Tensor, y: Tensor | None) -> Array:
        if self.metric is None:
            raise ValueError("metric has no default: pass ssimgen.metrics.StructuralDistance(data_range=...)")
        distances: Array = self.metric(x, y).numpy()
        return distances

    def _points(self, rows: Array) -> Tensor:
        """Rows as vectors or as images."""
        points = torch.from_numpy(np.array(rows, order="C"))  # PyTorch takes no negative strides
        if self.image_shape is None:
            return points
        if len(self.image_shape) != 3 or math.prod(self.image_shape) != rows.shape[1]:
            raise ValueError(
                f"rows of X have {rows.shape[1]} pixels, which are no image of image_shape={self.image_shape!r} "
                "(channels, height, width)"
            )
        return points.reshape(-1, *self.image_shape)

    def _project(self, distances: Array) -> Array:
        coordinates: Array = self._pca.transform(-distances / 2)
        return coordinates
