"""Losses as `torch.nn.Module`s, of image pairs and of samples: they store options and call functions of `ssimgen`."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from ssimgen import _shown as shown
from ssimgen._arguments import choice, of_one_dtype, plain
from ssimgen._pyramid import EachScale, Pyramid
from ssimgen._request import DEFAULT_WINDOW, NORMS, DataRange, Norm, checked_options
from ssimgen.batches import gathered_samples
from ssimgen.discrepancy import energy_distance, mmd2
from ssimgen.engine import Form, Over
from ssimgen.kernels import Kernel
from ssimgen.metrics import Metric
from ssimgen.similarity import ms_complement, root, squared_distance
from ssimgen.windows import Window

Reduction = Literal["mean", "sum", "none"]
REDUCTIONS: tuple[Reduction, ...] = ("mean", "sum", "none")


def _averaged_over(reduction: Reduction) -> Over:
    """What an engine is to average d^2 over: of a mean, it takes the batch with the rest."""
    return "batch" if reduction == "mean" else "images"


def _reduce(values: Tensor, reduction: Reduction) -> Tensor:
    """What is left to be done, of values a pair."""
    if reduction == "none" or values.ndim == 0:
        return values
    return values.mean() if reduction == "mean" else values.sum()


class SSIMLoss(nn.Module):
    """1 - SSIM of image pairs, in [0, 2]: 0 for equal images (Wang et al. 2004, Eq. 13).

    Computed from 1 - s1 and 1 - s2, where nothing cancels for nearly equal images: exactly 0 at x = y, and never below.

    Args:
        data_range: l, for values in [0, l], or (lo, hi).
        window, k1, k2: as :func:`ssimgen.ssim`.
        reduction: "mean" over the batch, "sum", or "none" for one value a pair.

    Raises:
        TypeError, ValueError: options out of range, at once; images, when called, as :func:`ssimgen.ssim`.

    Example:
        >>> import torch
        >>> from ssimgen.losses import SSIMLoss
        >>> x, y = torch.rand(4, 3, 32, 32), torch.rand(4, 3, 32, 32, requires_grad=True)
        >>> SSIMLoss(data_range=1.0)(y, x).backward()
        >>> y.grad.shape
        torch.Size([4, 3, 32, 32])
        >>> SSIMLoss(data_range=1.0)
        SSIMLoss(data_range=1.0, window=Window.gaussian(11, 1.5), k1=0.01, k2=0.03, reduction='mean')
    """

    def __init__(
        self,
        *,
        data_range: DataRange,
        window: Window = DEFAULT_WINDOW,
        k1: float = 0.01,
        k2: float = 0.03,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        checked_options(data_range, window, k1, k2, "product")
        self.data_range, self.window, self.k1, self.k2 = plain(data_range), window, plain(k1), plain(k2)
        self.reduction = choice("reduction", reduction, REDUCTIONS)

    def extra_repr(self) -> str:
        """The options, as `print` shows them."""
        return shown.options(self)

    def forward(self, x: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss of x against y, both (B, C, *spatial), where `mask` lets them be seen: 0-d, or (B,) with the
        reduction "none"."""
        value = squared_distance(
            x,
            y,
            _averaged_over(self.reduction),
            data_range=self.data_range,
            form="product",
            norm="rms",
            window=self.window,
            k1=self.k1,
            k2=self.k2,
            mask=mask,
            scales=1,
            pixels=0.0,
            chroma=None,
        )
        return _reduce(value, self.reduction)


class MSSSIMLoss(nn.Module):
    """1 - MS-SSIM of image pairs, in [0, 2]: 0 for equal images (Wang, Simoncelli, Bovik 2003, Eq. 7).

    Args:
        data_range: l, for values in [0, l], or (lo, hi).
        window, weights, k1, k2: as :func:`ssimgen.ms_ssim`; weights=None takes as many scales as fit the images.
        reduction: "mean" over the batch, "sum", or "none" for one value a pair.

    Raises:
        TypeError, ValueError: options out of range, at once; images, and weights that do not fit them, when called, as
            :func:`ssimgen.ms_ssim`.

    Example:
        >>> import torch
        >>> from ssimgen.losses import MSSSIMLoss
        >>> x = torch.rand(4, 1, 32, 32)
        >>> MSSSIMLoss(data_range=1.0, reduction="none")(x, x)
        tensor([0., 0., 0., 0.])
    """

    def __init__(
        self,
        *,
        data_range: DataRange,
        window: Window = DEFAULT_WINDOW,
        weights: tuple[float, ...] | None = None,
        k1: float = 0.01,
        k2: float = 0.03,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        checked_options(data_range, window, k1, k2, "product")
        self.data_range, self.window, self.k1, self.k2 = plain(data_range), window, plain(k1), plain(k2)
        self.weights = weights
        self.reduction = choice("reduction", reduction, REDUCTIONS)

    def extra_repr(self) -> str:
        """The options, as `print` shows them."""
        return shown.options(self)

    def forward(self, x: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss of x against y, both (B, C, *spatial), where `mask` lets them be seen: 0-d, or (B,) with the
        reduction "none"."""
        value = ms_complement(
            x,
            y,
            data_range=self.data_range,
            window=self.window,
            weights=self.weights,
            k1=self.k1,
            k2=self.k2,
            mask=mask,
        )
        return _reduce(value, self.reduction)


class StructuralDistanceLoss(nn.Module):
    """D^2 of image pairs, or D with squared=False (Ghojogh, Karray, Crowley 2020, Eqs. 1 and 2).

    The square is the default because it takes the place of the squared l2 norm and is smooth where x = y.

    Args:
        data_range: l, for values in [0, l], or (lo, hi).
        form, norm, window, k1, k2, scales, pixels, chroma: as :func:`ssimgen.distance`. With "rms" and images in their
            range, D^2 is at most 3 for form "sum", 2 for "product" and "centred", 1 for "uncentred", and `pixels` more.
        squared: D^2 instead of D.
        reduction: "mean" over the batch, "sum", or "none" for one value a pair.

    Raises:
        TypeError, ValueError: options out of range, at once; images, when called, as :func:`ssimgen.distance`.

    Example:
        >>> import torch
        >>> from ssimgen import Window
        >>> from ssimgen.losses import StructuralDistanceLoss
        >>> x, y = torch.rand(2, 4, 1, 16, 16)
        >>> loss, root = (StructuralDistanceLoss(data_range=1.0, squared=s, reduction="none") for s in (True, False))
        >>> torch.allclose(loss(x, y), root(x, y) ** 2)
        True
        >>> window = Window.uniform(5, padding="reflect")  # borders count, several scales and pixels keep colours
        >>> loss = StructuralDistanceLoss(data_range=1.0, window=window, k1=0.1, k2=0.1, scales=3, pixels=1.0)
        >>> loss(x, y).shape
        torch.Size([])
    """

    def __init__(
        self,
        *,
        data_range: DataRange,
        form: Form = "sum",
        norm: Norm = "rms",
        squared: bool = True,
        window: Window = DEFAULT_WINDOW,
        k1: EachScale = 0.01,
        k2: EachScale = 0.03,
        scales: int | None = 1,
        pixels: float = 0.0,
        chroma: float | None = None,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        Pyramid(scales, k1, k2, pixels, chroma).checked(data_range, window, form)
        self.scales, self.pixels, self.chroma = plain(scales), plain(pixels), plain(chroma)
        self.data_range, self.window, self.k1, self.k2 = plain(data_range), window, plain(k1), plain(k2)
        self.form, self.norm, self.squared = form, choice("norm", norm, NORMS), squared
        self.reduction = choice("reduction", reduction, REDUCTIONS)

    def extra_repr(self) -> str:
        """The options, as `print` shows them."""
        return shown.options(self)

    def forward(self, x: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss of x against y, both (B, C, *spatial), where `mask` lets them be seen: 0-d, or (B,) with the
        reduction "none"."""
        value = squared_distance(
            x,
            y,
            _averaged_over(self.reduction) if self.squared else "images",
            data_range=self.data_range,
            form=self.form,
            norm=self.norm,
            window=self.window,
            k1=self.k1,
            k2=self.k2,
            mask=mask,
            scales=self.scales,
            pixels=self.pixels,
            chroma=self.chroma,
        )
        return _reduce(value if self.squared else root(value), self.reduction)


class MMDLoss(nn.Module):
    """MMD^2 of two samples, or MMD with root=True; see :func:`ssimgen.discrepancy.mmd2`.

    Args:
        kernel: on the points of the samples; its bandwidths must be set (`kernel.fit(x)`).
        unbiased: the U-statistic, whose gradient is unbiased over batches; otherwise the V-statistic.
        root: the square root of the V-statistic, which keeps the gradient from fading as the distributions meet
            (Li, Swersky, Zemel 2015, section 4). Where it is 0 its gradient is 0.
        gather: compare the samples of all processes, as one process would that has all points. See below.

    With `gather` and a process group of `torch.distributed`, the samples of all processes are taken as one, however
    many points each has; every process must make the call, and its backward pass. The value is then the same in all.
    The gradient at a process's points is that of the value times the number of processes, so that the mean over
    processes, which `DistributedDataParallel` takes of the gradients of parameters, is that of one process. Without a
    process group, nothing changes.

    Raises:
        ValueError: root with unbiased: the U-statistic can be negative; with `gather`, points that have not one shape
            in all processes.

    Example:
        >>> import torch
        >>> from ssimgen.kernels import SSIM
        >>> from ssimgen.losses import MMDLoss
        >>> real, generated = torch.rand(2, 8, 1, 16, 16)
        >>> loss = MMDLoss(SSIM(data_range=1.0))(generated.requires_grad_(), real)
        >>> loss.backward()
    """

    def __init__(self, kernel: Kernel, *, unbiased: bool = False, root: bool = False, gather: bool = False) -> None:
        super().__init__()
        if root and unbiased:
            raise ValueError("the unbiased estimate can be negative and has no root: pass root=False or unbiased=False")
        self.kernel, self.unbiased, self.root, self.gather = kernel, unbiased, root, gather

    def extra_repr(self) -> str:
        """The options, as `print` shows them."""
        return shown.options(self)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of the sample x against y, (n, ...) and (m, ...): 0-d."""
        x, y = _samples(x, y, self.gather)
        value = mmd2(self.kernel(x), self.kernel(x, y), self.kernel(y), unbiased=self.unbiased)
        return root(value) if self.root else value


class EnergyLoss(nn.Module):
    """Energy distance 2 E D(x, y) - E D(x, x') - E D(y, y') of two samples; it has no bandwidth.

    See :func:`ssimgen.discrepancy.energy_distance`. With the structural distance it is the paper's moment matching by
    K = -1/2 H D H, times two (docs/kernels.md, F3).

    Args:
        metric: D, as `StructuralDistance(data_range=1.0)`.
        unbiased: leave the zero distances of points to themselves out of the means, so that the gradient is unbiased
            over batches; otherwise the V-statistic, never negative for a Hilbertian metric.
        gather: compare the samples of all processes, as :class:`MMDLoss` does.

    Raises:
        ValueError: with `gather`, points that have not one shape in all processes.

    Example:
        >>> import torch
        >>> from ssimgen.losses import EnergyLoss
        >>> from ssimgen.metrics import StructuralDistance
        >>> real, generated = torch.rand(2, 8, 1, 16, 16)
        >>> EnergyLoss(StructuralDistance(data_range=1.0))(generated.requires_grad_(), real).backward()
        >>> generated.grad.shape
        torch.Size([8, 1, 16, 16])
    """

    def __init__(self, metric: Metric, *, unbiased: bool = True, gather: bool = False) -> None:
        super().__init__()
        self.metric, self.unbiased, self.gather = metric, unbiased, gather

    def extra_repr(self) -> str:
        """The options, as `print` shows them."""
        return shown.options(self)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of the sample x against y, (n, ...) and (m, ...): 0-d."""
        x, y = _samples(x, y, self.gather)
        return energy_distance(self.metric(x), self.metric(x, y), self.metric(y), unbiased=self.unbiased)


def _samples(x: Tensor, y: Tensor, gather: bool) -> tuple[Tensor, Tensor]:
    """x and y in one dtype, of all processes if asked for."""
    x, y = of_one_dtype(x, y)
    if gather:
        x, y = gathered_samples(x, y)
    return x, y
