"""Precision, recall, density, coverage: naive loops, hand-made sets, and their expectations in closed form."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ssimgen.evaluation import coverage, density, manifolds, precision, recall

SCORES = [precision, recall, density, coverage]


def normal(n: int, generator: torch.Generator, dimensions: int = 4) -> Tensor:
    return torch.randn(n, dimensions, generator=generator, dtype=torch.float64)


def naive(real: Tensor, generated: Tensor, k: int) -> dict[str, list[float]]:
    """The four definitions, point by point."""
    real, generated = real.numpy(), generated.numpy()

    def radius(points, i):
        return sorted(np.linalg.norm(points[i] - other) for j, other in enumerate(points) if j != i)[k - 1]

    def holds(points, i, point):
        return bool(np.linalg.norm(points[i] - point) <= radius(points, i))

    return {
        "precision": [float(any(holds(real, i, g) for i in range(len(real)))) for g in generated],
        "recall": [float(any(holds(generated, i, r) for i in range(len(generated)))) for r in real],
        "density": [sum(holds(real, i, g) for i in range(len(real))) / k for g in generated],
        "coverage": [float(any(holds(real, i, g) for g in generated)) for i in range(len(real))],
    }


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("block", [4, 1024])
def test_scores_by_definition(k, block, generator, monkeypatch):
    monkeypatch.setattr(manifolds, "_BLOCK", block)  # more than one block of rows
    real, generated = normal(17, generator), 1.3 * normal(13, generator) + 0.5
    expected = naive(real, generated, k)
    assert {0.0, 1.0} <= set(expected["precision"])  # the case tells inside from outside
    for score in SCORES:
        assert score(real, generated, neighbours=k).tolist() == expected[score.__name__]


def test_the_real_set_itself_is_precise_and_covers(generator):
    real = normal(30, generator)
    for score in (precision, recall, coverage):
        assert score(real, real.clone()).tolist() == [1.0] * 30


def test_far_samples_score_zero(generator):
    real = normal(30, generator)
    for score in SCORES:
        assert not score(real, real + 1000).any()


def test_one_mode_of_two_is_precise_but_covers_half(generator):
    real = torch.cat([normal(40, generator), normal(40, generator) + 100])
    generated = normal(80, generator)
    assert precision(real, generated).mean() > 0.8
    assert recall(real, generated).mean() <= 0.5
    assert coverage(real, generated).mean() <= 0.5


def test_an_outlier_inflates_precision_more_than_density(generator):
    """The reason for density (Naeem et al. 2020): one far real image makes everything between precise."""
    real = torch.cat([normal(60, generator), torch.full((1, 4), 50.0, dtype=torch.float64)])
    generated = normal(40, generator) + 20  # between the real images and the outlier
    assert precision(real, generated).mean() == 1.0
    assert density(real, generated).mean() < 0.3


@pytest.mark.parametrize(("n", "m", "k"), [(60, 60, 5), (80, 40, 3)])
def test_expectations_for_samples_of_the_real_distribution(n, m, k, generator):
    """E density = 1 and E coverage = 1 - prod (n - i) / (n + m - i), i = 1 ... k (Naeem et al. 2020)."""
    densities, coverages = [], []
    for _ in range(200):
        real, generated = normal(n, generator), normal(m, generator)
        densities.append(density(real, generated, neighbours=k).mean().item())
        coverages.append(coverage(real, generated, neighbours=k).mean().item())
    expected = 1 - math.prod((n - i) / (n + m - i) for i in range(1, k + 1))
    assert abs(np.mean(densities) - 1) < 4 * np.std(densities) / math.sqrt(200)
    assert abs(np.mean(coverages) - expected) < 4 * np.std(coverages) / math.sqrt(200)


@pytest.mark.parametrize("score", SCORES)
def test_unfit_features(score, generator):
    few, many = normal(4, generator), normal(20, generator)
    with pytest.raises(
        ValueError, match=r"a ball to the nearest neighbour of rank 4 needs at least 5 points, but real has 4"
    ):
        score(few, many, neighbours=4)
    with pytest.raises(ValueError, match=r"but generated has 4"):
        score(many, few, neighbours=4)
    with pytest.raises(ValueError, match=r"neighbours must be a whole number of neighbours, at least 1, got 0"):
        score(many, many, neighbours=0)
    many[3, 0] = math.nan
    with pytest.raises(ValueError, match=r"real has values that are not finite, first in real\[3\]"):
        score(many, normal(20, generator))
