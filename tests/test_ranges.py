"""One data_range an image: what functions of pairs make of it, and why all others refuse it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import ssimgen
from image_pairs import random_images
from ssimgen import Window, distance, ms_ssim, pairwise, presets, ssim, ssim_map
from ssimgen.components import Component
from ssimgen.evaluation import psnr
from ssimgen.kernels import SSIM
from ssimgen.losses import MSSSIMLoss, SSIMLoss, StructuralDistanceLoss
from ssimgen.metrics import StructuralDistance

Function = Callable[..., Tensor]

PAIRS: dict[str, Function] = {
    "ssim": ssim,
    "ssim_map": ssim_map,
    "ms_ssim": ms_ssim,
    "distance": distance,
    **{
        form: lambda x, y, form=form, **k: distance(x, y, form=form, norm="frobenius", **k)
        for form in ("product", "centred", "uncentred")
    },
    "wang_2004": presets.wang_2004,
    "scikit_image": presets.scikit_image,
    "tensorflow_ms_ssim": lambda x, y, **k: presets.tensorflow_ms_ssim(x, y, weights=(0.4, 0.6), **k),
    "psnr": psnr,
}
each_pair = pytest.mark.parametrize("function", PAIRS.values(), ids=PAIRS)
LOWS, LENGTHS = np.array([0, -1, 1000, -500.0]), np.array([1, 2, 400, 4095.0])


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    """Four pairs, each in its range."""
    x, y = random_images(4, 2, 24, 26)
    scale = [np.reshape(z, (4, 1, 1, 1)) for z in (LOWS, LENGTHS)]
    return torch.tensor(scale[0] + scale[1] * x), torch.tensor(scale[0] + scale[1] * y)


def one_by_one(function: Function, x: Tensor, y: Tensor) -> Tensor:
    ranges = zip(LOWS.tolist(), (LOWS + LENGTHS).tolist(), strict=True)
    return torch.cat([function(x[[i]], y[[i]], data_range=ends) for i, ends in enumerate(ranges)])


@each_pair
@pytest.mark.parametrize(
    ("dtype", "value_error", "gradient_error"), [(torch.float32, 1e-6, 1e-5), (torch.float64, 1e-12, 1e-9)]
)
@pytest.mark.usefixtures("each_engine")
def test_each_image_is_as_if_alone(
    function: Function, dtype: torch.dtype, value_error: float, gradient_error: float, images: tuple[Tensor, Tensor]
) -> None:
    """In value and in gradients to both."""
    x, y = (z.to(dtype).requires_grad_() for z in images)
    ends = (torch.tensor(LOWS), LOWS + LENGTHS)
    value, expected = function(x, y, data_range=ends), one_by_one(function, x, y)
    assert value.dtype == dtype
    torch.testing.assert_close(value, expected, rtol=value_error, atol=value_error)
    for gradient, exact in zip(*(torch.autograd.grad(v.sum(), (x, y)) for v in (value, expected)), strict=True):
        assert gradient.dtype == dtype
        for of_image, exact_of_image in zip(gradient, exact, strict=True):
            largest = exact_of_image.abs().max().item()
            torch.testing.assert_close(of_image, exact_of_image, rtol=0, atol=gradient_error * largest)


@pytest.mark.parametrize(
    "ranges",
    [
        torch.tensor([1.0, 2.0, 255.0, 4095.0]),
        torch.tensor([1, 2, 255, 4095]),
        np.array([1, 2, 255, 4095]),
        np.array([1, 2, 255, 4095], np.float32),
        (0, torch.tensor([1.0, 2.0, 255.0, 4095.0], requires_grad=True)),
    ],
    ids=["tensor", "whole numbers", "array", "float32", "pair"],
)
def test_ways_to_give_them(ranges: Any) -> None:
    x, y = map(torch.tensor, random_images(4, 1, 16, 16))
    value = ssim(x, y, data_range=ranges)
    expected = torch.cat([ssim(x[[i]], y[[i]], data_range=r) for i, r in enumerate((1, 2, 255, 4095))])
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-12)
    assert not value.requires_grad


def test_a_number_beside_them_keeps_its_digits() -> None:
    x, y = map(torch.tensor, random_images(2, 1, 16, 16))
    value = ssim(x, y, data_range=(-0.1, torch.tensor([1.0, 2.0])))
    expected = torch.cat([ssim(x[[i]], y[[i]], data_range=(-0.1, 1.0 + i)) for i in (0, 1)])
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-12)


def test_a_tensor_of_two_values_is_of_two_images_and_a_pair_is_not() -> None:
    x, y = map(torch.tensor, random_images(2, 1, 16, 16))
    pair = ssim(x, y, data_range=(-1.0, 2.0))
    each = ssim(x, y, data_range=torch.tensor([1.0, 2.0]))
    expected = torch.cat([ssim(x[[i]], y[[i]], data_range=1.0 + i) for i in (0, 1)])
    torch.testing.assert_close(each, expected, rtol=0, atol=1e-12)
    assert not torch.allclose(each, pair)


@pytest.mark.parametrize("length", [2.0, 0.3])
def test_one_range_for_all_is_the_plain_call(length: float, images: tuple[Tensor, Tensor]) -> None:
    """Far outside of the range too, where float32 would not be enough."""
    x, y = (1e3 * z.float() for z in images)
    warnings.simplefilter("ignore", ssimgen.DataRangeWarning)
    value = ssim(x, y, data_range=torch.full((4,), length))
    torch.testing.assert_close(value, ssim(x, y, data_range=length), rtol=0, atol=1e-6)


def test_derivatives_of_both_orders() -> None:
    x, y = (torch.tensor(z, requires_grad=True) for z in random_images(2, 1, 4, 4))
    ranges = torch.tensor([0.95, 3.0])

    def value(a: Tensor, b: Tensor) -> Tensor:
        return distance(a, b, data_range=ranges, window=Window.gaussian(3), squared=True)

    assert torch.autograd.gradcheck(value, (x, y))
    assert torch.autograd.gradgradcheck(value, (x, y))


@pytest.mark.usefixtures("no_shape_checks")
def test_under_vmap_and_on_meta(images: tuple[Tensor, Tensor]) -> None:
    x, y = images
    ranges = torch.tensor(LENGTHS)
    mapped = torch.vmap(lambda a, b, r: ssim(a[None], b[None], data_range=r[None])[0])(x, y, ranges)
    torch.testing.assert_close(mapped, ssim(x, y, data_range=ranges), rtol=0, atol=1e-12)
    assert ssim(x.to("meta"), y.to("meta"), data_range=ranges).shape == (4,)


@pytest.mark.usefixtures("no_shape_checks")
@each_pair
@pytest.mark.parametrize(
    ("ranges", "text"),
    [
        (torch.ones(3), "or one value an image in shape (4,), got shape (3,): one value serves for all images"),
        (np.ones((4, 1, 1, 1)), "in shape (4,), got shape (4, 1, 1, 1): pass data_range.flatten()"),
        (torch.tensor([1.0, 1.0, 0.0, 1.0]), "got [0, 0] for image 2: pass the range of each image"),
        (np.array([1.0, np.nan, 1.0, 1.0]), "got [0, nan] for image 1"),
        ((torch.arange(4.0), 3.0), "got [3, 3] for image 3"),
        ([1.0, 2.0, 3.0, 4.0], "data_range must be a positive number l"),
    ],
    ids=["number", "axes", "zero", "nan", "pair", "list"],
)
def test_what_is_no_range(function: Function, ranges: Any, text: str, images: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        function(*images, data_range=ranges)


@pytest.mark.parametrize(
    ("ranges", "error"),
    [(torch.ones(4) > 0, TypeError), (1j * torch.ones(4), TypeError), (("0", torch.ones(4)), ValueError)],
    ids=["bool", "complex", "text"],
)
@pytest.mark.usefixtures("no_shape_checks")
def test_what_are_no_numbers(ranges: Any, error: type[Exception], images: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(error, match=r"^data_range must be "):
        ssim(*images, data_range=ranges)


@pytest.mark.parametrize(
    "call",
    [
        lambda x, y, r: pairwise.ssim(x, y, data_range=r),
        lambda x, y, r: pairwise.distance(x, data_range=r),
        lambda x, y, r: StructuralDistance(r),
        lambda x, y, r: Component("contrast", r),
        lambda x, y, r: SSIM((0.0, r)),
        lambda x, y, r: SSIMLoss(data_range=r),
        lambda x, y, r: MSSSIMLoss(data_range=r),
        lambda x, y, r: StructuralDistanceLoss(data_range=r),
    ],
)
def test_one_function_of_two_images_has_one_range(call: Callable[..., object], images: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ValueError, match=r"is one function of two images.*Divide each image by its own range"):
        call(*images, torch.tensor(LENGTHS))


def test_no_kernel_comes_of_a_range_per_image() -> None:
    """The counter-example of docs/any-image.md: black, black and grey images, of the ranges 100, 1 and 1."""
    images, ranges = (
        torch.tensor([0.0, 0.0, 0.1], dtype=torch.float64).view(3, 1, 1, 1).expand(-1, -1, 11, 11),
        (100, 1, 1),
    )

    def gram(of_pair: Callable[[float, float], float]) -> Tensor:
        rows = [
            [ssim(images[[i]], images[[j]], data_range=of_pair(ranges[i], ranges[j])) for j in range(3)]
            for i in range(3)
        ]
        return torch.tensor(rows, dtype=torch.float64)

    larger = gram(max)
    torch.testing.assert_close(
        larger, torch.tensor([[1, 1, 0.990], [1, 1, 0.010], [0.990, 0.010, 1]], dtype=torch.float64), rtol=0, atol=1e-3
    )
    assert torch.linalg.eigvalsh(larger)[0].item() == pytest.approx(-0.40, abs=5e-3)
    first = gram(lambda of_first, _: of_first)
    assert (first - first.T).abs().max() > 0.9
    assert torch.linalg.eigvalsh(gram(lambda *_: 1.0))[0] > -1e-12


def test_the_warning_tells_the_range_of_the_first_image(images: tuple[Tensor, Tensor]) -> None:
    x, y = images
    with pytest.warns(ssimgen.DataRangeWarning, match=r"x has values from .* but data_range says \[0, 0.3\]"):
        ssim(x, y, data_range=torch.tensor([0.3, 1, 1, 1]))
