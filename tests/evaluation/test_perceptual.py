"""ST-LPIPS: the network of a file of weights, and the figures of its authors' code where the package is installed."""

import re
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ssimgen.evaluation import PerceptualDistance, perceptual, st_lpips
from ssimgen.evaluation.perceptual import _CONVOLUTIONS, weights_file


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """Random weights in the layout of the file."""
    generator = torch.Generator().manual_seed(0)
    content = {"scaling_layer.shift": torch.tensor([-0.03, -0.09, -0.19]).view(1, 3, 1, 1)}
    content["scaling_layer.scale"] = torch.tensor([0.46, 0.45, 0.44]).view(1, 3, 1, 1)
    for i, (name, before, after, side, _) in enumerate(_CONVOLUTIONS):
        deviation = (2 / (before * side**2)) ** 0.5
        content[f"net.{name}.weight"] = deviation * torch.randn(after, before, side, side, generator=generator)
        content[f"net.{name}.bias"] = 0.1 * torch.randn(after, generator=generator)
        content[f"lin{i}.model.1.weight"] = torch.rand(1, after, 1, 1, generator=generator) / after
    return content


@pytest.fixture(scope="module")
def file(weights: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "weights.pth"
    torch.save(weights, path)
    return path


@pytest.fixture(scope="module")
def distance(file: Path) -> PerceptualDistance:
    return PerceptualDistance(file)


def naive(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    """The distance layer by layer in float64, as its authors' code has it."""
    w = {name: values.double() for name, values in weights.items()}
    stencil = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]], dtype=torch.float64) / 16

    def down(h: Tensor) -> Tensor:
        planes = F.pad(h, (2, 2, 2, 2), mode="reflect").flatten(0, 1)[:, None]
        return F.conv2d(planes, stencil[None, None], stride=2).unflatten(0, h.shape[:2])[:, :, 0]

    def convolved(h: Tensor, name: str, padding: int) -> Tensor:
        return F.conv2d(h, w[f"net.{name}.weight"], w[f"net.{name}.bias"], padding=padding)

    def layers(z: Tensor) -> list[Tensor]:
        h1 = down(convolved((2 * z - 1 - w["scaling_layer.shift"]) / w["scaling_layer.scale"], "slice1.0", 2)).relu()
        h2 = convolved(down(F.max_pool2d(h1, 3, 1)), "slice2.5", 2).relu()
        h3 = convolved(down(F.max_pool2d(h2, 3, 1)), "slice3.9", 1).relu()
        h4 = convolved(h3, "slice4.11", 1).relu()
        return [h1, h2, h3, h4, convolved(h4, "slice5.13", 1).relu()]

    total = torch.zeros(len(x), dtype=torch.float64)
    for i, (a, b) in enumerate(zip(layers(x.double()), layers(y.double()), strict=True)):
        a, b = (h / (h.square().sum(1, keepdim=True).sqrt() + 1e-10) for h in (a, b))
        total += ((a - b).square() * w[f"lin{i}.model.1.weight"]).sum(1).mean((1, 2))
    return total


def pair(size: tuple[int, int], channels: int = 3) -> tuple[Tensor, Tensor]:
    x, y = torch.rand(2, 2, channels, *size, generator=torch.Generator().manual_seed(0))
    return x, y


def test_distances_are_those_of_the_definition(distance: PerceptualDistance, weights: dict[str, Tensor]) -> None:
    x, y = pair((66, 70))
    torch.testing.assert_close(distance(x, y).double(), naive(weights, x, y), rtol=1e-4, atol=1e-6)


def test_small_images_are_enlarged_and_grey_ones_repeated(distance: PerceptualDistance) -> None:
    x, y = pair((28, 14), channels=1)
    enlarged = [F.interpolate(z, (128, 64), mode="bilinear", antialias=True).expand(-1, 3, -1, -1) for z in (x, y)]
    torch.testing.assert_close(distance(x, y), distance(*enlarged))


def test_equal_images_are_at_distance_zero_and_order_does_not_matter(distance: PerceptualDistance) -> None:
    x, y = pair((64, 64))
    assert distance(x, x).tolist() == [0, 0]
    torch.testing.assert_close(distance(x, y), distance(y, x))


@pytest.mark.usefixtures("no_shape_checks")
def test_other_channels_and_shapes_are_refused(distance: PerceptualDistance) -> None:
    for x, y in ((torch.rand(1, 2, 64, 64),) * 2, (torch.rand(1, 1, 64, 64), torch.rand(1, 3, 64, 64))):
        with pytest.raises(ValueError, match="pairs of grey or of colour images"):
            distance(x, y)


def test_a_file_of_other_weights_is_named(weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    for wrong in ({}, {**weights, "net.slice2.5.bias": torch.zeros(3)}):
        torch.save(wrong, path)
        with pytest.raises(ValueError, match=f"{re.escape(str(path))} does not hold the weights of ST-LPIPS"):
            PerceptualDistance(path)


def test_without_the_package_one_line_says_how_to_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(perceptual, "distribution", missing)
    with pytest.raises(ModuleNotFoundError, match=r"^the distance ST-LPIPS is an .*: pip install 'ssimgen\[judges\]'$"):
        st_lpips()


@pytest.mark.skipif(weights_file() is None, reason="the package stlpips-pytorch is not installed")
def test_figures_are_those_of_the_authors_code() -> None:
    """stlpips_pytorch 0.0.2, LPIPS(net="alex", variant="shift_tolerant"), of images in [-1, 1], torch 2.13."""
    ramp = torch.arange(64) / 63
    x = torch.stack([ramp.expand(64, 64), ramp[:, None].expand(64, 64), ramp[:, None] * ramp])[None]
    squares = ((torch.arange(64)[:, None] // 8 + torch.arange(64) // 8) % 2).float().expand(1, 3, 64, 64)
    found = st_lpips()(x.expand(3, -1, -1, -1), torch.cat([x.flip(1), x / 2, squares]))
    torch.testing.assert_close(found, torch.tensor([0.29431081, 0.24477726, 1.05598080]), rtol=1e-5, atol=1e-6)
    assert "torchvision" not in sys.modules
