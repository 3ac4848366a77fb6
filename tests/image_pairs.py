"""Pairs of images for tests, some alike and some not."""

import numpy as np
import torch
from torch import Tensor


def random_images(*shape: int, seed: int = 0, lo: float = 0.0, hi: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """A pair of batches, the second a distorted copy of the first in one half, independent of it in the other."""
    random = np.random.default_rng(seed)
    x, noise = random.uniform(lo, hi, (2, *shape))
    y = 0.6 * x + 0.4 * noise
    y[..., shape[-1] // 2 :] = noise[..., shape[-1] // 2 :]
    return x, y


def tensors(*arrays: np.ndarray, dtype: torch.dtype = torch.float64, grad: bool = False) -> list[Tensor]:
    return [torch.tensor(a, dtype=dtype, requires_grad=grad) for a in arrays]
