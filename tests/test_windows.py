"""Windows: weights by their definition, positions by counting, and refusals by their text."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracles import ssim as oracle
from ssimgen import Window


@pytest.mark.parametrize(("size", "sigma"), [(11, 1.5), (8, 2.0), (7, 0.5), (2, 0.7), (1, 3.0)])
def test_gaussian_weights_are_those_of_the_definition(size: int, sigma: float) -> None:
    window = Window.gaussian(size, sigma)
    np.testing.assert_allclose(np.outer(window.taps, window.taps), oracle.gaussian(size, sigma), rtol=1e-14)
    assert window.beta == 1
    assert window.size == size


def test_gaussian_falls_off_from_its_centre() -> None:
    """A published loss lacked the sign of the exponent: its weights grew outwards."""
    taps = Window.gaussian(11, 1.5).taps
    assert list(taps[:6]) == sorted(taps[:6])
    assert taps == taps[::-1]
    assert taps[5] / taps[8] == pytest.approx(math.exp(3**2 / (2 * 1.5**2)), rel=1e-14)


@pytest.mark.parametrize(("size", "beta"), [(8, 64 / 63), (7, 49 / 48), (2, 4 / 3)])
def test_uniform_windows_and_their_sample_covariance(size: int, beta: float) -> None:
    assert Window.uniform(size).taps == (1 / size,) * size
    assert Window.uniform(size).beta == 1
    assert Window.uniform(size, unbiased=True).beta == pytest.approx(beta, rel=1e-15)


@given(size=st.integers(1, 12), stride=st.integers(1, 12), length=st.integers(1, 60))
def test_positions_are_the_windows_wholly_inside(size: int, stride: int, length: int) -> None:
    starts = [start for start in range(0, length, stride) if start + size <= length]
    assert Window.uniform(size, stride).positions(length) == len(starts)


def test_a_window_is_a_value() -> None:
    """Equal windows are equal keys (compiled kernels are cached by window), and nothing changes one."""
    assert Window.gaussian(11, 1.5) == Window.gaussian()
    assert len({Window.gaussian(), Window.gaussian(11, 1.5), Window.gaussian(11, 1.5, stride=2)}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        Window.gaussian().stride = 2  # type: ignore[misc]


def test_numbers_of_numpy_are_numbers() -> None:
    window = Window.gaussian(np.int64(5), np.float32(1.5), stride=np.int32(2))
    assert window == Window.gaussian(5, 1.5, stride=2)
    assert type(window.stride) is int
    assert Window(np.full(4, 0.25)) == Window.uniform(4)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _own_messages(no_shape_checks: None) -> None:
    """Wrong types reach the library, as they do for users."""


NOT_WHOLE = [0, -1, 1.5, "11", None, True, float("nan")]
NOT_POSITIVE = [0, -1.5, float("nan"), float("inf"), "1.5", None, True]


@pytest.mark.parametrize("value", NOT_WHOLE)
def test_sizes_and_strides_are_whole_numbers(value: object) -> None:
    for make in (Window.gaussian, Window.uniform):
        with pytest.raises(ValueError, match="size must be a whole number of pixels, at least 1, got") as error:
            make(value)  # type: ignore[operator]
        assert repr(value) in str(error.value)
    with pytest.raises(ValueError, match="stride must be a whole number of pixels, at least 1, got"):
        Window.uniform(8, value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [2**16 + 1, 10**30])
def test_sizes_and_strides_are_those_of_images(value: int) -> None:
    """Refused before a tuple of so many weights is made."""
    for make in (Window.gaussian, Window.uniform):
        with pytest.raises(ValueError, match=f"size must be at most 65536 pixels, got {value}"):
            make(value)
    with pytest.raises(ValueError, match=f"stride must be at most 65536 pixels, got {value}"):
        Window.uniform(8, value)


@pytest.mark.parametrize("value", NOT_POSITIVE)
def test_sigma_and_beta_are_positive_numbers(value: object) -> None:
    with pytest.raises(ValueError, match=r"sigma must be a positive number of pixels, got .*: the usual value is 1.5"):
        Window.gaussian(11, value)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"beta must be a positive number, got .*: 1 for a weighted mean"):
        Window((0.5, 0.5), beta=value)  # type: ignore[arg-type]


def test_a_sigma_whose_outer_weights_vanish_is_refused() -> None:
    for sigma in (0.05, 1e-300):
        with pytest.raises(
            ValueError, match=rf"sigma of {sigma} px is too small for a window of 11 px.*a larger sigma"
        ):
            Window.gaussian(11, sigma)
    assert Window.gaussian(11, 1e200).taps == pytest.approx(Window.uniform(11).taps)


@pytest.mark.parametrize(
    "taps",
    [(), (0.5, 0.6), (1.5, -0.5), (0.0, 1.0), (float("nan"), 1.0), ("0.5", "0.5"), 11, None, "ab", ((0.5,), (0.5,))],
)
def test_taps_are_positive_numbers_of_sum_one(taps: object) -> None:
    with pytest.raises(ValueError, match=r"taps must be positive numbers of sum 1, got .*: divide weights by"):
        Window(taps)  # type: ignore[arg-type]


def test_the_sample_covariance_of_one_pixel_is_refused() -> None:
    with pytest.raises(ValueError, match="unbiased=True divides by q - 1 = 0 for a window of 1 px: take a larger"):
        Window.uniform(1, unbiased=True)
