"""Two sets of images: the test is that of its kernel, each respect sees its own difference, and chance is chance."""

import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from torch import Tensor

from ssimgen import Window
from ssimgen.components import PARTS, Component
from ssimgen.data import load_images
from ssimgen.discrepancy import two_sample_test
from ssimgen.evaluation.sets import KERNELS, KernelName, SetComparison, compare_sets
from ssimgen.kernels import SSIM, DistanceInduced, Gaussian, Kernel
from ssimgen.metrics import Euclidean, StructuralDistance

pytestmark = pytest.mark.usefixtures("eager_engine")

WINDOW = Window.gaussian(5, 1.0, stride=2)


@pytest.fixture(scope="module")
def digits() -> Tensor:
    """500 digits in a random order."""
    return load_images("mnist5k").train.first(500).images


@pytest.fixture(scope="module")
def parts(digits: Tensor) -> tuple[Tensor, Tensor]:
    """Two disjoint sets of 60."""
    return digits[:60], digits[60:120]


def compared(x: Tensor, y: Tensor, **options: object) -> SetComparison:
    return compare_sets(x, y, window=WINDOW, permutations=199, **options)  # type: ignore[arg-type]


def found(comparison: SetComparison, level: float = 0.05) -> set[str]:
    """The respects with a small adjusted p-value."""
    return {r.name for r in comparison.respects if r.adjusted is not None and r.adjusted <= level}


# --- the test -----------------------------------------------------------------------------------------------------


def kernels(x: Tensor) -> dict[KernelName, Kernel]:
    """By name, made of the kernels of the library."""
    gaussians = [Gaussian(Component(part, 1.0, WINDOW), "median") for part in PARTS]
    structural = StructuralDistance(1.0, "product", window=WINDOW)
    return {
        "components": gaussians[0] * gaussians[1] * gaussians[2],
        "structural": Gaussian(structural, "median"),
        "energy": DistanceInduced(structural, x[:1]),
        "ssim": SSIM(1.0, WINDOW),
        "pixels": Gaussian(Euclidean(), "median"),
    }


@pytest.mark.parametrize("name", KERNELS)
def test_the_test_is_that_of_the_kernel(name: KernelName, parts: tuple[Tensor, Tensor]) -> None:
    x, y = parts[0][:30], parts[1][:20] * 0.9
    result = compared(x, y, kernel=name, form="product", seed=3).test
    expected = two_sample_test(x, y, kernels(x)[name], permutations=199, seed=3)
    assert result.statistic == pytest.approx(expected.statistic, rel=1e-4)
    assert result.p_value == pytest.approx(expected.p_value, abs=0.01)
    torch.testing.assert_close(result.witness_x, expected.witness_x, rtol=1e-4, atol=1e-6)


def test_the_kernel_is_described(parts: tuple[Tensor, Tensor]) -> None:
    assert compared(*parts).kernel == "Gaussian on luminance, contrast and structure"
    assert compared(*parts, kernel="energy", form="centred").kernel.endswith("structural distance, form centred")


def test_p_values_of_equal_distributions_are_uniform(digits: Tensor) -> None:
    """Of the test and of every respect: 40 pairs of sets of 6 digits, and Kolmogorov's test of each."""
    p_values: dict[str, list[float]] = {}
    for i in range(40):
        z = digits[12 * i : 12 * (i + 1)]
        comparison = compared(z[:6], z[6:], seed=i)
        for name, result in [("test", comparison.test), *((r.name, r.result) for r in comparison.respects)]:
            assert result is not None
            p_values.setdefault(name, []).append(result.p_value)
    assert len(p_values) == 5
    for name, values in p_values.items():
        assert scipy.stats.kstest(values, "uniform").pvalue > 0.002, name  # 0.01 over five


# --- respects -----------------------------------------------------------------------------------------------------


def test_digits_are_like_digits(parts: tuple[Tensor, Tensor]) -> None:
    comparison = compared(*parts)
    assert not comparison.test.rejected
    assert found(comparison) == set()


def test_brightness_is_luminance(parts: tuple[Tensor, Tensor]) -> None:
    """A constant added to every pixel: contrast and structure see nothing."""
    x, y = (0.8 * z for z in parts)
    comparison = compared(x, y + 0.1)
    assert comparison.test.rejected
    assert "luminance" in found(comparison)
    assert not {"contrast", "structure"} & found(comparison)
    luminance = next(r for r in comparison.respects if r.name == "luminance")
    assert luminance.means is not None
    assert luminance.means[1] - luminance.means[0] == pytest.approx(0.1, abs=0.03)


def test_contrast_about_the_mean_is_contrast(parts: tuple[Tensor, Tensor]) -> None:
    """Deviations from the mean of an image, reduced: local means change too, structure does not."""
    x, y = (0.25 + 0.5 * z for z in parts)
    mean = y.mean((2, 3), keepdim=True)
    comparison = compared(x, mean + 0.7 * (y - mean))
    assert "contrast" in found(comparison)
    assert "structure" not in found(comparison)
    contrast = next(r for r in comparison.respects if r.name == "contrast")
    assert contrast.means is not None
    assert contrast.means[1] / contrast.means[0] == pytest.approx(0.7, abs=0.07)


def test_mirrored_digits_differ_in_structure(parts: tuple[Tensor, Tensor]) -> None:
    """Mirrored patches have the same contrast, in another place: everything but a mean may change."""
    comparison = compared(parts[0], parts[1].flip(3))
    assert "structure" in found(comparison)


def test_blur_is_contrast_before_all(parts: tuple[Tensor, Tensor]) -> None:
    x, y = parts
    box = torch.full((1, 1, 3, 3), 1 / 9)
    comparison = compared(x, F.conv2d(y, box, padding=1))
    assert comparison.test.rejected
    statistics = {r.name: r.result.statistic for r in comparison.respects if r.result is not None}
    assert max(statistics, key=statistics.__getitem__) == "contrast"


def test_the_border_is_seen(parts: tuple[Tensor, Tensor], generator: torch.Generator) -> None:
    """By the default patches, which mirror it; a Gaussian window within the image gives it next to no weight."""
    x, y = (F.pad(z[..., 1:-1, 1:-1], (1, 1, 1, 1)) for z in parts)
    noise = torch.rand(y.shape, generator=generator)
    noise[..., 1:-1, 1:-1] = 0
    seen = compare_sets(x, y + 0.5 * noise, permutations=199).test.p_value
    unseen = compare_sets(x, y + 0.5 * noise, permutations=199, window=Window.gaussian()).test.p_value
    assert seen < 0.01 < unseen


def test_sets_equal_in_a_respect(generator: torch.Generator) -> None:
    """Flat images have no contrast and no structure to be tested, but a luminance."""
    x, y = (torch.rand(n, 1, 1, 1, generator=generator).expand(n, 1, 12, 12) for n in (20, 15))
    comparison = compared(x, y + 1, kernel="ssim")
    results = {r.name: r.result for r in comparison.respects}
    assert results["contrast"] is None
    assert results["structure"] is None
    assert "luminance" in found(comparison)
    with pytest.raises(ValueError, match=r"most images are equal in what the kernel compares.*energy or ssim"):
        compared(x, y)


# --- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_shape_checks")
def test_refusals(parts: tuple[Tensor, Tensor]) -> None:
    x, y = parts
    with pytest.raises(ValueError, match=r"kernel must be one of 'components', .*, got 'component': did you mean"):
        compared(x, y, kernel="component")
    with pytest.raises(ValueError, match=r"10 permutations .* cannot reach level 0.01: pass permutations=99 or more"):
        compare_sets(x, y, permutations=10, level=0.01)
    with pytest.raises(ValueError, match=r"have 10 splits, too few for p-values of 0.05: pass larger samples"):
        compared(x[:3], y[:2])
    with pytest.raises(ValueError, match="window of 5 x 5 px does not fit images of 4 x 4 px"):
        compared(x[..., :4, :4], y[..., :4, :4])
