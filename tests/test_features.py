"""Explicit features: the proved error of the exponential sum and of inner products, and what is built on them."""

import re

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.random_projection import SparseRandomProjection
from sklearn.utils.estimator_checks import check_estimator
from torch import Tensor

from ssimgen import Window, pairwise
from ssimgen._request import FORMS
from ssimgen.discrepancy import MeanEmbedding, embedded_mmd2, mmd2
from ssimgen.features import ExponentialSum, SSIMFeatures
from ssimgen.kernels import SSIM

pytestmark = pytest.mark.usefixtures("eager_engine")

BLOCKS = Window.uniform(7, stride=7, unbiased=True)
WINDOWS = {"blocks": BLOCKS, "gaussian": Window.gaussian(5, 1.0, stride=3), "uniform": Window.uniform(4, stride=4)}


@pytest.fixture(scope="module")
def images(digits: Tensor) -> Tensor:
    """Digits, and images at the ends of the range: black, white, halves, one pixel, a checkerboard."""
    hard = torch.zeros(6, 1, 28, 28, dtype=torch.float64)
    hard[1] = 1
    hard[2, :, :14] = 1
    hard[3, ..., 14, 14] = 1
    hard[4, ..., ::2, ::2] = hard[4, ..., 1::2, 1::2] = 1
    hard[5] = 1e-6
    return torch.cat([digits[:24], 1 - digits[:4], hard])


def rows(images: Tensor) -> np.ndarray:
    return images.flatten(1).numpy()


def exact_kernel(images: Tensor, form: str, window: Window, **options: float) -> np.ndarray:
    square = pairwise.distance(images, data_range=1.0, form=form, squared=True, window=window, **options).numpy()
    return (2 if form == "sum" else 1) - square


# The exponential sum


@pytest.mark.parametrize("high", [1.001, 2.0, 557.0, 20001.0, 2e6])
@pytest.mark.parametrize("tolerance", [0.5, 0.05, 5e-3, 2e-4])
def test_exponential_sum_keeps_its_word(high: float, tolerance: float) -> None:
    low = 3e-4
    reciprocal = ExponentialSum.reciprocal(low, high * low, tolerance)
    assert (reciprocal.exponents > 0).all()
    assert (reciprocal.weights > 0).all()
    z = np.concatenate([np.geomspace(low, high * low, 100_003), [low, high * low]])  # other points than in the proof
    error = np.abs(z * reciprocal(z) - 1).max()
    assert error <= reciprocal.error <= tolerance
    assert reciprocal.error <= 1.01 * error + 2e-6  # the proof gives little away


def test_exponential_sum_is_short() -> None:
    """Each further term makes every feature vector longer: these are the ranges of structure and luminance."""
    assert len(ExponentialSum.reciprocal(1, 557, 1e-2).exponents) == 6
    assert len(ExponentialSum.reciprocal(1, 20001, 1e-2).exponents) == 8


def test_tolerance_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssimgen.features._MOST_TERMS", 5)
    message = "no sum of 5 exponentials comes within 0.001 of 1/z where z varies by a factor of 557: pass a larger tol"
    with pytest.raises(ValueError, match=re.escape(message)):
        ExponentialSum.reciprocal(1, 557, 1e-3)


# Inner products


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("form", FORMS)
def test_inner_products_are_the_kernel_within_the_bound(form: str, window: Window, images: Tensor) -> None:
    transformer = SSIMFeatures(data_range=1.0, image_shape=(1, 28, 28), form=form, window=window, tolerance=0.03)
    features = transformer.fit_transform(rows(images))
    error = np.abs(features @ features.T - exact_kernel(images, form, window)).max()
    assert error <= transformer.error_bound_ <= 0.03
    assert error > transformer.error_bound_ / 20  # the bound is of the right size


@pytest.mark.parametrize("tolerance", [0.3, 0.01, 1e-4])
def test_error_falls_with_the_tolerance(tolerance: float, images: Tensor) -> None:
    transformer = SSIMFeatures(
        data_range=1.0, image_shape=(1, 28, 28), form="sum", window=BLOCKS, tolerance=tolerance, k1=0.02, k2=0.1
    )
    features = transformer.fit_transform(rows(images))
    error = np.abs(features @ features.T - exact_kernel(images, "sum", BLOCKS, k1=0.02, k2=0.1)).max()
    assert error <= transformer.error_bound_ <= tolerance


def test_colour_offset_and_scale(generator: torch.Generator) -> None:
    images = torch.rand(8, 3, 9, 12, generator=generator, dtype=torch.float64) * 200 - 50
    window = Window.gaussian(5, 1.5, stride=2)
    transformer = SSIMFeatures(data_range=(-50.0, 150.0), image_shape=(3, 9, 12), window=window)
    features = transformer.fit_transform(rows(images))
    exact = pairwise.ssim(images, data_range=(-50.0, 150.0), window=window).numpy()
    assert np.abs(features @ features.T - exact).max() <= transformer.error_bound_


def test_vectors_are_single_patches(generator: torch.Generator) -> None:
    x = torch.rand(6, 16, generator=generator, dtype=torch.float64)
    transformer = SSIMFeatures(data_range=1.0)
    features = transformer.fit_transform(x.numpy())
    exact = pairwise.ssim(x.reshape(6, 1, 4, 4), data_range=1.0, window=Window.uniform(4)).numpy()
    assert np.abs(features @ features.T - exact).max() <= transformer.error_bound_


def test_distances_of_features_are_structural_distances(images: Tensor) -> None:
    transformer = SSIMFeatures(data_range=1.0, image_shape=(1, 28, 28), form="sum", window=BLOCKS, tolerance=1e-3)
    features = torch.from_numpy(transformer.fit_transform(rows(images)))
    exact = pairwise.distance(images, data_range=1.0, form="sum", window=BLOCKS, squared=True)
    assert (torch.cdist(features, features) ** 2 / 2 - exact).abs().max() <= 2 * transformer.error_bound_


def test_random_projection_is_unbiased_and_narrow(images: Tensor) -> None:
    options = {"data_range": 1.0, "image_shape": (1, 28, 28), "form": "sum", "window": BLOCKS, "tolerance": 0.03}
    exact = exact_kernel(images, "sum", BLOCKS)
    errors = []
    for seed in range(5):
        transformer = SSIMFeatures(**options, n_components=1000, random_state=seed)
        features = transformer.fit_transform(rows(images))
        assert features.shape == (len(images), 1000)
        errors.append(features @ features.T - exact)
    deviation = np.sqrt(np.mean(np.square(errors)))
    assert deviation < 2 * np.sqrt(2 / 1000)  # (|x|^2 |y|^2 + (x.y)^2) / 1000 at most, with |x|^2 = |y|^2 = 2
    assert np.abs(np.mean(errors)) < 4 * deviation / np.sqrt(5) + transformer.error_bound_
    again = SSIMFeatures(**options, n_components=1000, random_state=4).fit_transform(rows(images))
    np.testing.assert_array_equal(features, again)


def test_the_variance_of_a_random_projection_is_its_formula() -> None:
    """F6: (|x|^2 |y|^2 + (x.y)^2 + (root of the features - 3) sum of x_i^2 y_i^2) / n, even or not."""
    random, n, features = np.random.default_rng(0), 20, 400
    even, few = random.normal(size=(2, features)) / 20, np.zeros((2, features))
    few[:, :4] = random.normal(size=(2, 4))
    fits = (SparseRandomProjection(n, random_state=seed).fit(even) for seed in range(2000))
    projections = [fit.components_ for fit in fits]  # which know only how many features there are
    for x, y in (even, few, np.eye(features)[[0, 0]]):
        products = [(p @ x) @ (p @ y) for p in projections]
        fourth = (np.sqrt(features) - 3) * np.sum(x**2 * y**2)
        expected = ((x @ x) * (y @ y) + (x @ y) ** 2 + fourth) / n
        assert np.var(products) == pytest.approx(expected, rel=0.15)
    assert expected > 9 * 2 / n


def test_the_nearest_in_features_is_within_four_errors_of_the_nearest(digits: Tensor) -> None:
    """F6, at a tolerance that makes the errors matter: neighbours change, and D^2 by at most four of them."""
    database, queries = digits[:200], digits[200:260]
    options = {"data_range": 1.0, "image_shape": (1, 28, 28), "form": "sum", "window": BLOCKS}
    transformer = SSIMFeatures(**options, tolerance=0.3)
    features = torch.from_numpy(transformer.fit_transform(rows(database)))
    squares = torch.cdist(torch.from_numpy(transformer.transform(rows(queries))), features) ** 2 / 2
    exact = pairwise.distance(queries, database, data_range=1.0, form="sum", window=BLOCKS, squared=True)
    excess = exact[torch.arange(60), squares.argmin(1)] - exact.min(1).values
    assert (squares - exact).abs().max() <= 2 * transformer.error_bound_
    assert 0 < excess.max() <= 4 * transformer.error_bound_


def test_rows_are_transformed_one_by_one(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """In chunks or at once, alone or together, fitted on whatever: the same features."""
    X = rows(images)
    transformer = SSIMFeatures(data_range=1.0, image_shape=(1, 28, 28), form="sum", window=BLOCKS).fit(X[:2])
    whole = transformer.transform(X)
    np.testing.assert_allclose(SSIMFeatures(**transformer.get_params()).fit(X).transform(X[3:4]), whole[3:4])
    monkeypatch.setattr("ssimgen.features._CHUNK", 3 * whole.shape[1])
    np.testing.assert_allclose(transformer.transform(X), whole, rtol=1e-12, atol=1e-15)


def test_dtype_and_names(images: Tensor) -> None:
    X = rows(images)[:4].astype(np.float32)
    transformer = SSIMFeatures(data_range=1.0, image_shape=(1, 28, 28), form="centred", window=BLOCKS).fit(X)
    features = transformer.transform(X)
    assert features.dtype == np.float32
    names = transformer.get_feature_names_out()
    assert len(names) == features.shape[1]
    assert names[0] == "ssimfeatures0"


# What is built on them


def test_linear_time_mmd_is_mmd_within_the_bound(digits: Tensor) -> None:
    x, y = digits[:60], 0.8 * digits[60:110]
    transformer = SSIMFeatures(data_range=1.0, image_shape=(1, 28, 28), window=BLOCKS, tolerance=0.01).fit(rows(x))
    embedded = [MeanEmbedding.of(torch.from_numpy(transformer.transform(rows(z)))) for z in (x, y)]
    kernel = SSIM(1.0, BLOCKS)
    for unbiased in (True, False):
        exact = mmd2(kernel(x), kernel(x, y), kernel(y), unbiased=unbiased)
        assert abs(embedded_mmd2(*embedded, unbiased=unbiased) - exact) <= 4 * transformer.error_bound_
    assert exact > 0.01


def test_euclidean_neighbours_are_structural_neighbours(digits: Tensor) -> None:
    database, queries = digits[:200], digits[200:230]
    transformer = SSIMFeatures(data_range=1.0, image_shape=(1, 28, 28), form="sum", window=BLOCKS, tolerance=1e-3)
    features = transformer.fit_transform(rows(database))
    found = NearestNeighbors(n_neighbors=1).fit(features).kneighbors(transformer.transform(rows(queries)))[1][:, 0]
    exact = pairwise.distance(queries, database, data_range=1.0, form="sum", window=BLOCKS, squared=True)
    excess = exact[torch.arange(30), found] - exact.min(1).values
    assert excess.max() <= 2 * transformer.error_bound_
    assert (torch.as_tensor(found) == exact.argmin(1)).double().mean() > 0.9


def test_in_a_pipeline(digits: Tensor) -> None:
    """A linear model of the features is a kernel machine: it separates stripes by direction, at any brightness."""
    stripes = torch.ones(1, 1, 28, 28, dtype=torch.float64)
    stripes[..., ::2] = -1
    random = torch.Generator().manual_seed(0)
    brightness = 0.3 + 0.4 * torch.rand(60, 1, 1, 1, generator=random, dtype=torch.float64)
    label = np.arange(60) % 2
    images = brightness + 0.2 * torch.where(torch.as_tensor(label)[:, None, None, None] == 1, stripes, stripes.mT)
    structure = SSIMFeatures(data_range=1.0, image_shape=(1, 28, 28), form="sum", window=BLOCKS)
    model = make_pipeline(structure, LogisticRegression()).fit(rows(images)[:20], label[:20])
    assert model.score(rows(images)[20:], label[20:]) == 1


# scikit-learn's own checks, and bad input


@pytest.mark.parametrize(
    "options", [{}, {"form": "sum", "n_components": 2, "random_state": 0}], ids=["explicit", "projected"]
)
@pytest.mark.usefixtures("no_shape_checks")
def test_scikit_learn_checks(options: dict) -> None:
    """On vectors, all of them. Images cannot pass: the checks draw rows of many lengths, an image has one.

    Arrays of other libraries are checked only where SciPy's switch for them is set.
    """
    results = check_estimator(SSIMFeatures(data_range=(-1e4, 1e4), **options), on_skip=None)
    assert len(results) > 30
    assert {r["check_name"] for r in results if r["status"] != "passed"} <= {"check_array_api_input"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "data_range has no default: pass 1.0 for values in [0, 1], 255 for bytes, or (lo, hi)"),
        ({"data_range": -1.0}, "data_range must be a positive number"),
        (
            {"data_range": 1.0, "form": "both"},
            "form must be one of 'product', 'sum', 'centred', 'uncentred', got 'both'",
        ),
        ({"data_range": 1.0, "k2": 0.0}, "k2"),
        ({"data_range": 1.0, "tolerance": 0.0}, "tolerance must be a number from 1e-4 to 1, got 0.0: 0.01 is usual"),
        ({"data_range": 1.0, "tolerance": 2.0}, "tolerance must be a number from 1e-4 to 1, got 2.0: 0.01 is usual"),
        (
            {"data_range": 1.0, "window": BLOCKS},
            "window and image_shape go together: pass both for rows that are images",
        ),
        ({"data_range": 1.0, "image_shape": (1, 2, 2)}, "window and image_shape go together"),
        (
            {"data_range": 1.0, "image_shape": (1, 4, 5), "window": BLOCKS},
            "rows of X have 16 pixels, which are no image of image_shape=(1, 4, 5) (channels, height, width)",
        ),
        (
            {"data_range": 1.0, "image_shape": (1, 4, 4), "window": BLOCKS},
            "window of 7 x 7 px does not fit images of 4 x 4",
        ),
        (
            {"data_range": 0.5},
            "X has values in [0.25, 1], outside data_range [0, 0.5], where the error bound does not hold: "
            "clip X or widen data_range",
        ),
        ({"data_range": 1.0, "n_components": 0}, "n_components"),
    ],
)
@pytest.mark.usefixtures("no_shape_checks")
def test_bad_options(options: dict, message: str) -> None:
    X = np.full((3, 16), 0.25)
    X[1, 2] = 1.0
    with pytest.raises(ValueError, match=re.escape(message)):
        SSIMFeatures(**options).fit(X)


def test_bad_rows() -> None:
    transformer = SSIMFeatures(data_range=1.0).fit(np.full((3, 4), 0.5))
    with pytest.raises(ValueError, match="X contains NaN"):
        transformer.transform(np.full((1, 4), np.nan))
    with pytest.raises(ValueError, match=r"X has values in \[-1, -1\], outside data_range \[0, 1\]"):
        transformer.transform(np.full((1, 4), -1.0))
    with pytest.raises(ValueError, match="X has 5 features, but SSIMFeatures is expecting 4 features"):
        transformer.transform(np.full((1, 5), 0.5))
