"""The compiled kernels for image pairs: agreement with the PyTorch engine in float64, and behaviour as code.

Values and gradients against naive definitions are tested through the public functions (tests/test_similarity.py).
"""

import itertools
import multiprocessing
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ssimgen import Window, engine, ssim
from ssimgen._request import FORMS
from ssimgen.engine import Form, PatchDistance, eager
from ssimgen.engine.fused import pair_kernels, pairs, workers
from ssimgen.windows import AxisWindow

# Each size and stride is compiled anew, for each dtype; those of tests/test_similarity.py come again.
WINDOWS = {
    "gaussian 11": Window.gaussian(11, 1.5),
    "uniform 7": Window.uniform(7),
    "two pixels": Window.uniform(2, unbiased=True),
    "one pixel": Window.uniform(1),
    "even, stride 2": Window.gaussian(4, 1.2, stride=2),
    "lopsided, stride 2": Window((0.1, 0.2, 0.7), stride=2),
    "blocks": Window.uniform(4, stride=4, unbiased=True),
    "apart": Window.gaussian(2, stride=3),
    "wider than a vector": Window.uniform(19),
}


def request(window: Window, form: Form = "product", lo: float = 0.0, length: float = 1.0) -> PatchDistance:
    return PatchDistance(window, form, (0.01 * length) ** 2, (0.03 * length) ** 2, lo)


def images(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise in [0, 1], and half of it mixed with other noise."""
    generator = torch.Generator().manual_seed(seed)
    x, noise = torch.rand(2, *shape, generator=generator, dtype=torch.float64).to(dtype)
    return x, 0.5 * x + 0.5 * noise


def gradients(value: Tensor, upstream: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(value, inputs, upstream)


def upstream_of(value: Tensor) -> Tensor:
    """Factors of both signs, none of them equal."""
    return torch.linspace(-1, 1.5, value.numel(), dtype=value.dtype).view(value.shape)


@pytest.fixture
def narrow_panels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Panels of 8 to 16 columns and chunks of few pixels, so that small images are cut as large ones are."""
    monkeypatch.setattr(pairs, "_PANEL_BYTES", 256)
    monkeypatch.setattr(pairs, "_WIDEST_BYTES", 64)
    monkeypatch.setattr(pairs, "_CHUNK_PIXELS", 100)
    pairs._cut.cache_clear()
    yield
    pairs._cut.cache_clear()


# --- agreement --------------------------------------------------------------------------------------------------


def assert_agrees(window: Window, form: Form, *shape: int) -> None:
    """Means, maps, and the gradients of both to both images, in float64."""
    patch = request(window, form, lo=-0.2, length=1.4)
    x, y = (z.requires_grad_() for z in images(*shape))
    for reduction in ("squared_mean", "squared_map"):
        value, expected = (getattr(module, reduction)(x, y, patch) for module in (pairs, eager))
        torch.testing.assert_close(value, expected, rtol=1e-11, atol=1e-12)
        upstream = upstream_of(value)
        for gradient, reference in zip(
            gradients(value, upstream, x, y), gradients(expected, upstream, x, y), strict=True
        ):
            scale = float(reference.abs().max())
            torch.testing.assert_close(gradient, reference, rtol=0, atol=1e-11 * scale + 1e-15)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", WINDOWS)
def test_agreement_with_the_other_engine(name: str, form: Form) -> None:
    """Non-square images of 1 to 4 channels, batches of 1 to 5, and the window as large as the image."""
    window = WINDOWS[name]
    assert_agrees(window, form, 2, 3, 22, 27)
    assert_agrees(window, form, 1, 4, 24, 19)
    assert_agrees(window, form, 5, 1, window.size, window.size)
    assert_agrees(window, form, 2, 1, window.size + 1, window.size + 2)


@pytest.mark.usefixtures("narrow_panels")
@pytest.mark.parametrize("shape", [(1, 2, 23, 61), (7, 3, 20, 19), (3, 1, 20, 35)])
@pytest.mark.parametrize("name", WINDOWS)
def test_agreement_does_not_depend_on_how_images_are_cut(name: str, shape: tuple[int, ...]) -> None:
    assert_agrees(WINDOWS[name], "product", *shape)


def test_a_large_image() -> None:
    """Wide enough for several column ranges, high enough that all rings turn many times."""
    assert_agrees(WINDOWS["gaussian 11"], "sum", 1, 1, 150, 1100)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["gaussian 11", "blocks", "even, stride 2"])
def test_float32_stays_within_its_budget(name: str, form: Form) -> None:
    """Values within 1e-6 and gradients within 1e-4 of float64, relative to the largest."""
    patch = request(WINDOWS[name], form)
    x, y = (z.requires_grad_() for z in images(2, 2, 30, 41, dtype=torch.float32))
    for reduction in ("squared_mean", "squared_map"):
        value = getattr(pairs, reduction)(x, y, patch)
        assert value.dtype == torch.float32
        expected = getattr(eager, reduction)(x.double(), y.double(), patch)
        torch.testing.assert_close(value.double(), expected, rtol=0, atol=1e-6)
        upstream = upstream_of(value)
        for gradient, reference in zip(
            gradients(value, upstream, x, y), gradients(expected, upstream.double(), x, y), strict=True
        ):
            assert gradient.dtype == torch.float32
            torch.testing.assert_close(gradient, reference, rtol=0, atol=1e-4 * float(reference.abs().max()))


LITTLE = 1e-3  # weight of a pixel between two others


@pytest.mark.parametrize(
    "window",
    [
        Window.uniform(7),
        Window.uniform((1, 15)),
        Window.uniform((31, 1)),
        Window.uniform(31),
        Window((0.5, LITTLE, 0.5 - LITTLE)),
        Window((LITTLE, LITTLE, LITTLE, 1 - 3 * LITTLE)),
    ],
    ids=str,
)
def test_a_pixel_that_stands_out_costs_no_digits(window: Window) -> None:
    """Wherever in the window it is, and however little weight it has there; nor does a row."""
    patch = request(window)
    x, y = (0.3 + 0.2 * z for z in images(4, 1, 44, 47, dtype=torch.float32))
    y[3, 0, ::16] += 3
    x[3, 0, 16] += 1.5
    for plane, far in enumerate((0.5, 3.0, 30.0)):
        y[plane, 0, ::13, ::11] += far
        x[plane, 0, 13, ::22] += far / 2
    x.requires_grad_(), y.requires_grad_()
    _, *found = value_and_gradients(x, y, patch)
    squares, exact = pairs.squared_map(x, y, patch), eager.squared_map(x.double(), y.double(), patch)
    torch.testing.assert_close(squares.double(), exact, rtol=0, atol=8e-7)
    for z, gradient in zip((x, y), found, strict=True):
        (right,) = torch.autograd.grad(exact.mean((2, 3)).sum(), z, retain_graph=True)
        scale = right.abs().amax((1, 2, 3), True)
        torch.testing.assert_close(gradient / scale, right / scale, rtol=0, atol=1e-4)
    alone = pairs.squared_map(x[1:2], y[1:2], patch)
    assert torch.equal(alone, squares[1:2])  # whatever stands out beside it


@pytest.mark.parametrize(
    "taps", [*(w.axes(1)[0].taps for w in WINDOWS.values()), (0.2, 1e-9, 0.3, 0.5 - 1e-9)], ids=len
)
@pytest.mark.parametrize("windows", [1, 2])
def test_centres_are_near_the_mean_of_any_image(taps: tuple[float, ...], windows: int) -> None:
    """Of weights q of sum 1 it is sqrt(sum of (q - w)^2 / w) standard deviations from it at most."""
    if windows == 2 and pair_kernels.at_once(AxisWindow(taps, 1)) == 1:
        return  # they have none in common, and are taken one by one
    centre = pair_kernels._centre(taps, windows)
    count = len(taps) + windows - 1
    in_windows = torch.stack(
        [torch.tensor([0.0] * w + [*taps] + [0.0] * (windows - 1 - w)).double() for w in range(windows)]
    )
    weights = torch.zeros(count, dtype=torch.float64)
    weights[centre.first : centre.end] = in_windows.sum(0)[centre.first : centre.end] * centre.share
    assert float(weights.sum()) == pytest.approx(1)
    for of_window in in_windows:
        inside = of_window > 0
        assert not weights[~inside].any()
        w = of_window[inside]
        assert float(((weights[inside] - w) ** 2 / w).sum()) < 5.5


def test_extreme_ranges() -> None:
    """Pixels of 16 bits, or of picometres: squares of squares of them would leave the range of float32."""
    x, y = images(1, 1, 16, 16, dtype=torch.float32)
    patch = request(WINDOWS["gaussian 11"])
    value, *expected = value_and_gradients(x, y, patch)
    for length in (1e12, 65535.0, 1e-12):
        scaled = request(WINDOWS["gaussian 11"], length=length)
        result, *found = value_and_gradients(x * length, y * length, scaled)
        torch.testing.assert_close(result, value, rtol=0, atol=1e-6)
        for gradient, reference in zip(found, expected, strict=True):
            torch.testing.assert_close(gradient * length, reference, rtol=0, atol=1e-4 * float(reference.abs().max()))


def value_and_gradients(x: Tensor, y: Tensor, patch: PatchDistance) -> tuple[Tensor, ...]:
    x, y = x.detach().requires_grad_(), y.detach().requires_grad_()
    value = pairs.squared_mean(x, y, patch)
    return value.detach(), *gradients(value, torch.ones_like(value), x, y)


# --- exactness --------------------------------------------------------------------------------------------------


def test_results_depend_on_nothing_but_the_pair() -> None:
    """Bit for bit the same alone, in a batch of any order, on one thread or several, and with x and y exchanged."""
    patch = request(WINDOWS["gaussian 11"])
    x, y = images(40, 1, 31, 33, dtype=torch.float32)
    value, g_x, g_y = value_and_gradients(x, y, patch)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    for result, reference in zip(value_and_gradients(x[order], y[order], patch), (value, g_x, g_y), strict=True):
        assert torch.equal(result, reference[order])
    for result, reference in zip(value_and_gradients(x[3:4], y[3:4], patch), (value, g_x, g_y), strict=True):
        assert torch.equal(result, reference[3:4])
    for result, reference in zip(value_and_gradients(y, x, patch), (value, g_y, g_x), strict=True):
        assert torch.equal(result, reference)
    assert torch.equal(pairs.squared_mean(x, y, patch), value)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            for result, reference in zip(value_and_gradients(x, y, patch), (value, g_x, g_y), strict=True):
                assert torch.equal(result, reference)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("name", ["gaussian 11", "one pixel", "even, stride 2"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_a_number_stays_where_it_is(name: str, bad: float) -> None:
    """It spoils the windows that cover it and the pixels of these windows, as in the other engine, and no others."""
    x, y = images(5, 1, 26, 24)
    x[2, 0, 13, 11] = bad
    patch = request(WINDOWS[name])
    x, y = x.requires_grad_(), y.requires_grad_()
    found, expected = pairs.squared_map(x, y, patch), eager.squared_map(x, y, patch)
    assert torch.equal(found.isnan(), expected.isnan())
    assert found.isnan().any()
    upstream = torch.ones_like(found)
    for gradient, reference in zip(gradients(found, upstream, x, y), gradients(expected, upstream, x, y), strict=True):
        assert not gradient[reference.isfinite()].isnan().any()
        torch.testing.assert_close(gradient[reference.isfinite()], reference[reference.isfinite()])


def test_inputs_are_left_unchanged_in_any_memory_layout() -> None:
    """Transposed, strided, broadcast and channels-last images, whose gradients are those of plain copies."""
    patch = request(WINDOWS["gaussian 11"])
    x, y = images(6, 4, 25, 24)
    layouts = {
        "transposed": (x.transpose(2, 3), y.transpose(2, 3)),
        "every second": (x[::2, 1::2, 1:, ::2], y[::2, 1::2, 1:, ::2]),
        "one against many": (x[:1].expand(6, -1, -1, -1), y),
        "channels last": tuple(z.to(memory_format=torch.channels_last) for z in (x, y)),
    }
    for pair in layouts.values():
        before = [z.clone() for z in pair]
        found = value_and_gradients(*pair, patch)
        for z, copy in zip(pair, before, strict=True):
            assert torch.equal(z, copy)
        for result, reference in zip(found, value_and_gradients(*(z.contiguous() for z in before), patch), strict=True):
            assert torch.equal(result, reference)


def test_a_gradient_is_handed_over_once_and_computed_anew_after_that() -> None:
    """A graph that is kept gives the same gradient again, though the first one has since been changed."""
    x, y = (z.requires_grad_() for z in images(2, 1, 16, 17))
    value = pairs.squared_mean(x, y, request(WINDOWS["gaussian 11"]))
    first = torch.autograd.grad(value.sum(), (x, y), retain_graph=True)
    copies = [g.clone() for g in first]
    for g in first:
        g.zero_()
    for again, copy in zip(torch.autograd.grad(2 * value.sum(), (x, y)), copies, strict=True):
        torch.testing.assert_close(again, 2 * copy, rtol=1e-14, atol=0)


# --- threads and processes --------------------------------------------------------------------------------------


def test_many_threads_at_once() -> None:
    """Callers in 8 threads, on images large enough for the pool, get what a single caller gets."""
    batches = [images(3, 2, 128, 120, dtype=torch.float32, seed=seed) for seed in range(16)]
    patch = request(WINDOWS["gaussian 11"])
    expected = [value_and_gradients(*batch, patch) for batch in batches]
    with ThreadPoolExecutor(8) as callers:
        found = list(callers.map(lambda batch: value_and_gradients(*batch, patch), batches))
    for result, reference in itertools.chain(*(zip(f, e, strict=True) for f, e in zip(found, expected, strict=True))):
        assert torch.equal(result, reference)


class Similarities(Dataset[Tensor]):
    """SSIM of pairs of images, computed where an item is asked for."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Tensor:
        torch.set_num_threads(2)  # a worker has one by default; here it needs a pool of its own
        return ssim(self.x[index : index + 1], self.y[index : index + 1], data_range=1.0)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("kind", ["threads of PyTorch", "pool"])
def test_in_processes_forked_after_the_threads_have_started(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """DataLoader workers have none of the parent's threads, and must not wait for them."""
    if kind == "pool":
        monkeypatch.setattr(workers, "_parallel", None)
    threads = torch.get_num_threads()
    items = Similarities(*images(6, 2, 256, 256, dtype=torch.float32))  # two planes, for two threads
    try:
        expected = torch.stack([items[index] for index in range(6)])
        assert kind != "pool" or workers._pool is not None
        loader = DataLoader(
            items, batch_size=3, num_workers=2, timeout=60,
            multiprocessing_context=multiprocessing.get_context("fork"),
        )  # fmt: skip
        assert torch.equal(torch.cat(list(loader)), expected)
    finally:
        torch.set_num_threads(threads)


def test_numba_waits_until_it_is_needed() -> None:
    """`import ssimgen` must not take much longer than `import torch`."""
    code = "import sys, ssimgen; sys.exit('numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_public_functions_use_these_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    for reduction in ("squared_mean", "squared_map"):
        monkeypatch.setattr(eager, reduction, None)
    x, y = images(2, 1, 16, 16)
    patch = request(WINDOWS["gaussian 11"])
    assert engine.squared_mean(x, y, patch).shape == (2, 1)
    assert engine.squared_map(x, y, patch).shape == (2, 1, 6, 6)


@pytest.mark.parametrize(("seed", "offset"), [(4, 1e4), (13, 1e3), (17, 1e7)])
def test_planes_computed_anew_have_the_same_bits_with_a_gradient_to_the_second_image(seed: int, offset: float) -> None:
    """Also where the first lies otherwise in memory, whose order that of sums follows."""
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.rand(2, 2, 1, 9, 13, generator=generator, dtype=torch.float64) + offset
    patch = PatchDistance(Window.uniform(5), "centred", 1e-4, 1e-6, 0.0)
    x = x.mT.contiguous().mT
    assert torch.equal(pairs.squared_mean(x, y, patch), pairs.squared_mean(x, y.clone().requires_grad_(), patch))
