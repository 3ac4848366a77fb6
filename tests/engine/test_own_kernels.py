"""Kernels that are compiled for one window only: they give what the kernels for all windows give, to the last bit."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import ssimgen
from ssimgen import Window, distance, pairwise, ssim_map
from ssimgen.engine.fused import compilation
from ssimgen.engine.spec import Form

Function = Callable[..., Tensor]


@pytest.fixture
def own_from_the_start(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Says whether every window has a kernel of its own at once, or none has."""

    def choose(own: bool) -> None:
        monkeypatch.setattr(compilation, "MUCH_WORK", 0 if own else 10**18)
        monkeypatch.setattr(compilation, "_is_on_disk", lambda kernel: False)

    return choose


def images(number: int, *shape: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(shape, generator=generator, dtype=dtype).requires_grad_() for _ in range(number)]


def bits(value: Tensor, *of: Tensor) -> list[Tensor]:
    """The value and its gradients, with an upstream gradient that is not the same everywhere."""
    upstream = torch.linspace(-1, 2, value.numel(), dtype=value.dtype).view_as(value)
    return [value.detach(), *torch.autograd.grad(value, of, upstream)]


def of_pairs(window: Window, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    x, y = images(2, *shape, dtype=dtype)
    mean = distance(x, y, data_range=1.0, window=window, squared=True)
    return [*bits(mean, x, y), *bits(ssim_map(x, y, data_range=1.0, window=window), x)]


def of_all_pairs(window: Window, form: Form, dtype: torch.dtype) -> list[Tensor]:
    """Gradients to one set alone are a kernel of their own, of which one dtype is enough."""
    *x, y = images(3, 3, 2, 19, 23, dtype=dtype)
    first = torch.cat(x)

    def squares(x: Tensor, y: Tensor | None = None) -> Tensor:
        return pairwise.distance(x, y, data_range=1.0, window=window, form=form, squared=True)

    to_one = bits(squares(first.detach(), y), y) if dtype == torch.float32 else []
    return [*bits(squares(first, y), *x, y), *to_one, *bits(squares(first), *x)]


def compare(compute: Callable[[], list[Tensor]], choose: Callable[[bool], None]) -> None:
    found = []
    for own in (False, True):
        choose(own)
        found.append(compute())
    for number, (of_all_windows, of_one) in enumerate(zip(*found, strict=True)):
        assert torch.equal(of_all_windows, of_one), number
        assert of_one.any(), number


@pytest.mark.parametrize(
    ("window", "dtype"),
    [
        (Window.gaussian((6, 5), (1.5, 1.0)), torch.float32),
        (Window.uniform((2, 3), stride=(3, 1)), torch.float64),
        (Window.uniform(4, stride=2), torch.float32),
    ],
    ids=["dense", "one stride", "strides"],
)
def test_pairs_of_planes(window: Window, dtype: torch.dtype, own_from_the_start: Callable[[bool], None]) -> None:
    compare(lambda: of_pairs(window, (2, 3, 21, 37), dtype), own_from_the_start)


def test_pairs_of_volumes(own_from_the_start: Callable[[bool], None]) -> None:
    """Dense ones: planes say that strides are known as well as sizes."""
    compare(lambda: of_pairs(Window.gaussian((4, 3, 5), (1.0, 1.0, 1.0)), (1, 2, 9, 11, 20)), own_from_the_start)


@pytest.mark.parametrize(
    ("window", "form", "dtype"),
    [(Window.gaussian(5), "product", torch.float32), (Window.uniform(3, stride=4), "centred", torch.float64)],
    ids=["product", "centred"],
)
def test_all_pairs(window: Window, form: Form, dtype: torch.dtype, own_from_the_start: Callable[[bool], None]) -> None:
    compare(lambda: of_all_pairs(window, form, dtype), own_from_the_start)


def toy(known: tuple[int, ...] | None, option: str = "") -> Callable[..., Any]:
    """What stands for a kernel: it says what it was made for and what it is called with."""
    return lambda geometry, *rest: (known, option, geometry, rest)


SHARED, OWN = (None, "", (5, 1), (7,)), ((5, 1), "", (5, 1), (7,))


def test_a_window_has_its_own_when_it_has_had_much_to_do() -> None:
    kernels = compilation.Kernels(toy)
    half = compilation.MUCH_WORK // 2
    assert kernels.fit((5, 1), half - 1)(7) == SHARED
    assert kernels.fit((5, 2), half)(7)[0] is None
    assert kernels.fit((5, 1), half, "sum")(7)[0] is None
    assert kernels.fit((5, 1), half)(7) == SHARED
    assert kernels.fit((5, 1), 1)(7) == OWN
    assert kernels.fit((5, 1), half, "sum")(7) == ((5, 1), "sum", (5, 1), (7,))


def test_the_usual_window_has_its_own_from_the_start() -> None:
    assert compilation.Kernels(toy, (5, 1)).fit((5, 1), 0)(7) == OWN


def test_a_window_has_its_own_after_a_warmup_of_this_call() -> None:
    kernels = compilation.Kernels(toy)
    with ssimgen.warmup():
        assert kernels.fit((5, 1), 0)(7) == OWN
    assert kernels.fit((5, 1), 0)(7) == OWN
    assert kernels.fit((5, 2), 0)(7)[0] is None
    assert kernels.fit((5, 1), 0, "sum")(7)[0] is None


def test_a_window_whose_code_is_on_disk_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "_is_on_disk", lambda kernel: kernel(None)[0] == (5, 1))
    kernels = compilation.Kernels(toy)
    assert kernels.fit((5, 1), 0)(7) == OWN
    assert kernels.fit((5, 2), 0)(7)[0] is None
