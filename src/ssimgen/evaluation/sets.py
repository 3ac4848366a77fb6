"""Two sets of images: are they draws from one distribution, and if not, in which respect do they differ?

A kernel two-sample test answers the first question. For the second, the test is repeated with kernels that see one
respect each: the luminance, the contrast or the structure of patches (:mod:`ssimgen.components`), or the pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ssimgen import _shown as shown
from ssimgen._arguments import choice, image_batches
from ssimgen._holm import holm
from ssimgen._request import patch_distance
from ssimgen.components import PARTS, Component
from ssimgen.components.metric import deviations, means
from ssimgen.discrepancy import TwoSampleResult, permutation_test
from ssimgen.discrepancy.two_sample import check_level, shared_points
from ssimgen.engine import Form
from ssimgen.kernels import SSIM, DistanceInduced
from ssimgen.metrics import Euclidean, Metric, StructuralDistance
from ssimgen.scores import METRICS
from ssimgen.windows import Window

__all__ = ["KERNELS", "KernelName", "Respect", "SetComparison", "compare_sets"]

KernelName = Literal["components", "structural", "energy", "ssim", "pixels"]
KERNELS: Mapping[KernelName, str] = {
    "components": "Gaussian on luminance, contrast and structure",
    "structural": "Gaussian on the structural distance, form {form}",
    "energy": "energy distance of the structural distance, form {form}",
    "ssim": "SSIM",
    "pixels": "Gaussian on the distance of pixels",
}

PATCHES = Window.gaussian(stride=3, padding="symmetric")
"""The fewest of those that were tried, and they notice most, as the border is among them (docs/two-sets.md)."""

_ROUNDING = 1e-9  # of squared distances in float32; one grey level more in one pixel makes 1e-8 or more


@dataclass(frozen=True, eq=False)
class Respect:
    """The test of two sets in one respect.

    Attributes:
        name: "luminance", "contrast", "structure" or "pixels".
        result: None where no test is possible, because most images are equal in this respect.
        adjusted: its p-value adjusted for the number of respects (Holm 1979).
        means: of luminance, or of contrast (the standard deviation of patches), in x and in y.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation.sets import compare_sets
        >>> x, y = torch.rand(2, 20, 1, 16, 16) / 2
        >>> luminance = compare_sets(x, y + 0.5, permutations=99).respects[0]
        >>> luminance.name, luminance.adjusted, round(luminance.means[1] - luminance.means[0], 1)
        ('luminance', 0.04, 0.5)
    """

    name: str
    result: TwoSampleResult | None
    adjusted: float | None
    means: tuple[float, float] | None


@dataclass(frozen=True, eq=False)
class SetComparison:
    """What :func:`compare_sets` found.

    Attributes:
        kernel: the kernel of the test, in words.
        test: the test with it.
        respects: the test in each respect.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation.sets import compare_sets
        >>> x, y = torch.rand(2, 20, 1, 16, 16)
        >>> found = compare_sets(x, y / 4, kernel="ssim", permutations=99)
        >>> found.kernel, found.test.rejected
        ('SSIM', True)
    """

    kernel: str
    test: TwoSampleResult
    respects: tuple[Respect, ...]

    def _repr_html_(self) -> str:
        """A table, for notebooks."""
        rows: list[tuple[object, ...]] = [("all, by " + self.kernel, self.test.p_value, None, None, None)]
        for respect in self.respects:
            p_value = "not tested" if respect.result is None else respect.result.p_value
            rows.append((respect.name, p_value, respect.adjusted, *(respect.means or (None, None))))
        head = ("in respect of", METRICS["p_value"].label, "adjusted (Holm)", "mean of x", "mean of y")
        return shown.html_table("do two sets of images differ?", rows, head)


def compare_sets(
    x: Float[Tensor, "n C H W"],
    y: Float[Tensor, "m C H W"],
    *,
    kernel: KernelName = "components",
    form: Form = "sum",
    window: Window = PATCHES,
    k1: float = 0.01,
    k2: float = 0.03,
    permutations: int = 1000,
    seed: int = 0,
    level: float = 0.05,
    track: Callable[[Iterable[str]], Iterable[str]] = iter,
) -> SetComparison:
    """Test two sets of images in [0, 1], as a whole and in each respect.

    The hypothesis is that all images are independent draws from one distribution. It is tested by permutations
    (:func:`ssimgen.discrepancy.permutation_test`) with the kernel

    ============  ====================================================================================================
    "components"  exp(-(D_l^2 / m_l + D_c^2 / m_c + D_s^2 / m_s) / 2), with D the distances in luminance, contrast and
                  structure, and m the medians of their squares in both sets together
    "structural"  Gaussian on the structural distance of `form`, its median the bandwidth
    "energy"      energy distance of the structural distance of `form`: no bandwidth
    "ssim"        SSIM: no bandwidth; there are differences that it cannot see (docs/kernels.md, F4)
    "pixels"      Gaussian on the Euclidean distance of pixels, its median the bandwidth
    ============  ====================================================================================================

    Args:
        x, y: the sets; of two dtypes, in the wider one.
        kernel: what is compared, as in the table.
        form: of the structural distance, as :func:`ssimgen.distance`.
        window: of patches, as :func:`ssimgen.ssim`; by default 11 px, every third one, borders mirrored, which notices
            most of what was tried (docs/two-sets.md).
        k1, k2: as :func:`ssimgen.ssim`.
        permutations, seed, level: as :func:`ssimgen.discrepancy.two_sample_test`.
        track: passes on what it iterates over, for a progress bar.

    Raises:
        TypeError, ValueError: as :func:`ssimgen.discrepancy.permutation_test`; images smaller than the window; a
            kernel whose bandwidth would be 0, because most images are equal.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation.sets import compare_sets
        >>> x, y = torch.rand(2, 20, 1, 16, 16)
        >>> found = compare_sets(x, y / 4, permutations=99)
        >>> found.test.p_value, [respect.name for respect in found.respects]
        (0.01, ['luminance', 'contrast', 'structure', 'pixels'])
    """
    choice("kernel", kernel, KERNELS)
    x, y = image_batches(x, y)
    check_level(len(x), len(y), permutations, level)
    options: dict[str, Any] = {"data_range": 1.0, "window": window, "k1": k1, "k2": k2}
    metrics: dict[str, Metric] = {**{part: Component(part, **options) for part in PARTS}, "pixels": Euclidean()}
    pooled = torch.cat([x, y])
    test = partial(permutation_test, n=len(x), permutations=permutations, seed=seed, level=level)
    with torch.no_grad():
        squares = {name: metrics[name].squared(pooled) for name in track(metrics)}
        whole = test(_gram(kernel, squares, pooled, StructuralDistance(form=form, **options)))
        results = {name: test(gaussian_gram(square)) for name, square in squares.items() if _median(square)}
    adjusted = dict(zip(results, holm([result.p_value for result in results.values()]), strict=True))
    in_x, in_y = (_averages(z, window, k1, k2) for z in (x, y))
    respects = tuple(
        Respect(name, results.get(name), adjusted.get(name), (in_x[name], in_y[name]) if name in in_x else None)
        for name in metrics
    )
    return SetComparison(KERNELS[kernel].format(form=form), replace(whole, shared=shared_points(x, y)), respects)


def _gram(kernel: KernelName, squares: Mapping[str, Tensor], pooled: Tensor, metric: StructuralDistance) -> Tensor:
    """The kernel matrix of the pooled sample."""
    make: Mapping[KernelName, Callable[[], Tensor]] = {
        "components": lambda: gaussian_gram(*(squares[part] for part in PARTS)),
        "structural": lambda: gaussian_gram(metric.squared(pooled)),
        "energy": lambda: DistanceInduced(metric, pooled[:1])(pooled),
        "ssim": lambda: SSIM(metric.data_range, metric.window, *metric.finest)(pooled),
        "pixels": lambda: gaussian_gram(squares["pixels"]),
    }
    return make[kernel]()


def gaussian_gram(*squares: Float[Tensor, "N N"]) -> Float[Tensor, "N N"]:
    """exp(-sum of D^2 / (2 median D^2)): of one D, a Gaussian kernel whose bandwidth is the median of D."""
    exponent = torch.zeros_like(squares[0])
    for square in squares:
        median = _median(square)
        if median == 0:
            raise ValueError(
                "most images are equal in what the kernel compares, which leaves it no bandwidth: "
                "choose the kernel energy or ssim, which have none"
            )
        exponent -= square / (2 * median)
    return exponent.exp_()


def _median(square: Float[Tensor, "N N"]) -> float:
    """Of the pairs i < j; 0 where it is nothing but rounding."""
    above = torch.ones_like(square, dtype=torch.bool).triu(1)
    median = square[above].median().item()
    return median if median > _ROUNDING else 0.0


def _averages(x: Float[Tensor, "n C H W"], window: Window, k1: float, k2: float) -> dict[str, float]:
    """Mean luminance and contrast of the patches."""
    patch = patch_distance(x, 1.0, window, k1, k2, "sum")
    variance = deviations(x, patch) ** 2 - patch.c2 / 2
    return {
        "luminance": means(x, patch).mean().item(),
        "contrast": variance.clamp_min(0).sqrt().mean().item(),
    }
