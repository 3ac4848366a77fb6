"""Means over image pairs: SSIM, MS-SSIM and structural distance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any
from zlib import crc32

import torch
from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen import _shown as shown
from ssimgen import engine
from ssimgen._pyramid import EachScale, Pyramid
from ssimgen._request import DEFAULT_WINDOW, NORMS, DataRange, Norm, checked_options
from ssimgen.engine import Form
from ssimgen.similarity import distance, ms_ssim, ssim
from ssimgen.torchmetrics.base import StructuralMetric
from ssimgen.windows import Window


class _MeanOfPairs(StructuralMetric):
    """The mean of a function of image pairs, over all pairs of all batches and processes."""

    full_state_update = False
    is_differentiable = True

    whole: Tensor
    rest: Tensor
    count: Tensor

    def __init__(self, of_pairs: Callable[..., Tensor], options: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._of_pairs = partial(of_pairs, **options)
        # The sum, as a whole number and a rest: neither loses digits, and Apple's GPUs have no float64.
        self.add_state("whole", torch.zeros((), dtype=torch.int64), "sum")
        self.add_state("rest", torch.zeros(()), "sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), "sum")
        # A collection takes two metrics for one if their states are equal at first, as those of equal images are.
        self.add_state("options", torch.tensor(crc32(repr((of_pairs.__name__, options)).encode())), "max")

    def extra_repr(self) -> str:
        """The options, as `print` shows them."""
        return shown.listed(self._of_pairs.keywords)

    def update(self, preds: Tensor, target: Tensor, mask: Tensor | None = None) -> None:
        """Take the pairs of a batch, both (B, C, *spatial), where `mask` lets them be seen."""
        values = self._of_pairs(preds, target, mask=mask)
        total = engine.widened(values).sum() + self.rest
        whole = total.detach().nan_to_num(0, 0, 0).round()
        self.whole = self.whole + whole.long()
        self.rest = (total - whole).to(self.rest.dtype)
        self.count = self.count + len(values)

    def compute(self) -> Tensor:
        """The mean, 0-d; NaN of no pairs."""
        return ((self.whole + engine.widened(self.rest)) / self.count).to(self._dtype_of_value)


class SSIMMetric(_MeanOfPairs):
    """Mean SSIM of image pairs, over all pairs of all batches and processes; see :func:`ssimgen.ssim`.

    `update(preds, target, mask=None)` takes the pairs of a batch, both (B, C, *spatial). Batches and images may be of
    other sizes the next time. The value is in float32, or float64 after `set_dtype(torch.float64)`.

    Args:
        data_range: l, for values in [0, l], or (lo, hi).
        window, k1, k2: as :func:`ssimgen.ssim`.
        kwargs: as `torchmetrics.Metric`.

    Raises:
        TypeError, ValueError: options out of range, at once; images, when they come, as :func:`ssimgen.ssim`.

    Example:
        >>> import torch
        >>> from ssimgen.torchmetrics import SSIMMetric
        >>> metric = SSIMMetric(data_range=1.0)
        >>> for images in torch.rand(6, 3, 16, 16).split(4):  # of 4 and 2
        ...     metric.update(images, images)
        >>> metric.compute()
        tensor(1.)
    """

    higher_is_better = True

    def __init__(
        self,
        *,
        data_range: DataRange,
        window: Window = DEFAULT_WINDOW,
        k1: float = 0.01,
        k2: float = 0.03,
        **kwargs: Any,
    ) -> None:
        super().__init__(ssim, _options(data_range, window, k1, k2), **kwargs)


class MSSSIMMetric(_MeanOfPairs):
    """Mean MS-SSIM of image pairs, over all pairs of all batches and processes; see :func:`ssimgen.ms_ssim`.

    `update(preds, target, mask=None)` takes the pairs of a batch, both (B, C, *spatial). The value is in float32, or
    float64 after `set_dtype(torch.float64)`.

    Args:
        data_range: l, for values in [0, l], or (lo, hi).
        window, weights, k1, k2: as :func:`ssimgen.ms_ssim`; weights=None takes as many scales as fit the images.
        kwargs: as `torchmetrics.Metric`.

    Raises:
        TypeError, ValueError: options out of range, at once; images, and weights that do not fit them, when they come,
            as :func:`ssimgen.ms_ssim`.

    Example:
        >>> import torch
        >>> from ssimgen.torchmetrics import MSSSIMMetric
        >>> metric, images = MSSSIMMetric(data_range=1.0), torch.rand(4, 3, 32, 32)
        >>> metric(images, images)  # of this batch
        tensor(1.)
        >>> metric.update(images / 2, images)
        >>> metric.compute() < 1  # of both
        tensor(True)
    """

    higher_is_better = True

    def __init__(
        self,
        *,
        data_range: DataRange,
        window: Window = DEFAULT_WINDOW,
        weights: tuple[float, ...] | None = None,
        k1: float = 0.01,
        k2: float = 0.03,
        **kwargs: Any,
    ) -> None:
        super().__init__(ms_ssim, {**_options(data_range, window, k1, k2), "weights": weights}, **kwargs)


class StructuralDistanceMetric(_MeanOfPairs):
    """Mean D of image pairs, or D^2, over all pairs of all batches and processes; see :func:`ssimgen.distance`.

    `update(preds, target, mask=None)` takes the pairs of a batch, both (B, C, *spatial). The value is in float32, or
    float64 after `set_dtype(torch.float64)`.

    Args:
        data_range: l, for values in [0, l], or (lo, hi).
        form, norm, squared, window, k1, k2, scales, pixels, chroma: as :func:`ssimgen.distance`.
        kwargs: as `torchmetrics.Metric`.

    Raises:
        TypeError, ValueError: options out of range, at once; images, when they come, as :func:`ssimgen.distance`.

    Example:
        >>> import torch
        >>> from ssimgen.torchmetrics import StructuralDistanceMetric
        >>> metric, images = StructuralDistanceMetric(data_range=1.0), torch.rand(4, 3, 16, 16)
        >>> metric.update(images, images)
        >>> metric.compute()
        tensor(0.)
    """

    higher_is_better = False

    def __init__(
        self,
        *,
        data_range: DataRange,
        form: Form = "sum",
        norm: Norm = "rms",
        squared: bool = False,
        window: Window = DEFAULT_WINDOW,
        k1: EachScale = 0.01,
        k2: EachScale = 0.03,
        scales: int | None = 1,
        pixels: float = 0.0,
        chroma: float | None = None,
        **kwargs: Any,
    ) -> None:
        pyramid = Pyramid(scales, k1, k2, pixels, chroma)
        pyramid.checked(data_range, window, form)
        options = {"data_range": arguments.plain(data_range), "window": window, **asdict(pyramid)}
        options |= {"form": form, "norm": arguments.choice("norm", norm, NORMS), "squared": squared}
        super().__init__(distance, options, **kwargs)


def _options(data_range: DataRange, window: Window, k1: float, k2: float) -> dict[str, Any]:
    """What all functions of pairs take, checked."""
    checked_options(data_range, window, k1, k2, "product")
    return {
        "data_range": arguments.plain(data_range),
        "window": window,
        "k1": arguments.plain(k1),
        "k2": arguments.plain(k2),
    }
