"""How far two sets of images are apart: MMD and energy distance."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen import _shown as shown
from ssimgen import streaming
from ssimgen._numbers import positive_integer
from ssimgen.batches import own_share, processes
from ssimgen.kernels import Kernel
from ssimgen.metrics import Metric
from ssimgen.torchmetrics.base import StructuralMetric

_BLOCK = 1024  # points of a set that are compared at a time: matrices of 4 MiB in float32
_AXES = 8  # of points, at most


class _OfTwoSets(StructuralMetric):
    """What is computed of all pairs of two sets of points, which are kept.

    They are kept as numbers in a row, in the dtype of the metric: so can the parts of all processes be gathered, that
    of one that has none too.
    """

    full_state_update = True  # thinned sets are not joined by joining what is kept
    is_differentiable = False
    higher_is_better = False

    shape: Tensor

    def __init__(
        self, estimate: Callable[..., float], function: streaming.PairFunction, keep: int | None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._estimate, self._function = estimate, function
        self._keep = None if keep is None else positive_integer("keep", keep, "points")
        self.add_state("shape", torch.zeros(_AXES, dtype=torch.int64))  # of points; of all processes when gathered
        for name in ("preds", "target"):
            self.add_state(name, [], "cat")
            if self._keep is not None:
                self.add_state(f"{name}_keys", [], "cat")
        if self._keep is not None:
            self.add_state("keep", torch.tensor(self._keep), "max")  # a collection tells metrics apart by states

    def extra_repr(self) -> str:
        """The options, as `print` shows them."""
        return shown.listed({"function": self._function, "keep": self._keep})

    def update(self, preds: Tensor | None, target: Tensor | None) -> None:
        """Take points (n, ...) of one set and (m, ...) of the other; None where a set has no more."""
        process = int(own_share(torch.arange(processes())))
        generator = torch.Generator().manual_seed(self.update_count * processes() + process)
        for name, points in (("preds", preds), ("target", target)):
            if points is not None:
                points = arguments.sample(name, points.detach()).to(self.dtype)
                self._check(name, points)
                getattr(self, name).append(points.flatten().clone())  # what the caller has may change
                if self._keep is not None:
                    getattr(self, f"{name}_keys").append(torch.rand(len(points), generator=generator).to(points))
                    self._thin(name, self._keep)

    def compute(self) -> Tensor:
        """The estimate, 0-d."""
        preds, target = (self._points(name).split(_BLOCK) for name in ("preds", "target"))
        value = self._estimate(preds, target, self._function)
        return torch.tensor(value, dtype=self._dtype_of_value, device=self.device)

    def _check(self, name: str, points: Tensor) -> None:
        """Raise for points unlike those before, or that the function does not take."""
        shape, known = tuple(points.shape[1:]), self._shape_of_points()
        if not known:
            with torch.no_grad():
                self._function(points[:1], None)  # now, and not when all have come
            self.shape = torch.tensor([*shape, *[0] * (_AXES - len(shape))], device=self.shape.device)
        elif shape != known:
            raise ValueError(f"points must have one shape, got {shape} as {name} after {known}: crop or resize them")

    def _shape_of_points(self) -> tuple[int, ...]:
        """That of all points, in all processes where these are gathered; () before any."""
        shapes = {tuple(side for side in shape if side) for shape in self.shape.view(-1, _AXES).tolist()} - {()}
        if len(shapes) > 1:
            raise ValueError(f"points must have one shape in all processes, got {sorted(shapes)}: crop or resize them")
        return shapes.pop() if shapes else ()

    def _points(self, name: str) -> Tensor:
        """(n, ...), of which a random part where more came than are to be kept."""
        numbers, shape = _joined(getattr(self, name)), self._shape_of_points()
        points = numbers.view(-1, *shape) if shape else numbers
        return points if self._keep is None else points[self._least(name)]

    def _least(self, name: str) -> Tensor:
        """Which points have the least keys, which are random: a random part of all that have come, anywhere."""
        return _joined(getattr(self, f"{name}_keys")).argsort()[: self._keep]

    def _thin(self, name: str, keep: int) -> None:
        """Keep so many points, once there are twice as many."""
        keys: list[Tensor] = getattr(self, f"{name}_keys")
        if sum(map(len, keys)) > 2 * keep:
            least = self._least(name)
            setattr(self, name, [_joined(getattr(self, name)).view(-1, *self._shape_of_points())[least].flatten()])
            setattr(self, f"{name}_keys", [_joined(keys)[least]])


def _joined(parts: list[Tensor] | Tensor) -> Tensor:
    """A state in one piece, as it is when gathered."""
    if isinstance(parts, Tensor):
        return parts
    return torch.cat(parts) if parts else torch.empty(0)


class MMDMetric(_OfTwoSets):
    """Squared maximum mean discrepancy of two sets of images, as :func:`ssimgen.discrepancy.mmd2` of all of them.

    `update(preds, target)` takes points of either set, (n, ...) and (m, ...), or None. They are kept, in the dtype of
    the metric (float32, or what `set_dtype` says), and compared by `compute` in blocks, as :mod:`ssimgen.streaming`
    does: beyond the points, memory holds one block of the kernel matrix, whose sum is taken in float64. Of several
    processes, each gets the points of all, and gives the value of all.

    Args:
        kernel: on the points, its bandwidths set: `kernel.fit(part)` takes them from a part of the real images.
        unbiased: the U-statistic, otherwise the V-statistic.
        keep: how many points of each set to keep, if more come: a random part, which the number of updates fixes. Up to
            twice as many are in memory. None keeps all.
        kwargs: as `torchmetrics.Metric`.

    Raises:
        TypeError, ValueError: points that are not of one shape, or that the kernel does not take, when they come; and
            by `compute`, fewer than two points of a set with `unbiased`, or kernel values that are not finite.

    Example:
        >>> import torch
        >>> from ssimgen.kernels import Gaussian
        >>> from ssimgen.metrics import Euclidean
        >>> from ssimgen.torchmetrics import MMDMetric
        >>> metric = MMDMetric(Gaussian(Euclidean(), bandwidths=(1.0,)))
        >>> metric.update(torch.tensor([[0.0]]), torch.tensor([[4.0], [5.0]]))
        >>> metric.update(torch.tensor([[1.0]]), None)
        >>> metric.compute().round(decimals=3)
        tensor(1.2070)
    """

    def __init__(self, kernel: Kernel, *, unbiased: bool = True, keep: int | None = None, **kwargs: Any) -> None:
        super().__init__(partial(streaming.mmd2, unbiased=unbiased), kernel, keep, **kwargs)


class EnergyDistanceMetric(_OfTwoSets):
    """Energy distance of two sets of images, as :func:`ssimgen.discrepancy.energy_distance` of all of them.

    `update(preds, target)` takes points of either set, (n, ...) and (m, ...), or None. They are kept and compared as
    those of :class:`MMDMetric`; in a `MetricCollection` with it, they are kept once.

    Args:
        metric: D, as `ssimgen.metrics.StructuralDistance(data_range=1.0)`.
        unbiased: the U-statistic, otherwise the V-statistic.
        keep: how many points of each set to keep, if more come, as :class:`MMDMetric`.
        kwargs: as `torchmetrics.Metric`.

    Raises:
        TypeError, ValueError: points that are not of one shape, or that the metric does not take, when they come; and
            by `compute`, fewer than two points of a set with `unbiased`, or distances that are not finite.

    Example:
        >>> import torch
        >>> from ssimgen.metrics import Euclidean
        >>> from ssimgen.torchmetrics import EnergyDistanceMetric
        >>> metric = EnergyDistanceMetric(Euclidean())
        >>> metric.update(torch.tensor([[0.0], [1.0]]), torch.tensor([[4.0], [5.0]]))
        >>> metric.compute()
        tensor(6.)
    """

    def __init__(self, metric: Metric, *, unbiased: bool = True, keep: int | None = None, **kwargs: Any) -> None:
        super().__init__(partial(streaming.energy_distance, unbiased=unbiased), metric, keep, **kwargs)
