"""Luminance, contrast and structure of image pairs, and their products with exponents (Wang et al. 2004, Eq. 12)."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

import ssimgen
from image_pairs import random_images, tensors
from oracles.ssim import STEP, statistics
from ssimgen import Window, components, ssim_map

WINDOWS = [Window.gaussian(5, 1.5), Window.gaussian(4, 1.0, stride=3), Window.uniform(3, 4, unbiased=True)]
each_window = pytest.mark.parametrize("window", WINDOWS, ids=["gaussian", "stride", "gaps"])


def definition(
    x: np.ndarray, y: np.ndarray, window: Window, *, data_range: Any = 1.0, k1: float = 0.01, k2: float = 0.03
) -> list[np.ndarray]:
    """The components as the paper prints them, in float64 or complex numbers."""
    lo, hi = data_range if isinstance(data_range, tuple) else (0, data_range)
    length, side = hi - lo, (window.size, window.size)
    a, b = (
        sliding_window_view(z - lo, side, axis=(-2, -1))[..., :: window.stride, :: window.stride, :, :] for z in (x, y)
    )
    mu_x, mu_y, var_x, var_y, cov = statistics(a, b, np.outer(window.taps, window.taps), window.beta)
    c1, c2 = (k1 * length) ** 2, (k2 * length) ** 2
    c3, root = c2 / 2, np.sqrt(var_x) * np.sqrt(var_y)
    return [
        (2 * mu_x * mu_y + c1) / (mu_x**2 + mu_y**2 + c1),  # Eq. 6
        (2 * root + c2) / (var_x + var_y + c2),  # Eq. 9
        (cov + c3) / (root + c3),  # Eq. 10
    ]


def alike(*shape: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A pair whose structure is positive in every window."""
    x, noise = np.random.default_rng(seed).random((2, *shape))
    return x, 0.1 + 0.7 * x + 0.1 * noise


@each_window
@pytest.mark.parametrize("data_range", [1.0, (-2.0, 3.0)])
def test_maps_are_those_of_the_definition(window: Window, data_range: Any) -> None:
    x, y = random_images(2, 3, 13, 14)
    found = components.maps(*tensors(x, y), data_range=data_range, window=window, k1=0.02, k2=0.05)
    expected = definition(x, y, window, data_range=data_range, k1=0.02, k2=0.05)
    for name, part, exact in zip(components.PARTS, found, expected, strict=True):
        assert getattr(found, name) is part
        np.testing.assert_allclose(part, exact, rtol=0, atol=1e-13)


@each_window
@pytest.mark.parametrize("exponents", [(1, 1, 1), (0.5, 0.3, 0.7), (2, 1.5, 3), (0, 1, 0.5)], ids=str)
def test_powers_and_their_gradients_match_the_definition(exponents: tuple[float, ...], window: Window) -> None:
    """Eq. 12 where structure is not below 0.01, its gradient by a complex step of each pixel."""
    x, y = alike(1, 1, 9, 10)
    options: Any = dict(zip(("alpha", "beta", "gamma"), exponents, strict=True))

    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        parts = definition(a, b, window)
        assert parts[2].real.min() > 0.02
        return np.prod([part**exponent for part, exponent in zip(parts, exponents, strict=True)], 0)

    leaves = tensors(x, y, grad=True)
    value = components.ssim_map(*leaves, data_range=1.0, window=window, **options)
    np.testing.assert_allclose(value.detach(), product(x, y), rtol=0, atol=1e-13)
    gradients = torch.autograd.grad(value.sum(), leaves)
    for position, gradient in enumerate(gradients):
        exact = np.zeros(x.shape)
        for place in np.ndindex(x.shape):
            moved = [x.astype(complex), y.astype(complex)]
            moved[position][place] += 1j * STEP
            exact[place] = product(*moved).sum().imag / STEP
        np.testing.assert_allclose(gradient, exact, rtol=0, atol=1e-11 * np.abs(exact).max())


def test_second_derivatives() -> None:
    x, y = tensors(*random_images(1, 1, 5, 5), grad=True)

    def value(a: Tensor, b: Tensor) -> Tensor:
        return components.ssim(a, b, data_range=1.0, window=WINDOWS[0], alpha=0.5, beta=2.0, gamma=0.7)

    assert torch.autograd.gradcheck(value, (x, y))
    assert torch.autograd.gradgradcheck(value, (x, y))


@each_window
@pytest.mark.parametrize("scale", [1.0, 1e-3, 255.0])
def test_their_product_is_ssim(window: Window, scale: float) -> None:
    x, y = tensors(*(scale * z for z in random_images(2, 2, 20, 20)))
    options: Any = {"data_range": scale, "window": window}
    expected = ssim_map(x, y, **options)
    parts = components.maps(x, y, **options)
    torch.testing.assert_close(parts.luminance * parts.contrast * parts.structure, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(components.ssim_map(x, y, **options), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(components.ssim(x, y, **options), expected.mean((1, 2, 3)), rtol=0, atol=1e-12)


def test_an_exponent_of_zero_leaves_one_out() -> None:
    x, y = tensors(*random_images(1, 1, 16, 16))
    parts = components.maps(x, y, data_range=1.0)
    for left, name in zip(components.PARTS, ("alpha", "beta", "gamma"), strict=True):
        others: Any = {z: 0.0 for z in ("alpha", "beta", "gamma") if z != name}
        torch.testing.assert_close(components.ssim_map(x, y, data_range=1.0, **others), getattr(parts, left))
    ones = components.ssim_map(x, y, data_range=1.0, alpha=0, beta=0, gamma=0)
    assert torch.equal(ones, torch.ones_like(ones))


FLAT, NOISE = np.full((1, 1, 16, 16), 0.4), np.random.default_rng(0).random((1, 1, 16, 16))
HARD = {
    "equal": (NOISE, NOISE),
    "negative": (NOISE, 1 - NOISE),
    "both flat": (FLAT, FLAT + 0.2),
    "one flat": (FLAT, NOISE),
    "black and white": (0 * FLAT, 0 * FLAT + 1),
    "nearly flat": (FLAT + 1e-9 * NOISE, NOISE),
    "nearly equal": (NOISE, NOISE + 1e-9 * NOISE[..., ::-1]),
    "huge": (1e12 * NOISE, -1e12 * NOISE[..., ::-1]),
    "far below": (NOISE - 5, NOISE),
    "huge and flat": (1e12 * FLAT, FLAT),
    "denormal": (1e-310 * NOISE, NOISE),
}


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("exponents", [(1, 1, 1), (0.2, 0.2, 0.2), (0.05, 3, 2), (7, 0.01, 0.5)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_are_bounded_and_gradients_finite(name: str, exponents: tuple[float, ...], dtype: torch.dtype) -> None:
    warnings.simplefilter("ignore", ssimgen.DataRangeWarning)
    leaves = tensors(*HARD[name], dtype=dtype, grad=True)
    options: Any = dict(zip(("alpha", "beta", "gamma"), exponents, strict=True))
    value = components.ssim_map(*leaves, data_range=1.0, **options)
    assert value.abs().max() <= 1
    for gradient in torch.autograd.grad(value.sum(), leaves):
        assert gradient.isfinite().all()
    if name == "equal":
        assert torch.equal(value, torch.ones_like(value))
        assert gradient.abs().max() < 1e-9 if dtype == torch.float64 else 1e-6


def test_parts_are_bounded() -> None:
    warnings.simplefilter("ignore", ssimgen.DataRangeWarning)
    for x, y in HARD.values():
        luminance, contrast, structure = components.maps(*tensors(x, y), data_range=1.0)
        assert luminance.abs().max() <= 1
        assert 0 <= contrast.min() <= contrast.max() <= 1
        assert -1 < structure.min() <= structure.max() <= 1


def test_the_slope_at_a_flat_patch_is_that_along_its_contrast() -> None:
    """Towards contrast the derivative of sigma is one-sided: taken as 0, as for |t| at 0."""
    x, y = tensors(FLAT, NOISE, grad=True)
    contrast = components.maps(x, y, data_range=1.0).contrast
    (gradient,) = torch.autograd.grad(contrast.sum(), x)
    assert not gradient.any()


@pytest.mark.parametrize("gamma", [0.1, 0.5, 1.0, 2.0, 3.0])
def test_the_power_of_structure_increases_and_is_continuous(gamma: float) -> None:
    """From -1 at -1, without a jump at 0.01; for an even power too, where a plain one would turn back."""
    structure = torch.linspace(-1, 1, 20001, dtype=torch.float64)
    power = components.pairs._power(structure, gamma, 0.01)
    steps = power.diff()
    assert power[0].item() == pytest.approx(-1, abs=1e-12)
    assert power[-1].item() == 1
    assert steps.min() > 0
    assert steps.max() < 1e-4 * max(gamma * 0.01 ** (gamma - 1), gamma, 1.1) * 1.01
    assert torch.equal(power[structure >= 0.01], structure[structure >= 0.01] ** gamma)


def test_the_least_values_of_images_in_their_range() -> None:
    """Where powers of luminance and contrast end being those of Eq. 12: black and white; flat and half-planes."""
    black, white = tensors(0 * FLAT, 0 * FLAT + 1)
    luminance = components.maps(black, white, data_range=1.0).luminance.min().item()
    assert luminance == pytest.approx(0.01**2 / (1 + 0.01**2), rel=1e-9)
    value = components.ssim_map(black, white, data_range=1.0, alpha=0.3, gamma=0.0)
    assert value.max().item() == pytest.approx(luminance**0.3, rel=1e-9)
    stripes = torch.arange(16, dtype=torch.float64).remainder(2).expand(1, 1, 16, 16)
    window = Window.uniform(4)
    contrast = components.maps(black, stripes, data_range=1.0, window=window).contrast.min().item()
    assert contrast == pytest.approx(0.03**2 / (0.03**2 + 0.25), rel=1e-9)


def test_single_precision_and_half() -> None:
    x, y = random_images(2, 3, 24, 24)
    exact = components.ssim(*tensors(x, y), data_range=1.0, alpha=0.5, gamma=0.7)
    single = components.ssim(*tensors(x, y, dtype=torch.float32), data_range=1.0, alpha=0.5, gamma=0.7)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=0, atol=1e-6)
    half, wide = tensors(x, dtype=torch.bfloat16)[0], tensors(y, dtype=torch.float32)[0]
    with torch.autocast("cpu", torch.bfloat16):
        parts = components.maps(half, wide, data_range=1.0)
    for part, expected in zip(parts, components.maps(half.float(), wide, data_range=1.0), strict=True):
        assert torch.equal(part, expected)


def test_a_range_for_each_image() -> None:
    x, y = tensors(*random_images(2, 1, 16, 16))
    ranges = torch.tensor([1.0, 3.0])
    value = components.ssim(x, y, data_range=ranges, gamma=0.5)
    alone = [components.ssim(x[[i]], y[[i]], data_range=ranges[i], gamma=0.5) for i in (0, 1)]
    torch.testing.assert_close(value, torch.cat(alone), rtol=0, atol=1e-12)


def test_not_a_number_stays_in_its_windows() -> None:
    x, y = tensors(*random_images(1, 1, 16, 16))
    x[..., 0, 0] = torch.nan
    value = components.ssim_map(x, y, data_range=1.0, window=WINDOWS[0], gamma=0.5)
    assert value[0, 0, 0, 0].isnan()
    assert value.isnan().sum() == 1


@pytest.mark.parametrize("bad", [-0.5, float("nan"), float("inf"), "1", None, True], ids=repr)
@pytest.mark.parametrize("name", ["alpha", "beta", "gamma"])
@pytest.mark.usefixtures("no_shape_checks")
def test_exponents_are_numbers(name: str, bad: Any) -> None:
    x = torch.zeros(1, 1, 16, 16)
    for function in (components.ssim, components.ssim_map):
        with pytest.raises(ValueError, match=rf"^{name} must be a number >= 0, got {bad!r}: 1 is SSIM, 0 leaves"):
            function(x, x, data_range=1.0, **{name: bad})


@pytest.mark.usefixtures("no_shape_checks")
def test_images_are_checked_as_everywhere() -> None:
    x = torch.zeros(1, 1, 16, 16)
    for function in (components.maps, components.ssim, components.ssim_map):
        with pytest.raises(TypeError, match="x must be a floating-point tensor"):
            function(x.byte(), x, data_range=1.0)
        with pytest.raises(ValueError, match="window of 11 x 11 px does not fit"):
            function(x[..., :5], x[..., :5], data_range=1.0)
        with pytest.warns(ssimgen.DataRangeWarning):
            function(x + 255, x, data_range=1.0)
        ssimgen._range_check._warned = False
