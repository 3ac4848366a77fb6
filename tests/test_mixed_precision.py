"""Images of two floating dtypes, under autocast and without, and training in mixed precision.

The dtype of a result is the wider one of its images, and float32 at least; its numbers are those of the images
converted beforehand. `test_arguments.py` has the same of float32 and float64 alone.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from itertools import product

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from ssimgen import Window, distance, ms_ssim, pairwise, presets, ssim, ssim_map, streaming
from ssimgen.components import PARTS, Component
from ssimgen.discrepancy import two_sample_test
from ssimgen.evaluation import psnr
from ssimgen.evaluation.sets import compare_sets
from ssimgen.features import SSIMFeatures
from ssimgen.kernels import SSIM, DistanceInduced, Gaussian, Laplacian
from ssimgen.losses import EnergyLoss, MMDLoss, MSSSIMLoss, SSIMLoss, StructuralDistanceLoss
from ssimgen.metrics import Euclidean, StructuralDistance
from ssimgen.objectives.adversarial import Perceptual
from ssimgen.objectives.reconstruction import OBJECTIVES, Reconstruction

Function = Callable[[Tensor, Tensor], Tensor]

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
Pairs = list[tuple[torch.dtype, torch.dtype]]
each_precision = pytest.mark.parametrize(
    ("pairs", "autocast"),
    [(list(zip(DTYPES, (*DTYPES[1:], DTYPES[0]), strict=True)), False), (list(product(DTYPES, DTYPES)), True)],
    ids=["", "autocast"],
)

METRIC = StructuralDistance(1.0)
SMALL = Window.uniform(4)

FUNCTIONS: dict[str, Function] = {
    "ssim": lambda x, y: ssim(x, y, data_range=1),
    "ssim_map": lambda x, y: ssim_map(x, y, data_range=1),
    "ms_ssim": lambda x, y: ms_ssim(x, y, data_range=1),
    "distance": lambda x, y: distance(x, y, data_range=1),
    "wang_2004": lambda x, y: presets.wang_2004(x, y, data_range=1),
    "scikit_image": lambda x, y: presets.scikit_image(x, y, data_range=1),
    "tensorflow_ms_ssim": lambda x, y: presets.tensorflow_ms_ssim(x, y, data_range=1, weights=(0.5, 0.5), window=SMALL),
    "pairwise.ssim": lambda x, y: pairwise.ssim(x, y, data_range=1),
    "pairwise.distance": lambda x, y: pairwise.distance(x, y, data_range=1),
    "SSIMLoss": SSIMLoss(data_range=1),
    "MSSSIMLoss": MSSSIMLoss(data_range=1),
    "StructuralDistanceLoss": StructuralDistanceLoss(data_range=1),
    "MMDLoss": MMDLoss(SSIM(1.0)),
    "EnergyLoss": EnergyLoss(METRIC),
    "Euclidean": Euclidean(),
    "StructuralDistance": METRIC,
    **{part: Component(part, 1.0) for part in PARTS},
    "kernels": SSIM(1.0) + 2.0 * Gaussian(METRIC, (1.0,)) * Laplacian(Euclidean(), (3.0,)),
    "DistanceInduced": DistanceInduced(METRIC, torch.zeros(1, 1, 16, 16)),
    "psnr": lambda x, y: psnr(x, y, data_range=1),
    **{name: Reconstruction(name) for name in OBJECTIVES},
    "Perceptual": Perceptual("energy"),
}
NUMBERS: dict[str, Function] = {  # always in float64
    "streaming.mmd2": lambda x, y: torch.tensor(streaming.mmd2(x.split(2), y.split(2), SSIM(1.0)), dtype=torch.float64),
    "two_sample_test": lambda x, y: two_sample_test(x, y, SSIM(1.0), permutations=39).null,
    "compare_sets": lambda x, y: compare_sets(x, y, permutations=39).test.null,
    "SSIMFeatures": lambda x, y: torch.tensor(SSIMFeatures(data_range=1).fit(x.flatten(1)).transform(y.flatten(1))),
}


@pytest.fixture
def images(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    x, noise = torch.rand(2, 4, 1, 16, 16, generator=generator, dtype=torch.float64)
    return x, 0.8 * x + 0.2 * noise


@each_precision
@pytest.mark.parametrize("name", FUNCTIONS)
def test_two_dtypes(name: str, pairs: Pairs, autocast: bool, images: tuple[Tensor, Tensor]) -> None:
    """In the dtype that torch.promote_types gives of them and float32."""
    function = FUNCTIONS[name]
    for first, second in pairs:
        x, y = images[0].to(first).requires_grad_(), images[1].to(second)
        common = torch.promote_types(torch.promote_types(first, second), torch.float32)
        expected = function(x.to(common), y.to(common))
        with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
            value = function(x, y)
            (gradient,) = torch.autograd.grad(value.sum(), x)
        assert value.dtype == common
        assert torch.equal(value, expected)
        assert gradient.dtype == first
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0


@each_precision
@pytest.mark.parametrize("name", NUMBERS)
def test_two_dtypes_of_samples(name: str, pairs: Pairs, autocast: bool, images: tuple[Tensor, Tensor]) -> None:
    for first, second in pairs:
        x, y = images[0].to(first), images[1].to(second)
        common = torch.promote_types(torch.promote_types(first, second), torch.float32)
        expected = NUMBERS[name](x.to(common), y.to(common))
        with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
            value = NUMBERS[name](x, y)
        torch.testing.assert_close(value.double(), expected.double(), rtol=1e-5, atol=1e-7)


def test_features_of_half_precision_arrays(images: tuple[Tensor, Tensor]) -> None:
    x = images[0].flatten(1)
    features = SSIMFeatures(data_range=1).fit(x.numpy())
    halves = x.numpy().astype(np.float16)
    np.testing.assert_array_equal(features.transform(halves), features.transform(halves.astype(np.float64)))


LOSSES = {
    name: FUNCTIONS[name] for name in ("SSIMLoss", "MSSSIMLoss", "StructuralDistanceLoss", "MMDLoss", "EnergyLoss")
}


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1), nn.Sigmoid())


@pytest.mark.parametrize("name", LOSSES)
def test_lightning_in_mixed_precision(name: str, images: tuple[Tensor, Tensor]) -> None:
    """The loss of a bfloat16 output against float32 images: a step of the optimiser lowers it."""
    target, loss = images[0].float(), LOSSES[name]
    network = small_network()
    fabric = Fabric(accelerator="cpu", precision="bf16-mixed")
    model, optimiser = fabric.setup(network, torch.optim.Adam(network.parameters(), 1e-2))
    values = []
    for _ in range(5):
        with fabric.autocast():
            output = network(target)  # inside the autocast: what `model` would convert to float32 for its caller
            value = loss(output, target)
        assert output.dtype == torch.bfloat16
        assert value.dtype == torch.float32
        assert torch.equal(value, loss(output.float(), target))
        assert torch.equal(loss(model(target), target), value)
        optimiser.zero_grad()
        fabric.backward(value)
        optimiser.step()
        values.append(value.item())
    assert values[-1] < 0.99 * values[0]


@pytest.mark.parametrize("name", LOSSES)
def test_accelerate_in_mixed_precision(name: str, images: tuple[Tensor, Tensor]) -> None:
    """The same, of an output that was computed in bfloat16 and is handed over in float32; and of bfloat16."""
    accelerate = pytest.importorskip("accelerate")
    target, loss = images[0].float(), LOSSES[name]
    network = small_network()
    exact = network(target)
    accelerator = accelerate.Accelerator(cpu=True, mixed_precision="bf16")
    model, optimiser = accelerator.prepare(network, torch.optim.Adam(network.parameters(), 1e-2))
    rounding = (model(target) - exact).abs().max()
    assert 1e-5 < rounding < 1e-2
    values = []
    for _ in range(5):
        with accelerator.autocast():
            output = model(target)
            value = loss(output, target)
            half = loss(output.bfloat16(), target)
        assert (output.dtype, value.dtype, half.dtype) == (torch.float32,) * 3
        assert torch.equal(value, loss(output, target))
        assert torch.equal(half, loss(output.bfloat16().float(), target))
        optimiser.zero_grad()
        accelerator.backward(value)
        optimiser.step()
        values.append(value.item())
    assert values[-1] < 0.99 * values[0]
