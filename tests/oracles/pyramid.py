"""The distance over an image pyramid by its definition, in float64: mirrored images, halves and pixels one by one.

D_s is that of `oracles.ssim` between images that are mirrored by hand and halved by hand. Gradients come from finite
pieces that are exact: halving, mirroring and the change of colours are matrices, made column by column from images of
one pixel, and the chain rule transposes them.
"""

from __future__ import annotations

import numpy as np

from oracles import ssim as oracle

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601-7, section 2.5.1


def colours(image, lo, chroma):
    """Luma, and (B - Y) / 1.772 and (R - Y) / 1.402 times `chroma`, of one image (3, H, W)."""
    red, green, blue = image - lo
    luma = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
    return np.stack([luma, chroma * (blue - luma) / 1.772, chroma * (red - luma) / 1.402])


def mirrored(image, window):
    """(C, H, W) with what the window needs beyond the border, from `np.pad`, whose words those of `padding` are."""
    if window.padding == "valid":
        return image
    size = len(window.taps)
    widths = [(0, 0)]
    for side in image.shape[1:]:
        missing = (-(-side // window.stride) - 1) * window.stride + size - side
        widths.append((missing - missing // 2, missing // 2))
    return np.pad(image, widths, mode=window.padding)


def halved(image):
    """Means of 2 x 2 pixels, one after another."""
    channels, height, width = image.shape
    out = np.zeros((channels, height // 2, width // 2))
    for i in range(height // 2):
        for j in range(width // 2):
            out[:, i, j] = sum(image[:, 2 * i + a, 2 * j + b] for a in (0, 1) for b in (0, 1)) / 4
    return out


def squared(x, y, **options):
    """D^2 of image pairs (B, C, H, W): mean or sum over scales, and the term of pixels."""
    return np.array([_total(a, b, False, **options)[0] for a, b in zip(x, y, strict=True)])


def gradients(x, y, upstream, **options):
    """Gradients of sum(upstream * squared(x, y))."""
    found = [_total(a, b, True, **options)[1:] for a, b in zip(x, y, strict=True)]
    return tuple(np.stack([u * pair[k] for u, pair in zip(upstream, found, strict=True)]) for k in (0, 1))


def pairwise(x, y, **options):
    """D^2 of x_i and y_j, (n, m)."""
    return np.stack([squared(np.broadcast_to(image, y.shape), y, **options) for image in x])


def _total(a, b, slopes, *, scales, norm="rms", data_range=1.0, pixels=0.0, **options):
    """D^2 of one pair, and with `slopes` its gradients to both."""
    lo, hi = data_range if isinstance(data_range, tuple) else (0.0, data_range)
    total, g_a, g_b = 0.0, np.zeros(a.shape), np.zeros(b.shape)
    for s in range(scales):
        seen, arguments = _scale(s, lo, hi - lo, **options)
        u, v = seen(a)[None], seen(b)[None]
        square = oracle.squared_map(u, v, **arguments)
        share = 1.0 if norm == "frobenius" else 1 / (scales * square.size)
        total += share * square.sum()
        if slopes:
            matrix = _matrix(seen, a.shape)
            of_u, of_v = oracle.squared_map_gradients(u, v, np.full(square.shape, share), **arguments)
            g_a += (of_u.ravel() @ matrix).reshape(a.shape)
            g_b += (of_v.ravel() @ matrix).reshape(b.shape)
    weight = pixels / (hi - lo) / (1 if norm == "frobenius" else a.size)
    total += weight * sum(abs(p - q) for p, q in zip(a.ravel(), b.ravel(), strict=True))
    signs = weight * np.sign(a - b)
    return total, g_a + signs, g_b - signs


def _scale(s, lo, length, *, window, form="sum", k1=0.01, k2=0.03, chroma=None):
    """What makes of an image what is compared at a scale, and the arguments of the comparison."""

    def seen(image):
        image = image - lo if chroma is None else colours(image, lo, chroma)
        for _ in range(s):
            image = halved(image)
        return mirrored(image, window)

    k1, k2 = (k[s] if isinstance(k, tuple) else k for k in (k1, k2))
    return seen, {"form": form, "data_range": length, "window": window, "k1": k1, "k2": k2}


def _matrix(linear, shape):
    """The matrix of an affine map of images, less its value at black."""
    offset = linear(np.zeros(shape))
    columns = []
    for k in range(int(np.prod(shape))):
        unit = np.zeros(shape)
        unit.flat[k] = 1.0
        columns.append((linear(unit) - offset).ravel())
    return np.stack(columns, 1)
