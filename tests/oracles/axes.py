"""d^2 of images of any number of axes, by its definition, one window position at a time, in float64 or complex128.

Borders are numpy's own `pad`. Complex numbers give derivatives by a complex step, as in `oracles.ssim`.
"""

from __future__ import annotations

from itertools import product

import numpy as np

STEP = 1e-30


def squared_patch_distance(x, y, form, weights, beta, c1, c2):
    """d^2 of patches (B, C, *window), whose pixels start at lo = 0 (see `oracles.ssim` for the equations)."""
    axes = tuple(range(2, x.ndim))
    mu_x, mu_y = ((weights * z).sum(axes, keepdims=True) for z in (x, y))
    if form == "uncentred":
        norm_x, norm_y, norm_d = (beta * (weights * z**2).sum(axes) for z in (x, y, x - y))
        return norm_d / (norm_x + norm_y + c2)
    var_x, var_y, cov = (
        beta * (weights * u * v).sum(axes)
        for u, v in ((x - mu_x, x - mu_x), (y - mu_y, y - mu_y), (x - mu_x, y - mu_y))
    )
    mu_x, mu_y = (mu.squeeze(axes) for mu in (mu_x, mu_y))
    s1 = (2 * mu_x * mu_y + c1) / (mu_x**2 + mu_y**2 + c1)
    s2 = (2 * cov + c2) / (var_x + var_y + c2)
    return {"product": 1 - s1 * s2, "sum": 2 - s1 - s2, "centred": 1 - s2}[form]


def squared_map(x, y, *, taps, strides, beta, form="product", padding="valid", c1=1e-4, c2=9e-4):
    """(B, C, *positions) for images (B, C, *spatial), with the taps and the stride of each axis."""
    if padding != "valid":
        margins = []
        for length, t, stride in zip(x.shape[2:], taps, strides, strict=True):
            positions = np.ceil(length / stride)
            missing = max(0, int((positions - 1) * stride + len(t) - length))
            margins.append((int(np.ceil(missing / 2)), int(np.floor(missing / 2))))
        x, y = (np.pad(z, [(0, 0), (0, 0), *margins], mode=padding) for z in (x, y))
    weights = np.ones(())
    for of_axis in taps:
        weights = np.multiply.outer(weights, np.asarray(of_axis))
    starts = [range(0, length - len(t) + 1, s) for length, t, s in zip(x.shape[2:], taps, strides, strict=True)]
    out = np.empty((*x.shape[:2], *map(len, starts)), x.dtype)
    for place in product(*(range(len(s)) for s in starts)):
        corner = [s[i] for s, i in zip(starts, place, strict=True)]
        window = (..., *(slice(c, c + len(t)) for c, t in zip(corner, taps, strict=True)))
        out[(..., *place)] = squared_patch_distance(x[window], y[window], form, weights, beta, c1, c2)
    return out


def directional_slope(x, y, dx, dy, upstream, **options):
    """The derivative of sum(upstream * squared_map) along (dx, dy)."""
    step = 1j * STEP
    return (upstream * squared_map(x + step * dx, y + step * dy, **options)).sum().imag / STEP
