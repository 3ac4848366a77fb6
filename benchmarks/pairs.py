"""SSIM of image pairs, forward and backward, beside the libraries that users would otherwise take.

Every library computes the same quantity, which is checked first: SSIM by Wang et al. (2004), Gaussian window of
11 px and sigma 1.5, windows wholly inside the image, mean over positions and channels. All run in this process
with the same number of threads, in turns. `python benchmarks/pairs.py` prints tables and writes results/pairs.json.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import frame_analytics
import kornia
import numpy as np
import pytorch_msssim
import torch
from skimage.metrics import structural_similarity
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

import ssimgen
from _timing import RUNS, contest, gradients, images, save, show, show_contest

SHAPES = ((64, 1, 28, 28), (64, 3, 64, 64), (16, 3, 256, 256), (1, 3, 1080, 1920), (256, 1, 28, 28))
PACKAGES = (
    "ssimgen", "torch", "numba", "numpy", "pytorch-msssim", "kornia", "torchmetrics", "frame-analytics", "scikit-image",
)  # fmt: skip
TARGETS = {"forward": 1.5, "distance forward": 1.5, "forward + backward to x": 8.0, "forward + backward to both": 8.0}
AGREEMENT = 1e-4

Similarity = Callable[[Tensor, Tensor], Tensor]


def _skimage(x: Tensor, y: Tensor) -> Tensor:
    """One image at a time, on arrays: no gradient."""
    options: dict[str, Any] = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    values = [
        structural_similarity(a, b, data_range=1.0, channel_axis=0, **options)
        for a, b in zip(x.numpy(), y.numpy(), strict=True)
    ]
    return torch.tensor(np.array(values))


def _torchmetrics(x: Tensor, y: Tensor) -> Tensor:
    """It pads by reflection; Wang's mean leaves out the windows that reach into the padding."""
    _, full = structural_similarity_index_measure(x, y, data_range=1.0, return_full_image=True)
    return full[..., 5:-5, 5:-5].mean((1, 2, 3))


# Each gives one value a pair.
SIMILARITIES: dict[str, Similarity] = {
    "ssimgen": partial(ssimgen.ssim, data_range=1.0),
    "pytorch-msssim": partial(pytorch_msssim.ssim, data_range=1.0, size_average=False),
    "kornia": lambda x, y: kornia.metrics.ssim(x, y, 11, max_val=1.0, padding="valid").mean((1, 2, 3)),
    "torchmetrics": _torchmetrics,
    "frame-analytics": partial(frame_analytics.ssim, data_range=1.0, reduction="none"),
    "scikit-image": _skimage,
}
WITHOUT_GRADIENT = {"scikit-image"}


def check_agreement() -> list[dict[str, Any]]:
    """How far each library is from the float64 value and gradient; raises if one computes something else."""
    x, y = images((4, 3, 64, 64))
    value = SIMILARITIES["ssimgen"](x.double(), y.double())
    gradient, _ = gradients(SIMILARITIES["ssimgen"], x.double(), y.double(), both=True)
    assert gradient is not None
    rows = []
    for name, similarity in SIMILARITIES.items():
        row: dict[str, Any] = {"library": name, "value": (similarity(x, y).view(-1) - value).abs().max().item()}
        if name not in WITHOUT_GRADIENT:
            of_x, of_y = gradients(similarity, x, y, both=True)
            assert of_x is not None
            row["gradient"] = ((of_x - gradient).norm() / gradient.norm()).item()
            row["both gradients"] = of_y is not None
        if max(row["value"], row.get("gradient", 0)) > AGREEMENT:
            raise AssertionError(f"{name} computes another quantity: {row}")
        rows.append(row)
    return rows


def contenders(operation: str, x: Tensor, y: Tensor) -> dict[str, Callable[[], object]]:
    """What is timed for an operation, by library."""
    if operation == "forward":
        return {name: partial(similarity, x, y) for name, similarity in SIMILARITIES.items()}
    if operation == "distance forward":  # no peer has it: their SSIM stands beside it
        peers = {name: partial(similarity, x, y) for name, similarity in SIMILARITIES.items() if name != "ssimgen"}
        return {"ssimgen": partial(ssimgen.distance, x, y, data_range=1.0), **peers}
    both = operation.endswith("both")
    return {
        name: partial(gradients, similarity, x, y, both)
        for name, similarity in SIMILARITIES.items()
        if name not in WITHOUT_GRADIENT
    }


def measure_start() -> dict[str, float]:
    """Medians, over fresh processes: imports, and the first call once compiled code is on disk."""
    first_call = (
        "import time, ssimgen, torch; x = torch.rand(64, 1, 28, 28, requires_grad=True); begin = time.perf_counter(); "
        "ssimgen.ssim(x, x.detach() / 2, data_range=1.0).sum().backward(); print(time.perf_counter() - begin)"
    )
    seconds: dict[str, list[float]] = {"import torch": [], "import ssimgen": [], "first call": []}
    for _ in range(RUNS):
        for name in ("import torch", "import ssimgen"):
            begin = time.perf_counter()
            subprocess.run([sys.executable, "-c", name], check=True)
            seconds[name].append(time.perf_counter() - begin)
        done = subprocess.run([sys.executable, "-c", first_call], check=True, capture_output=True, text=True)
        seconds["first call"].append(float(done.stdout))
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    """Check, measure, print, save."""
    agreement = check_agreement()
    show(
        "Difference from float64 (value: largest; gradient: relative)",
        ["library", "value", "gradient"],
        [[r["library"], f"{r['value']:.1e}", f"{r['gradient']:.1e}" if "gradient" in r else "-"] for r in agreement],
    )
    rows = contest(contenders, SHAPES, TARGETS)
    show_contest(rows, SIMILARITIES, TARGETS)
    start = measure_start()
    show(
        "Start of a process (targets: import ratio below 1.5, first call below 1 s)",
        ["", "seconds"],
        [[name, f"{value:.2f}"] for name, value in start.items()]
        + [["import ssimgen / import torch", f"{start['import ssimgen'] / start['import torch']:.2f}"]],
    )
    print("saved", save("pairs", {"agreement": agreement, "pairs": rows, "start": start}, PACKAGES))


if __name__ == "__main__":
    main()
