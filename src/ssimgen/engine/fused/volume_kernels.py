"""Compiled kernels of volumes: squared patch distances of pairs and their gradients, in one pass over the slices.

What `pair_kernels` does from row to row goes on here from slice to slice. The moments of a slice, in windows along its
two axes, enter rings of the last slices; per step these are merged along the depth, which gives the moments of every
window, and from these d^2. For a gradient, the derivatives of d^2 by those moments enter second rings of slices; the
transposed filters bring them back to the pixels, along the depth first. So memory holds some slices, whatever the
depth. Formulas, numbers and what is written of extremes are those of `pair_kernels`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import no_type_check

import numpy as np

from ssimgen.engine.fused.compilation import Kernels, compiled, inlined, part
from ssimgen.engine.fused.pair_kernels import (
    UNIT,
    _centres_along,
    _centres_down,
    _columns,
    _derivatives,
    _filter_row,
    _greatest,
    _read_row,
    _read_row_in_phases,
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


@inlined
@no_type_check
def _slice_moments(
    x, y, start, numbers, width, down, span, pixels, lines, line, rows, row_slots, taps_down, taps,
    moments, to, ring, length, phase_length, high, wide, step_down, step_across, at_once,
):  # fmt: skip
    """Moments of one slice, in windows along its two axes, into its slot of the four rings; `at_once` rows of them."""
    held = high + at_once - 1
    row_ring = (held + 1) * length
    ready = 0
    for i in range(0, down, at_once):
        count = min(at_once, down - i)
        ready = max(ready, i * step_down)
        while ready < (i + count - 1) * step_down + high:
            row = start + ready * width
            if step_across == 1:
                _read_row(x, y, row, numbers, width, 0, 1, pixels, 0, lines, line)
            else:
                _read_row_in_phases(x, y, row, numbers, 0, 1, pixels, 0, lines, line, step_across, phase_length)
            slot = ready % held * length
            centres = _centres_along(
                lines, line, taps, numbers, step_across * phase_length, span, step_across, phase_length
            )
            _filter_row(lines, line, centres, taps, rows, slot, row_ring, span, wide, step_across, phase_length)
            ready += 1
        for k in range(held):  # a second row that does not exist repeats the last row, and is not used
            row_slots[k] = min(i * step_down + k, ready - 1) % held * length
        centres = _centres_down(rows, row_ring, row_slots, taps_down, numbers, 1, held * length, span, at_once)
        common = row_ring, row_slots, centres, taps_down, high, at_once
        for at in range(0, span, lanes(numbers)):
            s_0, v_0, s_1, v_1 = _window_moments(rows, at, *common)
            d_0, w_0, d_1, w_1 = _window_moments(rows, at + 2 * row_ring, *common)
            here = to + i * length + at
            _store_four(moments, here, ring, s_0, v_0, d_0, w_0)
            if count == 2:
                _store_four(moments, here + length, ring, s_1, v_1, d_1, w_1)


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


_Geometry = tuple[int, int, int, int, int, int]  # sizes and strides of windows along the depth, down and across, in px


def _values(known: _Geometry | None, dense: bool, rows_at_once: int, slices_at_once: int) -> Callable[..., None]:
    """Compiled (geometry, x, y, taps..., numbers, height, ..., sums, peaks, image, to): d^2 and its sums.

    x, y: volumes, flattened; that of a call begins at `start`, and its windows first, ..., last - 1 along the depth are
    asked for. taps: along the depth, down a column, along a row. sums[i] = sum of d^2 at depth i. peaks[0] is raised
    to theirs. image: d^2, flattened, or empty; that of the volume begins at `to`.
    """
    GENERAL, KNOWN = known is None, known or (0, 0, 0, 0, 0, 0)
    DENSE, ROWS, SLICES = dense, rows_at_once, slices_at_once

    @no_type_check  # numba infers the types
    def values(
        geometry, x, y, taps_deep, taps_down, taps, numbers, height, width, start, first, last, sums, peaks, image, to,
    ):  # fmt: skip
        DEEP, HIGH, WIDE, STEP, DOWN, ACROSS = geometry if GENERAL else KNOWN
        if DENSE:
            ACROSS = 1
        down, across = (height - HIGH) // DOWN + 1, (width - WIDE) // ACROSS + 1
        reach = (WIDE - 1) // ACROSS
        length, span = _columns(across + reach, lanes(numbers)), _columns(across, lanes(numbers))
        pixels = min((across + reach) * ACROSS, width)
        phase_length = length + _columns(max(reach, 1), lanes(numbers))  # vectors are written past the end
        line = ACROSS * phase_length + length  # with room for centres
        lines, rows = _zeros(2 * line, numbers), _zeros(4 * (HIGH + ROWS) * length, numbers)
        row_slots = np.empty(HIGH + ROWS - 1, np.intp)
        held, area = DEEP + SLICES - 1, _area(down, length, lanes(numbers))
        ring = (held + 1) * area
        moments = _zeros(4 * ring, numbers)
        slots = np.empty(held, np.intp)
        squares = _zeros(2 * length, numbers)
        totals = np.empty(2 * length, np.float64)
        tops = _zeros(length, numbers)

        ready = 0
        for i in range(first, last, SLICES):
            slices = min(SLICES, last - i)
            ready = max(ready, i * STEP)
            while ready < (i + slices - 1) * STEP + DEEP:
                _slice_moments(
                    x, y, start + ready * height * width, numbers, width, down, span, pixels, lines, line, rows,
                    row_slots, taps_down, taps, moments, ready % held * area, ring, length, phase_length,
                    HIGH, WIDE, DOWN, ACROSS, ROWS,
                )  # fmt: skip
                ready += 1
            for k in range(held):
                slots[k] = min(i * STEP + k, ready - 1) % held * area
            clear(totals, 0, 2 * length)
            centres = _centres_down(moments, ring, slots, taps_deep, numbers, 2, held * area, down * length, SLICES)
            common = ring, slots, centres, taps_deep, DEEP, SLICES
            for row in range(down):
                for at in range(0, span, lanes(numbers)):
                    here = row * length + at
                    s_0, v_0, s_1, v_1 = _window_moments(moments, here, *common)
                    d_0, w_0, d_1, w_1 = _window_moments(moments, here + 2 * ring, *common)
                    parts = _squared(s_0, v_0, d_0, w_0, numbers)
                    store(squares, at, parts[0])
                    accumulate(totals, at, parts[0])
                    peak = greater(load(tops, at), parts[1])
                    if slices == 2:
                        parts = _squared(s_1, v_1, d_1, w_1, numbers)
                        store(squares, length + at, parts[0])
                        accumulate(totals, length + at, parts[0])
                        peak = greater(peak, parts[1])
                    store(tops, at, peak)
                if image.size:
                    for k in range(slices):
                        copy(squares, k * length, image, to + ((i + k) * down + row) * across, across)
            for k in range(slices):
                sums[i + k] = _sum(totals, k * length, k * length + across)
        peaks[0] = _greatest(tops, 0, across)

    return compiled(values)


def _gradients(known: _Geometry | None, dense: bool, rows_at_once: int, slices_at_once: int) -> Callable[..., None]:
    """Compiled as `_values`: the same sums, and the gradients gx and gy of their sum (or none: empty).

    count: windows along the depth. The pixels are those from window `first` on to window `last`, or to the end of the
    last; where windows stand apart, what none covers is not written. upstream: factors of d^2, flattened, or empty for
    UNIT; those of the volume begin at `to`. cancelled[0], slopes_x[0], slopes_y[0] are the extremes.
    """
    GENERAL, KNOWN = known is None, known or (0, 0, 0, 0, 0, 0)
    DENSE, ROWS, SLICES = dense, rows_at_once, slices_at_once

    @no_type_check
    def gradients(
        geometry, x, y, taps_deep, taps_down, taps, numbers, height, width, start, first, last, sums, peaks,
        count, upstream, to, gx, gy, cancelled, slopes_x, slopes_y,
    ):  # fmt: skip
        DEEP, HIGH, WIDE, STEP, DOWN, ACROSS = geometry if GENERAL else KNOWN
        if DENSE:
            ACROSS = 1
        down, across = (height - HIGH) // DOWN + 1, (width - WIDE) // ACROSS + 1
        reach, plane_size = (WIDE - 1) // ACROSS, height * width
        length, span = _columns(across + reach, 2 * lanes(numbers)), _columns(across, lanes(numbers))
        pixels, own = min((across + reach) * ACROSS, width), (across - 1) * ACROSS + WIDE
        phase_length = length + _columns(max(reach, 1), lanes(numbers))
        line = ACROSS * phase_length + length  # with room for centres
        lines, rows = _zeros(2 * line, numbers), _zeros(4 * (HIGH + ROWS) * length, numbers)
        row_slots = np.empty(HIGH + ROWS - 1, np.intp)
        held, area = DEEP + SLICES - 1, _area(down, length, lanes(numbers))
        ring = (held + 1) * area
        moments = _zeros(4 * ring, numbers)
        slots = np.empty(held, np.intp)
        totals = np.empty(2 * length, np.float64)
        tops, most = _zeros(length, numbers), _zeros(length, numbers)
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
            slices = min(SLICES, last - i)
            ready = max(ready, i * STEP)
            while ready < (i + slices - 1) * STEP + DEEP:
                _slice_moments(
                    x, y, start + ready * plane_size, numbers, width, down, span, pixels, lines, line, rows,
                    row_slots, taps_down, taps, moments, ready % held * area, ring, length, phase_length,
                    HIGH, WIDE, DOWN, ACROSS, ROWS,
                )  # fmt: skip
                ready += 1
            for k in range(held):
                slots[k] = min(i * STEP + k, ready - 1) % held * area
            clear(totals, 0, 2 * length)
            slot, next_slot = i % kept * area, (i + 1) % kept * area
            centres = _centres_down(moments, ring, slots, taps_deep, numbers, 2, held * area, down * length, SLICES)
            common = ring, slots, centres, taps_deep, DEEP, SLICES
            for row in range(down):
                if upstream.size:
                    for k in range(slices):
                        copy(upstream, to + ((i + k) * down + row) * across, weights, k * length, across)
                for at in range(0, span, lanes(numbers)):
                    here = row * length + at
                    s_0, v_0, s_1, v_1 = _window_moments(moments, here, *common)
                    d_0, w_0, d_1, w_1 = _window_moments(moments, here + 2 * ring, *common)
                    inside, weight = load(begins, at), load(weights, at)
                    square, peak, B_s, B_d, C_x, C_y, cancels = _derivatives(s_0, v_0, d_0, w_0, numbers)
                    _store_derivatives(derivatives, slot + here, back, inside, weight, B_s, B_d, C_x, C_y)
                    accumulate(totals, at, square)
                    cancels = absolute(weight * cancels)
                    if slices == 2:
                        weight = load(weights, length + at)
                        square, peak_1, B_s, B_d, C_x, C_y, more = _derivatives(s_1, v_1, d_1, w_1, numbers)
                        _store_derivatives(derivatives, next_slot + here, back, inside, weight, B_s, B_d, C_x, C_y)
                        accumulate(totals, length + at, square)
                        peak, cancels = greater(peak, peak_1), greater(cancels, absolute(weight * more))
                    store(tops, at, greater(load(tops, at), peak))
                    store(most, at, greater(load(most, at), cancels))
            for k in range(slices):
                if i + k >= first:
                    sums[i + k] = _sum(totals, k * length, k * length + across)

            known = i + slices
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
