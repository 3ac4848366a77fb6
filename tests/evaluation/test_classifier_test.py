"""C2ST against scikit-learn's logistic regression, and against the divergence that it bounds."""

import math

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from ssimgen.evaluation import Bootstrap, c2st
from ssimgen.evaluation.classifier_test import _RIDGE, cross_fitted, standardised

FEW = Bootstrap(resamples=20)


def gaussians(n: int, shift: float, features: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, n, features, generator=generator)
    y[:, 0] += shift
    return x, y


def test_classifiers_are_those_of_scikit_learn() -> None:
    points = standardised(torch.cat(gaussians(60, 1.5)))
    signs = torch.ones(120).index_fill_(0, torch.arange(60, 120), -1)
    folds = torch.arange(120) % 5
    found = cross_fitted(points, signs, folds)
    for fold in range(5):
        seen = folds != fold
        reference = LogisticRegression(C=1 / (_RIDGE * int(seen.sum())), fit_intercept=False, tol=1e-8)
        reference.fit(points[seen].numpy(), signs[seen].numpy())
        expected = torch.from_numpy(reference.decision_function(points[~seen].numpy()))
        torch.testing.assert_close(found[~seen].double(), expected.double(), rtol=1e-3, atol=1e-3)


def jensen_shannon(shift: float) -> float:
    """Bits, of two Gaussians on a line, by quadrature."""
    x = torch.linspace(-12, 12 + shift, 20_001, dtype=torch.float64)
    p, q = (torch.exp(-((x - m) ** 2) / 2) / math.sqrt(2 * math.pi) for m in (0.0, shift))
    m = (p + q) / 2
    terms = torch.special.xlogy(p, p / m) + torch.special.xlogy(q, q / m)
    return torch.trapezoid(terms, x).item() / 2 / math.log(2)


@pytest.mark.parametrize("shift", [1.0, 2.0, 4.0])
def test_it_is_a_lower_bound_of_the_divergence_and_not_a_weak_one(shift: float) -> None:
    bits = c2st(*gaussians(500, shift), bootstrap=FEW).value
    assert 0.6 * jensen_shannon(shift) < bits < jensen_shannon(shift) + 0.03


def test_equal_distributions_are_not_told_apart() -> None:
    assert abs(c2st(*gaussians(300, 0.0), bootstrap=FEW).value) < 0.02


def test_images_are_not_recognised_by_a_classifier_that_has_seen_them() -> None:
    x, y = gaussians(200, 0.0, features=1000)  # a classifier that had would tell all of them apart
    assert c2st(x, y, bootstrap=FEW).value < 0.02


def test_equally_many_of_either_set_are_taken_and_seeds_fix_the_folds() -> None:
    x, y = gaussians(60, 1.0)
    assert c2st(x, y[:40], bootstrap=FEW) == c2st(x[:40], y[:40], bootstrap=FEW)
    assert c2st(x, y, bootstrap=Bootstrap(resamples=20, seed=1)).value != c2st(x, y, bootstrap=FEW).value


def test_features_without_spread_are_no_obstacle() -> None:
    x = torch.zeros(20, 3)
    assert c2st(x, x, bootstrap=FEW).value == pytest.approx(0, abs=1e-6)


def test_too_few_images() -> None:
    with pytest.raises(ValueError, match="cross-fitting needs at least 10 points, but x has 9"):
        c2st(torch.rand(9, 3), torch.rand(20, 3))
