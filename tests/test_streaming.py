"""Discrepancies from batches: the numbers of the whole matrices, and refusals of samples that would give others."""

import random
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from ssimgen import Window, discrepancy, streaming
from ssimgen.kernels import SSIM, Gaussian, Kernel
from ssimgen.metrics import Euclidean, StructuralDistance

pytestmark = pytest.mark.usefixtures("eager_engine")

WINDOW = Window.uniform(3)
METRIC = StructuralDistance(data_range=1.0, window=WINDOW)
KERNELS = {
    "gaussian": Gaussian(METRIC, (0.3, 1.0)),
    "ssim": 2 * SSIM(data_range=1.0, window=WINDOW),  # no unit diagonal
    "pixels": Gaussian(Euclidean(), (1.0,)),
}


@pytest.fixture
def samples(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Of different sizes, neither a multiple of the batches."""
    x = torch.rand(11, 2, 5, 6, generator=generator, dtype=torch.float64)
    y = torch.rand(7, 2, 5, 6, generator=generator, dtype=torch.float64) ** 2
    return x, y


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_mmd2_is_that_of_the_whole_matrices(samples: tuple[Tensor, Tensor], kernel: Kernel, unbiased: bool) -> None:
    x, y = samples
    expected = discrepancy.mmd2(kernel(x), kernel(x, y), kernel(y), unbiased=unbiased)
    value = streaming.mmd2(x.split(4), y.split(3), kernel, unbiased=unbiased)
    assert value == pytest.approx(expected.item(), rel=1e-12)
    assert type(value) is float


@pytest.mark.parametrize("unbiased", [True, False])
def test_energy_distance_is_that_of_the_whole_matrices(samples: tuple[Tensor, Tensor], unbiased: bool) -> None:
    x, y = samples
    expected = discrepancy.energy_distance(METRIC(x), METRIC(x, y), METRIC(y), unbiased=unbiased)
    value = streaming.energy_distance(x.split(4), y.split(3), METRIC, unbiased=unbiased)
    assert value == pytest.approx(expected.item(), rel=1e-12)


def test_float32_sums_do_not_lose_digits(samples: tuple[Tensor, Tensor]) -> None:
    """The sum of many equal kernel values in float32 would stop growing; sums are taken in float64."""
    x, y = (z.float() for z in samples)
    kernel = KERNELS["gaussian"]
    expected = discrepancy.mmd2(kernel(x).double(), kernel(x, y).double(), kernel(y).double())
    assert streaming.mmd2(x.split(4), y.split(3), kernel) == pytest.approx(expected.item(), rel=1e-6)


def test_of_a_loader_with_labels_the_images_count(samples: tuple[Tensor, Tensor]) -> None:
    x, y = samples
    loader = DataLoader(TensorDataset(x, torch.arange(len(x))), batch_size=4)
    assert streaming.mmd2(loader, [y], KERNELS["ssim"]) == streaming.mmd2(x.split(4), [y], KERNELS["ssim"])


def test_only_blocks_are_computed(samples: tuple[Tensor, Tensor]) -> None:
    """And of a sample against itself only those on and above the diagonal."""
    x, y = samples
    shapes = []

    def kernel(a: Tensor, b: Tensor | None) -> Tensor:
        shapes.append((len(a), None if b is None else len(b)))
        return KERNELS["pixels"](a, b)

    streaming.mmd2(x.split(4), y.split(4), kernel)
    of_x, of_y = [(4, None), (4, 4), (4, 3), (4, None), (4, 3), (3, None)], [(4, None), (4, 3), (3, None)]
    crossed = [(4, 4), (4, 3), (4, 4), (4, 3), (3, 4), (3, 3)]
    assert shapes == of_x + of_y + crossed


class Shuffled:
    """Batches in another order at every reading."""

    def __init__(self, x: Tensor) -> None:
        self.x, self.random = x, random.Random(0)

    def __iter__(self) -> Iterator[Tensor]:
        order = list(range(len(self.x)))
        self.random.shuffle(order)
        return iter(self.x[order].split(3))


class Shrinking:
    """Fewer batches at every reading but the first."""

    def __init__(self, x: Tensor) -> None:
        self.x, self.readings = x, 0

    def __iter__(self) -> Iterator[Tensor]:
        self.readings += 1
        return iter(self.x.split(3)[: 1 if self.readings > 1 else None])


@pytest.mark.parametrize("sample", [Shuffled, Shrinking])
@pytest.mark.parametrize("name", ["x", "y"])
def test_a_sample_that_changes_is_refused(samples: tuple[Tensor, Tensor], sample: type, name: str) -> None:
    x, y = samples
    pair = (sample(x), [y]) if name == "x" else ([x], sample(y))
    with pytest.raises(ValueError, match=rf"{name} changes between readings, at batch \d: .*shuffle=False"):
        streaming.mmd2(*pair, KERNELS["pixels"])


def test_a_sample_that_is_read_once_is_refused(samples: tuple[Tensor, Tensor]) -> None:
    x, y = samples
    with pytest.raises(TypeError, match=r"y can be read only once.*pass a list.*got generator"):
        streaming.mmd2([x], (batch for batch in [y]), KERNELS["pixels"])


@pytest.mark.usefixtures("no_shape_checks")
def test_what_is_no_batch_is_refused(samples: tuple[Tensor, Tensor]) -> None:
    x, _ = samples
    with pytest.raises(TypeError, match=r"y must give batches of points as torch.Tensor.*got dict as batch 0"):
        streaming.mmd2([x], [{"image": x}], KERNELS["pixels"])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("n", "unbiased", "message"),
    [
        (1, True, r"the unbiased estimate needs at least 2 points a sample, got 1 and 7: pass unbiased=False"),
        (0, False, r"the biased estimate needs at least 1 points a sample, got 0 and 7$"),
    ],
)
def test_too_few_points(samples: tuple[Tensor, Tensor], n: int, unbiased: bool, message: str) -> None:
    x, y = samples
    with pytest.raises(ValueError, match=message):
        streaming.mmd2(x[:n].split(4), [y], KERNELS["pixels"], unbiased=unbiased)


def test_one_point_has_a_biased_estimate(samples: tuple[Tensor, Tensor]) -> None:
    x, y = samples
    kernel = KERNELS["pixels"]
    expected = discrepancy.mmd2(kernel(x[:1]), kernel(x[:1], y), kernel(y), unbiased=False)
    value = streaming.mmd2([x[:1], x[:0]], [y], kernel, unbiased=False)  # an empty batch is no point
    assert value == pytest.approx(expected.item(), rel=1e-12)


def test_pixels_that_are_not_finite(samples: tuple[Tensor, Tensor]) -> None:
    x, y = samples
    y[5, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"not finite between batches 0 and 1 of y: look for NaN"):
        streaming.mmd2(x.split(4), y.split(4), KERNELS["ssim"])
