"""Compiled kernels read float16 and bfloat16 as they are, compute in float32, and round gradients as PyTorch does."""

import numpy as np
import pytest
import torch
from numba import njit
from torch import Tensor

from oracles import ssim as oracle
from ssimgen import Window, distance, ssim, ssim_map
from ssimgen.engine.fused import formats
from ssimgen.engine.fused.vectors import lanes, load, store

HALVES = (torch.float16, torch.bfloat16)
DTYPES = [(half, half) for half in HALVES] + [(torch.bfloat16, torch.float32), (torch.float32, torch.float16)]
USUAL = Window.gaussian()  # which everybody uses: kernels of other dense windows need not be compiled
IMAGES = {
    "dense": (USUAL, (3, 2, 14, 21)),
    "apart": (Window.gaussian(2, 1.0, 3), (2, 1, 9, 11)),
    "volume": (Window.gaussian(3, 1.0), (2, 1, 5, 6, 9)),
}
# Kernels are compiled for each pair of dtypes and kind of walk, but read and write by the same functions, which are
# tested of every number below: each pair goes over one kind of walk, of which "apart" reads pixel by pixel.
OF_KIND = {"volume": DTYPES[:1], "dense": DTYPES[1:3], "apart": DTYPES[3:]}
each_kind = pytest.mark.parametrize(
    ("window", "shape", "dtypes"), [(*IMAGES[kind], dtypes) for kind, some in OF_KIND.items() for dtypes in some]
)
each_half = pytest.mark.parametrize("dtype", HALVES)
LEAST = 2.0**-24  # of the numbers that float16 has

every_number = torch.arange(-(2**15), 2**15).short()


@njit
def read_all(image, out):
    for i in range(0, len(image), lanes(out)):
        store(out, i, formats.read_some(image, i, len(image) - i, out))


@njit
def read_each(image, out):
    for i in range(len(image)):
        out[i] = formats.read(image, i, out)


@njit
def write_all(image, numbers):
    step = lanes(numbers)
    for i in range(0, len(numbers) - step + 1, step):
        formats.write(image, i, load(numbers, i))
    rest = len(numbers) % step
    if rest:
        formats.write_some(image, len(numbers) - rest, load(numbers, len(numbers) - rest), rest)


@njit
def write_each(image, numbers):
    for i in range(len(numbers)):
        formats.write(image, i, numbers[i])


@each_half
@pytest.mark.parametrize("reader", [read_all, read_each])
def test_every_number_is_read(reader, dtype: torch.dtype) -> None:
    """Subnormal, infinite and negative ones with all their bits; NaN is NaN."""
    halves = every_number.view(dtype)
    found = torch.empty(len(halves))
    reader(formats.as_array(halves), found.numpy())
    torch.testing.assert_close(found, halves.float(), rtol=0, atol=0, equal_nan=True)
    assert torch.equal(found.signbit(), halves.float().signbit())


@each_half
@pytest.mark.parametrize("count", [1, 5, 7])
def test_nothing_is_read_or_written_beyond(dtype: torch.dtype, count: int) -> None:
    halves = torch.full((16,), 3.0, dtype=dtype)
    found = torch.full((32,), 7.0)
    read_all(formats.as_array(halves)[:count], found.numpy())
    step = int((found != 7).sum())
    assert found[:step].tolist() == [3.0] * count + [0.0] * (step - count)
    write_all(formats.as_array(halves)[:count], torch.ones(32).numpy()[:count])
    assert halves.tolist() == [1.0] * count + [3.0] * (16 - count)


@each_half
@pytest.mark.parametrize("writer", [write_all, write_each])
def test_numbers_are_rounded_as_pytorch_rounds(writer, dtype: torch.dtype, generator: torch.Generator) -> None:
    """Any bits of float32; numbers of half precision, what lies halfway to their neighbours, and next to that."""
    bits = torch.randint(-(2**31), 2**31, (100_003,), generator=generator).int()
    own = every_number.view(dtype).float()
    halfway = (own + torch.roll(own, -1)) / 2
    beside = [torch.nextafter(halfway, torch.tensor(end)) for end in (float("inf"), -float("inf"))]
    numbers = torch.cat([bits.view(torch.float32), own, halfway, *beside])
    found = torch.empty(len(numbers), dtype=dtype)
    writer(formats.as_array(found), numbers.numpy())
    right = numbers.to(dtype)
    assert torch.equal(found.isnan(), right.isnan())
    known = ~right.isnan()
    assert torch.equal(found.view(torch.int16)[known], right.view(torch.int16)[known])


def pair(shape: tuple[int, ...], dtypes: tuple[torch.dtype, torch.dtype], length: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, noise = length * torch.rand(2, *shape, generator=generator, dtype=torch.float64)
    first, second = dtypes
    return x.to(first).requires_grad_(), (0.6 * x + 0.4 * noise).to(second).requires_grad_()


def wide(*images: Tensor) -> list[Tensor]:
    return [z.detach().float().requires_grad_() for z in images]


@each_kind
def test_values_have_the_bits_of_float32(
    window: Window, shape: tuple[int, ...], dtypes: tuple[torch.dtype, torch.dtype]
) -> None:
    x, y = pair(shape, dtypes)
    options = {"data_range": 1.0, "window": window}
    for function in (ssim, ssim_map, distance):
        value = function(x, y, **options)
        assert value.dtype == torch.float32
        assert torch.equal(value, function(*wide(x, y), **options))
        assert torch.equal(value, function(x.detach(), y.detach(), **options))


@each_kind
@pytest.mark.parametrize("length", [1.0, 1e-3, 6e4])
@pytest.mark.parametrize("function", [ssim, ssim_map])
def test_gradients(
    function, window: Window, shape: tuple[int, ...], dtypes: tuple[torch.dtype, torch.dtype], length: float
) -> None:
    """Those of the definition, in float64 at the same numbers, along every image: rounded twice at most.

    A pair's own factor makes a gradient about as large as its image, as loss scaling does. In float16 the last rounding
    is that of the numbers near 0.
    """
    x, y = pair(shape, dtypes, length)
    value = function(x, y, data_range=length, window=window)
    upstream = (1.0 + torch.arange(value.numel()).view(value.shape) % 5) * length * value[0].numel()
    found = torch.autograd.grad(value, (x, y), upstream)
    a, b = (z.detach().double().requires_grad_() for z in (x, y))
    right = torch.autograd.grad(function(a, b, data_range=length, window=window), (a, b), upstream.double())
    for gradient, image, expected in zip(found, (x, y), right, strict=True):
        assert gradient.dtype == image.dtype
        scale = float(expected.abs().max())
        subnormal = LEAST / 2 if image.dtype == torch.float16 else 0.0
        eps = torch.finfo(image.dtype).eps
        torch.testing.assert_close(gradient.double(), expected, rtol=eps, atol=1e-4 * scale + subnormal)


@pytest.mark.parametrize(
    ("window", "dtypes"),
    [*((USUAL, dtypes) for dtypes in DTYPES), (Window.gaussian(4, 1.2, stride=2), *OF_KIND["apart"])],
    ids=str,
)
def test_values_and_gradients_are_those_of_the_definition(
    window: Window, dtypes: tuple[torch.dtype, torch.dtype]
) -> None:
    x, y = pair((2, 1, 12, 13), dtypes)
    numbers = [z.detach().double().numpy() for z in (x, y)]
    value = ssim(x, y, data_range=1.0, window=window)
    expected = oracle.ssim(*numbers, data_range=1.0, window=window)
    np.testing.assert_allclose(value.detach(), expected, rtol=0, atol=1e-6)
    upstream = torch.tensor([50.0, -120.0])
    right = oracle.ssim_gradients(*numbers, upstream.double().numpy(), data_range=1.0, window=window)
    for gradient, of_definition in zip(torch.autograd.grad(value, (x, y), upstream), right, strict=True):
        eps, scale = torch.finfo(gradient.dtype).eps, np.abs(of_definition).max()
        np.testing.assert_allclose(gradient.double(), of_definition, rtol=eps, atol=1e-4 * scale)


@pytest.mark.parametrize("dtypes", DTYPES, ids=str)
@pytest.mark.parametrize("equal", [True, False])
def test_gradients_to_one_image_and_of_a_graph_that_is_kept(
    dtypes: tuple[torch.dtype, torch.dtype], equal: bool
) -> None:
    """Factors of pairs that are equal are one, in the backward pass."""
    x, y = pair((3, 2, 12, 21), dtypes)
    value = ssim(x, y, data_range=1.0)
    upstream = torch.full((3,), 100.0) if equal else torch.tensor([100.0, -50.0, 7.0])
    both = torch.autograd.grad(value, (x, y), upstream, retain_graph=True)
    again = torch.autograd.grad(value, (x, y), upstream)
    assert all(torch.equal(a, b) for a, b in zip(both, again, strict=True))
    for wanted, expected in zip((x, y), both, strict=True):
        other = y.detach() if wanted is x else x.detach()
        (found,) = torch.autograd.grad(ssim(wanted, other, data_range=1.0), wanted, upstream)
        torch.testing.assert_close(found, expected, rtol=torch.finfo(wanted.dtype).eps, atol=1e-4)


@each_half
def test_second_derivatives(dtype: torch.dtype) -> None:
    x, y = pair((1, 1, 12, 13), (dtype, dtype))

    def slope(x: Tensor, y: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(ssim(x, y, data_range=1.0).sum(), x, create_graph=True)
        return torch.autograd.grad(gradient.float().square().sum(), y)[0]

    found, expected = slope(x, y), slope(*wide(x, y))
    assert found.dtype == dtype
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=2 * eps * float(expected.abs().max()))


@pytest.mark.parametrize("dtypes", DTYPES, ids=str)
def test_equal_and_nearly_equal_planes(dtypes: tuple[torch.dtype, torch.dtype]) -> None:
    """Of means so small that float32 is not trusted, those of planes that are equal are 0."""
    x = pair((2, 1, 12, 13), dtypes)[0].detach().bfloat16().clamp(0.5, 0.99)
    y = x.clone()
    y[1, 0, 4, 5] += 2.0**-8
    x, y = (z.to(dtype).requires_grad_() for z, dtype in zip((x, y), dtypes, strict=True))
    options = {"data_range": 30.0, "squared": True}
    value = distance(x, y, **options)
    assert value[0] == 0
    assert 0 < value[1] < 1e-6
    assert torch.equal(value, distance(*wide(x, y), **options))


@each_half
def test_planes_that_float32_cannot_hold(dtype: torch.dtype) -> None:
    """Pixels far beyond the range are computed in float64, as those of float32; NaN stays in its image."""
    x, y = pair((4, 1, 18, 19), (dtype, dtype))
    factor, shift = (
        torch.tensor([1, 300, 1, 1]).view(-1, 1, 1, 1),
        torch.tensor([0, 0, torch.nan, 3e4]).view(-1, 1, 1, 1),
    )
    x, y = ((z.detach().float() * factor + shift).to(dtype).requires_grad_() for z in (x, y))
    options = {"data_range": 1.0}
    value, expected = ssim(x, y, **options), ssim(*wide(x, y), **options)
    torch.testing.assert_close(value, expected, rtol=0, atol=0, equal_nan=True)
    assert value.isnan().tolist() == [False, False, True, False]
    upstream = torch.tensor([1.0, 1e4, 1.0, 100.0])
    found = torch.autograd.grad(value, (x, y), upstream)
    a, b = wide(x, y)
    right = torch.autograd.grad(ssim(a, b, **options), (a, b), upstream)
    eps = torch.finfo(dtype).eps
    for gradient, reference in zip(found, right, strict=True):
        assert gradient[2].isnan().all()
        for image in (0, 1, 3):
            scale = float(reference[image].abs().max())
            subnormal = LEAST / 2 if dtype == torch.float16 else 0.0
            torch.testing.assert_close(
                gradient[image].float(), reference[image], rtol=eps, atol=1e-4 * scale + subnormal
            )


@pytest.mark.parametrize(
    ("window", "shape", "dtypes"),
    [
        *((USUAL, (4, 3, 96, 96), dtypes) for dtypes in DTYPES),
        *((Window.gaussian(3), (1, 1, 24, 64, 64), dtypes) for dtypes in OF_KIND["volume"]),
    ],
)
def test_no_copy_in_float32(window: Window, shape: tuple[int, ...], dtypes: tuple[torch.dtype, torch.dtype]) -> None:
    """PyTorch takes the memory of two gradients in the dtypes of the images, and little more."""
    x, y = pair(shape, dtypes)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        ssim(x, y, data_range=1.0, window=window).mean().backward()
    taken = sum(max(0, event.self_cpu_memory_usage) for event in profile.events())
    assert x.nbytes + y.nbytes <= taken < 1.1 * (x.nbytes + y.nbytes)
