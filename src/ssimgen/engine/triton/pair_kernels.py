# mypy: ignore-errors
"""d^2 of image pairs in Triton, for windows at every position: means, maps for their gradient, and the gradient.

A program takes BW lanes of C columns and some rows of positions of one plane. Rows stream. Mean and variance of pixels
are taken about one of them, first along rows for C neighbouring windows at once, then down the columns for R: about
what stands in the middle of what all of them share. So no variance is a difference of large numbers, and float32
serves. What is kept for the gradient is about one pixel of the plane, for the same reason.

    g_x = F'(A_s + A_d) + 2 s F'B_s + 2 d F'B_d,   g_y = F'(A_s - A_d) + 2 s F'B_s - 2 d F'B_d

with F' the transposed filter, s = x + y, d = x - y, B the slope of d^2 to the windowed variance and A = (slope to the
mean m) - 2 B m. Nothing cancels where x is near y. Nothing is added up across programs but one sum of each.
"""

from ssimgen._extras import extra

with extra("triton", "ssimgen.engine.triton"):
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
    """The C neighbouring numbers from each of the pointers `first` on, as C tensors in float32; 0 where not seen."""
    if C == 1:
        found = (loaded(first, seen),)
    else:
        row = tl.arange(0, C)[None, :]
        if seen is None:
            many = loaded(first[:, None] + row, None)
        else:
            many = loaded(first[:, None] + row, seen[:, None])
        if C == 2:
            left, right = tl.split(many)
            found = (left, right)
        else:
            even, odd = tl.split(tl.reshape(many, [many.shape[0], 2, 2]))
            z0, z2 = tl.split(even)
            z1, z3 = tl.split(odd)
            found = (z0, z1, z2, z3)
    return found


@triton.jit
def loaded(place, seen):
    if seen is None:
        z = tl.load(place)
    else:
        z = tl.load(place, mask=seen, other=0.0)
    return z.to(tl.float32)


@triton.jit
def put(first, values, seen, C: tl.constexpr):
    """C tensors to the C neighbouring places from each of the pointers `first` on."""
    if C == 1:
        tl.store(first, values[0], mask=seen)
    elif C == 2:
        tl.store(first[:, None] + tl.arange(0, 2)[None, :], tl.join(values[0], values[1]), mask=seen[:, None])
    else:
        even = tl.join(values[0], values[2])
        four = tl.join(even, tl.join(values[1], values[3]))
        tl.store(first[:, None] + tl.arange(0, 4)[None, :], tl.reshape(four, [four.shape[0], 4]), mask=seen[:, None])


@triton.jit
def filtered(off, square, about, N: tl.constexpr, TAPS: tl.constexpr):
    """Means and variances of N neighbouring windows, of what is so far off `about` and has such squares about it."""
    of_means = ()
    of_variances = ()
    for n in tl.static_range(N):
        e = TAPS[0] * off[n]
        v = TAPS[0] * square[n]
        for k in tl.static_range(1, len(TAPS)):
            e += TAPS[k] * off[n + k]
            v += TAPS[k] * square[n + k]
        of_means = of_means + (about + e,)
        of_variances = of_variances + (v - e * e,)
    return of_means, of_variances


@triton.jit
def along_row(a, b, at_x, at_y, N: tl.constexpr, TAPS: tl.constexpr):
    """Moments of N neighbouring windows of pixels a and b in a row, of their sums and of their differences.

    Sums are of pixels about one that all windows share, exact where those are near each other, wherever they are;
    differences are taken first, exact where x is near y. Means are about the pixels at_x and at_y of the plane.
    """
    MIDDLE: tl.constexpr = (N + len(TAPS) - 2) // 2
    off_s = ()
    off_d = ()
    square_s = ()
    square_d = ()
    for k in tl.static_range(N + len(TAPS) - 1):
        off_s = off_s + ((a[k] - a[MIDDLE]) + (b[k] - b[MIDDLE]),)
        off_d = off_d + ((a[k] - b[k]) - (a[MIDDLE] - b[MIDDLE]),)
        square_s = square_s + (off_s[k] * off_s[k],)
        square_d = square_d + (off_d[k] * off_d[k],)
    about_s = (a[MIDDLE] - at_x) + (b[MIDDLE] - at_y)
    about_d = (a[MIDDLE] - b[MIDDLE]) - (at_x - at_y)
    mean_s, var_s = filtered(off_s, square_s, about_s, N, TAPS)
    mean_d, var_d = filtered(off_d, square_d, about_d, N, TAPS)
    return mean_s, var_s, mean_d, var_d


@triton.jit
def down_column(means, variances, N: tl.constexpr, TAPS: tl.constexpr):
    """Moments of N neighbouring windows, of rows that have means and variances (Chan, Golub, LeVeque 1983)."""
    MIDDLE: tl.constexpr = (N + len(TAPS) - 2) // 2
    off = ()
    square = ()
    for k in tl.static_range(N + len(TAPS) - 1):
        e = means[k] - means[MIDDLE]
        off = off + (e,)
        square = square + (variances[k] + e * e,)
    return filtered(off, square, means[MIDDLE], N, TAPS)


@triton.jit(do_not_specialize=["height", "vectors", "down", "across", "rows"])
def forward(
    x,
    y,
    sums,
    maps,
    height: tl.int32,
    vectors: tl.int32,
    down: tl.int32,
    across: tl.int32,
    rows: tl.int32,
    c1: tl.float32,
    c2: tl.float32,
    lo: tl.float32,
    rest_of_lo: tl.float32,
    beta: tl.float32,
    limit: tl.float32,
    DOWN: tl.constexpr,
    ACROSS: tl.constexpr,
    FORM: tl.constexpr,
    MAPS: tl.constexpr,
    BW: tl.constexpr,
    C: tl.constexpr,
    STAGES: tl.constexpr,
    R: tl.constexpr,
):
    """Sums of d^2 of each program, and MAPS (0, 3 or 4) maps, in rows of a multiple of C.

    A row of pixels has C times `vectors`. C and R are not larger than the window. Pixels further than the root of
    `limit` from the middle one of the plane make the sum NaN, and so do planes that are as far from each other.
    """
    KV: tl.constexpr = len(DOWN)
    KH: tl.constexpr = len(ACROSS)
    VECTORS: tl.constexpr = (KH + C - 1 + C - 1) // C
    BEFORE: tl.constexpr = (KV - 1 + R - 1) // R  # steps until a window is complete
    width = vectors * C
    plane = tl.program_id(0).to(tl.int64)
    top = tl.program_id(1) * rows
    column = (tl.program_id(2) * BW + tl.arange(0, BW)) * C
    read = tl.minimum(column, (across - 1) // C * C)  # a lane with no windows reads what the last one reads
    x += plane * height * width
    y += plane * height * width
    middle = height // 2 * width + width // 2
    at_x = tl.load(x + middle).to(tl.float32)
    at_y = tl.load(y + middle).to(tl.float32)
    about_s = (at_x - lo) + (at_y - lo) - 2 * rest_of_lo
    about_d = at_x - at_y
    zero = tl.zeros([BW], tl.float32)
    held = ((zero,) * (BEFORE * R),) * (4 * C)  # of each column: means and variances of rows, of s and of d
    total = zero
    most = zero + about_d * about_d
    pitch = (across + C - 1) // C * C
    of_map = tl.num_programs(0).to(tl.int64) * down * pitch
    end = tl.minimum(top + rows, down)
    for step in tl.range(0, (end - top + R - 1) // R + BEFORE, num_stages=STAGES):
        first = top + (step - BEFORE) * R + KV - 1  # the first of the new rows; they end what the step completes
        for i in tl.static_range(R):
            at = tl.minimum(tl.maximum(first + i, 0), height - 1)  # beyond the image there is nothing to be complete
            start = at * width + read
            a = ()
            b = ()
            for v in tl.static_range(VECTORS):
                if (v + 1) * C <= KH:
                    a = a + columns(x + start + v * C, None, C)
                    b = b + columns(y + start + v * C, None, C)
                else:  # of which the last window may need nothing
                    a = a + columns(x + start + v * C, read + (v + 1) * C <= width, C)
                    b = b + columns(y + start + v * C, read + (v + 1) * C <= width, C)
            mean_s, var_s, mean_d, var_d = along_row(a, b, at_x, at_y, C, ACROSS)
            far = var_s[0] + var_d[0] + mean_s[0] * mean_s[0] + mean_d[0] * mean_d[0]
            most = tl.maximum(most, far)
            longer = ()
            for c in tl.static_range(C):
                longer = longer + (held[4 * c] + (mean_s[c],), held[4 * c + 1] + (var_s[c],))
                longer = longer + (held[4 * c + 2] + (mean_d[c],), held[4 * c + 3] + (var_d[c],))
            held = longer
        if step >= BEFORE:
            complete = ()
            for q in tl.static_range(2 * C):
                complete = complete + down_column(
                    last(held[2 * q], R + KV - 1), last(held[2 * q + 1], R + KV - 1), R, DOWN
                )
            for i in tl.static_range(R):
                row = first + i - (KV - 1)
                kept_x = ()
                kept_of_s = ()
                kept_of_d = ()
                kept_y = ()
                for c in tl.static_range(C):
                    live = (column + c < across) & (row < end)
                    m_s = about_s + complete[4 * c][i]
                    v_s = complete[4 * c + 1][i]
                    m_d = about_d + complete[4 * c + 2][i]
                    v_d = complete[4 * c + 3][i]
                    v_s = tl.maximum(v_s, 0.0, propagate_nan=tl.PropagateNan.ALL)
                    v_d = tl.maximum(v_d, 0.0, propagate_nan=tl.PropagateNan.ALL)
                    square, to_m_s, to_m_d, to_v_s, to_v_d = slopes(m_s, m_d, v_s, v_d, c1, c2, beta, FORM)
                    total += tl.where(live, square, 0.0)
                    if MAPS > 0:
                        a_s = to_m_s - 2 * to_v_s * complete[4 * c][i]
                        a_d = to_m_d - 2 * to_v_d * complete[4 * c + 2][i]
                        kept_x = kept_x + (tl.where(live, a_s + a_d, 0.0),)
                        kept_of_s = kept_of_s + (tl.where(live, to_v_s, 0.0),)
                        kept_of_d = kept_of_d + (tl.where(live, to_v_d, 0.0),)
                        kept_y = kept_y + (tl.where(live, a_s - a_d, 0.0),)
                if MAPS > 0:
                    place = maps + (plane * down + row) * pitch + column
                    room = (column < pitch) & (row < end)  # the end of a row is filled with zeros
                    put(place, kept_x, room, C)
                    put(place + of_map, kept_of_s, room, C)
                    put(place + 2 * of_map, kept_of_d, room, C)
                    if MAPS > 3:
                        put(place + 3 * of_map, kept_y, room, C)
        shorter = ()
        for q in tl.static_range(4 * C):
            shorter = shorter + (last(held[q], BEFORE * R),)
        held = shorter
    program = (plane * tl.num_programs(1) + tl.program_id(1)) * tl.num_programs(2) + tl.program_id(2)
    tl.store(sums + program, tl.sum(tl.where(most > limit, float("nan"), total), 0))


@triton.jit
def last(values, N: tl.constexpr):
    """The last N of some values."""
    found = ()
    for k in tl.static_range(N):
        found = found + (values[len(values) - N + k],)
    return found


@triton.jit(do_not_specialize=["sums_of_mean", "places"])
def finish(sums, means, sums_of_mean: tl.int32, places: tl.int64, BLOCK: tl.constexpr):
    """Means over so many places, each from its sums of programs, added up in float64."""
    mean = tl.program_id(0)
    total = tl.zeros([BLOCK], tl.float64)
    for begin in range(0, sums_of_mean, BLOCK):
        i = begin + tl.arange(0, BLOCK)
        here = sums + mean.to(tl.int64) * sums_of_mean + i
        total += tl.load(here, mask=i < sums_of_mean, other=0.0).to(tl.float64)
    tl.store(means + mean, (tl.sum(total, 0) / places).to(tl.float32))


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


@triton.jit(do_not_specialize=["planes_of_mean", "step", "height", "vectors", "down", "across", "rows"])
def backward(
    x,
    y,
    maps,
    upstream,
    means,
    g_x,
    g_y,
    planes_of_mean: tl.int32,
    step: tl.int64,
    height: tl.int32,
    vectors: tl.int32,
    down: tl.int32,
    across: tl.int32,
    rows: tl.int32,
    DOWN: tl.constexpr,
    ACROSS: tl.constexpr,
    MAPS: tl.constexpr,
    BW: tl.constexpr,
    C: tl.constexpr,
    STAGES: tl.constexpr,
):
    """The gradients of means, of d^2 of so many planes each, times what comes from above: to x, and to y with 4 MAPS.

    What comes from above are numbers `step` apart. A row of pixels has C times `vectors`.
    """
    KV: tl.constexpr = len(DOWN)
    width = vectors * C
    plane = tl.program_id(0).to(tl.int64)
    top = tl.program_id(1) * rows
    column = (tl.program_id(2) * BW + tl.arange(0, BW)) * C
    pitch = (across + C - 1) // C * C
    of_map = tl.num_programs(0).to(tl.int64) * down * pitch
    zero = tl.zeros([BW], tl.float32)
    waiting = ((zero,) * KV,) * (MAPS * C)
    mean = plane // planes_of_mean
    factor = tl.load(upstream + mean * step) / planes_of_mean / (down * across)
    factor += 0.0 * tl.load(means + mean)  # NaN where the mean is
    middle = plane * height * width + height // 2 * width + width // 2
    at_x = tl.load(x + middle).to(tl.float32)
    at_y = tl.load(y + middle).to(tl.float32)
    for i in tl.range(0, tl.minimum(rows, height - top) + KV - 1, num_stages=STAGES):
        r = top + i - (KV - 1)
        live = (r >= 0) & (r < down)
        row = maps + (plane * down + r) * pitch
        start = (plane * height + r) * width + column
        seen = column + C <= width
        a = columns(x + start, seen & (i >= KV - 1), C)
        b = columns(y + start, seen & (i >= KV - 1), C)
        with_row = ()
        for q in tl.static_range(MAPS):
            of_map_row = spread(row + q * of_map, live, column, pitch, ACROSS, C)
            for c in tl.static_range(C):
                with_row = with_row + (added(waiting[q * C + c], of_map_row[c], DOWN),)
        waiting = with_row
        if i >= KV - 1:
            to_x = ()
            to_y = ()
            for c in tl.static_range(C):
                of_s = 2 * ((a[c] - at_x) + (b[c] - at_y)) * waiting[C + c][0]
                of_d = 2 * ((a[c] - b[c]) - (at_x - at_y)) * waiting[2 * C + c][0]
                to_x = to_x + (factor * (waiting[c][0] + (of_s + of_d)),)
                if MAPS > 3:
                    to_y = to_y + (factor * (waiting[3 * C + c][0] + (of_s - of_d)),)
            put(g_x + start, to_x, seen, C)
            if MAPS > 3:
                put(g_y + start, to_y, seen, C)
