"""`ssimgen.arrays` on 1080p pictures: beside the same call on tensors made beforehand, and beside scikit-image.

All compute SSIM by Wang et al. (2004), which is checked first, in this process with the same number of threads, in
turns. `python benchmarks/arrays.py` prints a table and writes results/arrays.json.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from skimage.metrics import structural_similarity

import ssimgen
from _timing import RUNS, interleaved_medians, milliseconds, save, show

SHAPES: dict[str, tuple[int, ...]] = {"grey": (1080, 1920), "colour": (1080, 1920, 3)}
DTYPES = ("uint8", "uint16", "float32")
PACKAGES = ("ssimgen", "torch", "numba", "numpy", "scikit-image")
TARGET = 1.2  # times the call on tensors


def images(shape: tuple[int, ...], dtype: str) -> tuple[np.ndarray, np.ndarray, float]:
    """A noise, a noisy copy, and their range."""
    random = np.random.default_rng(0)
    length = 1.0 if dtype == "float32" else float(np.iinfo(dtype).max)
    x = random.random(shape)
    y = (x + 0.1 * random.standard_normal(shape)).clip(0, 1)
    x, y = (length * z if dtype == "float32" else (length * z).round() for z in (x, y))
    return x.astype(dtype), y.astype(dtype), length


def contenders(shape: tuple[int, ...], dtype: str) -> dict[str, Callable[[], Any]]:
    """The call on tensors that are made already, on arrays, and of scikit-image."""
    x, y, length = images(shape, dtype)
    axis = None if len(shape) == 2 else -1
    a, b = (
        torch.from_numpy(np.moveaxis(z.astype(np.float32).reshape(*shape[:2], -1), -1, 0).copy())[None] for z in (x, y)
    )
    return {
        "tensors": lambda: ssimgen.ssim(a, b, data_range=length).item(),
        "arrays": lambda: ssimgen.arrays.ssim(x, y, data_range=length, channel_axis=axis),
        "scikit-image": lambda: structural_similarity(
            x, y, data_range=length, channel_axis=axis, gaussian_weights=True, use_sample_covariance=False
        ),
    }


def main() -> int:
    rows, results = [], []
    for name, shape in SHAPES.items():
        for dtype in DTYPES:
            calls = contenders(shape, dtype)
            values = {who: call() for who, call in calls.items()}
            assert max(values.values()) - min(values.values()) < 1e-5, values
            seconds = interleaved_medians(calls)
            ratio, gain = seconds["arrays"] / seconds["tensors"], seconds["scikit-image"] / seconds["arrays"]
            results.append({"image": name, "dtype": dtype, "seconds": seconds})
            rows.append([f"{name}, {dtype}", *map(milliseconds, seconds.values()), f"{ratio:.2f}", f"{gain:.0f}"])
    show(
        f"SSIM of 1080 x 1920 px, milliseconds, median of {RUNS}",
        ("image", "tensors", "arrays", "scikit-image", "arrays / tensors", "scikit-image / arrays"),
        rows,
    )
    print(save("arrays", {"results": results, "target": TARGET}, PACKAGES))
    missed = [row[0] for row in rows if float(row[4]) > TARGET]
    if missed:
        print(f"above {TARGET} times the call on tensors: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
