"""Mean d^2 of all pairs on a GPU and its first derivatives, as operations that PyTorch's compiler knows the shape of.

Sets are cut into parts of so many images that their matrix takes a fixed memory, and of two parts, so many window
positions are worked on at once that the patches do. Nothing of a pair is kept: the backward pass computes it anew.
Second derivatives are those of the eager engine, which serves where launches fail, too.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.library import custom_op

from ssimgen._precision import cast
from ssimgen.engine import eager, eager_all_pairs
from ssimgen.engine.spec import Advance, PatchDistance, positions
from ssimgen.engine.triton import launching
from ssimgen.engine.triton.launching import LaunchError, launch, launched, say
from ssimgen.engine.triton.request import SCHEMA, Request, arguments, float32_serves

_MOST_TAPS = 16
_MOST_SQUARE, _MOST_UNCENTRED = 1e18, 1e8  # of pixels, over c2: what float32 holds, and tells from another
_SIDE = 2048  # images of a part
_SUMS, _PATCHES = 2**25, 3 * 2**23  # bytes at most
_PROGRAMS = 264  # that fill a large card: two for each of its 132 multiprocessors
_ADDENDS = 64  # of a sum in float32, at most, where memory allows
_TOGETHER = 1024  # pairs that a program finishes
_LEAST_PLACES = 16  # that a product of matrices sums over

_kernels = launching.kernels("all_pairs_kernels")
_gradient_kernels = launching.kernels("all_pairs_gradient_kernels")


def can(x: Tensor, patch: PatchDistance) -> bool:
    """Whether kernels take such images and windows: planes in float32 or half precision."""
    return (
        x.ndim == 4
        and x.dtype in (torch.float32, torch.float16, torch.bfloat16)
        and x[0].numel() < 2**31
        and all(axis.size <= _MOST_TAPS for axis in patch.window.axes(2))
        and float32_serves(patch)
        and launching.possible()
    )


def squared_all_pairs(x: Tensor, y: Tensor | None, patch: PatchDistance, advance: Advance | None = None) -> Tensor:
    """d^2 averaged over channels and window positions, (n, C, H, W), (m, C, H, W) -> (n, m), in float32; y = None is x
    against itself."""

    def block(x: Tensor, y: Tensor | None) -> Tensor:
        square: Tensor = _all_pairs(x, x if y is None else y, *arguments(patch), y is None)
        return square

    try:
        return eager_all_pairs.by_blocks(x, y, _SIDE, block, advance)
    except LaunchError as error:
        say(str(error))
        return eager_all_pairs.squared_all_pairs(x, y, patch)


@custom_op("ssimgen::all_pairs", mutates_args=(), schema=f"(Tensor x, Tensor y, {SCHEMA}, bool itself) -> Tensor")
def _all_pairs(x: Tensor, y: Tensor, *others: Any) -> Tensor:
    """Of x against itself, y is x again."""
    *request, itself = others
    square: Tensor = launched(lambda: _Block.of(x, y, Request.of(*request), itself).values(), x)
    return square


@_all_pairs.register_fake
def _(x: Tensor, y: Tensor, *_: Any) -> Tensor:
    return x.new_empty((len(x), len(y)), dtype=torch.float32)


@custom_op(
    "ssimgen::all_pairs_gradients",
    mutates_args=(),
    schema=f"(Tensor x, Tensor y, Tensor upstream, bool to_x, bool to_y, {SCHEMA}, bool itself) -> (Tensor, Tensor)",
)
def _all_pairs_gradients(
    x: Tensor, y: Tensor, upstream: Tensor, to_x: bool, to_y: bool, *others: Any
) -> tuple[Tensor, Tensor]:
    """Gradients to x and y, empty where not asked for; of x against itself, the first is all."""
    *request, itself = others
    gradients: tuple[Tensor, Tensor]
    gradients = launched(lambda: _Block.of(x, y, Request.of(*request), itself).gradients(upstream, to_x, to_y), x)
    return gradients


@_all_pairs_gradients.register_fake
def _(x: Tensor, y: Tensor, upstream: Tensor, to_x: bool, to_y: bool, *_: Any) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape if to_x else 0), y.new_empty(y.shape if to_y else 0)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, y, *ctx.request, ctx.itself = inputs
    ctx.save_for_backward(x, y)


def _gradients(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
    x, y = ctx.saved_tensors
    to_x, to_y = ctx.needs_input_grad[0], ctx.needs_input_grad[1] and not ctx.itself
    others = [None] * (len(ctx.request) + 1)
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        try:
            g_x, g_y = _all_pairs_gradients(x, y, upstream, to_x, to_y, *ctx.request, ctx.itself)
            return g_x if to_x else None, g_y if to_y else None, *others
        except LaunchError as error:
            say(str(error))

    def values(x: Tensor, y: Tensor, patch: PatchDistance) -> Tensor:
        return eager_all_pairs.squared_all_pairs(x, None if ctx.itself else y, patch)

    again = torch.is_grad_enabled()  # then the gradient must itself be differentiable
    patch = Request.of(*ctx.request).patch
    return *eager.gradients(values, x, y, patch, upstream, (to_x, to_y), create_graph=again), *others


_all_pairs.register_autograd(_gradients, setup_context=_setup)


class _Tile(NamedTuple):
    """How the matrix of all pairs is cut: rows and columns of a program, places of patches that are multiplied at once,
    warps, and steps of work in flight."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int

    @classmethod
    def of(cls, n: int, m: int, places: int) -> _Tile:
        """Sizes are chosen by what compiles without spilling registers, and have not been measured."""
        return cls(64, 64, min(places, 64), 4, 3)


class _GradientTile(NamedTuple):
    """How many images of one set a program compares with how many of the other at once, and as above."""

    rows: int
    columns: int
    warps: int
    stages: int

    @classmethod
    def of(cls, n: int, m: int, places: int, hopper: bool) -> _GradientTile:
        """As above; tensor cores of Hopper take 64 rows at once."""
        if places > 128:
            return cls(16, 32, 4, 2)
        return cls(64, 32, 4, 2) if hopper else cls(32, 32, 4, 2)


class _Patches(NamedTuple):
    """Of one set, at some positions: z in half precision, (high and low, position, image, place), and mean and root of
    the variance, (2, position, image)."""

    vectors: Tensor
    statistics: Tensor

    def pair(self, other: _Patches) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Both, as kernels take them."""
        return self.vectors, other.vectors, self.statistics, other.statistics


class _Side(NamedTuple):
    """A gradient in the making: to images, of which upstream has a row each, with its largest number."""

    upstream: Tensor
    scales: Tensor
    gradient: Tensor

    @classmethod
    def of(cls, images: Tensor, upstream: Tensor) -> _Side:
        gradient = torch.zeros_like(images, dtype=torch.float32)
        return cls(upstream.contiguous(), upstream.abs().amax(1), gradient)


class _Block(NamedTuple):
    """One part of each set, contiguous."""

    x: Tensor
    y: Tensor
    request: Request
    itself: bool
    grid: tuple[int, int]  # window positions down and across

    @classmethod
    def of(cls, x: Tensor, y: Tensor, request: Request, itself: bool) -> _Block:
        x = x.contiguous()
        down, across = positions(x, request.patch.window)
        return cls(x, x if itself else y.contiguous(), request, itself, (down, across))

    @property
    def positions(self) -> int:
        """Of all channels."""
        return self.x.shape[1] * math.prod(self.grid)

    @property
    def places(self) -> int:
        """Numbers of a patch, as many as products of matrices can be of."""
        taps = len(self.request.vertical) * len(self.request.horizontal)
        return max(_LEAST_PLACES, 1 << (taps - 1).bit_length())

    @property
    def unit(self) -> float:
        """By which pixels are multiplied, a power of two."""
        constant = max(self.request.patch.c1, self.request.patch.c2)
        return 2.0 ** -round(math.log2(constant) / 2) if constant > 0 else 1.0

    @property
    def lo(self) -> tuple[float, float]:
        """In two parts, of which kernels take the first as it is."""
        lo = self.request.patch.lo * self.unit
        first = struct.unpack("f", struct.pack("f", lo))[0]
        return first, lo - first

    @property
    def constants(self) -> tuple[float, float, float]:
        """beta, c1, c2."""
        patch, squared = self.request.patch, self.unit * self.unit
        return self.request.beta, patch.c1 * squared, patch.c2 * squared

    @property
    def most(self) -> float:
        """Squares of mean and deviation of a patch beyond which d^2 is NaN."""
        _, _, c2 = self.constants
        return _MOST_UNCENTRED * c2 if self.request.patch.form == "uncentred" else _MOST_SQUARE

    @property
    def taps(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return self.request.vertical, self.request.horizontal

    @property
    def geometry(self) -> tuple[int, ...]:
        """Of an image and its windows."""
        return self.x[0].numel(), *self.x.shape[2:], *self.grid, *self.request.strides

    def values(self) -> Tensor:
        n, m, places, form = len(self.x), len(self.y), self.places, self.request.patch.form
        tile = _Tile.of(n, m, places)
        tiles = -(-n // tile.rows), -(-m // tile.columns)
        chunks = list(self._chunks(4 * places * (n if self.itself else n + m)))
        slots = max(-(-_PROGRAMS // math.prod(tiles)), -(-len(chunks[0]) // _ADDENDS))
        slots = max(1, min(slots, len(chunks[0]), _SUMS // (8 * n * m)))
        sums = self.x.new_empty((slots, n, m), dtype=torch.float64)
        for chunk in chunks:
            x = self._patches(self.x, chunk)
            y = x if self.itself else self._patches(self.y, chunk)
            per = -(-len(chunk) // slots)
            launch(
                _kernels.values,
                (*tiles, slots),
                (*x.pair(y), sums),
                (n, m, len(chunk), per, int(chunk.start == 0), *self.constants),
                (form, self.itself, places, tile.rows, tile.columns, tile.depth),
                tile.warps,
                tile.stages,
            )
        square = self.x.new_empty((n, m), dtype=torch.float32)
        of_pairs, of_all = -(-n * m // _TOGETHER), ((sums, square), (slots, n, m, self.positions))
        launch(_kernels.finished, (of_pairs, 1, 1), *of_all, (self.itself, False, _TOGETHER), 4)
        launch(
            _kernels.compared_again,
            (of_pairs, slots, 1),
            (self.x, self.y, square, sums),
            (
                *(n, m, *self.geometry, self.positions, -(-self.positions // slots)),
                *(self.unit, *self.lo, *self.constants),
            ),
            (*self.taps, form, self.itself, places, _TOGETHER, max(1, 1024 // places)),
            4,
        )
        launch(_kernels.finished, (of_pairs, 1, 1), *of_all, (self.itself, True, _TOGETHER), 4)
        return square

    def gradients(self, upstream: Tensor, to_x: bool, to_y: bool) -> tuple[Tensor, Tensor]:
        n, m, places = len(self.x), len(self.y), self.places
        if self.itself:
            upstream = (upstream + upstream.mT).fill_diagonal_(0)
        sides = [_Side.of(self.x, upstream) if to_x else None, _Side.of(self.y, upstream.mT) if to_y else None]
        for chunk in self._chunks(4 * places * (n + max(n, m) + (0 if self.itself else m))):
            x = self._patches(self.x, chunk)
            y = x if self.itself else self._patches(self.y, chunk)
            for side, own, other in zip(sides, (x, y), (y, x), strict=True):
                if side is not None:
                    self._add(side, own, other, chunk)
        g_x, g_y = (self.x.new_empty(0) if side is None else cast(side.gradient, self.x.dtype) for side in sides)
        return g_x, g_y

    def _add(self, side: _Side, own: _Patches, other: _Patches, chunk: range) -> None:
        """Add what patches of a chunk of positions tell the images of a side."""
        request, places, (n, m), count = self.request, self.places, side.upstream.shape, len(chunk)
        slopes, rest = (side.gradient.new_empty(shape) for shape in ((count, n, places), (2, count, n)))
        tile = _GradientTile.of(n, m, places, _is_hopper(self.x))
        launch(
            _gradient_kernels.slopes_to_patches,
            (-(-n // tile.rows), count, 1),
            (*own.pair(other), side.upstream, side.scales, slopes, rest),
            (n, m, self.unit / self.positions, *self.constants),
            (request.patch.form, places, tile.rows, tile.columns),
            tile.warps,
            tile.stages,
        )
        together = max(1, 2048 // places)
        launch(
            _gradient_kernels.slopes_to_pixels,
            (-(-count * n // together), 1, 1),
            (slopes, rest, own.vectors),
            (count * n, request.beta),
            (*self.taps, places, together),
            4,
        )
        begin, end = self._line(chunk.start), self._line(chunk.stop - 1) + len(request.vertical)
        images, columns = 4, 32
        launch(
            _gradient_kernels.added_up,
            (end - begin, -(-n // images), -(-self.x.shape[3] // columns)),
            (slopes, side.gradient),
            (chunk.start, count, begin, n, *self.geometry),
            (*map(len, self.taps), places, images, columns),
            4,
        )

    def _line(self, position: int) -> int:
        """The first line of pixels of a window, counted through channels and rows."""
        channel, row = divmod(position // self.grid[1], self.grid[0])
        return channel * self.x.shape[2] + row * self.request.strides[0]

    def _chunks(self, bytes_of_position: int) -> Iterator[range]:
        """Positions that are worked on at once."""
        most = max(1, _PATCHES // bytes_of_position)
        count = -(-self.positions // -(-self.positions // most))
        for first in range(0, self.positions, count):
            yield range(first, min(first + count, self.positions))

    def _patches(self, images: Tensor, chunk: range) -> _Patches:
        n, count, places = len(images), len(chunk), self.places
        vectors = images.new_empty((2, count, n, places), dtype=torch.float16)
        statistics = images.new_empty((2, count, n), dtype=torch.float32)
        together = max(1, 2048 // places)
        launch(
            _kernels.patches,
            (count, -(-n // together), 1),
            (images, vectors, statistics),
            (chunk.start, n, *self.geometry, self.unit, *self.lo, self.request.beta, self.most),
            (*self.taps, places, together),
            4,
        )
        return _Patches(vectors, statistics)


def _is_hopper(x: Tensor) -> bool:
    return x.is_cuda and torch.cuda.get_device_capability(x.device)[0] == 9
