"""NumPy arrays and PIL pictures: the values of the functions on tensors, and those of scikit-image by its names."""

from __future__ import annotations

import inspect
import re
import threading
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import skimage.metrics
import torch
from PIL import Image

import ssimgen
from image_pairs import random_images
from ssimgen import Window, arrays, presets

Function = Callable[..., Any]

NAMES = ("ssim", "ms_ssim", "distance", "ssim_map")
each = pytest.mark.parametrize("name", NAMES)


def both(name: str) -> tuple[Function, Function]:
    return getattr(arrays, name), getattr(ssimgen, name)


def byte_images(*shape: int) -> tuple[np.ndarray, np.ndarray]:
    x, y = random_images(*shape)
    return (255 * x).round().astype(np.uint8), (255 * y).round().astype(np.uint8)


# --- layouts and dtypes -------------------------------------------------------------------------------------------


@each
@pytest.mark.parametrize("order", [[0, 1, 2, 3], [0, 2, 3, 1], [2, 3, 1, 0], [1, 2, 0, 3]], ids=str)
def test_batches_in_every_layout(name: str, order: list[int]) -> None:
    """Axes of (B, C, H, W) in another order; a map keeps it."""
    function, on_tensors = both(name)
    x, y = random_images(3, 2, 24, 27)
    axes = {"batch_axis": order.index(0), "channel_axis": order.index(1) - 4}
    value = function(x.transpose(order), y.transpose(order), data_range=1, **axes)
    expected = on_tensors(torch.tensor(x), torch.tensor(y), data_range=1).numpy()
    np.testing.assert_array_equal(value, expected.transpose(order) if name == "ssim_map" else expected)
    assert value.dtype == np.float64


@each
def test_one_pair_is_a_number(name: str) -> None:
    function, on_tensors = both(name)
    x, y = (z.astype(np.float32) for z in random_images(24, 27, 3))
    for a, b, options, tensors in (
        (x, y, {"channel_axis": -1}, [torch.tensor(z).permute(2, 0, 1)[None] for z in (x, y)]),
        (x[..., 0], y[..., 0], {}, [torch.tensor(z[..., 0])[None, None] for z in (x, y)]),
    ):
        value, expected = function(a, b, data_range=1, **options), on_tensors(*tensors, data_range=1)[0]
        if name == "ssim_map":
            np.testing.assert_array_equal(value, expected.movedim(0, -1).numpy().reshape(value.shape))
            assert value.shape == (14, 17, *a.shape[2:])
        else:
            assert type(value) is float
            assert value == expected.item()


@each
@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.uint16, np.dtype(">u2")], ids=str)
def test_the_dtype_says_the_range(name: str, dtype: Any) -> None:
    function, on_tensors = both(name)
    greatest = {"b": 1, "u": 2 ** (8 * np.dtype(dtype).itemsize) - 1}[np.dtype(dtype).kind]
    x, y = ((greatest * z).round().astype(dtype) for z in random_images(26, 24))
    value = function(x, y)
    tensors = [torch.tensor(z.astype(float) / greatest)[None, None] for z in (x, y)]
    np.testing.assert_allclose(value, on_tensors(*tensors, data_range=1).numpy().squeeze(), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(value, function(x, y, data_range=greatest))


@pytest.mark.parametrize(
    "dtype", ["int8", "int16", "int32", "int64", "uint32", "uint64", "float16", "float32", "float64", ">f4", ">i8"]
)
def test_other_dtypes_need_one(dtype: str) -> None:
    x, y = ((100 * z).astype(dtype) for z in random_images(24, 24))
    text = f"data_range has no default for images of {np.dtype(dtype).name}: pass 1.0 for values in [0, 1]"
    with pytest.raises(ValueError, match=re.escape(text)):
        arrays.ssim(x, y)
    tensors = [torch.tensor(z.astype(float))[None, None] for z in (x, y)]
    assert arrays.ssim(x, y, data_range=100) == pytest.approx(ssimgen.ssim(*tensors, data_range=100).item(), abs=1e-6)


def test_two_dtypes() -> None:
    """Of one range: as they are. Of two: it must be said."""
    x, y = byte_images(24, 24)
    with pytest.raises(ValueError, match="no default for images of uint8 and uint16"):
        arrays.ssim(x, y.astype(np.uint16))
    with pytest.raises(ValueError, match="no default for images of uint8 and float64"):
        arrays.ssim(x, y / 255)
    assert arrays.ssim(x, y.astype(np.uint16), data_range=255) == arrays.ssim(x, y)
    assert arrays.ssim(x, y.astype(float), data_range=255) == pytest.approx(arrays.ssim(x, y), abs=1e-6)


def test_a_range_for_each_image() -> None:
    x, y = random_images(3, 24, 24)
    ranges = np.array([1.0, 2.0, 4.0])
    values = arrays.ssim(x, y, data_range=ranges, batch_axis=0)
    alone = [arrays.ssim(a, b, data_range=r) for a, b, r in zip(x, y, ranges, strict=True)]
    np.testing.assert_allclose(values, alone, rtol=0, atol=1e-12)


def test_options_are_passed_on() -> None:
    x, y = random_images(40, 40)
    a, b = torch.tensor(x)[None, None], torch.tensor(y)[None, None]
    options = {"data_range": (-1, 1), "window": Window.uniform(5, stride=2), "k1": 0.1, "k2": 0.2}
    for name, more in {
        "ssim": {},
        "ssim_map": {},
        "ms_ssim": {"weights": (0.3, 0.7)},
        "distance": {"form": "product", "norm": "frobenius", "squared": True},
    }.items():
        function, on_tensors = both(name)
        expected = on_tensors(a, b, **options, **more).numpy().squeeze()
        np.testing.assert_array_equal(function(x, y, **options, **more), expected)


# --- memory -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("writeable", [True, False])
def test_floating_point_images_are_not_copied(dtype: Any, writeable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that may not be written to, such as the pixels of a picture; nor is anything said of them."""
    x, y = (z.astype(dtype) for z in random_images(2, 24, 30))
    for z in (x, y):
        z.flags.writeable = writeable
    places: list[int] = []
    monkeypatch.setattr(
        arrays.similarity, "ssim", lambda a, b, **_: places.extend([a.data_ptr(), b.data_ptr()]) or torch.zeros(1)
    )
    arrays.ssim(x, y, data_range=1, channel_axis=0)
    assert places == [x.ctypes.data, y.ctypes.data]


def test_views_of_all_kinds() -> None:
    x, y = random_images(60, 60)
    for view in (np.s_[::-1], np.s_[:, ::-1], np.s_[::2, 3::2], np.s_[5:40, 10:50]):
        expected = arrays.ssim(x[view].copy(), y[view].copy(), data_range=1)
        assert arrays.ssim(x[view], y[view], data_range=1) == expected
    bytes_x, bytes_y = byte_images(60, 60)
    bytes_x.flags.writeable = False
    views = bytes_x[::2, ::-1], bytes_y[::2, ::-1]
    assert arrays.ssim(*views) == arrays.ssim(*(view.copy() for view in views))
    assert arrays.ssim(bytes_x.T, bytes_y.T) == pytest.approx(arrays.ssim(bytes_x, bytes_y), abs=1e-7)


def test_large_bytes_are_converted_in_two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = byte_images(200, 500, 3)
    alone = arrays.ssim(x, y, channel_axis=-1)
    monkeypatch.setattr(arrays.torch, "get_num_threads", lambda: 2)
    threads: set[str] = set()
    convert = arrays.tensor_of
    monkeypatch.setattr(arrays, "tensor_of", lambda z: threads.add(threading.current_thread().name) or convert(z))
    assert arrays.ssim(x, y, channel_axis=-1) == alone
    assert len(threads) == 2


# --- pictures -----------------------------------------------------------------------------------------------------


def test_pictures(tmp_path: Path) -> None:
    """Grey, colours, two values, 16 bits and floating point; from a file too."""
    x, y = byte_images(32, 40, 3)
    colours = [Image.fromarray(z) for z in (x, y)]
    expected = arrays.ssim(x, y, channel_axis=-1)
    assert arrays.ssim(*colours) == expected
    assert arrays.ssim_map(*colours).shape == (22, 30, 3)
    assert arrays.ssim(colours[0], y) == arrays.ssim(x, colours[1]) == expected
    colours[0].save(tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as opened:
        assert arrays.ssim(opened, colours[1]) == expected
    grey = [picture.convert("L") for picture in colours]
    assert arrays.ssim(*grey) == arrays.ssim(*map(np.asarray, grey))
    two = [picture.convert("1") for picture in grey]
    assert arrays.ssim(*two) == arrays.ssim(*map(np.asarray, two))
    deep = [Image.fromarray(z[..., 0].astype(np.uint16) * 257) for z in (x, y)]
    assert arrays.ssim(*deep) == pytest.approx(arrays.ssim(x[..., 0], y[..., 0]), abs=1e-6)
    real = [Image.fromarray(z[..., 0].astype(np.float32)) for z in (x, y)]
    assert arrays.ssim(*real, data_range=255) == pytest.approx(arrays.ssim(x[..., 0], y[..., 0]), abs=1e-6)


@pytest.mark.parametrize("mode", ["P", "RGBA", "LA", "CMYK", "YCbCr", "HSV"])
def test_pictures_of_other_modes_are_refused(mode: str) -> None:
    picture = Image.new("RGB", (20, 20)).convert("L" if mode == "LA" else "RGB").convert(mode)
    with pytest.raises(ValueError, match=rf'^y is a picture of mode {mode}: pass y.convert\("RGB"\) or y.convert'):
        arrays.ssim(Image.new("RGB", (20, 20)), picture)


# --- bad input ----------------------------------------------------------------------------------------------------

GREY = np.zeros((24, 24))


@pytest.mark.parametrize(
    ("x", "y", "options", "error", "text"),
    [
        (torch.zeros(24, 24), GREY, {}, TypeError, "x is a tensor: pass it to the functions of ssimgen, or x.numpy()"),
        ("a.png", GREY, {}, TypeError, "x must be an array or a picture, got 'a.png': read it first"),
        (GREY, Path("b.png"), {}, TypeError, "y must be an array or a picture, got PosixPath('b.png')"),
        (np.ma.masked_less(GREY, 1), GREY, {}, TypeError, "x is a masked array, whose mask would not be seen"),
        (1j * GREY, GREY, {}, TypeError, "x must hold real numbers of at most 64 bits, got complex128"),
        (GREY, GREY.astype(object), {}, TypeError, "y must hold real numbers of at most 64 bits, got object"),
        (GREY.astype(np.longdouble), GREY, {}, TypeError, "x must hold real numbers of at most 64 bits, got float128"),
        (None, GREY, {}, TypeError, "x must hold real numbers"),
        (GREY, GREY[1:], {}, ValueError, "x and y must have equal shapes, got (24, 24) and (23, 24): crop or resize"),
        (GREY[0], GREY[0], {}, ValueError, "must have a height and a width beside"),
        (GREY[0], GREY[0], {}, ValueError, "got shape (24,): signals need a window of one axis, such as window=Window"),
        (
            np.stack([GREY] * 5),
            np.stack([GREY] * 5),
            {},
            ValueError,
            "Window.gaussian((5, 11, 11)) for a volume",
        ),
        (GREY, GREY, {"channel_axis": -1}, ValueError, "got shape (24, 24): leave one out"),
        (GREY[None], GREY[None], {}, ValueError, "got shape (1, 24, 24): pass channel_axis=-1 if colours come last"),
        (GREY[None], GREY[None], {"channel_axis": 3}, ValueError, "channel_axis must be an axis of images of shape"),
        (GREY[None], GREY[None], {"batch_axis": True}, ValueError, "batch_axis must be an axis of images of shape"),
        (
            GREY[None, None],
            GREY[None, None],
            {"batch_axis": 0, "channel_axis": -4},
            ValueError,
            "batch_axis and channel_axis are both axis -4 of images of shape (1, 1, 24, 24)",
        ),
        (GREY[:5], GREY[:5], {}, ValueError, "window of 11 x 11 px does not fit images of 5 x 24 px"),
        (GREY, GREY, {"data_range": -1}, ValueError, "data_range must be a positive number"),
        (GREY, GREY, {"window": 7}, TypeError, "window must be a ssimgen.Window"),
    ],
)
@pytest.mark.usefixtures("no_shape_checks")
def test_what_is_refused(x: Any, y: Any, options: dict[str, Any], error: type[Exception], text: str) -> None:
    for name in NAMES:
        with pytest.raises(error, match=re.escape(text)):
            getattr(arrays, name)(x, y, **{"data_range": 1, **options})


@pytest.mark.usefixtures("no_shape_checks")
def test_functions_of_tensors_tell_of_this_module() -> None:
    bytes_ = torch.zeros(1, 1, 24, 24, dtype=torch.uint8)
    with pytest.raises(TypeError, match=r"got torch.uint8: .* or pass arrays of bytes to ssimgen.arrays"):
        ssimgen.ssim(bytes_, bytes_, data_range=255)


# --- scikit-image -------------------------------------------------------------------------------------------------


def photograph() -> tuple[np.ndarray, np.ndarray]:
    """A part of the cameraman, and it under noise, in bytes."""
    picture = skimage.data.camera()[200:261, 180:250]
    noise = 20 * np.random.default_rng(0).standard_normal(picture.shape)
    return picture, (picture + noise).clip(0, 255).astype(np.uint8)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"win_size": 9},
    {"use_sample_covariance": False, "K1": 0.02, "K2": 0.05},
    {"gaussian_weights": True},
    {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "win_size": 11},
    {"gaussian_weights": True, "sigma": 0.8, "K1": 0.03},
    {"gaussian_weights": True, "sigma": 2.3},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_it_is_scikit_image(options: dict[str, Any], dtype: Any) -> None:
    """The value and the whole map, of grey and of colours."""
    tolerance = 1e-6 if dtype is np.uint8 else 1e-12
    x, y = (z.astype(dtype) for z in photograph())
    colours = [np.stack([z, z[::-1], np.roll(z, 7)], -1) for z in (x, y)]
    for (a, b), axis in (((x, y), None), (colours, -1)):
        arguments = {"data_range": None if dtype is np.uint8 else 255, "channel_axis": axis, **options}
        value, whole = arrays.structural_similarity(a, b, full=True, **arguments)
        expected, expected_map = skimage.metrics.structural_similarity(a, b, full=True, **arguments)
        assert value == pytest.approx(expected, abs=tolerance)
        assert arrays.structural_similarity(a, b, **arguments) == value
        np.testing.assert_allclose(whole, expected_map, rtol=0, atol=10 * tolerance)


@pytest.mark.parametrize("options", [*OPTIONS, {"win_size": 5}], ids=str)
@pytest.mark.parametrize("shape", [(40,), (40, 3), (18, 19, 20)], ids=["signal", "signals", "volume"])
def test_signals_and_volumes_are_scikit_image(shape: tuple[int, ...], options: dict[str, Any]) -> None:
    random = np.random.default_rng(0)
    x = random.random(shape)
    y = (x + random.random(shape)) / 2
    arguments = {"data_range": 1.0, "channel_axis": -1 if shape == (40, 3) else None, "full": True, **options}
    value, whole = arrays.structural_similarity(x, y, **arguments)
    expected, expected_map = skimage.metrics.structural_similarity(x, y, **arguments)
    assert value == pytest.approx(expected, abs=1e-12)
    np.testing.assert_allclose(whole, expected_map, rtol=0, atol=1e-11)


def test_the_figure_of_ipol() -> None:
    """The one in scikit-image's tests: IPOL's ssim.c on its own noisy cameraman prints 0.327309966087341."""
    random = np.random.RandomState(5)
    x = skimage.data.camera()
    noise = 20 * random.randn(*x.shape)
    y = np.clip(x + noise, 0, 255).astype(x.dtype)
    found = arrays.structural_similarity(x, y, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    exact = skimage.metrics.structural_similarity(x, y, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    assert found == pytest.approx(exact, abs=1e-6)
    assert arrays.ssim(x, y) == found  # the default window is that of Wang et al.


def test_its_window_is_a_preset() -> None:
    x, y = photograph()
    for options in OPTIONS:
        constants = {ours: options[theirs] for ours, theirs in (("k1", "K1"), ("k2", "K2")) if theirs in options}
        of_window = {k: v for k, v in options.items() if not k.startswith("K")}
        value = arrays.ssim(x, y, window=presets.scikit_image_window(**of_window), **constants)
        assert value == arrays.structural_similarity(x, y, **options)


@pytest.mark.parametrize(
    ("shape", "options", "text"),
    [
        ((5, 24), {}, "window of 7 px does not fit images of 5 x 24 px: pass a smaller win_size, or channel_axis=-1"),
        ((24, 24, 3), {}, "window of 7 px does not fit images of 24 x 24 x 3 px: pass a smaller win_size, or"),
        ((5, 24, 3), {"channel_axis": -1}, "does not fit images of 5 x 24 px: pass a smaller win_size"),
        ((8, 24), {"gaussian_weights": True}, "window of 11 px does not fit images of 8 x 24 px: pass a smaller sigma"),
    ],
)
def test_windows_that_do_not_fit_have_its_remedies(shape: tuple[int, ...], options: dict[str, Any], text: str) -> None:
    x = np.random.default_rng(0).random(shape)
    with pytest.raises(ValueError, match=re.escape(text)):
        arrays.structural_similarity(x, x, data_range=1, **options)
    remedy = {"sigma": 0.8} if options.get("gaussian_weights") else {"win_size": 5}
    if shape == (24, 24, 3):
        remedy["channel_axis"] = -1
    assert arrays.structural_similarity(x, x, data_range=1, **options, **remedy) == pytest.approx(1)


def test_images_are_named_as_the_function_names_them() -> None:
    with pytest.raises(ValueError, match=re.escape("im1 and im2 must have equal shapes, got (24, 24) and (23, 24)")):
        arrays.structural_similarity(GREY, GREY[1:], data_range=1)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"gradient": True}, "pass tensors that require gradients to ssimgen.ssim and call backward()"),
        ({"win_size": 8}, "win_size must be odd and at least 3, got 8: ssimgen.ssim takes window=Window.uniform(8)"),
        ({"win_size": 7.0}, "win_size must be a whole number of pixels"),
        ({"win_size": 7, "gaussian_weights": True}, "win_size must be 11 with gaussian_weights and sigma=1.5, or None"),
        ({"sigma": 0, "gaussian_weights": True}, "sigma must be a positive number of pixels, got 0"),
        ({"K1": -1}, "k1 must be a positive number, got -1"),
        ({"data_range": None}, "data_range has no default for images of float64"),
    ],
)
@pytest.mark.usefixtures("no_shape_checks")
def test_what_scikit_image_takes_and_this_does_not(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        arrays.structural_similarity(GREY, GREY, **{"data_range": 1, **options})


def test_all_its_names_are_known() -> None:
    """Of its signature and of what it documents beside it."""
    theirs = set(inspect.signature(skimage.metrics.structural_similarity).parameters) - {"kwargs"}
    ours = set(inspect.signature(arrays.structural_similarity).parameters)
    assert ours == theirs | {"K1", "K2", "sigma", "use_sample_covariance"}


def test_pairs_of_options_agree_everywhere() -> None:
    """Every pair of flags, at the smallest image that holds the window."""
    for gaussian, sample, full in product((False, True), repeat=3):
        side = 11 if gaussian else 7
        x, y = random_images(side, side + 3)
        options = {"gaussian_weights": gaussian, "use_sample_covariance": sample, "full": full, "data_range": 1}
        value = arrays.structural_similarity(x, y, **options)
        expected = skimage.metrics.structural_similarity(x, y, **options)
        for a, b in zip(value, expected, strict=True) if full else [(value, expected)]:
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("options", [{}, {"gaussian_weights": True, "sigma": 0.8}, {"use_sample_covariance": False}])
def test_volumes_are_those_of_scikit_image(options: dict[str, Any]) -> None:
    x, y = np.random.default_rng(0).random((2, 9, 10, 8))
    mean, full = arrays.structural_similarity(x, y, data_range=1.0, full=True, **options)  # type: ignore[misc]
    expected, expected_map = skimage.metrics.structural_similarity(x, y, data_range=1.0, full=True, **options)
    assert mean == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(full, expected_map, rtol=1e-10, atol=1e-12)


def test_volumes_and_signals_in_every_layout() -> None:
    random = np.random.default_rng(0)
    x, y = random.random((2, 4, 5, 6, 7, 2))  # (B, D, H, W, C)
    options: dict[str, Any] = {"data_range": 1.0, "window": Window.uniform(3)}
    tensors = [torch.from_numpy(z).movedim(-1, 1) for z in (x, y)]
    expected = ssimgen.ssim_map(*tensors, **options).movedim(1, -1).numpy()
    found = arrays.ssim_map(x, y, batch_axis=0, channel_axis=-1, **options)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)
    np.testing.assert_allclose(arrays.ssim_map(x[0, ..., 0], y[0, ..., 0], **options), expected[0, ..., 0], atol=1e-14)
    signal = Window.uniform((3,))
    value = arrays.ssim(x[0, 0, 0, :, 0], y[0, 0, 0, :, 0], data_range=1.0, window=signal)
    rows = [torch.from_numpy(z[0, 0, 0, :, 0])[None, None] for z in (x, y)]
    assert value == ssimgen.ssim(*rows, data_range=1.0, window=signal).item()


def test_masks() -> None:
    """In the shape of the images or of their spatial axes; of masked arrays, by the remedy of their refusal."""
    random = np.random.default_rng(0)
    x, y = random.random((2, 3, 14, 15, 2))
    mask = random.random((14, 15)) > 0.3
    options: dict[str, Any] = {"data_range": 1.0, "window": Window.gaussian(3)}
    tensors = [torch.from_numpy(z).movedim(-1, 1) for z in (x, y)]
    for name in ("ssim", "ms_ssim", "distance"):
        expected = getattr(ssimgen, name)(*tensors, mask=torch.from_numpy(mask), **options).numpy()
        for own in (mask, np.broadcast_to(mask, x.shape[:3]), np.broadcast_to(mask[None, :, :, None], x.shape)):
            found = getattr(arrays, name)(x, y, batch_axis=0, channel_axis=-1, mask=own, **options)
            np.testing.assert_allclose(found, expected, rtol=1e-12)
    with pytest.raises(ValueError, match=re.escape("(3, 14, 15, 2), (3, 14, 15) or (14, 15), got (3, 14, 2)")):
        arrays.ssim(x, y, batch_axis=0, channel_axis=-1, mask=np.ones((3, 14, 2)), **options)
    with pytest.raises(ValueError, match=re.escape("the images or less, (14, 15), got (14,)")):
        arrays.ssim(x[0, ..., 0], y[0, ..., 0], mask=np.ones(14), **options)
    each = np.stack([np.roll(mask, i) for i in range(3)])
    found = arrays.ssim(x, y, batch_axis=0, channel_axis=-1, mask=each, **options)
    alone = [arrays.ssim(x[i], y[i], channel_axis=-1, mask=each[i], **options) for i in range(3)]
    np.testing.assert_allclose(found, alone, rtol=1e-12)
    hidden = np.ma.array(x[0, ..., 0], mask=~mask)
    with pytest.raises(TypeError, match=r"pass x.data, and mask=~x.mask"):
        arrays.ssim(hidden, y[0, ..., 0], **options)
    value = arrays.ssim(hidden.data, y[0, ..., 0], mask=~hidden.mask, **options)
    assert value == arrays.ssim(x[0, ..., 0], y[0, ..., 0], mask=mask, **options)
    assert (
        arrays.ssim_map(x[0], y[0], channel_axis=-1, mask=0 * mask + (np.arange(15) > 9), fill=7.0, **options).max()
        == 7
    )
    with pytest.raises(ValueError, match=r"mask must have the shape of the images or less, \(14, 15\), got \(3,\)"):
        arrays.ssim(x[0, ..., 0], y[0, ..., 0], mask=np.ones(3), **options)
