"""Batches of training images: what they hold, where they come from, and how processes share them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
import torch.distributed as dist
from jaxtyping import Float, Int, Shaped
from torch import Tensor

Shape = tuple[int, int, int]  # channels, height, width of images

_AXES = 8  # of a tensor of points, at most, that processes tell one another


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
    return _Gather.apply(x, [len(x)] * processes()) if processes() > 1 else x


def gathered_samples(*samples: Shaped[Tensor, "_ ..."]) -> tuple[Shaped[Tensor, "_ ..."], ...]:
    """Each of these samples as :func:`gathered`, of as many points as each process has of it: none will do.

    Processes tell one another the sizes first.

    Raises:
        ValueError: points of unequal shapes, in every process.

    Example:
        >>> import torch
        >>> from ssimgen.batches import gathered_samples
        >>> gathered_samples(torch.arange(4), torch.arange(2))  # from one process: what it has
        (tensor([0, 1, 2, 3]), tensor([0, 1]))
    """
    if processes() == 1:
        return samples
    return tuple(_Gather.apply(x, sizes) for x, sizes in zip(samples, _sizes(samples), strict=True))


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


def _sizes(samples: tuple[Tensor, ...]) -> list[list[int]]:
    """How many points of each sample each process has."""
    own = torch.tensor([[*x.shape, *[-1] * (_AXES - x.ndim)] for x in samples], device=samples[0].device)
    parts = [torch.empty_like(own) for _ in range(processes())]
    dist.all_gather(parts, own)
    shapes = torch.stack(parts, 1).tolist()  # of sample, process, axis
    for of_processes in shapes:
        points = [tuple(side for side in shape[1:] if side >= 0) for shape in of_processes]
        other = next((rank for rank, shape in enumerate(points) if shape != points[0]), None)
        if other is not None:
            raise ValueError(
                f"points of a sample must have one shape in all processes, got {points[0]} in process 0 and "
                f"{points[other]} in process {other}: crop or resize them alike"
            )
    return [[shape[0] for shape in of_processes] for of_processes in shapes]


class _Gather(torch.autograd.Function):
    """The rows of all processes, of which each has so many."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        own = torch.cat([x, x.new_zeros(max(sizes) - len(x), *x.shape[1:])])  # backends ask for equal sizes
        parts = [torch.empty_like(own) for _ in sizes]
        dist.all_gather(parts, own)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        gradient = gradient.clone(memory_format=torch.contiguous_format)  # others may hold it
        dist.all_reduce(gradient)  # the sum over processes: averaging the parameters' gradients undoes it
        return gradient.split(ctx.sizes)[dist.get_rank()], None
