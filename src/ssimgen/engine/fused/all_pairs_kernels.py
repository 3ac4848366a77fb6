"""Squared patch distances of all pairs, and their gradients, compiled.

Images of the second set are interleaved: a group of them, one a lane of a vector, stands against one image of the
first set, which is taken number by number. With planes x' = sqrt(2 beta) (x - shift), whatever the shift, and F
the windowed mean,

    2 (var_x + var_y - 2 cov) = F((x' - y')^2) - (F(x') - F(y'))^2,

so a pair costs one filtered square, in which nothing cancels where images are nearly equal; the rest are statistics
of single images. The shift is the value of the flattest parts of an image: pixels are small there, and so are
rounding errors, which flat patches would show magnified by 1 / c2.

Gradients, with -G, B and M the upstream gradient times the derivatives of d^2 by 2 cov, v and mu, F^T the transpose
of F, and sums over all images y of the second set:

    dx = sqrt(2 beta) ( x' F^T(sum B) + F^T(A - F(x') sum B) - sum y' F^T(G) ),   A = sum (M / sqrt(2 beta) + G F(y')).

Only F^T(G) is filtered a pair, and it serves both images. The maps of A and sum B are called slopes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, no_type_check

import numpy as np
from numpy.typing import NDArray

from ssimgen.engine.fused.compilation import Kernels, compiled, inlined
from ssimgen.engine.fused.filters import (
    add_sums_over_lanes,
    filter_column,
    filter_differences,
    spread_column,
    spread_products,
)
from ssimgen.engine.fused.vectors import (
    REGISTER_BYTES,
    accumulate,
    fma,
    load,
    negative,
    non_negative,
    reciprocal,
    spread,
    store,
)
from ssimgen.engine.fused.vectors import lanes as lanes_in
from ssimgen.engine.spec import Form

GROUP_STATISTICS = 4  # of an image in a group, at each position: F(x'), mu, what rounding took from mu, 2 v
SINGLE_STATISTICS = 5  # of an image of the first set: F(x'), mu, what rounding took from mu, 2 v, mu^2 + c1
SLOPES = 2  # A, sum B
GRADES = 4  # of an image, sums over positions that tell how exact its pairs will be, see `prepare`

_Array = NDArray[Any]


class Singles(NamedTuple):
    """Images of the first set, from number `start` on: flat arrays of (image, row, column), and of statistics."""

    pixels: _Array
    statistics: _Array
    start: int


class Group(NamedTuple):
    """A group of the second set, from number `first` on, and room for the pairs with one image.

    pixels (H, W, lanes), statistics (w, h, GROUP_STATISTICS, lanes): column by column, as they are read; only
    `members` lanes count. The strip keeps the filtered rows of a tile, (H, columns, lanes), `differences` a column
    of a block.
    """

    pixels: _Array
    statistics: _Array
    first: int
    members: int
    strip: _Array
    differences: _Array


class Request(NamedTuple):
    """What is asked of all pairs: taps, (c1, 2 c2, 2 beta, 1 / sqrt(2 beta)), and the matrix it goes to or comes from.

    The matrix is flat, with steps from row to row and from column to column; entry (i, j) is `weight` times the sum
    of d^2. If `triangular`, entries above the diagonal are computed and stand for those below.
    """

    taps: _Array
    constants: _Array
    weight: float
    triangular: bool
    row_step: int
    column_step: int


class Sums(NamedTuple):
    """What becomes the gradient of images: sum y' F^T(G) for each pixel, and slopes for each position."""

    pixels: _Array
    slopes: _Array


class GradientRoom(NamedTuple):
    """Room for the gradients of pairs: upstream (lanes), a column of G and of slopes, and G spread over rows.

    `strip` is zero before and after.
    """

    upstream: _Array
    column: _Array
    slopes: _Array
    strip: _Array


class Units(NamedTuple):
    """Images count as (x - low) scale, which makes c2 what it is here; and the window."""

    low: float
    scale: float
    c2: float
    beta: float
    taps: _Array
    stride: int


class PreparationRoom(NamedTuple):
    """Room for the statistics of a group in float64: a row of pixels, filtered rows, moments of all positions."""

    pixels: _Array
    ring: _Array
    means: _Array
    variances: _Array


def lanes_of(dtype: np.dtype[Any]) -> int:
    """How many numbers of a dtype a vector of this CPU holds."""
    return REGISTER_BYTES // dtype.itemsize


@cache
def preparation_kernel(lanes: int) -> Callable[..., None]:
    """Statistics of the images of one group, for any window: the loops over taps cost little beside the pairs."""
    LANES = lanes

    @no_type_check
    def prepare(images, units, room, group, grades):
        """Interleave up to `lanes` images, shifted and in their units, and take their statistics in float64.

        grades[:, first : first + members] are for each image the sums over positions of

            beta (mu - shift)^2 / (v + c2 / 2),   beta E z^2 / (v + c2 / 2),   E z^2,   v:

        times the rounding error of the number format, the first bounds the error of d^2 from the difference of
        squares in F((x' - y')^2) - (F(x') - F(y'))^2; times that of float64, the second does from the statistics. The
        last is for gradients: against a flat patch, 2 cov + c2 is what a difference of variances leaves.
        """
        members, height, width = images.shape
        low, scale, beta, taps = units.low, units.scale, units.beta, units.taps
        size, stride = len(taps), units.stride
        pixels, ring, means, variances = room.pixels, room.ring, room.means, room.variances
        y, statistics = group.pixels, group.statistics
        across, down = statistics.shape[0], statistics.shape[1]
        norm = 0.0
        for k in range(size):
            norm += taps[k]
        norm *= norm  # sum of the window's weights: 1 but for rounding
        over_norm, factor, half_c2 = spread(means, 1 / norm), spread(means, beta), spread(means, units.c2 / 2)
        one, zero = spread(means, 1.0), spread(means, 0.0)
        totals = np.zeros(LANES)  # of the weights 1 / (v + c2 / 2)
        shifts, squares = np.zeros(LANES), np.zeros(LANES)  # weighted sums of the means, and of their squares
        noises, sizes, contrasts = np.zeros(LANES), np.zeros(LANES), np.zeros(LANES)
        ready = 0
        for p in range(down):
            ready = max(ready, p * stride)
            while ready < p * stride + size:
                for k in range(LANES):
                    row = images[min(k, members - 1), ready]  # empty lanes repeat the last image
                    for c in range(width):
                        pixels[c, k] = (row[c] - low) * scale
                slot = ready % size * across
                for at in range(0, across * LANES, lanes_in(means)):
                    first = at // LANES * stride * LANES + at % LANES
                    mean, square = zero, zero
                    for t in range(size):
                        u = load(pixels, first + t * LANES)
                        weighted = spread(means, taps[t]) * u
                        mean = mean + weighted
                        square = fma(weighted, u, square)
                    store(ring, slot * 2 * LANES + at, mean)
                    store(ring, (slot * 2 + across) * LANES + at, square)
                ready += 1
            for at in range(0, across * LANES, lanes_in(means)):
                mean, square = zero, zero
                for t in range(size):
                    slot = (p * stride + t) % size * 2 * across * LANES + at
                    tap = spread(means, taps[t])
                    mean = fma(tap, load(ring, slot), mean)
                    square = fma(tap, load(ring, slot + across * LANES), square)
                variance = non_negative(factor * (square - mean * mean * over_norm))
                store(means, p * across * LANES + at, mean)
                store(variances, p * across * LANES + at, variance)
                weight = one / (variance + half_c2)
                lane = at % LANES
                store(totals, lane, load(totals, lane) + weight)
                store(shifts, lane, load(shifts, lane) + weight * mean)
                store(squares, lane, load(squares, lane) + weight * mean * mean)
                store(noises, lane, load(noises, lane) + weight * square)
                store(sizes, lane, load(sizes, lane) + square)
                store(contrasts, lane, load(contrasts, lane) + variance)
        root = np.sqrt(2 * beta)
        for k in range(LANES):
            shifts[k] /= totals[k]
            if k < members:
                grades[0, group.first + k] = beta * (squares[k] - shifts[k] * shifts[k] * totals[k])
                grades[1, group.first + k] = beta * noises[k]
                grades[2, group.first + k] = sizes[k]
                grades[3, group.first + k] = contrasts[k]
        offsets = low + shifts / (norm * scale)
        shifts = (offsets - low) * (norm * scale)  # of the offsets as they are rounded: F(x') must be that of pixels x'
        for r in range(height):
            for k in range(LANES):
                row = images[min(k, members - 1), r]
                for c in range(width):
                    y[r, c, k] = root * scale * (row[c] - offsets[k])
        for q in range(across):
            for p in range(down):
                for k in range(LANES):
                    statistics[q, p, 0, k] = root / np.sqrt(norm) * (means[p, q, k] - shifts[k])
                    mean = means[p, q, k] / norm
                    statistics[q, p, 1, k] = mean
                    statistics[q, p, 2, k] = mean - statistics[q, p, 1, k]
                    statistics[q, p, 3, k] = 2 * variances[p, q, k]

    return compiled(prepare)


@cache
def closing_kernel(lanes: int) -> Callable[..., None]:
    """The gradient of the images of one group from the sums over pairs, for any window as in `preparation_kernel`."""
    LANES = lanes

    @no_type_check
    def finish(group, sums, taps, stride, scale, spread_rows, spread_pixels, out):
        """out[k] = scale ( y' F^T(sum B) + F^T(A - F(y') sum B) - sums ); the sums are used up."""
        y, gradient_y, slopes_y = group.pixels, sums.pixels, sums.slopes
        height, width = y.shape[0], y.shape[1]
        across, down = group.statistics.shape[0], group.statistics.shape[1]
        factor = spread(y, y.dtype.type(scale))
        spread_rows[:] = 0
        for p in range(down):
            for q in range(across):
                at = q * down + p
                b = load(slopes_y, (at * SLOPES + 1) * LANES)
                a = load(slopes_y, at * SLOPES * LANES) - load(group.statistics, at * GROUP_STATISTICS * LANES) * b
                for t in range(len(taps)):
                    to = ((p * stride + t) * across + q) * SLOPES * LANES
                    tap = spread(y, taps[t])
                    store(spread_rows, to, fma(tap, a, load(spread_rows, to)))
                    store(spread_rows, to + LANES, fma(tap, b, load(spread_rows, to + LANES)))
        for r in range(height):
            spread_pixels[:] = 0
            for q in range(across):
                at = (r * across + q) * SLOPES * LANES
                a, b = load(spread_rows, at), load(spread_rows, at + LANES)
                for t in range(len(taps)):
                    to = (q * stride + t) * SLOPES * LANES
                    tap = spread(y, taps[t])
                    store(spread_pixels, to, fma(tap, a, load(spread_pixels, to)))
                    store(spread_pixels, to + LANES, fma(tap, b, load(spread_pixels, to + LANES)))
            for c in range(width):
                at, of = (r * width + c) * LANES, c * SLOPES * LANES
                a = load(spread_pixels, of) - load(gradient_y, at)
                store(gradient_y, at, factor * fma(load(y, at), load(spread_pixels, of + LANES), a))
        for k in range(out.shape[0]):
            for r in range(height):
                for c in range(width):
                    out[k, r, c] = gradient_y[r, c, k]

    return compiled(finish)


@cache
def separate_kernel() -> Callable[..., None]:
    """From the layout of groups to that of single images."""

    @no_type_check
    def separate(group, c1, x, single):
        """The images of a group and their statistics, each on its own."""
        y, statistics = group.pixels, group.statistics
        height, width = y.shape[0], y.shape[1]
        across, down = statistics.shape[0], statistics.shape[1]
        for k in range(group.members):
            for r in range(height):
                for c in range(width):
                    x[k, r, c] = y[r, c, k]
            for q in range(across):
                for p in range(down):
                    mean = statistics[q, p, 1, k]
                    for s in range(GROUP_STATISTICS):
                        single[k, q, p, s] = statistics[q, p, s, k]
                    single[k, q, p, GROUP_STATISTICS] = mean * mean + c1

    return compiled(separate)


@cache
def interleave_kernel() -> Callable[..., None]:
    """From the layout of single images to that of groups."""

    @no_type_check
    def interleave(single_sums, first, members, group_sums):
        """Sums of the single images first, ..., first + members - 1, laid out as those of a group."""
        height, width = group_sums.pixels.shape[0], group_sums.pixels.shape[1]
        across, down = group_sums.slopes.shape[0], group_sums.slopes.shape[1]
        for k in range(members):
            for r in range(height):
                for c in range(width):
                    group_sums.pixels[r, c, k] = single_sums.pixels[((first + k) * height + r) * width + c]
            for q in range(across):
                for p in range(down):
                    for s in range(SLOPES):
                        at = (((first + k) * across + q) * down + p) * SLOPES + s
                        group_sums.slopes[q, p, s, k] = single_sums.slopes[at]

    return compiled(interleave)


@inlined
@no_type_check
def _statistics(singles, image, group, place, lanes):
    """F, mu, 2 v, mu^2 + c1 of a single image, F, mu, 2 v of those in the group, and the difference of both mu: that of
    nearly equal ones would be the rounding error of each."""
    across, down = group.statistics.shape[0], group.statistics.shape[1]
    at_x, at_y = (image * down * across + place) * SINGLE_STATISTICS, place * GROUP_STATISTICS * lanes
    x, y, like = singles.statistics, group.statistics, group.pixels
    of_x, of_y = spread(like, x[at_x + 1]), load(y, at_y + lanes)
    return (
        spread(like, x[at_x]),
        of_x,
        spread(like, x[at_x + 3]),
        spread(like, x[at_x + 4]),
        load(y, at_y),
        of_y,
        load(y, at_y + 3 * lanes),
        (of_x - of_y) + (spread(like, x[at_x + 2]) - load(y, at_y + 2 * lanes)),
    )


_Geometry = tuple[int, int, int, int]  # size and stride of windows in px, and columns and rows of positions in a tile


def _values(known: _Geometry | None, form: Form, lanes: int) -> Callable[..., None]:
    """d^2 of one group against images of the first set, by tiles of window positions."""
    GENERAL, LANES = known is None, lanes
    KNOWN_SIZE, KNOWN_STRIDE, KNOWN_COLUMNS, KNOWN_ROWS = known or (0, 0, 0, 0)
    PRODUCT, CENTRED, UNCENTRED = form == "product", form == "centred", form == "uncentred"

    @no_type_check
    def values(geometry, singles, begin, end, group, request, total, matrix):
        """Add d^2 to the matrix, for the images begin, ..., end - 1 of `singles` and all of the group."""
        if GENERAL:
            SIZE, STRIDE, COLUMNS, ROWS = geometry
        else:
            SIZE, STRIDE, COLUMNS, ROWS = KNOWN_SIZE, KNOWN_STRIDE, KNOWN_COLUMNS, KNOWN_ROWS
        height, width = group.pixels.shape[0], group.pixels.shape[1]
        across, down = group.statistics.shape[0], group.statistics.shape[1]
        x, y, taps, strip = singles.pixels, group.pixels, request.taps, group.strip
        constants = request.constants
        c1, two_c2, two_beta = spread(y, constants[0]), spread(y, constants[1]), spread(y, constants[2])
        zero = spread(y, y.dtype.type(0))
        for i in range(begin, end):
            total[:] = 0
            for tile in range(0, across, COLUMNS):
                left = min(tile, across - COLUMNS)  # the last tile moves back to end at the edge
                ready = 0
                for block in range(0, down, ROWS):
                    top = min(block, down - ROWS)
                    while ready < (top + ROWS - 1) * STRIDE + SIZE:
                        at, to = ready * width + left * STRIDE, ready * COLUMNS * LANES
                        filter_differences(
                            x, i * height * width + at, y, at * LANES, taps, strip, to, SIZE, STRIDE, COLUMNS
                        )
                        ready += 1
                    block_sum = zero
                    for q in range(tile - left, COLUMNS):
                        at = (top * STRIDE * COLUMNS + q) * LANES
                        filter_column(strip, at, taps, group.differences, SIZE, STRIDE, COLUMNS, ROWS)
                        column_sum = zero
                        for p in range(block - top, ROWS):
                            place = (left + q) * down + top + p
                            fx, _, vx, ex, fy, my, vy, m = _statistics(singles, i, group, place, LANES)
                            v, f = vx + vy, fx - fy
                            N, D = fma(negative(f), f, load(group.differences, p * LANES)), v + two_c2
                            N = non_negative(N)
                            if CENTRED:
                                column_sum = fma(N, reciprocal(D), column_sum)
                            else:
                                M, E = m * m, fma(my, my, ex)
                                if UNCENTRED:
                                    N, D = fma(two_beta, M, N), fma(two_beta, E - c1, D)
                                elif PRODUCT:
                                    N, D = fma(M, D, N * (E - M)), D * E
                                else:
                                    N, D = fma(M, D, N * E), D * E
                                column_sum = fma(N, reciprocal(D), column_sum)
                        block_sum = block_sum + column_sum
                    accumulate(total, 0, block_sum)
            row = singles.start + i
            for k in range(group.members):
                column = group.first + k
                if not request.triangular or row < column:
                    at = row * request.row_step + column * request.column_step
                    matrix[at] += request.weight * total[k]
                    if request.triangular:
                        matrix[column * request.row_step + row * request.column_step] = matrix[at]

    return compiled(values)


def _gradients(known: _Geometry | None, form: Form, lanes: int, both: bool) -> Callable[..., None]:
    """The gradient of the same; `both` says whether it goes to images of both sets, or to those in groups only."""
    GENERAL, LANES, BOTH = known is None, lanes, int(both)
    KNOWN_SIZE, KNOWN_STRIDE, KNOWN_COLUMNS, KNOWN_ROWS = known or (0, 0, 0, 0)
    KNOWN_SLOPES = SLOPES * KNOWN_ROWS
    PRODUCT, CENTRED, UNCENTRED = form == "product", form == "centred", form == "uncentred"

    @no_type_check
    def gradients(geometry, singles, begin, end, group, request, matrix, room, single_sums, group_sums):
        """Add to the sums of the images begin, ..., end - 1 and of the group, with the matrix as upstream gradient.

        Those of single images are flat, their slopes ordered by (image, column, row, slope).
        """
        if GENERAL:
            SIZE, STRIDE, COLUMNS, ROWS = geometry
            COLUMN_SLOPES = SLOPES * ROWS
        else:
            SIZE, STRIDE, COLUMNS, ROWS = KNOWN_SIZE, KNOWN_STRIDE, KNOWN_COLUMNS, KNOWN_ROWS
            COLUMN_SLOPES = KNOWN_SLOPES
        height, width = group.pixels.shape[0], group.pixels.shape[1]
        across, down = group.statistics.shape[0], group.statistics.shape[1]
        x, y, taps, strip = singles.pixels, group.pixels, request.taps, group.strip
        constants, slopes_y = request.constants, group_sums.slopes
        c1, two_c2, two_beta = spread(y, constants[0]), spread(y, constants[1]), spread(y, constants[2])
        rho, one = spread(y, constants[3]), spread(y, y.dtype.type(1))
        zero, four_beta = one - one, two_beta + two_beta
        for i in range(begin, end):
            row = singles.start + i
            any_upstream = False
            for k in range(LANES):
                column = group.first + k
                g = y.dtype.type(0)
                if k < group.members and (not request.triangular or row < column):
                    g = matrix[row * request.row_step + column * request.column_step]
                    if request.triangular:
                        g += matrix[column * request.row_step + row * request.column_step]
                room.upstream[k] = 2 * request.weight * g
                any_upstream |= g != 0
            if not any_upstream:
                continue
            W = load(room.upstream, 0)
            for tile in range(0, across, COLUMNS):
                left = min(tile, across - COLUMNS)
                ready, closed = 0, 0
                for block in range(0, down, ROWS):
                    top = min(block, down - ROWS)
                    while ready < (top + ROWS - 1) * STRIDE + SIZE:
                        at, to = ready * width + left * STRIDE, ready * COLUMNS * LANES
                        filter_differences(
                            x, i * height * width + at, y, at * LANES, taps, strip, to, SIZE, STRIDE, COLUMNS
                        )
                        ready += 1
                    for p in range(block - top):  # rows of the block before
                        store(room.column, p * LANES, zero)
                        store(room.slopes, p * SLOPES * LANES, zero)
                        store(room.slopes, (p * SLOPES + 1) * LANES, zero)
                    for q in range(tile - left, COLUMNS):
                        at = (top * STRIDE * COLUMNS + q) * LANES
                        filter_column(strip, at, taps, group.differences, SIZE, STRIDE, COLUMNS, ROWS)
                        for p in range(block - top, ROWS):
                            place = (left + q) * down + top + p
                            fx, mx, vx, ex, fy, my, vy, m = _statistics(singles, i, group, place, LANES)
                            D, f = vx + vy + two_c2, fx - fy
                            N = fma(negative(f), f, load(group.differences, p * LANES))
                            C = D - N  # s2 = C / D
                            if CENTRED:
                                r = reciprocal(D)
                                G = W * r
                                B = G * (C * r)
                                ax, ay = G * fy, G * fx
                            else:
                                E = fma(my, my, ex)
                                if UNCENTRED:
                                    r = reciprocal(fma(two_beta, E - c1, D))
                                    s = fma(four_beta * mx, my, C) * r  # 1 - d^2
                                    G = W * r
                                    B, U = G * s, rho * two_beta * (G * r)
                                    # s mx - my, as below
                                    M = two_beta * (mx + my)
                                    tx = U * fma(m, fma(M, my, D), negative(N) * mx)
                                    ty = U * fma(negative(m), fma(M, mx, D), negative(N) * my)
                                else:
                                    r = reciprocal(D * E)
                                    over_d, over_e = E * r, D * r
                                    s2 = C * over_d
                                    G, U = W * over_d, rho * W * over_e
                                    if PRODUCT:
                                        G, U = G * (fma(mx + mx, my, c1) * over_e), U * s2
                                    B = G * s2
                                    # s1 mx - my = (mx - my) (my (mx + my) + c1) / E, where nothing cancels
                                    M, T = mx + my, U * (m * over_e)
                                    tx, ty = T * fma(my, M, c1), negative(T) * fma(mx, M, c1)
                                ax, ay = fma(G, fy, tx), fma(G, fx, ty)
                            store(room.column, p * LANES, G)
                            to = place * SLOPES * LANES
                            store(slopes_y, to, load(slopes_y, to) + ay)
                            store(slopes_y, to + LANES, load(slopes_y, to + LANES) + B)
                            if BOTH:
                                store(room.slopes, p * SLOPES * LANES, ax)
                                store(room.slopes, (p * SLOPES + 1) * LANES, B)
                        spread_column(room.column, taps, room.strip, at, SIZE, STRIDE, COLUMNS, ROWS)
                        if BOTH:
                            to = ((i * across + left + q) * down + top) * SLOPES
                            add_sums_over_lanes(room.slopes, single_sums.slopes, to, COLUMN_SLOPES)
                    complete = min(block + ROWS, down - ROWS) * STRIDE if block + ROWS < down else ready
                    for r in range(closed, complete):
                        at, of = r * width + left * STRIDE, r * COLUMNS * LANES
                        spread_products(
                            room.strip, of, x, i * height * width + at, y, at * LANES, taps,
                            single_sums.pixels, group_sums.pixels, SIZE, STRIDE, COLUMNS, BOTH,
                        )  # fmt: skip
                    closed = max(closed, complete)

    return compiled(gradients)


VALUES, GRADIENTS = Kernels(_values), Kernels(_gradients)
