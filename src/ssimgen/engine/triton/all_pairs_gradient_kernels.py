# mypy: ignore-errors
"""Gradients of d^2 of all pairs in Triton: slopes of pairs of patches, their products with patches, and the way back to
pixels. Patches are those of `all_pairs_kernels`.
"""

from ssimgen._extras import extra

with extra("triton", "ssimgen.engine.triton"):
    import triton
    import triton.language as tl

from ssimgen.engine.triton.all_pairs_kernels import GEOMETRY, SCALE, of_pairs, product, weights


@triton.jit
def slopes_of_pairs(num, den, u_x, u_y, e, c1, beta, FORM: tl.constexpr):
    """Slopes of d^2 of all pairs of patches to their covariance, and to variance and mean of the first."""
    diff = u_x[:, None] - u_y[None, :]
    if FORM == "centred" or FORM == "uncentred":
        of_den = 1.0 / den
    else:
        of_both = 1.0 / (den * e)
        of_den = e * of_both
        of_e = den * of_both
    right = num * of_den
    left = 1.0 - right
    to_v = left * of_den
    to_cov = to_v + right * of_den  # of_den, but laid out as the product that it is for: else all is done twice
    if FORM == "centred":
        to_u = 0.0 * of_den
    elif FORM == "uncentred":
        to_u = 2 * beta * of_den * (left * u_x[:, None] - u_y[None, :])
    else:
        to_u = 2 * (diff * of_e) * ((u_y[None, :] * (u_x[:, None] + u_y[None, :]) + c1) * of_e)
        if FORM == "product":
            other = 1.0 - diff * diff * of_e
            to_cov *= other
            to_v *= other
            to_u *= left
    return -2 * to_cov, to_v, to_u


@triton.jit(do_not_specialize=["n", "m"])
def slopes_to_patches(
    x,
    y,
    statistics_x,
    statistics_y,
    upstream,
    scales,
    slopes,
    own,
    n,
    m,
    factor,
    beta,
    c1,
    c2,
    FORM: tl.constexpr,
    K: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
):
    """Slopes of `factor` times the sum of upstream (n, m) times d^2 to s_x z of the patches of x, (position, image, K),
    by way of their covariances; and of the rest, `own`, what z is multiplied by, and the slope to u. `scales` are the
    largest of each row of upstream: divided by them, factors in half precision are at most 1024 in size."""
    p = tl.program_id(1)
    count = tl.num_programs(1)
    i = tl.program_id(0) * BM + tl.arange(0, BM)
    at_x = p * n + tl.minimum(i, n - 1)
    q = tl.arange(0, K)
    of_x = x + at_x[:, None] * K + q[None, :]
    high_x = tl.load(of_x)
    low_x = tl.load(of_x + count * n * K)
    u_x = tl.load(statistics_x + at_x)
    s_x = tl.load(statistics_x + count * n + at_x)
    scale = tl.load(scales + tl.minimum(i, n - 1))
    inverse = 1.0 / tl.where(scale == 0, 1.0, scale)
    root = tl.sqrt(s_x * s_x + c2)
    to_z = tl.zeros([BM, K], tl.float32)
    to_v = tl.zeros([BM], tl.float32)
    to_u = tl.zeros([BM], tl.float32)
    row = upstream + tl.minimum(i, n - 1)[:, None] * m
    for left in range(0, m, BN):
        j = left + tl.arange(0, BN)
        column = tl.minimum(j, m - 1)
        at_y = p * m + column
        of_y = y + at_y[:, None] * K + q[None, :]
        high_y = tl.load(of_y)
        low_y = tl.load(of_y + count * m * K)
        u_y = tl.load(statistics_y + at_y)
        s_y = tl.load(statistics_y + count * m + at_y)
        g = tl.where((j < m)[None, :], tl.load(row + column[None, :]), 0.0) * inverse[:, None]
        dot = product(high_x, low_x, tl.trans(high_y), tl.trans(low_y), tl.zeros([BM, BN], tl.float32))
        num, den, e = of_pairs(dot / (SCALE * SCALE), u_x, u_y, s_x, s_y, c1, c2, beta, FORM)
        of_cov, of_v, of_u = slopes_of_pairs(num, den, u_x, u_y, e, c1, beta, FORM)
        h = g * of_cov * (s_y[None, :] * (root * SCALE)[:, None])
        high = h.to(tl.float16)
        low = (h - high.to(tl.float32)).to(tl.float16)
        to_z = product(high, low, high_y, low_y, to_z)
        to_v += tl.sum(g * of_v, 1)
        to_u += tl.sum(g * of_u, 1)
    live = i < n
    scale *= factor
    place = slopes + (p * n + i)[:, None] * K + q[None, :]
    tl.store(place, to_z * (scale / (root * (SCALE * SCALE)))[:, None], mask=live[:, None])
    tl.store(own + p * n + i, 2 * scale * to_v * s_x, mask=live)
    tl.store(own + (count + p) * n + i, scale * to_u, mask=live)


@triton.jit(do_not_specialize=["n"])
def slopes_to_pixels(
    slopes,
    own,
    vectors,
    n,
    beta,
    DOWN: tl.constexpr,
    ACROSS: tl.constexpr,
    K: tl.constexpr,
    PATCHES: tl.constexpr,
):
    """From the slopes to z alone to those to pixels, of n patches, each as `slopes_to_patches` leaves them."""
    at = tl.program_id(0) * PATCHES + tl.arange(0, PATCHES)
    q = tl.arange(0, K)
    w = weights(q, DOWN, ACROSS)[None, :]
    live = (at < n)[:, None]
    place = at[:, None] * K + q[None, :]
    high = tl.load(vectors + place, mask=live).to(tl.float32)
    low = tl.load(vectors + n * K + place, mask=live).to(tl.float32)
    to_v = tl.load(own + at, mask=at < n)[:, None]
    to_u = tl.load(own + n + at, mask=at < n)[:, None]
    to_z = tl.load(slopes + place, mask=live) + to_v * ((high + low) / SCALE)
    tl.store(slopes + place, tl.sqrt(beta * w) * to_z + w * to_u, mask=live)


@triton.jit(do_not_specialize=["first", "count", "line", "n", *GEOMETRY])
def added_up(
    slopes,
    gradient,
    first,
    count,
    line,
    n,
    of_image,
    height,
    width,
    down,
    across,
    stride_v,
    stride_h,
    KV: tl.constexpr,
    KH: tl.constexpr,
    K: tl.constexpr,
    IMAGES: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Add to the pixels of each image, lines from `line` on, what they are told by the patches at `count` positions."""
    line += tl.program_id(0)
    channel = line // height
    r = line - channel * height
    i = tl.program_id(1) * IMAGES + tl.arange(0, IMAGES)
    c = tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS)
    live = (i < n)[:, None] & (c < width)[None, :]
    top = tl.maximum(tl.maximum(r - KV + stride_v, 0) // stride_v, first // across - channel * down)
    end = tl.minimum(tl.minimum(r // stride_v + 1, down), (first + count - 1) // across + 1 - channel * down)
    total = tl.zeros([IMAGES, COLUMNS], tl.float32)
    for row in range(top, end):
        for b in range(KH):
            left = c - b
            column = left // stride_h
            p = (channel * down + row) * across + column - first
            told = (left >= 0) & (left % stride_h == 0) & (column < across) & (p >= 0) & (p < count)
            place = slopes + (p[None, :] * n + i[:, None]) * K + ((r - row * stride_v) * KH + b)
            total += tl.load(place, mask=live & told[None, :], other=0.0)
    if top < end:
        place = gradient + i.to(tl.int64)[:, None] * of_image + (line * width + c)[None, :]
        tl.store(place, tl.load(place, mask=live) + total, mask=live)
