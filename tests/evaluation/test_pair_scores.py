"""PSNR and feature distance of pairs."""

import math

import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio

from ssimgen.evaluation import feature_distance, psnr


def test_psnr_of_a_constant_error():
    x = torch.zeros(2, 3, 4, 4)
    assert psnr(x, x + 0.1, data_range=1.0).tolist() == pytest.approx([20.0, 20.0], abs=1e-5)
    assert psnr(x, x + 25.5, data_range=255).tolist() == pytest.approx([20.0, 20.0], abs=1e-5)
    assert psnr(x, x + 0.1, data_range=(-1, 1)).tolist() == pytest.approx([20 + 20 * math.log10(2)] * 2, abs=1e-5)


def test_psnr_is_that_of_torchmetrics(generator):
    x, y = (torch.rand(5, 3, 6, 7, generator=generator, dtype=torch.float64) for _ in "xy")
    theirs = peak_signal_noise_ratio(x, y, data_range=1.0, reduction="none", dim=(1, 2, 3))
    assert psnr(x, y, data_range=1.0).tolist() == pytest.approx(theirs.tolist(), rel=1e-6)  # they take logs in float32


def test_equal_images_have_infinite_psnr():
    x = torch.rand(1, 1, 4, 4)
    assert psnr(x, x, data_range=1.0).item() == math.inf


def test_feature_distance_is_the_mean_squared_difference():
    x, y = torch.tensor([[0.0, 0, 0, 0], [1, 2, 3, 4]]), torch.tensor([[1.0, 1, 1, 3], [1, 2, 3, 4]])
    assert feature_distance(x, y).tolist() == [3.0, 0.0]


def test_unfit_pairs(no_shape_checks):
    with pytest.raises(ValueError, match=r"x and y are compared pair by pair and must have equal batch sizes, got 2"):
        psnr(torch.rand(2, 1, 4, 4), torch.rand(3, 1, 4, 4), data_range=1.0)
    with pytest.raises(ValueError, match=r"features are compared pair by pair, but x has 2 rows and y 3"):
        feature_distance(torch.rand(2, 5), torch.rand(3, 5))
    with pytest.raises(ValueError, match=r"data_range must be a positive number"):
        psnr(torch.rand(2, 1, 4, 4), torch.rand(2, 1, 4, 4), data_range=0)
