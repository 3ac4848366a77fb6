"""The kernels for GPUs in Triton's interpreter, on a CPU: `python interpreted.py numbers` prints how far they are off.

A process of its own: whether kernels are interpreted is decided where they are imported. Windows and images are small,
as the interpreter is slow; tiles are smaller still, so that several programs share a plane.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product

os.environ["TRITON_INTERPRET"] = "1"
os.environ["SSIMGEN_ENGINE"] = "triton"

import torch
from torch import Tensor

from ssimgen import Window, engine, ssim
from ssimgen.engine import eager
from ssimgen.engine.spec import Form, Over, PatchDistance
from ssimgen.engine.triton import launching, pairs
from ssimgen.engine.triton.request import arguments

FORMS: tuple[Form, ...] = ("product", "sum", "centred", "uncentred")
WINDOW = Window.gaussian(3, 1.0)
TILE_OF = pairs._Tile.of
OFF: dict[str, float] = {}  # the largest errors of a check


def several_programs(
    device: torch.device, planes: int, height: int, width: int, columns: int, taps: int
) -> pairs._Tile:
    return pairs._Tile(4, 4, columns, together=min(3, taps))  # the last rows taken at once are the next program's


def one_program(device: torch.device, planes: int, height: int, width: int, columns: int, taps: int) -> pairs._Tile:
    return pairs._Tile(8, 16, columns)


def request(form: Form = "product", window: Window = WINDOW, lo: float = 0.0) -> PatchDistance:
    return PatchDistance(window, form, 1e-4, 9e-4, lo)


def images(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.rand(2, *shape, generator=generator)
    return x, 0.7 * x + 0.3 * noise


def compared(x: Tensor, y: Tensor, patch: PatchDistance, value: float = 1e-7, gradient: float = 1e-6) -> Tensor:
    """The means by kernels, which must be those of the eager engine in float64, with their gradients."""
    expected, *of_expected = _with_gradients(eager.squared_mean, x.double(), y.double(), patch)
    found, *of_found = _with_gradients(pairs.squared_mean, x, y, patch)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=value)
    _note("mean", (found - expected).abs().max())
    for own, other, image in zip(of_found, of_expected, (x, y), strict=True):
        assert own.dtype == image.dtype
        off = (own.double() - other).norm()
        assert off <= gradient * other.norm() + 1e-12
        _note("gradient", off / other.norm())
    return found


def _note(what: str, error: Tensor) -> None:
    OFF[what] = max(OFF.get(what, 0.0), float(f"{error.item():.1e}"))


def _with_gradients(function: object, x: Tensor, y: Tensor, patch: PatchDistance) -> tuple[Tensor, Tensor, Tensor]:
    x, y = (z.detach().requires_grad_() for z in (x, y))
    mean = function(x, y, patch)  # type: ignore[operator]
    upstream = torch.linspace(1, 2, mean.numel()).view(mean.shape).to(mean.dtype)
    return mean.detach(), *torch.autograd.grad((mean * upstream).sum(), (x, y))


# --- numbers ----------------------------------------------------------------------------------------------------


def product_of_several_programs() -> None:
    compared(*images(1, 2, 7, 12), request("product", lo=0.1))


def means_of_images_and_of_the_batch() -> None:
    """Of a window of one row, too; tiles are those that the library takes."""
    pairs._Tile.of = TILE_OF  # type: ignore[method-assign]

    averaged: list[tuple[Over, tuple[int, ...]]] = [("images", (1,)), ("batch", (0, 1))]
    for window, (over, axes) in product((WINDOW, Window.gaussian((1, 4), (1.0, 1.0))), averaged):
        x, y = images(2, 2, 6, 7)
        by_pytorch = partial(_averaged, axes)
        by_kernels = partial(pairs.squared_mean, over=over)
        expected, *of_expected = _with_gradients(by_pytorch, x.double(), y.double(), request(window=window))
        found, *of_found = _with_gradients(by_kernels, x, y, request(window=window))
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-7)
        for own, other in zip(of_found, of_expected, strict=True):
            assert (own.double() - other).norm() <= 1e-6 * other.norm()


def _averaged(axes: tuple[int, ...], x: Tensor, y: Tensor, patch: PatchDistance) -> Tensor:
    return eager.squared_mean(x, y, patch).mean(axes)


def windows_and_tiles_of_the_library() -> None:
    """Rows that are taken at once, as many as the window says, and columns."""
    pairs._Tile.of = TILE_OF  # type: ignore[method-assign]
    for window in (Window.uniform(7), Window.gaussian((2, 5), (1.0, 1.0)), Window.gaussian((8, 3), (2.0, 1.0))):
        for width in (9, 10):
            compared(*images(1, 1, 13, width), request(window=window))


def sum_of_odd_width() -> None:
    compared(*images(2, 1, 6, 7), request("sum", Window.gaussian((4, 2), (1.0, 0.8))))


def centred_with_sample_covariances() -> None:
    compared(*images(1, 1, 6, 10), request("centred", Window.uniform(3, unbiased=True)))


def uncentred() -> None:
    compared(*images(1, 1, 6, 10), request("uncentred", lo=-0.2))


def one_program_a_plane() -> None:
    pairs._Tile.of = one_program  # type: ignore[method-assign, assignment]
    compared(*images(2, 1, 6, 8), request())


def half_precision() -> None:
    for dtype, error in ((torch.float16, 2e-3), (torch.bfloat16, 2e-2)):  # of gradients rounded to it
        compared(*(z.to(dtype) for z in images(1, 1, 5, 6)), request("sum"), gradient=error)


def tones_and_bright_flat_images() -> None:
    """Where sums of squares would have lost all digits of variances."""
    rows, columns = torch.meshgrid(torch.arange(6), torch.arange(12), indexing="ij")
    tones = ((columns // 4 + rows // 4) % 4)[None, None] / 3
    compared(tones, 1 - tones, request("sum"), gradient=1e-4)
    bright = 0.998 + 1e-3 * images(1, 1, 6, 6)[0]
    compared(bright, bright.flip(-1), request("centred"), gradient=1e-4)


def images_far_from_zero() -> None:
    """A range of one kelvin, and pixels far outside of the range, which lose nothing by it."""
    x, y = (z + 273.15 for z in images(1, 1, 6, 8))
    compared(x, y, request("product", lo=273.15))
    x, y = ((1e4 * z).round() / 1e4 + 64 for z in images(1, 1, 6, 8))
    compared(x, y, request("sum"))


def what_float32_cannot_tell_is_nan() -> None:
    x, y = images(2, 1, 6, 8)
    x[1, 0, 4, 3] = 1e3
    mean, *gradients = _with_gradients(pairs.squared_mean, x, y, request())
    for found in (mean, *gradients):
        assert found.isnan().flatten(1).all(1).tolist() == [False, True]
        assert not found[0].isnan().any()


def equal_images_and_nan() -> None:
    x, _ = images(2, 1, 5, 6)
    mean, *gradients = _with_gradients(pairs.squared_mean, x, x.clone(), request("sum"))
    assert not mean.any()
    assert not any(gradient.any() for gradient in gradients)
    broken = x.clone()
    broken[1, 0, 2, 3] = torch.nan
    for form in ("centred", "sum"):
        means = pairs.squared_mean(broken, x, request(form))
        assert means.isnan().flatten().tolist() == [False, True]


def bits_are_the_same_with_and_without_gradients_and_again() -> None:
    x, y = images(1, 1, 7, 12)
    mean = pairs.squared_mean(x, y, request())
    for wanted in ((True, False), (False, True), (True, True)):
        pair = [z.clone().requires_grad_(want) for z, want in zip((x, y), wanted, strict=True)]
        own = pairs.squared_mean(*pair, request())
        assert torch.equal(own, mean)
        leaves = [z for z in pair if z.requires_grad]
        gradients = torch.autograd.grad(own.sum(), leaves)
        again = torch.autograd.grad(pairs.squared_mean(*pair, request()).sum(), leaves)
        assert all(torch.equal(*two) for two in zip(gradients, again, strict=True))


# --- wiring -----------------------------------------------------------------------------------------------------


def ssim_of_plain_images_and_views_takes_kernels() -> None:
    ran = _runs()
    x, y = images(1, 2, 8, 6)
    expected = ssim(x.double(), y.double(), data_range=1.0, window=WINDOW)
    assert not ran  # float64 is for others
    views = x.transpose(2, 3).contiguous().transpose(2, 3), torch._neg_view(-y)
    found = ssim(*views, data_range=1.0, window=WINDOW)
    assert ran == ["forward"]
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)


def what_kernels_do_not_take_goes_elsewhere() -> None:
    ran = _runs()
    x, y = images(1, 1, 18, 18)
    ssim(x, y, data_range=1.0, window=Window.uniform(4, stride=4))
    ssim(x, y, data_range=1.0, window=Window.gaussian(17, 3.0))
    ssim(*(z[:, :, None].expand(-1, -1, 2, -1, -1) for z in (x, y)), data_range=1.0, window=Window.uniform(2))
    torch.func.vmap(lambda a, b: ssim(a[None], b[None], data_range=1.0, window=WINDOW)[0])(x, y)
    torch.func.grad(lambda a: ssim(a, y, data_range=1.0, window=WINDOW).sum())(x)
    with torch.autograd.forward_ad.dual_level():
        ssim(torch.autograd.forward_ad.make_dual(x, y), y, data_range=1.0, window=WINDOW)
    assert not ran


def second_derivatives() -> None:
    x, y = (z.requires_grad_() for z in images(1, 1, 5, 6))
    wide = [z.detach().double().requires_grad_() for z in (x, y)]
    found, expected = (_penalty(f, *pair) for f, pair in ((pairs, (x, y)), (eager, wide)))
    for own, other in zip(found, expected, strict=True):
        torch.testing.assert_close(own.double(), other, rtol=1e-4, atol=1e-6)


def _penalty(of: object, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    (gradient,) = torch.autograd.grad(of.squared_mean(x, y, request()).sum(), x, create_graph=True)  # type: ignore[attr-defined]
    return torch.autograd.grad(gradient.square().sum(), (x, y))


def operations_keep_their_promises() -> None:
    """Schemas, shapes of fakes, and autograd, as torch.library checks them."""
    x, y = (z.requires_grad_() for z in images(1, 2, 4, 5))
    numbers = arguments(request("sum"))
    torch.library.opcheck(pairs._pair_means, (x, y, *numbers, "positions", 4))
    with torch.no_grad():
        mean, kept = pairs._pair_means(x, y, *numbers, "images", 3)
    torch.library.opcheck(
        pairs._pair_gradients,
        (x.detach(), y.detach(), mean, kept, mean, *numbers),
        test_utils=("test_schema", "test_faketensor"),
    )


def one_graph_with_its_gradient() -> None:
    ran = _runs()
    x, y = images(1, 1, 5, 6)
    x.requires_grad_()

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return 1 - ssim(x, y, data_range=1.0, window=WINDOW).mean()

    value = torch.compile(loss, fullgraph=True, backend="aot_eager")(x, y)
    (gradient,) = torch.autograd.grad(value, x)
    assert ran == ["forward", "backward"]
    expected = loss(x, y)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, x)[0])


def what_fails_is_said_once_and_done_otherwise() -> None:
    """In a forward pass, in a backward pass, and where there is no Triton."""
    x, y = images(1, 1, 6, 7)
    for broken in ("_forward", "_backward"):
        kept, launching._said, launching._trouble = getattr(pairs, broken), False, ""
        setattr(pairs, broken, _fail)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            compared(x, y, request("sum"))
            compared(x, y, request("sum"))
        assert [type(warning.message) for warning in said] == [launching.EngineWarning]
        assert "out of luck" in str(said[0].message), said[0].message
        setattr(pairs, broken, kept)
    ran = _runs()
    ssim(x, y, data_range=1.0, window=WINDOW)
    assert not ran
    launching._said, launching._trouble = False, "there is no package triton"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        ssim(x, y, data_range=1.0, window=WINDOW)
        ssim(x, y, data_range=1.0, window=WINDOW)
    assert len(said) == 1
    assert not ran


def _fail(*_: object) -> object:
    raise RuntimeError("out of luck")


def _runs() -> list[str]:
    """The kernels that run from now on."""
    ran: list[str] = []
    for name in ("forward", "backward"):

        def noted(*arguments: object, name: str = name, run: object = getattr(pairs, f"_{name}")) -> object:
            ran.append(name)
            return run(*arguments)  # type: ignore[operator]

        setattr(pairs, f"_{name}", noted)
    return ran


CHECKS = {
    "numbers": (
        product_of_several_programs,
        means_of_images_and_of_the_batch,
        windows_and_tiles_of_the_library,
        sum_of_odd_width,
        centred_with_sample_covariances,
        uncentred,
        half_precision,
        tones_and_bright_flat_images,
        images_far_from_zero,
        what_float32_cannot_tell_is_nan,
        equal_images_and_nan,
        bits_are_the_same_with_and_without_gradients_and_again,
        one_program_a_plane,
    ),
    "wiring": (
        ssim_of_plain_images_and_views_takes_kernels,
        what_kernels_do_not_take_goes_elsewhere,
        second_derivatives,
        operations_keep_their_promises,
        one_graph_with_its_gradient,
        what_fails_is_said_once_and_done_otherwise,
    ),
}


def main(checks: Sequence[Callable[[], None]]) -> None:
    assert engine._chosen == "triton"
    warnings.simplefilter("error", launching.EngineWarning)  # else numbers would be those of the eager engine
    for check in checks:
        pairs._Tile.of = several_programs  # type: ignore[method-assign, assignment]
        pairs._plan.cache_clear()
        OFF.clear()
        wrong = ""
        try:
            check()
        except Exception:
            wrong = traceback.format_exc()
        print(json.dumps({"check": check.__name__, **OFF, "wrong": wrong}), flush=True)


if __name__ == "__main__":
    main(CHECKS[sys.argv[1]])
