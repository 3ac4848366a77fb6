"""What metrics of pairs and of sets share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class StructuralMetric(Metric):
    """A metric whose counts stay whole numbers, and whose value is in float32 at least."""

    def plot(self, val: Tensor | Sequence[Tensor] | None = None, ax: Any = None) -> Any:
        """Draw one value, what `compute` gives by default, or several over time, as metrics of torchmetrics do.

        Returns:
            The figure and axes of matplotlib.
        """
        return self._plot(val, ax)

    def set_dtype(self, dst_type: str | torch.dtype) -> StructuralMetric:
        """Floating-point states in another dtype."""
        states = {name: (getattr(self, name), default) for name, default in self._defaults.items()}
        super().set_dtype(dst_type)
        for name, (state, default) in states.items():
            if isinstance(default, Tensor) and not default.is_floating_point():
                setattr(self, name, state)
                self._defaults[name] = default
        return self

    @property
    def _dtype_of_value(self) -> torch.dtype:
        return torch.promote_types(self.dtype, torch.float32)
