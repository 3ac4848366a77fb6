"""Feature networks: the contract of any, and what EfficientNet-Lite0 sees."""

import math

import pytest
import skimage.data
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssimgen.evaluation import Bootstrap, FeatureNetwork, efficientnet_lite0, frechet_distance, kernel_distance

FEW = Bootstrap(resamples=20)


@pytest.fixture(scope="module")
def lite0() -> FeatureNetwork:
    return efficientnet_lite0()


@pytest.fixture(scope="module")
def seen(lite0, digits) -> dict[str, Tensor]:
    """Features of digits, of other digits, and of damaged digits."""
    real, others = digits[:100].float(), digits[100:200].float()
    noise = torch.randn(others.shape, generator=torch.Generator().manual_seed(0))
    return {
        "real": lite0(real),
        "others": lite0(others),
        "blurred": lite0(blurred(others, 1.0)),
        "slightly blurred": lite0(blurred(others, 0.5)),
        "noisy": lite0((others + 0.05 * noise).clamp(0, 1)),
        "mixed": lite0((others + others.roll(1, 0)) / 2),
    }


def blurred(images: Tensor, sigma: float) -> Tensor:
    taps = torch.exp(-(torch.arange(-3.0, 4.0) ** 2) / (2 * sigma**2))
    return F.conv2d(images, torch.outer(taps, taps)[None, None] / taps.sum() ** 2, padding=3)


@pytest.mark.parametrize("damage", ["blurred", "slightly blurred", "noisy", "mixed"])
@pytest.mark.parametrize(("distance", "factor"), [(frechet_distance, 1.2), (kernel_distance, 5.0)])
def test_damaged_digits_are_further_from_digits_than_other_digits_are(damage, distance, factor, seen):
    near = distance(seen["real"], seen["others"], bootstrap=FEW).value
    assert distance(seen["real"], seen[damage], bootstrap=FEW).value > factor * max(near, 0.0)


def test_more_blur_is_further(seen):
    values = [
        frechet_distance(seen["real"], seen[name], bootstrap=FEW).value for name in ("slightly blurred", "blurred")
    ]
    assert values[1] > 1.5 * values[0]


def test_the_cat_is_a_cat():
    """The weights, their layout and the normalisation: chelsea is one of ImageNet's cats (281 to 285)."""
    pixels = torch.from_numpy(skimage.data.chelsea().copy()).permute(2, 0, 1)[None] / 255
    network = efficientnet_lite0(224).embed
    with torch.no_grad():
        scores = network.network._fc(network(pixels[..., :300, 75:375]))
    assert scores.softmax(1)[0, 281:286].sum() > 0.7


def test_features_do_not_depend_on_the_batch_and_grey_is_repeated(lite0, digits):
    images = digits[:5].float()
    together = lite0(images)
    assert together.shape == (5, 1280)
    assert together.dtype == torch.float32
    alone = FeatureNetwork("alone", lite0.embed, batch=1)(images)
    assert torch.allclose(alone, together, atol=1e-3)
    assert torch.allclose(lite0(images.expand(-1, 3, -1, -1)), together, atol=1e-3)


def test_the_name_says_which_network(lite0):
    assert lite0.name == "EfficientNet-Lite0, 96 px"


def test_any_function_is_a_network(generator):
    images = torch.rand(7, 2, 4, 4, generator=generator, dtype=torch.float64)
    network = FeatureNetwork("pixels", lambda x: x.flatten(1), batch=3)
    assert torch.equal(network(images), images.flatten(1).float())


def test_unfit_networks_and_images(lite0, no_shape_checks):
    images = torch.rand(3, 1, 8, 8)
    with pytest.raises(ValueError, match=r"the feature network 'n' is in training mode.*call \.eval\(\) on it"):
        FeatureNetwork("n", nn.BatchNorm2d(1))
    with pytest.raises(
        ValueError, match=r"the feature network 'n' must return shape \(batch, features\), got \(3, 1, 8"
    ):
        FeatureNetwork("n", lambda x: x)(images)
    with pytest.raises(ValueError, match=r"features of n has values that are not finite, first in features of n\[0\]"):
        FeatureNetwork("n", lambda x: x.flatten(1) * math.nan)(images)
    with pytest.raises(ValueError, match=r"batch must be a whole number of images, at least 1, got 0"):
        FeatureNetwork("n", nn.Flatten(), batch=0)
    with pytest.raises(
        ValueError, match=r"resolution must be a multiple of 32 px, the network's total stride, got 100"
    ):
        efficientnet_lite0(100)
    with pytest.raises(ValueError, match=r"EfficientNet-Lite0 takes grey or colour images, got 2 channels"):
        lite0(torch.rand(1, 2, 8, 8))


def test_without_its_packages_the_remedy_is_named(processes):
    code = """
import sys
sys.modules["efficientnet_lite_pytorch"] = None
from ssimgen.evaluation import efficientnet_lite0
try:
    efficientnet_lite0()
except ModuleNotFoundError as error:
    print(error)
"""
    assert "pip install 'ssimgen[eval]', or pass a feature network of your own" in processes.run(code).stdout
