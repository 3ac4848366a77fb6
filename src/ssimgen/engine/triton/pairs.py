"""Mean d^2 of image pairs on a GPU and its first derivatives, as operations that PyTorch's compiler knows the shape of.

Second derivatives are those of the eager engine. Where Triton is missing, too old or fails to compile, one warning says
so, and the eager engine serves.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import accumulate
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from ssimgen._precision import dtype_of_result
from ssimgen.engine import eager
from ssimgen.engine.spec import Form, PatchDistance, positions
from ssimgen.windows import Window

_LEAST_VERSION = (3, 6)
_MOST_TAPS = 16  # more would not fit into registers
_MAPS = (0, 3, 4)  # kept for a gradient to nothing, to x, to both


def _imported() -> tuple[Any, str]:
    """The kernels, or why there are none."""
    try:
        import triton
    except ImportError:
        return None, "there is no package triton, which comes with PyTorch for GPUs"
    if tuple(int(part) for part in triton.__version__.split(".")[:2]) < _LEAST_VERSION:
        return None, f"triton {triton.__version__} is older than {'.'.join(map(str, _LEAST_VERSION))}"
    from ssimgen.engine.triton import pair_kernels

    return pair_kernels, ""


_kernels, _trouble = _imported()
_said = False


class EngineWarning(UserWarning):
    """The engine that was asked for cannot run, and another one does."""


def can(x: Tensor, window: Window) -> bool:
    """Whether kernels take such images and windows: planes, at every position, in float32 or half precision."""
    takes = (
        x.ndim == 4
        and x.dtype in (torch.float32, torch.float16, torch.bfloat16)
        and x.shape[2] * x.shape[3] < 2**31
        and all(axis.stride == 1 and axis.size <= _MOST_TAPS for axis in window.axes(2))
    )
    if takes and _trouble:
        _say(_trouble)
        return False
    return takes


def squared_mean(x: Tensor, y: Tensor, patch: PatchDistance) -> Tensor:
    """d^2 averaged over the window positions of each channel, (B, C, H, W) x 2 -> (B, C), in float32."""
    needs = [torch.is_grad_enabled() and z.requires_grad for z in (x, y)]
    if needs == [False, True]:  # d^2 is symmetric
        x, y = y, x
    vertical, horizontal = (list(axis.taps) for axis in patch.window.axes(2))
    numbers = patch.c1, patch.c2, patch.lo, patch.window.factor(2)
    mean: Tensor
    try:
        mean, _ = _pair_means(x, y, vertical, horizontal, patch.form, *numbers, _MAPS[sum(needs)])
    except _LaunchError as error:
        _say(str(error))
        mean = eager.squared_mean(x, y, patch)
    return mean


@torch.library.custom_op("ssimgen::pair_means", mutates_args=())
def _pair_means(
    x: Tensor,
    y: Tensor,
    vertical: Sequence[float],
    horizontal: Sequence[float],
    form: str,
    c1: float,
    c2: float,
    lo: float,
    beta: float,
    maps: int,
) -> tuple[Tensor, Tensor]:
    """Means (B, C), and maps (maps, B C, h, pitch) for the gradient."""
    request = _Request.of(vertical, horizontal, form, c1, c2, lo, beta)
    kept = x.new_empty(request.maps_of(x, maps), dtype=torch.float32)
    mean: Tensor = _launched(lambda kernels: _forward(kernels, x.contiguous(), y.contiguous(), request, kept), x)
    return mean, kept


@torch.library.custom_op("ssimgen::pair_gradients", mutates_args=())
def _pair_gradients(
    x: Tensor,
    y: Tensor,
    kept: Tensor,
    upstream: Tensor,
    vertical: Sequence[float],
    horizontal: Sequence[float],
    form: str,
    c1: float,
    c2: float,
    lo: float,
    beta: float,
) -> tuple[Tensor, Tensor]:
    """Gradients to x, and to y if four maps were kept; else the latter is empty."""
    request = _Request.of(vertical, horizontal, form, c1, c2, lo, beta)
    both = len(kept) == _MAPS[2]
    pair = x.contiguous(), y.contiguous()
    gradients: tuple[Tensor, Tensor]
    gradients = _launched(lambda kernels: _backward(kernels, *pair, request, kept, upstream.contiguous(), both), x)
    return gradients


@_pair_means.register_fake
def _(x: Tensor, y: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    *request, maps = arguments
    kept = x.new_empty(_Request.of(*request).maps_of(x, maps), dtype=torch.float32)
    return x.new_empty(x.shape[:2], dtype=dtype_of_result(x)), kept


@_pair_gradients.register_fake
def _(x: Tensor, y: Tensor, kept: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    g_x = torch.empty_like(x, memory_format=torch.contiguous_format)
    return g_x, torch.empty_like(y, memory_format=torch.contiguous_format) if len(kept) == _MAPS[2] else y.new_empty(0)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, y, *ctx.request, _ = inputs
    ctx.save_for_backward(x, y, output[1])
    ctx.mark_non_differentiable(output[1])


def _gradients(ctx: Any, upstream: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    x, y, kept = ctx.saved_tensors
    needs = ctx.needs_input_grad[:2]
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        try:
            to_x, to_y = _pair_gradients(x, y, kept, upstream, *ctx.request)
            return to_x if needs[0] else None, to_y if needs[1] else None, *[None] * (len(ctx.request) + 1)
        except _LaunchError as error:
            _say(str(error))
    again = torch.is_grad_enabled()  # then the gradient must itself be differentiable
    patch = _Request.of(*ctx.request).patch
    g_x, g_y = eager.gradients(eager.squared_mean, x, y, patch, upstream, needs, create_graph=again)
    return g_x, g_y, *[None] * (len(ctx.request) + 1)


_pair_means.register_autograd(_gradients, setup_context=_setup)


class _Request(NamedTuple):
    """What is asked of the kernels."""

    patch: PatchDistance
    vertical: tuple[float, ...]
    horizontal: tuple[float, ...]
    beta: float

    @classmethod
    def of(
        cls,
        vertical: Sequence[float],
        horizontal: Sequence[float],
        form: str,
        c1: float,
        c2: float,
        lo: float,
        beta: float,
    ) -> _Request:
        taps = tuple(vertical), tuple(horizontal)
        return cls(PatchDistance(Window(taps, 1, beta), cast(Form, form), c1, c2, lo), *taps, beta)

    def maps_of(self, x: Tensor, maps: int) -> tuple[int, int, int, int]:
        """The shape of so many maps of images x; rows end with zeros up to a multiple of the columns of a lane."""
        down, across = positions(x, self.patch.window)
        together = _columns(x.shape[3])
        return maps, x.shape[0] * x.shape[1], down, -(-across // together) * together


class _Tile(NamedTuple):
    """How a plane is cut: rows and lanes of a program, columns of a lane, and how many programs there are."""

    rows: int
    lanes: int
    columns: int
    grid: tuple[int, int, int]

    @classmethod
    def of(cls, planes: int, height: int, width: int, together: int) -> _Tile:
        """Of an area of so many places. Sizes are chosen by what compiles without spilling registers, and have not been
        measured."""
        rows, lanes = 32, 128
        while lanes > 32 and lanes * together >= 2 * width:
            lanes //= 2
        return cls(rows, lanes, together, (planes, -(-height // rows), -(-width // (lanes * together))))

    @property
    def warps(self) -> int:
        return max(1, self.lanes // 32)


def _columns(width: int) -> int:
    """Neighbouring pixels that a lane reads at once: rows begin at multiples of them."""
    return 2 if width % 2 == 0 else 1


def _forward(kernels: Any, x: Tensor, y: Tensor, request: _Request, kept: Tensor) -> Tensor:
    batch, channels, height, width = x.shape
    down, across = positions(x, request.patch.window)
    tile = _Tile.of(batch * channels, down, across, _columns(width))
    sums = x.new_empty((batch * channels, tile.grid[1] * tile.grid[2]), dtype=torch.float32)
    patch, of_map = request.patch, kept.shape[1] * kept.shape[2] * kept.shape[3]
    kernels.forward[tile.grid](
        *(x, y, sums, kept, of_map, height, width, down, across),
        *(patch.c1, patch.c2, patch.lo, request.beta),
        *(request.vertical, request.horizontal, tuple(accumulate(request.vertical)), patch.form, len(kept)),
        *(tile.rows, tile.lanes, tile.columns),
        num_warps=tile.warps,
    )
    return (sums.sum(1, dtype=torch.float64) / (down * across)).to(torch.float32).view(batch, channels)


def _backward(
    kernels: Any, x: Tensor, y: Tensor, request: _Request, kept: Tensor, upstream: Tensor, both: bool
) -> tuple[Tensor, Tensor]:
    batch, channels, height, width = x.shape
    down, across = positions(x, request.patch.window)
    tile = _Tile.of(batch * channels, height, width, _columns(width))
    g_x, g_y = torch.empty_like(x), torch.empty_like(y) if both else y.new_empty(0)
    of_map = kept.shape[1] * kept.shape[2] * kept.shape[3]
    kernels.backward[tile.grid](
        *(x, y, kept, of_map, upstream, g_x, g_y, height, width, down, across),
        *(request.vertical, request.horizontal, len(kept), tile.rows, tile.lanes, tile.columns),
        num_warps=tile.warps,
    )
    return g_x, g_y


def _launched(launch: Callable[[Any], Any], x: Tensor) -> Any:
    """What a launch of kernels on the device of x gives."""
    try:
        with torch.cuda.device_of(x) if x.is_cuda else nullcontext():
            return launch(_kernels)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise _LaunchError(f"{type(error).__name__}: {error}") from error


class _LaunchError(RuntimeError):
    """Kernels did not compile, or not start. In a graph of torch.compile it is an error to the caller."""


def _say(trouble: str) -> None:
    global _trouble, _said
    _trouble = trouble
    if not _said and not torch.compiler.is_compiling():
        _said = True
        warnings.warn(
            f"the kernels for GPUs cannot run, PyTorch's operations do their work with the same results: {trouble}",
            EngineWarning,
            stacklevel=2,
        )
