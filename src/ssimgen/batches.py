"""Batches of training images: what they hold, where they come from, and how processes share them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
import torch.distributed as dist
from jaxtyping import Float, Int, Shaped
from torch import Tensor

Shape = tuple[int, int, int]  # channels, height, width of images


class Batch(NamedTuple):
    """A batch of training images in [0, 1] and, where the data has them, their class numbers.

    Example:
        >>> import torch
        >>> from ssimgen.batches import Batch
        >>> batch = Batch(torch.rand(8, 1, 16, 16), labels=torch.arange(8) % 2)
        >>> batch.images.shape
        torch.Size([8, 1, 16, 16])
    """

    images: Float[Tensor, "B C H W"]
    labels: Int[Tensor, " B"] | None = None


@runtime_checkable
class Data(Protocol):
    """What a training loop asks of images: batches without end, and some fixed images for pictures.

    Example:
        >>> import torch
        >>> from ssimgen.batches import Data
        >>> from ssimgen.data import Images
        >>> images = Images(torch.rand(32, 1, 16, 16), None, "noise")
        >>> isinstance(images, Data), next(images.batches(8, seed=0, start=0)).images.shape
        (True, torch.Size([8, 1, 16, 16]))
    """

    @property
    def shape(self) -> Shape:
        """(channels, height, width) of the images."""

    def describe(self) -> dict[str, Any]:
        """Source, number of images and a "hash" of the content, for the run's configuration."""

    def batches(self, size: int, seed: int, start: int) -> Iterator[Batch]:
        """Batches without end, from the start-th on, in an order that `seed` fixes."""

    def first(self, n: int) -> Batch:
        """n fixed images, or all if there are fewer, for pictures."""


def processes() -> int:
    """How many processes train together; 1 outside of data parallelism.

    Example:
        >>> from ssimgen.batches import processes
        >>> processes()
        1
    """
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def own_share(x: Shaped[Tensor, "B ..."]) -> Shaped[Tensor, "b ..."]:
    """The rows of a batch of all processes that are this one's: the inverse of :func:`gathered`.

    Example:
        >>> import torch
        >>> from ssimgen.batches import own_share
        >>> own_share(torch.arange(4))  # of one process: everything
        tensor([0, 1, 2, 3])
    """
    return x.chunk(processes())[dist.get_rank()] if processes() > 1 else x


def gathered(x: Shaped[Tensor, "b ..."]) -> Shaped[Tensor, "B ..."]:
    """The batches of all processes as one, in the order of processes, with gradients to every part.

    With one process, x itself. Every process must call it with equal shapes. A loss of the gathered batch is
    the same number in every process; its gradients, averaged over the processes as those of any data-parallel
    step, are the gradients of that one number.

    Example:
        >>> import torch
        >>> from ssimgen.batches import gathered
        >>> gathered(torch.arange(4))  # from one process: what it has
        tensor([0, 1, 2, 3])
    """
    return _Gather.apply(x) if processes() > 1 else x


def mean_over_processes(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The mean of the tensors that all processes hold; with one process, x itself. No gradient.

    Example:
        >>> import torch
        >>> from ssimgen.batches import mean_over_processes
        >>> mean_over_processes(torch.tensor(0.5))
        tensor(0.5000)
    """
    if processes() == 1:
        return x
    total = x.detach().clone()
    dist.all_reduce(total)
    return total / processes()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(processes())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)  # the sum over processes: averaging the parameters' gradients undoes it
        return own_share(gradient)
