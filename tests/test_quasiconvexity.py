"""F8 of docs/kernels.md: where the structural distance from a fixed image is quasi-convex, and where it saturates."""

import math

import pytest
import scipy.optimize
import torch
from torch import Tensor

from ssimgen import Window, distance, ssim, ssim_map
from ssimgen._request import FORMS
from ssimgen.engine import Form

pytestmark = pytest.mark.filterwarnings("ignore::ssimgen.DataRangeWarning")  # theorems hold outside of the range too

C2 = 0.03**2
PATCH = Window.uniform(3)  # images of 3 x 3 px are one patch


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def patches(count: int, seed: int) -> Tensor:
    """Images of one patch (count, 1, 3, 3): contrasts of 1e-3 to 10, means of -1 to 1, some nearly equal."""
    contrast = 10 ** (4 * torch.rand(count, 1, 1, 1, generator=torch.Generator().manual_seed(seed + 1)) - 3).double()
    x = contrast * numbers(count, 1, 3, 3, seed=seed) + 0.5 * numbers(count, 1, 1, 1, seed=seed + 2)
    x[::5] = x[1::5] + 1e-3 * x[::5]
    return x


def vectors(x: Tensor, form: str) -> Tensor:
    """u of docs/kernels.md for images of one patch, (n, 9): |u|^2 is the variance, or the mean square."""
    u = x.flatten(1) / 3
    return u if form == "uncentred" else u - u.mean(1, keepdim=True)


def square(x: Tensor, y: Tensor, form: str, window: Window = PATCH) -> Tensor:
    return distance(x, y.expand_as(x), data_range=1.0, form=form, window=window, squared=True)  # type: ignore[arg-type]


def stripes(*contrasts: float) -> Tensor:
    """Blocks of 8 x 8 px side by side, striped by rows, of these amplitudes about 0."""
    rows = ((-1.0) ** torch.arange(8, dtype=torch.float64))[:, None].expand(8, 8)
    return torch.cat([c * rows for c in contrasts], 1)[None, None]


# One patch


@pytest.mark.parametrize("level", [0.9, 0.3, 0.01, -0.01, -0.3, -0.7])
@pytest.mark.parametrize("form", ["centred", "uncentred"])
def test_level_sets_of_a_patch_are_balls_or_what_is_outside_of_balls(form: Form, level: float) -> None:
    """s >= level is |u - v / level|^2 <= r^2, or >= where the level is negative; 2 u.v >= -c at level 0."""
    x, y = patches(4000, 0), patches(4000, 9)
    u, v = vectors(x, form), vectors(y, form)
    s, V = 1 - square(x, y, form), (v * v).sum(1)
    radius2 = (1 - level) * (V * (1 + level) + C2 * level) / level**2
    inside = ((u - v / level) ** 2).sum(1) <= radius2
    clear = (s - level).abs() > 1e-9
    above = s >= level
    assert (above == (inside if level > 0 else ~inside))[clear].all()
    assert above.any()
    assert not above.all()
    half = 2 * (u * v).sum(1) >= -C2
    assert ((s >= 0) == half)[s.abs() > 1e-9].all()


def rise(x: Tensor, y: Tensor, form: str) -> Tensor:
    """By how much D^2 from y, between two images of x, is above both ends, for the first half and the second."""
    first, second = x[: len(x) // 2 * 2].chunk(2)
    share = torch.rand(len(first), 1, 1, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    middle, *ends = (square(z, y, form) for z in (share * first + (1 - share) * second, first, second))
    return middle - torch.maximum(*ends)


@pytest.mark.parametrize("form", ["centred", "uncentred"])
def test_a_patch_is_quasi_convex_where_ssim_is_not_negative(form: Form) -> None:
    for seed in range(5):
        x, y = patches(4000, seed), patches(20, seed + 50)[7:8]
        similar = square(x, y, form) <= 1
        assert rise(x[similar], y, form).max() < 1e-12
        assert rise(x[~similar], y, form).max() > 1e-3  # where SSIM is negative it is not


def test_a_patch_without_centring_is_quasi_convex_for_images_that_are_not_negative() -> None:
    for seed in range(5):
        assert rise(patches(4000, seed).abs(), patches(20, seed + 50).abs()[7:8], "uncentred").max() < 1e-12


def test_no_point_of_negative_ssim_has_a_quasi_convex_neighbourhood() -> None:
    """From every such point, D^2 falls in both directions of a line across."""
    x, y = patches(500, 0), patches(500, 9)
    v, u = vectors(y, "centred"), vectors(x, "centred")
    s = 1 - square(x, y, "centred")
    normal = u - v / s[:, None]  # of the sphere through u
    normal = normal / normal.norm(dim=1, keepdim=True)
    across = vectors(numbers(500, 1, 3, 3, seed=4), "centred")
    across = across - (across * normal).sum(1, keepdim=True) * normal
    step = (0.1 * (u.norm(dim=1) + v.norm(dim=1)) / across.norm(dim=1))[:, None] * across
    negative = (s < -1e-3) & (u.norm(dim=1) > 1e-2)
    assert negative.sum() > 50
    for sign in (1, -1):
        moved = x + sign * 3 * step.view(x.shape)
        assert (square(moved, y, "centred") < 1 - s)[negative].all()


@pytest.mark.parametrize("form", ["product", "sum", "centred"])
def test_a_patch_is_not_quasi_convex_where_ssim_is_negative(form: Form) -> None:
    """The numbers of the page, pixels within [0.3, 0.7]."""
    rows = stripes(1.0)
    y, one, other = 0.5 + 0.1 * rows, 0.5 - 0.1 * rows + 0.08 * rows.mT, 0.5 - 0.1 * rows - 0.08 * rows.mT
    assert min(z.min() for z in (one, other)) > 0.3
    values = [square(z, y, form, Window.uniform(8)).item() for z in (one, other, (one + other) / 2)]
    assert values == pytest.approx([1.700, 1.700, 1.914], abs=5e-4)


@pytest.mark.parametrize(("form", "middle"), [("product", 1 - 0.3522 / 2), ("sum", 0.6478 + 0.5)])
def test_one_patch_with_its_luminance_is_not_quasi_convex(form: Form, middle: float) -> None:
    """From grey of 0.1, white and faint stripes are nearer than their mean; s1 and s2 are positive."""
    y = torch.full((1, 1, 8, 8), 0.1, dtype=torch.float64)
    white, striped = torch.ones_like(y), y + 0.06 * stripes(1.0)
    values = [square(z, y, form, Window.uniform(8)).item() for z in (white, striped, (white + striped) / 2)]
    assert values == pytest.approx([0.802, 0.800, middle], abs=5e-4)


# Slopes


@pytest.mark.parametrize("form", ["centred", "uncentred"])
def test_the_slope_of_a_patch_is_its_formula_and_falls_with_the_square_of_contrast(form: Form) -> None:
    """|grad|^2 = 4 (1 - s) ((1 + s)(V + c) - c) / z^2 <= 4 (1 - s^2)(V + c) / z^2, by u; pixels have u = x / 3."""
    x, y = patches(2000, 0).requires_grad_(), patches(2000, 9)
    d2 = square(x, y, form)
    (gradient,) = torch.autograd.grad(d2.sum(), x)
    slope2 = 9 * gradient.square().sum((1, 2, 3))
    s, V, U = 1 - d2.detach(), vectors(y, form).square().sum(1), vectors(x.detach(), form).square().sum(1)
    z = U + V + C2
    torch.testing.assert_close(slope2, 4 * (1 - s) * ((1 + s) * (V + C2) - C2) / z**2, rtol=1e-6, atol=1e-12)
    assert (slope2 <= 4 * (1 - s**2) * (V + C2) / z**2 * (1 + 1e-9) + 1e-12).all()


def test_the_only_other_stationary_point_of_a_patch_is_its_maximum() -> None:
    """u = -(1 + c / V) v, where s is -V / (V + c), the least that it can be."""
    y = patches(200, 9)
    V = vectors(y, "centred").square().sum(1)
    least = -V / (V + C2)
    mean = y.mean((2, 3), keepdim=True)
    worst = mean - (1 + C2 / V)[:, None, None, None] * (y - mean)
    torch.testing.assert_close(1 - square(worst, y, "centred"), least, rtol=1e-9, atol=1e-9)
    for seed in range(20):
        assert (1 - square(patches(200, seed), y, "centred") >= least - 1e-9).all()


def test_numbers_of_saturation() -> None:
    """The slope at a flat patch y, by the contrast of x: greatest at sqrt(c2 / 3), 330 times less at 0.3."""
    contrasts = torch.tensor([math.sqrt(C2 / 3), 0.3], dtype=torch.float64, requires_grad=True)
    x = contrasts[:, None, None, None] * stripes(1.0)
    values = square(x, torch.zeros_like(x), "centred", Window.uniform(8))
    steepest, late = torch.autograd.grad(values.sum(), contrasts)[0].tolist()
    assert math.sqrt(C2 / 3) == pytest.approx(0.017, abs=5e-4)
    assert steepest == pytest.approx(21.7, abs=0.05)
    assert steepest / late == pytest.approx(331, abs=2)
    for contrast in (0.5, 0.9, 1.1, 2.0):
        t = torch.tensor(contrast * math.sqrt(C2 / 3), dtype=torch.float64, requires_grad=True)
        value = square(t * stripes(1.0), torch.zeros_like(x[:1]), "centred", Window.uniform(8))
        assert torch.autograd.grad(value.sum(), t)[0].item() < steepest


# Images


@pytest.mark.parametrize("form", FORMS)
def test_two_blocks_are_not_quasi_convex_although_ssim_is_at_least_a_quarter(form: Form) -> None:
    """The numbers of the page; for the uncentred form, and for luminance, flat blocks instead of stripes."""
    kind = torch.ones_like if form == "uncentred" else torch.clone
    y, one, other = (kind(stripes(1.0, 1.0)) * stripes(*c).abs() for c in ((0.05, 0.05), (0.4, 0.05), (0.05, 0.4)))
    if form != "uncentred":
        y, one, other = 0.5 + y, 0.5 + one, 0.5 + other
    window = Window.uniform(8, stride=8)
    images = (one, other, (one + other) / 2)
    values = [square(z, y, form, window).sqrt().item() for z in images]
    assert values == pytest.approx([0.612, 0.612, 0.753], abs=5e-4)
    least = min(ssim_map(z, y, data_range=1.0, window=window).min().item() for z in images)
    assert least > (0.24 if form == "uncentred" else 0.25)


@pytest.mark.parametrize(
    ("window", "side"),
    [
        (Window.gaussian(), 28),
        (Window.gaussian(), 23),
        (Window.uniform(7), 28),
        (Window.uniform(8, stride=4), 28),
        (Window.gaussian(8, 2.0, stride=3), 29),
        (Window.uniform(2), 4),
        (Window.uniform(3, stride=3), 6),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_no_image_of_two_patches_is_quasi_convex(form: Form, window: Window, side: int) -> None:
    """From black, one white pixel here or there is nearer than two grey ones; SSIM is positive in every patch."""
    black = torch.zeros(1, 1, side, side, dtype=torch.float64)
    one, other = black.clone(), black.clone()
    one[..., window.size // 2, window.size // 2] = 1
    other[..., side - 1 - window.size // 2, side - 1 - window.size // 2] = 1
    both = (one + other) / 2
    ends = max(square(one, black, form, window).item(), square(other, black, form, window).item())
    assert square(both, black, form, window).item() > 1.3 * ends
    assert ssim_map(both, black, data_range=1.0, window=window).min() > 0
    assert ssim_map(one, black, data_range=1.0, window=window).min() > 0


# Descent


@pytest.mark.parametrize("form", ["sum", "product"])
def test_descent_within_the_range_finds_the_image(form: Form) -> None:
    """Measured, not proved: for overlapping windows nothing excludes other minima, and none was met."""
    window, y = Window.uniform(3), torch.rand(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    board = (torch.arange(6)[:, None] + torch.arange(6)).double() % 2
    for image in (y, 0.05 + 0.9 * (y > 0.5), 0.9 + 0.1 * y):
        for start in (1 - image, 0.001 * y.T, board, y.flip(0)):
            assert descended(start, image, form, window, [(0, 1)] * 36) < 1e-6


def test_descent_out_of_range_ends_at_the_negative_of_an_image() -> None:
    """For 1 - SSIM and pixels of both signs: there s1 and s2 are near -1, and their product near 1."""
    y = 0.5 + 0.4 * stripes(1.0)[0, 0]
    window = Window.uniform(8)
    assert ssim(-y[None, None], y[None, None], data_range=1.0, window=window).item() == pytest.approx(0.994, abs=5e-4)
    mean, contrast = 0.5, 0.4
    trap = -(mean + 0.01**2 / mean) - (1 + C2 / contrast**2) * (y - mean)
    value = square(trap[None, None], y[None, None], "product", window).item()
    assert value == pytest.approx(1 - mean**2 / (mean**2 + 1e-4) * contrast**2 / (contrast**2 + C2), abs=1e-12)
    near = trap + 0.01 * numbers(200, 1, 8, 8)
    assert (square(near, y[None, None], "product", window) > value).all()
    assert descended(-0.8 * y, y, "product", window, None) == pytest.approx(value, abs=1e-6)
    assert square(trap[None, None], y[None, None], "sum", window) > 3.99


def descended(start: Tensor, y: Tensor, form: Form, window: Window, bounds: list[tuple[int, int]] | None) -> float:
    """D^2 from y where a descent by L-BFGS from `start` ends."""

    def value(pixels: Tensor) -> tuple[float, Tensor]:
        x = torch.as_tensor(pixels, dtype=torch.float64).view(1, 1, *y.shape).requires_grad_()
        d2 = square(x, y[None, None], form, window)
        (gradient,) = torch.autograd.grad(d2.sum(), x)
        return d2.item(), gradient.flatten().numpy()

    options = {"maxiter": 3000, "maxfun": 10_000, "ftol": 1e-15, "gtol": 1e-9}
    start = start.flatten().numpy()
    found = scipy.optimize.minimize(value, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return float(found.fun)
