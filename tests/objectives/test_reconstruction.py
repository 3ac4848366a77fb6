"""Every reconstruction error against its formula written out."""

import math

import pytest
import torch

from ssimgen import distance, ms_ssim, ssim
from ssimgen.objectives.reconstruction import OBJECTIVES, Reconstruction
from ssimgen.objectives.structure import Structure
from ssimgen.windows import Window


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """A reconstruction and its original, colour."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(3, 3, 32, 32, generator=generator)
    return (x + 0.2 * torch.randn(x.shape, generator=generator)).clamp(0.001, 0.999), x


def test_pixel_errors_are_their_formulas(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    y, x = pair
    for i in range(len(x)):
        a, b = x[i].flatten().double(), y[i].flatten().double()
        expected = {
            "l2": sum((p - q) ** 2 for p, q in zip(a.tolist(), b.tolist(), strict=True)) / len(a),
            "l1": sum(abs(p - q) for p, q in zip(a.tolist(), b.tolist(), strict=True)) / len(a),
            "bce": -sum(
                p * math.log(q) + (1 - p) * math.log(1 - q) for p, q in zip(a.tolist(), b.tolist(), strict=True)
            )
            / len(a),
        }
        for name, value in expected.items():
            assert Reconstruction(name)(y, x)[i].item() == pytest.approx(value, rel=1e-5), name  # float32 sums


def test_ssim_is_the_complement_of_ssim(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    y, x = pair
    torch.testing.assert_close(Reconstruction("ssim")(y, x), 1 - ssim(y, x, data_range=1.0))


@pytest.mark.parametrize("form", ["product", "sum", "centred", "uncentred"])
@pytest.mark.parametrize("norm", ["rms", "frobenius"])
def test_ssim_takes_every_form_window_and_constant(
    pair: tuple[torch.Tensor, torch.Tensor], form: str, norm: str
) -> None:
    y, x = pair
    options = Structure(form=form, norm=norm, window="uniform", size=8, stride=4, unbiased=True, k1=0.02, k2=0.3)
    window = Window.uniform(8, 4, unbiased=True)
    expected = distance(y, x, data_range=1.0, form=form, norm=norm, window=window, k1=0.02, k2=0.3) ** 2
    torch.testing.assert_close(Reconstruction("ssim", options)(y, x), expected)


def test_ms_ssim_and_mix_are_their_formulas(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    y, x = pair
    multi = 1 - ms_ssim(y, x, data_range=1.0, window=Window.gaussian(7, 1.0), k2=0.05)
    l1 = (x - y).abs().mean((1, 2, 3))
    options = Structure(size=7, sigma=1.0, k2=0.05)
    torch.testing.assert_close(Reconstruction("ms_ssim", options)(y, x), multi)
    torch.testing.assert_close(Reconstruction("mix", options)(y, x), 0.84 * multi + 0.16 * l1)
    torch.testing.assert_close(Reconstruction("mix", options, alpha=0.0)(y, x), l1)
    torch.testing.assert_close(Reconstruction("mix", options, alpha=1.0)(y, x), multi)


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_perfect_reconstructions_are_the_minimum(name: str) -> None:
    x = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 0.98 + 0.01
    objective = Reconstruction(name)
    best = objective(x, x)
    entropy = -(x * x.log() + (1 - x) * (1 - x).log()).mean((1, 2, 3))
    torch.testing.assert_close(best, entropy if name == "bce" else torch.zeros(2), atol=2e-6, rtol=1e-5)
    worse = objective((x + 0.05 * torch.randn_like(x)).clamp(0.001, 0.999), x)
    assert (worse > best).all()


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_values_are_per_image_and_gradients_reach_the_reconstruction(
    name: str, pair: tuple[torch.Tensor, torch.Tensor]
) -> None:
    y, x = pair
    together = Reconstruction(name)(y, x)
    alone = torch.cat([Reconstruction(name)(y[i : i + 1], x[i : i + 1]) for i in range(len(x))])
    torch.testing.assert_close(together, alone)
    y = y.clone().requires_grad_()
    Reconstruction(name)(y, x).sum().backward()
    assert y.grad is not None
    assert torch.isfinite(y.grad).all()
    assert y.grad.flatten(1).norm(dim=1).min() > 0


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_half_precision_reconstructions_are_judged_in_single(
    name: str, pair: tuple[torch.Tensor, torch.Tensor]
) -> None:
    y, x = pair
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = Reconstruction(name)(y.bfloat16(), x)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, Reconstruction(name)(y.bfloat16().float(), x))


@pytest.mark.usefixtures("no_shape_checks")
def test_bad_options_are_named() -> None:
    with pytest.raises(ValueError, match=r"objective must be one of .* got 'sim': did you mean 'ssim'"):
        Reconstruction("sim")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"alpha must be a fraction in \[0, 1\], got 84"):
        Reconstruction("mix", alpha=84)
    with pytest.raises(ValueError, match="k2 must be a positive number"):
        Structure(k2=0)
    with pytest.raises(ValueError, match="form must be one of"):
        Structure(form="centered")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sigma must be"):
        Structure(sigma=-1)
