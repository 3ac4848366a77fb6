"""The library on a GPU: numbers against those of the CPU, CUDA graphs, streams, TF32, memory. `make gpu` runs it.

`pytest -m gpu` takes what torch calls "cuda". SSIMGEN_ENGINE says by which engine, as ever; with "eager", what belongs
to the Triton kernels alone is left out. To try this file without a GPU:
SSIMGEN_TEST_DEVICE=cpu, which leaves out graphs, streams and memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

import compiled_graphs
import ssimgen
from ssimgen import Window, engine, ssim
from ssimgen._request import FORMS, DataRange, checked_options
from ssimgen.engine import eager, eager_all_pairs
from ssimgen.engine.spec import Form, PatchDistance
from test_devices import FUNCTIONS, OF_PAIRS

DEVICE = os.environ.get("SSIMGEN_TEST_DEVICE", "cuda")
BY_KERNELS = os.environ.get("SSIMGEN_ENGINE", "triton" if DEVICE == "cuda" else "fused") == "triton"
WINDOWS = {
    "gaussian 11": Window.gaussian(11),
    "uniform 7": Window.uniform(7, unbiased=True),
    "one row": Window.gaussian((1, 5), (1.0, 1.0)),
    "even": Window.gaussian((4, 8), (1.0, 2.0)),
}
SHAPES = [(64, 1, 28, 28), (3, 3, 65, 131), (1, 3, 270, 480)]
CAPTURED = OF_PAIRS | {
    "all pairs": lambda x, y: ssimgen.pairwise.distance(x, y, data_range=1.0),
    "all pairs of one set": lambda x, y: ssimgen.pairwise.distance(x * y, data_range=1.0, form="product"),
}
MIB = 2**20

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]
on_cuda = pytest.mark.skipif(DEVICE != "cuda", reason="of CUDA")
by_kernels = pytest.mark.skipif(not BY_KERNELS, reason="of the Triton kernels: SSIMGEN_ENGINE=triton")


@pytest.fixture(scope="module", autouse=True)
def there_is_a_gpu() -> None:
    if DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.exit("PyTorch finds no GPU here; SSIMGEN_TEST_DEVICE=cpu tries these tests on a CPU", returncode=1)


Function = Callable[[Tensor, Tensor], Tensor]
Content = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def images(*shape: int, dtype: torch.dtype = torch.float32, device: str = DEVICE) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.rand(2, *shape, generator=generator)
    return x.to(device, dtype), (0.7 * x + 0.3 * noise).to(device, dtype)


def with_gradients(
    function: Function, x: Tensor, y: Tensor, counted: Callable[[Tensor], Tensor] = torch.nan_to_num
) -> tuple[Tensor, ...]:
    """A function, and gradients of its sum: without the NaN of images that hide from a mask, if not told otherwise."""
    x, y = x.detach().requires_grad_(), y.detach().requires_grad_()
    value = function(x, y)
    upstream = torch.linspace(1, 2, value.numel(), device=value.device, dtype=value.dtype).view(value.shape)
    gradients = torch.autograd.grad((counted(value) * upstream).sum(), (x, y), allow_unused=True)
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


def hot(pixel: float) -> Content:
    def content(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        x = x.clone()
        x[1, 0, 6, 5] = pixel
        return x, y

    return content


NASTY: dict[str, tuple[Content, DataRange]] = {
    "flat": (lambda x, y: (0 * x + 0.3, 0 * y + 0.7), 1.0),
    "equal": (lambda x, y: (x, x.clone()), 1.0),
    "nearly equal": (lambda x, y: (x, x + 1e-6 * y), 1.0),
    "bright and nearly flat": (lambda x, y: (0.998 + 1e-3 * x, 0.998 + 1e-3 * y), 1.0),
    "tones and their inverse": (lambda x, y: ((4 * x).floor() / 3, 1 - (4 * x).floor() / 3), 1.0),
    "of both signs": (lambda x, y: (x - 0.5, 0.5 - x), (-1.0, 1.0)),
    "kelvin": (lambda x, y: (x + 273.15, y + 273.15), (273.15, 274.15)),
    "far from the range": (lambda x, y: (x + 1e4, y + 1e4), 1.0),
    "denormal": (lambda x, y: (1e-40 * x, 1e-40 * y), 1.0),
    "a small range": (lambda x, y: (1e-9 * x, 1e-9 * y), 1e-9),
    "a large range": (lambda x, y: (1e9 * x, 1e9 * y), 1e9),
    "a hot pixel": (hot(30.0), 1.0),
    "a pixel too hot": (hot(1e4), 1.0),
    "a pixel hotter than squares": (hot(1e30), 1.0),
    "infinite": (hot(torch.inf), 1.0),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("content", NASTY)
def test_no_number_is_silently_wrong(content: str, form: Form) -> None:
    """What float32 cannot tell is NaN, in gradients too."""
    made, data_range = NASTY[content]
    side, size = (24, 11) if DEVICE == "cuda" else (7, 3)
    pair = made(*images(3, 1, side, side + 1))
    wide = [z.cpu().double() for z in pair]
    patch = checked_options(data_range, Window.gaussian(size), 0.01, 0.03, form)
    functions: list[tuple[Function, Function]] = [
        (lambda x, y: engine.squared_mean(x, y, patch), lambda x, y: eager.squared_mean(x, y, patch)),
        (
            lambda x, y: engine.squared_all_pairs(x, y, patch),
            lambda x, y: eager_all_pairs.squared_all_pairs(x, y, patch),
        ),
    ]
    for of_device, definition in functions:
        found, *gradients = with_gradients(of_device, *pair, Tensor.clone)
        expected, *slopes = with_gradients(definition, *wide, Tensor.clone)
        given = ~found.isnan().cpu()
        too_far = "too hot" in content or "hotter" in content or ("far" in content and form == "uncentred")
        assert given.all() or too_far or not expected.isfinite().all()
        torch.testing.assert_close(found.cpu().double()[given], expected[given], rtol=0, atol=1e-6)
        for own, other in zip(gradients, slopes, strict=True):
            seen = ~own.isnan().cpu()
            off = (own.cpu().double()[seen] - other[seen]).norm()
            assert off <= 1e-4 * other[seen].norm() + 1e-12 / patch.length, (off, other[seen].norm())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_as_it_is(dtype: torch.dtype) -> None:
    x, y = images(4, 3, 64, 66, dtype=dtype)
    expected = with_gradients(lambda x, y: ssim(x, y, data_range=1.0), x.cpu().double(), y.cpu().double())
    found = with_gradients(lambda x, y: ssim(x, y, data_range=1.0), x, y)
    assert [z.dtype for z in found] == [torch.float32, dtype, dtype]
    assert_near(found, expected, 1e-6, 4 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("function", CAPTURED.values(), ids=CAPTURED)
def test_results_have_the_same_bits_each_time(function: Function) -> None:
    pair = images(6, 2, 64, 65)
    first, second = (with_gradients(function, *pair) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.nan_to_num(), b.nan_to_num())


# --- all pairs ----------------------------------------------------------------------------------------------------

SETS = [(70, 1, 28, 28), (9, 3, 33, 46)] if DEVICE == "cuda" else [(3, 1, 12, 13)]
OF_ALL_PAIRS = {
    "gaussian 11": Window.gaussian(11),
    "blocks": Window.uniform(4, stride=4, unbiased=True),
    "even, apart": Window.gaussian((4, 8), (1.0, 2.0), stride=(2, 3)),
    "16 px": Window.uniform(12 if DEVICE != "cuda" else 16, stride=4),
}


def all_pairs(itself: bool, patch: PatchDistance) -> Function:
    def values(x: Tensor, y: Tensor) -> Tensor:
        engine_of_device = eager_all_pairs if x.dtype == torch.float64 else engine
        return engine_of_device.squared_all_pairs(x, None if itself else y[:-1], patch)

    return values


@pytest.mark.parametrize("shape", SETS, ids=str)
@pytest.mark.parametrize("window", OF_ALL_PAIRS.values(), ids=OF_ALL_PAIRS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("itself", [False, True])
def test_all_pairs_are_those_of_the_definition(
    itself: bool, form: Form, window: Window, shape: tuple[int, ...]
) -> None:
    values = all_pairs(itself, PatchDistance(window, form, 1e-4, 9e-4, 0.1))
    x, y = images(*shape)
    expected = with_gradients(values, x.cpu().double(), y.cpu().double())
    found = with_gradients(values, x, y)
    assert found[0].dtype == torch.float32
    assert_near(found, expected, 1e-6, 1e-4)
    if itself:
        assert torch.equal(found[0], found[0].T)
        assert not found[0].diagonal().any()


def test_all_pairs_that_are_nearly_equal() -> None:
    """Distances themselves: the root of an error of 1e-7 would be 3e-4. Equal images of two sets are at 0."""
    x, noise = images(20, 1, 28, 28) if DEVICE == "cuda" else images(3, 1, 11, 12)
    y = torch.cat(
        [x[:1], x[1:] + torch.linspace(1e-5, 3e-2, len(x) - 1, device=DEVICE)[:, None, None, None] * noise[1:]]
    )
    patch = PatchDistance(Window.gaussian(11), "sum", 1e-4, 9e-4, 0.0)
    expected = eager_all_pairs.squared_all_pairs(x.cpu().double(), y.cpu().double(), patch).sqrt()
    found = engine.squared_all_pairs(x, y, patch).sqrt()
    assert found[0, 0] == 0
    torch.testing.assert_close(found.cpu().double(), expected, rtol=1e-5, atol=5e-6)


def test_all_pairs_of_images_with_nan_and_of_other_ranges() -> None:
    x, y = images(4, 1, 12, 13)
    patch = PatchDistance(Window.gaussian(11), "product", 6.5025, 58.5225, 0.0)
    expected = eager_all_pairs.squared_all_pairs(255 * x.cpu().double(), 255 * y.cpu().double(), patch)
    x[1, 0, 5, 5] = torch.nan
    expected[1] = torch.nan
    assert_near((engine.squared_all_pairs(255 * x, 255 * y, patch),), (expected,), 1e-6, 0)
    itself = engine.squared_all_pairs(255 * x, None, patch)
    assert itself.isnan().sum() == 2 * len(x) - 1
    assert itself.diagonal().nan_to_num(1.0).tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_all_pairs_in_half_precision(dtype: torch.dtype) -> None:
    x, y = images(5, 1, 12, 13, dtype=dtype)
    values = all_pairs(False, PatchDistance(Window.gaussian(11), "sum", 1e-4, 9e-4, 0.0))
    expected = with_gradients(values, x.cpu().double(), y.cpu().double())
    found = with_gradients(values, x, y)
    assert [z.dtype for z in found] == [torch.float32, dtype, dtype]
    assert_near(found, expected, 1e-6, 4 * torch.finfo(dtype).eps)


@on_cuda
@by_kernels
def test_all_pairs_of_large_sets_take_64_mib_and_have_the_same_bits_each_time() -> None:
    x, y = images(2300, 1, 28, 28)  # several blocks, and chunks of positions
    values = all_pairs(False, PatchDistance(Window.gaussian(11), "sum", 1e-4, 9e-4, 0.0))
    found = with_gradients(values, x, y)
    for own, other in zip(with_gradients(values, x, y), found, strict=True):
        assert torch.equal(own, other)
    with torch.no_grad():
        some = slice(None, None, 97)
        expected = eager_all_pairs.squared_all_pairs(
            x[some].double(), y[some].double(), PatchDistance(Window.gaussian(11), "sum", 1e-4, 9e-4, 0.0)
        )
        torch.testing.assert_close(found[0][some, some].double(), expected, rtol=0, atol=1e-6)
    x, y = x[:2048].requires_grad_(), y[:2049]
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    square = values(x, y)
    peak = torch.cuda.max_memory_allocated() - before
    assert peak <= square.nbytes + 64 * MIB
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    torch.autograd.grad(square.sum(), x)
    assert torch.cuda.max_memory_allocated() - before <= x.nbytes + 64 * MIB


# --- graphs, streams, memory --------------------------------------------------------------------------------------


@on_cuda
@pytest.mark.parametrize("function", CAPTURED.values(), ids=CAPTURED)
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
    from ssimgen.engine.triton import launching

    window, (x, y) = Window.gaussian(3), images(2, 1, 6, 7)
    patch = PatchDistance(window, "product", 1e-4, 9e-4, 0.0)
    assert engine._triton_pairs_can(patch, x, y)
    assert engine._triton_all_pairs_can(patch, x, y)
    engine.squared_mean(x, y, patch)
    engine.squared_all_pairs(x, y, patch)
    assert not launching._said


@by_kernels
def test_torch_compile_makes_one_graph() -> None:
    done = subprocess.run(
        [sys.executable, compiled_graphs.__file__, DEVICE], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1:] == ["{}"], done.stdout + done.stderr
