# mypy: ignore-errors
"""d^2 of all pairs in Triton: patches of images, and products of all pairs of them.

At one window position, a patch is taken apart into its mean u, the root s of its variance, and a vector z of length 1,
its pixels about their mean times the root of beta w, over s. The covariance of two patches is then s_x s_y (z_x . z_y),
and a difference of variances that nothing cancels in but 1 - z_x . z_y:

    v_x + v_y - 2 cov = (s_x - s_y)^2 + 2 s_x s_y (1 - z_x . z_y)

Numbers of z times 1024 are sums of two in half precision, with 22 bits, whatever the range of the images, and so the
products are those of tensor cores in half precision, which sum in float32 (Ootomo, Yokota 2022): high times high, high
times low, low times high. What is left is an error of some 1e-8 of z_x . z_y. It hides pairs of images that are nearly
equal: they are compared again, pixel by pixel.

Images are multiplied by a number `unit` that makes c2 about 1, so that no product leaves the range of float32. Their
least value `lo` comes in two parts, as pixels may be far from 0, and near to it.
"""

from ssimgen._extras import extra

with extra("triton", "ssimgen.engine.triton"):
    import triton
    import triton.language as tl

from ssimgen.engine.triton.pair_kernels import slopes

SCALE = tl.constexpr(1024.0)  # of z in half precision
NEAR = tl.constexpr(1e-3)  # d^2 of pairs that are compared again
GEOMETRY = ("of_image", "height", "width", "down", "across", "stride_v", "stride_h")


@triton.jit
def weights(q, DOWN: tl.constexpr, ACROSS: tl.constexpr):
    """w of the places q of a window, row by row; beyond the last, 0."""
    KV: tl.constexpr = len(DOWN)
    KH: tl.constexpr = len(ACROSS)
    down = tl.zeros(q.shape, tl.float32)
    across = tl.zeros(q.shape, tl.float32)
    for k in tl.static_range(KV):
        down = tl.where(q // KH == k, DOWN[k], down)
    for k in tl.static_range(KH):
        across = tl.where(q % KH == k, ACROSS[k], across)
    return down * across


@triton.jit
def corners(p, height, width, down, across, stride_v, stride_h):
    """Where the windows p of an image begin, counted through channels, rows and columns."""
    row = p // across
    return (row // down * height + row % down * stride_v) * width + p % across * stride_h


@triton.jit
def patch(corner, width, unit, q, KV: tl.constexpr, KH: tl.constexpr):
    """Pixels of the patches that begin at the pointers `corner`, in float32, and those in their middle."""
    place = q // KH * width + q % KH
    inside = (q < KV * KH)[None, :]
    middle = tl.load(corner + (KV // 2 * width + KH // 2)).to(tl.float32) * unit
    pixels = tl.load(corner[:, None] + place[None, :], mask=inside, other=0.0).to(tl.float32) * unit
    return tl.where(inside, pixels, middle[:, None]), middle


@triton.jit
def moments(pixels, middle, w):
    """Mean less the middle, variance, and pixels less the mean, of patches."""
    about = pixels - middle[:, None]
    mean = tl.sum(about * w[None, :], 1)
    about -= mean[:, None]
    return mean, tl.sum(about * about * w[None, :], 1), about


@triton.jit(do_not_specialize=["first", "n", *GEOMETRY])
def patches(
    images,
    vectors,
    statistics,
    first,
    n,
    of_image,
    height,
    width,
    down,
    across,
    stride_v,
    stride_h,
    unit,
    lo,
    rest_of_lo,
    beta,
    most,
    DOWN: tl.constexpr,
    ACROSS: tl.constexpr,
    K: tl.constexpr,
    IMAGES: tl.constexpr,
):
    """z of n images at the positions `first` on, (high and low, position, image, K), and u and s of the same order, NaN
    where u^2 + s^2 reaches `most`."""
    KV: tl.constexpr = len(DOWN)
    KH: tl.constexpr = len(ACROSS)
    p = tl.program_id(0)
    i = tl.program_id(1) * IMAGES + tl.arange(0, IMAGES)
    live = i < n
    q = tl.arange(0, K)
    w = weights(q, DOWN, ACROSS)
    corner = images + tl.minimum(i, n - 1).to(tl.int64) * of_image
    corner += corners(first + p, height, width, down, across, stride_v, stride_h)
    pixels, middle = patch(corner, width, unit, q, KV, KH)
    mean, variance, about = moments(pixels, middle, w)
    u = middle - lo + (mean - rest_of_lo)
    s = tl.sqrt(beta * variance)
    z = about * tl.sqrt(beta * w)[None, :] * SCALE / tl.where(s == 0, 1.0, s)[:, None]
    high = z.to(tl.float16)
    low = (z - high.to(tl.float32)).to(tl.float16)
    at = p * n + i
    of_all = tl.num_programs(0) * n
    tl.store(vectors + at[:, None] * K + q[None, :], high, mask=live[:, None])
    tl.store(vectors + (of_all + at)[:, None] * K + q[None, :], low, mask=live[:, None])
    tl.store(statistics + at, u, mask=live)
    tl.store(statistics + of_all + at, tl.where(u * u + s * s < most, s, float("nan")), mask=live)


@triton.jit
def product(a_high, a_low, b_high, b_low, total):
    """Plus the product of two matrices, each a sum of two; the smallest terms first."""
    total = tl.dot(a_low, b_high, total)
    total = tl.dot(a_high, b_low, total)
    return tl.dot(a_high, b_high, total)


@triton.jit
def of_pairs(dot, u_x, u_y, s_x, s_y, c1, c2, beta, FORM: tl.constexpr):
    """Of all pairs of patches: numerator and denominator of the complement of structure, or of d^2 of the form
    "uncentred", and what the complement of luminance is (u_x - u_y)^2 over."""
    far = 1.0 - dot
    far = tl.where(far < 0, 0.0, far)  # not a maximum, which may take 0 for NaN
    s = s_x[:, None] - s_y[None, :]
    e = (u_x * u_x)[:, None] + (u_y * u_y)[None, :]
    num = s * s + 2 * s_x[:, None] * (s_y[None, :] * far)
    den = (s_x * s_x)[:, None] + (s_y * s_y + c2)[None, :]
    if FORM == "uncentred":
        u = u_x[:, None] - u_y[None, :]
        num += beta * (u * u)
        den += beta * e
    return num, den, e + c1


@triton.jit(do_not_specialize=["n", "m", "count", "per", "fresh"])
def values(
    x,
    y,
    statistics_x,
    statistics_y,
    sums,
    n,
    m,
    count,
    per,
    fresh,
    beta,
    c1,
    c2,
    FORM: tl.constexpr,
    ITSELF: tl.constexpr,
    K: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """Add d^2 of all pairs at `count` positions to the sums (slot, n, m): each slot takes `per` of them. Of images
    against themselves, tiles below the diagonal are left out."""
    STEPS: tl.constexpr = K // BK
    top = tl.program_id(0) * BM
    left = tl.program_id(1) * BN
    slot = tl.program_id(2)
    i = top + tl.arange(0, BM)
    j = left + tl.arange(0, BN)
    k = tl.arange(0, BK)
    at_x = tl.minimum(i, n - 1)
    at_y = tl.minimum(j, m - 1)
    low_x = count * n * K
    low_y = count * m * K
    begin = slot * per
    steps = tl.maximum(tl.minimum(per, count - begin), 0) * STEPS
    if ITSELF:
        steps = tl.where(left + BN > top, steps, 0)
    dot = tl.zeros([BM, BN], tl.float32)
    rest = tl.zeros([BM, BN], tl.float32)
    total = tl.zeros([BM, BN], tl.float32)
    for step in range(steps):
        p = begin + step // STEPS
        of_x = x + (p * n + at_x)[:, None] * K + (step % STEPS * BK + k)[None, :]
        of_y = y + (p * m + at_y)[:, None] * K + (step % STEPS * BK + k)[None, :]
        u_x = tl.load(statistics_x + p * n + at_x)
        u_y = tl.load(statistics_y + p * m + at_y)
        s_x = tl.load(statistics_x + (count + p) * n + at_x)
        s_y = tl.load(statistics_y + (count + p) * m + at_y)
        high_x = tl.load(of_x)
        high_y = tl.trans(tl.load(of_y))
        rest = tl.dot(tl.load(of_x + low_x), high_y, rest)
        rest = tl.dot(high_x, tl.trans(tl.load(of_y + low_y)), rest)
        dot = tl.dot(high_x, high_y, dot)
        if step % STEPS == STEPS - 1:
            num, den, e = of_pairs((dot + rest) / (SCALE * SCALE), u_x, u_y, s_x, s_y, c1, c2, beta, FORM)
            u = u_x[:, None] - u_y[None, :]
            if FORM == "sum":
                total += (num * e + u * u * den) / (den * e)
            elif FORM == "product":
                total += (num * (e - u * u) + u * u * den) / (den * e)
            else:
                total += num / den
            dot = tl.zeros([BM, BN], tl.float32)
            rest = tl.zeros([BM, BN], tl.float32)
    if (steps > 0) | (fresh != 0):
        live = (i < n)[:, None] & (j < m)[None, :]
        place = sums + (slot * n + i)[:, None] * m + j[None, :]
        before = tl.load(place, mask=live & (fresh == 0), other=0.0)
        tl.store(place, before + total.to(tl.float64), mask=live)


@triton.jit(do_not_specialize=["slots", "n", "m", "positions"])
def finished(sums, square, slots, n, m, positions, ITSELF: tl.constexpr, AGAIN: tl.constexpr, BLOCK: tl.constexpr):
    """Means from the sums of all slots, or where it is done AGAIN of the pairs that are near. Of images against
    themselves, those above the diagonal serve below it, and it is 0, or NaN."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = at < n * m
    i = at // m
    j = at % m
    source = at
    if ITSELF:
        source = tl.minimum(i, j) * m + tl.maximum(i, j)
    if AGAIN:
        before = tl.load(square + at, mask=live)
        live &= before < NEAR
        if ITSELF:
            live &= i != j
    total = tl.zeros([BLOCK], tl.float64)
    for slot in range(slots):
        total += tl.load(sums + slot * n * m + source, mask=live, other=0.0)
    mean = (total / positions).to(tl.float32)
    mean = tl.where(mean < 0, 0.0, mean)
    if ITSELF:
        mean = tl.where(i == j, 0 * mean, mean)
    tl.store(square + at, mean, mask=live)


@triton.jit(do_not_specialize=["n", "m", "positions", "per", *GEOMETRY])
def compared_again(
    x,
    y,
    square,
    sums,
    n,
    m,
    of_image,
    height,
    width,
    down,
    across,
    stride_v,
    stride_h,
    positions,
    per,
    unit,
    lo,
    rest_of_lo,
    beta,
    c1,
    c2,
    DOWN: tl.constexpr,
    ACROSS: tl.constexpr,
    FORM: tl.constexpr,
    ITSELF: tl.constexpr,
    K: tl.constexpr,
    BLOCK: tl.constexpr,
    PATCHES: tl.constexpr,
):
    """Sums of d^2, of `per` positions in each slot, of those of BLOCK pairs that are near: by sums and differences of
    their pixels."""
    KV: tl.constexpr = len(DOWN)
    KH: tl.constexpr = len(ACROSS)
    pairs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    begin = tl.program_id(1) * per
    end = tl.minimum(begin + per, positions)
    q = tl.arange(0, K)
    w = weights(q, DOWN, ACROSS)
    near = tl.load(square + pairs, mask=pairs < n * m, other=1.0) < NEAR
    if ITSELF:
        near &= pairs // m < pairs % m
    last = -1
    for _ in range(tl.sum(near.to(tl.int32), 0)):
        last = tl.min(tl.where(near & (pairs > last), pairs, 2147483647), 0)
        of_x = x + (last // m).to(tl.int64) * of_image
        of_y = y + (last % m).to(tl.int64) * of_image
        total = tl.zeros([PATCHES], tl.float32)
        for start in range(begin, end, PATCHES):
            p = start + tl.arange(0, PATCHES)
            corner = corners(tl.minimum(p, end - 1), height, width, down, across, stride_v, stride_h)
            of_one, middle_x = patch(of_x + corner, width, unit, q, KV, KH)
            of_other, middle_y = patch(of_y + corner, width, unit, q, KV, KH)
            s = moments(of_one + of_other, middle_x + middle_y, w)
            d = moments(of_one - of_other, middle_x - middle_y, w)
            m_s = middle_x - lo + (middle_y - lo) + (s[0] - 2 * rest_of_lo)
            d2 = slopes(m_s, middle_x - middle_y + d[0], s[1], d[1], c1, c2, beta, FORM)[0]
            total += tl.where(p < end, d2, 0.0)
        tl.store(sums + tl.program_id(1) * n * m + last, tl.sum(total, 0).to(tl.float64))
