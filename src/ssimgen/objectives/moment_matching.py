"""How far a batch of generated images (or codes) is from a batch of real ones, by kernels on all pairs.

:class:`PairKernel` says how two images are compared, on two axes: the metric D is the Euclidean distance of the pixels
or the structural distance, say; the kernel made from it is a mixture of Gaussians or the distance itself.

========  ==========  ========================================================================================
kernel    metric      squared MMD with
========  ==========  ========================================================================================
gaussian  l2          sum over s of exp(-|x - y|^2 / (2 s^2)): the baseline (Li, Swersky, Zemel 2015: `LI_2015`)
energy    l2          -|x - y|: the energy distance (Szekely, Rizzo 2013)
energy    ssim        -D(x, y): the SSIM kernel -1/2 H D H of Ghojogh, Karray, Crowley (2020), section 3
gaussian  ssim        sum over s of exp(-D(x, y)^2 / (2 s^2))
either    components  D^2 the mean of those of luminance, contrast and structure of patches, each in units of its own
either    both        the sum of the kernels of pixels, with their root mean square as D, and of structure
either    features    D in the middle layers of a classifier (:mod:`ssimgen.objectives.deep`)
========  ==========  ========================================================================================

The kernels of several window scales are summed. A sum of positive definite kernels is positive definite, and
characteristic if one of its terms is. Everything here looks at a batch as a whole: pass it the batch of all
devices (:func:`ssimgen.batches.gathered`).
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ssimgen import _arguments as arguments
from ssimgen import _shown as shown
from ssimgen.batches import gathered
from ssimgen.components import PARTS, Component, Part
from ssimgen.discrepancy import energy_distance, mmd2
from ssimgen.kernels import GMMN_BANDWIDTHS, DistanceInduced, Gaussian, Kernel, median_distance
from ssimgen.metrics import Euclidean, Metric
from ssimgen.objectives.deep import DeepFeatures
from ssimgen.objectives.distances import BlockDistance, MeanSquare, RootMeanSquare
from ssimgen.objectives.structure import Structure
from ssimgen.objectives.thinning import thinned
from ssimgen.similarity import root

__all__ = [
    "LI_2015",
    "BlockDistance",
    "FittedKernel",
    "MeanSquare",
    "MomentMatching",
    "PairKernel",
    "RootMeanSquare",
    "uniform",
]


PairMetric = Literal["ssim", "l2", "both", "components", "features"]


@dataclass(frozen=True)
class PairKernel:
    """The kernel, or the distance, by which moment matching compares two images.

    Attributes:
        kind: "gaussian", a mixture of Gaussians of D, or "energy", D itself, which has no bandwidth.
        metric: D: "ssim", the structural distance, or "l2", the Euclidean distance of the pixels; "both" of them, whose
            kernels are summed; "components", luminance, contrast and structure at equal weights; or "features", in the
            middle layers of a classifier.
        bandwidths: of the Gaussians, summed over.
        relative: the bandwidths are multiples of the median distance between the real images of the first training
            batch, which fits them to any images and windows; otherwise they are in the units of D. Components have such
            units too, each its own.
        structure: window, form and constants of the structural distance.
        scales: multiples of the window (side, sigma and stride), over whose kernels is summed, as far as they
            fit the images; 1.0 is that window alone. docs/gmmn-trials.md tells what several do.
        thinning: in each step of training windows stand at every so-many-th of their positions only, along both axes,
            from a random one on: cheaper steps of more noise (docs/kernels.md, F12).
        drawn: in each step of training so many of the scales, or with "both" of them and the pixels, are taken, drawn
            anew; 0: all. Also cheaper and noisier.

    Raises:
        ValueError: an unknown kind or metric, bandwidths or scales that are not positive numbers, a window that is
            out of range at one of the scales, or thinning of a metric without windows or with mirrored borders.

    Example:
        >>> from ssimgen.objectives.moment_matching import PairKernel
        >>> kernel = PairKernel("energy", "ssim", scales=(0.5, 1.0, 1.75))
        >>> [metric.window.size for metric in kernel.image_metrics((1, 12, 12))]  # the window of 14 px does not fit
        [4, 8]
    """

    kind: Literal["gaussian", "energy"] = "gaussian"
    metric: PairMetric = "ssim"
    bandwidths: tuple[float, ...] = (0.2, 0.3, 0.5, 0.7, 1.0)
    relative: bool = True
    structure: Structure = field(default_factory=lambda: Structure(form="sum", window="uniform", size=8, stride=4))
    scales: tuple[float, ...] = (0.5, 1.0, 1.75)  # windows of 4, 8 and 14 px
    thinning: int = 1
    drawn: int = 0

    def __post_init__(self) -> None:
        arguments.choice("kind", self.kind, ("gaussian", "energy"))
        arguments.choice("metric", self.metric, get_args(PairMetric))
        if not self.bandwidths or not all(arguments.is_positive(s) for s in self.bandwidths):
            raise ValueError(f"bandwidths must be one or more positive numbers, got {self.bandwidths!r}")
        if not self.scales or not all(arguments.is_positive(s) for s in self.scales):
            raise ValueError(f"scales must be one or more positive numbers, got {self.scales!r}")
        self._structures()
        if self.thinning < 1:
            raise ValueError(f"thinning must be at least 1, every position, got {self.thinning}")
        if self.drawn < 0:
            raise ValueError(f"drawn must be a number of scales, or 0 for all of them, got {self.drawn}")
        if self.thinning > 1 and (self.metric in ("l2", "features") or self.structure.padding != "valid"):
            raise ValueError(
                f"thinning={self.thinning} leaves out windows inside the image, and metric={self.metric!r} with "
                f"structure.padding={self.structure.padding!r} has none or mirrored ones: set thinning=1"
            )

    def image_metrics(self, shape: tuple[int, int, int]) -> tuple[Metric, ...]:
        """The metrics on images in [0, 1] of that shape, (n, C, H, W): of structure, for each scale whose window fits
        them, one, or three of its components."""
        if self.metric == "l2":
            return (Euclidean(),)
        if self.metric == "features":
            return (DeepFeatures(),)
        structures = sorted(self._structures(), key=lambda s: s.size)
        fitting = [s for s in structures if s.size <= min(shape[1:])] or structures[:1]  # which is then refused
        if self.metric == "components":
            return tuple(_component(part, s) for s in fitting for part in PARTS)
        structural = tuple(s.metric() for s in fitting)
        return (RootMeanSquare(), *structural) if self.metric == "both" else structural

    def code_metrics(self) -> tuple[Metric, ...]:
        """The metric on codes in [0, 1], (n, d); windows do not apply.

        Raises:
            ValueError: a metric that codes do not have.
        """
        if self.metric == "l2":
            return (Euclidean(),)
        if self.metric == "ssim":
            return (BlockDistance(self.structure.form, self.structure.k1, self.structure.k2),)
        raise ValueError(f"codes are compared with metric 'l2' or 'ssim', got {self.metric!r}: or compare images")

    @property
    def parts(self) -> int:
        """How many of the metrics in turn make one, by the mean of their squares."""
        return len(PARTS) if self.metric == "components" else 1

    def _structures(self) -> tuple[Structure, ...]:
        return tuple(_scaled(self.structure, scale) for scale in self.scales)


def _component(part: Part, structure: Structure) -> Component:
    return Component(part, 1.0, structure.make_window(), structure.k1, structure.k2)


def _scaled(structure: Structure, scale: float) -> Structure:
    """The structure with a window of another scale; side and stride rounded to whole pixels."""
    size, stride = (max(1, round(scale * pixels)) for pixels in (structure.size, structure.stride))
    return dataclasses.replace(structure, size=size, sigma=scale * structure.sigma, stride=stride)


LI_2015 = PairKernel(metric="l2", bandwidths=GMMN_BANDWIDTHS, relative=False)
"""The kernel of Li, Swersky and Zemel (2015) on pixels in [0, 1] of 28 x 28 images.

Their code has exp(-|x - y|^2 / (2 sigma)) with sigma in {2, 5, 10, 20, 40, 80}, not squared: bandwidths sqrt(sigma)."""


class FittedKernel(nn.Module):
    """A :class:`PairKernel` on given metrics, with the units of its bandwidths, which the first training batch sets.

    They are kept in a buffer, so that a run that is resumed goes on with the same kernel.

    Example:
        >>> import torch
        >>> from ssimgen.objectives.moment_matching import FittedKernel, PairKernel
        >>> options = PairKernel(metric="l2")
        >>> real, kernel = torch.rand(8, 1, 16, 16), FittedKernel(options, options.image_metrics((1, 16, 16)))
        >>> kernel.fit(real)
        >>> kernel.mmd2(real / 4, real, unbiased=True) > 0
        tensor(True)
    """

    units: Float[Tensor, " k"]

    def __init__(self, options: PairKernel, metrics: tuple[Metric, ...]) -> None:
        super().__init__()
        self.options, self.metrics = options, metrics
        fixed = not options.relative or (options.kind == "energy" and options.parts == 1)
        self.register_buffer("units", torch.full((len(metrics),), 1.0 if fixed else 0.0))  # 0: not set yet
        self._read: tuple[Tensor, int | None, list[float]] | None = None

    def extra_repr(self) -> str:
        """The options, as `print` shows them."""
        return shown.attributes(self, "options", "metrics")

    def fit(self, real: Float[Tensor, "n ..."]) -> None:
        """Set, in training, what is not set yet: the median distance of the sample, for each metric.

        Raises:
            ValueError: a sample of fewer than two points, or a median that is 0.
        """
        if self.training and not all(self._units()):
            self.units.copy_(torch.tensor([median_distance(metric, real) for metric in self.metrics]))

    def kernel(self, base: Float[Tensor, "1 ..."]) -> Kernel:
        """The kernel k of the kind; "energy" is (D(x, b) + D(y, b) - D(x, y)) / 2 with the base point b.

        Raises:
            ValueError: relative bandwidths before the first training batch.
        """
        if self.options.kind == "energy":
            return _summed([DistanceInduced(metric, base) for metric, _ in self._distances(base)])
        return self._gaussians(base)

    def mmd2(self, x: Float[Tensor, "n ..."], y: Float[Tensor, "m ..."], *, unbiased: bool) -> Float[Tensor, ""]:
        """Squared MMD of two samples; with "energy" the energy distance, twice that of the kernel with any base point.

        Raises:
            ValueError: samples of one point with `unbiased`, or as :meth:`kernel`.
        """
        if self.options.kind == "energy":
            values = [energy_distance(d(x), d(x, y), d(y), unbiased=unbiased) for d, _ in self._distances(x)]
            return torch.stack(values).sum()
        k = self._gaussians(x)
        return mmd2(k(x), k(x, y), k(y), unbiased=unbiased)

    def _units(self) -> list[float]:
        """The units as numbers, read anew where they have changed: reading waits for the device."""
        version = getattr(self.units, "_version", None)  # not a public name: without it, they are read each time
        if self._read is None or version is None or self._read[0] is not self.units or self._read[1] != version:
            self._read = self.units, version, self.units.tolist()
        return self._read[2]

    def _gaussians(self, like: Tensor) -> Kernel:
        widths = self.options.bandwidths
        return _summed([Gaussian(d, tuple(unit * s for s in widths)) for d, unit in self._distances(like)])

    def _distances(self, like: Tensor) -> list[tuple[Metric, float]]:
        """The metrics that kernels of points such as these are made of now, and the units of their bandwidths."""
        units, parts, metrics = self._units(), self.options.parts, self.metrics
        if not all(units):
            raise ValueError(
                "the bandwidths are multiples of the median distance in the first training batch, and there was none "
                "yet: call fit in training mode, or set relative=False"
            )
        if self.training and self.options.thinning > 1:
            height, width = like.shape[2:]
            metrics = tuple(thinned(metric, self.options.thinning, (height, width)) for metric in metrics)
        starts = list(range(0, len(units), parts))
        if self.training and 0 < self.options.drawn < len(starts):
            starts = gathered(torch.randperm(len(starts))[None])[0, : self.options.drawn].tolist()
            starts = [parts * start for start in starts]
        if parts == 1:
            return [(metrics[i], units[i]) for i in starts]
        return [(MeanSquare(metrics[i : i + parts], tuple(units[i : i + parts])), 1.0) for i in starts]


class MomentMatching(nn.Module):
    """The loss of a moment-matching network: MMD^2 between generated and real points, or its root.

    Args:
        options: how two points are compared.
        metrics: `options.image_metrics(shape)` or `options.code_metrics()`.
        unbiased: the U-statistic: no point is compared with itself, and gradients are unbiased over batches.
            Otherwise the V-statistic, never negative.
        root: MMD instead of MMD^2, so that the gradient does not fade as the distributions meet (Li, Swersky, Zemel
            2015, section 4). Their code divides the gradient of L = MMD^2 by 2 sqrt(L) + 1e-10; here it is divided by
            2 sqrt(L), and 0 where L is 0.

    Raises:
        ValueError: `root` with `unbiased`.

    Example:
        >>> import torch
        >>> from ssimgen.objectives.moment_matching import MomentMatching, PairKernel
        >>> options = PairKernel("energy")
        >>> matching = MomentMatching(options, options.image_metrics((1, 16, 16)), unbiased=False, root=True)
        >>> generated, real = torch.rand(2, 8, 1, 16, 16)
        >>> matching(generated.requires_grad_(), real).backward()
    """

    def __init__(self, options: PairKernel, metrics: tuple[Metric, ...], *, unbiased: bool, root: bool) -> None:
        super().__init__()
        check_statistic(unbiased, root)
        self.fitted = FittedKernel(options, metrics)
        self.unbiased, self.root = unbiased, root

    def extra_repr(self) -> str:
        """The options, as `print` shows them before those of the kernel."""
        return shown.attributes(self, "unbiased", "root")

    def forward(self, generated: Float[Tensor, "n ..."], real: Float[Tensor, "m ..."]) -> Float[Tensor, ""]:
        """The discrepancy of two samples, 0-d, in float32; pass those of all devices."""
        with torch.autocast(real.device.type, enabled=False):  # a small difference of large sums: full precision
            generated, real = generated.float(), real.float()
            self.fitted.fit(real)
            value = self.fitted.mmd2(generated, real, unbiased=self.unbiased)
            return root(value) if self.root else value


def check_statistic(unbiased: bool, root: bool) -> None:
    """Raise if a root is asked of a statistic that can be negative."""
    if unbiased and root:
        raise ValueError("the unbiased estimate can be negative and has no root: set root=False or unbiased=False")


def uniform(normal: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Standard normal noise made uniform on [-1, 1], by its distribution function: 2 Phi(z) - 1 = erf(z / sqrt 2).

    Example:
        >>> import torch
        >>> from ssimgen.objectives.moment_matching import uniform
        >>> uniform(torch.tensor([[-9.0, 0.0, 9.0]]))
        tensor([[-1.,  0.,  1.]])
    """
    return torch.erf(normal / math.sqrt(2))


def _summed(kernels: list[Kernel]) -> Kernel:
    return functools.reduce(operator.add, kernels)
