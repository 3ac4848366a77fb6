"""Squared patch distances of image pairs on the CPU, by compiled kernels; first derivatives by kernels as well.

Only plain tensors come here (see `ssimgen.engine`), both in float64 or none; kernels read half precision as it is and
compute in float32, and gradients come in the dtypes of the images. Second derivatives are those of the eager engine: a
backward pass that must itself be differentiable differentiates it.

Kernels tell which planes were too much for their number format: pixels far outside of the range, constants far below
it, gradients that are what is left of much larger terms. Those planes are computed anew, in float64, and what is too
much for that by the eager engine, whose variances and gradients are taken patch by patch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from ssimgen._precision import WIDE, dtype_of_result, in_common
from ssimgen.engine import eager
from ssimgen.engine.fused import formats, pair_kernels, volumes, workers
from ssimgen.engine.fused.compilation import Kernels
from ssimgen.engine.spec import PatchDistance, positions
from ssimgen.windows import AxisWindow, Window

_PANEL_BYTES = 1024  # per row, of planes side by side: the rows that a kernel keeps stay in the first cache
_WIDEST_BYTES = 2048  # per row, of one large plane: longer stretches of its rows come faster from memory
_CHUNK_PIXELS = 2**15  # fewer are not worth waking a thread for

_WIDE_PIXELS = 2**19  # that are computed anew at once

_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)

_Array = NDArray[Any]
_Function = Callable[..., Any]
_Needs = tuple[bool, bool]


def squared_map(
    x: Float[Tensor, "B C *spatial"], y: Float[Tensor, "B C *spatial"], patch: PatchDistance
) -> Float[Tensor, "B C *positions"]:
    """d^2 at every window position."""
    x, y = _in_order(x, y)
    if torch.is_grad_enabled() and (x.requires_grad or y.requires_grad):
        squares: Tensor = _SquaredMap.apply(x, y, patch)
        return squares
    return _map(x, y, patch)


def squared_mean(
    x: Float[Tensor, "B C *spatial"], y: Float[Tensor, "B C *spatial"], patch: PatchDistance
) -> Float[Tensor, "B C"]:
    """d^2 averaged over the window positions of each channel.

    If a gradient may be asked for, it is computed now, where it costs less than the value did; the backward pass
    multiplies it by what comes from above.
    """
    x, y = _in_order(x, y)
    if torch.is_grad_enabled() and (x.requires_grad or y.requires_grad):
        mean: Tensor = _SquaredMean.apply(x, y, patch)
        return mean
    return _mean(x, y, patch)


def _in_order(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """Half precision before float32, as d^2 is symmetric and kernels are compiled for each pair of formats; its two
    formats beside each other, which nobody has, in float32."""
    if x.dtype == y.dtype or y.dtype in WIDE:
        return x, y
    return (y, x) if x.dtype in WIDE else in_common(x, y)


class _SquaredMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, patch: PatchDistance) -> Tensor:
        mean, *gradients = _mean_and_gradients(x, y, patch, ctx.needs_input_grad[:2])
        ctx.patch, ctx.gradients = patch, [gradients]
        ctx.save_for_backward(x, y)
        return mean

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, y = ctx.saved_tensors
        needs = ctx.needs_input_grad[:2]
        if torch.is_grad_enabled():
            return *eager.gradients(eager.squared_mean, x, y, ctx.patch, upstream, needs, create_graph=True), None
        try:
            gradients = ctx.gradients.pop()  # given away, so that no copy is made; a graph that is kept computes anew
        except IndexError:
            gradients = _mean_and_gradients(x, y, ctx.patch, needs)[1:]
        scale = upstream / (math.prod(positions(x, ctx.patch.window)) * _unit(x, y, ctx.patch))
        g_x, g_y = (None if g is None else _scaled(g, scale) for g in gradients)
        return g_x, g_y, None


class _SquaredMap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, patch: PatchDistance) -> Tensor:
        ctx.patch = patch
        ctx.save_for_backward(x, y)
        return _map(x, y, patch)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, y = ctx.saved_tensors
        needs = ctx.needs_input_grad[:2]
        if torch.is_grad_enabled():
            return *eager.gradients(eager.squared_map, x, y, ctx.patch, upstream, needs, create_graph=True), None
        _, g_x, g_y = _mean_and_gradients(x, y, ctx.patch, needs, upstream)
        return g_x, g_y, None


def _unit(x: Tensor, y: Tensor, patch: PatchDistance) -> float:
    """In which gradients of sums of d^2 are kept: of half precision, those of usual images about 1, as float16 has no
    digits for small numbers; a power of two, so that nothing is rounded."""
    return 1.0 if x.dtype in WIDE and y.dtype in WIDE else 2.0 ** round(math.log2(patch.c2) / 2)


def _scaled(gradient: Tensor, scale: Float[Tensor, "B C"]) -> Tensor:
    """The gradient times a factor a plane, in place."""
    if gradient.dtype in WIDE:
        return gradient.mul_(scale.view(*scale.shape, *[1] * (gradient.ndim - 2)))
    factors = scale.flatten().tolist()
    if min(factors) == max(factors):
        return gradient.mul_(factors[0])
    for plane, factor in zip(gradient.flatten(0, 1), factors, strict=True):
        plane.mul_(factor)  # which, unlike factors in a float32 tensor, makes no float32 copy of the gradient
    return gradient


def _mean(x: Tensor, y: Tensor, patch: PatchDistance) -> Tensor:
    walk = _values(x, y, patch, _none(x, y))
    for planes, wide_x, wide_y in _widened(walk.beyond, x, y):
        walk.means[planes] = _wider(_mean, eager.squared_mean, x)(wide_x, wide_y, patch)[:, 0].to(walk.means.dtype)
    return walk.means


def _map(x: Tensor, y: Tensor, patch: PatchDistance) -> Tensor:
    squares = torch.empty((*x.shape[:2], *positions(x, patch.window)), dtype=dtype_of_result(x, y))
    walk = _values(x, y, patch, _flat(squares))
    for planes, wide_x, wide_y in _widened(walk.beyond, x, y):
        squares[planes] = _wider(_map, eager.squared_map, x)(wide_x, wide_y, patch)[:, 0].to(squares.dtype)
    return squares


def _mean_and_gradients(
    x: Tensor, y: Tensor, patch: PatchDistance, needs: _Needs, upstream: Tensor | None = None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """d^2 averaged over positions, and the gradients of its sum times `_unit`, or of its sum weighted by `upstream`."""
    if needs == (False, True) and x.dtype == y.dtype:  # d^2 is symmetric; formats have one order, see `_in_order`
        mean, g_y, _ = _mean_and_gradients(y, x, patch, (True, False), upstream)
        return mean, None, g_y
    covering = all(axis.stride == 1 for axis in patch.window.axes(x.ndim - 2))
    new = torch.empty if covering else torch.zeros  # windows apart can leave pixels uncovered
    g_x, g_y = new(x.shape, dtype=x.dtype), new(x.shape if needs[1] else 0, dtype=y.dtype)
    weights = _none(x, y) if upstream is None else _flat(upstream)
    walk = _gradients(x, y, patch, weights, _flat(g_x), _flat(g_y))
    cancelled, slopes_x, slopes_y = walk.extremes[1:]
    slopes = np.minimum(slopes_x, slopes_y) if needs[1] else slopes_x
    outside = walk.beyond
    imprecise = outside | ~(cancelled <= walk.trust.cancelled * slopes)
    for planes, wide_x, wide_y in _widened(imprecise, x, y):
        factors = None if upstream is None else upstream.detach()[planes][:, None].double()
        wider = _wider(_mean_and_gradients, _by_eager_engine, x)
        means, *gradients = wider(wide_x, wide_y, patch, needs, factors)
        beyond = torch.from_numpy(outside).view(x.shape[:2])[planes]
        walk.means[planes] = torch.where(beyond, means[:, 0].to(walk.means.dtype), walk.means[planes])
        unit = _unit(x, y, patch) if upstream is None else 1.0
        for gradient, wide in zip((g_x, g_y), gradients, strict=True):
            if wide is not None:
                gradient[planes] = (unit * wide[:, 0]).to(gradient.dtype)
    return walk.means, g_x if needs[0] else None, g_y if needs[1] else None


def _by_eager_engine(
    x: Tensor, y: Tensor, patch: PatchDistance, needs: _Needs, upstream: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """What `_mean_and_gradients` gives."""
    with torch.enable_grad():
        pair = x.detach().requires_grad_(), y.detach().requires_grad_(needs[1])
        squares = eager.squared_map(*pair, patch)
        total = squares.sum() if upstream is None else (squares * upstream).sum()
    g_x, *g_y = torch.autograd.grad(total, pair[: 1 + needs[1]])
    return squares.detach().flatten(2).mean(2), g_x, g_y[0] if g_y else None


def _wider(fused: _Function, by_eager_engine: _Function, x: Tensor) -> _Function:
    """What computes the planes that the number format of x cannot hold, from their float64 copies."""
    return by_eager_engine if x.dtype == torch.float64 else fused


def _widened(planes: _Array, *images: Tensor) -> Iterator[tuple[tuple[Tensor, Tensor], Tensor, Tensor]]:
    """Some of the chosen planes at a time: where they are in (B, C), and they in float64, (n, 1, H, W), in one order in
    memory: the order of sums follows it, and bits must not."""
    if not planes.any():
        return
    some = max(1, _WIDE_PIXELS // images[0][0, 0].numel())
    chosen = torch.from_numpy(planes).view(images[0].shape[:2]).nonzero(as_tuple=True)
    for rows, channels in zip(*(index.split(some) for index in chosen), strict=True):
        x, y = (z.detach()[rows, channels][:, None].double().contiguous() for z in images)
        yield (rows, channels), x, y


class _Walk(NamedTuple):
    """What a kernel found: d^2 averaged over positions, (B, C), extremes of each plane, what is trusted, and the planes
    beyond the number format, or so nearly equal that its rounding errors are all that differs."""

    means: Tensor
    extremes: _Array
    trust: pair_kernels.Trust
    beyond: _Array


def _values(x: Tensor, y: Tensor, patch: PatchDistance, image: _Array) -> _Walk:
    request = _request(x, y, patch)
    if x.ndim == 5:
        return _walked(volumes.values(request, x, patch.window, image), x, y, patch)
    return _walked(_walk(pair_kernels.VALUES, request, x, patch.window, 0, 1, image), x, y, patch)


def _gradients(x: Tensor, y: Tensor, patch: PatchDistance, upstream: _Array, g_x: _Array, g_y: _Array) -> _Walk:
    request, arrays = _request(x, y, patch), (upstream, g_x, g_y)
    if x.ndim == 5:
        return _walked(volumes.gradients(request, x, patch.window, *arrays), x, y, patch)
    axis = patch.window.axes(2)[1]
    beyond_last = (axis.size - 1) // axis.stride
    return _walked(_walk(pair_kernels.GRADIENTS, request, x, patch.window, beyond_last, 4, *arrays), x, y, patch)


def _walked(found: volumes.Found, x: Tensor, y: Tensor, patch: PatchDistance) -> _Walk:
    trust = pair_kernels.trust(dtype_of(x, y))
    means = (found.sums / math.prod(positions(x, patch.window))).astype(dtype_of(x, y))
    beyond: _Array = ~(found.extremes[0] <= trust.product)
    if patch.form in ("product", "sum") and patch.c1 * trust.unlike < patch.c2:
        beyond[:] = True
    if not means.min() >= trust.least:
        beyond |= (means > 0) & (means < trust.least)
        for plane in np.flatnonzero(means == 0):  # rounding errors can leave that of planes that are not equal
            beyond[plane] |= not torch.equal(*in_common(*(z.detach()[divmod(plane, x.shape[1])] for z in (x, y))))
    if means.dtype == _FLOAT32 and patch.overlooks_brightness(x.ndim - 2):
        beyond |= _alike_but_for_brightness(means, x, y, patch)
    return _Walk(torch.from_numpy(means).view(x.shape[:2]), found.extremes, trust, beyond)


def _alike_but_for_brightness(means: _Array, x: Tensor, y: Tensor, patch: PatchDistance) -> _Array:
    """Planes of so little d^2, and such large x - y, that the rounding error of x - y is seen in d, and so in the slope
    of d: it is up to 2^-24 of x - y, twice, and d up to sqrt(beta v / c2) for differences of variance v."""
    visible = (2**-23 / 5e-5) ** 2 * patch.window.factor(x.ndim - 2) / patch.c2  # times (x - y)^2
    if not means.min() < visible * 1e4 * patch.c2:  # means that are further apart are beyond the number format
        return np.zeros(means.shape, bool)
    some = max(1, _WIDE_PIXELS // x[0].numel())
    parts = zip(x.detach().split(some), y.detach().split(some), strict=True)
    greatest = torch.cat([(u - v).abs().flatten(2).amax(2) for u, v in parts]).flatten()
    alike: _Array = means < visible * greatest.double().square().numpy()
    return alike


def _walk(
    kernels: Kernels,
    request: pair_kernels.Request,
    x: Tensor,
    window: Window,
    beyond_last: int,
    extremes: int,
    *arrays: _Array,
) -> volumes.Found:
    """Run a kernel with its arrays over all planes, and all columns of positions and so many beyond the last."""
    (vertical, horizontal), (_, across) = window.axes(2), positions(x, window)
    panels = _panels(x, request.numbers.itemsize, horizontal, across)
    found = np.zeros((len(panels.columns), 1 + extremes, panels.planes))
    geometry = vertical.size, horizontal.size, vertical.stride, horizontal.stride
    kernel = kernels.fit(geometry, x.numel(), horizontal.stride == 1, pair_kernels.at_once(vertical))

    def task(chunk: int) -> None:
        tile, first, last = panels.chunk(chunk)
        begin, end = panels.columns[tile]
        end += beyond_last if end == across else 0
        panel = pair_kernels.Panel(first, last, panels.together, begin, end)
        kernel(request, panel, tuple(found[tile]), *arrays)

    workers.run(task, panels.chunks)
    sums, most = (found[0, 0], found[0, 1:]) if len(found) == 1 else (found[:, 0].sum(0), found[:, 1:].max(0))
    return volumes.Found(sums, most)


def _request(x: Tensor, y: Tensor, patch: PatchDistance) -> pair_kernels.Request:
    """Of images or volumes."""
    dtype = dtype_of(x, y)
    taps, numbers = _prepared(patch, dtype, x.ndim - 2, _unit(x, y, patch))
    trusted = pair_kernels.trust(dtype).product
    return pair_kernels.Request(_flat(x), _flat(y), taps, numbers, trusted, *x.shape[-2:])


@lru_cache(maxsize=128)
def _prepared(patch: PatchDistance, dtype: np.dtype[Any], ndim: int, unit: float) -> tuple[tuple[_Array, ...], _Array]:
    """Taps along each axis, and constants, of a request."""
    taps = tuple(np.array(axis.taps, dtype) for axis in patch.window.axes(ndim))
    return taps, pair_kernels.constants(patch, dtype, ndim, unit)


class _Panels(NamedTuple):
    """How images are cut for the kernels: column ranges, planes side by side, and planes per chunk of work."""

    columns: list[tuple[int, int]]
    planes: int
    together: int
    per_chunk: int

    @property
    def chunks(self) -> int:
        return len(self.columns) * -(-self.planes // self.per_chunk)

    def chunk(self, index: int) -> tuple[int, int, int]:
        """(column range, first plane, last plane + 1)."""
        start, tile = divmod(index, len(self.columns))
        first = start * self.per_chunk
        return tile, first, min(first + self.per_chunk, self.planes)


def _panels(x: Tensor, size: int, axis: AxisWindow, columns: int) -> _Panels:
    batch, channels, height, width = x.shape
    return _cut(batch * channels, height, width, size, axis, columns, torch.get_num_threads())


@lru_cache(maxsize=128)
def _cut(planes: int, height: int, width: int, size: int, axis: AxisWindow, columns: int, threads: int) -> _Panels:
    """Columns, and so the order of every sum, follow from the images alone; only chunks follow from the threads."""
    tiles = -(-columns * size // _WIDEST_BYTES)
    step = -(-columns // tiles)
    ranges = [(begin, min(begin + step, columns)) for begin in range(0, columns, step)]
    pitch = axis.positions(width) + (axis.size - 1) // axis.stride
    together = max(1, _PANEL_BYTES // size // pitch)
    share = max(_CHUNK_PIXELS, planes * height * width // (4 * threads))
    per_chunk = max(1, share * tiles // (height * width) // together) * together
    return _Panels(ranges, planes, together, per_chunk)


def _flat(x: Tensor) -> _Array:
    return formats.as_array(x.detach().resolve_neg().contiguous())


def _none(*images: Tensor) -> _Array:
    return np.empty(0, dtype_of(*images))


def dtype_of(*images: Tensor) -> np.dtype[Any]:
    """In which they are computed."""
    return _FLOAT64 if dtype_of_result(*images) == torch.float64 else _FLOAT32
