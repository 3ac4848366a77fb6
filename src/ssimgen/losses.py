"""Losses as `torch.nn.Module`s, of image pairs and of samples: they store options and call functions of `ssimgen`."""

from __future__ import annotations

from torch import Tensor, nn

from ssimgen._arguments import DataRange, choice, plain
from ssimgen.discrepancy import energy_distance, mmd2
from ssimgen.engine import Form
from ssimgen.kernels import Kernel
from ssimgen.metrics import Metric
from ssimgen.similarity import DEFAULT_WINDOW, NORMS, checked_options, distance, ms_complement, root
from ssimgen.windows import Window

REDUCTIONS = ("mean", "sum", "none")


def _reduce(values: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return values
    return values.mean() if reduction == "mean" else values.sum()


class SSIMLoss(nn.Module):
    """1 - SSIM of image pairs (B, C, H, W), in [0, 2]; options as :func:`ssimgen.ssim`.

    `reduction` is "mean" over the batch, "sum", or "none" for one value a pair.
    """

    def __init__(
        self,
        *,
        data_range: DataRange,
        window: Window = DEFAULT_WINDOW,
        k1: float = 0.01,
        k2: float = 0.03,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        checked_options(data_range, window, k1, k2, "product")
        self.data_range, self.window, self.k1, self.k2 = plain(data_range), window, plain(k1), plain(k2)
        self.reduction = choice("reduction", reduction, REDUCTIONS)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of x against y, both (B, C, H, W)."""
        value = distance(
            x,
            y,
            data_range=self.data_range,
            form="product",
            squared=True,
            window=self.window,
            k1=self.k1,
            k2=self.k2,
        )
        return _reduce(value, self.reduction)


class MSSSIMLoss(nn.Module):
    """1 - MS-SSIM of image pairs (B, C, H, W), in [0, 2]; options as :func:`ssimgen.ms_ssim`."""

    def __init__(
        self,
        *,
        data_range: DataRange,
        window: Window = DEFAULT_WINDOW,
        weights: tuple[float, ...] | None = None,
        k1: float = 0.01,
        k2: float = 0.03,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        checked_options(data_range, window, k1, k2, "product")
        self.data_range, self.window, self.k1, self.k2 = plain(data_range), window, plain(k1), plain(k2)
        self.weights = weights
        self.reduction = choice("reduction", reduction, REDUCTIONS)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of x against y, both (B, C, H, W)."""
        value = ms_complement(
            x, y, data_range=self.data_range, window=self.window, weights=self.weights, k1=self.k1, k2=self.k2
        )
        return _reduce(value, self.reduction)


class StructuralDistanceLoss(nn.Module):
    """D^2 of image pairs (B, C, H, W), or D with squared=False; options as :func:`ssimgen.distance`.

    The square is the default because it takes the place of the squared l2 norm and is smooth where x = y.
    """

    def __init__(
        self,
        *,
        data_range: DataRange,
        form: Form = "sum",
        norm: str = "rms",
        squared: bool = True,
        window: Window = DEFAULT_WINDOW,
        k1: float = 0.01,
        k2: float = 0.03,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        checked_options(data_range, window, k1, k2, form)
        self.data_range, self.window, self.k1, self.k2 = plain(data_range), window, plain(k1), plain(k2)
        self.form, self.norm, self.squared = form, choice("norm", norm, NORMS), squared
        self.reduction = choice("reduction", reduction, REDUCTIONS)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of x against y, both (B, C, H, W)."""
        value = distance(
            x,
            y,
            data_range=self.data_range,
            form=self.form,
            norm=self.norm,
            squared=self.squared,
            window=self.window,
            k1=self.k1,
            k2=self.k2,
        )
        return _reduce(value, self.reduction)


class MMDLoss(nn.Module):
    """MMD^2 of two samples, or MMD with root=True; see :func:`ssimgen.discrepancy.mmd2`.

    Args:
        kernel: on the points of the samples; its bandwidths must be set (`kernel.fit(x)`).
        unbiased: the U-statistic, whose gradient is unbiased over batches; otherwise the V-statistic.
        root: the square root of the V-statistic, which keeps the gradient from fading as the distributions meet
            (Li, Swersky, Zemel 2015, section 4). Where it is 0 its gradient is 0.

    Raises:
        ValueError: root with unbiased: the U-statistic can be negative.
    """

    def __init__(self, kernel: Kernel, *, unbiased: bool = False, root: bool = False) -> None:
        super().__init__()
        if root and unbiased:
            raise ValueError("the unbiased estimate can be negative and has no root: pass root=False or unbiased=False")
        self.kernel, self.unbiased, self.root = kernel, unbiased, root

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of the sample x against y, (n, ...) and (m, ...)."""
        value = mmd2(self.kernel(x), self.kernel(x, y), self.kernel(y), unbiased=self.unbiased)
        return root(value) if self.root else value


class EnergyLoss(nn.Module):
    """Energy distance 2 E D(x, y) - E D(x, x') - E D(y, y') of two samples.

    See :func:`ssimgen.discrepancy.energy_distance`. It has no bandwidth. `unbiased` leaves the zero distances of
    points to themselves out of the means, so that its gradient is unbiased over batches.
    """

    def __init__(self, metric: Metric, *, unbiased: bool = True) -> None:
        super().__init__()
        self.metric, self.unbiased = metric, unbiased

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of the sample x against y, (n, ...) and (m, ...)."""
        return energy_distance(self.metric(x), self.metric(x, y), self.metric(y), unbiased=self.unbiased)
