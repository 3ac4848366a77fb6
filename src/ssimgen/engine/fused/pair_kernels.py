"""Compiled kernels: squared patch distances of image pairs and their gradients, in one pass over the images.

A kernel walks down a panel: some columns of one image plane, or several small planes side by side. Per row it
filters s = x + y and d = x - y along the row into rings of the last rows; per step it filters the rings down the
columns, which gives mean m and variance v of s and d in every window, and from these d^2. For a gradient, the
derivatives of d^2 by those moments enter a second ring, and the transposed filters F' bring them back to the
pixels: with m_z = F z and v_z = F z^2 - m_z^2, for z = s and d,

    dD/dz = F'(dD/dm_z - 2 m_z dD/dv_z) + 2 z F'(dD/dv_z).

Variances are sums of squares about a value inside the window, never differences of large squares: first along
the row about some of its pixels, then down the column about some of its rows (the law of total variance): those of most
weight, so many that their mean is near that of the window (`_centre`).

Every form of d^2 is one expression with 0 or 1 for `luminance`, `cross` and `uncentred` (see `constants`):

    d^2 = luminance a + b - cross a b,   a = 2 A_d / N,   b = 2 V_d / E,   N = A_s + A_d + 1,   E = V_s + V_d + 1,
    A_z = m_z^2 / (2 c1),   V_z = beta (v_z + uncentred m_z^2) / (2 c2).

What the number format cannot hold shows itself on the way, and the caller computes such planes anew in a wider one.
`peaks` has, for each plane, the greatest N E, or N - 1 in proportion (NaN counts as greatest): beyond what is trusted,
products may overflow, or rounding errors of means be seen beside c2. `cancelled` has the greatest term that
must cancel in a gradient, and `slopes` of x and y have the greatest gradients that were left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, no_type_check

import numpy as np
from numpy.typing import NDArray

from ssimgen.engine.fused.compilation import Kernels, compiled, inlined, part
from ssimgen.engine.fused.formats import read, read_some, write, write_some
from ssimgen.engine.fused.vectors import (
    absolute,
    absolute_some,
    accumulate,
    clear,
    copy,
    fma,
    greater,
    lanes,
    load,
    non_negative,
    prefetch,
    spread,
    spread_at,
    square_root,
    store,
    where_positive,
)
from ssimgen.engine.spec import PatchDistance
from ssimgen.windows import AxisWindow

RHO, SIGMA, LUMINANCE, CROSS, UNCENTRED, LO, GAP, ONE, SEEN, UNIT, CENTRES = range(11)

_MOST_CANCELLED = 5.5  # times the variance of a window; 4.7 times with the default window and one row in the middle


class Request(NamedTuple):
    """Pairs of images, or of volumes, and what is asked of them.

    x, y: flattened, (planes, H, W) or (volumes, D, H, W). taps: along each spatial axis. numbers: `constants`. trusted:
    peaks up to which the number format is. height, width: of a plane or slice.
    """

    x: NDArray[Any]
    y: NDArray[Any]
    taps: tuple[NDArray[Any], ...]
    numbers: NDArray[Any]
    trusted: float
    height: int
    width: int


class Panel(NamedTuple):
    """What one call computes: the planes from `first` up to `last`, so many `together`, side by side, and of each row
    the window positions from `begin` up to `end`."""

    first: int
    last: int
    together: int
    begin: int
    end: int


class Trust(NamedTuple):
    """Up to where a number format holds what is computed in it.

    product: N E, so that nothing overflows; greater means count as more than that.
    cancelled: how many times a gradient its cancelling terms may be, so that 1e-4 of it is right.
    least: d^2 above which rounding errors of means of d cannot be seen in the slope of d, nor in d itself.
    unlike: c2 / c1 up to which contrasts that c2 lets be leave no rounding error in means that is seen beside c1.
    """

    product: float
    cancelled: float
    least: float
    unlike: float


def trust(dtype: Any) -> Trust:
    """Of a number format."""
    return Trust(1e12, 100.0, 1e-6, 1e3) if dtype == np.float32 else Trust(1e30, 2e8, 1e-20, 1e12)


def _seen(patch: PatchDistance, dtype: Any, ndim: int) -> float:
    """What times N - 1 = (m_s^2 + m_d^2) / (2 c1) is the trusted product for the greatest trusted mean: that whose
    rounding error cannot be seen in d^2 beside sqrt(2 c2 / beta). Uncentred, where squares of means are part of what
    c2 stands beside, it cannot be seen at all."""
    greatest = 60.0 if dtype == np.float32 else 5e5  # times sqrt(2 c2 / beta)
    c2 = patch.c2 / patch.window.factor(ndim)
    return 0.0 if patch.form == "uncentred" else trust(dtype).product / greatest**2 * patch.c1 / c2


def constants(patch: PatchDistance, dtype: Any, ndim: int, unit: float) -> NDArray[Any]:
    """What the kernels need of a request besides its taps, at the places RHO ... UNIT; from CENTRES on, that of each
    axis, the last axis first."""
    uncentred = patch.form == "uncentred"
    varies = any(axis.size > 1 for axis in patch.window.axes(ndim)) or uncentred  # a single pixel has no variance
    *others, last = patch.window.axes(ndim)
    centres = [_centre(last.taps, 1), *(_centre(axis.taps, at_once(axis)) for axis in reversed(others))]
    return np.array(
        [
            1 / (2 * patch.c1),
            varies * patch.window.factor(ndim) / (2 * patch.c2),
            patch.form in ("sum", "product"),
            patch.form == "product",
            uncentred,
            patch.lo,
            2 * (float(dtype.type(patch.lo)) - patch.lo),  # what rounding of lo costs s
            1,
            _seen(patch, dtype, ndim),
            unit,
            *(number for centre in centres for number in (centre.first, centre.end, centre.share)),
        ],
        dtype,
    )


def at_once(axis: AxisWindow) -> int:
    """How many windows, one below the other, are taken at a time: 2 where they share rows of pixels, and a centre."""
    return 2 if axis.stride == 1 and axis.size > 1 and _centre(axis.taps, 2).cancels <= _MOST_CANCELLED else 1


class _Centre(NamedTuple):
    """The value about which variances are taken: the mean of the pixels `first`, ..., `end` - 1 of a window, weighted
    as they are in it; `share` is 1 / the sum of their weights. Two windows that begin at neighbouring pixels share one,
    of pixels of both, numbered from where the first begins, weighted by the sum of their weights in both.

    The mean with weights q of sum 1 is sqrt(sum of q^2 / w) standard deviations from that of the window, at most, where
    w are the weights there (Cauchy and Schwarz). The square of that is how many times the variance `cancels`.
    """

    first: int
    end: int
    share: float
    cancels: float


@lru_cache(maxsize=128)
def _centre(taps: Sequence[float], windows: int) -> _Centre:
    """Of one window or two: the pixel of most weight, and those beside it until little cancels, or all are in it.

    All pixels of one window are their mean, of which nothing cancels. Two windows may have no centre in common.
    """
    first_of_all, count = windows - 1, len(taps) - windows + 1
    in_windows = [taps[first_of_all - window :] for window in range(windows)]
    weights = [math.fsum(of_pixel) for of_pixel in zip(*in_windows, strict=False)]
    first = max(range(count), key=lambda k: (weights[k], min(k, count - 1 - k)))
    end = first + 1
    while True:
        share = 1 / math.fsum(weights[first:end])
        cancels = max(
            math.fsum((share * weights[k]) ** 2 / of_window[k] for k in range(first, end)) for of_window in in_windows
        )
        if cancels <= _MOST_CANCELLED or end - first == count:
            return _Centre(first_of_all + first, first_of_all + end, share, cancels)
        if end == count or (first > 0 and (weights[first - 1], first) > (weights[end], count - end)):
            first -= 1
        else:
            end += 1


@part
@no_type_check
def _zeros(count, like):
    array = np.empty(count, like.dtype)
    clear(array, 0, count)
    return array


@part
@no_type_check
def _columns(length, granule):
    """`length` rounded up to whole granules."""
    return -(-length // granule) * granule


class _Rings(NamedTuple):
    """Room for the last rows of a panel.

    lines: s and d of one row of pixels, `line` apart, in phases of `phase_length`, and their centres. moments: four
    rings of rows of `length`, `ring` apart; `slots` has where those of a window begin.
    """

    length: int
    phase_length: int
    line: int
    lines: NDArray[Any]
    ring: int
    moments: NDArray[Any]
    slots: NDArray[np.intp]


@inlined
@no_type_check
def _rings(numbers, length, reach, high, across, rows_at_once):
    """Room for windows so high and so far apart, which reach so many positions beyond their own."""
    phase_length = length + _columns(max(reach, 1), lanes(numbers))  # vectors are written past the end
    apart_in_caches = 2 * lanes(numbers)
    line, held = across * phase_length + length + apart_in_caches, high + rows_at_once - 1  # with room for centres
    ring = (held + 1) * length + apart_in_caches
    return _Rings(
        length,
        phase_length,
        line,
        _zeros(2 * line, numbers),
        ring,
        _zeros(4 * ring, numbers),
        np.empty(held, np.intp),
    )


@inlined
@no_type_check
def _store_four(array, at, apart, a, b, c, d):
    """One vector in each of four rows."""
    store(array, at, a)
    store(array, at + apart, b)
    store(array, at + 2 * apart, c)
    store(array, at + 3 * apart, d)


@inlined
@no_type_check
def _read_row(x, y, start, numbers, width, plane_size, planes, pixels, pitch, lines, line):
    """s and d of one pixel row of every plane of the panel, for pixels that begin at 0."""
    lo, gap = spread_at(numbers, LO), spread_at(numbers, GAP)
    for plane in range(planes):
        row, to = start + plane * plane_size, plane * pitch
        for i in range(0, pixels, lanes(numbers)):
            u, v = read_some(x, row + i, pixels - i, numbers), read_some(y, row + i, pixels - i, numbers)
            prefetch(x, row + i + width)
            prefetch(y, row + i + width)
            store(lines, to + i, (u - lo) + (v - lo) + gap)  # what is written too far, the next plane overwrites
            store(lines, to + i + line, u - v)


@part
@no_type_check
def _read_row_in_phases(x, y, start, numbers, plane_size, planes, pixels, pitch, lines, line, stride, phase_length):
    """The same for windows `stride` apart: pixels are dealt out so that what a filter reads lies side by side."""
    lo, gap = numbers[LO], numbers[GAP]
    for plane in range(planes):
        row = start + plane * plane_size
        for i in range(pixels):
            u, v = read(x, row + i, numbers), read(y, row + i, numbers)
            to = i % stride * phase_length + plane * pitch + i // stride
            lines[to] = (u - lo) + (v - lo) + gap
            lines[to + line] = u - v


@part
@no_type_check
def _centres_along(lines, line, taps, numbers, columns, stride, phase_length):
    """Where in `lines` the centres of s begin, one for each window along a row; those of d are `line` further.

    If they are more than a pixel each, they are written after the pixels.
    """
    to = stride * phase_length
    first, end, share = int(numbers[CENTRES]), int(numbers[CENTRES + 1]), spread_at(numbers, CENTRES + 2)
    pixel = first % stride * phase_length + first // stride
    if end == first + 1:
        return pixel
    for column in range(0, columns, lanes(lines)):
        s, d = load(lines, column + pixel), load(lines, column + pixel + line)
        of_s = of_d = s - s  # zeros, as a vector
        for k in range(first + 1, end):
            tap, at = spread_at(taps, k), column + k % stride * phase_length + k // stride
            of_s = fma(tap, load(lines, at) - s, of_s)
            of_d = fma(tap, load(lines, at + line) - d, of_d)
        store(lines, column + to, fma(share, of_s, s))
        store(lines, column + to + line, fma(share, of_d, d))
    return to


@inlined
@no_type_check
def _filter_row(rings, taps, numbers, ready, columns, size, stride):
    """Moments of the row in `lines`, the one after `ready` others, into its slot of the four rings: mean and variance
    of s, the same of d."""
    phase_length, line, lines, ring, moments = rings.phase_length, rings.line, rings.lines, rings.ring, rings.moments
    centres = _centres_along(lines, line, taps, numbers, columns, stride, phase_length)
    slot = ready % len(rings.slots) * rings.length
    for column in range(0, columns, lanes(lines)):
        centre_s, centre_d = load(lines, column + centres), load(lines, column + centres + line)
        zero = centre_s - centre_s  # zeros, as a vector
        s, d, ss, dd = zero, zero, zero, zero
        for k in range(size):
            tap, at = spread_at(taps, k), column + k % stride * phase_length + k // stride
            u, v = load(lines, at) - centre_s, load(lines, at + line) - centre_d
            wu, wv = tap * u, tap * v
            s, d, ss, dd = s + wu, d + wv, fma(wu, u, ss), fma(wv, v, dd)
        of_s, of_d = non_negative(fma(zero - s, s, ss)), non_negative(fma(zero - d, d, dd))
        _store_four(moments, slot + column, ring, s + centre_s, of_s, d + centre_d, of_d)


@part
@no_type_check
def _centres_down(moments, ring, slots, length, top, ready, taps, numbers, axis, columns, rows):
    """Set the slots of `rows` (1 or 2) windows, of which the first begins at row `top`, where `ready` rows were taken:
    a second one that does not exist repeats the last row, and is not used.

    Returns where in the rings of means their centres begin, one for each column; if they are more than a row, they are
    written to the slot after all others. axis: 1 down the columns, 2 along the depth, as numbers has them.
    """
    held = len(slots)
    for k in range(held):
        slots[k] = min(top + k, ready - 1) % held * length
    to = held * length
    place = CENTRES + 3 * axis
    first, end, share = int(numbers[place]), int(numbers[place + 1]), spread_at(numbers, place + 2)
    if end == first + 1:
        return slots[first]
    for of in (0, 2 * ring):
        for at in range(of, of + columns, lanes(moments)):
            mean = load(moments, at + slots[first])
            total = mean - mean  # zeros, as a vector
            for k in range(first + 1, end):
                tap = spread_at(taps, k)
                if rows == 2:
                    tap = tap + spread_at(taps, k - 1)
                total = fma(tap, load(moments, at + slots[k]) - mean, total)
            store(moments, at + to, fma(share, total, mean))
    return to


@inlined
@no_type_check
def _window_moments(moments, at, ring, slots, centres, taps, size, rows):
    """Mean and variance in the windows of `rows` (1 or 2) neighbouring positions, from the moments of their rows."""
    centre = load(moments, at + centres)
    zero = centre - centre  # zeros, as a vector
    mean_0, square_0, mean_1, square_1 = zero, zero, zero, zero
    for k in range(size + rows - 1):
        u = load(moments, slots[k] + at) - centre
        square = fma(u, u, load(moments, slots[k] + at + ring))
        if k < size:
            tap = spread_at(taps, k)
            mean_0 = fma(tap, u, mean_0)
            square_0 = fma(tap, square, square_0)
        if rows == 2 and k > 0:
            tap = spread_at(taps, k - 1)
            mean_1 = fma(tap, u, mean_1)
            square_1 = fma(tap, square, square_1)
    return (
        mean_0 + centre,
        non_negative(fma(zero - mean_0, mean_0, square_0)),
        mean_1 + centre,
        non_negative(fma(zero - mean_1, mean_1, square_1)),
    )


@inlined
@no_type_check
def _squared(m_s, v_s, m_d, v_d, numbers):
    """d^2 from the moments of s and d, its peak, and what its derivatives need: N E, A_d, N, V_s, V_d, E."""
    rho, sigma, uncentred = spread_at(numbers, RHO), spread_at(numbers, SIGMA), spread_at(numbers, UNCENTRED)
    one = spread_at(numbers, ONE)
    A_d = rho * m_d * m_d
    V_s = sigma * fma(uncentred * m_s, m_s, v_s)
    V_d = sigma * fma(uncentred * m_d, m_d, v_d)
    means = fma(rho * m_s, m_s, A_d)
    N = means + one
    E = V_s + V_d + one
    a, b, product = A_d + A_d, V_d + V_d, N * E
    numerator = spread_at(numbers, LUMINANCE) * a * E + b * N - spread_at(numbers, CROSS) * a * b
    peak = greater(product, spread_at(numbers, SEEN) * means)
    return non_negative(numerator / product), peak, product, A_d, N, V_s, V_d, E


@inlined
@no_type_check
def _derivatives(m_s, v_s, m_d, v_d, numbers):
    """d^2 and its peak, and what the transposed filters take, from the moments of s and d.

    With B_z = 2 dd^2/dv_z these are -B_s, B_d, and dd^2/dm_x, dd^2/dm_y less B_s m_s +- B_d m_d (C_x, C_y). Last, how
    large the terms are that nearly cancel: B_z m_z here, and F'(B_z) times pixels, both as B_z times the root mean
    square of z, before the factors 1 - a and 1 - b of "product", of which little but a rounding error may be left. That
    of d stands for the rounding error of x - y as well, in all forms; so do the larger of dd^2/dm_x and dd^2/dm_y, with
    luminance, as x + y and x - y of a dark and a bright image leave few digits of the dark one.
    """
    rho, sigma, uncentred = spread_at(numbers, RHO), spread_at(numbers, SIGMA), spread_at(numbers, UNCENTRED)
    one, luminance, cross = spread_at(numbers, ONE), spread_at(numbers, LUMINANCE), spread_at(numbers, CROSS)
    squared, peak, product, A_d, N, V_s, V_d, E = _squared(m_s, v_s, m_d, v_d, numbers)
    inverse = one / product
    by_N, by_E = inverse * E, inverse * N
    a, b = (A_d + A_d) * by_N, (V_d + V_d) * by_E

    four = (one + one) * (one + one)
    full_b = four * sigma * by_E * by_E
    by_b = full_b * (one - cross * a)
    minus_B_s = by_b * V_d
    B_d = by_b * (V_s + one)
    full_a = four * rho * m_d * by_N * by_N
    by_a = full_a * (luminance - cross * b)
    ratio = rho * m_s
    by_x, by_y = fma(ratio, m_s - m_d, one), fma(ratio, m_s + m_d, one)
    A_x = by_a * by_x  # dD/dm_x; as a sum of derivatives by m_s and m_d it would cancel
    minus_A_y = by_a * by_y
    W_s, W_d = minus_B_s * m_s, B_d * m_d
    of_s, of_d = V_d * V_d * fma(m_s, m_s, v_s), (V_s + one) * (V_s + one) * fma(m_d, m_d, v_d)
    cancels = full_b * square_root(of_s + of_d)
    cancels = fma(luminance * absolute(full_a), absolute(by_x) + absolute(by_y), cancels)
    centred = one - uncentred
    W_s, W_d = centred * W_s, centred * W_d
    return squared, peak, minus_B_s, B_d, (W_s - W_d) + A_x, (W_s + W_d) - minus_A_y, cancels


@inlined
@no_type_check
def _store_derivatives(derivatives, at, back, inside, weight, B_s, B_d, C_x, C_y):
    """Times the weight of d^2, and 0 where no window begins."""
    B_s, B_d = where_positive(inside, weight * B_s), where_positive(inside, weight * B_d)
    C_x, C_y = where_positive(inside, weight * C_x), where_positive(inside, weight * C_y)
    _store_four(derivatives, at, back, B_s, B_d, C_x, C_y)


@inlined
@no_type_check
def _transpose_down(ring, at, slots, taps, size, length, rows, to, apart):
    """Transposed filter down the columns, of two neighbouring rows of pixels.

    slots: of the size + 1 rows of positions that reach one or both of them.
    """
    step = lanes(ring)
    for column in range(0, length, 2 * step):
        first, last = spread_at(taps, size - 1), spread_at(taps, 0)
        left_0 = first * load(ring, at + slots[0] + column)
        right_0 = first * load(ring, at + slots[0] + column + step)
        left_1 = last * load(ring, at + slots[size] + column)
        right_1 = last * load(ring, at + slots[size] + column + step)
        for k in range(1, size):
            tap, tap_1 = spread_at(taps, size - 1 - k), spread_at(taps, size - k)
            left = load(ring, at + slots[k] + column)
            right = load(ring, at + slots[k] + column + step)
            left_0 = fma(tap, left, left_0)
            left_1 = fma(tap_1, left, left_1)
            right_0 = fma(tap, right, right_0)
            right_1 = fma(tap_1, right, right_1)
        store(rows, to + column, left_0)
        store(rows, to + column + step, right_0)
        store(rows, to + column + apart, left_1)
        store(rows, to + column + apart + step, right_1)


@part
@no_type_check
def _transpose_down_in_phases(ring, at, slots, taps, tap, stride, length, rows, to):
    """The same of one row of pixels, for windows `stride` apart; taps[tap] is what the first slot has."""
    for column in range(length):
        total = taps[0] - taps[0]  # 0 in their format
        for k in range(tap // stride + 1):
            total += taps[tap - k * stride] * ring[at + slots[k] + column]
        rows[to + column] = total


@inlined
@no_type_check
def _transpose_along(rows, at, taps, size):
    """Transposed filter along a row, at as many pixels as a vector holds."""
    total = spread_at(taps, 0) * load(rows, at)
    for k in range(1, size):
        total = fma(spread_at(taps, k), load(rows, at - k), total)
    return total


@inlined
@no_type_check
def _transpose_three_along(rows, at, apart, taps, size):
    """The same of three rows."""
    tap = spread_at(taps, 0)
    s, d, x = tap * load(rows, at), tap * load(rows, at + apart), tap * load(rows, at + 2 * apart)
    for k in range(1, size):
        tap, here = spread_at(taps, k), at - k
        s = fma(tap, load(rows, here), s)
        d = fma(tap, load(rows, here + apart), d)
        x = fma(tap, load(rows, here + 2 * apart), x)
    return s, d, x


@inlined
@no_type_check
def _write_row(x, y, row, numbers, first, count, rows, apart, taps, size, gx, gy, slopes_x, slopes_y, top):
    """The gradient of `count` pixels of one row of one plane, which begins at `first` in the panel.

    slopes_x[top : top + lanes], and those of y, rise to its greatest absolute values.
    """
    lo, gap = spread_at(numbers, LO), spread_at(numbers, GAP)
    greatest_x, greatest_y = load(slopes_x, top), load(slopes_y, top)
    whole = count >= lanes(numbers)
    for begin in range(0, count, lanes(numbers)):
        i = (
            min(begin, count - lanes(numbers)) if whole else 0
        )  # the last vector goes back, so that no part of one is stored
        here = first + i
        u, v = read_some(x, row + i, count - i, numbers), read_some(y, row + i, count - i, numbers)
        by_s, by_d, to_x = _transpose_three_along(rows, here, apart, taps, size)
        by_s, by_d = by_s * ((u - lo) + (v - lo) + gap), by_d * (u - v)
        to_x = to_x - by_s + by_d
        greatest_x = greater(greatest_x, absolute_some(to_x, count - i))
        if whole:
            write(gx, row + i, to_x)
        else:
            write_some(gx, row + i, to_x, count)
        if gy.size:
            to_y = _transpose_along(rows, here + 3 * apart, taps, size) - by_s - by_d
            greatest_y = greater(greatest_y, absolute_some(to_y, count - i))
            if whole:
                write(gy, row + i, to_y)
            else:
                write_some(gy, row + i, to_y, count)
    store(slopes_x, top, greatest_x)
    store(slopes_y, top, greatest_y)


@part
@no_type_check
def _transpose_at(rows, first, taps, stride, pixel):
    """Transposed filter along a row, at one pixel, for windows `stride` apart."""
    total = taps[0] - taps[0]  # 0 in their format
    for k in range(pixel % stride, len(taps), stride):
        total += taps[k] * rows[first + (pixel - k) // stride]
    return total


@part
@no_type_check
def _write_row_in_phases(
    x, y, row, numbers, first, skip, count, rows, apart, taps, stride, gx, gy, slopes_x, slopes_y, top
):
    """The same for windows `stride` apart; the row begins `skip` pixels after the first window in the panel."""
    lo, gap = numbers[LO], numbers[GAP]
    greatest_x, greatest_y = slopes_x[top], slopes_y[top]
    for i in range(count):
        if (skip + i) % stride >= len(taps):
            continue  # no window covers it: whatever it holds, NaN too, has no gradient
        u, v = read(x, row + i, numbers), read(y, row + i, numbers)
        by_s = _transpose_at(rows, first, taps, stride, skip + i) * ((u - lo) + (v - lo) + gap)
        by_d = _transpose_at(rows, first + apart, taps, stride, skip + i) * (u - v)
        to_x = _transpose_at(rows, first + 2 * apart, taps, stride, skip + i) - by_s + by_d
        write(gx, row + i, to_x)
        greatest_x = max(greatest_x, abs(to_x))
        if gy.size:
            to_y = _transpose_at(rows, first + 3 * apart, taps, stride, skip + i) - by_s - by_d
            write(gy, row + i, to_y)
            greatest_y = max(greatest_y, abs(to_y))
    slopes_x[top], slopes_y[top] = greatest_x, greatest_y


@part
@no_type_check
def _sum(values, begin, end):
    total = 0.0
    for i in range(begin, end):
        total += values[i]
    return total


@part
@no_type_check
def _greatest(values, begin, end):
    """The greatest of values[begin:end], as float64; NaN counts as greatest."""
    most = 0.0
    for i in range(begin, end):
        if not values[i] <= most:
            most = np.float64(values[i])
            if most != most:
                return most
    return most


@part
@no_type_check
def _set_peaks(tops, length, start, planes, pitch, columns, trusted, peaks):
    """The greatest of each plane's columns; 0 where no column of the panel is beyond what is trusted."""
    most = load(tops, 0)
    for at in range(0, length, lanes(tops)):
        most = greater(most, load(tops, at))
    store(tops, length, most)
    beyond = not _greatest(tops, length, length + lanes(tops)) <= trusted
    for plane in range(planes):
        peaks[start + plane] = _greatest(tops, plane * pitch, plane * pitch + columns) if beyond else 0.0


_Geometry = tuple[int, int, int, int]  # windows are so high and wide, and stand so far apart, down and across, in px


def _values(known: _Geometry | None, dense: bool, rows_at_once: int) -> Callable[..., None]:
    """Compiled (geometry, request, panel, found, image): d^2 and its sums.

    dense: whether windows stand at every column. found: sums of d^2 and peaks, of each plane. image: d^2, (planes, h,
    w), flattened, or empty.
    """
    GENERAL, KNOWN = known is None, known or (0, 0, 0, 0)
    DENSE, ROWS = dense, rows_at_once

    @no_type_check  # numba infers the types
    def values(geometry, request, panel, found, image):
        HIGH, WIDE, DOWN, ACROSS = geometry if GENERAL else KNOWN
        x, y, (taps_down, taps), numbers, trusted, height, width = request
        first, last, together, begin, end = panel
        sums, peaks = found
        if DENSE:
            ACROSS = 1
        down, across = (height - HIGH) // DOWN + 1, (width - WIDE) // ACROSS + 1
        reach, columns = (WIDE - 1) // ACROSS, end - begin
        plane_size = height * width
        pitch = columns + reach
        pixels = min(pitch * ACROSS, width - begin * ACROSS)
        length = _columns(together * pitch, lanes(numbers))
        rings = _rings(numbers, length, reach, HIGH, ACROSS, ROWS)
        _, phase_length, line, lines, ring, moments, slots = rings
        squares = _zeros(2 * length, numbers)
        totals, tops = np.empty(length, np.float64), _zeros(length + lanes(numbers), numbers)

        for start in range(first, last, together):
            planes = min(together, last - start)
            clear(totals, 0, length)
            clear(tops, 0, length)
            ready = 0
            for i in range(0, down, ROWS):
                rows = min(ROWS, down - i)
                ready = max(ready, i * DOWN)
                while ready < (i + rows - 1) * DOWN + HIGH:
                    row = start * plane_size + ready * width + begin * ACROSS
                    if DENSE:
                        _read_row(x, y, row, numbers, width, plane_size, planes, pixels, pitch, lines, line)
                    else:
                        _read_row_in_phases(
                            x, y, row, numbers, plane_size, planes, pixels, pitch, lines, line, ACROSS, phase_length
                        )
                    _filter_row(rings, taps, numbers, ready, length, WIDE, ACROSS)
                    ready += 1
                second = spread(numbers, numbers.dtype.type(rows - 1))
                centres = _centres_down(
                    moments, ring, slots, length, i * DOWN, ready, taps_down, numbers, 1, length, ROWS
                )
                windows = ring, slots, centres, taps_down, HIGH, ROWS
                for at in range(0, length, lanes(numbers)):
                    s_0, v_0, s_1, v_1 = _window_moments(moments, at, *windows)
                    d_0, w_0, d_1, w_1 = _window_moments(moments, at + 2 * ring, *windows)
                    parts = _squared(s_0, v_0, d_0, w_0, numbers)
                    square, peak = parts[0], greater(load(tops, at), parts[1])
                    store(squares, at, square)
                    if ROWS == 2:
                        parts = _squared(s_1, v_1, d_1, w_1, numbers)
                        store(squares, at + length, parts[0])
                        square = square + where_positive(second, parts[0])
                        peak = greater(peak, parts[1])
                    accumulate(totals, at, square)
                    store(tops, at, peak)
                if image.size:
                    for plane in range(planes):
                        for k in range(rows):
                            to = ((start + plane) * down + i + k) * across + begin
                            copy(squares, k * length + plane * pitch, image, to, columns)
            for plane in range(planes):
                sums[start + plane] = _sum(totals, plane * pitch, plane * pitch + columns)
            _set_peaks(tops, length, start, planes, pitch, columns, trusted, peaks)

    return compiled(values)


def _gradients(known: _Geometry | None, dense: bool, rows_at_once: int) -> Callable[..., None]:
    """Compiled as `_values`: the same sums, and the gradients gx and gy of their sum (or none: empty).

    Of the columns `begin` to `end`, of which the last reach (width - 1) // stride beyond the last position, it
    gives the gradient of the pixels and the sums over positions. upstream: factors of d^2, (planes, h, w), flattened,
    or empty for UNIT. With steps, pixels that no window covers are not written. found: sums, peaks, cancelled, slopes_x
    and slopes_y, of each plane.
    """
    GENERAL, KNOWN = known is None, known or (0, 0, 0, 0)
    DENSE, ROWS = dense, rows_at_once

    @no_type_check
    def gradients(geometry, request, panel, found, upstream, gx, gy):
        HIGH, WIDE, DOWN, ACROSS = geometry if GENERAL else KNOWN
        x, y, (taps_down, taps), numbers, trusted, height, width = request
        first, last, together, begin, end = panel
        sums, peaks, cancelled, slopes_x, slopes_y = found
        if DENSE:
            ACROSS = 1
        down, across = (height - HIGH) // DOWN + 1, (width - WIDE) // ACROSS + 1
        reach, plane_size = (WIDE - 1) // ACROSS, height * width
        left = max(0, begin - reach)
        columns = min(end, across) - left
        pitch = columns + reach
        pixels = min(pitch * ACROSS, width - left * ACROSS)
        own = min(end * ACROSS, (across - 1) * ACROSS + WIDE) - begin * ACROSS
        length = _columns(together * pitch, 2 * lanes(numbers))
        rings = _rings(numbers, length, reach, HIGH, ACROSS, ROWS)
        _, phase_length, line, lines, ring, moments, slots = rings
        totals = np.empty(length, np.float64)
        tops, wide = _zeros(length + lanes(numbers), numbers), _zeros(length, numbers)
        steepest_x, steepest_y = _zeros(together * lanes(numbers), numbers), _zeros(together * lanes(numbers), numbers)
        begins = _zeros(length, numbers)  # the unit of gradients where a window begins, else 0
        for plane in range(together):
            for i in range(plane * pitch, plane * pitch + columns):
                begins[i] = numbers[UNIT]
        weights = _zeros(2 * length, numbers)
        kept = (HIGH - 1) // DOWN + 2
        back = (kept + 1) * length
        derivatives = _zeros(4 * back, numbers)
        back_slots = np.empty(kept, np.intp)
        pad = _columns(reach, lanes(numbers))
        apart = pad + length + lanes(numbers)
        filtered = _zeros(8 * apart, numbers)
        quantities = 4 if gy.size else 3

        for start in range(first, last, together):
            planes = min(together, last - start)
            clear(steepest_x, 0, together * lanes(numbers))
            clear(steepest_y, 0, together * lanes(numbers))
            clear(totals, 0, length)
            clear(tops, 0, length)
            clear(wide, 0, length)
            copy(begins, 0, weights, 0, length)
            copy(begins, 0, weights, length, length)
            ready = done = 0
            for i in range(0, down, ROWS):
                rows = min(ROWS, down - i)
                ready = max(ready, i * DOWN)
                while ready < (i + rows - 1) * DOWN + HIGH:
                    row = start * plane_size + ready * width + left * ACROSS
                    if DENSE:
                        _read_row(x, y, row, numbers, width, plane_size, planes, pixels, pitch, lines, line)
                    else:
                        _read_row_in_phases(
                            x, y, row, numbers, plane_size, planes, pixels, pitch, lines, line, ACROSS, phase_length
                        )
                    _filter_row(rings, taps, numbers, ready, length, WIDE, ACROSS)
                    ready += 1
                if upstream.size:
                    for plane in range(planes):
                        for k in range(rows):
                            row = ((start + plane) * down + i + k) * across + left
                            copy(upstream, row, weights, k * length + plane * pitch, columns)
                slot, below = i % kept * length, (i + 1) % kept * length
                second = spread(numbers, numbers.dtype.type(rows - 1))
                centres = _centres_down(
                    moments, ring, slots, length, i * DOWN, ready, taps_down, numbers, 1, length, ROWS
                )
                windows = ring, slots, centres, taps_down, HIGH, ROWS
                for at in range(0, length, lanes(numbers)):
                    s_0, v_0, s_1, v_1 = _window_moments(moments, at, *windows)
                    d_0, w_0, d_1, w_1 = _window_moments(moments, at + 2 * ring, *windows)
                    inside, weight = load(begins, at), load(weights, at)
                    square, peak, B_s, B_d, C_x, C_y, cancels = _derivatives(s_0, v_0, d_0, w_0, numbers)
                    _store_derivatives(derivatives, slot + at, back, inside, weight, B_s, B_d, C_x, C_y)
                    cancels = absolute(weight * cancels)
                    if ROWS == 2:
                        weight = load(weights, at + length)
                        square_1, peak_1, B_s, B_d, C_x, C_y, more = _derivatives(s_1, v_1, d_1, w_1, numbers)
                        square = square + where_positive(second, square_1)
                        _store_derivatives(derivatives, below + at, back, inside, weight, B_s, B_d, C_x, C_y)
                        peak = greater(peak, peak_1)
                        cancels = greater(cancels, absolute(weight * more))
                    accumulate(totals, at, square)
                    store(tops, at, greater(load(tops, at), peak))
                    store(wide, at, greater(load(wide, at), cancels))

                known = i + rows
                complete = known * DOWN if known < down else (down - 1) * DOWN + HIGH
                while done < complete:
                    # Positions from `earliest` on reach these pixels; a row of zeros stands for those outside.
                    tap = (HIGH - 1 - done % DOWN) // DOWN * DOWN + done % DOWN
                    earliest = (done - tap) // DOWN
                    for k in range(kept):
                        position = earliest + k
                        back_slots[k] = (position % kept if 0 <= position < known else kept) * length
                    for q in range(quantities):
                        at, to = q * back, 2 * q * apart + pad
                        if ROWS == 2:
                            _transpose_down(derivatives, at, back_slots, taps_down, HIGH, length, filtered, to, apart)
                        elif done % DOWN < HIGH:
                            _transpose_down_in_phases(
                                derivatives, at, back_slots, taps_down, tap, DOWN, length, filtered, to
                            )
                    for k in range(min(ROWS, complete - done)):
                        for plane in range(planes):
                            row = (start + plane) * plane_size + (done + k) * width + begin * ACROSS
                            at, top = k * apart + pad + plane * pitch, plane * lanes(numbers)
                            if done % DOWN >= HIGH:
                                continue  # no window covers the row: whatever it holds, NaN too, has no gradient
                            if DENSE:
                                _write_row(
                                    x, y, row, numbers, at + begin - left, own,
                                    filtered, 2 * apart, taps, WIDE, gx, gy, steepest_x, steepest_y, top,
                                )  # fmt: skip
                            else:
                                _write_row_in_phases(
                                    x, y, row, numbers, at, (begin - left) * ACROSS, own,
                                    filtered, 2 * apart, taps, ACROSS, gx, gy, steepest_x, steepest_y, top,
                                )  # fmt: skip
                    done += ROWS
            for plane in range(planes):
                at = plane * pitch
                sums[start + plane] = _sum(totals, at + begin - left, at + columns)
                cancelled[start + plane] = _greatest(wide, at, at + columns)
                top = plane * lanes(numbers)
                slopes_x[start + plane] = _greatest(steepest_x, top, top + lanes(numbers))
                slopes_y[start + plane] = _greatest(steepest_y, top, top + lanes(numbers))
            _set_peaks(tops, length, start, planes, pitch, columns, trusted, peaks)

    return compiled(gradients)


_USUAL = 11, 11, 1, 1  # that of the default window
VALUES, GRADIENTS = Kernels(_values, _USUAL), Kernels(_gradients, _USUAL)
