"""The oracle of the fuzzer against rational arithmetic, which rounds nothing, and against the printed formulas."""

from fractions import Fraction

import numpy as np
import pytest

from oracles import axes, exact
from oracles import ssim as printed
from ssimgen import Window
from ssimgen._request import FORMS

STEP = Fraction(1, 2**1400)  # so small that the square of it is nothing beside a denormal slope


def rational_square(x, y, form, weights, beta, c1, c2):
    """d^2 of one patch by the formulas of the papers; every argument a Fraction, or a list of them."""
    mu_x, mu_y = (sum(w * p for w, p in zip(weights, z, strict=True)) for z in (x, y))
    var_x, var_y, cov = (
        beta * sum(w * (p - m) * (q - n) for w, p, q in zip(weights, z, t, strict=True))
        for z, m, t, n in ((x, mu_x, x, mu_x), (y, mu_y, y, mu_y), (x, mu_x, y, mu_y))
    )
    s1 = (2 * mu_x * mu_y + c1) / (mu_x**2 + mu_y**2 + c1)
    s2 = (2 * cov + c2) / (var_x + var_y + c2)
    if form == "uncentred":
        norm_x, norm_y, norm_d = (
            beta * sum(w * p * p for w, p in zip(weights, z, strict=True))
            for z in (x, y, [p - q for p, q in zip(x, y, strict=True)])
        )
        return norm_d / (norm_x + norm_y + c2)
    return {"product": 1 - s1 * s2, "sum": 2 - s1 - s2, "centred": 1 - s2}[form]


def patches():
    """Pairs of 2 x 2 patches at which float64 loses digits."""
    noise, other = np.random.default_rng(5).random((2, 2, 2))
    light, heavy = np.array([[1e30, 0], [0, 0]]), np.array([[0, 0], [0, 1e30]])
    return {
        "noise": (noise, other),
        "nearly equal": (noise, noise + 1e-8 * other),
        "one hot pixel, of the least weight": (noise + light, other),
        "one hot pixel, of the greatest weight": (noise + heavy, other),
        "hot in both": (noise + heavy, other + heavy),
        "huge and nearly equal": (1e30 * noise, 1e30 * (noise + 1e-7 * other)),
        "huge against small": (1e25 * noise, other),
        "flat and huge": (np.full((2, 2), 1e30), np.full((2, 2), 1.7e30)),
        "flat and huge against noise": (np.full((2, 2), 1e30), noise),
        "bright and nearly flat, against black": (1 - 1e-6 * noise, np.zeros((2, 2))),
        "far from lo": (273.15 + noise, 273.15 + other),
        "opposite": (1e30 * noise, -1e30 * noise - other),
        "denormal": (noise * 1e-310, other * 1e-310),
    }


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("x", "y"), patches().values(), ids=patches())
@pytest.mark.parametrize(("lo", "k1", "k2"), [(0.0, 0.01, 0.03), (273.15, 1e-6, 10.0)])
def test_values_and_slopes_are_those_of_rational_arithmetic(form, x, y, lo, k1, k2):
    window = Window((0.3, 0.7), beta=1.7)
    pairs = exact.Pairs(x[None], y[None], exact.Definition.of(form, window, (lo, lo + 1), k1, k2))
    length = Fraction((lo + 1) - lo)
    taps = [Fraction(t) for t in window.taps]
    weights = [a * b / sum(taps) ** 2 for a in taps for b in taps]
    constants = (Fraction(k1) * length) ** 2, (Fraction(k2) * length) ** 2
    rest = form, weights, Fraction(window.beta), *constants
    u, v = ([Fraction(float(p)) - Fraction(lo) for p in z.ravel()] for z in (x, y))
    value = rational_square(u, v, *rest)
    assert abs(as_fraction(pairs.mean) - value) <= value / 10**13
    for k, gradient in enumerate(pairs.gradients_of_mean(1.0)):
        slopes = []
        for i in range(4):
            ends = []
            for step in (STEP, -STEP):
                moved = [list(u), list(v)]
                moved[k][i] += step
                ends.append(rational_square(*moved, *rest))
            slopes.append((ends[0] - ends[1]) / (2 * STEP))
        largest = max(abs(s) for s in slopes)
        errors = [abs(as_fraction(g) - s) for g, s in zip(gradient.ravel(), slopes, strict=True)]
        assert max(errors) <= largest / 10**12


def as_fraction(number):
    """A longdouble, exactly."""
    mantissa, exponent = np.frexp(number)
    high = np.float64(mantissa)
    return (Fraction(float(high)) + Fraction(float(mantissa - high))) * Fraction(2) ** int(exponent)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("window", [Window.gaussian(4, 1.2, stride=2), Window.uniform(3, unbiased=True)])
def test_maps_and_gradients_are_the_printed_ones(form, window):
    rng = np.random.default_rng(2)
    x, y = rng.random((2, 2, 3, 9, 10))
    options = {"data_range": (-0.5, 1.0), "k1": 0.02, "k2": 0.05}
    pairs = exact.Pairs(x, y, exact.Definition.of(form, window, **options))
    upstream = rng.normal(size=pairs.squares.shape)
    expected = printed.squared_map(x, y, form=form, window=window, **options)
    np.testing.assert_allclose(pairs.squares.astype(float), expected, atol=1e-13)
    gradients = printed.squared_map_gradients(x, y, upstream, form=form, window=window, **options)
    for gradient, printed_gradient in zip(pairs.gradients(upstream), gradients, strict=True):
        np.testing.assert_allclose(gradient.astype(float), printed_gradient, atol=1e-12)


@pytest.mark.parametrize(
    ("shape", "window"),
    [
        ((2, 1, 11), Window.gaussian((4,), stride=2)),
        ((2, 2, 6, 9), Window.uniform((3, 2), (1, 3), unbiased=True)),
        ((2, 1, 7, 8), Window.gaussian((4, 5), padding="symmetric")),
        ((1, 2, 5, 6, 4), Window((1 / 3,) * 3, 2, beta=1.7, padding="reflect")),
    ],
)
def test_axes_and_borders_are_those_of_the_definition(shape, window):
    rng = np.random.default_rng(4)
    x, y, dx, dy = rng.random((4, *shape))
    definition = exact.Definition.of("product", window, 1.0, 0.01, 0.03, len(shape) - 2)
    pairs = exact.Pairs(x, y, definition)
    parts = window.axes(len(shape) - 2)
    options = {"taps": [part.taps for part in parts], "strides": [part.stride for part in parts]}
    options |= {"beta": float(definition.beta), "padding": window.padding}
    np.testing.assert_allclose(pairs.squares.astype(float), axes.squared_map(x, y, **options), atol=1e-13)
    upstream = rng.normal(size=pairs.squares.shape)
    slope = axes.directional_slope(x, y, dx, dy, upstream, **options)
    found = sum((gradient * d).sum() for gradient, d in zip(pairs.gradients(upstream), (dx, dy), strict=True))
    assert abs(float(found) - slope) < 1e-11 * abs(slope)


def test_scales_are_the_printed_ones():
    rng = np.random.default_rng(3)
    x, y = rng.random((2, 2, 2, 17, 21))
    window, weights, upstream = Window.gaussian(4, 1.2), (0.3, 0.5, 0.2), rng.normal(size=2)
    options = {"data_range": 1.0, "window": window, "k1": 0.01, "k2": 0.03}
    scales = exact.Scales(x, y, exact.Definition.of("product", **options), weights)
    expected = printed.ms_ssim(x, y, weights=weights, **options)
    np.testing.assert_allclose((1 - scales.complement).astype(float), expected, atol=1e-13)
    gradients = printed.ms_ssim_gradients(x, y, -upstream, weights=weights, **options)
    for gradient, printed_gradient in zip(scales.gradients(upstream), gradients, strict=True):
        np.testing.assert_allclose(gradient.astype(float), printed_gradient, atol=1e-12)
