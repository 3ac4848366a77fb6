"""Distances over an image pyramid, with pixels and colours: values and gradients, what is proved of them, bad input."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from image_pairs import random_images, tensors
from oracles import pyramid as oracle
from ssimgen import Window, arrays, distance, pairwise
from ssimgen.discrepancy import energy_distance
from ssimgen.kernels import DistanceInduced, Gaussian, Laplacian, centred_gram
from ssimgen.losses import StructuralDistanceLoss
from ssimgen.metrics import StructuralDistance
from ssimgen.objectives.structure import PYRAMID
from ssimgen.torchmetrics import StructuralDistanceMetric

pytestmark = pytest.mark.filterwarnings("ignore::ssimgen.DataRangeWarning")  # some are out of range on purpose

MIRRORED = Window.uniform(3, padding="reflect")
CASES: dict[str, dict[str, Any]] = {
    "scales": {"scales": 2, "window": Window.gaussian(3, 1.0)},
    "constants of each": {"scales": 3, "window": MIRRORED, "k1": (0.1, 0.2, 0.3), "k2": (0.3, 0.2, 0.1)},
    "pixels": {"scales": 2, "window": MIRRORED, "pixels": 0.7, "data_range": (-1.0, 3.0), "form": "product"},
    "colours": {"scales": 2, "window": MIRRORED, "chroma": 0.4, "pixels": 1.0, "data_range": (0.1, 1.1), "k1": 0.1},
    "sums": {"scales": 2, "window": Window.uniform(2, 2, padding="symmetric"), "norm": "frobenius", "pixels": 0.2},
}
each_case = pytest.mark.parametrize("options", CASES.values(), ids=CASES)


def pairs(n: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """In colour, of odd sides."""
    return random_images(n, 3, 9, 10, seed=seed)


def full(options: dict[str, Any]) -> dict[str, Any]:
    return {"data_range": 1.0, **options}


@pytest.mark.usefixtures("each_engine")
@each_case
def test_values_and_gradients_of_pairs_are_those_of_the_definition(options: dict[str, Any]) -> None:
    x, y = pairs()
    tx, ty = tensors(x, y, grad=True)
    value = distance(tx, ty, squared=True, **full(options))
    np.testing.assert_allclose(value.detach(), oracle.squared(x, y, **options), rtol=1e-12)
    upstream = np.array([1.0, -0.5])
    found = torch.autograd.grad(value @ torch.tensor(upstream), (tx, ty))
    for gradient, expected in zip(found, oracle.gradients(x, y, upstream, **options), strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-12 * np.abs(expected).max())


@pytest.mark.usefixtures("each_engine")
@each_case
def test_values_and_gradients_of_all_pairs_are_those_of_pairs(options: dict[str, Any]) -> None:
    x, y = pairs(2)
    tx, ty = tensors(x, y, grad=True)
    value = pairwise.distance(tx, ty, squared=True, **full(options))
    np.testing.assert_allclose(value.detach(), oracle.pairwise(x, y, **options), rtol=1e-9)
    upstream = torch.tensor([[1.0, -0.5], [-0.7, 2.0]], dtype=torch.float64)
    of_pairs = sum(
        upstream[i, j] * distance(tx[i : i + 1], ty[j : j + 1], squared=True, **full(options))[0]
        for i in range(2)
        for j in range(2)
    )
    expected = torch.autograd.grad(of_pairs, (tx, ty))
    for found, gradient in zip(torch.autograd.grad((value * upstream).sum(), (tx, ty)), expected, strict=True):
        torch.testing.assert_close(found, gradient, rtol=1e-7, atol=1e-10)


@each_case
def test_metric_and_loss_are_the_functions(options: dict[str, Any]) -> None:
    x, y = tensors(*pairs())
    metric, loss = StructuralDistance(**full(options)), StructuralDistanceLoss(**full(options), reduction="none")
    assert torch.equal(metric(x, y), pairwise.distance(x, y, **full(options)))
    assert torch.equal(loss(x, y), distance(x, y, squared=True, **full(options)))
    assert metric == StructuralDistance(**full(options))
    assert metric != StructuralDistance(**full(options) | {"pixels": 3.0})


@pytest.mark.usefixtures("eager_engine")
@pytest.mark.parametrize(("channels", "chroma"), [(1, None), (3, 0.4)])
@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("function", [distance, pairwise.distance], ids=["pairs", "all pairs"])
def test_second_derivatives(function: Any, squared: bool, channels: int, chroma: float | None) -> None:
    """Along lines of images, as gradients are those of the definition."""
    x, y = tensors(*random_images(2, channels, 4, 4, seed=2))
    along = tensors(*random_images(2, channels, 4, 4, seed=3))
    options: dict[str, Any] = {"data_range": 1.0, "window": Window.uniform(2), "scales": 2, "pixels": 1.0}

    def value(t: Tensor, u: Tensor) -> Tensor:
        a, b = (z + s[:, None, None, None] * slope for z, s, slope in zip((x, y), (t, u), along, strict=True))
        return function(a, b, squared=squared, k1=0.3, k2=0.3, chroma=chroma, **options)

    at = [torch.tensor(values, dtype=torch.float64, requires_grad=True) for values in ([0.3, -0.2], [0.1, 0.4])]
    assert torch.autograd.gradgradcheck(value, at)


def test_all_pairs_under_vmap_and_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sums of absolute differences in blocks of one pair, of which those below the diagonal are not computed."""
    x, y = tensors(*random_images(5, 1, 6, 6), grad=True)
    options: dict[str, Any] = {"data_range": 1.0, "window": MIRRORED, "pixels": 1.0, "scales": 2}
    whole, own = pairwise.distance(x, y, **options), pairwise.distance(x, **options)
    mapped = torch.func.vmap(lambda z: pairwise.distance(z[None], y, **options)[0])(x)
    torch.testing.assert_close(mapped, whole, rtol=1e-10, atol=1e-12)
    gradients = torch.autograd.grad(whole.sum() + own.sum(), (x, y))
    monkeypatch.setattr("ssimgen.engine.absolute._BLOCK", 40)
    again, itself = pairwise.distance(x, y, **options), pairwise.distance(x, **options)
    torch.testing.assert_close(again, whole, rtol=0, atol=0)
    assert torch.equal(itself, itself.T)
    for found, expected in zip(torch.autograd.grad(again.sum() + itself.sum(), (x, y)), gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


# --- what is proved (docs/kernels.md, F11) ------------------------------------------------------------------------


def nasty(channels: int = 1, side: int = 12) -> Tensor:
    """Flat, black, bright, negative, nearly equal and one-pixel images, and noise."""
    noise = torch.rand(6, channels, side, side, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    flat = torch.full_like(noise[:1], 0.5)
    point = torch.zeros_like(flat)
    point[..., 0, -1] = 1.0
    near = noise[:1] + 1e-9 * noise[1:2]
    return torch.cat([noise, near, -noise[:2], 3 + noise[2:3], 1e-3 * noise[:1], flat, 0 * flat, point, 1 - point])


METRICS: dict[str, dict[str, Any]] = {
    "pyramid": {"window": Window.uniform(5, padding="reflect"), "k1": 0.1, "k2": 0.1, "scales": 3, "pixels": 1.0},
    "chroma": {"window": Window.uniform(4, 2, padding="symmetric"), "form": "product", "scales": 2, "chroma": 0.3},
    "sums": {"window": Window.gaussian(3, 1.0), "form": "centred", "scales": None, "pixels": 1e-3, "norm": "frobenius"},
    "usual constants": {"window": Window.gaussian(3, 1.0), "form": "uncentred", "scales": 2, "pixels": 10.0},
}
each_metric = pytest.mark.parametrize("options", METRICS.values(), ids=METRICS)


@each_metric
@pytest.mark.parametrize("side", [12, 13])
def test_it_is_a_hilbertian_metric(options: dict[str, Any], side: int) -> None:
    """Of even and of odd sides: the triangle inequality, and positive semidefinite matrices of all kernels."""
    metric, x = StructuralDistance(1.0, **options), nasty(3, side)
    d, square = metric(x), metric.squared(x)
    assert metric.hilbertian
    assert (d[:, None, :] <= d[:, :, None] + d[None, :, :] + 1e-12).all()
    median = d.median().item()
    grams = [
        centred_gram(d),
        centred_gram(square),
        Gaussian(metric, (0.1 * median, median))(x),
        Laplacian(metric, (median,))(x),
        DistanceInduced(metric, x[:1])(x),
    ]
    for gram in grams:
        eigenvalues = torch.linalg.eigvalsh(gram)
        assert eigenvalues.min() > -1e-12 * eigenvalues.max()
    off_diagonal = square + torch.eye(len(x), dtype=torch.float64)
    assert off_diagonal.min() > 0  # it separates images, nearly equal ones too


def test_what_an_odd_last_row_counts() -> None:
    """It is not seen at coarser scales, and so by their mean half as much; the term of pixels sees it as any other."""
    x = torch.rand(1, 1, 13, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = x.clone()
    y[..., -1, :] += 0.1
    one, two = (distance(x, y, data_range=1.0, squared=True, window=MIRRORED, scales=s) for s in (1, 2))
    torch.testing.assert_close(two, one / 2)
    with_pixels = distance(x, y, data_range=1.0, squared=True, window=MIRRORED, scales=2, pixels=2.0)
    torch.testing.assert_close(with_pixels, two + 2 * 0.1 / 13)
    blind = StructuralDistance(1.0, "centred", window=MIRRORED, scales=2)
    assert blind(x, x + 0.1).item() < 1e-7  # the form that does not see brightness sees it at no scale


def test_pixels_count_as_parts_of_the_range() -> None:
    x, y = torch.rand(2, 3, 2, 13, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    options = {"squared": True, "window": MIRRORED, "scales": 2, "pixels": 2.0}
    for function in (distance, pairwise.distance):
        expected = function(x, y, data_range=1.0, **options)
        torch.testing.assert_close(function(255 * x, 255 * y, data_range=255.0, **options), expected)


@pytest.mark.parametrize("window", [Window.uniform(4), Window.uniform(6, stride=3, padding="reflect")], ids=str)
def test_its_square_has_a_blind_pair_and_it_has_none(window: Window) -> None:
    """Stripes of one row, with the signs of all columns equal or not: flat at coarser scales, and pixel by pixel of one
    distribution. P^2, SSIM as kernel and pixels together, does not tell them apart; P and exp(-P^2) do."""
    rows = torch.tensor([1.0, -1.0]).double().repeat(8)[:, None].expand(16, 16)
    signs = torch.where(torch.arange(16) % 3 == 0, -1.0, 1.0).double()
    x, y = (torch.stack([0.5 + 0.3 * z, 0.5 - 0.3 * z])[:, None] for z in (rows, rows * signs))
    metric = StructuralDistance(1.0, window=window, scales=2, pixels=1.0)
    square = energy_distance(metric.squared(x), metric.squared(x, y), metric.squared(y), unbiased=False)
    plain = energy_distance(metric(x), metric(x, y), metric(y), unbiased=False)
    assert abs(square.item()) < 1e-12
    assert plain.item() > 0.1


# --- edges of what can come -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("each_engine")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_images_have_distance_and_gradient_zero(dtype: torch.dtype) -> None:
    x = nasty(3, 12).to(dtype).requires_grad_()
    options: dict[str, Any] = {"data_range": 1.0, "window": MIRRORED, "scales": 3, "pixels": 1.0, "chroma": 0.5}
    for squared in (True, False):
        value = distance(x, x.detach().clone(), squared=squared, **options)
        own = pairwise.distance(x, squared=squared, **options).diagonal()
        assert (value == 0).all()
        assert (own == 0).all()
        (gradient,) = torch.autograd.grad(value.sum() + own.sum(), x)
        assert (gradient == 0).all()


@pytest.mark.usefixtures("each_engine")
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_narrow_numbers(dtype: torch.dtype) -> None:
    """Also of pixels whose sums they could not hold, and of two dtypes."""
    options: dict[str, Any] = {"squared": True, "window": MIRRORED, "scales": 3, "pixels": 1.0}
    for length in (1.0, 3e4):
        x, y = tensors(*random_images(2, 2, 12, 12, hi=length), dtype=dtype)
        wide = distance(x.double(), y.double(), data_range=length, **options)
        torch.testing.assert_close(distance(x, y, data_range=length, **options), wide.float())
        matrix = pairwise.distance(x, y.double(), data_range=length, **options)
        torch.testing.assert_close(matrix.diagonal(), wide)
    huge = 2e38 * torch.ones(1, 1, 12, 12)
    assert distance(huge, huge / 2, data_range=1.0, squared=True, window=MIRRORED, scales=3).isfinite().all()
    assert distance(huge.double(), -huge.double(), data_range=1.0, **options).isfinite().all()


@pytest.mark.usefixtures("each_engine")
def test_an_image_that_holds_nan_is_like_none_and_leaves_others_alone() -> None:
    x = nasty(3, 12)
    metric = StructuralDistance(1.0, window=MIRRORED, scales=2, pixels=1.0, chroma=1.0)
    expected = metric(x)
    x[2, 1, 4, 4] = torch.nan
    found, kept = metric(x), [i for i in range(len(x)) if i != 2]
    assert found[2].isnan().all()
    torch.testing.assert_close(found[kept][:, kept], expected[kept][:, kept], rtol=1e-12, atol=1e-12)
    value = distance(x, 1 - x, data_range=1.0, window=MIRRORED, scales=2, pixels=1.0)
    assert value.isnan().nonzero().flatten().tolist() == [2]


@pytest.mark.usefixtures("each_engine")
@pytest.mark.parametrize("norm", ["rms", "frobenius"])
def test_masks(norm: str) -> None:
    """A mask of ones is none; what is hidden touches nothing; weights are those of pixels."""
    x, y = tensors(*random_images(3, 3, 12, 13))
    options: dict[str, Any] = {"data_range": 1.0, "window": MIRRORED, "scales": 2, "pixels": 1.0, "chroma": 0.5}
    options |= {"norm": norm, "squared": True}
    ones = distance(x, y, mask=torch.full((12, 13), 1.0 - 1e-15, dtype=torch.float64), **options)
    torch.testing.assert_close(ones, distance(x, y, **options))
    mask = torch.rand(12, 13, dtype=torch.float64) * (torch.rand(12, 13) > 0.3)
    expected = distance(x, y, mask=mask, **options)
    hidden = torch.where(mask > 0, x, torch.nan).requires_grad_()
    found = distance(hidden, y, mask=mask, **options)
    torch.testing.assert_close(found, expected)
    assert torch.autograd.grad(found.sum(), hidden)[0].isfinite().all()
    torch.testing.assert_close(pairwise.distance(hidden, y, mask=mask, **options).diagonal(), expected)
    own = pairwise.distance(hidden, mask=mask, **options)
    assert torch.equal(own, own.T)
    both = [distance(x, y, mask=mask, **options | {"pixels": p}) for p in (1.0, 0.0)]
    shown = ((x - y).abs() * mask).sum((1, 2, 3))
    torch.testing.assert_close(both[0] - both[1], shown if norm == "frobenius" else shown / (3 * mask.sum()))


def test_a_range_of_each_image() -> None:
    x, y = tensors(*random_images(2, 1, 12, 12))
    options: dict[str, Any] = {"window": MIRRORED, "scales": 2, "pixels": 1.0, "squared": True}
    lengths = torch.tensor([1.0, 4.0], dtype=torch.float64)
    found = distance(x, y, data_range=lengths, **options)
    for i, length in enumerate(lengths.tolist()):
        one = distance(x[i : i + 1], y[i : i + 1], data_range=length, **options)
        torch.testing.assert_close(found[i : i + 1], one)


def test_grey_has_no_chroma_and_colours_count_by_its_factor() -> None:
    x, y = tensors(*random_images(2, 1, 12, 12))
    options: dict[str, Any] = {"data_range": 1.0, "squared": True, "window": MIRRORED, "scales": 2}
    grey = distance(x, y, **options) / 3  # a third of the planes
    torch.testing.assert_close(distance(x.expand(-1, 3, -1, -1), y.expand(-1, 3, -1, -1), chroma=0.5, **options), grey)
    tinted = y + torch.tensor([0.1, 0.0, -0.1]).double()[:, None, None]
    y = y.expand(-1, 3, -1, -1)
    little, much = (distance(y, tinted, chroma=c, **options) for c in (0.1, 1.0))
    assert (little < much).all()


@pytest.mark.parametrize(("side", "scales"), [(5, 1), (6, 2), (12, 3), (23, 3), (24, 4), (96, 5)])
def test_as_many_scales_as_fit(side: int, scales: int) -> None:
    x, y = tensors(*random_images(1, 1, side, side), dtype=torch.float32)
    options: dict[str, Any] = {"data_range": 1.0, "window": Window.uniform(3)}
    assert torch.equal(distance(x, y, scales=None, **options), distance(x, y, scales=scales, **options))


def test_volumes_and_signals() -> None:
    """Scales of volumes halve the axes that the window joins, and of signals their length."""
    x, y = tensors(*random_images(1, 1, 6, 8, 8))
    window = Window.uniform((1, 3, 3))
    folded = distance(
        x[0, 0][:, None], y[0, 0][:, None], data_range=1.0, window=Window.uniform(3), scales=2, squared=True
    )
    found = distance(x, y, data_range=1.0, window=window, scales=2, squared=True)
    torch.testing.assert_close(found, folded.mean()[None])
    signal = distance(x[:, :, 0, 0], y[:, :, 0, 0], data_range=1.0, window=Window.uniform((3,)), scales=2, pixels=1.0)
    assert signal.shape == (1,)


def test_progress_over_scales_comes_to_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    x, _ = tensors(*random_images(4, 1, 12, 12))
    pairwise.distance(x, data_range=1.0, window=MIRRORED, scales=2, pixels=1.0, progress=True)
    assert "100%" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": 0}, "scales must be a whole number of scales, at least 1, got 0"),
        (
            {"scales": 3},
            "scales=3, but 2 fit images of 9 x 10 px with a window of 3 x 3 px: pass scales=2 or less, a smaller "
            "window, or larger images",
        ),
        (
            {"scales": 2, "k1": (0.1, 0.2, 0.3)},
            "k1 must be one number, or one for each of scales=2, got 3: pass scales=3, or one number",
        ),
        (
            {"scales": 2, "k2": (0.1, 0.0)},
            "k2 must be a positive number, got 0.0: the usual values are k1=0.01, k2=0.03",
        ),
        ({"pixels": -1}, "pixels must be a number of at least 0, the weight of mean |x - y| / l, got -1"),
        (
            {"chroma": 0},
            "chroma must be a positive number, by which chroma is multiplied, got 0: None leaves colours as they are",
        ),
        (
            {"chroma": 0.5},
            "chroma is of images with the channels red, green and blue, got 2 channel(s): leave it out, chroma=None",
        ),
    ],
)
@pytest.mark.usefixtures("no_shape_checks")
def test_bad_options(options: dict[str, Any], message: str) -> None:
    x, y = tensors(*random_images(2, 2, 9, 10))
    for function in (distance, pairwise.distance):
        with pytest.raises(ValueError, match=re.escape(message)):
            function(x, y, data_range=1.0, window=Window.uniform(3), **options)


def test_a_mask_hides_all_channels_of_a_colour() -> None:
    x, y = tensors(*random_images(2, 3, 12, 12))
    mask = torch.ones(3, 12, 12)
    mask[1, 3, 3] = 0
    with pytest.raises(ValueError, match="chroma joins the channels of a pixel, which mask must hide together"):
        distance(x, y, data_range=1.0, window=MIRRORED, chroma=1.0, mask=mask)


def test_the_distance_to_train_with_is_its_formula() -> None:
    x, y = tensors(*random_images(2, 3, 32, 32))
    window = Window.uniform(5, padding="reflect")
    parts = [
        distance(a, b, data_range=1.0, squared=True, window=window, k1=0.1, k2=0.1)
        for a, b in zip(
            (x, *(torch.nn.functional.avg_pool2d(x, n) for n in (2, 4))),
            (y, *(torch.nn.functional.avg_pool2d(y, n) for n in (2, 4))),
            strict=True,
        )
    ]
    expected = sum(parts) / 3 + (x - y).abs().mean((1, 2, 3))
    torch.testing.assert_close(PYRAMID.squared_distance(x, y), expected)
    torch.testing.assert_close(PYRAMID.metric().squared(x, y).diagonal(), expected)


def test_arrays_and_torchmetrics_take_the_same() -> None:
    x, y = random_images(2, 3, 12, 12)
    options: dict[str, Any] = {"data_range": 1.0, "window": MIRRORED, "scales": 2, "pixels": 1.0, "chroma": 0.5}
    expected = distance(*tensors(x, y), k1=(0.1, 0.2), **options)
    found = arrays.distance(x, y, batch_axis=0, channel_axis=1, k1=(0.1, 0.2), **options)
    np.testing.assert_array_equal(found, expected)
    metric = StructuralDistanceMetric(k1=(0.1, 0.2), **options).set_dtype(torch.float64)
    metric.update(*tensors(x, y))
    torch.testing.assert_close(metric.compute(), expected.mean())
