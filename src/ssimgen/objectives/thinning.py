"""Fewer windows: in each step every k-th position along both axes, from a random one on.

Of p positions along an axis one is drawn, each with probability 1 / p; those of its residue modulo k are kept, o of
them. So a residue has probability o / p and its positions weight 1 / o in the mean, and every position counts 1 / p in
expectation: E D_o^2 = D^2, exactly, along each axis and so along both. What that means for kernels and for MMD is F12
of docs/kernels.md.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import cast, final

import torch
from jaxtyping import Float
from torch import Tensor

from ssimgen.batches import gathered
from ssimgen.components import Component
from ssimgen.metrics import Metric, StructuralDistance
from ssimgen.windows import Window


@final
@dataclass(frozen=True)
class Thinned(Metric):
    """A structural metric of a part of the images, of these sides, that begins at these offsets.

    Example:
        >>> import torch
        >>> from ssimgen import Window
        >>> from ssimgen.metrics import StructuralDistance
        >>> from ssimgen.objectives.thinning import Thinned
        >>> images = torch.rand(3, 1, 16, 16)
        >>> metric = StructuralDistance(1.0, window=Window.uniform(8, stride=8))
        >>> torch.equal(Thinned(metric, (4, 0), (8, 16))(images), metric(images[:, :, 4:12].contiguous()))
        True
    """

    metric: Metric
    offsets: tuple[int, int]
    sides: tuple[int, int]

    @property
    def hilbertian(self) -> bool:
        return self.metric.hilbertian

    def squared(self, x: Float[Tensor, "n C H W"], y: Float[Tensor, "m C H W"] | None = None) -> Float[Tensor, "n m"]:
        """D^2 of all pairs."""
        (top, left), (height, width) = self.offsets, self.sides
        seen = (z[:, :, top : top + height, left : left + width].contiguous() for z in (x, y) if z is not None)
        return self.metric.squared(*seen)


def windowed(metric: Metric) -> bool:
    """Whether a metric has windows, of which some could be left out."""
    return isinstance(metric, (StructuralDistance, Component))


def thinned(metric: Metric, every: int, sides: tuple[int, int]) -> Metric:
    """The metric at every `every`-th position of its windows in images of these sides, from a random one on.

    All processes draw the same positions. Metrics without windows stay as they are.
    """
    if every == 1 or not windowed(metric):
        return metric
    window: Window = cast("StructuralDistance | Component", metric).window
    axes = window.axes(2)
    drawn = torch.stack([torch.randint(axis.positions(side), ()) for axis, side in zip(axes, sides, strict=True)])
    first = [position % every for position in gathered(drawn[None])[0].tolist()]
    wider = dataclasses.replace(window, stride=tuple(every * axis.stride for axis in axes))
    places = [
        (axis.stride * begin, axis.size + (axis.positions(side) - 1 - begin) // every * every * axis.stride)
        for axis, side, begin in zip(axes, sides, first, strict=True)
    ]
    (top, height), (left, width) = places
    return Thinned(dataclasses.replace(cast("StructuralDistance", metric), window=wider), (top, left), (height, width))
