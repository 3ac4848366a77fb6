"""Sharpness and the nearest training image."""

import math

import pytest
import scipy.ndimage
import torch
from torch import Tensor

from ssimgen import Window, distance
from ssimgen.evaluation import images as module
from ssimgen.evaluation import nearest, sharpness

WINDOW = Window.uniform(4, stride=2)


def images(n: int, generator: torch.Generator, channels: int = 1) -> Tensor:
    return torch.rand(n, channels, 9, 8, generator=generator, dtype=torch.float64)


def test_a_chessboard_is_the_sharpest_image():
    """Its Laplacian is 4 and -4 by turns: variance 16."""
    board = (torch.arange(8)[:, None] + torch.arange(8)) % 2
    assert sharpness(board[None, None].double(), data_range=1.0).tolist() == pytest.approx([16.0])


def test_a_plane_has_no_edges():
    ramp = (torch.arange(6.0)[:, None] + 2 * torch.arange(6.0)) / 15
    assert sharpness(ramp[None, None], data_range=1.0).item() < 1e-10


def test_sharpness_is_the_variance_of_scipys_laplacian(generator):
    x = images(3, generator, channels=3)
    expected = [sum(scipy.ndimage.laplace(channel.numpy())[1:-1, 1:-1].var() for channel in image) / 3 for image in x]
    assert sharpness(x, data_range=1.0).tolist() == pytest.approx(expected, rel=1e-12)


def test_sharpness_does_not_depend_on_the_units(generator):
    x = images(2, generator)
    expected = sharpness(x, data_range=1.0)
    assert torch.allclose(sharpness(255 * x, data_range=255), expected, rtol=1e-12)
    assert torch.allclose(sharpness(2 * x - 1, data_range=(-1, 1)), expected, rtol=1e-12)


def test_blur_lowers_and_noise_raises_sharpness(digits, generator):
    x = digits[:20]
    noise = 0.1 * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    blurred = torch.nn.functional.avg_pool2d(x, 3, stride=1, padding=1)
    sharp = sharpness(x, data_range=1.0)
    assert (sharpness(blurred, data_range=1.0) < 0.5 * sharp).all()
    assert (sharpness((x + noise).clamp(0, 1), data_range=1.0) > sharp).all()


@pytest.mark.parametrize("block", [3, 512])
def test_nearest_image_by_definition(block, generator, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", block)
    x, train = images(7, generator), images(11, generator)
    found = nearest(x, train, data_range=1.0, window=WINDOW)
    for i, image in enumerate(x):
        distances = distance(image.expand_as(train), train, data_range=1.0, window=WINDOW)
        assert found.index[i] == distances.argmin()
        assert found.distance[i].item() == pytest.approx(distances.min().item(), rel=1e-9)


def test_copies_are_found_at_distance_zero(generator):
    train = images(9, generator)
    found = nearest(train[[4, 0]], train, data_range=1.0, window=WINDOW)
    assert found.index.tolist() == [4, 0]
    assert found.distance.tolist() == [0.0, 0.0]


def test_unfit_images(generator, no_shape_checks):
    x = images(2, generator)
    with pytest.raises(ValueError, match=r"the Laplacian needs images of at least 3 x 3 px, got 9 x 2"):
        sharpness(x[..., :2], data_range=1.0)
    with pytest.raises(
        ValueError, match=r"images has values in \[.*\], beyond its data_range \[0, 1\]: correct data_range, or clamp"
    ):
        sharpness(255 * x, data_range=1.0)
    with pytest.raises(ValueError, match=r"window of 11 x 11 px does not fit images of 9 x 8 px"):
        nearest(x, x, data_range=1.0)
    broken = x.clone()
    broken[1, 0, 0, 0] = math.nan
    with pytest.raises(ValueError, match=r"train has values that are not finite, first in train\[1\]"):
        nearest(x, broken, data_range=1.0, window=WINDOW)
    with pytest.raises(ValueError, match=r"images has values that are not finite, first in images\[1\]"):
        sharpness(broken, data_range=1.0)
