"""d^2 of all pairs of images on the CPU, and its gradient, in bounded memory whatever the number of images.

The kernels set a group of images (one a vector lane) against single images, for one channel and some rows of pixels
at a time (a panel). Here one set is cut into groups, the other into chunks that fit the memory, and threads take
the groups one after the other. Nothing of a pair is kept: the backward pass computes it anew.

Only plain float32 and float64 tensors come here (see `ssimgen.engine`). Second derivatives are those of the eager
engine: a backward pass that must itself be differentiable differentiates it.

Statistics of an image tell how exact its pairs will be in its number format (see `kernels.preparation_kernel`). Pairs
with images for which that is not enough (flat areas in several tones, pixels far outside of the range, NaN) are
computed anew in float64, and where that is not enough, one by one. So are those of images that are nearly equal to
others, whose distance would be the rounding error of large terms, and gradients of those that are opposite to others,
whose terms cancel. Where they are few, they are computed one by one at once.
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
from ssimgen.engine.fused import pairs, workers
from ssimgen.engine.spec import Advance, Form, PatchDistance

_Array = NDArray[Any]
_T = TypeVar("_T")

_MEMORY = 32 * 2**20  # bytes of scratch, shared by all threads
_COLUMNS, _MULTIPLICATIONS = 24, 264  # so many columns of positions are worked on at once, with no more code than that
_ROWS = 10  # so many rows of positions, that their sums fit the registers of a CPU
_TASKS_PER_THREAD = 4
_UNIT_C2 = 9e-4  # images are scaled to this c2, so that no product of denominators leaves the range of float32
_BLOCK_PAIRS, _BLOCK_PIXELS = 2**20, 2**21  # that are computed anew at once
_JUDGED_PAIRS = 2**18  # of which truths are found at once, in a temporary matrix or three
_FEW_OF = 16  # pairs of an image: fewer than one in so many are computed one by one
_FEW_PAIRS = 2**10  # that are not worth a format of their own
_NOISY = 1e5  # beta E z^2 / (v + c2 / 2) up to which no slope shows how float64 rounds F(x')
_BRIGHT = 1e9 * _UNIT_C2  # beta E z^2 up to which no slope shows how float64 rounds it, in v - cov + c2 of flat patches


class _Limits(NamedTuple):
    """Up to where a number format holds pairs: grades of an image, a position on average, c1 and D^2.

    The last grade, contrast, is of gradients alone. Below a D^2 of `nearly_equal`, terms have cancelled; and D holds
    the rounding error of D^2 below `rounding` times what the first two grades of both images are. Of images that
    differ in their means alone, the terms of the gradient to the variances cancel: what that leaves is seen beside the
    gradient to the means below a D of `slope` times the roots of the second grades of both.
    """

    differences: float
    noise: float
    size: float
    contrast: float
    constants: float
    nearly_equal: float
    rounding: float
    slope: float


_LIMITS = {
    np.dtype(np.float32): _Limits(4.0, 1e7, 1e12, 300 * _UNIT_C2, 1e25, 1e-3, 0.0, 2e-3),
    np.dtype(np.float64): _Limits(1e5, _NOISY, 1e100, 1e7 * _UNIT_C2, 1e100, 1e-9, 2e-6, 4e-12),
}

_OPPOSITE: dict[Form, float] = {"product": 1.25, "sum": 1.9, "centred": 1.5, "uncentred": 1.5}  # D^2 of such pairs

_Beyond = tuple[Tensor, Tensor | None]  # which images of x and y (None: x itself) the number format cannot hold


class _Values(NamedTuple):
    """d^2 of all pairs, and which images are beyond the number format in their gradients."""

    square: Tensor
    steep: _Beyond


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
    return _values(x, y, patch, advance).square


class _SquaredAllPairs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor | None, patch: PatchDistance, advance: Advance | None) -> Tensor:
        square, (steep_x, steep_y) = _values(x, y, patch, advance)
        ctx.beyond, ctx.patch = (steep_x | _opposite_to_others(square, patch.form), steep_y), patch
        ctx.save_for_backward(x, y)
        return square

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, y = ctx.saved_tensors
        to_x, to_y = ctx.needs_input_grad[:2]
        if torch.is_grad_enabled():
            function = partial(_differentiable, beyond=ctx.beyond)
            return *_gradients_by(function, x, y, ctx.patch, upstream, to_x, to_y, True), None, None
        return *_gradients(x, y, ctx.patch, upstream, to_x, to_y, ctx.beyond), None, None


def _values(x: Tensor, y: Tensor | None, patch: PatchDistance, advance: Advance | None = None) -> _Values:
    """Mean d^2 of all pairs, those beyond the number format computed anew."""
    second = x if y is None else y
    out = torch.zeros(len(x), len(second), dtype=x.dtype, device=x.device)
    swapped = len(second) < len(x)  # the larger set fills the lanes best
    if swapped:
        work = _AllPairs(second, x, patch, False, (1, len(second)))
    else:
        work = _AllPairs(x, second, patch, y is None, (len(second), 1))
    work.add_values(out, advance)
    order = slice(None, None, -1) if swapped else slice(None)
    (in_x, steep_x), (in_y, steep_y) = work.verdicts()[order]
    errors = work.rounding_errors()[order]
    near = near_others(out, y is None, *errors)
    close = _close_pairs(out, y is None, near, *errors)
    steep = in_x | near | steep_x, None if y is None else in_y | steep_y
    in_x = in_x if close is not None else in_x | near
    beyond = in_x, None if y is None else in_y
    for rows, columns in _blocks(x, beyond):
        if columns is None:
            out[rows[:, None], rows] = _wider_values(x[rows], None, patch).to(out.dtype)
            continue
        block = _wider_values(x[rows], second[columns], patch).to(out.dtype)
        out[rows[:, None], columns] = block
        if y is None:
            out[columns[:, None], rows] = block.T
    if close is not None and len(close):
        first, other = close.unbind(1)
        out[first, other] = _one_by_one(x, second, first, other, patch).to(out.dtype)
        if y is None:
            out[other, first] = out[first, other]
    return _Values(out, steep)


def near_others(
    square: Tensor, itself: bool, error_of_x: Tensor | None = None, error_of_y: Tensor | None = None
) -> Tensor:
    """Which images of the first set are nearly equal to one of the second; with errors, from which D on, in sum, they
    are not."""
    return _by_rows(lambda rows: _near(square, rows, error_of_x, error_of_y).sum(1) > int(itself), square)


def _near(square: Tensor, rows: slice | Tensor, error_of_x: Tensor | None, error_of_y: Tensor | None) -> Tensor:
    """Which pairs of these rows are nearly equal."""
    limit: Tensor | float = _LIMITS[pairs.dtype_of(square)].nearly_equal
    if error_of_x is not None and error_of_y is not None:
        limit = (error_of_x[rows, None] + error_of_y).square_().clamp_min_(limit)
    return square[rows] < limit


def _close_pairs(square: Tensor, itself: bool, near: Tensor, *errors: Tensor) -> Tensor | None:
    """Pairs (i, j) that are nearly equal, (n, 2), where they are few; of a set itself either of (i, j) and (j, i)."""
    found: list[Tensor] = []
    images = near.nonzero()[:, 0]
    most = len(images) * square.shape[1] // _FEW_OF
    for rows in images.split(max(1, _JUDGED_PAIRS // square.shape[1])):
        first, other = _near(square, rows, *errors).nonzero().unbind(1)
        first = rows[first]
        close = torch.stack([first, other], 1)
        found.append(close[first < other] if itself else close)
        if sum(map(len, found)) > most:
            return None
    return torch.cat(found)


def _one_by_one(x: Tensor, y: Tensor, first: Tensor, other: Tensor, patch: PatchDistance) -> Tensor:
    """d^2 of x_i and y_j for these i and j, by the kernels of pairs, which are exact for all images."""
    some = max(1, _BLOCK_PIXELS // x[0].numel())
    chosen = zip(first.split(some), other.split(some), strict=True)
    return torch.cat([pairs.squared_mean(x[i].double(), y[j].double(), patch).mean(1) for i, j in chosen])


def _opposite_to_others(square: Tensor, form: Form) -> Tensor:
    """Which images of the first set are opposite to one of the second, which float32 alone cannot hold."""
    if square.dtype != torch.float32:
        return torch.zeros(len(square), dtype=torch.bool)
    return _by_rows(lambda rows: (square[rows] > _OPPOSITE[form]).any(1), square)


def _by_rows(function: Callable[[slice], Tensor], square: Tensor) -> Tensor:
    """A truth about each row of the matrix, found for some rows at a time.

    They are written into one tensor: small ones, kept from block to block, would lie in the way of the next large ones.
    """
    truths = torch.empty(len(square), dtype=torch.bool)
    size = max(1, _JUDGED_PAIRS // square.shape[1])
    for start in range(0, len(square), size):
        rows = slice(start, start + size)
        truths[rows] = function(rows)
    return truths


def _any(beyond: _Beyond) -> bool:
    return any(bool(images.any()) for images in beyond if images is not None)


def _blocks(x: Tensor, beyond: _Beyond) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Indices (rows, columns) of blocks that cover all pairs with an image beyond once; of x itself, either of (i, j)
    and (j, i), and columns None stands for the rows."""
    side = max(1, min(math.isqrt(_BLOCK_PAIRS), _BLOCK_PIXELS // x[0].numel()))

    def parts(chosen: Tensor) -> list[Tensor]:
        return [part for part in chosen.nonzero()[:, 0].split(side) if len(part)]

    in_x, in_y = beyond
    if in_y is None:
        bad, good = parts(in_x), parts(~in_x)
        for k, rows in enumerate(bad):
            yield rows, None
            for columns in (*bad[k + 1 :], *good):
                yield rows, columns
        return
    for rows in parts(in_x):
        for columns in parts(torch.ones_like(in_y)):
            yield rows, columns
    for columns in parts(in_y):
        for rows in parts(~in_x):
            yield rows, columns


def _wider_values(x: Tensor, y: Tensor | None, patch: PatchDistance) -> Tensor:
    """Mean d^2 of all pairs, in float64, or from there and where there are few, pair by pair."""
    if _has_wider(x, y):
        return _values(x.double(), None if y is None else y.double(), patch).square
    return _pair_by_pair(x, y, patch)


def _has_wider(x: Tensor, y: Tensor | None) -> bool:
    return x.dtype == torch.float32 and len(x) * len(x if y is None else y) > _FEW_PAIRS


def _pair_by_pair(x: Tensor, y: Tensor | None, patch: PatchDistance) -> Tensor:
    """Mean d^2 of all pairs by the kernels of pairs, which are exact for all images; differentiable once."""
    x, second = x.double(), (x if y is None else y).double()  # in which sums of gradients may cancel
    some = max(1, _BLOCK_PIXELS // second.numel())
    rows = []
    for images in x.split(some):
        pair = len(images), len(second), *x.shape[1:]
        first, other = images[:, None].expand(pair).flatten(0, 1), second.expand(pair).flatten(0, 1)
        rows.append(pairs.squared_mean(first, other, patch).mean(1).view(pair[:2]))
    return torch.cat(rows)


def _differentiable(x: Tensor, y: Tensor | None, patch: PatchDistance, beyond: _Beyond) -> Tensor:
    """Mean d^2 of all pairs by the eager engine, and pair by pair where its terms cancel; differentiable twice."""
    if _any(beyond) and _has_wider(x, y):
        beyond = _values(x.detach().double(), None if y is None else y.detach().double(), patch).steep
    square, second = eager_all_pairs.squared_all_pairs(x, y, patch), x if y is None else y
    for rows, columns in _blocks(x, beyond):
        some = rows if columns is None else columns
        block = _pair_by_pair(x[rows], second[some], patch).to(square.dtype)
        square = square.index_put((rows[:, None], some), block)
        if y is None and columns is not None:
            square = square.index_put((some[:, None], rows), block.T)
    return square


def _wider_gradients(
    x: Tensor, y: Tensor | None, patch: PatchDistance, upstream: Tensor, to_x: bool, to_y: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of sum(upstream * d^2), in float64, or from there and where there are few, pair by pair."""
    if not _has_wider(x, y):
        return _gradients_by(_pair_by_pair, x, y, patch, upstream, to_x, to_y)
    wide_y = None if y is None else y.double()
    steep = _values(x.double(), wide_y, patch).steep
    return _gradients(x.double(), wide_y, patch, upstream.double(), to_x, to_y, steep)


def _gradients_by(
    function: Callable[..., Tensor],
    x: Tensor,
    y: Tensor | None,
    patch: PatchDistance,
    upstream: Tensor,
    to_x: bool,
    to_y: bool,
    differentiable: bool = False,
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of another implementation; as functions of x, y and upstream that can be differentiated again."""
    with torch.enable_grad():
        if differentiable:  # nodes of their own, even where x and y are one tensor
            x, y = x.view_as(x), None if y is None else y.view_as(y)
        else:
            x, y = x.detach().requires_grad_(to_x), None if y is None else y.detach().requires_grad_(to_y)
        square = function(x, y, patch)
    wanted = [z for z, wanted in ((x, to_x), (y, to_y)) if z is not None and wanted]
    found = iter(torch.autograd.grad(square, wanted, upstream, create_graph=differentiable))
    return next(found) if to_x else None, next(found) if to_y else None


def _gradients(
    x: Tensor, y: Tensor | None, patch: PatchDistance, upstream: Tensor, to_x: bool, to_y: bool, beyond: _Beyond
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of sum(upstream * d^2) to x and y, None where not asked for."""
    if not _any(beyond):
        return _trusted_gradients(x, y, patch, upstream, to_x, to_y)
    in_x, in_y = beyond
    wide = in_x[:, None] | (in_x if in_y is None else in_y)
    if wide.all():
        to_first, to_second = (_zeros(z) if z is not None and needed else None for z, needed in ((x, to_x), (y, to_y)))
    else:
        to_first, to_second = _trusted_gradients(x, y, patch, upstream.masked_fill(wide, 0), to_x, to_y, beyond)
    for rows, columns in _blocks(x, beyond):
        if columns is None:
            g_rows, _ = _wider_gradients(x[rows], None, patch, upstream[rows[:, None], rows], to_x, False)
            g_columns = None
        else:
            factors, second = upstream[rows[:, None], columns], x if y is None else y
            factors = factors + upstream[columns[:, None], rows].T if y is None else factors
            g_rows, g_columns = _wider_gradients(
                x[rows], second[columns], patch, factors, to_x, to_x if y is None else to_y
            )
        _add_at(to_first, rows, g_rows)
        _add_at(to_first if y is None else to_second, columns, g_columns)
    return to_first, to_second


def _add_at(gradient: Tensor | None, images: Tensor | None, addend: Tensor | None) -> None:
    if gradient is not None and images is not None and addend is not None:
        gradient.index_add_(0, images, addend.to(gradient.dtype))


def _trusted_gradients(
    x: Tensor,
    y: Tensor | None,
    patch: PatchDistance,
    upstream: Tensor,
    to_x: bool,
    to_y: bool,
    left_out: _Beyond | None = None,
) -> tuple[Tensor | None, Tensor | None]:
    """The same in the number format of x. Images that are left out have upstream gradients 0, and may be NaN."""
    if left_out is not None:
        x = x.masked_fill(left_out[0][:, None, None, None], 0)
        y = None if y is None or left_out[1] is None else y.masked_fill(left_out[1][:, None, None, None], 0)
    upstream = upstream.contiguous().resolve_neg()
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
        return images.numpy()[begin:end, self.channel, self.top : self.top + self.height]


class _AllPairs:
    """Pairs of a first set, whose images are taken one by one, and a second, taken in groups.

    If `itself`, both are the same set, and only pairs i < j are computed. `steps` are the distances, in the flat
    matrix of all pairs, from pair (i, j) to (i + 1, j) and to (i, j + 1).
    """

    def __init__(
        self, first: Tensor, second: Tensor, patch: PatchDistance, itself: bool, steps: tuple[int, int]
    ) -> None:
        self.first, self.second = (z.detach().resolve_neg() for z in (first, second))
        self.itself = itself
        self.window, _ = patch.window.axes(2)  # the same along both (see `ssimgen.engine`)
        self.threads = torch.get_num_threads()
        self.dtype = pairs.dtype_of(first)
        self.lanes = kernels.lanes_of(self.dtype)

        _, channels, height, self.width = first.shape
        down, self.across = self.window.positions(height), self.window.positions(self.width)
        self.columns = _even_part(self.across, max(1, min(_COLUMNS, _MULTIPLICATIONS // self.window.size)))
        self.panels = self._cut(channels, down)
        self.rows = _even_part(min(panel.down for panel in self.panels), _ROWS)
        self.prepare = kernels.preparation_kernel(self.lanes)
        self.form: Form = patch.form
        self.geometry = self.window.size, self.window.stride, self.columns, self.rows

        self.beta, self.scale = patch.window.factor(2), math.sqrt(_UNIT_C2 / patch.c2)
        self.c1 = 0.0 if patch.form == "uncentred" else patch.c1 * self.scale**2  # which has no luminance
        taps = np.array(self.window.taps, self.dtype)
        self.units = kernels.Units(
            patch.lo, self.scale, _UNIT_C2, self.beta, taps.astype(np.float64), self.window.stride
        )
        constants = np.array([self.c1, 2 * _UNIT_C2, 2 * self.beta, 1 / math.sqrt(2 * self.beta)], self.dtype)
        self.request = kernels.Request(taps, constants, 1 / (channels * down * self.across), itself, *steps)
        self.lock = threading.Lock()

        self.pixels = len(first) * second.numel()  # of all pairs
        self.positions = channels * down * self.across
        self.grades_of_first = np.zeros((len(self.panels), kernels.GRADES, len(first)))
        self.grades_of_second = self.grades_of_first
        if not itself:
            self.grades_of_second = np.zeros((len(self.panels), kernels.GRADES, len(second)))

    def verdicts(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Of the first and the second set: which images the number format cannot hold, and which not in gradients."""
        limits = _LIMITS[self.dtype]
        outside = not (self.c1 == 0 or 1 / limits.constants < self.c1 < limits.constants)
        most = np.array([limits.differences, limits.noise, limits.size])[:, None] * self.positions
        most_in_gradients = np.array([_NOISY, _BRIGHT / self.beta, limits.contrast])[:, None] * self.positions

        def of(grades: _Array) -> tuple[Tensor, Tensor]:
            sums = grades.sum(0)
            held, held_in_gradients = (sums[:3] <= most).all(0), (sums[1:] <= most_in_gradients).all(0)
            return torch.from_numpy(~held) | outside, torch.from_numpy(~held_in_gradients)

        return of(self.grades_of_first), of(self.grades_of_second)

    def rounding_errors(self) -> tuple[Tensor, Tensor]:
        """Of each image of the first and the second set, what it adds to the D below which rounding errors are seen."""
        limits = _LIMITS[self.dtype]

        def of(grades: _Array) -> Tensor:
            differences, noise = grades[:, :2].sum(0) / self.positions
            return torch.from_numpy(limits.rounding * (differences + noise) + limits.slope * np.sqrt(noise))

        return of(self.grades_of_first), of(self.grades_of_second)

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
        kernel = kernels.VALUES.fit(self.geometry, self.pixels, self.form, self.lanes)
        matrix = out.view(-1).numpy()

        def task(singles: _Singles, groups: _Spares[_Group], begin: int, end: int, column: int) -> None:
            with groups.one() as group:
                group.read(self.second, column, len(self.second), self.grades_of_second)
                kernel(singles.arrays, begin, end, group.arrays, self.request, group.total, matrix)

        for panel in self.panels:
            groups = _Spares(partial(_Group, self, panel))
            for singles in self._chunks(panel, groups, 0):
                self._run(partial(task, singles, groups), singles, advance)

    def add_gradients(self, upstream: Tensor, to_first: Tensor | None, to_second: Tensor) -> None:
        """Add the gradients of sum(upstream * d^2) to `to_second`, and to `to_first` if there is one."""
        both = to_first is not None
        kernel = kernels.GRADIENTS.fit(self.geometry, self.pixels, self.form, self.lanes, both)
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
                group.read(self.second, column, len(self.second), self.grades_of_second)
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
        for gradient in (to_second,) if to_first is None else (to_first, to_second):
            self._clear_unseen(gradient)

    def _clear_unseen(self, gradient: Tensor) -> None:
        """Pixels that no window covers have no gradient, whatever they hold: 0 times NaN is not 0."""
        for dim in (2, 3):
            seen = torch.zeros(gradient.shape[dim], dtype=torch.bool)
            for position in range(self.window.positions(len(seen))):
                seen[position * self.window.stride :][: self.window.size] = True
            if not seen.all():
                gradient.index_fill_(dim, (~seen).nonzero()[:, 0], 0)

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
                group.read(self.first, singles.start + first, singles.start + singles.count, self.grades_of_first)
                kernels.interleave_kernel()(total.arrays, first, group.arrays.members, group.sums)
                group.add_gradient(gradient)

        workers.run(task, -(-singles.count // self.lanes))


class _Group:
    """Scratch of one thread: up to `lanes` interleaved images of a panel, and room to work on their pairs."""

    def __init__(self, pairs: _AllPairs, panel: _Panel) -> None:
        self._pairs, self._panel, self._index = pairs, panel, pairs.panels.index(panel)
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

    def read(self, images: Tensor, first: int, end: int, grades: _Array) -> None:
        """Take the images from number `first` on, as many as fit, before `end`, and write down their grades."""
        planes = np.ascontiguousarray(self._panel.of(images, first, min(first + self._pairs.lanes, end)))
        self.arrays = self.arrays._replace(first=first, members=len(planes))
        of_panel = grades[self._index]
        self._pairs.prepare(planes, self._pairs.units, self._preparation, self.arrays, of_panel)


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
        scale = math.sqrt(2 * pairs.beta) * pairs.scale
        taps, stride = pairs.request.taps, pairs.window.stride
        close = kernels.closing_kernel(pairs.lanes)
        close(group, self.sums, taps, stride, scale, self._spread_rows, self._spread_pixels, own)
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
                group.read(pairs.first, start + first, end, pairs.grades_of_first)
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
