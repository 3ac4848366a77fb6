# mypy: ignore-errors
"""d^2 of image pairs in Triton, for windows at every position: means, maps for their gradient, and the gradient.

A program takes BW lanes of C columns and BH rows of positions of one plane. Rows stream: of each, the mean and variance
of every window's pixels are taken about the middle one, and merged down into those of the windows that the row is part
of (Chan, Golub, LeVeque 1983), which wait in registers. So no variance is a difference of large numbers, and float32
serves. What is kept for the gradient is about one pixel of the plane, for the same reason.

    g_x = F'P + 2 x F'Q + 2 y F'R,   g_y = F'S + 2 x F'R + 2 y F'Q

with F' the transposed filter, P = A_s + A_d, S = A_s - A_d, Q = B_s + B_d, R = B_s - B_d, where B is the slope of d^2
to the windowed variance and A = (slope to the mean m) - 2 B m. Nothing is added up across programs but one sum of each.
"""

import triton
import triton.language as tl


@triton.jit
def slopes(m_s, m_d, v_s, v_d, c1, c2, beta, FORM: tl.constexpr):
    """d^2 and its slopes to means and variances (before beta) of s and d."""
    if FORM == "uncentred":
        q_s = beta * (v_s + m_s * m_s)
        q_d = beta * (v_d + m_d * m_d)
    else:
        q_s = beta * v_s
        q_d = beta * v_d
    of_b = 1.0 / (q_s + q_d + 2 * c2)
    b = 2 * q_d * of_b
    if FORM == "centred" or FORM == "uncentred":
        square = b
        to_a = 0.0 * b
        to_b = 1.0 + 0.0 * b
    else:
        of_a = 1.0 / (m_s * m_s + m_d * m_d + 2 * c1)
        a = 2 * m_d * m_d * of_a
        if FORM == "sum":
            square = a + b
            to_a = 1.0 + 0.0 * a
            to_b = 1.0 + 0.0 * b
        else:
            square = a + b - a * b
            to_a = 1.0 - b
            to_b = 1.0 - a
    to_v_s = -beta * to_b * b * of_b
    to_v_d = beta * to_b * of_b * (2.0 - b)
    if FORM == "centred":
        to_m_s = to_a
        to_m_d = to_a
    elif FORM == "uncentred":
        to_m_s = 2 * m_s * to_v_s
        to_m_d = 2 * m_d * to_v_d
    else:
        to_m_s = -2 * to_a * a * m_s * of_a
        to_m_d = 2 * to_a * m_d * of_a * (2.0 - a)
    return square, to_m_s, to_m_d, to_v_s, to_v_d


@triton.jit
def columns(first, seen, C: tl.constexpr):
    """The C neighbouring numbers from each of the pointers `first` on, as C tensors in float32."""
    if C == 1:
        found = (tl.load(first, mask=seen, other=0.0).to(tl.float32),)
    elif C == 2:
        pair = tl.load(first[:, None] + tl.arange(0, 2)[None, :], mask=seen[:, None], other=0.0).to(tl.float32)
        left, right = tl.split(pair)
        found = (left, right)
    else:
        four = tl.load(first[:, None] + tl.arange(0, 4)[None, :], mask=seen[:, None], other=0.0).to(tl.float32)
        even, odd = tl.split(tl.reshape(four, [four.shape[0], 2, 2]))
        z0, z2 = tl.split(even)
        z1, z3 = tl.split(odd)
        found = (z0, z1, z2, z3)
    return found


@triton.jit
def of_row(z, c: tl.constexpr, TAPS: tl.constexpr):
    """Mean and variance of the neighbours c, c + 1, ... in a row, about the middle one."""
    K: tl.constexpr = len(TAPS)
    middle = z[c + K // 2]
    mean = 0.0 * middle  # NaN for NaN
    square = 0.0 * middle
    for k in tl.static_range(K):
        if k != K // 2:
            e = z[c + k] - middle
            mean += TAPS[k] * e
            square += TAPS[k] * (e * e)
    return middle + mean, square - mean * mean


@triton.jit
def merged(means, variances, mean, variance, TAPS: tl.constexpr, SUMS: tl.constexpr):
    """The waiting windows with one more row: entry k has K - 1 - k rows, entry 0 is complete afterwards.

    Means are of weights w_0 ... w_k / sum, variances sums of w (z - mean)^2; SUMS are those of TAPS up to each.
    """
    K: tl.constexpr = len(TAPS)
    of_means = ()
    of_variances = ()
    for k in tl.static_range(K):
        if k < K - 1:
            e = mean - means[k + 1]
            of_means = of_means + (means[k + 1] + (TAPS[K - 1 - k] / SUMS[K - 1 - k]) * e,)
            between = (TAPS[K - 1 - k] * SUMS[K - 2 - k] / SUMS[K - 1 - k]) * e
            of_variances = of_variances + (variances[k + 1] + TAPS[K - 1 - k] * variance + between * e,)
        else:
            of_means = of_means + (mean,)
            of_variances = of_variances + (TAPS[0] * variance,)
    return of_means, of_variances


@triton.jit
def forward(
    x,
    y,
    sums,
    maps,
    of_map,
    height,
    width,
    down,
    across,
    c1,
    c2,
    lo,
    beta,
    DOWN: tl.constexpr,
    ACROSS: tl.constexpr,
    SUMS: tl.constexpr,
    FORM: tl.constexpr,
    MAPS: tl.constexpr,
    BH: tl.constexpr,
    BW: tl.constexpr,
    C: tl.constexpr,
):
    """Sums of d^2 of each program, and MAPS (0, 3 or 4) maps, in rows of a multiple of C, `of_map` numbers apart."""
    KV: tl.constexpr = len(DOWN)
    KH: tl.constexpr = len(ACROSS)
    VECTORS: tl.constexpr = (KH + C - 1 + C - 1) // C
    plane = tl.program_id(0).to(tl.int64)
    top = tl.program_id(1) * BH
    column = (tl.program_id(2) * BW + tl.arange(0, BW)) * C
    x += plane * height * width
    y += plane * height * width
    pivot_s = 0.0
    pivot_d = 0.0
    if MAPS > 0:
        middle = height // 2 * width + width // 2
        at_x = tl.load(x + middle).to(tl.float32)
        at_y = tl.load(y + middle).to(tl.float32)
        pivot_s = at_x + at_y - 2 * lo
        pivot_d = at_x - at_y
    zero = tl.zeros([BW], tl.float32)
    waiting = ((zero,) * KV,) * (4 * C)
    total = zero
    pitch = (across + C - 1) // C * C
    rows = tl.minimum(BH, down - top)
    for r in range(rows + KV - 1):
        start = (top + r) * width + column
        s = ()
        d = ()
        for v in tl.static_range(VECTORS):
            seen = column + (v + 1) * C <= width
            a = columns(x + start + v * C, seen, C)
            b = columns(y + start + v * C, seen, C)
            for c in tl.static_range(C):
                s = s + (a[c] + b[c],)
                d = d + (a[c] - b[c],)
        with_row = ()
        for c in tl.static_range(C):
            mean_s, var_s = of_row(s, c, ACROSS)
            mean_d, var_d = of_row(d, c, ACROSS)
            with_row = (
                with_row
                + merged(waiting[4 * c], waiting[4 * c + 1], mean_s, var_s, DOWN, SUMS)
                + merged(waiting[4 * c + 2], waiting[4 * c + 3], mean_d, var_d, DOWN, SUMS)
            )
        waiting = with_row
        if r >= KV - 1:
            for c in tl.static_range(C):
                live = column + c < across
                m_s = waiting[4 * c][0] - 2 * lo
                v_s = waiting[4 * c + 1][0]
                m_d = waiting[4 * c + 2][0]
                v_d = waiting[4 * c + 3][0]
                v_s = tl.where(v_s < 0, 0.0, v_s)  # not a maximum, which may take 0 for NaN
                v_d = tl.where(v_d < 0, 0.0, v_d)
                square, to_m_s, to_m_d, to_v_s, to_v_d = slopes(m_s, m_d, v_s, v_d, c1, c2, beta, FORM)
                total += tl.where(live, square, 0.0)
                if MAPS > 0:
                    a_s = to_m_s - 2 * to_v_s * (m_s - pivot_s)
                    a_d = to_m_d - 2 * to_v_d * (m_d - pivot_d)
                    place = maps + (plane * down + (top + r - (KV - 1))) * pitch + column + c
                    room = column + c < pitch  # the end of a row is filled with zeros
                    tl.store(place, tl.where(live, a_s + a_d, 0.0), mask=room)
                    tl.store(place + of_map, tl.where(live, to_v_s + to_v_d, 0.0), mask=room)
                    tl.store(place + 2 * of_map, tl.where(live, to_v_s - to_v_d, 0.0), mask=room)
                    if MAPS > 3:
                        tl.store(place + 3 * of_map, tl.where(live, a_s - a_d, 0.0), mask=room)
    program = (plane * tl.num_programs(1) + tl.program_id(1)) * tl.num_programs(2) + tl.program_id(2)
    tl.store(sums + program, tl.sum(total, 0))


@triton.jit
def spread(row, live, column, pitch, TAPS: tl.constexpr, C: tl.constexpr):
    """C neighbouring sums over k of TAPS[k] times what stands k columns before; beyond the ends of a row is zero."""
    K: tl.constexpr = len(TAPS)
    BEFORE: tl.constexpr = (K - 1 + C - 1) // C * C
    z = ()
    for v in tl.static_range(BEFORE // C + 1):
        place = column - BEFORE + v * C
        z = z + columns(row + place, live & (place >= 0) & (place < pitch), C)
    found = ()
    for c in tl.static_range(C):
        total = TAPS[0] * z[c + BEFORE]
        for k in tl.static_range(1, K):
            total += TAPS[k] * z[c + BEFORE - k]
        found = found + (total,)
    return found


@triton.jit
def added(sums, row, TAPS: tl.constexpr):
    """The waiting sums down the columns with one more row: entry 0 is complete afterwards."""
    K: tl.constexpr = len(TAPS)
    found = ()
    for k in tl.static_range(K):
        if k < K - 1:
            found = found + (sums[k + 1] + TAPS[k] * row,)
        else:
            found = found + (TAPS[k] * row,)
    return found


@triton.jit
def backward(
    x,
    y,
    maps,
    of_map,
    upstream,
    g_x,
    g_y,
    height,
    width,
    down,
    across,
    DOWN: tl.constexpr,
    ACROSS: tl.constexpr,
    MAPS: tl.constexpr,
    BH: tl.constexpr,
    BW: tl.constexpr,
    C: tl.constexpr,
):
    """The gradients of the mean d^2 of each plane, times what comes from above: to x, and to y where MAPS is 4."""
    KV: tl.constexpr = len(DOWN)
    plane = tl.program_id(0).to(tl.int64)
    top = tl.program_id(1) * BH
    column = (tl.program_id(2) * BW + tl.arange(0, BW)) * C
    pitch = (across + C - 1) // C * C
    zero = tl.zeros([BW], tl.float32)
    waiting = ((zero,) * KV,) * (MAPS * C)
    factor = tl.load(upstream + plane) / (down * across)
    middle = plane * height * width + height // 2 * width + width // 2
    at_x = tl.load(x + middle).to(tl.float32)
    at_y = tl.load(y + middle).to(tl.float32)
    for i in range(tl.minimum(BH, height - top) + KV - 1):
        r = top + i - (KV - 1)
        live = (r >= 0) & (r < down)
        row = maps + (plane * down + r) * pitch
        with_row = ()
        for q in tl.static_range(MAPS):
            of_map_row = spread(row + q * of_map, live, column, pitch, ACROSS, C)
            for c in tl.static_range(C):
                with_row = with_row + (added(waiting[q * C + c], of_map_row[c], DOWN),)
        waiting = with_row
        if i >= KV - 1:
            seen = column + C <= width
            start = (plane * height + r) * width + column
            a = columns(x + start, seen, C)
            b = columns(y + start, seen, C)
            for c in tl.static_range(C):
                twice_x = 2 * (a[c] - at_x)
                twice_y = 2 * (b[c] - at_y)
                to_x = waiting[c][0] + twice_x * waiting[C + c][0] + twice_y * waiting[2 * C + c][0]
                tl.store(g_x + start + c, factor * to_x, mask=seen)
                if MAPS > 3:
                    to_y = waiting[3 * C + c][0] + twice_x * waiting[2 * C + c][0] + twice_y * waiting[C + c][0]
                    tl.store(g_y + start + c, factor * to_y, mask=seen)
