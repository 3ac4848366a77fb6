"""Mean d^2 of image pairs on a GPU and its first derivatives.

Under torch.compile they are operations that PyTorch's compiler knows the shape of; else an autograd function, which
takes the host less time. Second derivatives are those of the eager engine. Where Triton is missing, too old or fails to
compile, one warning says so, and the eager engine serves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.library import custom_op

from ssimgen._precision import dtype_of_result
from ssimgen.engine import eager
from ssimgen.engine.spec import Over, PatchDistance
from ssimgen.engine.triton import launching
from ssimgen.engine.triton.launching import LaunchError, launch, launched, say
from ssimgen.engine.triton.request import SCHEMA, Request, arguments, float32_serves
from ssimgen.windows import AxisWindow

_MOST_TAPS = 16  # more would not fit into registers
_AXES_OF_MEANS: dict[Over, int] = {"positions": 2, "images": 1, "batch": 0}
_MAPS = (0, 3, 4)  # kept for a gradient to nothing, to x, to both

_FARTHEST = 1e4  # pixels from the middle one of their plane, in sqrt(c2), beyond which means are NaN


def can(x: Tensor, patch: PatchDistance) -> bool:
    """Whether kernels take such images and requests: planes, at every position, in float32 or half precision."""
    takes = (
        x.ndim == 4
        and x.dtype in (torch.float32, torch.float16, torch.bfloat16)
        and x.shape[2] * x.shape[3] < 2**31
        and all(axis.stride == 1 and axis.size <= _MOST_TAPS for axis in patch.window.axes(2))
        and float32_serves(patch)
    )
    return takes and launching.possible()


def squared_mean(x: Tensor, y: Tensor, patch: PatchDistance, over: Over = "positions") -> Tensor:
    """d^2 averaged over the window positions of each channel, (B, C, H, W) x 2 -> (B, C), in float32; or over images,
    -> (B,); or over the batch, -> ().

    NaN for planes with pixels further than 1e4 sqrt(c2) from the middle one: float32 does not serve there.
    """
    needs = [torch.is_grad_enabled() and z.requires_grad for z in (x, y)]
    if needs == [False, True]:  # d^2 is symmetric
        x, y = y, x
    maps = _MAPS[sum(needs)]
    mean: Tensor
    try:
        if torch.compiler.is_compiling():
            mean, _ = _pair_means(x, y, *arguments(patch), over, maps)
        elif maps:
            mean = _SquaredMean.apply(x, y, patch, over)
        else:
            mean, _ = _means(x, y, patch, over, 0)
    except LaunchError as error:
        say(str(error))
        mean = _by_pytorch(over)(x, y, patch)
    return mean


def _by_pytorch(over: Over) -> Callable[[Tensor, Tensor, PatchDistance], Tensor]:
    return lambda *request: eager.averaged(eager.squared_mean(*request), over)


class _SquaredMean(torch.autograd.Function):
    """The means, and their first derivatives by kernels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, patch: PatchDistance, over: Over) -> Tensor:
        mean, kept = _means(x, y, patch, over, _MAPS[sum(ctx.needs_input_grad[:2])])
        ctx.save_for_backward(x, y, mean, kept)
        ctx.patch, ctx.over = patch, over
        return mean

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, y, mean, kept = ctx.saved_tensors
        needs = ctx.needs_input_grad[0], ctx.needs_input_grad[1]
        if not torch.is_grad_enabled():
            try:
                to_x, to_y = _gradients(x, y, mean, kept, upstream, ctx.patch)
                return to_x if needs[0] else None, to_y if needs[1] else None, None, None
            except LaunchError as error:
                say(str(error))
        return *_differentiable(x, y, upstream, ctx.patch, ctx.over, needs), None, None


def _differentiable(
    x: Tensor, y: Tensor, upstream: Tensor, patch: PatchDistance, over: Over, needs: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients by the eager engine, with a graph where one is wanted."""
    again = torch.is_grad_enabled()
    return eager.gradients(_by_pytorch(over), x, y, patch, upstream, needs, create_graph=again)


# --- under torch.compile ------------------------------------------------------------------------------------------


@custom_op(
    "ssimgen::pair_means",
    mutates_args=(),
    schema=f"(Tensor x, Tensor y, {SCHEMA}, str over, int maps) -> (Tensor, Tensor)",
)
def _pair_means(x: Tensor, y: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    """Means, and maps (maps, B C, h, pitch) for the gradient."""
    *of_request, over, maps = others
    return _means(x, y, Request.of(*of_request).patch, over, maps)


@custom_op(
    "ssimgen::pair_gradients",
    mutates_args=(),
    schema=f"(Tensor x, Tensor y, Tensor mean, Tensor kept, Tensor upstream, {SCHEMA}) -> (Tensor, Tensor)",
)
def _pair_gradients(
    x: Tensor, y: Tensor, mean: Tensor, kept: Tensor, upstream: Tensor, *others: Any
) -> tuple[Tensor, Tensor]:
    """Gradients to x, and to y if four maps were kept; else the latter is empty."""
    return _gradients(x, y, mean, kept, upstream, Request.of(*others).patch)


@_pair_means.register_fake
def _(x: Tensor, y: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    *of_request, over, maps = others
    kept = x.new_empty(_shape_of_maps(Request.of(*of_request).patch, x.shape, maps), dtype=torch.float32)
    return x.new_empty(_shape_of_means(x, over), dtype=dtype_of_result(x)), kept


@_pair_gradients.register_fake
def _(x: Tensor, y: Tensor, mean: Tensor, kept: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return _places_for(x), _places_for(y) if len(kept) == _MAPS[2] else y.new_empty(0)


def _shape_of_means(x: Tensor, over: Over) -> torch.Size:
    return x.shape[: _AXES_OF_MEANS[over]]


def _places_for(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, y, *ctx.request, ctx.over, _ = inputs
    ctx.save_for_backward(x, y, *output)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)  # no zeros as large as the maps


def _of_operation(ctx: Any, upstream: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    x, y, mean, kept = ctx.saved_tensors
    needs = ctx.needs_input_grad[0], ctx.needs_input_grad[1]
    others = [None] * (len(ctx.request) + 2)
    if upstream is None:
        return None, None, *others
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        return *_differentiable(x, y, upstream, Request.of(*ctx.request).patch, ctx.over, needs), *others
    to_x, to_y = _pair_gradients(x, y, mean, kept, upstream, *ctx.request)
    return to_x if needs[0] else None, to_y if needs[1] else None, *others


_pair_means.register_autograd(_of_operation, setup_context=_setup)


# --- what kernels are started with ----------------------------------------------------------------------------------


_TOGETHER = 4, 2, 1  # rows, as many as half a window has
_ROWS = 4, 64  # of a program: least and most
_FLOWING = 16  # rows of a program from which on loads are made ahead
_WARPS = 10  # for each multiprocessor
_SUMMED, _SUMMED_BY_WARP = 8192, 1024  # sums that become one at once, and of those a warp takes


@cache
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


class _Tile(NamedTuple):
    """How a plane is cut: rows and lanes of a program, columns of a lane; loads ahead; rows that are taken at once."""

    rows: int
    lanes: int
    columns: int
    stages: int = 1
    together: int = 1

    @classmethod
    def of(cls, device: torch.device, planes: int, height: int, width: int, columns: int, taps: int) -> _Tile:
        """Of an area of so many places: as many rows as leave each multiprocessor enough to do."""
        lanes = 64 if width >= 256 * columns else 32
        warps = planes * -(-width // (32 * columns))
        rows = _ROWS[-1]
        while rows > _ROWS[0] and warps * -(-height // rows) < _WARPS * _multiprocessors(device):
            rows //= 2
        together = next(count for count in _TOGETHER if 2 * count <= taps or count == 1)
        return cls(rows, lanes, columns, 2 if rows >= _FLOWING else 1, together)

    def grid(self, planes: int, height: int, width: int) -> tuple[int, int, int]:
        return planes, -(-height // self.rows), -(-width // (self.lanes * self.columns))

    @property
    def warps(self) -> int:
        return max(1, self.lanes // 32)


class _Plan(NamedTuple):
    """What images of a size need for a request: as each call would find it anew, which takes the host a while."""

    positions: tuple[int, int]
    maps: tuple[int, int, int, int]  # their shape
    forward: _Tile
    backward: _Tile
    sizes: tuple[int, int, int, int]
    numbers: tuple[float, ...]  # c1, c2, lo in two parts of float32, beta, and the square of the farthest
    taps: tuple[tuple[float, ...], tuple[float, ...]]


def _columns(width: int, window: AxisWindow) -> int:
    """Neighbouring pixels that a lane takes at once: rows begin at multiples of them."""
    return 2 if width % 2 == 0 and window.size > 1 else 1


def _shape_of_maps(patch: PatchDistance, shape: torch.Size, maps: int) -> tuple[int, int, int, int]:
    """Rows end with zeros up to a multiple of the columns of a lane."""
    vertical, horizontal = patch.window.axes(2)
    columns = _columns(shape[3], horizontal)
    across = -(-horizontal.positions(shape[3]) // columns) * columns
    return maps, shape[0] * shape[1], vertical.positions(shape[2]), across


@lru_cache(maxsize=256)
def _plan(patch: PatchDistance, shape: torch.Size, maps: int, device: torch.device) -> _Plan:
    batch, channels, height, width = shape
    planes = batch * channels
    vertical, horizontal = patch.window.axes(2)
    down, across = vertical.positions(height), horizontal.positions(width)
    columns = _columns(width, horizontal)
    lo = float(np.float32(patch.lo))
    return _Plan(
        (down, across),
        _shape_of_maps(patch, shape, maps),
        _Tile.of(device, planes, down, across, columns, vertical.size),
        _Tile.of(device, planes, height, width, columns, vertical.size),
        (height, width // columns, down, across),
        (patch.c1, patch.c2, lo, patch.lo - lo, patch.window.factor(2), _FARTHEST**2 * patch.c2),
        (vertical.taps, horizontal.taps),
    )


def _laid_out(x: Tensor) -> Tensor:
    """The numbers of an image, one beside the other in memory."""
    return x.resolve_neg().contiguous()


def _means(x: Tensor, y: Tensor, patch: PatchDistance, over: Over, maps: int) -> tuple[Tensor, Tensor]:
    return launched(lambda: _forward(_laid_out(x), _laid_out(y), patch, over, maps), x)


def _gradients(
    x: Tensor, y: Tensor, mean: Tensor, kept: Tensor, upstream: Tensor, patch: PatchDistance
) -> tuple[Tensor, Tensor]:
    return launched(lambda: _backward(_laid_out(x), _laid_out(y), mean, kept, upstream, patch), x)


def _forward(x: Tensor, y: Tensor, patch: PatchDistance, over: Over, maps: int) -> tuple[Tensor, Tensor]:
    from ssimgen.engine.triton import pair_kernels

    plan = _plan(patch, x.shape, maps, x.device)
    tile, planes = plan.forward, plan.maps[1]
    grid = tile.grid(planes, *plan.positions)
    programs = grid[1] * grid[2]
    kept = x.new_empty(plan.maps, dtype=torch.float32)
    sums = x.new_empty((planes, programs), dtype=torch.float32)
    mean = x.new_empty(_shape_of_means(x, over), dtype=torch.float32)
    launch(
        pair_kernels.forward,
        grid,
        (x, y, sums, kept),
        (*plan.sizes, tile.rows, *plan.numbers),
        (*plan.taps, patch.form, maps, *tile[1:]),
        tile.warps,
    )
    of_mean = planes // mean.numel()
    sums_of_mean, places = of_mean * programs, of_mean * math.prod(plan.positions)
    block = min(_SUMMED, 1 << (sums_of_mean - 1).bit_length())
    launch(
        pair_kernels.finish,
        (mean.numel(), 1, 1),
        (sums, mean),
        (sums_of_mean, places),
        (block,),
        max(1, block // _SUMMED_BY_WARP),
    )
    return mean, kept


def _backward(
    x: Tensor, y: Tensor, mean: Tensor, kept: Tensor, upstream: Tensor, patch: PatchDistance
) -> tuple[Tensor, Tensor]:
    from ssimgen.engine.triton import pair_kernels

    maps = len(kept)
    plan = _plan(patch, x.shape, maps, x.device)
    tile, planes = plan.backward, plan.maps[1]
    upstream = upstream.flatten()
    g_x = _places_for(x)
    g_y = _places_for(y) if maps == _MAPS[2] else g_x
    launch(
        pair_kernels.backward,
        tile.grid(planes, *x.shape[2:]),
        (x, y, kept, upstream, mean, g_x, g_y),
        (planes // mean.numel(), *upstream.stride(), *plan.sizes, tile.rows),
        (*plan.taps, maps, *tile[1:4]),
        tile.warps,
    )
    return g_x, g_y if maps == _MAPS[2] else y.new_empty(0)
