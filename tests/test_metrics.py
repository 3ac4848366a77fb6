"""Metrics: values against naive definitions, the axioms, and what a Hilbertian metric promises."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from oracles import ssim as oracle
from ssimgen import Window
from ssimgen._request import FORMS
from ssimgen.components import Component
from ssimgen.kernels import DistanceInduced, Gaussian, Laplacian
from ssimgen.metrics import Euclidean, Metric, StructuralDistance

pytestmark = pytest.mark.usefixtures("eager_engine")

WINDOW = Window.gaussian(5, 1.0, stride=2)
PAPER = Window.uniform(4, stride=4, unbiased=True)
METRICS: dict[str, Metric] = {
    "euclidean": Euclidean(),
    **{form: StructuralDistance(1.0, form, window=WINDOW) for form in FORMS},
    "paper": StructuralDistance((-1.0, 1.0), norm="frobenius", window=PAPER, k1=0.1, k2=0.2),
}
each_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)


def images(n: int, generator: torch.Generator, side: int = 12, channels: int = 2) -> Tensor:
    return torch.rand(n, channels, side, side, generator=generator, dtype=torch.float64)


@each_metric
def test_values_are_those_of_the_definition(metric: Metric, generator: torch.Generator) -> None:
    x, y = images(4, generator), images(3, generator)
    if isinstance(metric, StructuralDistance):
        options = {name: getattr(metric, name) for name in ("data_range", "form", "norm", "window", "k1", "k2")}
        expected = oracle.pairwise_distance(x.numpy(), y.numpy(), **options)
    else:
        expected = np.array([[np.sqrt(((a - b) ** 2).sum()) for b in y.numpy()] for a in x.numpy()])
    np.testing.assert_allclose(metric(x, y), expected, rtol=1e-9)
    np.testing.assert_allclose(metric.squared(x, y), expected**2, rtol=1e-9)


@each_metric
def test_a_sample_against_itself(metric: Metric, generator: torch.Generator) -> None:
    x = images(5, generator)
    distances = metric(x)
    assert (distances == distances.T).all()
    assert (distances.diagonal() == 0).all()
    torch.testing.assert_close(distances, metric(x, x.clone()), rtol=1e-9, atol=2e-7)  # a root of 1e-14 on the diagonal


@each_metric
def test_triangle_inequality(metric: Metric, generator: torch.Generator) -> None:
    x = images(12, generator)
    d = metric(x)
    assert (d[:, None, :] <= d[:, :, None] + d[None, :, :] + 1e-12).all()


@each_metric
def test_gradients(metric: Metric, generator: torch.Generator) -> None:
    x, y, slope = images(2, generator), images(2, generator), images(2, generator) - 0.5

    def moved(z: Tensor, t: Tensor) -> Tensor:
        return z + t[:, None, None, None] * slope

    t, u = (torch.tensor(values, dtype=torch.float64, requires_grad=True) for values in ([0.3, -0.2], [0.1, 0.4]))
    assert torch.autograd.gradcheck(lambda t, u: metric(moved(x, t), moved(y, u)), (t, u))
    assert torch.autograd.gradcheck(lambda t, u: metric.squared(moved(x, t), moved(y, u)), (t, u))
    assert torch.autograd.gradcheck(lambda t: metric(moved(x, t)), (t,))  # the diagonal is constant


@each_metric
def test_equal_points_have_zero_gradient(metric: Metric, generator: torch.Generator) -> None:
    x = images(1, generator).repeat(3, 1, 1, 1).requires_grad_()
    metric(x).sum().backward()
    assert x.grad is not None
    assert (x.grad.abs() < 1e-6).all()


def test_euclidean_keeps_its_digits_far_from_the_origin(generator: torch.Generator) -> None:
    x = torch.rand(6, 10, generator=generator)
    near = Euclidean()(x.double())
    torch.testing.assert_close(Euclidean()(x + 1000), Euclidean()((x + 1000).double()).float(), rtol=1e-4, atol=1e-4)
    assert Euclidean()(x.bfloat16()).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(Euclidean()(x), near.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "function",
    [
        Euclidean(),
        Component("structure", 1.0, WINDOW),
        Gaussian(Euclidean(), (1.0, 2.0)),
        Laplacian(Euclidean(), (1.0,)),
        DistanceInduced(Euclidean(), torch.zeros(1, 2, 12, 12)),
        Gaussian(Euclidean(), (1.0,)) + 2 * Laplacian(Euclidean(), (1.0,)),
        Gaussian(Euclidean(), (1.0,)) * Gaussian(Euclidean(), (2.0,)),
    ],
    ids=lambda f: type(f).__name__ + getattr(f, "part", ""),
)
def test_an_image_that_is_not_finite_is_like_none_not_even_itself(
    function: Callable[[Tensor], Tensor], broken: float, generator: torch.Generator
) -> None:
    """And it leaves the other images alone."""
    x = images(4, generator)
    expected = function(x)
    x[2, 1, 4, 4] = broken
    found = function(x)
    assert found[2, 2].isnan()
    assert found[2].isnan().all() or math.isinf(broken)  # which is infinitely far from the others
    others = [0, 1, 3]
    torch.testing.assert_close(found[others][:, others], expected[others][:, others], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((2, 3)), None, "x must be a torch.Tensor, got ndarray: convert with torch.from_numpy(x)"),
        (
            torch.zeros(3),
            None,
            "x must have a sample axis and at least one more, got shape (3,): pass x[:, None] for a sample of numbers",
        ),
        (torch.zeros(0, 3), None, "x is empty, shape (0, 3): pass at least one point"),
        (torch.zeros(2, 3), torch.zeros(0, 3), "y is empty, shape (0, 3): pass at least one point"),
        (torch.zeros(2, 3).int(), None, "x must be a floating-point tensor, got torch.int32: convert with x.float()"),
        (torch.zeros(2, 3), torch.zeros(2, 4), "points of x and y must have equal shapes, got (3,) and (4,)"),
    ],
)
@pytest.mark.usefixtures("no_shape_checks")
def test_bad_samples(x: object, y: object, message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as error:
        Euclidean()(x, y)  # type: ignore[arg-type]
    assert str(error.value) == message


@pytest.mark.usefixtures("no_shape_checks")
def test_options_are_checked_when_the_metric_is_made() -> None:
    with pytest.raises(ValueError, match="norm must be one of 'rms', 'frobenius', got 'max'"):
        StructuralDistance(1.0, norm="max")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="data_range must be a positive number"):
        StructuralDistance(0.0)
    with pytest.raises(ValueError, match="k2"):
        StructuralDistance(1.0, k2=0.0)
