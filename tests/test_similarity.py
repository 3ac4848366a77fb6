"""SSIM and structural distances of image pairs, against naive float64 definitions.

The tests call the public functions. Those under `each_engine` run twice: as users call them, and with the
PyTorch engine in place of whatever else is chosen for the machine.
"""

from collections.abc import Callable

import numpy as np
import pytest
import skimage.data
import torch
from torch import Tensor

from image_pairs import random_images, tensors
from oracles import ssim as oracle
from ssimgen import Window, distance, ms_ssim, ssim, ssim_map
from ssimgen._request import FORMS, NORMS
from ssimgen.engine import Form
from ssimgen.similarity import root

pytestmark = pytest.mark.filterwarnings("ignore::ssimgen.DataRangeWarning")  # some are out of range on purpose

# Few sizes and strides, in many guises: compiled kernels are made anew for each of them.
WINDOWS = {
    "gaussian 11": Window.gaussian(11, 1.5),
    "gaussian even, stride 2": Window.gaussian(4, 1.2, stride=2),
    "uniform 7": Window.uniform(7),
    "blocks of the paper": Window.uniform(4, stride=4, unbiased=True),
    "uniform even, sample covariance": Window.uniform(4, stride=2, unbiased=True),
    "two pixels": Window.uniform(2, unbiased=True),
    "one pixel": Window.uniform(1),
    "lopsided": Window((0.1, 0.2, 0.7), stride=2),
}
NO_STRUCTURE = {("centred", "one pixel")}  # one pixel has no variance: the distance is 0, its gradient too


def half_planes(low: float, high: float, side: int = 24) -> np.ndarray:
    picture = np.full((1, 1, side, side), low)
    picture[..., side // 2 :] = high
    return picture


# --- values and gradients ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("each_engine")
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", WINDOWS)
def test_distances_and_gradients_match_the_definition(name: str, form: Form, norm: str) -> None:
    """Two images of 3 channels, 13 x 17 px, in [-1, 1.5]: D, and its gradients to both arguments."""
    x, y = random_images(2, 3, 13, 17, lo=-1, hi=1.5)
    options = {"data_range": (-1, 1.5), "form": form, "norm": norm, "window": WINDOWS[name]}
    tx, ty = tensors(x, y, grad=True)
    value = distance(tx, ty, **options)
    assert value.dtype == torch.float64
    np.testing.assert_allclose(value.detach(), oracle.distance(x, y, **options), rtol=1e-12, atol=1e-12)
    upstream = np.array([0.7, -1.3])
    gradients = torch.autograd.grad(value @ torch.tensor(upstream), (tx, ty))
    if (form, name) in NO_STRUCTURE:
        assert not any(gradient.any() for gradient in gradients)
        return
    for gradient, expected in zip(gradients, oracle.distance_gradients(x, y, upstream, **options), strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-8, atol=1e-11 * np.abs(expected).max())


@pytest.mark.usefixtures("each_engine")
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("name", WINDOWS)
def test_maps_and_their_gradients_match_the_definition(name: str, channels: int) -> None:
    x, y = random_images(2, channels, 19, 12, seed=channels)
    window = WINDOWS[name]
    options = {"data_range": 1.0, "window": window, "k1": 0.02, "k2": 0.1}
    tx, ty = tensors(x, y, grad=True)
    value = ssim_map(tx, ty, **options)
    assert value.shape == (2, channels, window.positions(19), window.positions(12))
    np.testing.assert_allclose(value.detach(), oracle.ssim_map(x, y, **options), rtol=1e-12, atol=1e-12)
    upstream = np.random.default_rng(1).normal(size=tuple(value.shape))
    gradients = torch.autograd.grad((value * torch.tensor(upstream)).sum(), (tx, ty))
    expected = oracle.squared_map_gradients(x, y, -upstream, form="product", **options)
    for gradient, by_definition in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient, by_definition, rtol=1e-8, atol=1e-11 * np.abs(by_definition).max())


@pytest.mark.usefixtures("each_engine")
@pytest.mark.parametrize("name", WINDOWS)
def test_ssim_and_its_gradients_match_the_definition(name: str) -> None:
    x, y = random_images(3, 2, 14, 15, hi=255)
    options = {"data_range": 255, "window": WINDOWS[name]}
    tx, ty = tensors(x, y, grad=True)
    value = ssim(tx, ty, **options)
    assert value.shape == (3,)
    np.testing.assert_allclose(value.detach(), oracle.ssim(x, y, **options), rtol=1e-12)
    upstream = np.array([1.0, -2.0, 0.5])
    gradients = torch.autograd.grad(value @ torch.tensor(upstream), (tx, ty))
    for gradient, expected in zip(gradients, oracle.ssim_gradients(x, y, upstream, **options), strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-8, atol=1e-11 * np.abs(expected).max())


@pytest.mark.usefixtures("each_engine")
def test_only_the_needed_gradient_is_asked_for() -> None:
    """Either image alone may be a parameter (a published kernel returned None for the second)."""
    x, y = tensors(*random_images(1, 1, 16, 16))
    both = torch.autograd.grad(ssim(x.requires_grad_(), y.requires_grad_(), data_range=1).sum(), (x, y))
    for argument, expected in enumerate(both):
        pair = [x.detach(), y.detach()]
        pair[argument].requires_grad_()
        (gradient,) = torch.autograd.grad(ssim(*pair, data_range=1).sum(), pair[argument])
        assert torch.equal(gradient, expected)
        pair[argument].requires_grad_(False)


@pytest.mark.usefixtures("each_engine")
@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_first_and_second_derivatives_pass_gradcheck(form: Form, squared: bool) -> None:
    x, y = tensors(*random_images(1, 2, 3, 4, seed=3), grad=True)
    window = Window.gaussian(2, 0.8)

    def value(x: Tensor, y: Tensor) -> Tensor:
        return distance(x, y, data_range=1, form=form, squared=squared, window=window)

    assert torch.autograd.gradcheck(value, (x, y))
    assert torch.autograd.gradgradcheck(value, (x, y), fast_mode=True)


def test_the_second_derivative_survives_where_rounding_makes_a_variance_negative() -> None:
    """x and y differ by a constant, so E d^2 - (E d)^2 is 0 up to rounding of either sign; the curvature is not."""
    x, direction = tensors(*random_images(1, 1, 11, 11))

    def square(y: Tensor) -> Tensor:
        return distance(x, y, data_range=1, form="centred", squared=True)[0]

    _, expected = torch.autograd.functional.hvp(square, x, direction)  # here the variance of x - y is exactly 0
    for constant in torch.linspace(0.05, 0.95, 10):
        _, curvature = torch.autograd.functional.hvp(square, x + constant, direction)
        torch.testing.assert_close(curvature, expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))


# --- precision --------------------------------------------------------------------------------------------------

_noise = np.random.default_rng(7).normal(size=(1, 1, 24, 24))
_flat = np.full((1, 1, 24, 24), 0.97)
DELICATE = {
    "bright flat, against itself and a constant": (_flat, _flat + 1e-4),
    "bright flat, against itself and faint noise": (_flat, _flat + 1e-5 * _noise),
    "bright, nearly flat, nearly equal": (_flat + 1e-3 * _noise, _flat + 1e-3 * _noise + 1e-6),
    "half-planes, mirrored": (half_planes(0.1, 0.95), half_planes(0.95, 0.1)),
    "half-planes, faded": (half_planes(0, 0.99), half_planes(0.003, 0.98)),
    "half-planes under faint noise": (half_planes(0, 0.99) + 0.01 * _noise, half_planes(0, 0.99) - 0.01 * _noise),
    "bright flat against dark flat": (_flat, 1 - _flat),
    "noise against other noise": (0.5 + 0.2 * _noise, 0.5 + 0.2 * _noise[..., ::-1]),
    "noise against its negative": (0.5 + 0.2 * _noise, 0.5 - 0.2 * _noise),
}


@pytest.mark.usefixtures("each_engine")
@pytest.mark.parametrize("name", ["gaussian 11", "uniform 7", "blocks of the paper"])
@pytest.mark.parametrize("case", DELICATE)
def test_float32_stays_within_its_budget(case: str, name: str) -> None:
    """|SSIM - oracle| <= 1e-6 at every position, gradients within 1e-4, and SSIM never above 1."""
    tx, ty = tensors(*DELICATE[case], dtype=torch.float32, grad=True)
    x, y = (t.detach().double().numpy() for t in (tx, ty))  # the oracle sees what float32 holds
    options = {"data_range": 1.0, "window": WINDOWS[name]}
    value, positions = ssim(tx, ty, **options), ssim_map(tx, ty, **options)
    assert value.dtype == positions.dtype == torch.float32
    np.testing.assert_allclose(value.detach(), oracle.ssim(x, y, **options), rtol=0, atol=1e-6)
    np.testing.assert_allclose(positions.detach(), oracle.ssim_map(x, y, **options), rtol=0, atol=1e-6)
    assert positions.max() <= 1
    assert value.max() <= 1
    gradients = torch.autograd.grad(value.sum(), (tx, ty))
    for gradient, expected in zip(gradients, oracle.ssim_gradients(x, y, np.ones(1), **options), strict=True):
        assert gradient.dtype == torch.float32
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.usefixtures("each_engine")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    """Elsewhere bfloat16 gives 0.867 or 1.016 for a true value of 0.9989."""
    picture = torch.tensor(skimage.data.camera()[None, None, 100:124, 200:224] / 255)
    x, y = picture.to(dtype), (picture + 0.003 * torch.tensor(_noise)).to(dtype)
    value = ssim(x, y, data_range=1)
    assert value.dtype == torch.float32
    expected = oracle.ssim(x.double().numpy(), y.double().numpy(), data_range=1, window=Window.gaussian())
    np.testing.assert_allclose(value, expected, rtol=0, atol=1e-6)
    assert ssim(x, x, data_range=1).item() == 1
    assert distance(x, y, data_range=1).dtype == ms_ssim(x, y, data_range=1).dtype == torch.float32
    (gradient,) = torch.autograd.grad(ssim(x.requires_grad_(), y, data_range=1).sum(), x)
    assert gradient.dtype == dtype


@pytest.mark.usefixtures("each_engine")
def test_autocast_changes_nothing() -> None:
    """Elsewhere identical images score 1.3245 under autocast."""
    x, y = tensors(*random_images(2, 3, 24, 24), dtype=torch.float32, grad=True)

    def outcome() -> list[Tensor]:
        values = [ssim(x, y, data_range=1), distance(x, y, data_range=1), ms_ssim(x, y, data_range=1)]
        return [*values, *torch.autograd.grad(sum(v.sum() for v in values), (x, y))]

    expected = outcome()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(torch.equal(a, b) for a, b in zip(outcome(), expected, strict=True))
        assert ssim(x, x, data_range=1).tolist() == [1, 1]


def test_flat_images_have_the_luminance_term_alone() -> None:
    """For constants p and q, SSIM = (2 p q + c1) / (p^2 + q^2 + c1), here in both signs of p - q."""
    p, q, c1 = 0.2, 0.7, 0.01**2
    x, y = (torch.full((1, 1, 12, 12), v, dtype=torch.float64) for v in (p, q))
    expected = (2 * p * q + c1) / (p**2 + q**2 + c1)
    assert ssim(x, y, data_range=1).item() == pytest.approx(expected, abs=1e-12)
    assert ssim(y, x, data_range=1).item() == pytest.approx(expected, abs=1e-12)


# --- figures of known origin ------------------------------------------------------------------------------------


def noisy_camera() -> tuple[np.ndarray, np.ndarray]:
    camera = skimage.data.camera().astype(float)
    noise = np.random.RandomState(5).randn(*camera.shape)
    return camera, np.clip(camera + 20 * noise, 0, 255)


@pytest.mark.usefixtures("each_engine")
def test_ipol_reference() -> None:
    """0.357959 by the SSIM of Image Processing On Line, for this image and noise; the tolerance is theirs.

    The figure stands in scikit-image's tests (test_gaussian_structural_similarity_vs_IPOL), where its C code ran on
    the 8-bit images.
    """
    camera, noisy = noisy_camera()
    x, y = (torch.tensor(a)[None, None] for a in (camera, noisy.astype(np.uint8).astype(float)))
    assert ssim(x, y, data_range=255).item() == pytest.approx(0.357959, abs=1e-4)


@pytest.mark.usefixtures("each_engine")
def test_a_large_image_is_not_shrunk_without_a_word() -> None:
    """0.357498151659 by the authors' ssim_index.m under Octave 7.3 (tests/test_presets.py has the command).

    Shrunk first, as some libraries do by default, the value would be 0.62.
    """
    x, y = (torch.tensor(a)[None, None] for a in noisy_camera())
    assert ssim(x, y, data_range=255).item() == pytest.approx(0.357498151659, abs=1e-11)


# --- edges ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("each_engine")
@pytest.mark.parametrize("form", FORMS)
def test_where_the_distance_is_zero_so_is_its_gradient(form: Form) -> None:
    """The derivative of a root is infinite at 0; 0 is a subgradient, for one pair of a batch or for all."""
    x = torch.tensor(random_images(2, 1, 12, 12)[0], requires_grad=True)
    y = x.detach().clone()
    y[1] = y[1].flip(-1)
    value = distance(x, y, data_range=1, form=form)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    assert value[0] == 0
    assert not gradient[0].any()
    assert gradient[1].isfinite().all()
    assert gradient[1].abs().max() > 1e-3


def test_the_root_keeps_what_is_not_a_number() -> None:
    square = torch.tensor([4.0, 0.0, -1e-9, float("nan")], requires_grad=True)
    value = root(square)
    assert value[:3].tolist() == [2, 0, 0]
    assert value[3].isnan()
    (gradient,) = torch.autograd.grad(value[:3].sum(), square)
    assert gradient[:3].tolist() == [0.25, 0, 0]


@pytest.mark.usefixtures("each_engine")
def test_a_pixel_that_is_not_a_number_spoils_its_image_alone() -> None:
    x, y = tensors(*random_images(3, 1, 32, 32), dtype=torch.float32)
    y[1, 0, 20, 20] = float("nan")
    for value in (
        ssim(x, y, data_range=1),
        ms_ssim(x, y, data_range=1),
        *(distance(x, y, data_range=1, form=form, norm=norm) for form in FORMS for norm in NORMS),
    ):
        assert value.isnan().tolist() == [False, True, False]


@pytest.mark.usefixtures("each_engine")
def test_a_pixel_that_is_not_a_number_hides_no_others_whose_squares_overflow() -> None:
    x, y = (1e185 * z for z in tensors(*random_images(1, 1, 12, 24)))
    expected = ssim_map(x, y, data_range=1)
    x[..., -1] = float("nan")
    found = ssim_map(x, y, data_range=1)
    assert found[..., -1].isnan().all()
    torch.testing.assert_close(found[..., :-1], expected[..., :-1])
    assert expected.isfinite().all()


@pytest.mark.usefixtures("each_engine")
@pytest.mark.parametrize(
    "layout",
    [
        lambda z: z.to(memory_format=torch.channels_last),
        lambda z: z.transpose(2, 3).contiguous().transpose(2, 3),
        lambda z: torch.stack([z, z], -1)[..., 0],
        lambda z: torch.cat([z, z])[::2][:2] if len(z) > 1 else z,
        lambda z: z[:1].expand(2, -1, -1, -1),
    ],
    ids=["channels last", "transposed", "strided", "sliced", "expanded"],
)
def test_the_layout_in_memory_does_not_matter(layout: Callable[[Tensor], Tensor]) -> None:
    x, y = (layout(z) for z in tensors(*random_images(2, 3, 16, 14), dtype=torch.float32))
    expected = ssim_map(x.contiguous(), y.contiguous(), data_range=1)
    torch.testing.assert_close(ssim_map(x, y, data_range=1), expected, rtol=0, atol=1e-7)
    leaf = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(ssim(leaf, y, data_range=1).sum(), leaf)
    plain = x.contiguous().requires_grad_()
    (expected,) = torch.autograd.grad(ssim(plain, y.contiguous(), data_range=1).sum(), plain)
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.usefixtures("each_engine")
def test_inputs_are_left_alone() -> None:
    x, y = tensors(*random_images(2, 2, 23, 23), dtype=torch.float32, grad=True)
    before = x.detach().clone(), y.detach().clone()
    value = ssim(x, y, data_range=1) + ms_ssim(x, y, data_range=1) + distance(x, y, data_range=(-1, 1))
    value.sum().backward()
    assert torch.equal(x, before[0])
    assert torch.equal(y, before[1])


@pytest.mark.usefixtures("each_engine")
def test_small_images_are_filtered_too() -> None:
    """Published losses skip the filter below 11 px (0.7 for noise) or return 0 below 4 px."""
    x, y = random_images(1, 1, 3, 3, seed=2)
    window = Window.gaussian(2, 1.5)
    value = ssim(*tensors(x, y), data_range=1, window=window)
    np.testing.assert_allclose(value, oracle.ssim(x, y, data_range=1, window=window), rtol=1e-12)
    assert value.item() < 0.5


def test_negative_similarity_stays_negative() -> None:
    """Not mapped to (1 + s) / 2, as elsewhere without a word."""
    x = torch.tensor(random_images(1, 1, 16, 16)[0])
    assert ssim(x, 1 - x, data_range=1).item() < -0.9
    assert ms_ssim(x, 1 - x, data_range=1).item() < -0.9


@pytest.mark.usefixtures("no_shape_checks")
def test_the_range_of_values_must_be_stated() -> None:
    x, y = tensors(*random_images(1, 1, 16, 16))
    for function in (ssim, ssim_map, ms_ssim, distance):
        with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'data_range'"):
            function(x, y)  # type: ignore[operator]


def test_images_of_tanh_outputs() -> None:
    """In [-1, 1] flat -1 is black: SSIM with flat 1 is c1 / (l^2 + c1); with data_range 2 alone it would be -1."""
    black = torch.full((1, 1, 11, 11), -1.0, dtype=torch.float64)
    c1 = 0.02**2
    assert ssim(black, -black, data_range=(-1, 1)).item() == pytest.approx(c1 / (4 + c1), rel=1e-9)


# --- transformations --------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # of PyTorch's own making
def test_vmap_grad_and_jvp() -> None:
    x, y = tensors(*random_images(3, 2, 12, 12))
    window = Window.gaussian(5, 1.1)

    def one(x: Tensor, y: Tensor) -> Tensor:
        return (ssim(x[None], y[None], data_range=1, window=window) - distance(x[None], y[None], data_range=1))[0]

    torch.testing.assert_close(torch.func.vmap(one)(x, y), torch.stack([one(a, b) for a, b in zip(x, y, strict=True)]))
    gradients = torch.func.vmap(torch.func.grad(one, argnums=1))(x, y)
    leaf = y.clone().requires_grad_()
    (expected,) = torch.autograd.grad(sum(one(a, b) for a, b in zip(x, leaf, strict=True)), leaf)
    torch.testing.assert_close(gradients, expected)
    direction = torch.tensor(np.random.default_rng(1).normal(size=tuple(y.shape)))
    _, slope = torch.func.jvp(lambda y: torch.func.vmap(one)(x, y), (y,), (direction,))
    torch.testing.assert_close(slope, (expected * direction).sum((1, 2, 3)))
    shared = torch.func.vmap(lambda y: one(x[0], y))(y)  # one argument not batched
    torch.testing.assert_close(shared, torch.stack([one(x[0], b) for b in y]))
