"""What a kernel is, and what is made of kernels: sums, products, multiples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TypeVar, final

from jaxtyping import Float
from torch import Tensor

from ssimgen import _arguments as arguments


class Kernel(ABC):
    """A kernel k: `kernel(x, y)` is the matrix of k(x_i, y_j), differentiable in both arguments.

    With y=None, x is compared with itself, in half the work and with an exact diagonal. `k1 + k2`, `k1 * k2` and
    `2 * k` are kernels again.

    Attributes:
        positive_definite: claims that every Gram matrix is positive semidefinite.
        unit_diagonal: claims that k(x, x) = 1 for every x.

    Example:
        >>> import torch
        >>> from ssimgen.kernels import SSIM, Gaussian
        >>> from ssimgen.metrics import Euclidean
        >>> kernel = 2 * SSIM(data_range=1.0) + Gaussian(Euclidean(), bandwidths="median")
        >>> kernel = kernel.fit(torch.rand(8, 1, 16, 16))
        >>> kernel(torch.rand(4, 1, 16, 16)).shape, kernel.positive_definite
        (torch.Size([4, 4]), True)
    """

    @property
    @abstractmethod
    def positive_definite(self) -> bool:
        """Whether every Gram matrix is positive semidefinite."""

    @property
    @abstractmethod
    def unit_diagonal(self) -> bool:
        """Whether k(x, x) = 1 for every x."""

    @abstractmethod
    def __call__(self, x: Float[Tensor, "n ..."], y: Float[Tensor, "m ..."] | None = None) -> Float[Tensor, "n m"]: ...

    def fit(self, x: Float[Tensor, "n ..."]) -> Kernel:
        """This kernel with every bandwidths="median" replaced by its number on the sample x."""
        return self

    def __add__(self, other: Kernel) -> Kernel:
        return Sum(self, other) if isinstance(other, Kernel) else NotImplemented

    def __mul__(self, other: Kernel | float) -> Kernel:
        return Product(self, other) if isinstance(other, Kernel) else Scaled(self, other)

    def __rmul__(self, factor: float) -> Kernel:
        return Scaled(self, factor)


K = TypeVar("K", bound="_OfTwo")


@dataclass(frozen=True)
class _OfTwo(Kernel):
    """What a sum and a product of kernels share."""

    left: Kernel
    right: Kernel

    @property
    def positive_definite(self) -> bool:
        return self.left.positive_definite and self.right.positive_definite

    def fit(self: K, x: Float[Tensor, "n ..."]) -> K:
        return replace(self, left=self.left.fit(x), right=self.right.fit(x))


@final
@dataclass(frozen=True)
class Sum(_OfTwo):
    """k(x, y) = left(x, y) + right(x, y), positive definite if both are; `left + right` makes it.

    Example:
        >>> from ssimgen.kernels import SSIM, Sum
        >>> sharp, smooth = SSIM(data_range=1.0), SSIM(data_range=1.0, k2=0.1)
        >>> sharp + smooth == Sum(sharp, smooth)
        True
    """

    @property
    def unit_diagonal(self) -> bool:
        return False

    def __call__(self, x: Float[Tensor, "n ..."], y: Float[Tensor, "m ..."] | None = None) -> Float[Tensor, "n m"]:
        return self.left(x, y) + self.right(x, y)


@final
@dataclass(frozen=True)
class Product(_OfTwo):
    """k(x, y) = left(x, y) right(x, y), positive definite if both are (Schur 1911); `left * right` makes it.

    Example:
        >>> import torch
        >>> from ssimgen.kernels import SSIM
        >>> kernel = SSIM(data_range=1.0)
        >>> x = torch.rand(4, 1, 16, 16)
        >>> torch.equal((kernel * kernel)(x), kernel(x) ** 2)
        True
    """

    @property
    def unit_diagonal(self) -> bool:
        return self.left.unit_diagonal and self.right.unit_diagonal

    def __call__(self, x: Float[Tensor, "n ..."], y: Float[Tensor, "m ..."] | None = None) -> Float[Tensor, "n m"]:
        return self.left(x, y) * self.right(x, y)


@final
@dataclass(frozen=True)
class Scaled(Kernel):
    """k(x, y) = factor kernel(x, y); `factor * kernel` makes it.

    Raises:
        ValueError: a factor that is not a positive number.

    Example:
        >>> import torch
        >>> from ssimgen.kernels import SSIM
        >>> (2 * SSIM(data_range=1.0))(torch.rand(3, 1, 16, 16)).diagonal()
        tensor([2., 2., 2.])
    """

    kernel: Kernel
    factor: float

    def __post_init__(self) -> None:
        if not arguments.is_positive(self.factor):
            raise ValueError(f"a kernel is scaled by a positive number, got {self.factor!r}")
        arguments.keep_plain(self, "factor")

    @property
    def positive_definite(self) -> bool:
        return self.kernel.positive_definite

    @property
    def unit_diagonal(self) -> bool:
        return self.kernel.unit_diagonal and self.factor == 1

    def __call__(self, x: Float[Tensor, "n ..."], y: Float[Tensor, "m ..."] | None = None) -> Float[Tensor, "n m"]:
        return self.factor * self.kernel(x, y)

    def fit(self, x: Float[Tensor, "n ..."]) -> Scaled:
        return Scaled(self.kernel.fit(x), self.factor)
