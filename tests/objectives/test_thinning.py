"""Windows at some of their positions, and scales drawn in turn: what is unbiased, and what stays a kernel."""

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from ssimgen.components import Component
from ssimgen.discrepancy import mmd2
from ssimgen.kernels import Gaussian
from ssimgen.metrics import Euclidean, Metric, StructuralDistance
from ssimgen.objectives import thinning
from ssimgen.objectives.moment_matching import FittedKernel, MomentMatching, PairKernel
from ssimgen.objectives.structure import Structure
from ssimgen.objectives.thinning import Thinned, thinned
from ssimgen.windows import Window

BLOCKS = Structure(form="sum", window="uniform", size=4, stride=2, k1=0.05, k2=0.1)


def images(n: int, seed: int, sides: tuple[int, int] = (11, 14)) -> Tensor:
    return torch.rand(n, 2, *sides, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def every_draw(monkeypatch: pytest.MonkeyPatch, metric, every: int, sides: tuple[int, int]) -> list:
    """What `thinned` returns for each outcome of its two draws, all of the same probability."""
    down, across = (axis.positions(side) for axis, side in zip(metric.window.axes(2), sides, strict=True))
    found = []
    for outcome in product(range(down), range(across)):
        numbers = iter(outcome)
        with monkeypatch.context() as patch:
            patch.setattr(thinning.torch, "randint", lambda most, size: torch.tensor(next(numbers)))  # noqa: B023
            found.append(thinned(metric, every, sides))
    return found


@pytest.mark.parametrize("every", [2, 3, 9])
@pytest.mark.parametrize("window", [Window.uniform(4, 2), Window.gaussian(5, 1.5, (1, 3))], ids=repr)
@pytest.mark.parametrize(
    "make",
    [
        lambda window: StructuralDistance(1.0, window=window),
        lambda window: StructuralDistance(1.0, form="product", window=window),
        lambda window: Component("contrast", 1.0, window),
    ],
    ids=["sum", "product", "contrast"],
)
def test_squared_distances_are_unbiased(make, window: Window, every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean over all draws is D^2 of all positions, though there are more of some residues than of others."""
    x, y, metric = images(3, 0), images(2, 1), make(window)
    squares = [each.squared(x, y) for each in every_draw(monkeypatch, metric, every, (11, 14))]
    torch.testing.assert_close(torch.stack(squares).mean(0), metric.squared(x, y), rtol=1e-12, atol=1e-14)
    assert max((square - squares[0]).abs().max() for square in squares) > 1e-3
    roots = torch.stack([square.sqrt() for square in squares]).mean(0)
    assert (roots <= metric(x, y) + 1e-12).all()  # Jensen: D is not, nor is a kernel of it


def test_means_of_gaussians_are_above_the_gaussian(monkeypatch: pytest.MonkeyPatch) -> None:
    """F12 (b)."""
    x, y, metric = images(4, 0), images(3, 1), StructuralDistance(1.0, window=Window.uniform(4, 2))
    draws = every_draw(monkeypatch, metric, 2, (11, 14))
    mean = torch.stack([Gaussian(each, (0.3,))(x, y) for each in draws]).mean(0)
    assert (mean > Gaussian(metric, (0.3,))(x, y)).all()


def test_distributions_that_no_subset_tells_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """F12 (c): two patches that are equal or that are not."""
    a, b = torch.zeros(1, 2, 2, dtype=torch.float64), torch.ones(1, 2, 2, dtype=torch.float64)
    equal, unequal = (
        torch.stack([torch.cat(pair, 2) for pair in pairs]) for pairs in (((a, a), (b, b)), ((a, b), (b, a)))
    )
    metric = StructuralDistance(1.0, window=Window.uniform(2, 2))

    def discrepancy(metric: Metric) -> float:
        k = Gaussian(metric, (0.5,))
        return mmd2(k(equal), k(equal, unequal), k(unequal), unbiased=False).item()

    for each in every_draw(monkeypatch, metric, 2, (2, 4)):
        assert discrepancy(each) == pytest.approx(0, abs=1e-15)
    d = metric(equal[:1], equal[1:]).item()
    assert discrepancy(metric) == pytest.approx((1 - math.exp(-(d**2) / 4 / 0.25)) ** 2)


def test_it_stands_where_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 4 x 6 positions every 4 px, the second row from the first on, every second from the second column on."""
    metric = StructuralDistance(1.0, window=Window.uniform(4, 2))
    numbers = iter([2, 3])
    monkeypatch.setattr(thinning.torch, "randint", lambda most, size: torch.tensor(next(numbers)))
    found = thinned(metric, 2, (11, 14))
    assert found == Thinned(StructuralDistance(1.0, window=Window.uniform(4, (4, 4))), (0, 2), (8, 12))


def test_every_position_is_no_change() -> None:
    metric = StructuralDistance(1.0, window=Window.uniform(4, 2))
    assert thinned(metric, 1, (11, 14)) is metric
    assert thinned(Euclidean(), 3, (11, 14)) == Euclidean()


def fitted(**options) -> FittedKernel:
    kernel = PairKernel(structure=BLOCKS, scales=(1.0, 1.5, 2.0), relative=False, **options)
    return FittedKernel(kernel, kernel.image_metrics((2, 11, 14)))


@pytest.mark.parametrize("options", [{"thinning": 2}, {"drawn": 1}, {"thinning": 3, "drawn": 2}], ids=str)
@pytest.mark.parametrize("kind", ["gaussian", "energy"])
def test_each_step_has_a_kernel(kind: str, options: dict[str, int]) -> None:
    """Positive definite, another one each time, and all of the windows outside of training."""
    x, base, kernel = images(20, 0), torch.zeros(1, 2, 11, 14, dtype=torch.float64), fitted(kind=kind, **options)
    torch.manual_seed(0)
    grams = [kernel.kernel(base)(x) for _ in range(6)]
    for gram in grams:
        assert torch.linalg.eigvalsh(gram).min() > -1e-10
    assert len({gram.sum().item() for gram in grams}) > 1
    kernel.eval()
    assert torch.equal(kernel.kernel(base)(x), fitted(kind=kind).kernel(base)(x))


@pytest.mark.parametrize("kind", ["gaussian", "energy"])
def test_with_one_of_three_scales_the_discrepancy_is_a_third_on_average(kind: str) -> None:
    x, y, kernel = images(8, 0), images(8, 1) / 2, fitted(kind=kind, drawn=1)
    torch.manual_seed(0)
    values = torch.stack([kernel.mmd2(x, y, unbiased=True) for _ in range(60)])
    assert len(values.unique()) == 3
    torch.testing.assert_close(3 * values.unique().mean(), fitted(kind=kind).mmd2(x, y, unbiased=True))
    assert min((values == value).sum() for value in values.unique()) > 8  # of 60: each has a third


def test_parts_of_a_scale_are_drawn_together() -> None:
    kernel = fitted(metric="components", drawn=1)
    ((metric, unit),) = kernel._distances(images(1, 0))
    assert unit == 1.0
    assert [part.part for part in metric.metrics] == ["luminance", "contrast", "structure"]
    assert len({part.window for part in metric.metrics}) == 1


def test_the_discrepancy_of_equal_samples_is_0_with_all_draws() -> None:
    """One and the same subset of windows is taken for all three terms."""
    options = PairKernel(structure=BLOCKS, scales=(1.0, 1.5), relative=False, thinning=2, drawn=1)
    loss = MomentMatching(options, options.image_metrics((2, 11, 14)), unbiased=False, root=False)
    x = images(6, 0).float()
    assert all(abs(loss(x, x).item()) < 1e-6 for _ in range(8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"thinning": 0}, "thinning must be at least 1, every position, got 0"),
        ({"thinning": 2, "metric": "l2"}, "thinning=2 leaves out windows inside the image, and metric='l2'"),
        ({"thinning": 2, "metric": "features"}, "metric='features' with structure.padding='valid' has none"),
        ({"thinning": 2, "structure": Structure(padding="reflect")}, "padding='reflect' has none or mirrored ones"),
        ({"drawn": -1}, "drawn must be a number of scales, or 0 for all of them, got -1"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PairKernel(**options)  # type: ignore[arg-type]
