"""PyTorch's operations where pixels cannot be looked at: traced, transformed or on a device, no number is wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import ssimgen
from oracles import ssim as oracle
from ssimgen import Window
from ssimgen._request import FORMS
from ssimgen.engine import Form, eager

WINDOW = Window.gaussian(5, 1.0)

pytestmark = [
    pytest.mark.usefixtures("eager_engine"),
    pytest.mark.filterwarnings("ignore::ssimgen.DataRangeWarning"),
]


def noise(seed: int) -> Tensor:
    return torch.rand(2, 1, 14, 15, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_a_pixel(value: float) -> Tensor:
    x = noise(0)
    x[1, 0, 6, 5] = value
    return x


def half_at(value: float) -> Tensor:
    x = noise(0)
    x[..., 8:] += value
    return x


IMAGES = {
    "a hot pixel": with_a_pixel(30.0),
    "a pixel too hot": with_a_pixel(1e5),
    "a pixel hotter than squares": with_a_pixel(1e30),
    "far from zero": 1e9 + noise(0),
    "of two brightnesses": half_at(100.0),
    "of two brightnesses, far apart": half_at(1e7),
    "a number that is none": with_a_pixel(torch.nan),
}
UNKNOWN = {"of two brightnesses, far apart", "a number that is none"}  # those that NaN may stand for


@pytest.fixture(params=["looked at", "in a transform"])
def function(request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]
    """The squared distance of pairs and its gradient, by the eager engine."""

    def computed(x: Tensor, y: Tensor, options: dict, mask: Tensor | None) -> tuple[Tensor, Tensor]:  # type: ignore[type-arg]
        def value(x: Tensor, y: Tensor) -> Tensor:
            return ssimgen.distance(x, y, squared=True, mask=mask, **options)

        if request.param == "looked at":
            x = x.clone().requires_grad_()
            found = value(x, y)
            return found.detach(), torch.autograd.grad(found.sum(), x)[0]
        gradient = torch.func.grad(lambda x: value(x, y).sum())
        return torch.func.vmap(lambda x, y: value(x[None], y[None])[0])(x, y), gradient(x)

    return computed


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("content", IMAGES)
def test_no_number_is_silently_wrong(content: str, form: Form, masked: bool, function) -> None:  # type: ignore[no-untyped-def]
    x = IMAGES[content]
    y = x + 0.3 * (noise(1) - 0.5)
    options = {"data_range": 1.0, "form": form, "window": WINDOW}
    value, gradient = function(x, y, options, torch.ones(1, 1, 14, 15) if masked else None)
    pair, squares = (x.numpy(), y.numpy()), oracle.squared_map
    with np.errstate(invalid="ignore"):
        expected = torch.tensor(squares(*pair, **options).mean((1, 2, 3)))
        upstream = np.full((2, 1, 10, 11), 1 / 110)
        slopes = torch.tensor(oracle.squared_map_gradients(*pair, upstream, **options)[0])
    given = ~value.isnan()
    assert given.all() or content in UNKNOWN
    torch.testing.assert_close(value[given], expected[given], rtol=0, atol=1e-6)
    assert gradient[~given].flatten(1).isnan().any(1).all()
    for own, other in zip(gradient[given], slopes[given], strict=True):
        assert (own - other).norm() <= 1e-4 * other.norm() + 1e-12


@pytest.mark.parametrize("form", ["product", "sum", "centred"])
def test_constants_that_are_small_beside_the_range_are_no_matter(form: Form, function) -> None:  # type: ignore[no-untyped-def]
    """Of flat images in another brightness rounding errors would be all that is seen."""
    x = 0.3 + 1e-9 * noise(0)
    x[..., 8:] += 0.5
    y = x + 1e-9 * noise(1)
    y[..., 8:] -= 0.7
    options = {"data_range": 1.0, "form": form, "window": WINDOW, "k1": 0.01, "k2": 1e-6}
    value, _ = function(x, y, options, None)
    expected = torch.tensor(oracle.squared_map(x.numpy(), y.numpy(), **options).mean((1, 2, 3)))
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_a_value_that_is_unknown_has_no_gradient_either(masked: bool) -> None:
    """Of variances that are unknown of sums and of differences, whose slopes might else have been 0."""
    x, y = half_at(1e7), half_at(3e7)
    options = {
        "data_range": 1.0,
        "form": "centred",
        "window": WINDOW,
        "mask": torch.ones(1, 1, 14, 15) if masked else None,
    }

    def value(x: Tensor) -> Tensor:
        return ssimgen.distance(x, y, squared=True, **options).sum()

    gradient, found = torch.func.grad_and_value(value)(x)
    assert found.isnan()
    assert gradient[..., 8 + WINDOW.size :].isnan().all()


def test_the_inner_pixel_of_a_plane_is_one_that_is_seen() -> None:
    x = torch.arange(4 * 1000.0).view(1, 4, 20, 50)
    x[:, 0, :, 7] = 1e9  # a hot column
    x[:, 1, 3] = torch.nan
    x[:, 2] = torch.nan
    inner = eager.inner_pixel(x)
    assert inner.shape == (1, 4, 1, 1)
    assert inner[0, 2] == 0
    for channel in (0, 1, 3):
        assert (inner[0, channel] == x[0, channel]).any()
        assert 400 < inner[0, channel].item() - 1000 * channel < 600
    seen = torch.zeros_like(x)
    seen[..., :2, :] = 1
    assert (eager.inner_pixel(x, seen)[0, [0, 1, 3], 0, 0] % 1000 < 100).all()
    assert eager.inner_pixel(x, 0 * seen).tolist() == [[[[0.0]]] * 4]
