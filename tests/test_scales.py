"""MS-SSIM: as many scales as fit, against the naive float64 definition, and the product of their terms."""

import numpy as np
import pytest
import skimage.data
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from image_pairs import random_images, tensors
from oracles import ssim as oracle
from ssimgen import Window, ms_ssim, ssim
from ssimgen._scales import WANG_SCALE_WEIGHTS, join_scales

pytestmark = pytest.mark.filterwarnings("ignore::ssimgen.DataRangeWarning")  # some are out of range on purpose


@pytest.mark.parametrize(
    ("side", "scales"),
    [(11, 1), (21, 1), (22, 2), (28, 2), (32, 2), (43, 2), (44, 3), (64, 3), (175, 4), (176, 5), (400, 5)],
)
def test_as_many_scales_as_fit(side: int, scales: int) -> None:
    """The weights are Wang's first ones over their sum; told by giving them explicitly."""
    x, y = tensors(*random_images(1, 1, side, side + 3), dtype=torch.float32)
    kept = WANG_SCALE_WEIGHTS[:scales]
    weights = tuple(w / sum(kept) for w in kept)
    assert torch.equal(ms_ssim(x, y, data_range=1), ms_ssim(x, y, data_range=1, weights=weights))


@pytest.mark.usefixtures("each_engine")
@pytest.mark.parametrize(
    ("height", "width", "window", "scales"),
    [
        (16, 16, Window.gaussian(), 1),
        (28, 28, Window.gaussian(), 2),
        (45, 29, Window.gaussian(5, 1.0), 3),
        (47, 62, Window.uniform(4, stride=2), 4),
    ],
    ids=["16 x 16", "28 x 28", "odd, 5 px", "odd, strided"],
)
@pytest.mark.parametrize("correlated", [True, False])
def test_ms_ssim_and_its_gradients_match_the_definition(
    height: int, width: int, window: Window, scales: int, correlated: bool
) -> None:
    x, y = random_images(2, 2, height, width)
    if not correlated:
        y[0], y[1, 1] = 1 - x[0], 1 - x[1, 1]
    kept = WANG_SCALE_WEIGHTS[:scales]
    options = {"data_range": 1.0, "window": window, "weights": tuple(w / sum(kept) for w in kept)}
    tx, ty = tensors(x, y, grad=True)
    value = ms_ssim(tx, ty, data_range=1.0, window=window)
    np.testing.assert_allclose(value.detach(), oracle.ms_ssim(x, y, **options), rtol=1e-12)
    upstream = np.array([1.0, -0.5])
    gradients = torch.autograd.grad(value @ torch.tensor(upstream), (tx, ty))
    for gradient, expected in zip(gradients, oracle.ms_ssim_gradients(x, y, upstream, **options), strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-8, atol=1e-11 * np.abs(expected).max())


@pytest.mark.usefixtures("each_engine")
@pytest.mark.parametrize("side", [28, 32, 64])
def test_ms_ssim_of_the_sizes_of_generative_models(side: int) -> None:
    x, y = random_images(2, 3, side, side)
    kept = WANG_SCALE_WEIGHTS[: 2 if side < 44 else 3]
    options = {"data_range": 1.0, "window": Window.gaussian(), "weights": tuple(w / sum(kept) for w in kept)}
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
        value = ms_ssim(*tensors(x, y, dtype=dtype), data_range=1.0)
        assert value.dtype == dtype
        np.testing.assert_allclose(value, oracle.ms_ssim(x, y, **options), rtol=0, atol=tolerance)


@pytest.mark.usefixtures("each_engine")
def test_ms_ssim_of_five_scales() -> None:
    """The published weights as they are (sum 1.0001), on 80 x 87 px; the odd side is cut at each halving."""
    x, y = random_images(1, 1, 80, 87)
    options = {"data_range": 1.0, "window": Window.gaussian(5, 1.0), "weights": WANG_SCALE_WEIGHTS}
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
        value = ms_ssim(*tensors(x, y, dtype=dtype), **options)
        np.testing.assert_allclose(value, oracle.ms_ssim(x, y, **options), rtol=0, atol=tolerance)


@pytest.mark.usefixtures("each_engine")
def test_ms_ssim_passes_gradcheck() -> None:
    x, y = tensors(*random_images(1, 1, 4, 5, seed=3), grad=True)
    window = Window.gaussian(2, 0.8)
    for pair in ((x, y), (x, (1 - x).detach().requires_grad_())):  # above and below the floor of the terms
        assert torch.autograd.gradcheck(lambda x, y: ms_ssim(x, y, data_range=1, window=window), pair)
        assert torch.autograd.gradgradcheck(
            lambda x, y: ms_ssim(x, y, data_range=1, window=window), pair, fast_mode=True
        )


def test_one_scale_is_ssim() -> None:
    """At every value, negative ones too."""
    x, y = tensors(*random_images(4, 1, 16, 16))
    y[0], y[1] = 1 - x[0], 0.5 * (y[1] + 1 - x[1])
    torch.testing.assert_close(ms_ssim(x, y, data_range=1), ssim(x, y, data_range=1), rtol=0, atol=1e-14)
    assert ssim(x, y, data_range=1).min() < -0.9


def joined(terms: Tensor, weights: tuple[float, ...]) -> Tensor:
    return 1 - join_scales((1 - terms)[None, None], weights)[0, 0]


FLOOR = 0.01


@st.composite
def scale_terms(draw: st.DrawFn) -> tuple[Tensor, tuple[float, ...]]:
    """Terms in [-1, 1], near the floor and 1 more often, and weights of sum 1."""
    scales = draw(st.integers(1, 5))
    values = st.one_of(st.floats(-1, 1), st.floats(FLOOR - 1e-6, FLOOR + 1e-6), st.floats(0.99, 1), st.just(FLOOR))
    terms = draw(st.lists(values, min_size=scales, max_size=scales))
    parts = draw(st.lists(st.floats(0.01, 1), min_size=scales, max_size=scales))
    return torch.tensor(terms, dtype=torch.float64, requires_grad=True), tuple(p / sum(parts) for p in parts)


@given(scale_terms())
def test_the_product_of_scales_is_the_published_one_above_the_floor(drawn: tuple[Tensor, tuple[float, ...]]) -> None:
    """Wang, Simoncelli, Bovik (2003), Eq. 7."""
    terms, weights = drawn
    terms = terms.detach().abs().clamp_min(FLOOR)
    expected = np.prod([t**w for t, w in zip(terms.tolist(), weights, strict=True)])
    assert joined(terms, weights).item() == pytest.approx(expected, abs=1e-13)


@given(scale_terms())
def test_the_product_of_scales_is_bounded_with_bounded_slopes_and_no_dead_zone(
    drawn: tuple[Tensor, tuple[float, ...]],
) -> None:
    """The value is in [-1, 1]; d/dt_j is w_j below the floor f, and in (0, w_j f^(w_j - 1)], so below 8, above it."""
    terms, weights = drawn
    value = joined(terms, weights)
    assert -1 - 1e-12 <= value <= 1
    (slopes,) = torch.autograd.grad(value, terms)
    for t, w, slope in zip(terms.tolist(), weights, slopes.tolist(), strict=True):
        if t < FLOOR - 1e-12:
            assert slope == pytest.approx(w, rel=1e-9)
        elif t > FLOOR + 1e-12:
            assert w * FLOOR ** (1 - w) * (1 - 1e-9) <= slope <= w * FLOOR ** (w - 1) * (1 + 1e-9) < 8


@given(scale_terms(), st.floats(-1, 1))
def test_the_product_of_equal_terms_is_their_value(drawn: tuple[Tensor, tuple[float, ...]], t: float) -> None:
    terms, weights = drawn
    assert joined(torch.full_like(terms, t), weights).item() == pytest.approx(t, abs=1e-12)


@given(scale_terms(), st.integers(0, 4), st.floats(0, 0.5))
def test_the_product_of_scales_increases_with_each_term(
    drawn: tuple[Tensor, tuple[float, ...]], index: int, rise: float
) -> None:
    terms, weights = drawn
    higher = terms.detach().clone()
    higher[index % len(weights)] += rise
    assert joined(higher, weights) >= joined(terms, weights) - 1e-13
    assert joined(higher, weights) - joined(terms, weights) <= 8 * rise + 1e-13  # so it is continuous


def test_ms_ssim_leads_out_of_anti_correlation() -> None:
    """From the negative of a photograph, plain gradient descent on 1 - MS-SSIM arrives at the photograph.

    Clamping negative terms at 0 leaves no gradient there at all.
    """
    photograph = torch.tensor(skimage.data.camera()[200:264, 300:364] / 255, dtype=torch.float32)[None, None]
    start = 1 - photograph
    x = start.clone().requires_grad_()
    assert ms_ssim(x, photograph, data_range=1).item() < -0.7
    for _ in range(60):
        (gradient,) = torch.autograd.grad(1 - ms_ssim(x, photograph, data_range=1).sum(), x)
        assert gradient.isfinite().all()
        with torch.no_grad():
            x -= 30 * gradient
    assert ms_ssim(x, photograph, data_range=1).item() > 0.85


def test_ms_ssim_keeps_the_gradient_of_ssim_where_images_are_anti_correlated() -> None:
    x = torch.tensor(random_images(1, 1, 64, 64)[0], requires_grad=True)
    y = 1 - x.detach()
    (structural,) = torch.autograd.grad(ssim(x, y, data_range=1).sum(), x)
    (multiscale,) = torch.autograd.grad(ms_ssim(x, y, data_range=1).sum(), x)
    assert 0.1 < float(multiscale.norm() / structural.norm()) < 10
