"""What compiling costs: the first calls of a process without machine code on disk, and kernels that all windows share.

`python benchmarks/compilation.py` prints tables and writes results/compilation.json: processor seconds of first calls,
less those of the import of PyTorch, in processes of their own with empty caches; then the time of a call with kernels
for all windows, over that of the same call with the window's own.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

import torch

import ssimgen
from _timing import images, interleaved_medians, save, show
from ssimgen.engine.fused import compilation

WINDOWS = {
    "gaussian 11 (default)": "Window.gaussian(11)",
    "uniform 7": "Window.uniform(7)",
    "uniform 8, stride 4": "Window.uniform(8, stride=4)",
}
CALLS = {
    "ssim": "ssim(x, y, data_range=1.0, window=window)",
    "with gradient": "ssim(x.requires_grad_(), y, data_range=1.0, window=window).sum().backward()",
    "all pairs": "pairwise.ssim(*(z[..., :28, :28].repeat(16, 1, 1, 1) for z in (x, y)), data_range=1, window=window)",
}
FIRST = """
import time, torch
from ssimgen import Window, pairwise, ssim
x, y = torch.rand(2, 4, 1, 64, 64)
window = {window}
begin = time.process_time()
{call}
print(time.process_time() - begin)
"""
PROCESSES = 3
PACKAGES = ("ssimgen", "torch", "numba", "llvmlite", "numpy")


def first_call(window: str, call: str) -> float:
    """Processor seconds, the median of some processes."""
    return statistics.median(_first_call(window, call) for _ in range(PROCESSES))


def _first_call(window: str, call: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", FIRST.format(window=window, call=call)],
            env=os.environ | {"NUMBA_CACHE_DIR": folder},
            capture_output=True,
            text=True,
            check=True,
        )
    return float(json.loads(done.stdout))


def shared_over_own(window: str, call: str) -> float:
    """How many times as long a call takes with the kernels of all windows as with its own."""
    x, y = images((4, 3, 128, 128))
    names = {
        "x": x,
        "y": y,
        "ssim": ssimgen.ssim,
        "pairwise": ssimgen.pairwise,
        "window": eval(window, {"Window": ssimgen.Window}),
    }
    code = compile(call, "call", "exec")
    kernels: dict[str, Callable[[], object]] = {
        "own": lambda: exec(code, names),
        "shared": lambda: _with_shared_kernels(lambda: exec(code, names)),
    }
    seconds = interleaved_medians(kernels)
    return seconds["shared"] / seconds["own"]


def _with_shared_kernels(call: Callable[[], object]) -> None:
    def shared(kernels: Any, geometry: tuple[int, ...], pixels: int, *options: Any) -> Callable[..., None]:
        return partial(kernels._define(None, *options), geometry)

    with mock.patch.object(compilation.Kernels, "fit", shared):
        call()


def main() -> int:
    torch.set_num_threads(1)
    first = {name: {what: first_call(window, call) for what, call in CALLS.items()} for name, window in WINDOWS.items()}
    rows = [[name, *(f"{seconds:.1f}" for seconds in calls.values())] for name, calls in first.items()]
    show("first call without machine code on disk: processor seconds", ["window", *CALLS], rows)
    ratios = {
        name: {what: shared_over_own(window, call) for what, call in CALLS.items()} for name, window in WINDOWS.items()
    }
    rows = [[name, *(f"{ratio:.2f}" for ratio in calls.values())] for name, calls in ratios.items()]
    show("time with kernels for all windows, over that with its own", ["window", *CALLS], rows)
    save("compilation", {"first calls": first, "shared over own": ratios}, PACKAGES)
    return 0


if __name__ == "__main__":
    sys.exit(main())
