"""Compiled kernels of volumes: squared patch distances of pairs and their gradients, in one pass over the slices.

What `pair_kernels` does from row to row goes on here from slice to slice. The moments of a slice, in windows along its
two axes, enter rings of the last slices; per step these are merged along the depth, which gives the moments of every
window, and from these d^2. For a gradient, the derivatives of d^2 by those moments enter second rings of slices; the
transposed filters bring them back to the pixels, along the depth first. So memory holds some slices, whatever the
depth. Formulas, numbers and what is written of extremes are those of `pair_kernels`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, no_type_check

import numpy as np
from numpy.typing import NDArray

from ssimgen.engine.fused.compilation import Kernels, compiled, inlined, part
from ssimgen.engine.fused.pair_kernels import (
    UNIT,
    _centres_down,
    _columns,
    _derivatives,
    _filter_row,
    _greatest,
    _read_row,
    _read_row_in_phases,
    _rings,
    _squared,
    _store_derivatives,
    _store_four,
    _sum,
    _transpose_down,
    _transpose_down_in_phases,
    _window_moments,
    _write_row,
    _write_row_in_phases,
    _zeros,
)
from ssimgen.engine.fused.vectors import (
    absolute,
    accumulate,
    clear,
    copy,
    fma,
    greater,
    lanes,
    load,
    spread_at,
    store,
)


class _Slices(NamedTuple):
    """Room for the moments of the last slices, as `_Rings` has it for rows: four rings, of slices of `length`."""

    length: int
    ring: int
    moments: NDArray[Any]
    slots: NDArray[np.intp]


@inlined
@no_type_check
def _slices(numbers, area, deep, at_once):
    """Room for windows so deep, `at_once` (1 or 2) of them, of slices that take `area`."""
    held = deep + at_once - 1
    ring = (held + 1) * area
    return _Slices(area, ring, _zeros(4 * ring, numbers), np.empty(held, np.intp))


@inlined
@no_type_check
def _slice_moments(
    request, start, rings, slices, ready, down, columns, pixels, high, wide, step_down, step_across, at_once
):
    """Moments of a slice, the one after `ready` others, in windows along its two axes, into its slot of the rings;
    `at_once` rows of them."""
    x, y, (_, taps_down, taps), numbers, _, height, width = request
    length, ring, rows, slots = rings.length, rings.ring, rings.moments, rings.slots
    to = ready % len(slices.slots) * slices.length
    begin, ready = start + ready * height * width, 0
    for i in range(0, down, at_once):
        count = min(at_once, down - i)
        ready = max(ready, i * step_down)
        while ready < (i + count - 1) * step_down + high:
            row = begin + ready * width
            if step_across == 1:
                _read_row(x, y, row, numbers, width, 0, 1, pixels, 0, rings.lines, rings.line)
            else:
                _read_row_in_phases(
                    x, y, row, numbers, 0, 1, pixels, 0, rings.lines, rings.line, step_across, rings.phase_length
                )
            _filter_row(rings, taps, numbers, ready, columns, wide, step_across)
            ready += 1
        top = i * step_down
        centres = _centres_down(rows, ring, slots, length, top, ready, taps_down, numbers, 1, columns, at_once)
        windows = ring, slots, centres, taps_down, high, at_once
        for at in range(0, columns, lanes(numbers)):
            s_0, v_0, s_1, v_1 = _window_moments(rows, at, *windows)
            d_0, w_0, d_1, w_1 = _window_moments(rows, at + 2 * ring, *windows)
            here = to + i * length + at
            _store_four(slices.moments, here, slices.ring, s_0, v_0, d_0, w_0)
            if count == 2:
                _store_four(slices.moments, here + length, slices.ring, s_1, v_1, d_1, w_1)


@inlined
@no_type_check
def _transpose_deep(derivatives, back, positions, kept, area, taps, pixel, step, first, last, blended, blend, count):
    """Transposed filter along the depth, at one slice of pixels, of all four derivatives.

    Positions first, ..., last reach it; those of `positions` are kept in `kept` slots.
    """
    for at in range(0, count, lanes(blended)):
        tap, slot = spread_at(taps, pixel - first * step), first % kept * area + at
        s, d = tap * load(derivatives, slot), tap * load(derivatives, slot + back)
        x, y = tap * load(derivatives, slot + 2 * back), tap * load(derivatives, slot + 3 * back)
        for position in range(first + 1, last + 1):
            tap, slot = spread_at(taps, pixel - position * step), position % kept * area + at
            s = fma(tap, load(derivatives, slot), s)
            d = fma(tap, load(derivatives, slot + back), d)
            x = fma(tap, load(derivatives, slot + 2 * back), x)
            y = fma(tap, load(derivatives, slot + 3 * back), y)
        _store_four(blended, at, blend, s, d, x, y)


@part
@no_type_check
def _area(down, length, granule):
    """Room of a slice: an odd number of vectors, so that slices lie differently in the caches."""
    return (down * length // granule | 1) * granule


class Part(NamedTuple):
    """What one call computes: windows `first` up to `last` along the depth, of the volume whose pixels begin at `start`
    and whose d^2, or what it is weighted by, begins at `to`."""

    start: int
    first: int
    last: int
    to: int


_Geometry = tuple[int, int, int, int, int, int]  # sizes and strides of windows along the depth, down and across, in px


def _values(known: _Geometry | None, dense: bool, rows_at_once: int, slices_at_once: int) -> Callable[..., None]:
    """Compiled (geometry, request, part, found, image): d^2 and its sums.

    found: sums[i] = sum of d^2 at depth i, and peaks[0], that of the part. image: d^2, flattened, or empty.
    """
    GENERAL, KNOWN = known is None, known or (0, 0, 0, 0, 0, 0)
    DENSE, ROWS, SLICES = dense, rows_at_once, slices_at_once

    @no_type_check  # numba infers the types
    def values(geometry, request, part, found, image):
        DEEP, HIGH, WIDE, STEP, DOWN, ACROSS = geometry if GENERAL else KNOWN
        numbers, (taps_deep, _, _), height, width = request.numbers, request.taps, request.height, request.width
        start, first, last, to = part
        sums, peaks = found
        if DENSE:
            ACROSS = 1
        down, across = (height - HIGH) // DOWN + 1, (width - WIDE) // ACROSS + 1
        reach = (WIDE - 1) // ACROSS
        length, span = _columns(across + reach, lanes(numbers)), _columns(across, lanes(numbers))
        pixels = min((across + reach) * ACROSS, width)
        rings = _rings(numbers, length, reach, HIGH, ACROSS, ROWS)
        area = _area(down, length, lanes(numbers))
        slices = _slices(numbers, area, DEEP, SLICES)
        _, ring, moments, slots = slices
        squares = _zeros(2 * length, numbers)
        totals, tops = np.empty(2 * length, np.float64), _zeros(length, numbers)

        ready = 0
        for i in range(first, last, SLICES):
            new = min(SLICES, last - i)
            ready = max(ready, i * STEP)
            while ready < (i + new - 1) * STEP + DEEP:
                _slice_moments(request, start, rings, slices, ready, down, span, pixels, HIGH, WIDE, DOWN, ACROSS, ROWS)
                ready += 1
            clear(totals, 0, 2 * length)
            centres = _centres_down(
                moments, ring, slots, area, i * STEP, ready, taps_deep, numbers, 2, down * length, SLICES
            )
            windows = ring, slots, centres, taps_deep, DEEP, SLICES
            for row in range(down):
                for at in range(0, span, lanes(numbers)):
                    here = row * length + at
                    s_0, v_0, s_1, v_1 = _window_moments(moments, here, *windows)
                    d_0, w_0, d_1, w_1 = _window_moments(moments, here + 2 * ring, *windows)
                    parts = _squared(s_0, v_0, d_0, w_0, numbers)
                    store(squares, at, parts[0])
                    accumulate(totals, at, parts[0])
                    peak = greater(load(tops, at), parts[1])
                    if new == 2:
                        parts = _squared(s_1, v_1, d_1, w_1, numbers)
                        store(squares, length + at, parts[0])
                        accumulate(totals, length + at, parts[0])
                        peak = greater(peak, parts[1])
                    store(tops, at, peak)
                if image.size:
                    for k in range(new):
                        copy(squares, k * length, image, to + ((i + k) * down + row) * across, across)
            for k in range(new):
                sums[i + k] = _sum(totals, k * length, k * length + across)
        peaks[0] = _greatest(tops, 0, across)

    return compiled(values)


def _gradients(known: _Geometry | None, dense: bool, rows_at_once: int, slices_at_once: int) -> Callable[..., None]:
    """Compiled as `_values`: the same sums, and the gradients gx and gy of their sum (or none: empty).

    count: windows along the depth. The pixels are those from window `first` on to window `last`, or to the end of the
    last; where windows stand apart, what none covers is not written. upstream: factors of d^2, flattened, or empty for
    UNIT. found: sums, peaks[0], cancelled[0], slopes_x[0] and slopes_y[0].
    """
    GENERAL, KNOWN = known is None, known or (0, 0, 0, 0, 0, 0)
    DENSE, ROWS, SLICES = dense, rows_at_once, slices_at_once

    @no_type_check
    def gradients(geometry, request, part, found, count, upstream, gx, gy):
        DEEP, HIGH, WIDE, STEP, DOWN, ACROSS = geometry if GENERAL else KNOWN
        x, y, (taps_deep, taps_down, taps), numbers, _, height, width = request
        start, first, last, to = part
        sums, peaks, cancelled, slopes_x, slopes_y = found
        if DENSE:
            ACROSS = 1
        down, across = (height - HIGH) // DOWN + 1, (width - WIDE) // ACROSS + 1
        reach, plane_size = (WIDE - 1) // ACROSS, height * width
        length, span = _columns(across + reach, 2 * lanes(numbers)), _columns(across, lanes(numbers))
        pixels, own = min((across + reach) * ACROSS, width), (across - 1) * ACROSS + WIDE
        rings = _rings(numbers, length, reach, HIGH, ACROSS, ROWS)
        area = _area(down, length, lanes(numbers))
        slices = _slices(numbers, area, DEEP, SLICES)
        _, ring, moments, slots = slices
        totals, tops, most = np.empty(2 * length, np.float64), _zeros(length, numbers), _zeros(length, numbers)
        begins, weights = _zeros(length, numbers), _zeros(2 * length, numbers)
        for i in range(across):
            begins[i] = weights[i] = weights[length + i] = numbers[UNIT]
        kept = (DEEP - 1) // STEP + SLICES
        back = kept * area
        derivatives = _zeros(4 * back, numbers)
        blend = _area(down + 1, length, lanes(numbers))
        blended = _zeros(4 * blend, numbers)  # the last row is zeros, for positions outside
        back_slots = np.empty((HIGH - 1) // DOWN + 2, np.intp)
        pad = _columns(reach, lanes(numbers))
        apart = pad + length + lanes(numbers)
        filtered = _zeros(8 * apart, numbers)
        steepest_x, steepest_y = _zeros(lanes(numbers), numbers), _zeros(lanes(numbers), numbers)

        # Windows before the first reach its pixels too. An even number of them, so that pairs are those of all parts.
        left = max(0, first - ((DEEP - 1) // STEP + 1) // 2 * 2)
        end = last * STEP if last < count else (count - 1) * STEP + DEEP
        done, ready = first * STEP, 0
        for i in range(left, last, SLICES):
            new = min(SLICES, last - i)
            ready = max(ready, i * STEP)
            while ready < (i + new - 1) * STEP + DEEP:
                _slice_moments(request, start, rings, slices, ready, down, span, pixels, HIGH, WIDE, DOWN, ACROSS, ROWS)
                ready += 1
            clear(totals, 0, 2 * length)
            slot, next_slot = i % kept * area, (i + 1) % kept * area
            centres = _centres_down(
                moments, ring, slots, area, i * STEP, ready, taps_deep, numbers, 2, down * length, SLICES
            )
            windows = ring, slots, centres, taps_deep, DEEP, SLICES
            for row in range(down):
                if upstream.size:
                    for k in range(new):
                        copy(upstream, to + ((i + k) * down + row) * across, weights, k * length, across)
                for at in range(0, span, lanes(numbers)):
                    here = row * length + at
                    s_0, v_0, s_1, v_1 = _window_moments(moments, here, *windows)
                    d_0, w_0, d_1, w_1 = _window_moments(moments, here + 2 * ring, *windows)
                    inside, weight = load(begins, at), load(weights, at)
                    square, peak, B_s, B_d, C_x, C_y, cancels = _derivatives(s_0, v_0, d_0, w_0, numbers)
                    _store_derivatives(derivatives, slot + here, back, inside, weight, B_s, B_d, C_x, C_y)
                    accumulate(totals, at, square)
                    cancels = absolute(weight * cancels)
                    if new == 2:
                        weight = load(weights, length + at)
                        square, peak_1, B_s, B_d, C_x, C_y, more = _derivatives(s_1, v_1, d_1, w_1, numbers)
                        _store_derivatives(derivatives, next_slot + here, back, inside, weight, B_s, B_d, C_x, C_y)
                        accumulate(totals, length + at, square)
                        peak, cancels = greater(peak, peak_1), greater(cancels, absolute(weight * more))
                    store(tops, at, greater(load(tops, at), peak))
                    store(most, at, greater(load(most, at), cancels))
            for k in range(new):
                if i + k >= first:
                    sums[i + k] = _sum(totals, k * length, k * length + across)

            known = i + new
            complete = known * STEP if known < last else end
            while done < complete:
                if done % STEP >= DEEP:
                    done += 1
                    continue  # no window covers the slice: whatever it holds, NaN too, has no gradient
                earliest = max(0, (done - DEEP) // STEP + 1)
                latest = min(known - 1, done // STEP)
                _transpose_deep(
                    derivatives, back, count, kept, area, taps_deep, done, STEP, earliest, latest, blended, blend,
                    down * length,
                )  # fmt: skip
                for r in range(0, (down - 1) * DOWN + HIGH, ROWS):
                    tap = (HIGH - 1 - r % DOWN) // DOWN * DOWN + r % DOWN
                    uppermost = (r - tap) // DOWN
                    for k in range((HIGH - 1) // DOWN + 2):
                        position = uppermost + k
                        back_slots[k] = (position if 0 <= position < down else down) * length
                    if r % DOWN >= HIGH:
                        continue  # nor the row
                    for q in range(4 if gy.size else 3):
                        at = 2 * q * apart + pad
                        if ROWS == 2:
                            _transpose_down(
                                blended, q * blend, back_slots, taps_down, HIGH, length, filtered, at, apart
                            )
                        else:
                            _transpose_down_in_phases(
                                blended, q * blend, back_slots, taps_down, tap, DOWN, length, filtered, at
                            )
                    for k in range(min(ROWS, (down - 1) * DOWN + HIGH - r)):
                        pixel, at = start + done * plane_size + (r + k) * width, k * apart + pad
                        if DENSE:
                            _write_row(
                                x, y, pixel, numbers, at, own, filtered, 2 * apart, taps, WIDE, gx, gy,
                                steepest_x, steepest_y, 0,
                            )  # fmt: skip
                        else:
                            _write_row_in_phases(
                                x, y, pixel, numbers, at, 0, own, filtered, 2 * apart, taps, ACROSS, gx, gy,
                                steepest_x, steepest_y, 0,
                            )  # fmt: skip
                done += 1
        peaks[0], cancelled[0] = _greatest(tops, 0, across), _greatest(most, 0, across)
        slopes_x[0] = _greatest(steepest_x, 0, lanes(numbers))
        slopes_y[0] = _greatest(steepest_y, 0, lanes(numbers))

    return compiled(gradients)


VALUES, GRADIENTS = Kernels(_values), Kernels(_gradients)
