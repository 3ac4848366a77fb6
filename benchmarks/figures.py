"""What SSIM libraries answer for one pair of pictures, as their users call them, beside the call here that agrees.

The pictures are 256 x 256 px of the astronaut of scikit-image, in colour, and they with noise. `python
benchmarks/figures.py` prints the table of docs/coming-from.md; it needs benchmarks/requirements.txt.
"""

from __future__ import annotations

from collections.abc import Callable

import kornia
import numpy as np
import pytorch_msssim
import skimage.data
import torch
from skimage.metrics import structural_similarity
from torch import Tensor
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)

from ssimgen import Window, arrays, ms_ssim, ssim

EVEN = Window.gaussian(11, padding="reflect")


def pair() -> tuple[Tensor, Tensor]:
    """The picture and it with noise, (1, 3, 256, 256) in [0, 1], in steps of 1 / 255."""
    picture = skimage.data.astronaut()[:256, 128:384].astype(np.float64)
    noisy = np.clip(np.round(picture + np.random.default_rng(0).normal(0, 25, picture.shape)), 0, 255)
    x, y = (torch.tensor(z / 255, dtype=torch.float64).movedim(2, 0)[None] for z in (picture, noisy))
    return x, y


def bytes_of(x: Tensor) -> np.ndarray:
    """The picture as scikit-image likes it, (256, 256, 3) bytes."""
    return (x[0].movedim(0, 2) * 255).round().byte().numpy()


CALLS: dict[str, tuple[Callable[[Tensor, Tensor], float], Callable[[Tensor, Tensor], float]]] = {
    "pytorch_msssim.ssim(x, y, data_range=1.0)": (
        lambda x, y: pytorch_msssim.ssim(x, y, data_range=1.0).item(),
        lambda x, y: ssim(x, y, data_range=1.0).item(),
    ),
    "pytorch_msssim.ms_ssim(x, y, data_range=1.0)": (
        lambda x, y: pytorch_msssim.ms_ssim(x, y, data_range=1.0).item(),
        lambda x, y: ms_ssim(x, y, data_range=1.0).item(),
    ),
    "torchmetrics structural_similarity_index_measure(x, y, data_range=1.0)": (
        lambda x, y: structural_similarity_index_measure(x, y, data_range=1.0).item(),
        lambda x, y: ssim(x, y, data_range=1.0, window=EVEN).item(),
    ),
    "torchmetrics multiscale_structural_similarity_index_measure(x, y, data_range=1.0)": (
        lambda x, y: multiscale_structural_similarity_index_measure(x, y, data_range=1.0).item(),
        lambda x, y: ms_ssim(x, y, data_range=1.0).item(),
    ),
    "kornia.metrics.ssim(x, y, 11).mean()": (
        lambda x, y: kornia.metrics.ssim(x, y, 11).mean().item(),
        lambda x, y: ssim(x, y, data_range=1.0, window=EVEN).item(),
    ),
    "2 * kornia.losses.ssim_loss(x, y, 11)": (
        lambda x, y: 2 * kornia.losses.ssim_loss(x, y, 11).item(),
        lambda x, y: 1 - ssim(x, y, data_range=1.0, window=EVEN).item(),
    ),
    "skimage structural_similarity(a, b, channel_axis=-1)": (
        lambda x, y: float(structural_similarity(bytes_of(x), bytes_of(y), channel_axis=-1)),
        lambda x, y: float(arrays.structural_similarity(bytes_of(x), bytes_of(y), channel_axis=-1)),
    ),
}

if __name__ == "__main__":
    x, y = pair()
    for name, (theirs, ours) in CALLS.items():
        print(f"{theirs(x, y):.6f}  {ours(x, y):.6f}  {name}")
