"""What holds of SSIM and structural distances for all images: a metric, ranges, units, how forms hang together."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from ssimgen import Window, distance, ms_ssim, ssim, ssim_map
from ssimgen._request import FORMS, NORMS
from ssimgen.engine import Form

pytestmark = pytest.mark.filterwarnings("ignore::ssimgen.DataRangeWarning")  # some are out of range on purpose

SMALL_WINDOWS = [
    Window.gaussian(5, 1.1),
    Window.uniform(4, stride=2),
    Window.gaussian(3, 0.8, stride=2),
    Window.uniform(4, stride=4, unbiased=True),
    Window((0.2, 0.8)),
]
windows = st.sampled_from(SMALL_WINDOWS)
forms = st.sampled_from(FORMS)
norms = st.sampled_from(NORMS)


def picture(kind: str, noise: np.ndarray, drawn: list[np.ndarray]) -> np.ndarray:
    """One batch in [0, 1], of noise or of what was drawn before."""
    first, last = (drawn[0], drawn[-1]) if drawn else (noise, noise)
    return {
        "noise": noise,
        "flat": np.full_like(noise, noise[0, 0, 0, 0]),
        "two-tone": np.where(noise > 0.5, 0.9, 0.1),
        "faint": 0.9 + 1e-4 * noise,
        "mixture": 0.5 * first + 0.5 * last,
        "negative": 1 - last,
    }[kind]


@st.composite
def pictures(draw: st.DrawFn, count: int) -> list[Tensor]:
    """`count` image batches (2, 2, 7, 6) in [0, 1]."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    drawn: list[np.ndarray] = []
    for _ in range(count):
        kind = draw(st.sampled_from(["noise", "flat", "two-tone", "faint", "mixture", "negative"]))
        drawn.append(picture(kind, random.random((2, 2, 7, 6)), drawn))
    return [torch.tensor(images) for images in drawn]


@given(pair=pictures(2), window=windows, form=forms, norm=norms)
def test_symmetry(pair: list[Tensor], window: Window, form: Form, norm: str) -> None:
    x, y = pair
    options = {"data_range": 1, "window": window}
    torch.testing.assert_close(
        distance(x, y, form=form, norm=norm, squared=True, **options),
        distance(y, x, form=form, norm=norm, squared=True, **options),
        rtol=1e-12,
        atol=1e-13,
    )
    torch.testing.assert_close(ssim_map(x, y, **options), ssim_map(y, x, **options), rtol=0, atol=1e-13)
    torch.testing.assert_close(ms_ssim(x, y, **options), ms_ssim(y, x, **options), rtol=0, atol=1e-13)


@given(pair=pictures(1), window=windows, form=forms, norm=norms, dtype=st.sampled_from([torch.float32, torch.float64]))
def test_identity_is_exact(pair: list[Tensor], window: Window, form: Form, norm: str, dtype: torch.dtype) -> None:
    (x,) = (image.to(dtype) for image in pair)
    y = x.clone()
    assert not distance(x, y, data_range=1, form=form, norm=norm, window=window).any()
    assert (ssim_map(x, y, data_range=1, window=window) == 1).all()
    assert ssim(x, y, data_range=1, window=window).tolist() == [1, 1]
    assert ms_ssim(x, y, data_range=1, window=window).tolist() == [1, 1]


@given(pair=pictures(2), window=windows)
def test_ranges(pair: list[Tensor], window: Window) -> None:
    """For values in [0, l]: luminance s1 in [0, 1], structure s2 in [-1, 1]."""
    x, y = pair
    options = {"data_range": 1, "window": window}
    for form, greatest in (("product", 2), ("sum", 3), ("centred", 2), ("uncentred", 1)):
        square = distance(x, y, form=form, squared=True, **options)
        assert (square >= 0).all()
        assert (square <= greatest).all()
    for value in (ssim_map(x, y, **options), ssim(x, y, **options), ms_ssim(x, y, **options)):
        assert (value >= -1).all()
        assert (value <= 1).all()


@given(triple=pictures(3), window=windows, form=forms, norm=norms)
def test_triangle_inequality(triple: list[Tensor], window: Window, form: Form, norm: str) -> None:
    """D is Hilbertian for every form. D^2 is not a metric: mixtures x, (x + z) / 2, z would break it."""
    x, y, z = triple

    def d(a: Tensor, b: Tensor) -> Tensor:
        return distance(a, b, data_range=1, form=form, norm=norm, window=window)

    assert (d(x, z) <= d(x, y) + d(y, z) + 1e-6).all()  # a rounding of 1e-13 in D^2 is one of 3e-7 in D


@given(triple=pictures(3))
def test_the_square_of_a_distance_is_no_metric(triple: list[Tensor]) -> None:
    """The test above can fail: for the midpoint it does with D^2 in place of D."""
    x, _, z = triple
    y = 0.5 * x + 0.5 * z
    assume((x - z).abs().amax((1, 2, 3)).min() > 0.2)

    def square(a: Tensor, b: Tensor) -> Tensor:
        return distance(a, b, data_range=1, form="uncentred", squared=True, k2=10, window=Window.uniform(5))

    assert (square(x, z) > square(x, y) + square(y, z)).all()


@given(pair=pictures(2), size=st.sampled_from([2, 4]))
def test_centred_is_the_closed_form_of_the_paper(pair: list[Tensor], size: int) -> None:
    """Eq. (1): |x~ - y~|^2 / (|x~|^2 + |y~|^2 + (q - 1) c2) for blocks x~, y~ with their means taken off."""
    x, y = pair
    q, c2 = size * size, 0.03**2
    squares = []
    for top in range(0, 7 - size + 1, size):
        for left in range(0, 6 - size + 1, size):
            u, v = (z[..., top : top + size, left : left + size].flatten(2) for z in (x, y))
            u, v = u - u.mean(-1, keepdim=True), v - v.mean(-1, keepdim=True)
            squares.append((u - v).square().sum(-1) / (u.square().sum(-1) + v.square().sum(-1) + (q - 1) * c2))
    expected = torch.stack(squares).sum((0, 2))
    window = Window.uniform(size, stride=size, unbiased=True)
    value = distance(x, y, data_range=1, form="centred", norm="frobenius", squared=True, window=window)
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-12)


@given(pair=pictures(2), size=st.sampled_from([2, 5]))
def test_uncentred_is_the_closed_form_without_centring(pair: list[Tensor], size: int) -> None:
    """The same with x and y in place of x~ and y~."""
    x, y = pair
    q, c2 = size * size, 0.03**2
    u, v = x[..., :size, :size], y[..., :size, :size]
    norms = [z.square().sum((-2, -1)) for z in (u - v, u, v)]
    expected = (norms[0] / (norms[1] + norms[2] + (q - 1) * c2)).mean(1)
    window = Window.uniform(size, unbiased=True)
    value = distance(u, v, data_range=1, form="uncentred", squared=True, window=window)
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-12)


@given(pair=pictures(2), window=windows)
def test_the_forms_hang_together(pair: list[Tensor], window: Window) -> None:
    """product = 1 - SSIM; and sum - product = a b <= min(a, b) where both are at most 1."""
    x, y = pair
    d2 = {f: distance(x, y, data_range=1, form=f, squared=True, window=window) for f in FORMS}
    torch.testing.assert_close(d2["product"], 1 - ssim(x, y, data_range=1, window=window), rtol=0, atol=1e-12)
    assert (d2["sum"] >= d2["product"] - 1e-12).all()
    assert (d2["sum"] >= d2["centred"] - 1e-12).all()


@given(pair=pictures(2), window=windows, form=forms)
def test_frobenius_is_rms_times_the_root_of_the_patches(pair: list[Tensor], window: Window, form: Form) -> None:
    x, y = pair
    count = 2 * window.positions(7) * window.positions(6)
    rms = distance(x, y, data_range=1, form=form, window=window)
    frobenius = distance(x, y, data_range=1, form=form, norm="frobenius", window=window)
    torch.testing.assert_close(frobenius, rms * count**0.5, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        distance(x, y, data_range=1, form=form, squared=True, window=window), rms**2, rtol=1e-12, atol=0
    )


@given(pair=pictures(2), window=windows)
def test_the_rms_norm_does_not_grow_with_the_image(pair: list[Tensor], window: Window) -> None:
    x, y = (torch.cat([z, z], 1) for z in pair)  # every patch twice
    options = {"data_range": 1, "window": window}
    torch.testing.assert_close(distance(x, y, **options), distance(*pair, **options), rtol=1e-12, atol=0)


@settings(max_examples=20)
@given(pair=pictures(2), window=windows, form=forms)
def test_each_pair_has_its_own_value(pair: list[Tensor], window: Window, form: Form) -> None:
    """No mean over the batch, no dependence on its order or on the other images."""
    x, y = (torch.cat([z, z.flip(0), z[:1] ** 2]) for z in pair)
    options = {"data_range": 1, "window": window}
    order = torch.tensor([3, 0, 4, 2, 1])
    for function in (ssim, ms_ssim, lambda x, y, **o: distance(x, y, form=form, squared=True, **o)):
        values = function(x, y, **options)
        assert values.shape == (5,)
        torch.testing.assert_close(function(x[order], y[order], **options), values[order], rtol=0, atol=1e-13)
        alone = torch.cat([function(x[i : i + 1], y[i : i + 1], **options) for i in range(5)])
        torch.testing.assert_close(alone, values, rtol=0, atol=1e-13)


@given(pair=pictures(2), window=windows, form=forms, length=st.sampled_from([2.0, 255.0, 1e-3, 65535.0]))
def test_values_in_other_units(pair: list[Tensor], window: Window, form: Form, length: float) -> None:
    """l x and l y at data_range l are x and y at 1; and the range may begin anywhere."""
    x, y = pair
    for function in (ssim, ms_ssim, lambda x, y, **o: distance(x, y, form=form, squared=True, **o)):
        expected = function(x, y, data_range=1, window=window)
        scaled = function(length * x, length * y, data_range=length, window=window)
        torch.testing.assert_close(scaled, expected, rtol=1e-9, atol=1e-9)
        shifted = function(
            length * x - length / 2, length * y - length / 2, data_range=(-length / 2, length / 2), window=window
        )
        torch.testing.assert_close(shifted, expected, rtol=1e-9, atol=1e-9)


@given(pair=pictures(2), window=windows, constant=st.floats(-0.5, 0.5))
def test_centred_does_not_see_a_constant(pair: list[Tensor], window: Window, constant: float) -> None:
    """And the other forms do."""
    x, y = pair
    options = {"data_range": 1, "squared": True, "window": window}
    torch.testing.assert_close(
        distance(x, y + constant, form="centred", **options),
        distance(x, y, form="centred", **options),
        atol=1e-9,
        rtol=0,
    )
    assert (distance(x, x + constant, form="centred", **options) <= 1e-9).all()
    assume(abs(constant) > 1e-3)
    for form in ("product", "sum", "uncentred"):
        assert (distance(x, x + constant, form=form, **options) > 1e-9).all()


def patch_statistics(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """Means, variances and covariance of images of one patch with equal weights, each (n,)."""
    mean_x, mean_y = x.mean((1, 2, 3)), y.mean((1, 2, 3))
    u, v = x - mean_x[:, None, None, None], y - mean_y[:, None, None, None]
    return mean_x, mean_y, u.square().mean((1, 2, 3)), v.square().mean((1, 2, 3)), (u * v).mean((1, 2, 3))


@given(pair=pictures(2))
def test_centring_costs_at_most_the_luminance_complement(pair: list[Tensor]) -> None:
    """F10: (1 - SSIM) - d^2 of centred patches = a (1 - b), between -a and a; so for images, with the mean of a."""
    x, y = (z[:, :1, :6, :6] for z in pair)
    options = {"data_range": 1, "squared": True}
    mean_x, mean_y, var_x, var_y, cov = patch_statistics(x, y)
    a = (mean_x - mean_y) ** 2 / (mean_x**2 + mean_y**2 + 0.01**2)
    b = (var_x + var_y - 2 * cov) / (var_x + var_y + 0.03**2)
    whole = Window.uniform(6)
    excess = distance(x, y, form="product", window=whole, **options) - distance(
        x, y, form="centred", window=whole, **options
    )
    torch.testing.assert_close(excess, a * (1 - b), rtol=0, atol=1e-9)
    for window in SMALL_WINDOWS:
        square = {f: distance(*pair, form=f, window=window, **options) for f in ("product", "sum", "centred")}
        mean_a = square["sum"] - square["centred"]
        assert ((square["product"] - square["centred"]).abs() <= mean_a + 1e-9).all()
        assert ((square["product"].sqrt() - square["centred"].sqrt()).abs() <= mean_a.sqrt() + 1e-6).all()


@given(pair=pictures(2), shift=st.sampled_from([0.0, 1.0, 30.0]))
def test_without_centring_structure_has_the_weight_of_variance_in_energy(pair: list[Tensor], shift: float) -> None:
    """F10: d^2 without centring is w b + (1 - w) a0, w the share of variance, a0 the luminance with c1 = 0."""
    x, y = (z[:, :1, :6, :6] + shift for z in pair)
    mean_x, mean_y, var_x, var_y, cov = patch_statistics(x, y)
    b = (var_x + var_y - 2 * cov) / (var_x + var_y + 0.03**2)
    w = (var_x + var_y + 0.03**2) / (var_x + var_y + mean_x**2 + mean_y**2 + 0.03**2)
    a0 = (mean_x - mean_y) ** 2 / (mean_x**2 + mean_y**2)
    value = distance(x, y, data_range=1, form="uncentred", window=Window.uniform(6), squared=True)
    torch.testing.assert_close(value, w * b + (1 - w) * a0, rtol=1e-9, atol=1e-11)


def test_equal_means_do_not_make_the_form_without_centring_right() -> None:
    """The numbers of docs/kernels.md, F10: stripes of 0.1 about 0.9 against their negative."""
    rows = ((-1.0) ** torch.arange(8, dtype=torch.float64))[:, None].expand(1, 1, 8, 8)
    x, y = 0.9 + 0.1 * rows, 0.9 - 0.1 * rows
    options = {"data_range": 1.0, "squared": True, "window": Window.uniform(8)}
    assert 1 - ssim(x, y, data_range=1.0, window=Window.uniform(8)).item() == pytest.approx(1.914, abs=5e-4)
    assert distance(x, y, form="centred", **options).item() == pytest.approx(1.914, abs=5e-4)
    assert distance(x, y, form="uncentred", **options).item() == pytest.approx(0.024, abs=5e-4)
    dark = [torch.full((1, 1, 8, 8), grey, dtype=torch.float64) for grey in (0.0, 0.02, 0.5, 0.52)]
    assert distance(*dark[:2], form="product", **options).item() == pytest.approx(0.8, abs=1e-3)
    assert distance(*dark[2:], form="product", **options).item() == pytest.approx(0.0008, abs=5e-5)


def test_what_a_colour_counts() -> None:
    """The numbers of docs/kernels.md, F5: three luminance terms, each blind to all but the ratio of its two means."""

    def flat(*colour: float) -> Tensor:
        return torch.tensor(colour, dtype=torch.float64)[None, :, None, None].expand(1, 3, 8, 8)

    def squared(x: Tensor, y: Tensor, form: Form = "sum") -> float:
        return distance(x, y, data_range=1.0, form=form, window=Window.uniform(8), squared=True).item()

    grey, rows = flat(0.5, 0.5, 0.5), ((-1.0) ** torch.arange(8, dtype=torch.float64))[:, None].expand(1, 1, 8, 8)
    assert squared(grey, flat(0.6, 0.5, 0.4)) == pytest.approx(0.014, abs=5e-4)
    assert squared(grey, grey + 0.01 * rows) == pytest.approx(0.1, abs=5e-4)
    assert squared(grey, grey + 0.05 * rows) == pytest.approx(0.735, abs=5e-4)
    assert squared(flat(0.3, 0.3, 0.3), flat(0.6, 0.6, 0.6)) == pytest.approx(0.2, abs=5e-4)
    assert squared(flat(0.05, 0.1, 0.2), flat(0.1, 0.2, 0.4)) == pytest.approx(0.2, abs=2e-3)
    other = 0.5 + 0.3 * rows.mT.expand(1, 3, 8, 8)  # unlike stripes: s2 = c2 / (2 * 0.09 + c2)
    colour = torch.tensor([0.1, 0.0, -0.1], dtype=torch.float64)[None, :, None, None]
    striped = 0.5 + 0.3 * rows.expand(1, 3, 8, 8)
    by_colour = {f: squared(striped + colour, other, f) - squared(striped, other, f) for f in ("sum", "product")}
    assert by_colour["product"] == pytest.approx(by_colour["sum"] * 9e-4 / (0.18 + 9e-4), rel=1e-6)
