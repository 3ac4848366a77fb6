"""Which engine runs: compiled kernels for plain CPU tensors, PyTorch's operations for everything else.

Both give the same numbers, and derivatives of every kind and order work whichever runs first. torch.compile, which
cannot trace pytest's checks of annotations, is tested in tests/test_similarity.py.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from ssimgen import Window, distance, engine, ssim, ssim_map
from ssimgen.engine import eager
from ssimgen.engine.fused import pairs

WINDOW = Window.gaussian(4, 1.2, stride=2)
FUNCTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean": lambda x, y: ssim(x, y, data_range=1.0, window=WINDOW),
    "map": lambda x, y: ssim_map(x, y, data_range=1.0, window=WINDOW),
}
quiet = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # torch's own call
either = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)


class Logged(Tensor):
    """A tensor subclass: whoever writes one wants to see the operations."""


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The engines that have run, in order."""
    names: list[str] = []

    def note(name: str, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def noted(*arguments: object) -> Tensor:
            names.append(name)
            return function(*arguments)

        return noted

    for module, name in ((pairs, "fused"), (eager, "eager")):
        for reduction in ("squared_mean", "squared_map"):
            monkeypatch.setattr(module, reduction, note(name, getattr(module, reduction)))
    return names


def images(*shape: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x, y = torch.rand(2, *shape, generator=generator, dtype=torch.float64).to(dtype)
    return x, y


def small() -> tuple[Tensor, Tensor]:
    """Two windows of each image, so that finite differences are quick."""
    return images(1, 1, 4, 6)


# --- what the compiled kernels take -----------------------------------------------------------------------------


@either
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_plain_tensors_are_fused(function: Callable[..., Tensor], dtype: torch.dtype, ran: list[str]) -> None:
    x, y = images(2, 1, 9, 10, dtype=dtype)
    function(x, y)
    function(torch.nn.Parameter(x), y).sum().backward()
    with torch.no_grad():
        function(x.requires_grad_(), y)
    with torch.inference_mode():
        function(x, y)
    with torch.autocast("cpu"):
        assert function(x, y).dtype == dtype
    assert set(ran) == {"fused"}


@either
def test_half_precision_under_autocast_is_fused_in_float32(function: Callable[..., Tensor], ran: list[str]) -> None:
    x, y = images(2, 1, 9, 10)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = function(x.bfloat16(), y.bfloat16())
    expected = function(x.bfloat16().double(), y.bfloat16().double())
    torch.testing.assert_close(value, expected.float(), rtol=0, atol=1e-6)
    assert set(ran) == {"fused"}


# --- what it leaves to PyTorch ----------------------------------------------------------------------------------


@quiet
@either
def test_transforms_and_tracers_see_operations(function: Callable[..., Tensor], ran: list[str]) -> None:
    """torch.func, forward-mode derivatives, graph capture and subclasses give what plain calls give."""
    x, y = images(3, 1, 9, 10)
    tangent = torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view(x.shape)
    leaf = x.clone().requires_grad_()
    value = function(leaf, y)
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    value = value.detach()
    ran.clear()

    each = torch.func.vmap(lambda a, b: function(a[None], b[None])[0])(x, y)
    torch.testing.assert_close(each, value)
    torch.testing.assert_close(torch.func.grad(lambda a: function(a, y).sum())(x), gradient)
    _, slope = torch.func.jvp(lambda a: function(a, y).sum(), (x,), (tangent,))
    torch.testing.assert_close(slope, (gradient * tangent).sum())
    with torch.autograd.forward_ad.dual_level():
        dual = function(torch.autograd.forward_ad.make_dual(x, tangent), y).sum()
        torch.testing.assert_close(torch.autograd.forward_ad.unpack_dual(dual).tangent, slope)
    torch.testing.assert_close(make_fx(function)(x, y)(y, x), value)  # symmetric, so a constant would be seen too
    torch.testing.assert_close(make_fx(function)(x, y)(x, x), torch.ones_like(value))
    assert type(function(x.as_subclass(Logged), y)) is Logged
    assert set(ran) == {"eager"}


@either
def test_tensors_without_numbers_keep_their_shapes(function: Callable[..., Tensor], ran: list[str]) -> None:
    x, y = images(2, 3, 9, 10)
    shape = function(x, y).shape
    ran.clear()
    assert function(x.to("meta"), y.to("meta")).shape == shape
    with FakeTensorMode() as mode:
        assert function(mode.from_tensor(x), mode.from_tensor(y)).shape == shape
    assert set(ran) == {"eager"}


def test_a_negated_view(ran: list[str]) -> None:
    """The imaginary part of a conjugate has other numbers in memory than it shows, and kernels read the latter."""
    x, y = images(1, 1, 9, 10)
    negated = torch.complex(y, -x).conj().imag
    assert negated.is_neg()
    torch.testing.assert_close(FUNCTIONS["mean"](negated, y), FUNCTIONS["mean"](x, y))
    assert set(ran) == {"fused"}


# --- derivatives ------------------------------------------------------------------------------------------------


@either
def test_first_and_second_derivatives_of_both(function: Callable[..., Tensor], ran: list[str]) -> None:
    x, y = (z.requires_grad_() for z in small())
    assert torch.autograd.gradcheck(function, (x, y))
    assert set(ran) == {"fused"}
    assert torch.autograd.gradgradcheck(function, (x, y))
    assert torch.autograd.gradgradcheck(lambda a: function(a, y.detach()), (x,), fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda b: function(x.detach(), b), (y,), fast_mode=True)


@either
def test_one_tensor_as_both_images(function: Callable[..., Tensor]) -> None:
    """x against a function of itself, and against itself, where all derivatives vanish."""
    x = small()[0].requires_grad_()
    assert torch.autograd.gradcheck(lambda a: function(a, a * a), (x,))
    assert torch.autograd.gradgradcheck(lambda a: function(a, a * a), (x,))
    value = function(x, x)
    (gradient,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    assert torch.equal(value, torch.ones_like(value))
    assert torch.equal(gradient, torch.zeros_like(x))


@quiet
@either
def test_a_gradient_that_enters_a_loss(function: Callable[..., Tensor]) -> None:
    """A gradient penalty: the derivative of |gradient|^2 is twice the Hessian times the gradient."""
    x, y = small()
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(function(x, y).sum(), x, create_graph=True)
    (penalty,) = torch.autograd.grad(gradient.square().sum(), x)
    hessian = torch.func.hessian(lambda a: function(a, y).sum())(x.detach()).view(x.numel(), x.numel())
    torch.testing.assert_close(penalty.view(-1), 2 * hessian @ gradient.detach().view(-1))


def test_both_engines_give_the_same_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = images(3, 2, 20, 17)
    fused = distance(x, y, data_range=1.0)
    monkeypatch.setattr(engine, "fused_can", lambda *images: False)
    torch.testing.assert_close(distance(x, y, data_range=1.0), fused)
