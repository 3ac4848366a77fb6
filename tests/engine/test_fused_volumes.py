"""The compiled kernels of volumes beside the PyTorch engine: windows of every step, parts, threads, what is not seen.

Values and gradients against the definition are in tests/test_axes.py.
"""

import pytest
import torch
from torch import Tensor

from ssimgen import Window
from ssimgen._request import FORMS
from ssimgen.engine import PatchDistance, eager
from ssimgen.engine.fused import pairs, volumes

WINDOWS = {
    "cube": (Window.gaussian(3, 1.0), (2, 2, 6, 7, 9)),
    "steps": (Window.uniform((2, 3, 4), (2, 1, 3), unbiased=True), (1, 2, 7, 8, 13)),
    "apart": (Window.gaussian(2, 1.0, 3), (1, 1, 9, 10, 11)),
    "lopsided": (Window(((0.2, 0.8), (0.1, 0.2, 0.7), (1.0,)), beta=1.7), (2, 1, 7, 5, 21)),
}
each_window = pytest.mark.parametrize(("window", "shape"), WINDOWS.values(), ids=WINDOWS)


def images(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.rand(2, *shape, generator=generator, dtype=torch.float64).to(dtype)
    return x.requires_grad_(), (0.5 * x + 0.5 * noise).detach().requires_grad_()


def request(window: Window, form: str = "product") -> PatchDistance:
    return PatchDistance(window, form, 1.4e-4, 9e-4, -0.2)  # type: ignore[arg-type]


def upstream_of(value: Tensor) -> Tensor:
    """Factors of both signs, none of them equal."""
    return torch.linspace(-1, 1.5, value.numel(), dtype=value.dtype).view(value.shape)


@each_window
@pytest.mark.parametrize("form", FORMS)
def test_agreement_with_the_other_engine(window: Window, shape: tuple[int, ...], form: str) -> None:
    """Means, maps, and the gradients of both to both volumes, and to one."""
    patch = request(window, form)
    x, y = images(shape)
    for reduction in ("squared_mean", "squared_map"):
        value, expected = (getattr(module, reduction)(x, y, patch) for module in (pairs, eager))
        torch.testing.assert_close(value, expected, rtol=1e-11, atol=1e-12)
        upstream = upstream_of(value)
        for wanted in ((x, y), (x,), (y,)):
            found, right = (torch.autograd.grad(z, wanted, upstream, retain_graph=True) for z in (value, expected))
            for a, b in zip(found, right, strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=1e-11 * float(b.abs().max()))


@pytest.mark.parametrize(("depth", "parts"), [(3, {1, 4, 5}), (4, {1, 3})])
def test_parts_and_threads_change_no_bit(depth: int, parts: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Volumes are cut along their depth for more threads; sums and gradients are those of the whole, where an even
    number of windows before a part reach its pixels and where an odd one does."""
    patch = request(Window.gaussian((depth, 3, 3), 1.0))
    x, y = images((1, 1, 31 + depth - 1, 6, 9))
    ran = []
    run = volumes.workers.run
    monkeypatch.setattr(volumes.workers, "run", lambda task, chunks: ran.append(chunks) or run(task, chunks))
    found = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            mean = pairs.squared_mean(x, y, patch)
            found.append((mean, pairs.squared_map(x, y, patch), *torch.autograd.grad(mean.sum(), (x, y))))
            assert torch.equal(mean, pairs.squared_mean(x.detach(), y.detach(), patch))
    finally:
        torch.set_num_threads(threads)
    assert set(ran) == parts
    assert all(torch.equal(a, b) for others in found[1:] for a, b in zip(found[0], others, strict=True))


def test_float32_stays_within_its_budget() -> None:
    """Values within 1e-6 and gradients within 1e-4 of float64, relative to the largest."""
    patch = request(Window.gaussian(3, 1.0))
    x, y = images((2, 1, 9, 10, 21), torch.float32)
    value, expected = pairs.squared_map(x, y, patch), eager.squared_map(x.double(), y.double(), patch)
    torch.testing.assert_close(value.double(), expected, rtol=0, atol=1e-6)
    upstream = upstream_of(value)
    for a, b in zip(
        torch.autograd.grad(value, (x, y), upstream),
        torch.autograd.grad(expected, (x, y), upstream.double()),
        strict=True,
    ):
        assert float((a - b).abs().max()) < 1e-5 * float(b.abs().max())


def test_what_no_window_covers_is_not_seen() -> None:
    window, shape = WINDOWS["apart"]
    x, y = images(shape)
    hidden = x.detach().clone()
    for axis in (2, 3, 4):
        hidden.index_fill_(axis, torch.tensor([2, 5]), torch.nan)
    hidden.requires_grad_()
    value, expected = (pairs.squared_mean(z, y, request(window)) for z in (hidden, x))
    assert torch.equal(value, expected)
    (found,), (right,) = (torch.autograd.grad(v.sum(), z) for v, z in ((value, hidden), (expected, x)))
    assert torch.equal(found, right)


def test_planes_beyond_the_number_format_are_computed_anew() -> None:
    """One volume of a batch with a pixel of 1e9, another of a NaN."""
    patch = request(Window.gaussian(3, 1.0))
    x, y = (z.detach() for z in images((3, 1, 6, 7, 9), torch.float32))
    x[1, 0, 3, 3, 3], x[2, 0, 3, 3, 3] = 1e9, torch.nan
    x.requires_grad_()
    value, expected = pairs.squared_mean(x, y, patch), eager.squared_mean(x.double(), y.double(), patch)
    assert value[2].isnan().all()
    torch.testing.assert_close(value[:2].double(), expected[:2], rtol=0, atol=1e-6)
    (found,), (right,) = (torch.autograd.grad(z[:2].sum(), x, retain_graph=True) for z in (value, expected))
    for a, b in zip(found[:2], right[:2], strict=True):
        assert float((a - b).abs().max()) < 1e-4 * float(b.abs().max())
