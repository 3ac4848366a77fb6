"""d^2 of all pairs of images on the CPU, and its gradient, in bounded memory whatever the number of images.

The kernels set a group of images (one a vector lane) against single images, for one channel and some rows of pixels
at a time (a panel). Here one set is cut into groups, the other into chunks that fit the memory, and threads take
the groups one after the other. Nothing of a pair is kept: the backward pass computes it anew.

Only plain float32 and float64 tensors come here (see `ssimgen.engine`). Second derivatives are those of the eager
engine: a backward pass that must itself be differentiable differentiates it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from ssimgen.engine import eager_all_pairs
from ssimgen.engine.fused import all_pairs_kernels as kernels
from ssimgen.engine.fused import workers
from ssimgen.engine.spec import Advance, PatchDistance

_Array = NDArray[Any]
_T = TypeVar("_T")

_MEMORY = 32 * 2**20  # bytes of scratch, shared by all threads
_COLUMNS, _MULTIPLICATIONS = 24, 264  # so many columns of positions are worked on at once, with no more code than that
_ROWS = 10  # so many rows of positions, that their sums fit the registers of a CPU
_TASKS_PER_THREAD = 4
_UNIT_C2 = 9e-4  # images are scaled to this c2, so that no product of denominators leaves the range of float32
_FLAT = 1e-15  # variance of a constant patch after rounding in float64; to call such patches flat moves d^2 by < 1e-6


def squared_all_pairs(
    x: Float[Tensor, "n C H W"],
    y: Float[Tensor, "m C H W"] | None,
    patch: PatchDistance,
    advance: Advance | None = None,
) -> Float[Tensor, "n m"]:
    """Mean d^2 over channels and positions, of all pairs; y = None is x against itself."""
    if torch.is_grad_enabled() and (x.requires_grad or (y is not None and y.requires_grad)):
        square: Tensor = _SquaredAllPairs.apply(x, y, patch, advance)
        return square
    return _values(x, y, patch, advance)


class _SquaredAllPairs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor | None, patch: PatchDistance, advance: Advance | None) -> Tensor:
        ctx.patch = patch
        ctx.save_for_backward(x, y)
        return _values(x, y, patch, advance)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, y = ctx.saved_tensors
        gradients = _differentiable_gradients if torch.is_grad_enabled() else _gradients
        return *gradients(x, y, ctx.patch, upstream, *ctx.needs_input_grad[:2]), None, None


def _differentiable_gradients(
    x: Tensor, y: Tensor | None, patch: PatchDistance, upstream: Tensor, to_x: bool, to_y: bool
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients as functions of x, y and upstream that can be differentiated again."""
    x = x.view_as(x)  # a node of its own, even where x and y are one tensor
    y = None if y is None else y.view_as(y)
    wanted = [z for z, wanted in ((x, to_x), (y, to_y)) if z is not None and wanted]
    square = eager_all_pairs.squared_all_pairs(x, y, patch)
    found = iter(torch.autograd.grad(square, wanted, upstream, create_graph=True))
    return next(found) if to_x else None, next(found) if to_y else None


def _values(x: Tensor, y: Tensor | None, patch: PatchDistance, advance: Advance | None) -> Tensor:
    second = x if y is None else y
    out = torch.zeros(len(x), len(second), dtype=x.dtype, device=x.device)
    if len(second) < len(x):  # the larger set fills the lanes best
        _AllPairs(second, x, patch, False, (1, len(second))).add_values(out, advance)
    else:
        _AllPairs(x, second, patch, y is None, (len(second), 1)).add_values(out, advance)
    return out


def _gradients(
    x: Tensor, y: Tensor | None, patch: PatchDistance, upstream: Tensor, to_x: bool, to_y: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of sum(upstream * d^2) to x and y, None where not asked for."""
    upstream = upstream.contiguous()
    if y is None:
        gradient = _zeros(x)
        _AllPairs(x, x, patch, True, (len(x), 1)).add_gradients(upstream, gradient, gradient)
        return gradient, None
    if to_x and (not to_y or len(y) < len(x)):  # a gradient to one set alone costs least if that is the grouped one
        to_first, to_second = _zeros(y) if to_y else None, _zeros(x)
        _AllPairs(y, x, patch, False, (1, len(y))).add_gradients(upstream, to_first, to_second)
        return to_second, to_first
    to_first, to_second = _zeros(x) if to_x else None, _zeros(y)
    _AllPairs(x, y, patch, False, (len(y), 1)).add_gradients(upstream, to_first, to_second)
    return to_first, to_second


class _Panel(NamedTuple):
    """One channel of some rows of pixels, with `down` rows of window positions."""

    channel: int
    top: int
    height: int
    down: int

    def of(self, images: Tensor, begin: int, end: int) -> _Array:
        """The panel in the images begin, ..., end - 1, a view (n, H, W)."""
        return images.detach().numpy()[begin:end, self.channel, self.top : self.top + self.height]


class _AllPairs:
    """Pairs of a first set, whose images are taken one by one, and a second, taken in groups.

    If `itself`, both are the same set, and only pairs i < j are computed. `steps` are the distances, in the flat
    matrix of all pairs, from pair (i, j) to (i + 1, j) and to (i, j + 1).
    """

    def __init__(
        self, first: Tensor, second: Tensor, patch: PatchDistance, itself: bool, steps: tuple[int, int]
    ) -> None:
        self.first, self.second, self.itself = first, second, itself
        self.window = patch.window
        self.threads = torch.get_num_threads()
        self.dtype = np.dtype(str(first.dtype).removeprefix("torch."))
        self.lanes = kernels.lanes_of(self.dtype)

        _, channels, height, self.width = first.shape
        down, self.across = self.window.positions(height), self.window.positions(self.width)
        self.columns = _even_part(self.across, max(1, min(_COLUMNS, _MULTIPLICATIONS // self.window.size)))
        self.panels = self._cut(channels, down)
        self.rows = _even_part(min(panel.down for panel in self.panels), _ROWS)
        self.images = kernels.image_kernels(self.window.size, self.window.stride, self.lanes)
        self.tile = (self.window.size, self.window.stride, patch.form, self.columns, self.rows, self.lanes)

        beta, self.scale = self.window.beta, math.sqrt(_UNIT_C2 / patch.c2)
        self.c1 = patch.c1 * self.scale**2
        taps = np.array(self.window.taps, self.dtype)
        flat = _FLAT if self.dtype == np.float32 else -1.0
        self.units = kernels.Units(patch.lo, self.scale, _UNIT_C2, beta, flat, taps.astype(np.float64))
        constants = np.array([self.c1, 2 * _UNIT_C2, 2 * beta, 1 / math.sqrt(2 * beta)], self.dtype)
        self.request = kernels.Request(taps, constants, 1 / (channels * down * self.across), itself, *steps)
        self.lock = threading.Lock()

    def _cut(self, channels: int, down: int) -> list[_Panel]:
        """Panels small enough that every thread has room for its group."""
        window = self.window
        bytes_a_pixel = 16 * self.lanes * self.dtype.itemsize  # about what a `_GroupWithGradient` holds
        height = _MEMORY // 2 // (self.threads * bytes_a_pixel * self.width)
        parts = -(-down // max(1, (height - window.size) // window.stride + 1))
        starts = [down * part // parts for part in range(parts + 1)]
        return [
            _Panel(channel, begin * window.stride, (end - begin - 1) * window.stride + window.size, end - begin)
            for channel in range(channels)
            for begin, end in pairwise(starts)
        ]

    def add_values(self, out: Tensor, advance: Advance | None) -> None:
        """Add d^2 of all pairs to the matrix `out`."""
        kernel = kernels.values_kernel(*self.tile)
        matrix = out.view(-1).numpy()

        def task(singles: _Singles, groups: _Spares[_Group], begin: int, end: int, column: int) -> None:
            with groups.one() as group:
                group.read(self.second, column, len(self.second))
                kernel(singles.arrays, begin, end, group.arrays, self.request, group.total, matrix)

        for panel in self.panels:
            groups = _Spares(partial(_Group, self, panel))
            for singles in self._chunks(panel, groups, 0):
                self._run(partial(task, singles, groups), singles, advance)

    def add_gradients(self, upstream: Tensor, to_first: Tensor | None, to_second: Tensor) -> None:
        """Add the gradients of sum(upstream * d^2) to `to_second`, and to `to_first` if there is one."""
        both = to_first is not None
        kernel = kernels.gradients_kernel(*self.tile, both)
        matrix = upstream.view(-1).numpy()

        def task(
            singles: _Singles,
            groups: _Spares[_GroupWithGradient],
            sums: _Spares[_SingleSums],
            begin: int,
            end: int,
            column: int,
        ) -> None:
            with groups.one() as group, sums.one() as own:
                group.read(self.second, column, len(self.second))
                group.clear()
                kernel(
                    singles.arrays, begin, end, group.arrays, self.request, matrix, group.room, own.arrays, group.sums
                )
                group.add_gradient(to_second)

        for panel in self.panels:
            groups = _Spares(partial(_GroupWithGradient, self, panel))
            for singles in self._chunks(panel, groups, self.threads if both else 0):
                sums = _Spares(partial(_SingleSums, self, panel, singles.count if both else 0))
                self._run(partial(task, singles, groups, sums), singles, None)
                if to_first is not None:
                    self._close_singles(to_first, singles, groups, sums.made)

    def _chunks(self, panel: _Panel, groups: _Spares[Any], sums: int) -> Iterator[_Singles]:
        """The first set in parts that fit the memory, with as many arrays of gradient sums beside."""
        numbers = kernels.SINGLE_STATISTICS + 1 + sums * (kernels.SLOPES + 1)
        images = _MEMORY // 2 // (numbers * panel.height * self.width * self.dtype.itemsize)
        size = _even_part(len(self.first), max(images, self.lanes))
        for start in range(0, len(self.first), size):
            yield _Singles(self, panel, start, min(start + size, len(self.first)), groups)

    def _run(self, task: Callable[[int, int, int], None], singles: _Singles, advance: Advance | None) -> None:
        """task(begin, end, column) for blocks of the chunk and groups of the second set, on all threads."""
        columns = range(0, len(self.second), self.lanes)
        blocks = -(-_TASKS_PER_THREAD * self.threads // len(columns))
        block = max(self.lanes, -(-singles.count // blocks))
        parts = [(begin, column) for column in reversed(columns) for begin in range(0, singles.count, block)]
        share = 1 / (len(self.panels) * len(self.first) * len(self.second))

        def run(part: int) -> None:
            begin, column = parts[part]
            end = min(begin + block, singles.count)
            members = min(self.lanes, len(self.second) - column)
            last = column + members - singles.start if self.itself else end  # of itself, pairs i < j
            if begin < last:
                task(begin, min(end, last), column)
            if advance is not None:
                advance((end - begin) * members * share)

        workers.run(run, len(parts))

    def _close_singles(
        self,
        gradient: Tensor,
        singles: _Singles,
        groups: _Spares[_GroupWithGradient],
        sums: list[_SingleSums],
    ) -> None:
        """Add up the threads' sums for the images of a chunk, and from them the gradient."""
        total, *others = sums
        for other in others:
            for into, addend in zip(total.arrays, other.arrays, strict=True):
                into += addend

        def task(part: int) -> None:
            first = part * self.lanes
            with groups.one() as group:
                group.read(self.first, singles.start + first, singles.start + singles.count)
                kernels.interleave_kernel()(total.arrays, first, group.arrays.members, group.sums)
                group.add_gradient(gradient)

        workers.run(task, -(-singles.count // self.lanes))


class _Group:
    """Scratch of one thread: up to `lanes` interleaved images of a panel, and room to work on their pairs."""

    def __init__(self, pairs: _AllPairs, panel: _Panel) -> None:
        self._pairs, self._panel = pairs, panel
        lanes, across, dtype = pairs.lanes, pairs.across, pairs.dtype
        self.arrays = kernels.Group(
            _empty(panel.height, pairs.width, lanes, dtype=dtype),
            _empty(across, panel.down, kernels.GROUP_STATISTICS, lanes, dtype=dtype),
            0,
            0,
            _empty(panel.height, pairs.columns, lanes, dtype=dtype),
            _empty(pairs.rows, lanes, dtype=dtype),
        )
        self.total = np.empty(lanes)
        self._preparation = kernels.PreparationRoom(
            np.empty((pairs.width, lanes)),
            np.empty((pairs.window.size, 2, across, lanes)),
            np.empty((panel.down, across, lanes)),
            np.empty((panel.down, across, lanes)),
        )

    def read(self, images: Tensor, first: int, end: int) -> None:
        """Take the images from number `first` on, as many as fit, before `end`."""
        planes = np.ascontiguousarray(self._panel.of(images, first, min(first + self._pairs.lanes, end)))
        self.arrays = self.arrays._replace(first=first, members=len(planes))
        self._pairs.images.prepare(planes, self._pairs.units, self._preparation, self.arrays)


class _GroupWithGradient(_Group):
    """The same with the sums that make the gradient of the group."""

    def __init__(self, pairs: _AllPairs, panel: _Panel) -> None:
        super().__init__(pairs, panel)
        lanes, across, slopes, dtype = pairs.lanes, pairs.across, kernels.SLOPES, pairs.dtype
        self.sums = kernels.Sums(
            _empty(panel.height, pairs.width, lanes, dtype=dtype),
            _empty(across, panel.down, slopes, lanes, dtype=dtype),
        )
        self.room = kernels.GradientRoom(
            _empty(lanes, dtype=dtype),
            _empty(pairs.rows, lanes, dtype=dtype),
            _empty(pairs.rows, slopes, lanes, dtype=dtype),
            _empty(panel.height, pairs.columns, lanes, dtype=dtype),
        )
        self.room.strip[:] = 0
        self._spread_rows = _empty(panel.height, across, slopes, lanes, dtype=dtype)
        self._spread_pixels = _empty(pairs.width, slopes, lanes, dtype=dtype)

    def clear(self) -> None:
        """Set the sums to zero."""
        for array in self.sums:
            array[:] = 0

    def add_gradient(self, gradient: Tensor) -> None:
        """Close the gradient of the group and add it to that of all images."""
        pairs, panel, group = self._pairs, self._panel, self.arrays
        own = np.empty((group.members, panel.height, pairs.width), pairs.dtype)
        scale = math.sqrt(2 * pairs.window.beta) * pairs.scale
        pairs.images.finish(group, self.sums, pairs.request.taps, scale, self._spread_rows, self._spread_pixels, own)
        with pairs.lock:  # several blocks of the first set may meet the same group
            panel.of(gradient, group.first, group.first + group.members)[:] += own


class _Singles:
    """Images start, ..., end - 1 of the first set, one by one, with their statistics."""

    def __init__(self, pairs: _AllPairs, panel: _Panel, start: int, end: int, groups: _Spares[_Group]) -> None:
        self.start, self.count = start, end - start
        pixels = _empty(self.count, panel.height, pairs.width, dtype=pairs.dtype)
        statistics = _empty(self.count, pairs.across, panel.down, kernels.SINGLE_STATISTICS, dtype=pairs.dtype)
        self.arrays = kernels.Singles(pixels.reshape(-1), statistics.reshape(-1), start)

        def task(part: int) -> None:
            first = part * pairs.lanes
            with groups.one() as group:
                group.read(pairs.first, start + first, end)
                kernels.separate_kernel()(group.arrays, pairs.c1, pixels[first:], statistics[first:])

        workers.run(task, -(-self.count // pairs.lanes))


class _SingleSums:
    """Sums of one thread that make the gradients of `count` images of the first set."""

    def __init__(self, pairs: _AllPairs, panel: _Panel, count: int) -> None:
        sizes = panel.height * pairs.width, panel.down * pairs.across * kernels.SLOPES
        self.arrays = kernels.Sums(*(np.zeros(count * size, pairs.dtype) for size in sizes))


class _Spares(Generic[_T]):
    """Objects made when they are needed and used again, each by one thread at a time."""

    def __init__(self, make: Callable[[], _T]) -> None:
        self._make = make
        self._free: list[_T] = []
        self.made: list[_T] = []

    @contextmanager
    def one(self) -> Iterator[_T]:
        try:
            item = self._free.pop()
        except IndexError:
            item = self._make()
            self.made.append(item)
        try:
            yield item
        finally:
            self._free.append(item)


def _even_part(count: int, most: int) -> int:
    """The size of parts, at most `most`, that cut `count` with the least left over in the last."""
    return -(-count // -(-count // most))


def _empty(*shape: int, dtype: np.dtype[Any]) -> _Array:
    """An array that begins at a whole vector, as PyTorch's memory does."""
    number = torch.float32 if dtype == np.float32 else torch.float64
    return torch.empty(shape, dtype=number, device="cpu").numpy()


def _zeros(images: Tensor) -> Tensor:
    return torch.zeros(images.shape, dtype=images.dtype, device=images.device)
