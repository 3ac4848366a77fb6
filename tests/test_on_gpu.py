"""The library on a GPU: numbers against those of the CPU, CUDA graphs, streams, TF32, memory. `make gpu` runs it.

`pytest -m gpu` takes what torch calls "cuda"; without one, these tests are not chosen. SSIMGEN_ENGINE says by which
engine, as ever; what belongs to the Triton kernels alone is chosen with "triton". To try this file without a GPU:
SSIMGEN_TEST_DEVICE=cpu, which leaves out graphs, streams and memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

import ssimgen
from ssimgen import Window, engine, ssim
from ssimgen._request import FORMS
from ssimgen.engine import eager
from ssimgen.engine.spec import Form, PatchDistance
from test_devices import FUNCTIONS, OF_PAIRS

DEVICE = os.environ.get("SSIMGEN_TEST_DEVICE", "cuda")
BY_KERNELS = os.environ.get("SSIMGEN_ENGINE") == "triton"
WINDOWS = {
    "gaussian 11": Window.gaussian(11),
    "uniform 7": Window.uniform(7, unbiased=True),
    "one row": Window.gaussian((1, 5), (1.0, 1.0)),
    "even": Window.gaussian((4, 8), (1.0, 2.0)),
}
SHAPES = [(64, 1, 28, 28), (3, 3, 65, 131), (1, 3, 270, 480)]
MIB = 2**20

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]
on_cuda = pytest.mark.skipif(DEVICE != "cuda", reason="of CUDA")
by_kernels = pytest.mark.skipif(not BY_KERNELS, reason="of the Triton kernels: SSIMGEN_ENGINE=triton")

Function = Callable[[Tensor, Tensor], Tensor]


def images(*shape: int, dtype: torch.dtype = torch.float32, device: str = DEVICE) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.rand(2, *shape, generator=generator)
    return x.to(device, dtype), (0.7 * x + 0.3 * noise).to(device, dtype)


def with_gradients(function: Function, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    x, y = x.detach().requires_grad_(), y.detach().requires_grad_()
    value = function(x, y)
    upstream = torch.linspace(1, 2, value.numel(), device=value.device, dtype=value.dtype).view(value.shape)
    gradients = torch.autograd.grad((value.nan_to_num() * upstream).sum(), (x, y), allow_unused=True)
    return value.detach(), *(g for g in gradients if g is not None)


def assert_near(found: tuple[Tensor, ...], expected: tuple[Tensor, ...], value: float, gradient: float) -> None:
    torch.testing.assert_close(
        found[0].cpu().double(), expected[0].cpu().double(), rtol=value, atol=value, equal_nan=True
    )
    for own, other in zip(found[1:], expected[1:], strict=True):
        own, other = own.cpu().double(), other.cpu().double()
        assert (own - other).norm() <= gradient * other.norm() + 1e-12


@pytest.fixture
def tf32() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


# --- numbers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_every_function_gives_what_it_gives_on_a_cpu(function: Function) -> None:
    pair = images(6, 2, 24, 25)
    expected = with_gradients(function, *(z.cpu() for z in pair))
    assert_near(with_gradients(function, *pair), expected, 1e-6, 1e-4)


@pytest.mark.usefixtures("tf32")
@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_settings_for_matrix_products_change_nothing(function: Function) -> None:
    pair = images(6, 2, 24, 25)
    found = with_gradients(function, *pair)
    torch.set_float32_matmul_precision("highest")
    assert_near(found, with_gradients(function, *pair), 1e-6, 1e-4)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("form", FORMS)
def test_means_of_pairs_are_those_of_the_definition(form: Form, window: Window, shape: tuple[int, ...]) -> None:
    patch = PatchDistance(window, form, 1e-4, 9e-4, 0.0)
    x, y = images(*shape)
    expected = with_gradients(lambda x, y: eager.squared_mean(x, y, patch), x.cpu().double(), y.cpu().double())
    assert_near(with_gradients(lambda x, y: engine.squared_mean(x, y, patch), x, y), expected, 1e-6, 1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_as_it_is(dtype: torch.dtype) -> None:
    x, y = images(4, 3, 64, 66, dtype=dtype)
    expected = with_gradients(lambda x, y: ssim(x, y, data_range=1.0), x.cpu().double(), y.cpu().double())
    found = with_gradients(lambda x, y: ssim(x, y, data_range=1.0), x, y)
    assert [z.dtype for z in found] == [torch.float32, dtype, dtype]
    assert_near(found, expected, 1e-6, 4 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("function", OF_PAIRS.values(), ids=OF_PAIRS)
def test_results_have_the_same_bits_each_time(function: Function) -> None:
    pair = images(6, 2, 64, 65)
    first, second = (with_gradients(function, *pair) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.nan_to_num(), b.nan_to_num())


# --- graphs, streams, memory --------------------------------------------------------------------------------------


@on_cuda
@pytest.mark.parametrize("function", OF_PAIRS.values(), ids=OF_PAIRS)
def test_a_cuda_graph_is_captured_and_replayed(function: Function) -> None:
    x, y = (z.requires_grad_() for z in images(6, 2, 24, 25))
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            torch.autograd.grad(function(x, y).nan_to_num().sum(), (x, y))
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        gradients = torch.autograd.grad(function(x, y).nan_to_num().sum(), (x, y))
    with torch.no_grad():
        x.copy_(x.flip(0) * 0.5)
    graph.replay()
    expected = torch.autograd.grad(function(x, y).nan_to_num().sum(), (x, y))
    for own, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(own, other)


@on_cuda
def test_work_is_put_on_the_current_stream() -> None:
    """What the stream has to do before changes the images; a kernel on another stream would not wait for it."""
    x, y = images(8, 3, 256, 256)
    expected = ssim(x * 0.5, y, data_range=1.0)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        x.mul_(0.5)
        found = ssim(x, y, data_range=1.0)
    stream.synchronize()
    assert torch.equal(found, expected)


@on_cuda
@by_kernels
def test_memory_is_that_of_three_images_more() -> None:
    x, y = images(8, 3, 256, 256)
    x.requires_grad_()
    ssim(x, y, data_range=1.0).sum().backward()
    x.grad = None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    ssim(x, y, data_range=1.0).sum().backward()
    assert torch.cuda.max_memory_allocated() - before <= 4 * x.nbytes + MIB  # the gradient, which is asked for, too


@by_kernels
def test_the_kernels_do_run() -> None:
    from ssimgen.engine.triton import pairs

    x, y = images(2, 1, 24, 24)
    assert engine._triton_can(x, y, Window.gaussian(11))
    pairs.squared_mean(x, y, PatchDistance(Window.gaussian(11), "product", 1e-4, 9e-4, 0.0))
    assert not pairs._said


@by_kernels
def test_torch_compile_makes_one_graph() -> None:
    x, y = images(4, 3, 64, 66)
    compiled = torch.compile(lambda x, y: ssimgen.distance(x, y, data_range=1.0), fullgraph=True)
    expected = with_gradients(lambda x, y: ssimgen.distance(x, y, data_range=1.0), x, y)
    assert_near(with_gradients(compiled, x, y), expected, 1e-6, 1e-5)
