"""Cases that were wrong once, each with its reason, for the suite to replay in both engines.

What the fuzzer finds is written down here as images and options, not as a seed: seeds change with `draws`.
"""

from __future__ import annotations

import torch
from draws import Case

from ssimgen import Window

GAUSSIAN = Window.gaussian(11, 1.5)
SMALL = Window.gaussian(4, 1.2, stride=2)
APART = Window.gaussian(2, stride=3)


def rand(*shape, seed=0, dtype=torch.float32):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def noise(*shape, seed=9):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_pixels(images, *pixels):
    """The images with {index: number} set."""
    images = images.clone()
    for index, number in pixels:
        images[index] = number
    return images


def cases() -> dict[str, Case]:
    x, y = rand(2, 1, 16, 16), rand(2, 1, 16, 16, seed=1)
    wide, other = x.double(), noise(2, 1, 16, 16)
    hole, last = (0, 0, 5, 5), (0, 0, 4, 3)
    nan, inf = with_pixels(x, (hole, torch.nan)), with_pixels(x, (hole, torch.inf))
    kelvin, kelvin_too = ((273.15 + 0.01 * z.double()).float() for z in (x, y))
    hot = with_pixels(wide, (hole, 1e18))
    faint = (1 + 7e-5 * other[..., :4, :6]).float()
    tones = torch.tensor([[0.71, 0.83], [0.0, 0.8301]], dtype=torch.float64)
    saturated = (tones[:, :, None, None] + 0 * x[:1]).float()
    flat, brighter = (torch.full((2, 1, 16, 16), level, dtype=torch.float64) for level in (0.3, 0.8))
    steps = with_pixels(torch.full_like(wide, 0.1), ((..., slice(8, None)), 0.9))
    high = torch.full_like(wide, 5e10)
    board = (-1.0) ** (torch.arange(16)[:, None] + torch.arange(16))
    cells = board.repeat_interleave(2, 0)[:16].repeat_interleave(2, 1)[:, :16]
    opposite = (0.5 + 0.37 * cells + 0 * wide).float(), 1 - (0.5 + 0.37 * cells + 0 * wide).float()
    spread = 1e6 * noise(5, 1, 11, 11, seed=11)
    dark = with_pixels(torch.full_like(wide, -1.0), ((..., 14, 10), 1.3e5))
    halves = with_pixels(torch.ones_like(x), ((..., slice(8, None)), 1.4))
    found = {
        # squares of huge pixels left float32: 0.0 for a diverged batch, other numbers in between, NaN without gradient
        "a diverged batch against its targets": Case("loss", x * 1e9, y, GAUSSIAN, 1.0, to="x"),
        "a batch diverging": Case("loss", x * 2e8, y, GAUSSIAN, 1.0, to="x"),
        "one pixel of 1e9": Case("ssim", with_pixels(x, (hole, 1e9)), y, GAUSSIAN, 1.0),
        "two images 2e8 times too bright": Case("ssim", x * 2e8, (wide + 0.1 * other).float() * 2e8, GAUSSIAN, 1.0),
        "tiny constants": Case("ssim", x, y, GAUSSIAN, 1.0, k1=1e-6, k2=1e-6),
        "uncentred, far out of range": Case("distance", x * 1e8, y * 1e8, GAUSSIAN, 1.0, form="uncentred"),
        "all pairs of pixels of 1e25": Case("all ssim", x * 1e25, y * 1e25, SMALL, 1.0),
        "all pairs, D of a hot pixel": Case(
            "all distance", with_pixels(x, (hole, 1e25)), y, SMALL, 255.0, form="sum", squared=False
        ),
        # k1 was in the arithmetic of a form whose formula does not have it
        "uncentred pairs and k1": Case("all distance", x, y, SMALL, 1.0, form="uncentred", k1=1e3),
        # lo was rounded to float32
        "lo of 273.15": Case("distance", kelvin, kelvin_too, GAUSSIAN, (273.15, 274.15), form="sum"),
        # a diagonal that was written, not computed
        "a NaN image on the diagonal of SSIM": Case("all ssim", nan, None, SMALL, 1.0, to="x"),
        "an infinite image on the diagonal of D": Case(
            "all distance", inf, None, SMALL, 1.0, to="x", form="sum", squared=False
        ),
        # v - x.y cancels where images are nearly equal
        "all pairs, nearly equal by 1e-4": Case(
            "all distance", x, (wide + 1e-4 * other).float(), SMALL, 1.0, form="sum", squared=False
        ),
        "all pairs, nearly equal by 1e-5": Case(
            "all distance", x, (wide + 1e-5 * other).float(), SMALL, 1.0, form="sum", squared=False
        ),
        "constant images, centred": Case("all distance", flat, brighter, SMALL, 1.0, form="centred", squared=False),
        # zero times NaN is NaN
        "NaN between the windows": Case("distance", nan, y, APART, 1.0, form="sum"),
        "all pairs, NaN between the windows": Case("all distance", nan, y, APART, 1.0, form="sum"),
        "NaN after the last window": Case(
            "ssim", with_pixels(rand(2, 1, 5, 10), (last, torch.nan)), rand(2, 1, 5, 10, seed=1), SMALL, 1.0
        ),
        # the gradient is a small difference of large terms
        "bright and nearly flat against black, 1e-4": Case(
            "distance", (1 - 1e-4 * wide).float(), 0 * y, GAUSSIAN, 1.0, form="sum", squared=False
        ),
        "bright and nearly flat against black, 1e-5": Case("ssim", (1 - 1e-5 * wide).float(), 0 * y, GAUSSIAN, 1.0),
        # images halved in float32 lose what distinguishes them
        "scales of nearly equal images": Case(
            "ms_ssim",
            (1000.1 + wide).float(),
            (1000.1 + wide + 1e-3 * other).float(),
            Window.gaussian(4, 1.2),
            (1000.1, 1001.1),
            weights=(0.5, 0.5),
        ),
        # E z^2 - (E z)^2 in float64 beside c2 = 1e-11
        "float64 and a tiny k2": Case("ssim", wide * 1e-3, (other > 0).double(), APART, 1.0, k2=3e-6),
        # s1 as 1 - (mx - my)^2 / E has no digits left where it is small
        "all pairs, gradient to bright flat images against black": Case(
            "all ssim", 0 * x, brighter.float(), SMALL, 1.0, to="y"
        ),
        # the rounding error of the mean of a bright patch is no contrast
        "all pairs, huge flat patches": Case(
            "all distance", x, 5e18 * halves, Window.gaussian(7, 3.1, stride=4), 1.0, form="sum"
        ),
        # x - x_c and y - y_c round where x - y does not
        "a hot pixel, and equal but for a constant": Case(
            "distance",
            with_pixels(wide, (hole, 2e18)),
            with_pixels(wide + 1e-4, (hole, 2e18)),
            SMALL,
            1.0,
            form="centred",
            squared=False,
        ),
        # v - x.y beside a tiny c2, in float64
        "all pairs, nearly equal and a tiny k2": Case(
            "all distance", steps, steps + 3e-7 * other, SMALL, 1.0, k2=1e-3, form="centred", squared=False
        ),
        # averages of pixels near 100 lose the digits of a contrast of 1e-6
        "scales far from 0 and a tiny k2": Case(
            "ms_ssim",
            100.5 + 1e-6 * wide,
            torch.full_like(wide, 100.25),
            Window.gaussian(4, 1.2),
            (100.0, 101.0),
            k1=0.2,
            k2=1e-6,
            weights=(0.2, 0.8),
        ),
        # v - x.y and E z^2 - m^2 of float64, beside c2 = 1e-7
        "all pairs, float64 and a tiny k2": Case(
            "all distance", flat, flat + 3e-5 * other, Window.uniform(10), 1.0, k1=1.14, k2=3.7e-4, squared=False
        ),
        # v - x.y of float32 has a gradient of its own where it should have none, seen beside a small one to the means
        "all pairs, equal but for a constant, and a small k2": Case(
            "all distance",
            (0.9 + 0.01 * wide[:1]).float(),
            (0.85 + 0.01 * wide[:1]).float(),
            SMALL,
            1.0,
            k1=1e-5,
            k2=2e-3,
        ),
        # 1 - s1 s2 where both are near -1: nothing else here notices a wrong 1 + s2
        "opposite images, far out of range": Case("distance", 1000 + wide, -1000 - wide, GAUSSIAN, 1.0),
        # pixels about a value that was rounded, and their mean about the same that was not
        "all pairs, equal but for a constant, far from 0": Case(
            "all distance",
            4.4e-3 * wide[:1] - 4000.123,
            4.4e-3 * (wide + 0.9) - 4000.123,
            Window.uniform(5, stride=7),
            (-4000.123, -4000.123 + 0.0044),
            k1=3000.0,
            k2=0.6,
            form="sum",
            squared=False,
            to="y",
        ),
        # a + b - a b of a, b near 2
        "opposite images": Case(
            "distance", 1e12 * (wide + 0.1), 1 - 1e12 * (wide + 0.1), SMALL, 1.0, squared=False, to="x"
        ),
        "all pairs of opposite images": Case("all distance", hot, 1 - hot, Window.uniform(11), 1.0),
        # 1 - a where a is nearly 1
        "flat and huge, against noise": Case("ssim", 1e12 * flat, other, Window.uniform(2), (-1.0, 1.0)),
        # rounding errors of x + y beside sqrt(c2 / beta)
        "two pixels a window, and a large beta": Case(
            "map", 0 * x + 0.7, (0.7 + 0.02 * other).float(), Window((0.5, 0.5), beta=9.7), 1.0
        ),
        # rounding errors of means beside a tiny c1, of contrasts that c2 hides
        "contrasts of both signs, k1 far below k2": Case(
            "map",
            (1e3 * noise(2, 1, 32, 32, seed=8)).float(),
            (1e3 * noise(2, 1, 32, 32)).float(),
            GAUSSIAN,
            1.0,
            k2=1e5,
        ),
        # d^2 of a plane was 0, but for its rounding error
        "equal but for a constant, in two of eight planes to the last bit": Case(
            "loss",
            5e-8 * rand(1, 8, 16, 16),
            5e-8 * rand(1, 8, 16, 16) - 2e-4,
            Window.gaussian(10),
            1.0,
            form="centred",
            squared=False,
            k2=1e-4,
            to="x",
        ),
        # d is a constant, and noise in its last bits: a mean that rounds is as large a difference
        "equal but for a constant": Case("loss", x, x + 0.3, GAUSSIAN, 1.0, form="centred", squared=False, to="xy"),
        # 1 - a, the similarity of luminance, was the rounding error of 1, and all that the slope of contrast has
        "black against steps, and a tiny k1": Case(
            "loss", 0 * x, (halves - 0.7).float(), Window.gaussian(12, 3.0), 1.0, k1=1e-4, k2=0.2, to="y"
        ),
        # contrast of rounding errors of x + y beside a tiny c2, which a large c1 hid
        "faint noise, k1 far above k2": Case(
            "ssim",
            (0.4 + 1e-5 * wide).float(),
            (0.8 + 1e-5 * other).float(),
            Window.uniform(7),
            1.0,
            k1=16.0,
            k2=2e-6,
        ),
        # means of flat images that rounded had a distance, whose root has a slope
        "flat images": Case("distance", flat - 0.177, flat + 0.577, GAUSSIAN, 1.0, form="centred", squared=False),
        # x - y left nothing of y, whose contrast is all of D
        "flat, against the faintest noise": Case(
            "distance", flat, 1e-40 * other, SMALL, 1.0, form="centred", squared=False
        ),
        # rounding errors of x - y beside sqrt(c2), in float64
        "float64, faint noise against a flat image far out of range": Case(
            "distance", 1e-5 * other, 1e6 * brighter + 0.1, SMALL, 1.0, k2=0.008, form="centred", squared=False
        ),
        # slopes by x + y and x - y cancelled, by pixels of both signs whose means said nothing of it
        "a checkerboard of both signs against black": Case(
            "distance", (100 * board * (1 + 0.01 * wide)).float(), 0 * y, GAUSSIAN, 1.0, form="sum", k1=1e3, k2=1.0
        ),
        # the slope of D by the eager engine, of D^2 = 1e-54 by the compiled one
        "all pairs, a hot pixel, equal but for a constant, twice differentiable": Case(
            "all distance", hot, hot + 3e-3, SMALL, 1.0, form="centred", squared=False, to="x", create_graph=True
        ),
        # variances by E z^2 - m^2 of float64, beside c2 = 3e-12 that they leave of v - x.y
        "all pairs, float64, black against contrast of bright images": Case(
            "all distance", 0 * wide, 1 + 5e-3 * other, SMALL, 1.0, k2=1.7e-6, form="centred"
        ),
        # their variances passed for rounding errors, and their covariance with others for none
        "all pairs, a bright image but for its last bit": Case(
            "all distance",
            (0.5 + 1e-3 * board + 0 * x).float(),
            (1 + 1.2e-7 * (board > 0) + 0 * y).float(),
            SMALL,
            1.0,
            k2=1e-3,
            form="sum",
        ),
        "all pairs, float64, the faintest texture of a bright image": Case(
            "all ssim", 0.5 + 0.03 * (board + 0 * wide), 1 + 2e-8 * (board + 0 * wide), SMALL, 1.0
        ),
        # x - y was rounded to digits that are few beside what little varies in it, which D, not squared, divides by
        "pairs alike but for brightness": Case(
            "distance", faint, 0.41 * faint, Window.gaussian(2), 1.0, form="centred", squared=False
        ),
        "pairs alike but for brightness, which a large c1 overlooks": Case(
            "distance", faint, 0.41 * faint, Window.gaussian(2), 1.0, k1=1e3, form="sum", squared=False
        ),
        "eager: lines of one tone each, which differ in brightness alone": Case(
            "distance",
            wide[..., :1].expand(-1, -1, -1, 16).contiguous(),
            other[..., :1].expand(-1, -1, -1, 16).contiguous(),
            Window.uniform((1, 6), (2, 1), unbiased=True),
            1.0,
            form="centred",
            squared=False,
        ),
        # x + y and x - y left no digits of the dark image, of which the slope of the bright one is made
        "pairs of a black and a white image": Case(
            "distance", 1e-5 * (1 + x), 0.9 + 0.1 * y, Window((1.0,)), 1.0, form="sum", squared=False
        ),
        "all pairs, opposite images": Case(
            "all distance", opposite[0], opposite[1][:1], GAUSSIAN, 1.0, form="product", squared=False
        ),
        # means were rounded, and nearly equal ones are seen where the other channel is white against black
        **{
            f"all pairs, one channel nearly equal and one saturated, {form}": Case(
                "all distance", saturated[:1], saturated[1:], SMALL, 1.0, k1=1e-3, k2=3e-3, form=form
            )
            for form in ("product", "sum", "uncentred")
        },
        # asked back of a slope that is 1e-16 of what luminance, which a tiny c1 makes steep, has at the coarsest scale:
        # images halved have no digits for differences in the last bit of their pixels
        "scales of huge images that differ in their last bit, k1 far below k2": Case(
            "ms_ssim", high, high + 8e-6 * (other > 1), SMALL, 1.0, k1=1e-6, k2=1e3, weights=(0.7, 0.3)
        ),
        # means of equal images, in sets of two sizes, differed by rounding errors of pixels much larger than they
        "the same images in two samples, of both signs": Case(
            "mmd laplacian", spread, spread[[4, 2, 0, 4]], Window.uniform(11), 1.0, form="sum", engines=("eager",)
        ),
        # 2 z - 2 m is not quite 0 in windows of one pixel, and is divided by c2
        "one pixel a window, nearly equal": Case(
            "distance", wide, wide + 1e-6 * other, Window((1.0,)), 1.0, k1=100.0, k2=1e-4, form="sum", squared=False
        ),
        # averages were taken about the mean of the plane, which one pixel moves far from all others
        "scales of a dark image with a hot pixel, k1 far below k2": Case(
            "ms loss", dark, dark + 2e-3 * other, Window.gaussian(7, 2.6), (-1.0, 1.0), k1=1e-5, k2=60.0, to="x"
        ),
        "one pixel a window, which has no variance": Case("distance", x, y, Window((1.0,)), 1.0, form="centred"),
    }
    for name, case in found.items():
        case.name = name
    return found
