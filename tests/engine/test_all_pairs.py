"""d^2 of all pairs in both engines, against the definition and against each other.

Compiling takes seconds a window, form and dtype, so that most tests share one window.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from oracles import ssim as oracle
from ssimgen import Window, distance, engine, pairwise
from ssimgen._request import FORMS
from ssimgen.engine import PatchDistance, eager_all_pairs
from ssimgen.engine.fused import all_pairs
from ssimgen.similarity import root

SMALL = Window.gaussian(5, 1.0)
K1, K2 = 0.01, 0.03
ENGINES = [eager_all_pairs.squared_all_pairs, all_pairs.squared_all_pairs]
Engine = Callable[..., Tensor]

WINDOWS = [
    (SMALL, (1, 13, 12)),
    (Window.uniform(4, stride=4, unbiased=True), (3, 17, 16)),
    (Window.gaussian(6, 1.5, stride=2), (2, 11, 15)),
    (Window.uniform(3, stride=5), (1, 14, 8)),
]
CASES = [("sum", WINDOWS[1]), ("product", WINDOWS[2]), ("uncentred", WINDOWS[3]), *((f, WINDOWS[0]) for f in FORMS)]


def patch_distance(window: Window = SMALL, form: str = "sum", lo: float = 0.0, length: float = 1.0) -> PatchDistance:
    return PatchDistance(window, form, (K1 * length) ** 2, (K2 * length) ** 2, lo)  # type: ignore[arg-type]


def images(n: int, *shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Smooth and rough images in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    rough = torch.rand(n, *(shape or (1, 13, 12)), generator=generator, dtype=torch.float64)
    smooth = torch.nn.functional.avg_pool2d(rough, 3, 1, 1, count_include_pad=False)
    return torch.where(torch.arange(n)[:, None, None, None] % 2 == 0, rough, smooth).to(dtype)


def gradients(run: Engine, x: Tensor, y: Tensor | None, upstream: Tensor, patch: PatchDistance) -> list[Tensor]:
    leaves = [z.detach().clone().requires_grad_() for z in (x, y) if z is not None]
    square = run(*leaves, *([None] if y is None else []), patch)
    return list(torch.autograd.grad(square, leaves, upstream))


def relative(a: Tensor, b: Tensor | np.ndarray) -> float:
    b = torch.as_tensor(b)
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("run", ENGINES, ids=["eager", "fused"])
@pytest.mark.parametrize(("form", "case"), CASES, ids=lambda c: c if isinstance(c, str) else f"{c[0].size}-{c[1]}")
def test_values_and_gradients_are_those_of_the_definition(
    run: Engine, form: str, case: tuple[Window, tuple[int, ...]]
) -> None:
    window, shape = case
    x, y, upstream = images(2, *shape), images(3, *shape, seed=1), images(1, 1, 2, 3, seed=2)[0, 0]
    options = {"form": form, "norm": "rms", "squared": True, "data_range": (-0.5, 1.5), "window": window}
    patch = patch_distance(window, form, lo=-0.5, length=2.0)
    expected = oracle.pairwise_distance(x.numpy(), y.numpy(), **options)
    np.testing.assert_allclose(run(x, y, patch).numpy(), expected, rtol=0, atol=1e-14)
    slopes = oracle.pairwise_distance_gradients(x.numpy(), y.numpy(), upstream.numpy(), **options)
    for found, slope in zip(gradients(run, x, y, upstream, patch), slopes, strict=True):
        assert relative(found, slope) < 1e-13


@pytest.mark.parametrize("n", [1, 7, 8, 9, 17])
@pytest.mark.parametrize("m", [1, 8, 15])
def test_any_number_of_images_fills_the_lanes(n: int, m: int) -> None:
    x, y, upstream, patch = images(n), images(m, seed=1), images(1, 1, n, m, seed=2)[0, 0], patch_distance()
    eager, fused = ENGINES
    torch.testing.assert_close(fused(x, y, patch), eager(x, y, patch), rtol=0, atol=1e-14)
    for a, b in zip(*(gradients(run, x, y, upstream, patch) for run in (fused, eager)), strict=True):
        assert relative(a, b) < 1e-13


@pytest.mark.parametrize("n", [1, 15, 16, 17, 33])
def test_a_set_against_itself(n: int) -> None:
    x, upstream, patch = images(n, dtype=torch.float32), images(1, 1, n, n, seed=2)[0, 0].float(), patch_distance()
    for run, tolerance in zip(ENGINES, (2e-6, 2e-6), strict=True):
        itself = run(x, None, patch)
        assert (itself == itself.T).all()
        assert (itself.diagonal() == 0).all()
        exact = run(x.double(), x.double().clone(), patch).fill_diagonal_(0)
        torch.testing.assert_close(itself.double(), exact, rtol=0, atol=tolerance)
        of_one = torch.tensor([0.0]) if n == 1 else None
        (found,) = gradients(run, x, None, upstream, patch)
        a, b = gradients(run, x.double(), x.double().clone(), upstream.double().fill_diagonal_(0), patch)
        assert (found == 0).all() if of_one is not None else relative(found.double(), a + b) < 1e-5


def test_a_gradient_to_one_set_alone() -> None:
    x, y, upstream, patch = images(5), images(19, seed=1), images(1, 1, 5, 19, seed=2)[0, 0], patch_distance()
    both = gradients(all_pairs.squared_all_pairs, x, y, upstream, patch)
    to_x, to_y = x.clone().requires_grad_(), y.clone().requires_grad_()
    all_pairs.squared_all_pairs(to_x, y, patch).backward(upstream)
    all_pairs.squared_all_pairs(x, to_y, patch).backward(upstream)
    for found, expected in zip((to_x.grad, to_y.grad), both, strict=True):
        assert found is not None
        assert relative(found, expected) < 1e-13
    assert x.grad is None


def test_an_image_of_both_sets_gets_both_gradients() -> None:
    x, patch = images(4).requires_grad_(), patch_distance()
    upstream = images(1, 1, 4, 4, seed=2)[0, 0]
    (found,) = torch.autograd.grad(all_pairs.squared_all_pairs(x, x, patch), x, upstream)
    assert relative(found, sum(gradients(all_pairs.squared_all_pairs, x, x, upstream, patch))) < 1e-13


def test_second_derivatives() -> None:
    x, y = images(2).requires_grad_(), images(3, seed=1).requires_grad_()
    patch = patch_distance()
    for run in ENGINES:
        assert torch.autograd.gradcheck(lambda x, y, r=run: r(x, y, patch), (x, y), fast_mode=True)
        assert torch.autograd.gradgradcheck(lambda x, y, r=run: r(x, y, patch), (x, y), fast_mode=True)
        assert torch.autograd.gradgradcheck(lambda y, r=run: r(y, None, patch), (y,), fast_mode=True)


def test_second_derivatives_at_equal_images() -> None:
    """Rounding must not hide the curvature that D^2 has where it is least."""
    x = images(1).requires_grad_()
    for run in ENGINES:
        assert torch.autograd.gradgradcheck(lambda x, r=run: r(x, images(1), patch_distance()), (x,), fast_mode=True)


@pytest.mark.parametrize("form", FORMS)
def test_copies_of_an_image_are_at_distance_zero_with_gradient_zero(form: str) -> None:
    """The root of a rounding error would have a slope, and be the greatest of all."""
    for dtype in (torch.float32, torch.float64):
        x = (273.15 + images(1)).to(dtype).expand(5, -1, -1, -1).clone().requires_grad_()
        for run in ENGINES:
            for y in (None, x.detach().clone(), x.detach().flip(0)[:3].clone()):
                d = root(run(x, y, patch_distance(SMALL, form, 273.15)))
                assert (d == 0).all()
                assert (torch.autograd.grad(d.sum(), x)[0] == 0).all()


@pytest.fixture(params=["pair by pair", "in float64"])
def _anew(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How pairs beyond float32 are computed anew: pair by pair, which is for few of them, and in float64."""
    if request.param == "in float64":
        monkeypatch.setattr(all_pairs, "_FEW_PAIRS", 0)


@pytest.mark.usefixtures("_anew")
def test_equal_images_are_at_distance_zero_and_nearly_equal_ones_close(digits: Tensor) -> None:
    x, patch = digits[:20, :, 7:20, 8:20].float(), patch_distance()
    noise = 1e-4 * torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
    assert (all_pairs.squared_all_pairs(x, x.clone(), patch).diagonal() == 0).all()
    near = (x + noise).double()
    exact = all_pairs.squared_all_pairs(x.double(), near.float().double(), patch).diagonal()
    found = all_pairs.squared_all_pairs(x, near.float(), patch).diagonal()
    assert exact.max() < 1e-4
    torch.testing.assert_close(found.double().sqrt(), exact.sqrt(), rtol=1e-4, atol=0)


@pytest.mark.usefixtures("_anew")
def test_accuracy_in_float32(digits: Tensor) -> None:
    """On digits, and on bright, flat and black images, SSIM is within 1e-6, its gradient within 1e-4."""
    flat = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)[:, None, None, None].expand(3, 1, 28, 28)
    bright = 0.9 + 1e-3 * torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = torch.cat([digits[:40], (digits[40:60] > 0.5).double(), flat, bright]).float()
    upstream, patch = images(1, 1, len(x), len(x), seed=2)[0, 0], patch_distance(Window.gaussian(11, 1.5), "product")
    for other in (None, x.flip(0)):
        exact = all_pairs.squared_all_pairs(x.double(), None if other is None else other.double(), patch)
        found = all_pairs.squared_all_pairs(x, other, patch)
        assert found.dtype == torch.float32
        assert (found.double() - exact).abs().max() < 1e-6
        assert (found >= 0).all()
        wide = gradients(
            all_pairs.squared_all_pairs, x.double(), None if other is None else other.double(), upstream, patch
        )
        for a, b in zip(gradients(all_pairs.squared_all_pairs, x, other, upstream.float(), patch), wide, strict=True):
            assert relative(a.double(), b) < 1e-4


def test_flat_parts_far_apart_cost_no_digits() -> None:
    """Half of each image dark, half bright, both nearly flat: no one shift makes the pixels of both small, and a
    difference of their squares would lose what c2 = 1e-4 shows."""
    patch = PatchDistance(SMALL, "centred", 1e-4, 1e-4, 0.0)
    x, y = (torch.rand(24, 1, 13, 12, generator=torch.Generator().manual_seed(seed)) * 0.015 for seed in (0, 1))
    for z in (x, y):
        z[..., 6:] += 1
    found = all_pairs.squared_all_pairs(x, y, patch).double()
    expected = eager_all_pairs.squared_all_pairs(x.double(), y.double(), patch)
    assert float((found - expected).abs().max()) < 1e-6


def test_units_do_not_matter() -> None:
    x, y = images(3, dtype=torch.float32), images(4, seed=1, dtype=torch.float32)
    expected = all_pairs.squared_all_pairs(x, y, patch_distance())
    for scale in (1e-12, 255.0, 1e12):
        found = all_pairs.squared_all_pairs(scale * x, scale * y, patch_distance(length=scale))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


def test_nan_stays_with_its_image() -> None:
    x, y = images(3, dtype=torch.float32), images(20, seed=1, dtype=torch.float32)
    expected = all_pairs.squared_all_pairs(x, y, patch_distance())
    x[1, 0, 6, 6] = torch.nan
    y[17, 0, 6, 6] = torch.nan
    found = all_pairs.squared_all_pairs(x, y, patch_distance())
    bad = torch.zeros_like(found, dtype=torch.bool)
    bad[1], bad[:, 17] = True, True
    assert (found.isnan() == bad).all()
    assert (found[~bad] == expected[~bad]).all()


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("run", ENGINES, ids=["eager", "fused"])
def test_what_no_window_covers_is_not_seen(run: Engine) -> None:
    """Windows of 3 pixels, 5 apart: rows 3, 4, 8, 9 and 13, and columns 3 and 4, are in none, NaN or not."""
    window, shape = WINDOWS[3]
    patch, (x, y) = patch_distance(window), (images(n, *shape, seed=n) for n in (2, 3))
    hidden = x.index_fill(2, torch.tensor([3, 8, 13]), torch.nan).index_fill(3, torch.tensor([4]), torch.inf)
    upstream = images(1, 1, 2, 3)[0, 0]
    assert torch.equal(run(hidden, y, patch), run(x, y, patch))
    for found, right in zip(
        gradients(run, hidden, y, upstream, patch), gradients(run, x, y, upstream, patch), strict=True
    ):
        assert torch.equal(found, right)
        assert not found[..., [3, 4, 8, 9, 13], :].any()
        assert not found[..., [3, 4]].any()


def test_threads_do_not_change_the_numbers(threads: None) -> None:
    x, y, upstream, patch = images(40), images(70, seed=1), images(1, 1, 40, 70, seed=2)[0, 0], patch_distance()
    results = []
    for count in (1, 4):
        torch.set_num_threads(count)
        values = all_pairs.squared_all_pairs(x, y, patch)
        results.append((values, *gradients(all_pairs.squared_all_pairs, x, y, upstream, patch)))
    (one, *one_gradients), (four, *four_gradients) = results
    assert (one == four).all()
    for a, b in zip(one_gradients, four_gradients, strict=True):
        assert relative(a, b) < 1e-14


def test_callers_in_several_threads() -> None:
    x, patch = images(30), patch_distance()
    expected, found = all_pairs.squared_all_pairs(x, None, patch), [torch.empty(0)] * 4

    def call(place: int) -> None:
        found[place] = all_pairs.squared_all_pairs(x, None, patch)

    callers = [threading.Thread(target=call, args=(i,)) for i in range(len(found))]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert all((square == expected).all() for square in found)


def test_little_memory_means_panels_and_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are cut across, and sets into chunks, without a trace in the results."""
    x, y, patch = images(21, 2, 40, 12), images(19, 2, 40, 12, seed=1), patch_distance()
    upstream = images(1, 1, 21, 19, seed=2)[0, 0]
    expected = all_pairs.squared_all_pairs(x, y, patch), all_pairs.squared_all_pairs(x, None, patch)
    slopes = gradients(all_pairs.squared_all_pairs, x, y, upstream, patch)
    itself = gradients(all_pairs.squared_all_pairs, x, None, upstream @ upstream.T, patch)
    monkeypatch.setattr(all_pairs, "_MEMORY", 2**18 * torch.get_num_threads())
    pairs = all_pairs._AllPairs(x, y, patch, False, (19, 1))
    assert len(pairs.panels) > 2
    assert max(pairs.lanes, 1) < len(x)
    found = all_pairs.squared_all_pairs(x, y, patch), all_pairs.squared_all_pairs(x, None, patch)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-14)
    for a, b in zip(gradients(all_pairs.squared_all_pairs, x, y, upstream, patch), slopes, strict=True):
        assert relative(a, b) < 1e-13
    for a, b in zip(gradients(all_pairs.squared_all_pairs, x, None, upstream @ upstream.T, patch), itself, strict=True):
        assert relative(a, b) < 1e-13


def test_blocks_of_the_eager_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, patch = images(7), images(5, seed=1), patch_distance()
    upstream = images(1, 1, 7, 5, seed=2)[0, 0]
    run = eager_all_pairs.squared_all_pairs
    expected = run(x, y, patch), run(x, None, patch)
    slopes = gradients(run, x, y, upstream, patch)
    monkeypatch.setattr(eager_all_pairs, "BLOCK", 50)  # two images, one row of positions
    for found, value in zip((run(x, y, patch), run(x, None, patch)), expected, strict=True):
        torch.testing.assert_close(found, value, rtol=0, atol=1e-14)
    assert (run(x, None, patch) == run(x, None, patch).T).all()
    for a, b in zip(gradients(run, x, y, upstream, patch), slopes, strict=True):
        assert relative(a, b) < 1e-13


@pytest.mark.parametrize("run", ENGINES, ids=["eager", "fused"])
@pytest.mark.parametrize(("n", "m"), [(20, 50), (50, 20), (40, None)])
def test_progress_reaches_the_end(run: Engine, n: int, m: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eager_all_pairs, "IMAGES", 16)
    shares: list[float] = []
    run(images(n), None if m is None else images(m), patch_distance(), shares.append)
    assert len(shares) > 2
    assert sum(shares) == pytest.approx(1)


def test_layouts_of_memory() -> None:
    x, y, patch = images(4, 2, 13, 12), images(6, 2, 13, 12, seed=1), patch_distance()
    expected = all_pairs.squared_all_pairs(x, y, patch)
    upstream = torch.ones(())
    for changed in (x.contiguous(memory_format=torch.channels_last), x.flip(0).flip(0), torch.cat([x, x], 3)[..., :12]):
        torch.testing.assert_close(all_pairs.squared_all_pairs(changed, y, patch), expected, rtol=0, atol=0)
    leaf = x[:1].clone().requires_grad_()
    all_pairs.squared_all_pairs(leaf.expand(4, -1, -1, -1), y, patch).sum().backward(upstream)
    assert leaf.grad is not None
    (slope, _) = gradients(all_pairs.squared_all_pairs, x[:1], y, torch.ones(1, 6, dtype=x.dtype), patch)
    assert relative(leaf.grad, 4 * slope) < 1e-13


def test_the_backward_pass_may_run_twice() -> None:
    x, patch = images(4).requires_grad_(), patch_distance()
    square = all_pairs.squared_all_pairs(x, None, patch)
    first, second = (torch.autograd.grad(square.sum(), x, retain_graph=True)[0] for _ in range(2))
    assert (first == second).all()


def test_who_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled kernels for plain CPU tensors, unless patches are few, large and apart."""
    chosen: list[str] = []
    for name, module in (("eager", eager_all_pairs), ("fused", all_pairs)):

        def record(x: Tensor, y: Tensor | None, *_: object, name: str = name) -> Tensor:
            chosen.append(name)
            return torch.ones(len(x), len(x if y is None else y))

        monkeypatch.setattr(module, "squared_all_pairs", record)
    digits, photos = torch.rand(3, 1, 28, 28), torch.rand(3, 3, 64, 64)
    for image, window in (
        (digits, Window.gaussian(11)),
        (digits, Window.uniform(8, stride=4)),
        (digits, Window.uniform(7, stride=7)),
        (digits, Window.uniform(28)),
        (photos, Window.uniform(32, stride=32)),
        (photos.bfloat16().requires_grad_(), Window.gaussian(11)),
    ):
        engine.squared_all_pairs(image, None, patch_distance(window))
    torch.func.vmap(lambda x: engine.squared_all_pairs(x, None, patch_distance()))(digits[None])
    assert chosen == ["fused", "fused", "fused", "eager", "eager", "eager", "eager"]


@pytest.mark.usefixtures("_anew")
def test_compiled_kernels_take_over_where_images_are_nearly_equal() -> None:
    """A difference of matrix products is then the rounding error of its terms."""
    x = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    x[1] = x[0] + 1e-6 * torch.randn(1, 28, 28, generator=torch.Generator().manual_seed(1))
    x.requires_grad_()
    window = Window.uniform(28)
    gradients = []
    for images in (x, x.detach().double().requires_grad_()):
        pair = distance(images[:1], images[1:], data_range=1.0, window=window)
        matrix = pairwise.distance(images, data_range=1.0, window=window)
        gradients.append(torch.autograd.grad(matrix[0, 1], images)[0].double())
        assert abs(matrix[0, 1] - pair[0]) <= 1e-4 * pair[0]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=1e-4 * gradients[1].abs().max().item())


@pytest.mark.parametrize("itself", [False, True])
def test_a_few_nearly_equal_images_cost_their_pairs_alone(itself: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """And are as exact as where whole images are compared anew, which many are."""
    generator = torch.Generator().manual_seed(0)
    x, y, noise = torch.rand(3, 40, 1, 12, 12, generator=generator)
    y[5], y[9], y[11] = x[7], x[7] + 1e-4 * noise[0], x[3]
    sets = (torch.cat([x, y]), None) if itself else (x, y)
    wide = [None if z is None else z.double() for z in sets]
    options: dict[str, Any] = {"data_range": 1.0, "window": Window.gaussian(5, 1.0), "squared": True}
    exact = pairwise.distance(*wide, **options)
    counts: list[int] = []
    one_by_one = all_pairs._one_by_one
    monkeypatch.setattr(all_pairs, "_one_by_one", lambda *a: (counts.append(len(a[2])), one_by_one(*a))[1])
    for few_of, expected in ((16, [4 if itself else 3]), (10**6, [])):
        monkeypatch.setattr(all_pairs, "_FEW_OF", few_of)
        counts.clear()
        square = pairwise.distance(*sets, **options)
        assert counts == expected
        torch.testing.assert_close(square.double(), exact, rtol=0, atol=1e-6)
        near = (exact > 0) & (exact < 1e-3)
        assert near.any()
        torch.testing.assert_close(square[near].double(), exact[near], rtol=1e-5, atol=0)
        assert torch.equal(square[exact == 0], torch.zeros(int((exact == 0).sum())))


MEMORY_SCRIPT = """
import torch
from ssimgen import Window, pairwise
from ssimgen.engine.fused import all_pairs

def status(name):
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(lines[name].split()[0]) * 1024

def peak_of(call):
    before = status("VmRSS")
    open("/proc/self/clear_refs", "w").write("5")  # the peak starts anew
    kept = call()
    return status("VmHWM") - before - sum(z.numel() * z.element_size() for z in kept)

def step(n):
    x = torch.rand(n, 1, 12, 12, requires_grad=True)
    y = torch.rand(n + 1, 1, 12, 12, requires_grad=True)

    def distances():
        square = pairwise.distance(x, y, data_range=1.0, squared=True, window=Window.gaussian(5, 1.0))
        upstream = torch.ones_like(square)
        square.backward(upstream)
        return square, upstream, x, y, x.grad, y.grad

    return peak_of(distances)

square, errors = torch.ones(6000, 6000), torch.zeros(6000, dtype=torch.float64)
judging = peak_of(lambda: [all_pairs.near_others(square, False, errors, errors)])
step(20)  # compiles
print(max(judging, step(1000), step(500)))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of memory is read from Linux")
def test_memory_does_not_grow_with_the_number_of_pairs() -> None:
    """Beyond images, matrix and their gradients: 64 MiB, where the maps of d^2 would take 256 MB."""
    usual = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    run = subprocess.run(
        [sys.executable, "-c", MEMORY_SCRIPT],
        capture_output=True,
        text=True,
        env={**usual, "OMP_NUM_THREADS": "2"},
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 64 * 2**20
