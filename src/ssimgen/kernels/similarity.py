"""SSIM as a kernel."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

from jaxtyping import Float
from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen import pairwise
from ssimgen._masks import digest
from ssimgen._request import DEFAULT_WINDOW, DataRange, checked_options
from ssimgen.kernels.kernel import Kernel
from ssimgen.windows import Window


@final
@dataclass(frozen=True)
class SSIM(Kernel):
    """k(x, y) = SSIM of images (n, C, H, W), in [-1, 1]; options as :func:`ssimgen.ssim` (Wang et al. 2004, Eq. 13).

    Positive definite with unit diagonal (docs/kernels.md, F1), so 1 - k is half a squared distance in its Hilbert
    space; but not characteristic: distributions exist that no MMD with this kernel tells apart (F4).

    Raises:
        TypeError, ValueError: options out of range, at once; images, when called, as :func:`ssimgen.ssim`.

    Example:
        >>> import torch
        >>> from ssimgen.kernels import SSIM
        >>> gram = SSIM(data_range=1.0)(torch.rand(5, 1, 16, 16, dtype=torch.float64))
        >>> gram.shape, torch.linalg.eigvalsh(gram).min().item() > 0
        (torch.Size([5, 5]), True)
    """

    data_range: DataRange
    window: Window = DEFAULT_WINDOW
    k1: float = 0.01
    k2: float = 0.03
    mask: Tensor | None = field(default=None, repr=False, compare=False)
    _mask: str = field(default="", init=False, repr=False)  # by which it is compared

    def __post_init__(self) -> None:
        object.__setattr__(self, "_mask", digest(self.mask))
        checked_options(self.data_range, self.window, self.k1, self.k2, "product")
        arguments.keep_plain(self, "data_range", "k1", "k2")

    @property
    def positive_definite(self) -> bool:
        return True

    @property
    def unit_diagonal(self) -> bool:
        return True

    def __call__(self, x: Float[Tensor, "n ..."], y: Float[Tensor, "m ..."] | None = None) -> Float[Tensor, "n m"]:
        return pairwise.ssim(
            x, y, data_range=self.data_range, window=self.window, k1=self.k1, k2=self.k2, mask=self.mask
        )
