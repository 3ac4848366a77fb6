"""Kernel ISCA: eigenvectors and projections against their definitions, new images, reconstruction error."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.utils.estimator_checks import check_estimator
from torch import Tensor

from ssimgen import Window
from ssimgen.kernels import centred_gram
from ssimgen.metrics import Euclidean, Metric, StructuralDistance
from ssimgen.subspace import KernelISCA

METRIC = StructuralDistance(1.0, norm="frobenius", window=Window.uniform(7, stride=7, unbiased=True))
SHAPE = (1, 28, 28)


def rows(images: Tensor) -> np.ndarray:
    return images.flatten(1).numpy()


def test_coordinates_are_scaled_eigenvectors_of_the_centred_gram(digits: Tensor) -> None:
    x = digits[:25]
    coordinates = KernelISCA(METRIC, n_components=4, image_shape=SHAPE).fit_transform(rows(x))
    values, vectors = torch.linalg.eigh(centred_gram(METRIC(x)))
    for k in range(4):
        expected = vectors[:, -1 - k] * values[-1 - k].sqrt()
        cosine = (expected @ torch.from_numpy(coordinates[:, k])).item() / values[-1 - k].item()
        assert abs(cosine) == pytest.approx(1, abs=1e-9)


def test_new_images_are_projected_as_training_images_are(digits: Tensor) -> None:
    X = rows(digits[:25])
    model = KernelISCA(METRIC, n_components=4, image_shape=SHAPE)
    together = model.fit_transform(X)
    np.testing.assert_allclose(model.transform(X), together, rtol=0, atol=1e-9)
    np.testing.assert_allclose(model.transform(X[7:8]), together[7:8], rtol=0, atol=1e-9)


def test_all_components_reproduce_the_distances(digits: Tensor) -> None:
    """In the Hilbert space, the squared distance of two images is D."""
    x = digits[:15]
    coordinates = torch.from_numpy(KernelISCA(METRIC, n_components=14, image_shape=SHAPE).fit_transform(rows(x)))
    torch.testing.assert_close(torch.cdist(coordinates, coordinates) ** 2, METRIC(x), rtol=1e-9, atol=1e-9)


def test_reconstruction_error(digits: Tensor) -> None:
    """Against the distance to the subspace computed in coordinates of training and new images together."""
    x, new = digits[:20], digits[20:26]
    model = KernelISCA(METRIC, n_components=5, image_shape=SHAPE).fit(rows(x))
    whole = torch.from_numpy(
        KernelISCA(METRIC, n_components=25, image_shape=SHAPE).fit_transform(rows(torch.cat([x, new])))
    )
    centred = whole - whole[:20].mean(0)
    axes = torch.linalg.svd(centred[:20]).Vh[:5]
    expected = (centred[20:] ** 2).sum(1) - ((centred[20:] @ axes.T) ** 2).sum(1)
    np.testing.assert_allclose(model.reconstruction_error(rows(new)), expected, rtol=0, atol=1e-9)
    complete = KernelISCA(METRIC, n_components=19, image_shape=SHAPE).fit(rows(x))
    assert np.abs(complete.reconstruction_error(rows(x))).max() < 1e-9
    assert complete.reconstruction_error(rows(new)).min() > 0.1


def test_structure_unlike_the_training_images_is_far_from_their_subspace(digits: Tensor) -> None:
    model = KernelISCA(METRIC, n_components=10, image_shape=SHAPE).fit(rows(digits[:60]))
    noise = torch.rand(10, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    usual = model.reconstruction_error(rows(digits[60:90]))
    assert model.reconstruction_error(rows(noise)).min() > usual.max()


class SquaredEuclidean(Metric):
    """A metric whose unsquared distances are squared Euclidean ones."""

    @property
    def hilbertian(self) -> bool:
        return False

    def squared(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return Euclidean().squared(x, y) ** 2


def test_with_squared_euclidean_distances_it_is_principal_component_analysis(digits: Tensor) -> None:
    X = rows(digits[:20])
    ours = KernelISCA(SquaredEuclidean(), n_components=3).fit(X)
    theirs = PCA(n_components=3, svd_solver="full").fit(X)
    np.testing.assert_allclose(np.abs(ours.transform(X)), np.abs(theirs.transform(X)), rtol=0, atol=1e-6)
    new = rows(digits[20:24])
    residual = ((new - theirs.inverse_transform(theirs.transform(new))) ** 2).sum(1)
    np.testing.assert_allclose(ours.reconstruction_error(new), residual, rtol=1e-6)


@pytest.mark.usefixtures("no_shape_checks")
def test_scikit_learn_checks() -> None:
    """On vectors, all of them; arrays of other libraries are checked only where SciPy's switch for them is set."""
    results = check_estimator(KernelISCA(Euclidean()), on_skip=None)
    assert len(results) > 30
    assert {r["check_name"] for r in results if r["status"] != "passed"} <= {"check_array_api_input"}


@pytest.mark.usefixtures("no_shape_checks")
def test_bad_options(digits: Tensor) -> None:
    X = rows(digits[:5])
    with pytest.raises(ValueError, match=r"metric has no default: pass ssimgen.metrics.StructuralDistance"):
        KernelISCA().fit(X)
    with pytest.raises(ValueError, match=r"rows of X have 784 pixels, which are no image of image_shape=\(1, 28, 27\)"):
        KernelISCA(METRIC, image_shape=(1, 28, 27)).fit(X)
    with pytest.raises(ValueError, match=r"x must have shape \(batch, channels, height, width\), got \(5, 784\)"):
        KernelISCA(METRIC).fit(X)


def test_rows_in_any_order_of_memory(digits: Tensor) -> None:
    """Views with negative strides, columns first, read-only: what scikit-learn takes."""
    X = rows(digits[:12])
    expected = KernelISCA(Euclidean()).fit(X).transform(X)
    frozen = X.copy()
    frozen.flags.writeable = False
    for view, order in ((X[::-1], slice(None, None, -1)), (np.asfortranarray(X), slice(None)), (frozen, slice(None))):
        found = KernelISCA(Euclidean()).fit(view).transform(view)
        np.testing.assert_allclose(np.abs(found), np.abs(expected[order]), rtol=0, atol=1e-7)  # root of 1e-16, a few
