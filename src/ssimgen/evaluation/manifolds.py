"""Fidelity and diversity of samples from nearest neighbours in a feature space.

A ball about every image of one set reaches to its k-th nearest neighbour within that set; together the balls
estimate where the images of the set lie. Each function takes features (n, F) of the real and (m, F) of the generated
images and returns one value an image: their mean is the score.

Precision and density see whether samples look real, recall and coverage whether they are all there. One outlier
among the real images has a large ball, which inflates precision; one among the samples inflates recall; density and
coverage were made to resist that (Naeem et al. 2020).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen._numbers import positive_integer
from ssimgen.metrics import Euclidean

_BLOCK = 1024  # rows of a distance matrix in memory at a time


def precision(
    real: Float[Tensor, "n F"], generated: Float[Tensor, "m F"], *, neighbours: int = 3
) -> Float[Tensor, " m"]:
    """1 for each generated image within the ball of a real one, else 0 (Kynkaanniemi et al. 2019, Eqs. 1 and 2).

    Args:
        real, generated: features of one dtype.
        neighbours: k, 3 in their paper.

    Raises:
        TypeError, ValueError: features that are not finite, of unequal dtypes or widths, or k or fewer images.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation import precision
        >>> real, generated = torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([[1.5], [9.0], [10.0]])
        >>> precision(real, generated, neighbours=1)
        tensor([1., 0., 0.])
    """
    real, generated = _features(real, generated, neighbours)
    return torch.cat([inside.any(1) for inside in _inside(real, generated, neighbours)]).to(real.dtype)


def recall(real: Float[Tensor, "n F"], generated: Float[Tensor, "m F"], *, neighbours: int = 3) -> Float[Tensor, " n"]:
    """1 for each real image within the ball of a generated one, else 0 (Kynkaanniemi et al. 2019, Eqs. 1 and 2).

    A ball reaches to the k-th nearest other generated image. The mean tells how much of the real images is there.

    Args:
        real, generated: features of one dtype, (n, F) and (m, F).
        neighbours: k, 3 in their paper.

    Raises:
        TypeError, ValueError: features that are not finite, of unequal dtypes or widths, or k or fewer images.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation import recall
        >>> real, generated = torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([[1.5], [9.0], [10.0]])
        >>> recall(real, generated, neighbours=1)
        tensor([1., 1., 1., 1.])
    """
    real, generated = _features(real, generated, neighbours)
    return torch.cat([inside.any(1) for inside in _inside(generated, real, neighbours)]).to(real.dtype)


def density(real: Float[Tensor, "n F"], generated: Float[Tensor, "m F"], *, neighbours: int = 5) -> Float[Tensor, " m"]:
    """For each generated image, the number of balls of real images that hold it, over k (Naeem et al. 2020).

    A ball reaches to the k-th nearest other real image. The mean is 1 in expectation for samples from the real
    distribution, and can exceed it.

    Args:
        real, generated: features of one dtype, (n, F) and (m, F).
        neighbours: k, 5 in their paper.

    Raises:
        TypeError, ValueError: features that are not finite, of unequal dtypes or widths, or k or fewer images.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation import density
        >>> real, generated = torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([[1.5], [9.0], [10.0]])
        >>> density(real, generated, neighbours=1)
        tensor([2., 0., 0.])
    """
    real, generated = _features(real, generated, neighbours)
    counts = [inside.sum(1) for inside in _inside(real, generated, neighbours)]
    return torch.cat(counts).to(real.dtype) / neighbours


def coverage(
    real: Float[Tensor, "n F"], generated: Float[Tensor, "m F"], *, neighbours: int = 5
) -> Float[Tensor, " n"]:
    """1 for each real image whose ball holds a generated one, else 0 (Naeem et al. 2020).

    A ball reaches to the k-th nearest other real image. For samples from the real distribution the mean is
    1 - (n-1)...(n-k) / ((n+m-1)...(n+m-k)) in expectation, about 1 - 2^-k for n = m.

    Args:
        real, generated: features of one dtype, (n, F) and (m, F).
        neighbours: k, 5 in their paper.

    Raises:
        TypeError, ValueError: features that are not finite, of unequal dtypes or widths, or k or fewer images.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation import coverage
        >>> real, generated = torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([[1.5], [9.0], [10.0]])
        >>> coverage(real, generated, neighbours=1)
        tensor([0., 1., 1., 0.])
    """
    real, generated = _features(real, generated, neighbours)
    covered = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for inside in _inside(real, generated, neighbours):
        covered |= inside.any(0)
    return covered.to(real.dtype)


def _inside(
    centres: Float[Tensor, "n F"], points: Float[Tensor, "m F"], neighbours: int
) -> Iterator[Bool[Tensor, "b n"]]:
    """Which points, a block of them at a time, lie in the ball of which centre."""
    radii = _squared_radii(centres, neighbours)
    for block in points.split(_BLOCK):
        yield Euclidean().squared(block, centres) <= radii


def _squared_radii(points: Float[Tensor, "n F"], neighbours: int) -> Float[Tensor, " n"]:
    """Squared distance of each point to its k-th nearest other point."""
    radii = []
    for start, block in zip(range(0, len(points), _BLOCK), points.split(_BLOCK), strict=True):
        squares = Euclidean().squared(block, points)
        squares[torch.arange(len(block)), torch.arange(start, start + len(block))] = torch.inf  # itself
        radii.append(squares.kthvalue(neighbours, dim=1).values)
    return torch.cat(radii)


def _features(real: Tensor, generated: Tensor, neighbours: int) -> tuple[Tensor, Tensor]:
    least = positive_integer("neighbours", neighbours, "neighbours") + 1
    purpose = f"a ball to the nearest neighbour of rank {neighbours}"
    return arguments.feature_sets(real, generated, ("real", "generated"), least, purpose)
