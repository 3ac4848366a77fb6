"""One case of the fuzzer, drawn from one integer: images, options, and the function that meets them.

A million seeds in a row share a `Pool`: the few windows, and the few shapes of all pairs, for which compiled kernels
are made. Everything else a case draws by itself, so that a seed alone brings it back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import torch

from ssimgen import Window
from ssimgen._request import FORMS

BLOCK = 10**6  # seeds that share a pool
PAIRS = ("ssim", "distance", "map", "loss", "ms_ssim", "ms loss")
SAMPLES = ("mmd gaussian", "mmd laplacian", "mmd ssim", "mmd distance", "energy", "cmmd", "features")
LAYOUTS = ("channels last", "transposed", "strided", "offset", "expanded", "negative bit")
LARGEST = {torch.float32: 3e38, torch.float64: 1e300}


@dataclass(frozen=True)
class Pool:
    """Windows (size, stride) of image pairs, and (size, stride, form, dtype, height, width) of all pairs.

    uneven: ((height, width), (step down, step across)) of windows that differ by axis. deep: those of volumes. lines:
    those of signals.
    """

    windows: tuple
    kits: tuple
    uneven: tuple
    deep: tuple
    lines: tuple

    @staticmethod
    @cache
    def of(block: int) -> Pool:
        if block == 0:  # what other tests compile as well
            windows = (11, 1), (4, 2), (2, 3), (7, 1)
            kits = (6, 2, "sum", torch.float32, 11, 15), (3, 5, "product", torch.float64, 14, 8)
            return Pool(windows, kits, (((5, 3), (1, 1)),), (((3, 3, 3), (1, 1, 1)), ((2, 3, 4), (2, 1, 3))), ((3, 1),))
        rng = np.random.default_rng([7, block])
        windows = [(11, 1), (int(rng.integers(1, 6)), 0)]
        windows[1] = (windows[1][0], windows[1][0] + int(rng.integers(1, 3)))  # pixels that no window covers
        while len(windows) < 12:
            size = int(rng.integers(1, 14))
            stride = 1 if rng.random() < 0.4 else int(rng.integers(1, size + 3))
            if (size, stride) not in windows:
                windows.append((size, stride))
        kits = []
        for i in range(8):
            size, stride = windows[int(rng.integers(len(windows)))] if i else (11, 1)
            sides = (int(size + stride * rng.integers(0, 5) + rng.integers(0, stride)) for _ in range(2))
            kits.append((size, stride, FORMS[i % 4], (torch.float32, torch.float64)[i // 4], *sides))
        uneven, deep = [], []
        for shapes, axes, most in ((uneven, 2, 9), (deep, 3, 5)):
            for i in range(3):
                size = tuple(int(k) for k in rng.integers(1 if i else 2, most, axes))
                shapes.append((size, tuple(int(rng.integers(1, k + 2)) if i else 1 for k in size)))
        lines = [(int(rng.integers(2, 12)), stride) for stride in (1, 3)]
        return Pool(tuple(windows), tuple(kits), tuple(uneven), tuple(deep), tuple(lines))


@dataclass
class Case:
    """A call of one function, and how it is made.

    what: one of PAIRS, "all ssim", "all distance", or one of SAMPLES.
    x, y: the images, y = None for x against itself where pairs are all pairs.
    engines: those that run it.
    """

    what: str
    x: torch.Tensor
    y: torch.Tensor | None
    window: Window
    data_range: float | tuple
    name: str = ""
    form: str = "product"
    norm: str = "rms"
    squared: bool = True
    k1: float = 0.01
    k2: float = 0.03
    weights: tuple | None = None  # of MS-SSIM
    reduction: str = "none"  # of losses
    engines: tuple = ("fused", "eager")
    layouts: tuple = ("plain", "plain")
    one_tensor: bool = False  # x and y are one tensor object
    to: str = "xy"  # what gradients are taken to
    upstream_seed: int = 0
    twice: bool = False  # the backward pass runs a second time on the same graph
    create_graph: bool = False
    unbiased: bool = True
    bandwidth: float = 1.0
    contents: tuple = field(default=("", ""))

    @property
    def options(self):
        return {"data_range": self.data_range, "window": self.window, "k1": self.k1, "k2": self.k2}

    def __str__(self) -> str:
        w = self.window
        parts = [
            self.name, self.what, str(self.x.dtype).removeprefix("torch."), "x".join(map(str, self.x.shape)),
            "alone" if self.y is None else f"against {len(self.y)}" if len(self.y) != len(self.x) else "",
            f"x={self.contents[0]} y={self.contents[1]}", f"window {w.size}/{w.stride} {w.padding} beta {w.beta:.3g}",
            "unbiased" * w.unbiased, f"range {self.data_range}", f"k1={self.k1:.3g} k2={self.k2:.3g}",
            f"form={self.form} norm={self.norm} squared={self.squared}" if "distance" in self.what else "",
            f"form={self.form} squared={self.squared} reduction={self.reduction}" if "loss" in self.what else "",
            f"weights={self.weights}" if self.weights else "", " ".join(self.layouts), "x is y" * self.one_tensor,
            f"to {self.to}", "create_graph" * self.create_graph, "twice" * self.twice,
        ]  # fmt: skip
        return ", ".join(part for part in parts if part)


def draw(seed: int) -> Case:
    """The case of a seed."""
    rng = np.random.default_rng(seed)
    pool = Pool.of(seed // BLOCK)
    dtype = torch.float32 if rng.random() < 0.7 else torch.float64
    family = rng.random()
    if family < 0.68:
        what = str(rng.choice(PAIRS, p=(0.25, 0.35, 0.15, 0.12, 0.08, 0.05)))
        case = _pair_case(rng, pool, what, dtype)
    elif family < 0.9:
        case = _all_pairs_case(rng, pool, dtype)
    else:
        case = _sample_case(rng, pool, dtype)
    case.name = f"seed {seed}"
    case.upstream_seed = seed
    return case


def _pair_case(rng, pool, what, dtype):
    window, engines, sides = _placed(rng, pool, what)
    batch, channels = _counts(rng, window, sides)
    options = _constants(rng)
    one_tensor = rng.random() < 0.03
    x, y, contents = _images(rng, dtype, options["data_range"], (batch, channels, *sides), batch)
    case = Case(
        what, x, x if one_tensor else y, window, contents=contents, one_tensor=one_tensor, engines=engines,
        form=str(rng.choice(FORMS)), norm=str(rng.choice(("rms", "frobenius"))), squared=bool(rng.random() < 0.5),
        reduction=str(rng.choice(("mean", "sum", "none"))), **options,
    )  # fmt: skip
    if what.startswith("ms") and rng.random() < 0.7:
        case.weights = _scale_weights(rng, 1 + int(math.log2(min(sides) / window.size)))
    return _presented(rng, case)


def _all_pairs_case(rng, pool, dtype):
    what = str(rng.choice(("all ssim", "all distance"), p=(0.3, 0.7)))
    n, m = (int(k) for k in rng.integers(1, 6, 2))
    if rng.random() < 0.1:
        m = int(rng.integers(1, 20))  # more than a vector's lanes
    form = "product" if what == "all ssim" else str(rng.choice(FORMS))
    of_form = [kit for kit in pool.kits if what == "all distance" or kit[2] == "product"]
    if of_form and rng.random() < 0.7:
        size, stride, form, dtype, height, width = of_form[int(rng.integers(len(of_form)))]
        window, engines, channels = _window_of(rng, size, stride), ("fused", "eager"), int(rng.integers(1, 4))
    else:
        window, engines = _window(rng, None) if rng.random() < 0.7 else (_uneven(rng), ("eager",))
        height, width = _within_reach(window, _sides(rng, window), n * m)
        channels = int(rng.integers(1, 3))
    if rng.random() < 0.2:
        window = _mirrored(rng, window, (height, width))
    channels = max(1, min(channels, _ROOM // (n * m * _cost(window, (height, width)))))
    options = _constants(rng)
    x, y, contents = _images(rng, dtype, options["data_range"], (n, channels, height, width), m)
    style = rng.random()
    case = Case(
        what, x, None if style < 0.4 else x if style < 0.45 else y, window, contents=contents, engines=engines,
        one_tensor=0.4 <= style < 0.45, form=form, norm=str(rng.choice(("rms", "frobenius"))),
        squared=bool(rng.random() < 0.5), **options,
    )  # fmt: skip
    return _presented(rng, case)


def _sample_case(rng, pool, dtype):
    what = str(rng.choice(SAMPLES))
    n, m = (int(k) for k in rng.integers(2, 6, 2))
    window, _ = _window(rng, None)
    height, width = _within_reach(window, _sides(rng, window), 9 * n * m)
    options = _constants(rng)
    if what == "features":  # each range of denominators takes a second to fit, so there are few
        size = int(rng.integers(2, 6))
        window = Window.uniform(size, int(rng.integers(1, size + 2)), unbiased=bool(rng.random() < 0.5))
        height, width = (int(size + rng.integers(0, 2 * window.stride + 1)) for _ in range(2))
        data_range = [1.0, 255.0, (273.15, 274.15)][int(rng.integers(3))]
        options = {"data_range": data_range, "k1": 0.01, "k2": float(rng.choice((0.03, 0.1)))}
    channels = max(1, min(int(rng.integers(1, 3)), _ROOM // (9 * n * m * _cost(window, (height, width)))))
    x, y, contents = _images(rng, dtype, options["data_range"], (n, channels, height, width), m)
    return Case(
        what, x, y, window, contents=contents, engines=("eager",),
        form=str(rng.choice(FORMS)), norm=str(rng.choice(("rms", "frobenius"))),
        unbiased=bool(rng.random() < 0.5), bandwidth=float(10 ** rng.uniform(-0.7, 1)), **options,
    )  # fmt: skip


# --- windows and shapes -----------------------------------------------------------------------------------------

_ROOM = 40_000  # weighted pixels of all patches of all pairs: what the oracle has time for


def _window(rng, pool):
    """A window, and the engines that may have to be compiled for it."""
    if pool is not None and rng.random() < 0.7:
        return _window_of(rng, *pool.windows[int(rng.integers(len(pool.windows)))]), ("fused", "eager")
    size = int(rng.integers(1, 14))
    return _window_of(rng, size, 1 if rng.random() < 0.5 else int(rng.integers(1, size + 3))), ("eager",)


def _window_of(rng, size, stride):
    kind = rng.random()
    if kind < 0.4:
        window = Window.gaussian(size, float(rng.uniform(0.12, 0.5) * size), stride)
    elif kind < 0.8:
        window = Window.uniform(size, stride, unbiased=bool(size > 1 and rng.random() < 0.5))
    else:
        taps = rng.uniform(0.02, 1, size)
        window = Window(tuple((taps / math.fsum(taps)).tolist()), stride, float(10 ** rng.uniform(-1, 1)))
    return window


def _uneven(rng):
    """A window that differs along two axes."""
    sizes = [int(k) for k in rng.integers(1, 8, 2)]
    return _joined(rng, sizes, [1 if rng.random() < 0.5 else int(rng.integers(1, k + 2)) for k in sizes])


def _joined(rng, sizes, strides):
    """A window of so many pixels along each axis."""
    axes = [_window_of(rng, size, stride) for size, stride in zip(sizes, strides, strict=True)]
    unbiased = math.prod(sizes) > 1 and bool(rng.random() < 0.3)
    beta = 1.0 if unbiased or rng.random() < 0.5 else float(10 ** rng.uniform(-1, 1))
    return Window(tuple(axis.taps for axis in axes), tuple(strides), beta, unbiased=unbiased)


def _mirrored(rng, window, sides):
    """The window with mirrored borders, or as it is where images of these sides are too small to be mirrored."""
    padded = replace(window, padding=str(rng.choice(("reflect", "symmetric"))))
    fits = all(axis.fits(side) for axis, side in zip(padded.axes(len(sides)), sides, strict=True))
    return padded if fits else window


def _placed(rng, pool, what):
    """A window, the engines that may have to be compiled for it, and spatial sides of images: planes, mostly."""
    style = 0.0 if what.startswith("ms") else rng.random()
    fused = ("fused", "eager")
    if style < 0.72:
        window, engines = _window(rng, pool)
        sides = _sides(rng, window, what.startswith("ms"))
        if style > 0.55:
            sides = tuple(max(1, side - int(rng.integers(0, max(window.size, 2)))) for side in sides)
            padded = _mirrored(rng, window, sides)
            window, sides = (padded, sides) if padded is not window else (window, _sides(rng, window))
        return window, engines, sides
    if style < 0.84:
        window, engines = _uneven(rng), ("eager",)
        if rng.random() < 0.6:
            window, engines = _joined(rng, *pool.uneven[int(rng.integers(len(pool.uneven)))]), fused
    elif style < 0.92:
        size, stride = pool.lines[int(rng.integers(len(pool.lines)))]
        window, engines = _joined(rng, (size,), (stride,)), fused
    elif rng.random() < 0.5:
        size, stride = pool.windows[int(rng.integers(len(pool.windows)))]
        window, engines = _joined(rng, (1, size, size), (1, stride, stride)), fused
    else:
        window, engines = _joined(rng, *pool.deep[int(rng.integers(len(pool.deep)))]), fused
    sides = _sides(rng, window)
    return (_mirrored(rng, window, sides) if rng.random() < 0.3 else window), engines, sides


def _sides(rng, window, scales=False):
    """A side along each axis, mostly of a few windows, sometimes up to 40 px."""
    axes = window.axes(window.ndim or 2)
    factor = 1
    if scales and window.size <= 7:
        factor = 2 ** int(rng.integers(0, 3 if window.size <= 4 else 2))
    sides = []
    for axis in axes:
        size = axis.size * factor
        most = 8 if axis.stride == 1 else 3 * axis.stride
        if rng.random() < 0.05:
            most = max(40 - size, 0)
        sides.append(int(size + rng.integers(0, (most if len(axes) < 3 else 3) + 1)))
    return tuple(sides)


def _cost(window, sides):
    axes = window.axes(len(sides))
    return math.prod(axis.positions(side) * axis.size for axis, side in zip(axes, sides, strict=True))


def _within_reach(window, sides, pairs):
    """The sides, cut until the oracle has time for so many pairs."""
    axes = window.axes(len(sides))
    least = tuple(axis.size for axis in axes)
    while pairs * _cost(window, sides) > _ROOM and sides != least:
        sides = tuple(max(axis.size, side - max(1, axis.stride // 2)) for side, axis in zip(sides, axes, strict=True))
    return sides


def _counts(rng, window, sides):
    batch, channels = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    while batch * channels > 1 and batch * channels * _cost(window, sides) > _ROOM:
        batch, channels = (batch - 1, channels) if batch > 1 else (batch, channels - 1)
    return batch, channels


def _scale_weights(rng, fitting):
    weights = rng.uniform(0.05, 1, int(rng.integers(1, fitting + 1)))
    return tuple((weights / weights.sum()).tolist())


# --- options ----------------------------------------------------------------------------------------------------


def _constants(rng):
    style = rng.random()
    if style < 0.5:
        data_range = [1.0, 255.0, 1, (-1.0, 1.0), (0.0, 1.0)][int(rng.integers(5))]
    elif style < 0.7:
        data_range = [(273.15, 274.15), (1000.1, 1001.1), (-0.3, 0.9), (100, 101)][int(rng.integers(4))]
    elif style < 0.85:
        data_range = float(10 ** rng.uniform(-12, 12))
    else:
        lo = float(rng.choice((-1, 1)) * 10 ** rng.uniform(-2, 6))
        data_range = (lo, lo + float(10 ** rng.uniform(-3, 3)))
    k1, k2 = (0.01, 0.03) if rng.random() < 0.55 else (float(10 ** rng.uniform(-6, 3)) for _ in range(2))
    return {"data_range": data_range, "k1": k1, "k2": k2}


# --- images -----------------------------------------------------------------------------------------------------


def _noise(rng, shape):
    return rng.random(shape)


def _flat(rng, shape):
    return np.broadcast_to(rng.choice((0.0, 1.0, rng.random()), (*shape[:2], 1, 1)), shape)


def _steps(rng, shape):
    at = int(rng.integers(0, max(shape[-2:]) + 1))
    lower, upper = rng.random(2)
    axis = np.arange(shape[-1]) if rng.random() < 0.5 else np.arange(shape[-2])[:, None]
    return np.broadcast_to(np.where(axis < at, lower, upper), shape)


def _checkerboard(rng, shape):
    period = int(rng.integers(1, 4))
    board = (np.arange(shape[-2])[:, None] // period + np.arange(shape[-1]) // period + rng.integers(2)) % 2
    return np.broadcast_to(board * rng.choice((1.0, rng.random())), shape)


def _integers(rng, shape):
    return rng.integers(0, 256, shape) / 255


def _dark(rng, shape):
    return rng.random(shape) * 10 ** rng.uniform(-8, -1)


def _bright(rng, shape):
    return 1 - rng.random(shape) * 10 ** rng.uniform(-6, -1)


def _grey(rng, shape):
    return rng.random((*shape[:2], 1, 1)) + rng.normal(size=shape) * 10 ** rng.uniform(-6, -1)


def _hot(rng, shape):
    base = np.array((_noise, _flat, _bright, _dark)[int(rng.integers(4))](rng, shape))
    base[..., int(rng.integers(shape[-2])), int(rng.integers(shape[-1]))] = 10 ** rng.uniform(0, 30)
    return base


def _huge(rng, shape):
    base = (_noise, _flat, _bright, _steps)[int(rng.integers(4))](rng, shape)
    return base * 10 ** rng.uniform(0, 30)


def _diverged(rng, shape):
    return rng.normal(size=shape) * 10 ** rng.uniform(0, 30)


def _denormal(rng, shape):
    return rng.integers(-9, 10, shape) * 1e-44


CONTENTS = (_noise, _flat, _steps, _checkerboard, _integers, _dark, _bright, _grey, _hot, _huge, _diverged, _denormal)
_LIKELY = np.array((4, 1.5, 1.5, 1, 1.5, 2, 2, 2, 1.5, 1, 1, 0.5))
_LIKELY = _LIKELY / _LIKELY.sum()


def _images(rng, dtype, data_range, shape, others):
    """x of `shape`, y of `others` images; what they show. Volumes show images stacked, signals a row of one."""
    batch, channels, *sides = shape
    x, y, names = _planes(rng, dtype, data_range, (batch, channels, math.prod(sides[:-1]), sides[-1]), others)
    return x.view(shape), y.view(others, *shape[1:]), names


def _planes(rng, dtype, data_range, shape, others):
    lo, hi = data_range if isinstance(data_range, tuple) else (0.0, data_range)
    content = CONTENTS[int(rng.choice(len(CONTENTS), p=_LIKELY))]
    x = np.array(content(rng, shape))
    y_shape = (others, *shape[1:])
    relation = rng.random()
    if relation < 0.45:
        other = CONTENTS[int(rng.choice(len(CONTENTS), p=_LIKELY))]
        y, name = np.array(other(rng, y_shape)), other.__name__[1:]
    else:
        y = x[rng.integers(0, len(x), others)] if others != len(x) else x.copy()
        if relation < 0.75:
            size = 10 ** rng.uniform(-8, -1)
            change = size * rng.normal(size=y_shape)
            if rng.random() < 0.3:  # of one pixel
                place = np.zeros(y_shape)
                place[..., int(rng.integers(y_shape[-2])), int(rng.integers(y_shape[-1]))] = 1
                change = change * place
            y, name = (y * (1 + change) if rng.random() < 0.3 else y + change), f"x and {size:.0e}"
        elif relation < 0.8:
            name = "x"
        elif relation < 0.86:
            y, name = 1 - y, "1 - x"
        elif relation < 0.94:
            y, name = y + rng.normal(size=(others, 1, 1, 1)) * 10 ** rng.uniform(-6, 0), "x and a constant"
        else:
            y, name = y * rng.uniform(0, 2), "x times"
    images = []
    for z in (x, y):
        z = np.clip(lo + (hi - lo) * z, -LARGEST[dtype], LARGEST[dtype])
        if content is _denormal and lo == 0 and rng.random() < 0.8:
            z = rng.integers(-9, 10, z.shape) * float(torch.finfo(dtype).smallest_normal) / 64
        images.append(torch.from_numpy(np.ascontiguousarray(z)).to(dtype))
    x, y = images
    names = [content.__name__[1:], name]
    if dtype == torch.float64 and rng.random() < 0.02:
        x, names[0] = x * 10 ** float(rng.uniform(100, 280)), names[0] + " beyond squares"
        x = x.clamp(-1e300, 1e300)
    if rng.random() < 0.08:
        z = (x, y)[int(rng.integers(2))]
        flat = z.view(-1)
        for _ in range(int(rng.integers(1, 3))):
            flat[int(rng.integers(len(flat)))] = float(rng.choice((math.nan, math.inf, -math.inf)))
        names = [f"{name} with holes" for name in names]
    return x, y, tuple(names)


def _presented(rng, case):
    """The same case with tensors of another layout, and how gradients are asked for."""
    possible = LAYOUTS if case.x.ndim == 4 else LAYOUTS[1:]  # the first is of planes
    layouts = [str(rng.choice(possible)) if rng.random() < 0.15 else "plain" for _ in range(2)]
    for k, z in enumerate((case.x, case.y)):
        if layouts[k] == "expanded" and z is not None:
            z[1:] = z[:1]
    case.layouts = tuple(layouts)
    case.to = "x" if case.y is None else str(rng.choice(("x", "y", "xy"), p=(0.3, 0.2, 0.5)))
    case.twice, case.create_graph = bool(rng.random() < 0.05), bool(rng.random() < 0.05)
    return case
