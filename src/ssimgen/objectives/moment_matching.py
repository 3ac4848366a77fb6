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
from typing import Literal, final, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ssimgen import _arguments as arguments
from ssimgen import _shown as shown
from ssimgen._request import FORMS, stability_constants
from ssimgen.components import PARTS, Component, Part
from ssimgen.discrepancy import energy_distance, mmd2
from ssimgen.engine import Form
from ssimgen.engine.spec import joined
from ssimgen.kernels import GMMN_BANDWIDTHS, DistanceInduced, Gaussian, Kernel, median_distance
from ssimgen.metrics import Euclidean, Metric
from ssimgen.objectives.deep import DeepFeatures
from ssimgen.objectives.structure import Structure
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

    Raises:
        ValueError: an unknown kind or metric, bandwidths or scales that are not positive numbers, or a window that is
            out of range at one of the scales.

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

    def __post_init__(self) -> None:
        arguments.choice("kind", self.kind, ("gaussian", "energy"))
        arguments.choice("metric", self.metric, get_args(PairMetric))
        if not self.bandwidths or not all(arguments.is_positive(s) for s in self.bandwidths):
            raise ValueError(f"bandwidths must be one or more positive numbers, got {self.bandwidths!r}")
        if not self.scales or not all(arguments.is_positive(s) for s in self.scales):
            raise ValueError(f"scales must be one or more positive numbers, got {self.scales!r}")
        self._structures()

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


@final
@dataclass(frozen=True)
class RootMeanSquare(Metric):
    """D(x, y) = |x - y| / sqrt(number of pixels), which has the scale of a structural distance.

    Example:
        >>> import torch
        >>> from ssimgen.objectives.moment_matching import RootMeanSquare
        >>> RootMeanSquare()(torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8))
        tensor([[1.]])
    """

    @property
    def hilbertian(self) -> bool:
        return True

    def squared(self, x: Float[Tensor, "n ..."], y: Float[Tensor, "m ..."] | None = None) -> Float[Tensor, "n m"]:
        """The mean squares of the differences of all pairs."""
        return Euclidean().squared(x, y) / max(1, x[:1].numel())


@final
@dataclass(frozen=True)
class MeanSquare(Metric):
    """D^2 = mean of (D_i / u_i)^2 over several metrics D_i, each in units u_i; Hilbertian if all of them are.

    Example:
        >>> import torch
        >>> from ssimgen.metrics import Euclidean
        >>> from ssimgen.objectives.moment_matching import MeanSquare
        >>> MeanSquare((Euclidean(), Euclidean()), (1.0, 3.0)).squared(torch.zeros(1, 1), torch.full((1, 1), 3.0))
        tensor([[5.]])
    """

    metrics: tuple[Metric, ...]
    units: tuple[float, ...]

    @property
    def hilbertian(self) -> bool:
        return all(metric.hilbertian for metric in self.metrics)

    def squared(self, x: Float[Tensor, "n ..."], y: Float[Tensor, "m ..."] | None = None) -> Float[Tensor, "n m"]:
        """The mean squares of the distances of all pairs."""
        squares = [metric.squared(x, y) / unit**2 for metric, unit in zip(self.metrics, self.units, strict=True)]
        return functools.reduce(operator.add, squares) / len(squares)


@final
@dataclass(frozen=True)
class BlockDistance(Metric):
    """Structural distance of codes (n, d) in [0, 1], each code taken as one window with equal weights and beta = 1.

    The paper's reading of SSIM for codes: with mu and var over the d numbers of a code,

        a = (mu_x - mu_y)^2 / (mu_x^2 + mu_y^2 + c1),     b = var_{x-y} / (var_x + var_y + c2),

    and D^2 by `form` as for images. It has no meaning as the structure of an image, since codes have no places; it
    is a distance all the same, and Hilbertian as every structural one.

    Raises:
        ValueError: an unknown form, or a k1 or k2 that is not a positive number.

    Example:
        >>> import torch
        >>> from ssimgen.objectives.moment_matching import BlockDistance
        >>> codes = torch.rand(4, 32)
        >>> BlockDistance(form="product")(codes).shape
        torch.Size([4, 4])
    """

    form: Form = "sum"
    k1: float = 0.01
    k2: float = 0.03

    def __post_init__(self) -> None:
        arguments.choice("form", self.form, FORMS)
        stability_constants(1.0, self.k1, self.k2)

    @property
    def hilbertian(self) -> bool:
        return True

    def squared(self, x: Float[Tensor, "n d"], y: Float[Tensor, "m d"] | None = None) -> Float[Tensor, "n m"]:
        """The squared distances D^2 of all pairs of two samples."""
        c1, c2 = stability_constants(1.0, self.k1, self.k2)
        d = x.shape[1]
        u, v = x, x if y is None else y
        if self.form == "uncentred":
            energy = u.square().mean(1)[:, None] + v.square().mean(1)  # (n, m)
            return Euclidean().squared(x, y) / d / (energy + c2)
        mu_x, mu_y = u.mean(1), v.mean(1)
        variance = Euclidean().squared(_centred(x), None if y is None else _centred(y)) / d  # of x - y
        b = variance / (u.var(1, correction=0)[:, None] + v.var(1, correction=0) + c2)
        if self.form == "centred":
            return b
        a = (mu_x[:, None] - mu_y).square() / (mu_x.square()[:, None] + mu_y.square() + c1)
        return joined(self.form, a, b)


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
            return _summed([DistanceInduced(metric, base) for metric, _ in self._distances()])
        return self._gaussians()

    def mmd2(self, x: Float[Tensor, "n ..."], y: Float[Tensor, "m ..."], *, unbiased: bool) -> Float[Tensor, ""]:
        """Squared MMD of two samples; with "energy" the energy distance, twice that of the kernel with any base point.

        Raises:
            ValueError: samples of one point with `unbiased`, or as :meth:`kernel`.
        """
        if self.options.kind == "energy":
            values = [energy_distance(d(x), d(x, y), d(y), unbiased=unbiased) for d, _ in self._distances()]
            return torch.stack(values).sum()
        k = self._gaussians()
        return mmd2(k(x), k(x, y), k(y), unbiased=unbiased)

    def _units(self) -> list[float]:
        """The units as numbers, read anew where they have changed: reading waits for the device."""
        version = getattr(self.units, "_version", None)  # not a public name: without it, they are read each time
        if self._read is None or version is None or self._read[0] is not self.units or self._read[1] != version:
            self._read = self.units, version, self.units.tolist()
        return self._read[2]

    def _gaussians(self) -> Kernel:
        return _summed([Gaussian(d, tuple(unit * s for s in self.options.bandwidths)) for d, unit in self._distances()])

    def _distances(self) -> list[tuple[Metric, float]]:
        """The metrics that kernels are made of, and the units of their bandwidths."""
        units, parts = self._units(), self.options.parts
        if not all(units):
            raise ValueError(
                "the bandwidths are multiples of the median distance in the first training batch, and there was none "
                "yet: call fit in training mode, or set relative=False"
            )
        if parts == 1:
            return list(zip(self.metrics, units, strict=True))
        starts = range(0, len(units), parts)
        return [(MeanSquare(self.metrics[i : i + parts], tuple(units[i : i + parts])), 1.0) for i in starts]


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


def _centred(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    return x - x.mean(1, keepdim=True)


def _summed(kernels: list[Kernel]) -> Kernel:
    return functools.reduce(operator.add, kernels)
