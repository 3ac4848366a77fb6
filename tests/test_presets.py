"""Presets against the implementations they stand for: the library itself, or its figures for these images.

The images of the recorded figures are `figure_images(height, width)`; the programs that printed them are in the
docstrings, to be run with x and y as float64 (MATLAB code) or float32 (TensorFlow).
"""

import numpy as np
import pytest
import scipy.ndimage
import skimage.color
import skimage.data
import skimage.metrics
import skimage.transform
import torch
from torch import Tensor

from ssimgen import Window, distance, ms_ssim, presets, ssim
from ssimgen._scales import WANG_SCALE_WEIGHTS


def figure_images(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The cameraman of scikit-image, mirrored where it is too small, and the same under noise, in [0, 255]."""
    camera = skimage.data.camera().astype(float)
    beyond = [(0, max(0, side - 512)) for side in (height, width)]
    picture = np.pad(camera, beyond, mode="symmetric")[:height, :width]
    noise = np.random.RandomState(5).randn(height, width)
    return picture, np.clip(picture + 20 * noise, 0, 255)


def batch(*channels: np.ndarray) -> Tensor:
    return torch.tensor(np.stack(channels))[None]


# --- the authors' MATLAB code -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "ssim_m", "ssim_index_m"),
    [
        (512, 512, 0.623777192135, 0.357498151659),  # halved
        (641, 385, 0.650359762178, 0.386552916430),  # 385 / 256 = 1.504: halved, at an odd size
        (640, 661, 0.779566308306, 0.393361033931),  # 640 / 256 = 2.5, in MATLAB rounded up to 3
        (900, 923, 0.874529651717, 0.401791316212),  # by 4
        (200, 181, 0.208174505170, 0.208174505170),  # as it is
    ],
)
def test_wang_2004_is_the_authors_code(height: int, width: int, ssim_m: float, ssim_index_m: float) -> None:
    """Figures of ssim.m (2009, "SSIM Index with automatic downsampling") and ssim_index.m (2003) by Zhou Wang.

    Run unchanged under GNU Octave 7.3.0 with octave-image 2.14.0, the images written by numpy's `tofile`:

        pkg load image
        f = fopen("x.bin"); x = fread(f, [width height], "double")'; fclose(f);   % and y
        printf("%.12f %.12f", ssim(x, y), ssim_index(x, y))
    """
    x, y = map(batch, figure_images(height, width))
    assert presets.wang_2004(x, y, data_range=255).item() == pytest.approx(ssim_m, abs=2e-12)
    assert presets.wang_2004(x, y, data_range=255, downsample=False).item() == pytest.approx(ssim_index_m, abs=2e-12)
    assert ssim(x, y, data_range=255).item() == pytest.approx(ssim_index_m, abs=2e-12)


# --- scikit-image -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use_sample_covariance", [True, False])
@pytest.mark.parametrize("gaussian_weights", [True, False])
def test_scikit_image_is_the_library(gaussian_weights: bool, use_sample_covariance: bool) -> None:
    options = {"gaussian_weights": gaussian_weights, "use_sample_covariance": use_sample_covariance}
    x, y = figure_images(41, 58)
    expected = skimage.metrics.structural_similarity(x, y, data_range=255, **options)
    value = presets.scikit_image(batch(x), batch(y), data_range=255, **options)
    assert value.item() == pytest.approx(expected, abs=1e-12)

    a, b = (np.stack([z, z[::-1], z**2 / 255]) for z in (x, y))
    expected = skimage.metrics.structural_similarity(a, b, data_range=255, channel_axis=0, **options)
    value = presets.scikit_image(batch(*a), batch(*b), data_range=255, **options)
    assert value.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("use_sample_covariance", [True, False])
@pytest.mark.parametrize("gaussian_weights", [True, False])
def test_scikit_image_of_volumes_and_signals(gaussian_weights: bool, use_sample_covariance: bool) -> None:
    options = {"gaussian_weights": gaussian_weights, "use_sample_covariance": use_sample_covariance}
    x, y = np.random.default_rng(0).random((2, 12, 13, 14))
    expected = skimage.metrics.structural_similarity(x, y, data_range=1, **options)
    value = presets.scikit_image(torch.tensor(x)[None, None], torch.tensor(y)[None, None], data_range=1, **options)
    assert value.item() == pytest.approx(expected, abs=1e-12)
    x, y = x[0, 0], y[0, 0]
    expected = skimage.metrics.structural_similarity(x, y, data_range=1, **options)
    window = presets.scikit_image_window(**options, axes=1)
    value = ssim(torch.tensor(x)[None, None], torch.tensor(y)[None, None], data_range=1, window=window)
    assert value.item() == pytest.approx(expected, abs=1e-12)


def test_the_defaults_of_scikit_image_are_ours() -> None:
    x, y = figure_images(41, 58)
    expected = skimage.metrics.structural_similarity(x, y, data_range=255)
    assert presets.scikit_image(batch(x), batch(y), data_range=255).item() == pytest.approx(expected, abs=1e-12)


def test_the_windows_of_the_module_docstring() -> None:
    """What a user passes to other functions gives the same figures."""
    x, y = map(batch, figure_images(33, 35))
    assert presets.__doc__ is not None
    for (gaussian_weights, use_sample_covariance), text in {
        (False, True): "Window.uniform(7, unbiased=True)",
        (False, False): "Window.uniform(7)",
        (True, True): "Window(Window.gaussian(11, 1.5).taps, beta=121 / 120)",
        (True, False): "Window.gaussian(11, 1.5)",
    }.items():
        assert f"  {text}\n" in presets.__doc__
        by_window = ssim(x, y, data_range=255, window=eval(text, {"Window": Window}))
        by_name = presets.scikit_image(
            x, y, data_range=255, gaussian_weights=gaussian_weights, use_sample_covariance=use_sample_covariance
        )
        assert torch.equal(by_window, by_name)


# --- TensorFlow -------------------------------------------------------------------------------------------------

TENSORFLOW = 1e-5  # its arithmetic is float32, with E x^2 - (E x)^2


def three_channels(height: int, width: int) -> tuple[Tensor, Tensor]:
    """The third pair of channels is anti-correlated."""
    x, y = figure_images(height, width)
    return batch(x, x[::-1], x), batch(y, y[::-1], 255 - y)


@pytest.mark.parametrize(("height", "width", "expected"), [(256, 256, 0.278235763), (181, 203, 0.217756107)])
def test_the_default_is_tensorflows_ssim(height: int, width: int, expected: float) -> None:
    """`tf.image.ssim(x, y, 255)`, TensorFlow 2.21.0 (tensorflow-cpu, NumPy 2.4.6), x and y as (1, H, W, 1) float32."""
    x, y = map(batch, figure_images(height, width))
    assert ssim(x, y, data_range=255).item() == pytest.approx(expected, abs=TENSORFLOW)


def test_the_default_is_tensorflows_ssim_in_colour() -> None:
    """As above, of three channels."""
    assert ssim(*three_channels(181, 203), data_range=255).item() == pytest.approx(0.145941302, abs=TENSORFLOW)


@pytest.mark.parametrize(("height", "width", "expected"), [(256, 256, 0.766598046), (181, 203, 0.712882340)])
def test_tensorflow_ms_ssim(height: int, width: int, expected: float) -> None:
    """`tf.image.ssim_multiscale(x, y, 255)`, versions as above; 181 x 203 px is padded at every halving."""
    x, y = map(batch, figure_images(height, width))
    assert presets.tensorflow_ms_ssim(x, y, data_range=255).item() == pytest.approx(expected, abs=TENSORFLOW)
    assert presets.tensorflow_ms_ssim(x.float(), y.float(), data_range=255).item() == pytest.approx(
        expected, abs=TENSORFLOW
    )


def test_tensorflow_ms_ssim_in_colour() -> None:
    """As above, (1, 181, 203, 3): the anti-correlated channel counts as 0 in the mean."""
    value = presets.tensorflow_ms_ssim(*three_channels(181, 203), data_range=255)
    assert value.item() == pytest.approx(0.474577457, abs=TENSORFLOW)


@pytest.mark.parametrize(
    ("weights", "size", "expected"), [((0.5, 0.5), 11, 0.204630330), ((0.2, 0.3, 0.5), 7, 0.383732170)]
)
def test_tensorflow_ms_ssim_with_other_options(weights: tuple[float, ...], size: int, expected: float) -> None:
    """`tf.image.ssim_multiscale(x, y, 255, power_factors=weights, filter_size=size)`, (1, 45, 37, 3)."""
    value = presets.tensorflow_ms_ssim(
        *three_channels(45, 37), data_range=255, weights=weights, window=Window.gaussian(size, 1.5)
    )
    assert value.item() == pytest.approx(expected, abs=TENSORFLOW)


def test_where_tensorflow_and_this_library_agree_and_where_they_part() -> None:
    """Even sizes and positive terms: the same number. Odd sizes: not."""
    x, y = map(batch, figure_images(192, 208))
    ours = ms_ssim(x, y, data_range=255, weights=WANG_SCALE_WEIGHTS)
    torch.testing.assert_close(presets.tensorflow_ms_ssim(x, y, data_range=255), ours, rtol=1e-12, atol=0)
    x, y = map(batch, figure_images(181, 203))
    ours = ms_ssim(x, y, data_range=255, weights=WANG_SCALE_WEIGHTS)
    assert abs(presets.tensorflow_ms_ssim(x, y, data_range=255) - ours) > 1e-3


def test_the_dead_zone_of_clamped_terms() -> None:
    """The gradient is 0 for anti-correlated images; that of `ms_ssim` is not."""
    x = skimage.data.camera()[200:232, 300:332] / 255
    y = batch(1 - x)
    leaf = batch(x).requires_grad_()
    value = presets.tensorflow_ms_ssim(leaf, y, data_range=1, weights=(1.0,))
    (dead,) = torch.autograd.grad(value.sum(), leaf)
    (alive,) = torch.autograd.grad(ms_ssim(leaf, y, data_range=1).sum(), leaf)
    assert value.item() == 0
    assert not dead.any()
    assert alive.abs().max() > 1e-4


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # of PyTorch's own making
def test_derivatives_where_terms_are_clamped_and_where_not() -> None:
    """Forward mode and backward mode agree; a clamped term makes the product of its channel constant."""
    patch = skimage.data.camera()[200:232, 300:332] / 255
    x, y = batch(patch, patch), batch(patch**2, 1 - patch)
    direction = torch.rand(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)

    def value(z: Tensor) -> Tensor:
        return presets.tensorflow_ms_ssim(z, y, data_range=1, weights=(0.5, 0.5)).sum()

    _, forward = torch.func.jvp(value, (x,), (direction,))
    backward = torch.func.grad(value)(x)
    step = 1e-6 * direction
    numerical = (value(x + step) - value(x - step)) / 2e-6
    assert backward[:, 0].abs().max() > 1e-4
    assert not backward[:, 1].any()
    assert forward.item() == pytest.approx((backward * direction).sum().item(), rel=1e-9)
    assert forward.item() == pytest.approx(numerical.item(), rel=1e-6)
    x[..., 3, 3] = torch.nan
    assert value(x).isnan()


def msssim_m(x: np.ndarray, y: np.ndarray) -> float:
    """msssim.m of Wang, Simoncelli and Bovik (2003) in NumPy, for [0, 255]: borders are mirrored before halving."""
    value = 1.0
    for scale, weight in enumerate(WANG_SCALE_WEIGHTS):
        options = {"data_range": 255, "gaussian_weights": True, "use_sample_covariance": False}
        a, b = torch.tensor(x)[None, None], torch.tensor(y)[None, None]
        if scale == len(WANG_SCALE_WEIGHTS) - 1:
            term = skimage.metrics.structural_similarity(x, y, **options)
        else:
            term = 1 - distance(a, b, data_range=255, form="centred", squared=True).item()
        value *= term**weight
        x, y = (np.pad(z, [(0, side % 2) for side in z.shape], mode="symmetric") for z in (x, y))
        x, y = ((z[::2, ::2] + z[1::2, ::2] + z[::2, 1::2] + z[1::2, 1::2]) / 4 for z in (x, y))
    return value


@pytest.mark.parametrize(("height", "width"), [(192, 208), (181, 203)])
def test_tensorflow_ms_ssim_is_msssim_m(height: int, width: int) -> None:
    x, y = figure_images(height, width)
    assert presets.tensorflow_ms_ssim(batch(x), batch(y), data_range=255).item() == pytest.approx(
        msssim_m(x, y), abs=1e-12
    )


# --- FFmpeg -----------------------------------------------------------------------------------------------------


def frames(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The images of figures in bytes."""
    x, y = figure_images(height, width)
    return x.round(), y.round()


FFMPEG = 2e-6  # six digits are printed; c1 and c2 are rounded there


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(512, 512, 0.375915), (181, 203, 0.224671), (64, 48, 0.132650), (66, 70, 0.131462)],
)
def test_ffmpeg(height: int, width: int, expected: float) -> None:
    """FFmpeg n9.0.2 (the static build of imageio-ffmpeg 0.8.1), x and y as bytes, written by numpy's `tofile`:

    ffmpeg -f rawvideo -pix_fmt gray -s WxH -i x.raw -f rawvideo -pix_fmt gray -s WxH -i y.raw -lavfi ssim -f null -
    """
    x, y = map(batch, frames(height, width))
    assert presets.ffmpeg(x, y, data_range=255).item() == pytest.approx(expected, abs=FFMPEG)
    assert presets.ffmpeg(x / 255, y / 255, data_range=1).item() == pytest.approx(expected, abs=FFMPEG)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(512, 512, 0.376089), (181, 203, 0.225025), (64, 48, 0.133463), (66, 70, 0.132102)],
)
def test_ffmpeg_of_ten_bits(height: int, width: int, expected: float) -> None:
    """As above, with -pix_fmt gray10le and 4 z + z mod 4 of each byte z."""
    x, y = (batch(4 * z + z % 4) for z in frames(height, width))
    assert presets.ffmpeg(x, y, data_range=1023).item() == pytest.approx(expected, abs=FFMPEG)


def test_ffmpeg_of_planes() -> None:
    """As above: All of -pix_fmt gbrp, and of yuv420p with its three planes."""
    x, y = frames(180, 200)
    planes = batch(x, x[::-1], 255 - x), batch(y, y[::-1], 255 - x[:, ::-1])
    assert presets.ffmpeg(*planes, data_range=255).item() == pytest.approx(0.362865, abs=FFMPEG)
    parts = [
        presets.ffmpeg(batch(x[part]), batch(y[part]), data_range=255).item()
        for part in (np.s_[:], np.s_[::2, ::2], np.s_[1::2, 1::2])
    ]
    assert parts == pytest.approx([0.223784, 0.274403, 0.284586], abs=FFMPEG)
    assert (4 * parts[0] + parts[1] + parts[2]) / 6 == pytest.approx(0.242354, abs=FFMPEG)


# --- MATLAB's toolbox -------------------------------------------------------------------------------------------


def toolbox(x: np.ndarray, y: np.ndarray, length: float) -> float:
    """`ssim` of the Image Processing Toolbox as its help describes it: there is no MATLAB here to print figures."""

    def mean(z: np.ndarray) -> np.ndarray:
        return scipy.ndimage.gaussian_filter(z, 1.5, radius=5, mode="nearest")

    c1, c2 = (0.01 * length) ** 2, (0.03 * length) ** 2
    mu_x, mu_y = mean(x), mean(y)
    var_x, var_y, cov = mean(x * x) - mu_x**2, mean(y * y) - mu_y**2, mean(x * y) - mu_x * mu_y
    similarity = (2 * mu_x * mu_y + c1) * (2 * cov + c2) / ((mu_x**2 + mu_y**2 + c1) * (var_x + var_y + c2))
    return float(similarity.mean())


@pytest.mark.parametrize(("height", "width"), [(256, 256), (181, 203), (7, 9)])
def test_matlab_toolbox(height: int, width: int) -> None:
    x, y = figure_images(height, width)
    value = presets.matlab_toolbox(batch(x), batch(y), data_range=255).item()
    assert value == pytest.approx(toolbox(x, y, 255), abs=1e-11)
    colours = presets.matlab_toolbox(batch(x, y), batch(y, y), data_range=255).item()
    assert colours == pytest.approx((value + 1) / 2, abs=1e-12)


# --- super-resolution -------------------------------------------------------------------------------------------


def test_luma_is_that_of_colour_bars() -> None:
    """The codes of BT.601 for full colours in 8 bits; and `skimage.color.rgb2ycbcr`, whose weights are MATLAB's."""
    bars = {"black": 16, "white": 235, "red": 81, "green": 145, "blue": 41, "yellow": 210, "cyan": 170, "magenta": 106}
    rgb = {"black": 0, "red": 4, "green": 2, "blue": 1, "yellow": 6, "magenta": 5, "cyan": 3, "white": 7}
    for name, code in bars.items():
        bits = [255.0 * (rgb[name] >> shift & 1) for shift in (2, 1, 0)]
        colour = torch.tensor(bits, dtype=torch.float64).view(1, 3, 1, 1)
        assert presets.luma(colour, data_range=255).round().item() == code, name
    photograph = skimage.data.astronaut()[:40, :50]
    expected = skimage.color.rgb2ycbcr(photograph)[..., 0]
    pixels = batch(*photograph.transpose(2, 0, 1).astype(float))
    for lo, hi in ((0, 255), (0, 1), (-1, 1)):
        found = presets.luma(lo + pixels / 255 * (hi - lo), data_range=(lo, hi))
        np.testing.assert_allclose((found[0, 0] - lo) / (hi - lo) * 255, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("border", [0, 2, 4])
def test_super_resolution_is_ssim_of_the_cropped_luma(border: int) -> None:
    """Of scikit-image's luma, rounded to bytes and cropped, by its SSIM with the window of Wang et al."""
    photograph = skimage.data.astronaut()[100:180, 150:240]
    enlarged = skimage.transform.resize(photograph[::4, ::4], photograph.shape, order=3, preserve_range=True)
    images = photograph, enlarged.round().clip(0, 255).astype(np.uint8)
    inside = np.s_[border : 80 - border, border : 90 - border]
    for rounded in (True, False):
        lumas = [skimage.color.rgb2ycbcr(z)[..., 0][inside] for z in images]
        lumas = [np.floor(z + 0.5 + 1e-9) for z in lumas] if rounded else lumas  # some are halves, up to rounding
        options = {"data_range": 255, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        expected = skimage.metrics.structural_similarity(*lumas, **options)
        tensors = [batch(*z.transpose(2, 0, 1).astype(float)) for z in images]
        for length in (255, 1):
            scaled = [z * length / 255 for z in tensors]
            value = presets.super_resolution(*scaled, data_range=length, border=border, rounded=rounded).item()
            assert value == pytest.approx(expected, abs=1e-10)
    grey = [batch(np.floor(0.5 + 1e-9 + skimage.color.rgb2ycbcr(z)[..., 0])) for z in images]
    of_grey = presets.super_resolution(*grey, data_range=255, border=border).item()
    assert of_grey == pytest.approx(presets.super_resolution(*tensors, data_range=255, border=border).item(), abs=1e-12)


def test_bytes_in_single_precision_are_rounded_alike() -> None:
    """In [0, 1] too, where float32 holds no 255ths."""
    x, y = (batch(*(z.round(), z[::-1].round(), z.round() // 2)) for z in figure_images(60, 70))
    exact = presets.super_resolution(x, y, data_range=255, border=3).item()
    for length in (255, 1):
        single = presets.super_resolution(
            (x * length / 255).float(), (y * length / 255).float(), data_range=length, border=3
        )
        assert single.item() == pytest.approx(exact, abs=1e-6)


@pytest.mark.usefixtures("no_shape_checks")
def test_what_luma_and_crop_refuse() -> None:
    x = torch.zeros(1, 1, 16, 16)
    with pytest.raises(ValueError, match=r"^luma is of three channels, .* got shape \(1, 1, 16, 16\)$"):
        presets.luma(x, data_range=1)
    for width, text in (
        (8, "a border of 8 px leaves nothing of images of 16 x 16 px: crop less"),
        (-1, "width must be a whole number of pixels"),
        (1.5, "width must be a whole number of pixels"),
    ):
        with pytest.raises(ValueError, match=text):
            presets.crop_border(x, width)
    assert torch.equal(presets.crop_border(x, 0), x)
    with pytest.raises(ValueError, match="one function of two images"):
        presets.super_resolution(x, x, data_range=torch.ones(1), border=0)


def test_each_pair_has_its_own_value() -> None:
    x, y = (torch.cat([z, z.flip(-1) ** 2 / 255]) for z in map(batch, figure_images(46, 47)))
    for preset in (
        presets.wang_2004,
        presets.scikit_image,
        presets.ffmpeg,
        presets.matlab_toolbox,
        lambda x, y, data_range: presets.super_resolution(x, y, data_range=data_range, border=2),
        lambda x, y, data_range: presets.tensorflow_ms_ssim(x, y, data_range=data_range, weights=(0.3, 0.7)),
    ):
        values = preset(x, y, data_range=255)
        assert values.shape == (2,)
        for i in range(2):
            torch.testing.assert_close(preset(x[i : i + 1], y[i : i + 1], data_range=255), values[i : i + 1])
