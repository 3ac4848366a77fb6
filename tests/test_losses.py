"""The losses of image pairs: values, gradients and reductions, and what they refuse when they are made."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from oracles import ssim as oracle
from ssimgen import Window, distance, ms_ssim, ssim
from ssimgen._request import FORMS
from ssimgen.losses import MSSSIMLoss, SSIMLoss, StructuralDistanceLoss

WINDOW = Window.gaussian(5, 1.1)


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    random = np.random.default_rng(4)
    x, y = random.random((2, 3, 2, 12, 13))
    return torch.tensor(x), torch.tensor(0.5 * x + 0.5 * y)


def test_the_loss_is_one_minus_similarity(pair: tuple[Tensor, Tensor]) -> None:
    options = {"data_range": (-0.5, 1.5), "window": WINDOW, "k1": 0.02, "k2": 0.1}
    each = SSIMLoss(reduction="none", **options)(*pair)
    torch.testing.assert_close(each, 1 - ssim(*pair, **options), rtol=1e-12, atol=0)
    weights = (0.3, 0.7)
    each = MSSSIMLoss(reduction="none", weights=weights, **options)(*pair)
    torch.testing.assert_close(each, 1 - ms_ssim(*pair, weights=weights, **options), rtol=1e-12, atol=0)


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("norm", ["rms", "frobenius"])
@pytest.mark.parametrize("form", FORMS)
def test_the_loss_is_the_distance(pair: tuple[Tensor, Tensor], form: str, norm: str, squared: bool) -> None:
    options = {"data_range": 1, "form": form, "norm": norm, "squared": squared, "window": WINDOW, "k1": 0.1, "k2": 0.2}
    each = StructuralDistanceLoss(reduction="none", **options)(*pair)
    assert torch.equal(each, distance(*pair, **options))


def test_the_squared_distance_is_the_default_and_smooth_where_images_are_equal(pair: tuple[Tensor, Tensor]) -> None:
    x = pair[0].requires_grad_()
    loss = StructuralDistanceLoss(data_range=1, window=WINDOW)
    assert loss(*pair).item() == pytest.approx(distance(*pair, data_range=1, window=WINDOW).square().mean().item())
    step = 1e-4 * torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(loss(x + step, x.detach()), x)
    (twice,) = torch.autograd.grad(loss(x + 2 * step, x.detach()), x)
    torch.testing.assert_close(twice, 2 * gradient, rtol=1e-2, atol=1e-2 * float(gradient.abs().max()))


@pytest.mark.parametrize("make", [SSIMLoss, MSSSIMLoss, StructuralDistanceLoss])
def test_reductions(make: type, pair: tuple[Tensor, Tensor]) -> None:
    each = make(data_range=1, window=WINDOW, reduction="none")(*pair)
    assert each.shape == (3,)
    assert len(set(each.tolist())) == 3
    torch.testing.assert_close(make(data_range=1, window=WINDOW, reduction="sum")(*pair), each.sum())
    torch.testing.assert_close(make(data_range=1, window=WINDOW)(*pair), each.mean())


def test_gradients_match_the_definition(pair: tuple[Tensor, Tensor]) -> None:
    x, y = (z.requires_grad_() for z in pair)
    arrays = [z.detach().numpy() for z in pair]
    third = np.full(3, 1 / 3)
    kept = {"data_range": 1.0, "window": WINDOW}
    for loss, gradients in (
        (SSIMLoss(**kept), oracle.ssim_gradients(*arrays, -third, **kept)),
        (MSSSIMLoss(weights=(0.4, 0.6), **kept), oracle.ms_ssim_gradients(*arrays, -third, weights=(0.4, 0.6), **kept)),
        (
            StructuralDistanceLoss(squared=False, **kept),
            oracle.distance_gradients(*arrays, third, form="sum", norm="rms", **kept),
        ),
    ):
        for gradient, expected in zip(torch.autograd.grad(loss(x, y), (x, y)), gradients, strict=True):
            np.testing.assert_allclose(gradient, expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("make", [SSIMLoss, MSSSIMLoss, StructuralDistanceLoss])
def test_small_losses_keep_their_digits(make: type) -> None:
    """2e-8 in float32, where 1 - SSIM would be 0 or 6e-8.

    The images of coarser scales are rounded to float32, by up to 3e-8 beside differences of 3e-5: 1e-3 a pixel.
    """
    random = np.random.default_rng(4)
    x = random.random((1, 1, 24, 24)).astype(np.float32)
    y = x + (2.0**-14 * random.normal(size=x.shape)).astype(np.float32)
    loss = make(data_range=1, window=WINDOW)(torch.tensor(x), torch.tensor(y))
    precise = make(data_range=1, window=WINDOW)(torch.tensor(x).double(), torch.tensor(y).double())
    assert 1e-10 < precise < 6e-8
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(precise.item(), rel=1e-3 if make is MSSSIMLoss else 1e-5)


@pytest.mark.parametrize("make", [SSIMLoss, MSSSIMLoss, StructuralDistanceLoss])
def test_a_loss_is_a_module_without_state(make: type, pair: tuple[Tensor, Tensor]) -> None:
    loss = make(data_range=1, window=WINDOW)
    assert isinstance(loss, nn.Module)
    assert not list(loss.parameters())
    assert not loss.state_dict()
    for copied in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss)), loss.half(), loss.eval()):
        assert torch.equal(copied(*pair), make(data_range=1, window=WINDOW)(*pair))


@pytest.mark.parametrize("make", [SSIMLoss, MSSSIMLoss, StructuralDistanceLoss])
def test_descent_restores_an_image(make: type, pair: tuple[Tensor, Tensor]) -> None:
    x, y = pair[0][:1].clone().requires_grad_(), pair[1][:1]
    loss = make(data_range=1, window=WINDOW)
    before = loss(x, y).item()
    optimiser = torch.optim.Adam([x], lr=0.02)
    for _ in range(60):
        optimiser.zero_grad()
        loss(x, y).backward()
        optimiser.step()
    assert loss(x, y).item() < 0.1 * before


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize("make", [SSIMLoss, MSSSIMLoss, StructuralDistanceLoss])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reduction": "avg"}, "reduction must be one of 'mean', 'sum', 'none', got 'avg'"),
        ({"reduction": "means"}, "got 'means': did you mean 'mean'"),
        ({"reduction": None}, "reduction must be one of 'mean', 'sum', 'none', got None"),
        ({"data_range": 0}, "data_range must be a positive number"),
        ({"k1": 0}, "k1 must be a positive number, got 0"),
        ({"k2": float("nan")}, "k2 must be a positive number, got nan"),
        ({"window": 11}, "window must be a ssimgen.Window, got 11: pass Window.gaussian"),
    ],
)
def test_bad_options_are_refused_when_the_loss_is_made(make: type, options: dict, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        make(**{"data_range": 1, **options})


@pytest.mark.usefixtures("no_shape_checks")
def test_an_unknown_form_or_norm_is_refused_when_the_loss_is_made() -> None:
    with pytest.raises(ValueError, match="got 'centered': did you mean 'centred'"):
        StructuralDistanceLoss(data_range=1, form="centered")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="norm must be one of 'rms', 'frobenius', got 'l2'"):
        StructuralDistanceLoss(data_range=1, norm="l2")
    with pytest.raises(TypeError, match="data_range"):
        SSIMLoss()  # type: ignore[call-arg]
