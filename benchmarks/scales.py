"""What scales cost: the structural distance over an image pyramid beside that of one scale, value and gradient.

One process, in turns, one gradient as in training: to the reconstruction and not to the image. The target is at most
1.4 times one scale. `python benchmarks/scales.py` prints a table and writes results/scales.json.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

import ssimgen
from _timing import gradients, images, interleaved_medians, milliseconds, save, show
from ssimgen import Window

SHAPES = ((64, 1, 28, 28), (64, 3, 32, 32), (64, 3, 64, 64), (16, 3, 128, 128), (4, 3, 256, 256))
WINDOWS = {
    "uniform, 5 px, mirrored": Window.uniform(5, padding="reflect"),
    "Gaussian, 11 px": Window.gaussian(11),
}
TARGET = 1.4


def distances(window: Window, side: int) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """One scale, as many of three as fit, and these with pixels."""
    distance = partial(ssimgen.distance, data_range=1.0, squared=True, window=window, k1=0.1, k2=0.1)
    axis, _ = window.axes(2)
    fitting = sum(axis.fits(side >> scale) for scale in range(3))
    options: dict[str, dict[str, Any]] = {"one": {}, "scales": {"scales": fitting}}
    options["with pixels"] = {"scales": fitting, "pixels": 1.0}
    return {name: partial(distance, **chosen) for name, chosen in options.items()}


def main() -> None:
    """Measure, print, save."""
    rows = []
    for title, window in WINDOWS.items():
        for shape in SHAPES:
            x, y = images(shape)
            contenders = {n: partial(gradients, d, x, y, False) for n, d in distances(window, shape[-1]).items()}
            seconds = interleaved_medians(contenders)
            ratios = {name: value / seconds["one"] for name, value in seconds.items()}
            rows.append({"window": title, "shape": shape, "seconds": seconds, "ratios": ratios, "target": TARGET})
    show(
        f"Value and gradient: milliseconds at one scale, and how many times that (target {TARGET:g})",
        ["window", "images", "one scale", "up to three scales", "and pixels"],
        [
            [row["window"], "x".join(map(str, row["shape"])), milliseconds(row["seconds"]["one"])]
            + [f"{row['ratios'][name]:.2f}" for name in ("scales", "with pixels")]
            for row in rows
        ],
    )
    print("saved", save("scales", {"scales": rows}, ("ssimgen", "torch", "numba", "numpy")))


if __name__ == "__main__":
    main()
