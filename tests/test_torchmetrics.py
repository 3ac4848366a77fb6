"""Metrics in the manner of torchmetrics: values of all that came, and what users of theirs do with them.

`test_two_processes.py` has them in two processes.
"""

import pickle
import re
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.image import PeakSignalNoiseRatio

from ssimgen import Window, distance, ms_ssim, ssim
from ssimgen.discrepancy import energy_distance, mmd2
from ssimgen.kernels import Gaussian
from ssimgen.metrics import Euclidean, StructuralDistance
from ssimgen.torchmetrics import EnergyDistanceMetric, MMDMetric, MSSSIMMetric, SSIMMetric, StructuralDistanceMetric
from ssimgen.torchmetrics import sets as module

pytestmark = pytest.mark.usefixtures("eager_engine")

WINDOW = Window.uniform(4)
OPTIONS: dict[str, Any] = {"data_range": (0.0, 1.0), "window": WINDOW, "k1": 0.02, "k2": 0.05}
D: dict[str, Any] = {"form": "product", "norm": "frobenius", "squared": True}
OF_PAIRS: dict[str, tuple[Callable[..., Tensor], Callable[[], Metric]]] = {
    "ssim": (lambda x, y, **m: ssim(x, y, **OPTIONS, **m), lambda: SSIMMetric(**OPTIONS)),
    "ms_ssim": (
        lambda x, y, **m: ms_ssim(x, y, **OPTIONS, weights=(0.3, 0.7), **m),
        lambda: MSSSIMMetric(**OPTIONS, weights=(0.3, 0.7)),
    ),
    "distance": (
        lambda x, y, **m: distance(x, y, **OPTIONS, **D, **m),
        lambda: StructuralDistanceMetric(**OPTIONS, **D),
    ),
}
METRIC = StructuralDistance(1.0, window=Window.uniform(4, stride=4))
KERNEL = Gaussian(METRIC, (0.3, 1.0))
each_of_pairs = pytest.mark.parametrize(("function", "metric"), OF_PAIRS.values(), ids=OF_PAIRS)


def mmd(x: Tensor, y: Tensor, unbiased: bool = True) -> Tensor:
    return mmd2(KERNEL(x), KERNEL(x, y), KERNEL(y), unbiased=unbiased)


def energy(x: Tensor, y: Tensor, unbiased: bool = True) -> Tensor:
    return energy_distance(METRIC(x), METRIC(x, y), METRIC(y), unbiased=unbiased)


@pytest.fixture
def images(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Seven pairs, which are unlike at first and alike at last."""
    x, noise = torch.rand(2, 7, 2, 12, 13, generator=generator)
    return x, torch.lerp(noise, x, torch.linspace(0, 0.9, 7)[:, None, None, None])


@each_of_pairs
def test_means_of_pairs(function: Any, metric: Any, images: tuple[Tensor, Tensor]) -> None:
    """Over batches of unequal sizes; what `forward` returns is that of its batch, with its gradient."""
    x, y = images
    whole, batches = metric(), metric()
    for u, v in zip(x.split([4, 1, 2]), y.split([4, 1, 2]), strict=True):
        whole.update(u, v)
        u.requires_grad_()
        value = batches(u, v)
        torch.testing.assert_close(value, function(u, v).mean())
        assert torch.autograd.grad(value, u)[0].abs().max() > 0
    expected = function(x, y).mean()
    assert abs(function(x, y)[:4].mean() - expected) > 0.01 * expected
    for each in (whole, batches):
        torch.testing.assert_close(each.compute(), expected)
        assert not each.compute().requires_grad
    whole.update(x[:1], y[:1])
    torch.testing.assert_close(whole.compute(), (expected * 7 + function(x[:1], y[:1])[0]) / 8)
    whole.reset()
    whole.update(x[:1], y[:1])
    torch.testing.assert_close(whole.compute(), function(x[:1], y[:1])[0])


@each_of_pairs
def test_masks(function: Any, metric: Any, images: tuple[Tensor, Tensor]) -> None:
    x, y = images
    mask = torch.ones(7, 1, 12, 13)
    mask[:, :, :5, :7] = 0
    masked = metric()
    masked.update(x, y, mask)
    torch.testing.assert_close(masked.compute(), function(x, y, mask=mask).mean())


def test_sums_lose_no_digits(images: tuple[Tensor, Tensor]) -> None:
    """Beside 10^9 pairs that came before; and NaN stays."""
    x, y = images
    metric = SSIMMetric(**OPTIONS)
    metric.whole = metric.whole + 10**9
    for _ in range(10):
        metric.update(x, y)
    metric.whole = metric.whole - 10**9
    torch.testing.assert_close(metric.compute(), ssim(x, y, **OPTIONS).mean(), rtol=2e-7, atol=0)
    metric(x * torch.nan, y)
    metric.update(x, y)
    assert metric.compute().isnan()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes(dtype: torch.dtype, images: tuple[Tensor, Tensor]) -> None:
    """Of images, and of states: counts stay whole, values are in float32 at least."""
    x, y = images[0].to(dtype), images[1].to(dtype)
    plain, cast = SSIMMetric(**OPTIONS), SSIMMetric(**OPTIONS)
    for _ in range(10):
        plain.update(x, y)
        cast.update(x, y)
        cast.set_dtype(dtype)
    expected = ssim(x.double(), y.double(), **OPTIONS).mean()
    assert plain.compute().dtype == torch.float32
    torch.testing.assert_close(plain.compute().double(), expected, rtol=1e-6, atol=0)
    assert cast.compute().dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(cast.compute().double(), expected, rtol=1e-4, atol=0)
    assert (cast.rest.dtype, cast.count.dtype, cast.count.item()) == (dtype, torch.int64, 70)
    cast.reset()
    cast.update(x, y)
    assert (cast.rest.dtype, cast.count.dtype, cast.count.item()) == (dtype, torch.int64, 7)
    if dtype == torch.float64:
        torch.testing.assert_close(cast.compute(), expected, rtol=1e-15, atol=0)


def test_states_move(images: tuple[Tensor, Tensor]) -> None:
    of_pairs, of_sets = SSIMMetric(**OPTIONS), MMDMetric(KERNEL, keep=4)
    for metric in (of_pairs, of_sets):
        metric.update(*(z[:, :1] for z in images))
        metric.to("meta")
        states = [
            part for state in metric.metric_state.values() for part in (state if isinstance(state, list) else [state])
        ]
        assert {state.device.type for state in states} == {"meta"}


@pytest.mark.parametrize("kind", ["ssim", "mmd", "part"])
def test_states_are_stored(kind: str, images: tuple[Tensor, Tensor]) -> None:
    """In state_dict if that is asked for, as theirs are; in copies and pickles always."""
    makers = {"ssim": OF_PAIRS["ssim"][1], "mmd": lambda: MMDMetric(KERNEL), "part": lambda: MMDMetric(KERNEL, keep=2)}
    x, y = (z[:, :1, :, :12] for z in images)
    metric, other = makers[kind](), makers[kind]()
    metric.update(x[:4], y[:3]) if kind != "ssim" else metric.update(x[:4], y[:4])
    assert metric.state_dict() == {}
    metric.persistent(True)
    other.load_state_dict(metric.state_dict())
    copies = [other, metric.clone(), pickle.loads(pickle.dumps(metric))]
    for each in (metric, *copies):
        each.update(x[4:], y[4:])
    assert all(torch.equal(copy.compute(), metric.compute()) for copy in copies[1:])
    if kind != "part":  # of which a resumed one takes other points
        assert torch.equal(other.compute(), metric.compute())


def test_states_of_pairs_are_merged(images: tuple[Tensor, Tensor]) -> None:
    parts = [SSIMMetric(**OPTIONS) for _ in range(2)]
    for metric, part in zip(parts, (slice(0, 5), slice(5, 7)), strict=True):
        metric.update(images[0][part], images[1][part])
    parts[0].merge_state(parts[1])
    torch.testing.assert_close(parts[0].compute(), ssim(*images, **OPTIONS).mean())


def test_a_collection_of_pairs(images: tuple[Tensor, Tensor]) -> None:
    """With one of theirs; metrics that are equal on a first batch of equal images stay apart."""
    x, y = images
    options = {**OPTIONS, "k2": 0.5}
    named: dict[str, Metric | MetricCollection] = {
        "fine": SSIMMetric(**OPTIONS),
        "coarse": SSIMMetric(**options),
        "distance": StructuralDistanceMetric(**OPTIONS),
        "other": StructuralDistanceMetric(**OPTIONS, form="product"),
        "scales": MSSSIMMetric(**OPTIONS),
        "psnr": PeakSignalNoiseRatio(data_range=1.0),
    }
    collection = MetricCollection(named)
    collection.update(x, x)
    collection.update(preds=y, target=x)
    values = {name: value.item() for name, value in collection.compute().items()}
    assert values.pop("psnr") > 0
    assert values == {
        "fine": pytest.approx((1 + ssim(x, y, **OPTIONS).mean().item()) / 2),
        "coarse": pytest.approx((1 + ssim(x, y, **options).mean().item()) / 2),
        "distance": pytest.approx(distance(x, y, **OPTIONS).mean().item() / 2),
        "other": pytest.approx(distance(x, y, **OPTIONS, form="product").mean().item() / 2),
        "scales": pytest.approx((1 + ms_ssim(x, y, **OPTIONS).mean().item()) / 2),
    }


def test_a_collection_of_sets_keeps_them_once(images: tuple[Tensor, Tensor]) -> None:
    x, y = (z[:, :1, :, :12] for z in images)
    named: dict[str, Metric | MetricCollection] = {
        "mmd": MMDMetric(KERNEL),
        "energy": EnergyDistanceMetric(METRIC),
        "few": MMDMetric(KERNEL, keep=2),
        "more": MMDMetric(KERNEL, keep=3),
    }
    collection = MetricCollection(named)
    more = MMDMetric(KERNEL, keep=3)
    for u, v in zip(x.split(2), y.split(2), strict=True):
        collection.update(u, v)
        more.update(u, v)
    assert collection.mmd.preds[0] is collection.energy.preds[0]
    values = collection.compute()
    torch.testing.assert_close(values["mmd"], mmd(x, y))
    torch.testing.assert_close(values["energy"], energy(x, y))
    assert values["more"] == more.compute() != values["few"]
    later = collection(x[:3], y[:3])
    torch.testing.assert_close(later["energy"], energy(x[:3], y[:3]))
    torch.testing.assert_close(collection.compute()["energy"], energy(torch.cat([x, x[:3]]), torch.cat([y, y[:3]])))


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize(
    ("metric", "of_sets"),
    [(lambda u: MMDMetric(KERNEL, unbiased=u), mmd), (lambda u: EnergyDistanceMetric(METRIC, unbiased=u), energy)],
    ids=["mmd", "energy"],
)
def test_values_of_two_sets(
    metric: Any, of_sets: Any, unbiased: bool, images: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all points, whatever batches they came in, and blocks they are compared in."""
    monkeypatch.setattr(module, "_BLOCK", 3)
    x, y = (z[:, :1, :, :12] for z in images)
    y = y[:4]
    both, apart, batches = (metric(unbiased) for _ in range(3))
    both.update(x, y)
    apart.update(None, y[:3])
    batch = x.clone()
    apart.update(batch, None)
    batch.zero_()  # a buffer that is used again
    apart.update(preds=None, target=y[3:].double())
    expected = of_sets(x, y, unbiased)
    torch.testing.assert_close(batches(x[:5], y[:2]), of_sets(x[:5], y[:2], unbiased))
    batches(x[5:], y[2:])
    for each in (both, apart, batches):
        torch.testing.assert_close(each.compute(), expected)
    both.update(y, None)
    torch.testing.assert_close(both.compute(), of_sets(torch.cat([x, y]), y, unbiased))
    both.reset()
    both.update(x[:, :, :8], y[:, :, :8])
    torch.testing.assert_close(both.compute(), of_sets(x[:, :, :8], y[:, :, :8], unbiased))


def test_float64_sets(images: tuple[Tensor, Tensor]) -> None:
    x, y = (z[:, :1, :, :12].double() for z in images)
    metric = EnergyDistanceMetric(METRIC).set_dtype(torch.float64)
    metric.update(x, y)
    torch.testing.assert_close(metric.compute(), energy(x, y), rtol=1e-12, atol=0)
    half = EnergyDistanceMetric(METRIC).set_dtype(torch.bfloat16)
    half.update(x, y)
    assert half.preds[0].dtype == torch.bfloat16
    torch.testing.assert_close(half.compute(), energy(x.bfloat16().float(), y.bfloat16().float()))


def test_a_random_part_is_kept() -> None:
    """Numbers from 0 to 999 in order, 100 of which are kept: from everywhere, and never many more."""
    metric = EnergyDistanceMetric(Euclidean(), keep=100)
    numbers = torch.arange(1000.0)[:, None]
    for batch in numbers.split(30):
        metric.update(batch, batch[:1])
        assert sum(map(len, metric.preds)) <= 200
    kept = metric._points("preds").flatten()
    assert len(kept) == len(kept.unique()) == 100
    assert kept.mean().item() == pytest.approx(499.5, abs=4 * 1000 / 1200**0.5)
    assert kept.std().item() == pytest.approx(1000 / 12**0.5, rel=0.2)
    assert len(metric._points("target")) == 34
    again = EnergyDistanceMetric(Euclidean(), keep=100)
    for batch in numbers.split(30):
        again.update(batch, batch[:1])
    assert torch.equal(again._points("preds"), metric._points("preds"))


@pytest.mark.usefixtures("no_shape_checks")
def test_refusals(images: tuple[Tensor, Tensor]) -> None:
    x = images[0]
    for make, text in (
        (lambda: SSIMMetric(data_range=0.0), "data_range must be a positive number"),
        (
            lambda: SSIMMetric(data_range=torch.ones(7)),
            "data_range must be one number or .* here, got one value an image",
        ),
        (lambda: MSSSIMMetric(data_range=1.0, k1=-1.0), "k1 must be a positive number"),
        (
            lambda: StructuralDistanceMetric(data_range=1.0, norm="l2"),
            "norm must be one of 'rms', 'frobenius', got 'l2'",
        ),
        (lambda: MMDMetric(KERNEL, keep=0), "keep must be a whole number of points, at least 1, got 0"),
        (lambda: SSIMMetric(data_range=1.0).update(x, x[:3]), "x and y are compared pair by pair"),
        (lambda: MMDMetric(Gaussian(METRIC, "median")).update(x, x), "bandwidths='median' are not set yet"),
        (lambda: MMDMetric(KERNEL).update(x[:, :, :3], None), "window of 4 x 4 px does not fit images of 3 x 13 px"),
    ):
        with pytest.raises(ValueError, match=text):
            make()
    with pytest.raises(TypeError, match=r"preds must be a floating-point tensor, got torch.uint8"):
        MMDMetric(KERNEL).update(x.byte(), x)
    metric = MMDMetric(KERNEL)
    metric.update(x[:1], None)
    with pytest.raises(ValueError, match="unbiased estimate needs at least 2 points a sample, got 1 and 0"):
        metric.compute()
    text = "points must have one shape, got (2, 9, 13) as target after (2, 12, 13): crop or resize them"
    with pytest.raises(ValueError, match=re.escape(text)):
        metric.update(x, x[:, :, :9])


def test_a_value_of_nothing() -> None:
    with pytest.warns(UserWarning, match="called before the ``update``"):
        assert SSIMMetric(data_range=1.0).compute().isnan()


def test_without_torchmetrics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    for name in [name for name in sys.modules if name.startswith("ssimgen.torchmetrics")]:
        monkeypatch.delitem(sys.modules, name)
    text = r"ssimgen.torchmetrics needs torchmetrics: pip install 'ssimgen\[torchmetrics\]'"
    with pytest.raises(ImportError, match=text):
        import_module("ssimgen.torchmetrics")
