"""Pairs of images for tests, some alike and some not."""

import numpy as np
import torch
from torch import Tensor

from ssimgen import Window


def random_images(*shape: int, seed: int = 0, lo: float = 0.0, hi: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """A pair of batches, the second a distorted copy of the first in one half, independent of it in the other."""
    random = np.random.default_rng(seed)
    x, noise = random.uniform(lo, hi, (2, *shape))
    y = 0.6 * x + 0.4 * noise
    y[..., shape[-1] // 2 :] = noise[..., shape[-1] // 2 :]
    return x, y


def tensors(*arrays: np.ndarray, dtype: torch.dtype = torch.float64, grad: bool = False) -> list[Tensor]:
    return [torch.tensor(a, dtype=dtype, requires_grad=grad) for a in arrays]


def blind_pair(window: Window, side: int, signs: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """{0.5 +- a} and {0.5 +- b}: patches of a and b have the weighted mean 0, and |a| = |b| in every pixel.

    Rows of a are equal, but for the sign of the columns of b.
    """
    means = torch.zeros(window.positions(side), side, dtype=torch.float64)
    for row, start in zip(means, range(0, side, window.stride), strict=False):
        row[start : start + window.size] = torch.tensor(window.taps, dtype=torch.float64)
    unseen = torch.linalg.svd(means).Vh[-1]
    assert (means @ unseen).abs().max() < 1e-14
    if signs is None:
        signs = torch.where(torch.arange(side) % 3 == 0, -1.0, 1.0).double()
    a = (0.4 * unseen / unseen.abs().max())[:, None].expand(side, side)
    b = a * signs
    return torch.stack([0.5 + a, 0.5 - a])[:, None], torch.stack([0.5 + b, 0.5 - b])[:, None]
