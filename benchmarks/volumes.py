"""SSIM of pairs of volumes, forward and backward, beside the libraries that have it.

As `pairs.py`: every library computes the same quantity, which is checked first, with a Gaussian window of 11 px a side
and sigma 1.5, wholly inside the volume; all run in this process with the same number of threads, in turns. MONAI has
it for its losses. `python benchmarks/volumes.py` prints tables and writes results/volumes.json.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import kornia
import pytorch_msssim
from monai.metrics.regression import compute_ssim_and_cs
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

import ssimgen
from _timing import contest, gradients, images, save, show, show_contest

SHAPES = ((1, 1, 64, 64, 64), (4, 1, 32, 64, 64), (1, 1, 128, 128, 128))
PACKAGES = ("ssimgen", "torch", "numba", "numpy", "monai", "pytorch-msssim", "kornia", "torchmetrics")
TARGETS = {"forward": 5.0, "forward + backward to x": 8.0, "forward + backward to both": 8.0}
AGREEMENT = 1e-5
INSIDE = (..., *[slice(5, -5)] * 3)


def _torchmetrics(x: Tensor, y: Tensor) -> Tensor:
    """It pads by reflection, as `pairs.py` says."""
    _, full = structural_similarity_index_measure(x, y, data_range=1.0, return_full_image=True)
    return full[INSIDE].flatten(1).mean(1)


def _monai(x: Tensor, y: Tensor) -> Tensor:
    ssim, _ = compute_ssim_and_cs(x, y, 3, kernel_size=(11,) * 3, kernel_sigma=(1.5,) * 3, data_range=1.0)
    return ssim.flatten(1).mean(1)


# Each gives one value a pair.
SIMILARITIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ssimgen": partial(ssimgen.ssim, data_range=1.0),
    "MONAI": _monai,
    "pytorch-msssim": partial(pytorch_msssim.ssim, data_range=1.0, size_average=False),
    "kornia": lambda x, y: kornia.metrics.ssim3d(x, y, 11, max_val=1.0, padding="valid").flatten(1).mean(1),
    "torchmetrics": _torchmetrics,
}


def check_agreement() -> dict[str, float]:
    """How far each library is from the float64 value; raises if one computes something else."""
    x, y = images((2, 1, 20, 24, 22))
    value = SIMILARITIES["ssimgen"](x.double(), y.double())
    errors = {name: (similarity(x, y) - value).abs().max().item() for name, similarity in SIMILARITIES.items()}
    for name, error in errors.items():
        if error > AGREEMENT:
            raise AssertionError(f"{name} computes another quantity, off by {error}")
    return errors


def contenders(operation: str, x: Tensor, y: Tensor) -> dict[str, Callable[[], object]]:
    """What is timed for an operation, by library."""
    if operation == "forward":
        return {name: partial(similarity, x, y) for name, similarity in SIMILARITIES.items()}
    both = operation.endswith("both")
    return {name: partial(gradients, similarity, x, y, both) for name, similarity in SIMILARITIES.items()}


def main() -> None:
    """Check, measure, print, save."""
    errors = check_agreement()
    show("Difference from float64", ["library", "value"], [[name, f"{error:.1e}"] for name, error in errors.items()])
    rows = contest(contenders, SHAPES, TARGETS)
    show_contest(rows, SIMILARITIES, TARGETS)
    print("saved", save("volumes", {"agreement": errors, "volumes": rows}, PACKAGES))


if __name__ == "__main__":
    main()
