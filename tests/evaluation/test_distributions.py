"""Frechet and kernel distance: closed forms, scipy's matrix root, torchmetrics, and what the influences promise."""

import re

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from ssimgen.evaluation import Bootstrap, frechet_distance, kernel_distance
from ssimgen.evaluation.distributions import _decomposed, _frechet_influence

FEW = Bootstrap(resamples=50)


def features(n: int, width: int, generator: torch.Generator, mixing: Tensor | None = None) -> Tensor:
    """Rectified Gaussian features, correlated by `mixing`."""
    z = torch.randn(n, width, generator=generator, dtype=torch.float64)
    return (z if mixing is None else z @ mixing).relu()


def frechet_by_definition(x: Tensor, y: Tensor, weights: Tensor | None = None) -> float:
    """Dowson and Landau's formula with scipy's root; `weights` replace the equal weights of the rows of x."""
    x, y = x.numpy(), y.numpy()
    if weights is None:
        mean_x, cov_x = x.mean(0), np.cov(x, rowvar=False)
    else:
        mean_x = weights.numpy() @ x
        cov_x = ((x - mean_x).T * weights.numpy()) @ (x - mean_x) * len(x) / (len(x) - 1)
    mean_y, cov_y = y.mean(0), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(cov_x @ cov_y).real
    return float(((mean_x - mean_y) ** 2).sum() + np.trace(cov_x + cov_y - 2 * root))


class Identity(nn.Module):
    """Features that are given already, for torchmetrics."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, x: Tensor) -> Tensor:
        return x


def frechet_of_torchmetrics(x: Tensor, y: Tensor) -> float:
    metric = FrechetInceptionDistance(Identity(x.shape[1])).set_dtype(torch.float64)
    metric.update(x, real=True)
    metric.update(y, real=False)
    return metric.compute().item()


def test_a_shift_costs_its_squared_length(generator):
    x = features(50, 6, generator)
    shift = torch.arange(6.0, dtype=torch.float64)
    assert frechet_distance(x, x + shift, bootstrap=FEW).value == pytest.approx(55.0, rel=1e-12)


def test_a_scaling_costs_the_squared_change_of_scale(generator):
    x = features(50, 6, generator)
    x = x - x.mean(0)
    variance = x.var(0).sum().item()
    assert frechet_distance(x, 3 * x, bootstrap=FEW).value == pytest.approx(4 * variance, rel=1e-12)


def test_a_set_is_at_distance_zero_of_itself(generator):
    x = features(30, 8, generator)
    assert 0 <= frechet_distance(x, x, bootstrap=FEW).value < 1e-12


@pytest.mark.parametrize("reference", [frechet_by_definition, frechet_of_torchmetrics])
def test_frechet_distance_agrees_with_others(reference, generator):
    x, y = features(80, 12, generator), features(70, 12, generator, torch.rand(12, 12, generator=generator).double())
    assert frechet_distance(x, y, bootstrap=FEW).value == pytest.approx(reference(x, y), rel=1e-8)


def test_the_interval_of_a_distance_that_cannot_be_negative_ends_at_zero(generator):
    x = torch.randn(30, 4, generator=generator, dtype=torch.float64)
    y = x + 0.3 * torch.randn(30, 4, generator=generator, dtype=torch.float64)
    unbounded = frechet_distance(x, y, bootstrap=Bootstrap(resamples=200))
    assert unbounded.low == 0.0 < unbounded.value < unbounded.high


def test_fewer_images_than_features(generator):
    """In a space spanned by few axes the distance is that within those axes, whatever the width around them."""
    x, y = features(8, 10, generator), features(9, 10, generator) + 0.5
    basis = torch.linalg.qr(torch.randn(40, 10, generator=generator, dtype=torch.float64)).Q
    inside = frechet_distance(x, y, bootstrap=FEW).value
    assert frechet_distance(x @ basis.T, y @ basis.T, bootstrap=FEW).value == pytest.approx(inside, rel=1e-10)


def test_influence_is_the_derivative_to_the_weight_of_an_image(generator):
    n, width, step = 120, 5, 1e-6
    x, y = features(n, width, generator), features(90, width, generator) * 1.5 + 0.3
    (mean_x, centred, q_x, r_x), (mean_y, _, _, r_y) = _decomposed(x), _decomposed(y)
    u, s, _ = torch.linalg.svd(r_x @ r_y.T / ((n - 1) * 89) ** 0.5, full_matrices=False)
    influence = _frechet_influence(centred, q_x @ u, s, mean_x - mean_y)
    equal = torch.full((n,), 1 / n, dtype=torch.float64)
    for i in (0, 17, 99):
        towards = torch.zeros(n, dtype=torch.float64)
        towards[i] = 1
        ends = [frechet_by_definition(x, y, (1 - e) * equal + e * towards) for e in (step, -step)]
        slope = (ends[0] - ends[1]) / (2 * step)
        scale = influence.std().item()
        assert influence[i].item() == pytest.approx(slope, abs=0.03 * scale)  # n / (n - 1) is taken as 1


@pytest.mark.parametrize("n", [60, 400])
def test_the_interval_of_the_frechet_distance_matches_its_spread(n, generator):
    """The plain bootstrap would put the distance of 60 points in 16 dimensions at twice its value, and miss it."""
    values, widths = [], []
    for _ in range(80):
        estimate = frechet_distance(features(n, 16, generator), features(n, 16, generator) + 0.2, bootstrap=FEW)
        assert estimate.low <= estimate.value <= estimate.high
        values.append(estimate.value)
        widths.append(estimate.high - estimate.low)
    assert 0.85 < np.mean(widths) / (2 * 1.96 * np.std(values)) < 1.8


def test_kernel_distance_by_definition(generator):
    x, y = features(12, 5, generator), features(9, 5, generator) + 0.4
    kernel = [[((a @ b).item() / 5 + 1) ** 3 for b in torch.cat([x, y])] for a in torch.cat([x, y])]
    within_x = sum(kernel[i][j] for i in range(12) for j in range(12) if i != j) / (12 * 11)
    within_y = sum(kernel[i][j] for i in range(12, 21) for j in range(12, 21) if i != j) / (9 * 8)
    across = sum(kernel[i][j] for i in range(12) for j in range(12, 21)) / (12 * 9)
    assert kernel_distance(x, y, bootstrap=FEW).value == pytest.approx(within_x + within_y - 2 * across, rel=1e-10)


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save:UserWarning")
def test_kernel_distance_is_that_of_torchmetrics_on_one_subset_of_all(generator):
    x, y = features(40, 7, generator), features(40, 7, generator) + 0.3
    theirs = KernelInceptionDistance(Identity(7), subsets=1, subset_size=40)
    theirs.update(x, real=True)
    theirs.update(y, real=False)
    assert kernel_distance(x, y, bootstrap=FEW).value == pytest.approx(theirs.compute()[0].item(), rel=1e-9)


def test_kernel_distance_of_equal_distributions_is_about_zero(generator):
    values = [
        kernel_distance(features(40, 6, generator), features(40, 6, generator), bootstrap=FEW).value for _ in range(100)
    ]
    assert abs(np.mean(values)) < 4 * np.std(values) / 10
    assert min(values) < 0  # unbiased: it must fall on both sides


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.rand(1, 3), torch.rand(5, 3), "needs at least 2 points, but x has 1: pass a larger sample"),
        (torch.rand(5, 3), torch.rand(5, 4), "points of x and y must have equal shapes, got (3,) and (4,)"),
        (
            torch.rand(5, 3),
            torch.tensor([[0.0, 1, 2], [0, float("nan"), 1]]),
            "y has values that are not finite, first in y[1]: drop or repair it",
        ),
        (torch.rand(5, 1, 2, 2), torch.rand(5, 1, 2, 2), "x must be a matrix, one row of features a point"),
    ],
)
def test_unfit_features(distance, x, y, message, no_shape_checks):
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        distance(x, y)
