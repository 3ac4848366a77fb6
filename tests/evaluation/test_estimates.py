"""Bootstrap intervals: against scipy, naive sums and known truths."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from ssimgen.discrepancy import mmd2
from ssimgen.evaluation.estimates import Bootstrap, _counts, _pair_means


def normal(n: int, generator: torch.Generator, dimensions: int = 1) -> Tensor:
    return torch.randn(n, dimensions, generator=generator, dtype=torch.float64)


def test_the_interval_of_a_mean_is_that_of_scipy(generator):
    values = normal(400, generator)[:, 0].exp()  # skewed
    ours = Bootstrap(resamples=4000).mean(values)
    theirs = scipy.stats.bootstrap(
        (values.numpy(),), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert ours.value == pytest.approx(values.mean().item(), rel=1e-12)
    width = theirs.high - theirs.low
    assert abs(ours.low - theirs.low) < 0.06 * width  # quantiles of 4,000 draws are uncertain by about 2% of it
    assert abs(ours.high - theirs.high) < 0.06 * width


def test_both_ends_are_rounded_outwards_to_a_draw():
    """Of ten draws, 0.025 and 0.975 lie between the first two and between the last two."""
    values = torch.arange(7, dtype=torch.float64) ** 2
    drawn = torch.randint(7, (10, 7), generator=torch.Generator().manual_seed(3))
    means = values[drawn].mean(1).sort().values
    assert means[0] < means[1]
    assert means[-2] < means[-1]
    estimate = Bootstrap(resamples=10, seed=3).mean(values)
    assert (estimate.low, estimate.high) == (means[0].item(), means[-1].item())


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_intervals_of_means_hold_the_truth_as_often_as_they_say(level, generator):
    bootstrap = Bootstrap(resamples=400, level=level)
    trials = 300
    covered = 0
    for _ in range(trials):
        estimate = bootstrap.mean(normal(60, generator)[:, 0])
        covered += estimate.low <= 0 <= estimate.high
    standard_error = math.sqrt(level * (1 - level) / trials)
    assert abs(covered / trials - level) < 4 * standard_error


def test_equal_seeds_give_equal_intervals_and_leave_the_global_state_alone(generator):
    values = normal(50, generator)[:, 0]
    state = torch.random.get_rng_state()
    assert Bootstrap(seed=3).mean(values) == Bootstrap(seed=3).mean(values)
    assert Bootstrap(seed=3).mean(values) != Bootstrap(seed=4).mean(values)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_an_infinite_value_makes_the_mean_infinite_and_nothing_nan():
    estimate = Bootstrap(resamples=200).mean(torch.tensor([1.0, 2.0, math.inf]))
    assert estimate.value == math.inf
    assert estimate.low == pytest.approx(1.0)  # draws without the infinite value exist
    assert estimate.high == math.inf


def test_a_mean_and_its_linearisation_are_one(generator):
    values = normal(80, generator)[:, 0]
    mean, linearised = Bootstrap().mean(values), Bootstrap().linearised(values.mean().item(), values - values.mean())
    assert linearised.low == pytest.approx(mean.low, rel=1e-9)
    assert linearised.high == pytest.approx(mean.high, rel=1e-9)


def test_draws_of_mmd_leave_out_pairs_of_an_image_with_itself(generator):
    points = normal(7, generator)
    gram = points @ points.T
    indices = torch.tensor([[0, 0, 3, 3, 3, 5, 6], [0, 1, 2, 3, 4, 5, 6]])
    naive = []
    for draw in indices.tolist():
        pairs = [gram[i, j].item() for i, j in itertools.product(draw, draw) if i != j]
        naive.append(sum(pairs) / len(pairs))
    assert _pair_means(gram, _counts(indices, gram)).tolist() == pytest.approx(naive, rel=1e-12)


def test_the_interval_of_mmd_holds_a_known_distance(generator):
    """With the linear kernel MMD^2 is the squared distance of the means: here 1, neither of them at 0."""
    trials, covered, widths, values = 150, 0, [], []
    for _ in range(trials):
        x, y = (normal(n, generator, 2) + torch.tensor([mean, 0.0]) for n, mean in ((40, -0.5), (60, 0.5)))
        grams = x @ x.T, x @ y.T, y @ y.T
        estimate = Bootstrap(resamples=300).mmd2(*grams)
        assert estimate.value == mmd2(*grams).item()
        covered += estimate.low <= 1 <= estimate.high
        widths.append(estimate.high - estimate.low)
        values.append(estimate.value)
    assert 0.9 <= covered / trials <= 0.99
    assert np.mean(widths) / (2 * 1.96 * np.std(values)) == pytest.approx(1.0, abs=0.2)


def test_options_are_checked():
    with pytest.raises(ValueError, match=r"resamples must be a whole number of draws, at least 1, got 0"):
        Bootstrap(resamples=0)
    for level in (95, 1, 0):
        with pytest.raises(ValueError, match=rf"level must lie between 0 and 1, got {level}: 0\.95 is usual"):
            Bootstrap(level=level)


@pytest.mark.parametrize(
    ("values", "got"),
    [(torch.zeros(0), r"shape \(0,\)"), (torch.zeros(2, 2), r"shape \(2, 2\)"), (np.zeros(3), "ndarray")],
)
def test_a_mean_of_something_else(values, got, no_shape_checks):
    with pytest.raises(ValueError, match=f"values must be a tensor of one value an image, at least one, got {got}"):
        Bootstrap().mean(values)
