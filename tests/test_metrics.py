"""Metrics: values against naive definitions, the axioms, and what a Hilbertian metric promises."""

import numpy as np
import pytest
import torch
from torch import Tensor

from oracles import ssim as oracle
from ssimgen import Window
from ssimgen.metrics import Euclidean, Metric, StructuralDistance
from ssimgen.similarity import FORMS

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


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((2, 3)), None, "x must be a torch.Tensor, got ndarray: convert with torch.as_tensor"),
        (torch.zeros(3), None, "x must have a sample axis and at least one more, got shape (3,)"),
        (torch.zeros(0, 3), None, "x is empty, shape (0, 3): pass at least one point"),
        (torch.zeros(2, 3), torch.zeros(0, 3), "y is empty, shape (0, 3): pass at least one point"),
        (torch.zeros(2, 3).int(), None, "x must be a floating-point tensor, got torch.int32: convert with x.float()"),
        (torch.zeros(2, 3), torch.zeros(2, 4), "points of x and y must have equal shapes, got (3,) and (4,)"),
        (
            torch.zeros(2, 3),
            torch.zeros(2, 3).double(),
            "x and y must share a dtype, got torch.float32 and torch.float64: convert one with .to(x.dtype)",
        ),
    ],
)
@pytest.mark.usefixtures("no_shape_checks")
def test_bad_samples(x: object, y: object, message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as error:
        Euclidean()(x, y)  # type: ignore[arg-type]
    assert str(error.value) == message


def test_options_are_checked_when_the_metric_is_made() -> None:
    with pytest.raises(ValueError, match="norm must be one of 'rms', 'frobenius', got 'max'"):
        StructuralDistance(1.0, norm="max")
    with pytest.raises(ValueError, match="data_range must be a positive number"):
        StructuralDistance(0.0)
    with pytest.raises(ValueError, match="k2"):
        StructuralDistance(1.0, k2=0.0)
