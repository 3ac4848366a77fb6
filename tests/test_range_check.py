"""The warning of images outside their data_range: when it comes, and when not."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import ssimgen
from ssimgen import _range_check, distance, ms_ssim, pairwise, presets, ssim, ssim_map
from ssimgen.components import Component
from ssimgen.kernels import SSIM
from ssimgen.losses import SSIMLoss

FUNCTIONS: list[Callable[..., Tensor]] = [
    ssim,
    ssim_map,
    distance,
    ms_ssim,
    pairwise.ssim,
    pairwise.distance,
    presets.wang_2004,
    presets.scikit_image,
    lambda x, y, data_range: presets.tensorflow_ms_ssim(x, y, data_range=data_range, weights=(1.0,)),
    lambda x, y, data_range: SSIMLoss(data_range=data_range)(x, y),
    lambda x, y, data_range: SSIM(data_range)(x, y),
    lambda x, y, data_range: Component("structure", data_range)(x, y),
]


@pytest.fixture
def image(generator: torch.Generator) -> Tensor:
    return torch.rand(3, 1, 24, 24, generator=generator)


def said(call: Callable[[], object]) -> list[str]:
    """The texts of the warnings of images outside their range; PyTorch has others when it traces."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(w.message) for w in caught if w.category is ssimgen.DataRangeWarning]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("change", "data_range"),
    [(lambda x: 2 * x - 1, 1.0), (lambda x: 255 * x, 1.0), (lambda x: 255 * x, (-1, 1)), (lambda x: x, (273, 274))],
    ids=["tanh", "bytes", "bytes as tanh", "shifted"],
)
def test_images_outside_are_said_once(
    function: Callable[..., Tensor], change: Callable[[Tensor], Tensor], data_range: float, image: Tensor
) -> None:
    bad = change(image)
    (text,) = said(lambda: function(bad, bad, data_range=data_range))
    assert text.startswith(f"x has values from {bad[0].min():.4g} to {bad[0].max():.4g}, but data_range says [")
    assert said(lambda: function(bad, bad, data_range=data_range)) == []


MASKED: list[Callable[..., Tensor]] = [
    ssim,
    ssim_map,
    distance,
    ms_ssim,
    pairwise.distance,
    lambda x, y, data_range, mask: Component("structure", data_range, mask=mask)(x, y),
]


@pytest.mark.parametrize("function", MASKED)
def test_a_mask_hides_no_wrong_range(function: Callable[..., Tensor], image: Tensor) -> None:
    """What it hides may hold anything."""
    mask = torch.arange(24) > 3
    inside = torch.where(mask, image, 1e9)
    assert said(lambda: function(inside, inside, data_range=1.0, mask=mask)) == []
    (text,) = said(lambda: function(255 * inside, 255 * inside, data_range=1.0, mask=mask))
    shown = 255 * image[0, :, :, mask]
    assert text.startswith(f"x has values from {shown.min():.4g} to {shown.max():.4g}, but data_range says [0, 1]")


def test_a_mask_that_hides_a_whole_image_has_nothing_to_say_of_it(image: Tensor) -> None:
    mask = torch.ones(1, 1, 24, 24)
    mask[..., 3:] = 0
    assert said(lambda: ssim(torch.where(mask > 0, image, 1e9), image, data_range=1.0, mask=mask)) == []


def test_the_second_images_are_looked_at_too(image: Tensor) -> None:
    (text,) = said(lambda: ssim(image, 2 * image - 1, data_range=1))
    assert text.startswith("y has values from -")


@pytest.mark.parametrize(
    ("change", "data_range"),
    [
        (lambda x: x, 1.0),
        (lambda x: 1.16 * x - 0.08, 1.0),
        (lambda x: x + 0.03 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)), 1.0),
        (lambda x: torch.where(torch.arange(24) == 3, 0.99 + x, x), 1.0),
        (lambda x: 2 * x - 1, (-1, 1)),
        (lambda x: 255 * x, 255),
        (lambda x: x * torch.nan, 1.0),
    ],
    ids=["inside", "a little beyond", "noisy", "one column", "tanh", "bytes", "nan"],
)
def test_images_inside_or_nearly_so_are_not(
    change: Callable[[Tensor], Tensor], data_range: float, image: Tensor
) -> None:
    assert said(lambda: ssim(change(image), image * 0, data_range=data_range)) == []


@pytest.mark.usefixtures("no_shape_checks")
def test_nothing_is_said_where_others_trace_or_transform(image: Tensor) -> None:
    bad = 255 * image

    def value(x: Tensor) -> Tensor:
        return ssim(x, x.flip(-1), data_range=1)

    def calls() -> None:
        torch.vmap(value)(bad[None])
        torch.func.grad(lambda x: value(x).sum())(bad)
        torch.func.jvp(value, (bad,), (bad,))
        torch.export.export(_Module(value), (bad,))
        value(bad.to("meta"))

    assert said(calls) == []
    assert len(said(lambda: value(bad))) == 1


class _Module(torch.nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def test_calls_are_looked_at_ever_more_seldom(image: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    monkeypatch.setattr(_range_check.engine, "fused_can", lambda z: looked.append(_range_check._calls) or False)
    for _ in range(1100):
        _range_check.notice_range(1.0, image, None)
    assert looked == [*range(1, 65), 128, 256, 512, 1024]


def test_it_can_be_switched_off(image: Tensor) -> None:
    warnings.simplefilter("ignore", ssimgen.DataRangeWarning)
    ssim(255 * image, image, data_range=1)
