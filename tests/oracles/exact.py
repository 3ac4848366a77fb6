"""The definitions in extended precision, patch by patch: the truth for images at which float64 itself loses digits.

`oracles.ssim` prints the formulas as the papers do, in float64. That is enough for pictures, but not for pixels of
1e30 times the range, nor for the digits of 1 - SSIM where images are nearly equal. Here images are longdouble
(64 bits of mantissa, exponents up to 4932, on x86), so that differences of float32 or float64 pixels and their
products are exact or nearly so. Three rewritings keep the truth to about 1e-15, each by school algebra:

    1 - s1 = (mu_x - mu_y)^2 / (mu_x^2 + mu_y^2 + c1),        mu_x - mu_y the mean of x - y,
    1 - s2 = var(x - y) / (var_x + var_y + c2),     and for opposite images 1 + s1 and 1 + s2 from x + y alike,
    a patch is centred about its heaviest pixel first, so that a flat patch of any height has variance 0.

Gradients are analytic: the slopes of the squared distance of a patch by each of its pixels, scattered to the image.
`tests/fuzz/test_exact.py` holds values and slopes against rational arithmetic, which rounds nothing.

Images are arrays (..., C, *spatial), of as many spatial axes as the definition; leading axes broadcast, so that
x[:, None] and y[None] are all pairs. Borders are numpy's own `pad`, of images and of where their pixels come from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from itertools import product

import numpy as np

from oracles.ssim import STRUCTURE_FLOOR

LONG = np.longdouble

if np.finfo(LONG).nmant < 63:
    raise ImportError("numpy.longdouble is no wider than float64 here: this oracle needs the 80-bit numbers of x86")


@dataclass(frozen=True)
class Definition:
    """What is asked: form, taps and stride of each spatial axis, padding, beta (None: unbiased), lo, c1 and c2."""

    form: str
    taps: tuple
    strides: tuple
    padding: str
    given_beta: float | None
    lo: float
    c1: LONG
    c2: LONG

    @classmethod
    def of(cls, form, window, data_range, k1, k2, ndim=2, taps=None):
        lo, hi = data_range if isinstance(data_range, tuple) else (0.0, data_range)
        length = LONG(float(hi) - float(lo))
        c1, c2 = (LONG(k1) * length) ** 2, (LONG(k2) * length) ** 2
        taps = taps or tuple(axis.taps for axis in window.axes(ndim))
        strides = tuple(axis.stride for axis in window.axes(ndim))
        beta = None if window.unbiased else window.beta
        return cls(form, taps, strides, window.padding, beta, float(lo), c1, c2)

    @property
    def size(self):
        return tuple(map(len, self.taps))

    @property
    def axes(self):
        """The last ones: of channels, and of space."""
        return tuple(range(-1 - len(self.taps), 0))

    @property
    def weights(self):
        """(k,) for the k pixels of a window, of sum 1 in longdouble."""
        each = [np.array(taps, LONG) / np.array(taps, LONG).sum() for taps in self.taps]
        return reduce(np.multiply.outer, each).ravel()

    @property
    def beta(self):
        return LONG(self.given_beta) if self.given_beta else 1 / (1 - (self.weights**2).sum())

    def padded(self, z):
        """What a window sees of images: they, and what `padding` adds along each axis."""
        if self.padding == "valid":
            return z
        margins = []
        for length, size, stride in zip(z.shape[-len(self.taps) :], self.size, self.strides, strict=True):
            missing = max(0, (math.ceil(length / stride) - 1) * stride + size - length)
            margins.append((math.ceil(missing / 2), missing // 2))
        return np.pad(z, [(0, 0)] * (z.ndim - len(self.taps)) + margins, mode=self.padding)


class Pairs:
    """Image pairs under one definition: d^2 of every patch, and what becomes of it in the pixels."""

    def __init__(self, x, y, definition, jitter=None):
        """`jitter`, a random generator, moves x - y by the rounding of float64: what that does tells conditioning."""
        self.definition, self.jitter = definition, jitter
        self.shape = np.broadcast_shapes(x.shape, y.shape)
        self.x, self.y = (definition.padded(z.astype(LONG)) for z in (x, y))

    @property
    def squares(self):
        """d^2, (..., C, *positions)."""
        return self._distances[0]

    @property
    def mean(self):
        """d^2 averaged over channels and positions, (...,)."""
        return self.squares.mean(self.definition.axes)

    @property
    def patches(self):
        """How many patches a pair has."""
        return math.prod(self.squares.shape[axis] for axis in self.definition.axes)

    def gradients(self, upstream):
        """Gradients of sum(upstream * d^2) by the pixels of x and of y, one pair by one; upstream as d^2."""
        return tuple(self._scattered(upstream[..., None] * slopes) for slopes in self._slopes)

    def gradients_of_mean(self, upstream):
        """Gradients of sum(upstream * mean), upstream (...,)."""
        spread = np.expand_dims(np.asarray(upstream, LONG), self.definition.axes) / self.patches
        return self.gradients(np.broadcast_to(spread, self.squares.shape))

    @cached_property
    def overflows(self):
        """(...,) whether a square of some pixel under a window leaves float64."""
        with np.errstate(all="ignore"):
            axes = (*(axis - 1 for axis in self.definition.axes), -1)
            sizes = (np.abs(self._patches(z - self.definition.lo)) for z in (self.x, self.y))
            greatest = [np.where(np.isnan(size), 0, size).max(axes) for size in sizes]
            return np.broadcast_to(np.maximum(*greatest) > LONG(1e150), self.mean.shape)

    def _patches(self, z):
        """(..., C, *positions, k)."""
        spatial = self.definition.axes[1:]
        views = np.lib.stride_tricks.sliding_window_view(z, self.definition.size, spatial)
        steps = tuple(slice(None, None, stride) for stride in self.definition.strides)
        views = views[(..., *steps, *[slice(None)] * len(spatial))]
        return views.reshape(*views.shape[: -len(spatial)], -1)

    @cached_property
    def _statistics(self):
        definition, w = self.definition, self.definition.weights
        heaviest = int(w.argmax())
        with np.errstate(all="ignore"):
            combined = self.x - self.y, self.x + self.y - 2 * LONG(definition.lo)
            x, y, d, s = (self._patches(z) for z in (self.x - definition.lo, self.y - definition.lo, *combined))
            if definition.form == "uncentred":
                return x, y, d, s

            def about_heaviest(z):
                return z - z[..., heaviest : heaviest + 1]

            def centred(z):
                return z - (z @ w)[..., None]

            def most(z):
                return np.abs(z).max(-1, keepdims=True)

            u, v, difference = (about_heaviest(z) for z in (self._patches(self.x), self._patches(self.y), d))
            # x - y loses y where x is flat and huge; u - v loses the digits of nearly equal images
            apart = u - v
            difference = np.where(most(u) + most(v) < most(d), apart, difference)
            if self.jitter is not None:
                flat = (most(u) == 0) | (most(v) == 0)
                lost = np.where(flat, np.abs(u) + np.abs(v), np.abs(d) + np.abs(d[..., heaviest : heaviest + 1]))
                difference = difference + LONG(2) ** -53 * lost * self.jitter.choice((-1, 1), lost.shape)
            return (x @ w, y @ w, d @ w, s @ w), (centred(u), centred(v), centred(difference), centred(u + v))

    @cached_property
    def _distances(self):
        """d^2, and the parts that slopes need."""
        definition, w = self.definition, self.definition.weights
        beta, c1, c2 = definition.beta, definition.c1, definition.c2
        with np.errstate(all="ignore"):
            if definition.form == "uncentred":
                x, y, d, s = self._statistics
                whole = beta * ((x * x) @ w) + beta * ((y * y) @ w) + c2
                b, s2 = beta * ((d * d) @ w) / whole, (2 * beta * ((x * y) @ w) + c2) / whole
                return b, whole, s2, (beta * ((s * s) @ w) + 2 * c2) / whole
            (mu_x, mu_y, mu_d, mu_s), (x, y, d, s) = self._statistics
            light = mu_x**2 + mu_y**2 + c1
            whole = beta * ((x * x) @ w) + beta * ((y * y) @ w) + c2
            a, s1 = mu_d**2 / light, (2 * mu_x * mu_y + c1) / light
            b, s2 = beta * ((d * d) @ w) / whole, (2 * beta * ((x * y) @ w) + c2) / whole
            p, q = (mu_s**2 + 2 * c1) / light, (beta * ((s * s) @ w) + 2 * c2) / whole  # 1 + s1, 1 + s2
            product = np.where((p < 0.5) & (q < 0.5), p + q - p * q, a + b - a * b)
            square = {"product": product, "sum": a + b, "centred": b}[definition.form]
            return square, light, a, s1, whole, b, s2, q

    @cached_property
    def _slopes(self):
        """Derivatives of d^2 by the pixels of x and of y, (..., C, *positions, k) each."""
        definition, w = self.definition, self.definition.weights
        beta, c1 = definition.beta, definition.c1
        with np.errstate(all="ignore"):
            if definition.form == "uncentred":
                x, y, d, s = self._statistics
                b, whole, s2, q = self._distances
                return tuple(
                    2 * beta * w * _ratio_slope(b, s2, q, own, other, difference, s) / whole[..., None]
                    for own, other, difference in ((x, y, d), (y, x, -d))
                )
            (mu_x, mu_y, mu_d, mu_s), (x, y, d, s) = self._statistics
            _, light, a, s1, whole, b, s2, q = self._distances
            of_a, of_b = np.ones_like(a), np.ones_like(b)
            if definition.form == "product":  # a + b - a b
                of_a, of_b = np.where(b < 0.5, 1 - b, s2), np.where(a < 0.5, 1 - a, s1)
            slopes = []
            for other_mu, mu_difference, own, other, difference in ((mu_y, mu_d, x, y, d), (mu_x, -mu_d, y, x, -d)):
                by_b = 2 * beta * w * _ratio_slope(b, s2, q, own, other, difference, s) / whole[..., None]
                slope = of_b[..., None] * by_b
                if definition.form != "centred":
                    by_a = 2 * mu_difference * (other_mu * mu_s + c1) / light**2
                    slope = slope + (of_a * by_a)[..., None] * w
                slopes.append(slope)
            return tuple(slopes)

    def _scattered(self, slopes):
        definition = self.definition
        out = np.zeros(np.broadcast_shapes(self.x.shape, self.y.shape), LONG)
        positions = slopes.shape[-1 - len(definition.taps) : -1]
        for k, place in enumerate(product(*map(range, definition.size))):
            steps = zip(place, definition.strides, positions, strict=True)
            seen = (slice(i, i + stride * (count - 1) + 1, stride) for i, stride, count in steps)
            out[(..., *seen)] += slopes[..., k]
        return out if definition.padding == "valid" else self._folded(out)

    def _folded(self, padded):
        """Sums over the places where each pixel of the images is seen."""
        spatial = self.shape[-len(self.definition.taps) :]
        pixels = math.prod(spatial)
        source = self.definition.padded(np.arange(pixels).reshape(spatial)).ravel()
        out = np.zeros((math.prod(self.shape) // pixels, pixels), LONG)
        np.add.at(out.T, source, padded.reshape(len(out), -1).T)
        return out.reshape(self.shape)


def _ratio_slope(b, s2, q, own, other, difference, total):
    """(own - other) - b own = s2 own - other = q own - (own + other), with b = 1 - s2, q = 1 + s2, by the one in which
    least cancels."""
    b, s2, q = b[..., None], s2[..., None], q[..., None]
    return np.where(b < 0.5, difference - b * own, np.where(q < 0.5, q * own - total, s2 * own - other))


class Scales:
    """MS-SSIM of image pairs (B, C, H, W), the mean over channels."""

    def __init__(self, x, y, definition, weights, jitter=None):
        self.weights = np.array(weights, LONG)
        self.scales, self.sides = [], []
        x, y = x.astype(LONG), y.astype(LONG)
        for j in range(len(weights)):
            form = "product" if j == len(weights) - 1 else "centred"
            self.scales.append(Pairs(x, y, replace(definition, form=form), jitter))
            self.sides.append(x.shape)
            x, y = _halved_and_rounded(x, jitter), _halved_and_rounded(y, jitter)
        self.complements = np.stack([pairs.squares.mean((-2, -1)) for pairs in self.scales])  # (M, B, C)

    @property
    def terms(self):
        return 1 - self.complements

    @property
    def complement(self):
        """1 - MS-SSIM, (B,)."""
        with np.errstate(all="ignore"):
            most = 1 - LONG(STRUCTURE_FLOOR)
            w = self.weights[:, None, None]
            logarithm = (w * np.log1p(-np.minimum(self.complements, most))).sum(0)
            return ((w * np.maximum(self.complements - most, 0)).sum(0) - np.expm1(logarithm)).mean(-1)

    @property
    def overflows(self):
        return np.any([pairs.overflows for pairs in self.scales], 0)

    def gradients(self, upstream):
        """Gradients of sum(upstream * complement), upstream (B,), to x and to y."""
        w, floor = self.weights[:, None, None], LONG(STRUCTURE_FLOOR)
        total = [np.zeros(self.sides[0], LONG), np.zeros(self.sides[0], LONG)]
        with np.errstate(all="ignore"):
            held = np.maximum(self.terms, floor)
            product = (held**w).prod(0)
            by_term = np.where(self.terms < floor, w, w * product / held)  # of P; as of its complement by 1 - t
            for j, (pairs, slope) in enumerate(zip(self.scales, by_term, strict=True)):
                count = pairs.squares.shape[-2] * pairs.squares.shape[-1]
                each = upstream[:, None] * slope / (slope.shape[-1] * count)
                parts = pairs.gradients(np.broadcast_to(each[..., None, None], pairs.squares.shape))
                for into, part in zip(total, parts, strict=True):
                    for _ in range(j):
                        part = np.repeat(np.repeat(part, 2, -2), 2, -1) / 4  # the adjoint of `halved`
                    into[..., : part.shape[-2], : part.shape[-1]] += part
        return tuple(total)


def _halved_and_rounded(x, jitter):
    """`halved`; with a jitter, off by what float64 may round, but where four pixels are one."""
    mean = halved(x)
    if jitter is None:
        return mean
    height, width = mean.shape[-2:]
    differences = x[..., : 2 * height, : 2 * width] - np.repeat(np.repeat(mean, 2, -2), 2, -1)
    rounded = np.where(halved(np.abs(differences)) > 0, np.abs(mean), 0)
    return mean + LONG(2) ** -53 * rounded * jitter.choice((-1, 1), mean.shape)


def halved(x):
    """2 x 2 averages; an odd last row or column is dropped."""
    height, width = x.shape[-2] // 2, x.shape[-1] // 2
    x = x[..., : 2 * height, : 2 * width].reshape(*x.shape[:-2], height, 2, width, 2)
    return x.mean((-3, -1))
