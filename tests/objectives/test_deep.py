"""Deep features against a naive computation, their gradients, and what is refused."""

import pytest
import torch
from torch import Tensor

from ssimgen.evaluation.feature_networks import EfficientNetLite0
from ssimgen.objectives.deep import DeepFeatures, features, squared_distance


def images(n: int, seed: int, channels: int = 1, side: int = 28) -> Tensor:
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("channels", [1, 3])
def test_pairs_are_compared_position_by_position(channels: int) -> None:
    """Of unit vectors |u - v|^2 = 2 - 2 u . v, averaged over positions, then over layers."""
    x, y = images(2, 0, channels), images(2, 1, channels)
    network = EfficientNetLite0(32)
    for i in range(2):
        of_layers = []
        for u, v in zip(network.maps(x[i : i + 1]), network.maps(y[i : i + 1]), strict=True):
            values = []
            for row in range(u.shape[2]):
                for column in range(u.shape[3]):
                    p, q = u[0, :, row, column].double(), v[0, :, row, column].double()
                    values.append(2 - 2 * p @ q / (p.norm() * q.norm()))
            of_layers.append(sum(values) / len(values))
        expected = sum(of_layers) / len(of_layers)
        assert squared_distance(y, x)[i].item() == pytest.approx(expected.item(), abs=1e-5)


def test_middle_layers_are_the_last_of_their_resolution() -> None:
    assert [tuple(z.shape) for z in EfficientNetLite0(64).maps(images(2, 0, 3, 40))] == [
        (2, 16, 32, 32),
        (2, 24, 16, 16),
        (2, 40, 8, 8),
    ]


def test_no_side_is_made_smaller() -> None:
    """The longer one decides: 40 px go to 64, and so there are maps of 32, 16 and 8 px."""
    wide = torch.rand(1, 1, 28, 40, generator=torch.Generator().manual_seed(0))
    assert features(wide).shape == (1, 16 * 32**2 + 24 * 16**2 + 40 * 8**2)


def test_all_pairs_are_the_pairs() -> None:
    x, y = images(3, 0), images(2, 1)
    square = DeepFeatures().squared(x, y)
    expected = torch.stack([squared_distance(y[j].expand(3, -1, -1, -1), x) for j in range(2)], 1)
    torch.testing.assert_close(square, expected, atol=1e-5, rtol=1e-4)
    assert DeepFeatures()(x).diagonal().abs().max() == 0
    assert DeepFeatures().hilbertian


def test_gradients_reach_images_and_not_the_network() -> None:
    """A step down the gradient brings an image nearer in the layers."""
    x, y = images(2, 0), images(2, 1).requires_grad_()
    value = squared_distance(y, x)
    (gradient,) = torch.autograd.grad(value.sum(), y)
    assert gradient.flatten(1).norm(dim=1).min() > 0
    nearer = squared_distance((y - 0.5 * gradient).detach(), x)
    assert (nearer < value).all()
    assert not any(p.requires_grad for p in EfficientNetLite0(32).parameters())


def test_dtypes_are_those_of_the_images() -> None:
    x, y = images(2, 0), images(2, 1)
    assert squared_distance(y.double(), x.double()).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(features(x), features(x.double()))


def test_channels_that_the_network_has_not_are_named() -> None:
    with pytest.raises(ValueError, match="takes grey or colour images, got 2 channels"):
        DeepFeatures()(images(2, 0, 2))
