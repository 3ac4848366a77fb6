"""Parzen log-likelihood: the Gaussian density, scikit-learn's estimator, and the choice of sigma."""

import math

import pytest
import scipy.stats
import torch
from sklearn.neighbors import KernelDensity
from torch import Tensor

from ssimgen.evaluation import parzen, parzen_bandwidth, parzen_log_likelihood


def images(n: int, generator: torch.Generator) -> Tensor:
    return torch.rand(n, 1, 4, 4, generator=generator, dtype=torch.float64)


def test_one_sample_makes_a_gaussian(generator):
    x, centre = images(5, generator), images(1, generator)
    gaussian = scipy.stats.multivariate_normal(centre.flatten().numpy(), 0.2**2)
    expected = gaussian.logpdf(x.flatten(1).numpy())
    assert parzen_log_likelihood(x, centre, sigma=0.2).tolist() == pytest.approx(expected.tolist(), rel=1e-12)


@pytest.mark.parametrize("block", [7, 512])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_likelihood_is_that_of_scikit_learn(block, dtype, generator, monkeypatch):
    monkeypatch.setattr(parzen, "_BLOCK", block)
    x, samples = images(30, generator).to(dtype), images(50, generator).to(dtype)
    theirs = KernelDensity(bandwidth=0.15).fit(samples.flatten(1).double()).score_samples(x.flatten(1).double())
    values = parzen_log_likelihood(x, samples, sigma=0.15)
    assert values.dtype == torch.float64
    assert values.tolist() == pytest.approx(theirs.tolist(), rel=1e-6 if dtype == torch.float32 else 1e-10)


def test_far_images_do_not_underflow(generator):
    value = parzen_log_likelihood(images(1, generator) + 1000, images(3, generator), sigma=0.1)
    assert value.isfinite().all()
    assert value.item() < -1e8


def test_sigma_is_the_most_likely_of_the_grid(generator):
    """About one centre the most likely sigma^2 is the mean squared distance to it, over D."""
    centre = images(1, generator)
    x = centre + 0.17 * torch.randn(400, 1, 4, 4, generator=generator, dtype=torch.float64)
    best = math.sqrt((x - centre).square().mean().item())
    assert abs(parzen_bandwidth(x, centre) - best) <= 0.005 + 1e-9  # half a step of the grid


def test_samples_of_the_right_digits_are_likelier(digits):
    train, held_out = digits[:400], digits[400:500]
    sigma = parzen_bandwidth(digits[500:600], train)
    ours = parzen_log_likelihood(held_out, train, sigma=sigma).mean()
    shuffled = train.flatten(1)[:, torch.randperm(784, generator=torch.Generator().manual_seed(0))].view_as(train)
    assert ours > parzen_log_likelihood(held_out, shuffled, sigma=sigma).mean() + 50


def test_unfit_arguments(generator, no_shape_checks):
    x = images(4, generator)
    with pytest.raises(ValueError, match=r"sigma must be a positive number in the units of the pixels, got 0"):
        parzen_log_likelihood(x, x, sigma=0)
    with pytest.raises(ValueError, match=r"points of images and samples must have equal shapes"):
        parzen_log_likelihood(x, x[..., :2], sigma=0.1)
    with pytest.raises(ValueError, match=r"sigmas must hold at least one bandwidth, got none"):
        parzen_bandwidth(x, x, sigmas=())
    broken = x.clone()
    broken[2, 0, 0, 0] = math.nan
    with pytest.raises(ValueError, match=r"samples has values that are not finite, first in samples\[2\]"):
        parzen_log_likelihood(x, broken, sigma=0.1)
