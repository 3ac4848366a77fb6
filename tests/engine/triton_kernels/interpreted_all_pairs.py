"""The kernels of all pairs in Triton's interpreter, as `interpreted.py` has those of pairs.

Sets are cut into blocks of 20 images, and chunks of few window positions into tiles of 16 x 16 pairs and several slots.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable

import interpreted
import torch
from interpreted import OFF, images, request
from torch import Tensor

from ssimgen import Window, pairwise
from ssimgen.engine import eager_all_pairs
from ssimgen.engine.spec import PatchDistance
from ssimgen.engine.triton import all_pairs, launching

all_pairs._SIDE, all_pairs._PATCHES, all_pairs._PROGRAMS = 20, 2**14, 6
all_pairs._Tile.of = lambda *_: all_pairs._Tile(16, 16, 16, 4, 1)  # type: ignore[method-assign]
all_pairs._GradientTile.of = lambda *_: all_pairs._GradientTile(16, 16, 4, 1)  # type: ignore[method-assign]

Values = Callable[[Tensor, Tensor | None, PatchDistance], Tensor]


def compared(x: Tensor, y: Tensor | None, patch: PatchDistance, value: float = 2e-7, gradient: float = 1e-6) -> Tensor:
    """All pairs by kernels, which must be those of the eager engine in float64, with their gradients."""
    wide = x.double(), None if y is None else y.double()
    expected, *of_expected = _with_gradients(eager_all_pairs.squared_all_pairs, *wide, patch)
    found, *of_found = _with_gradients(all_pairs.squared_all_pairs, x, y, patch)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=value)
    interpreted._note("value", (found - expected).abs().max())
    for own, other in zip(of_found, of_expected, strict=True):
        assert own.dtype == x.dtype
        off = (own.double() - other).norm()
        assert off <= gradient * other.norm() + 1e-12, (off, other.norm())
        interpreted._note("gradient", off / other.norm())
    return found


def _with_gradients(function: Values, x: Tensor, y: Tensor | None, patch: PatchDistance) -> tuple[Tensor, ...]:
    leaves = [z.detach().requires_grad_() for z in (x, y) if z is not None]
    square = function(leaves[0], None if y is None else leaves[1], patch)
    upstream = torch.linspace(-1, 2, square.numel()).view(square.shape).to(square.dtype)
    return square.detach(), *torch.autograd.grad((square * upstream).sum(), leaves)


def sets(n: int, m: int, *shape: int) -> tuple[Tensor, Tensor]:
    x, y = images(max(n, m), *shape)
    return x[:n], y.flip(0)[:m]


# --- numbers ----------------------------------------------------------------------------------------------------


def product_of_tiles_and_channels() -> None:
    compared(*sets(18, 17, 2, 5, 6), request("product", Window.gaussian((4, 2), (1.0, 0.8)), lo=0.1))


def sum_of_blocks_of_sets() -> None:
    compared(*sets(21, 3, 1, 4, 5), request("sum"))


def centred_of_windows_apart() -> None:
    compared(*sets(3, 5, 1, 7, 8), request("centred", Window.uniform(3, stride=2, unbiased=True)))


def uncentred_of_windows_with_gaps() -> None:
    compared(*sets(4, 3, 2, 8, 6), request("uncentred", Window.uniform((2, 3), stride=(3, 1)), lo=-0.2))


def one_set_against_itself() -> None:
    for form in ("sum", "product", "centred", "uncentred"):
        square = compared(sets(18 if form == "sum" else 4, 1, 1, 4, 5)[0], None, request(form))
        assert torch.equal(square, square.T)
        assert not square.diagonal().any()


def large_windows() -> None:
    compared(*sets(3, 2, 1, 11, 12), request("sum", Window.gaussian(11)))
    compared(*sets(2, 2, 1, 16, 17), request("product", Window.uniform(16)))


def half_precision() -> None:
    for dtype, error in ((torch.float16, 2e-3), (torch.bfloat16, 2e-2)):  # of gradients rounded to it
        compared(*(z.to(dtype) for z in sets(3, 2, 1, 4, 5)), request(), gradient=error)


def pixels_of_other_ranges() -> None:
    for unit in (1e-6, 255.0, 1e9):
        x, y = (unit * z for z in sets(3, 2, 1, 4, 5))
        compared(x, y, PatchDistance(interpreted.WINDOW, "sum", 1e-4 * unit**2, 9e-4 * unit**2, 0.1 * unit))


def pixels_far_from_zero() -> None:
    """The least value of a range is no number of float32, and pixels less that one are few of its units."""
    x, y = (273.15 + 0.1 * z.double() for z in sets(3, 2, 1, 4, 5))
    compared(x.float(), y.float(), PatchDistance(interpreted.WINDOW, "sum", 1e-4, 9e-4, 273.15))


def what_would_leave_float32_is_nan() -> None:
    x, y = sets(3, 2, 1, 4, 5)
    for pixel in (1e6, 1e16, 1e30):
        x[1, 0, 2, 3] = pixel
        found = all_pairs.squared_all_pairs(x, y, request("centred"))
        expected = eager_all_pairs.squared_all_pairs(x.double(), y.double(), request("centred"))
        assert found[1].isnan().all() == (pixel > 1e6)
        torch.testing.assert_close(found.double(), torch.where(found.isnan(), torch.nan, expected), equal_nan=True)


def nearly_equal_images() -> None:
    """Their distances themselves, and 0 for equal ones, which two sets share."""
    x, noise = images(4, 1, 6, 7)
    y = x + torch.tensor([0.0, 1e-6, 1e-4, 1e-2])[:, None, None, None] * noise
    for form in ("sum", "product", "centred", "uncentred"):
        expected = eager_all_pairs.squared_all_pairs(x.double(), y.double(), request(form)).sqrt()
        found = all_pairs.squared_all_pairs(x, y, request(form)).sqrt()
        assert found[0, 0] == 0
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


def tones_and_bright_flat_images() -> None:
    rows, columns = torch.meshgrid(torch.arange(6), torch.arange(12), indexing="ij")
    tones = ((columns // 4 + rows // 4) % 4)[None, None] / 3
    flat = torch.tensor([0.0, 0.25, 1.0])[:, None, None, None].expand(3, 1, 6, 12)
    bright = 0.998 + 1e-3 * images(1, 1, 6, 12)[0]
    x = torch.cat([tones, 1 - tones, flat, bright, bright.flip(-1)])
    compared(x, x[1:].flip(3), request("sum"), gradient=1e-5)


def nan_stays_with_its_image() -> None:
    x, y = sets(3, 2, 1, 4, 5)
    x[1, 0, 2, 3] = torch.nan
    for form in ("sum", "centred"):
        assert all_pairs.squared_all_pairs(x, y, request(form)).isnan().all(1).tolist() == [False, True, False]
        itself = all_pairs.squared_all_pairs(x, None, request(form))
        assert itself.isnan().sum() == 5
        assert itself.diagonal()[::2].tolist() == [0, 0]


def weights_of_pairs_far_apart_in_size() -> None:
    """Upstream gradients that half precision could not hold; and 0 of all pairs of an image."""
    x, y = (z.requires_grad_() for z in sets(3, 4, 1, 4, 5))
    upstream = torch.tensor([[1e9, 1.0, -3.0, 0.0], [1e-9, 2e-9, 0.0, 0.0], [0.0] * 4])
    found = torch.autograd.grad((all_pairs.squared_all_pairs(x, y, request()) * upstream).sum(), (x, y))
    wide = [z.detach().double().requires_grad_() for z in (x, y)]
    square = eager_all_pairs.squared_all_pairs(*wide, request())
    expected = torch.autograd.grad((square * upstream.double()).sum(), wide)
    for image in range(3):
        torch.testing.assert_close(found[0][image].double(), expected[0][image], rtol=1e-4, atol=0)
    assert (found[1] - expected[1]).norm() <= 1e-6 * expected[1].norm()


# --- wiring -----------------------------------------------------------------------------------------------------


def functions_of_all_pairs_take_kernels() -> None:
    ran, done = _runs(), []
    x, y = sets(21, 2, 1, 4, 5)
    found = pairwise.distance(x, y, data_range=1.0, window=interpreted.WINDOW)
    assert ran == ["values"] * 2  # blocks
    ran.clear()
    all_pairs.squared_all_pairs(x, None, request(), done.append)
    assert ran == ["values"] * 3
    assert abs(sum(done) - 1) < 1e-9
    ran.clear()
    expected = pairwise.distance(x.double(), y.double(), data_range=1.0, window=interpreted.WINDOW)
    assert not ran  # float64 is for others
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)


def what_kernels_do_not_take_goes_elsewhere() -> None:
    ran = _runs()
    x, y = sets(2, 2, 1, 18, 18)
    pairwise.ssim(x, y, data_range=1.0, window=Window.gaussian(17, 3.0))
    pairwise.ssim(x, y, data_range=1.0, window=interpreted.WINDOW, mask=x[0] > 0.5)
    pairwise.ssim(*(z[:, :, None].expand(-1, -1, 2, -1, -1) for z in (x, y)), data_range=1.0, window=Window.uniform(2))
    torch.func.grad(lambda a: pairwise.ssim(a, y, data_range=1.0, window=interpreted.WINDOW).sum())(x)
    assert not ran


def only_gradients_that_are_asked_for_are_computed() -> None:
    ran = _runs("gradients", "_add")
    x, y = sets(2, 3, 1, 3, 4)
    for wanted in ((True, False), (False, True), (True, True)):
        pair = [z.clone().requires_grad_(want) for z, want in zip((x, y), wanted, strict=True)]
        leaves = [z for z in pair if z.requires_grad]
        ran.clear()
        torch.autograd.grad(all_pairs.squared_all_pairs(*pair, request()).sum(), leaves)
        assert ran == ["gradients"] + ["_add"] * sum(wanted)


def second_derivatives() -> None:
    x, y = (z.requires_grad_() for z in sets(2, 2, 1, 4, 5))
    wide = [z.detach().double().requires_grad_() for z in (x, y)]
    for second in (True, False):
        found, expected = (
            _penalty(f, pair[0], pair[1] if second else None)
            for f, pair in ((all_pairs.squared_all_pairs, (x, y)), (eager_all_pairs.squared_all_pairs, wide))
        )
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-6)


def _penalty(function: Values, x: Tensor, y: Tensor | None) -> Tensor:
    (gradient,) = torch.autograd.grad(function(x, y, request()).sum(), x, create_graph=True)
    return torch.autograd.grad(gradient.square().sum(), x)[0]


def operations_keep_their_promises() -> None:
    x, y = (z.requires_grad_() for z in sets(2, 3, 1, 3, 4))
    numbers = all_pairs.arguments(request("sum"))
    torch.library.opcheck(all_pairs._all_pairs, (x, y, *numbers, False))
    with torch.no_grad():
        square = all_pairs._all_pairs(x, y, *numbers, False)
    torch.library.opcheck(
        all_pairs._all_pairs_gradients,
        (x.detach(), y.detach(), square, True, False, *numbers, False),
        test_utils=("test_schema", "test_faketensor"),
    )


def one_graph_with_its_gradient() -> None:
    ran = _runs("values", "gradients")
    x, y = sets(2, 3, 1, 3, 4)
    x.requires_grad_()

    def loss(x: Tensor, y: Tensor) -> Tensor:
        of_x = pairwise.distance(x, data_range=1.0, window=interpreted.WINDOW)
        return pairwise.distance(x, y, data_range=1.0, window=interpreted.WINDOW).mean() - of_x.mean() / 2

    value = torch.compile(loss, fullgraph=True, backend="aot_eager")(x, y)
    (gradient,) = torch.autograd.grad(value, x)
    assert sorted(ran) == ["gradients"] * 2 + ["values"] * 2
    expected = loss(x, y)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, x)[0])


def bits_are_the_same_again() -> None:
    x, y = sets(18, 3, 1, 4, 5)
    first, second = (_with_gradients(all_pairs.squared_all_pairs, x, y, request()) for _ in range(2))
    assert all(torch.equal(*two) for two in zip(first, second, strict=True))


def what_fails_is_said_once_and_done_otherwise() -> None:
    x, y = sets(3, 2, 1, 4, 5)
    for broken in ("values", "gradients"):
        kept, launching._said, launching._trouble = getattr(all_pairs._Block, broken), False, ""
        setattr(all_pairs._Block, broken, interpreted._fail)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            compared(x, y, request())
            compared(x, None, request())
        assert [type(warning.message) for warning in said] == [launching.EngineWarning]
        assert "out of luck" in str(said[0].message), said[0].message
        setattr(all_pairs._Block, broken, kept)


def _runs(*names: str) -> list[str]:
    """What is done for blocks from now on."""
    ran: list[str] = []
    for name in names or ("values",):

        def noted(self: object, *of: object, name: str = name, run: object = getattr(all_pairs._Block, name)) -> object:
            ran.append(name)
            return run(self, *of)  # type: ignore[operator]

        setattr(all_pairs._Block, name, noted)
    return ran


CHECKS = {
    "numbers": (
        product_of_tiles_and_channels,
        sum_of_blocks_of_sets,
        centred_of_windows_apart,
        uncentred_of_windows_with_gaps,
        one_set_against_itself,
        large_windows,
        half_precision,
        pixels_of_other_ranges,
        pixels_far_from_zero,
        what_would_leave_float32_is_nan,
        nearly_equal_images,
        tones_and_bright_flat_images,
        nan_stays_with_its_image,
        weights_of_pairs_far_apart_in_size,
    ),
    "wiring": (
        functions_of_all_pairs_take_kernels,
        what_kernels_do_not_take_goes_elsewhere,
        only_gradients_that_are_asked_for_are_computed,
        second_derivatives,
        operations_keep_their_promises,
        one_graph_with_its_gradient,
        bits_are_the_same_again,
        what_fails_is_said_once_and_done_otherwise,
    ),
}


if __name__ == "__main__":
    OFF.clear()
    interpreted.main(CHECKS[sys.argv[1]])
