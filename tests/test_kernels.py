"""Kernels: values by their formulas, and the claims `positive_definite` and `unit_diagonal` on every instance."""

import math

import numpy as np
import pytest
import torch
from sklearn.preprocessing import KernelCenterer
from torch import Tensor

from image_pairs import blind_pair
from ssimgen import Window, ms_ssim, pairwise
from ssimgen._request import FORMS
from ssimgen.engine import Form
from ssimgen.kernels import (
    GMMN_BANDWIDTHS,
    SSIM,
    DistanceInduced,
    Gaussian,
    Kernel,
    Laplacian,
    centred_gram,
    median_distance,
)
from ssimgen.metrics import Euclidean, Metric, StructuralDistance

pytestmark = [
    pytest.mark.usefixtures("eager_engine"),
    pytest.mark.filterwarnings("ignore::ssimgen.DataRangeWarning"),  # some are out of range on purpose
]

SMALL = Window.gaussian(5, 1.0, stride=2)
BLOCKS = Window.uniform(7, stride=7, unbiased=True)
STRUCTURAL = [
    *(StructuralDistance(1.0, form, window=SMALL) for form in FORMS),
    StructuralDistance(1.0, norm="frobenius", window=BLOCKS),
]
BASE = torch.full((1, 1, 28, 28), 0.5, dtype=torch.float64)
SSIMS = [SSIM(1.0), SSIM(1.0, BLOCKS), SSIM(1.0, SMALL, k1=1e-3, k2=1e-3), SSIM(255.0, SMALL)]
INSTANCES: list[Kernel] = [
    *SSIMS,
    Gaussian(Euclidean(), GMMN_BANDWIDTHS),
    Laplacian(Euclidean(), (3.0,)),
    DistanceInduced(Euclidean(), BASE),
    *(Gaussian(metric, (0.3,)) for metric in STRUCTURAL),
    *(Laplacian(metric, (0.5, 2.0)) for metric in STRUCTURAL),
    *(DistanceInduced(metric, BASE) for metric in STRUCTURAL),
    SSIMS[1] * Gaussian(STRUCTURAL[0], (0.5,)),
    SSIMS[1] + 2 * Laplacian(Euclidean(), (5.0,)),
    Laplacian(STRUCTURAL[1], (1.0,)) * 0.5,
    1 * SSIMS[1],
    SSIMS[1] * (2 * Laplacian(Euclidean(), (5.0,))),
]

# A windowed variance is a difference of averages: bright flat patches lose up to l^2 / c2 ~ 1000 of 1e-15 in D^2, and
# where D^2 = 0 has become 1e-12, D is 1e-6. Eigenvalues of n x n entries move by at most n times as much.
ROUNDING, ROUNDING_OF_ROOTS = 1e-12, 1e-6


def name(instance: Kernel | Metric) -> str:
    return type(instance).__name__ + getattr(instance, "form", "")


@pytest.fixture(scope="module")
def hard_images(digits: Tensor) -> Tensor:
    """Digits, and images at which formulas of SSIM break: flat, black, bright and nearly equal, negated, one pixel."""
    noise = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    one_pixel = torch.zeros(2, 1, 28, 28, dtype=torch.float64)
    one_pixel[0, 0, 14, 14] = 1
    one_pixel[1, 0, 13, 14] = 1
    flat = [torch.full((1, 1, 28, 28), value, dtype=torch.float64) for value in (0.0, 1e-9, 0.3, 0.3 + 1e-9, 1.0)]
    return torch.cat([digits[:24], -digits[:6], 1 - digits[:2], *flat, 1 - 1e-7 * noise, 0.5 + 0.5 * noise, one_pixel])


@pytest.mark.parametrize("kernel", INSTANCES, ids=name)
def test_claims(kernel: Kernel, hard_images: Tensor) -> None:
    gram = kernel(hard_images)
    assert gram.dtype == torch.float64
    assert (gram == gram.T).all()
    # |x|^2 reaches 784, two units in its last place are 2.3e-13, and |x - x| is the root of what is left of such terms
    torch.testing.assert_close(gram, kernel(hard_images, hard_images.clone()), rtol=1e-9, atol=ROUNDING_OF_ROOTS)
    assert kernel.positive_definite
    eigenvalues = torch.linalg.eigvalsh(gram)
    smooth = isinstance(kernel, SSIM | Gaussian)
    assert eigenvalues[0] >= -len(gram) * gram.abs().max() * (ROUNDING if smooth else ROUNDING_OF_ROOTS)  # none clipped
    assert kernel.unit_diagonal == (gram.diagonal() == 1).all().item()


class SquaredEuclidean(Metric):
    """Not a Hilbertian metric: its square roots would be."""

    @property
    def hilbertian(self) -> bool:
        return False

    def squared(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return Euclidean().squared(x, y) ** 2


def test_claims_follow_the_metric() -> None:
    line = torch.arange(6.0, dtype=torch.float64)[:, None]
    gaussian, laplacian = Gaussian(SquaredEuclidean(), (5.0,)), Laplacian(SquaredEuclidean(), (1.0,))
    assert not gaussian.positive_definite
    assert not (gaussian + SSIMS[0]).positive_definite
    assert not (gaussian * SSIMS[0]).positive_definite
    assert not (2 * gaussian).positive_definite
    assert torch.linalg.eigvalsh(gaussian(line))[0] < -1e-3
    assert not DistanceInduced(SquaredEuclidean(), line[:1]).positive_definite
    assert torch.linalg.eigvalsh(centred_gram(SquaredEuclidean().squared(line)))[0] < -1
    assert not laplacian.positive_definite  # claims nothing, though this one is the Gaussian of Euclidean distances


def test_values(generator: torch.Generator) -> None:
    x = torch.rand(4, 1, 9, 9, generator=generator, dtype=torch.float64)
    y = torch.rand(3, 1, 9, 9, generator=generator, dtype=torch.float64)
    metric = StructuralDistance(1.0, window=SMALL)
    d, ssim = metric(x, y), pairwise.ssim(x, y, data_range=1.0, window=SMALL)
    base = y[:1]
    kernels = {
        Gaussian(metric, (0.3, 2)): (-(d**2) / (2 * 0.3**2)).exp() + (-(d**2) / 8).exp(),
        Laplacian(metric, (0.3, 2)): (-d / 0.3).exp() + (-d / 2).exp(),
        DistanceInduced(metric, base): (metric(x, base) + metric(base, y) - d) / 2,
        SSIM(1.0, SMALL): ssim,
        SSIM(1.0, SMALL) + Laplacian(metric, (1.0,)): ssim + (-d).exp(),
        SSIM(1.0, SMALL) * Laplacian(metric, (1.0,)): ssim * (-d).exp(),
        2 * SSIM(1.0, SMALL): 2 * ssim,
        SSIM(1.0, SMALL) * 0.5: ssim / 2,
    }
    for kernel, expected in kernels.items():
        torch.testing.assert_close(kernel(x, y), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kernel", [Gaussian, Laplacian])
def test_the_narrowest_kernel_is_the_identity(kernel: type, dtype: torch.dtype) -> None:
    x = torch.tensor([[0.0], [1.0]], dtype=dtype, requires_grad=True)
    gram = kernel(Euclidean(), (1e-300,))(x)
    assert (gram == torch.eye(2)).all()
    gram.sum().backward()
    assert x.grad is not None
    assert (x.grad == 0).all()


def test_the_published_mixture_has_sigma_not_squared() -> None:
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    expected = sum(math.exp(-25 / (2 * sigma)) for sigma in (2, 5, 10, 20, 40, 80))
    assert Gaussian(Euclidean(), GMMN_BANDWIDTHS)(x)[0, 1].item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kernel", [INSTANCES[1], *INSTANCES[4:8], INSTANCES[-4]], ids=name)
def test_gradients(kernel: Kernel, generator: torch.Generator) -> None:
    x = torch.rand(2, 1, 28, 28, generator=generator, dtype=torch.float64)
    y = torch.rand(2, 1, 28, 28, generator=generator, dtype=torch.float64)

    def along_lines(t: Tensor, u: Tensor) -> Tensor:
        return kernel(x + t[:, None, None, None] * y, y + u[:, None, None, None] * x)

    def on_itself(t: Tensor) -> Tensor:
        return kernel(x + t[:, None, None, None] * y)

    t, u = torch.tensor([[0.3, -0.2], [0.1, 0.4]], dtype=torch.float64)
    assert torch.autograd.gradcheck(along_lines, (t.requires_grad_(), u.requires_grad_()))
    assert torch.autograd.gradcheck(on_itself, (t,))


def test_median_bandwidth_is_set_explicitly(digits: Tensor) -> None:
    x = digits[:30]
    metric = StructuralDistance(1.0, window=BLOCKS)
    kernel = SSIM(1.0, BLOCKS) + 2 * (Gaussian(metric, "median") * Laplacian(metric, "median"))
    with pytest.raises(ValueError, match=r"bandwidths='median' are not set yet: call kernel.fit\(x\)"):
        kernel(x)
    fitted = kernel.fit(x)
    upper = metric(x).numpy()[np.triu_indices(30, 1)]
    median = np.sort(upper)[(len(upper) - 1) // 2]
    assert median_distance(metric, x) == median
    assert fitted == SSIM(1.0, BLOCKS) + 2 * (Gaussian(metric, (median,)) * Laplacian(metric, (median,)))
    assert fitted.fit(digits[30:60]) == fitted  # numbers are never refitted
    assert not fitted.unit_diagonal


def test_median_of_nothing(digits: Tensor) -> None:
    with pytest.raises(ValueError, match="needs at least two points, got one"):
        median_distance(Euclidean(), digits[:1])
    with pytest.raises(ValueError, match="the median distance of the 5 points is 0, which is no bandwidth"):
        Gaussian(Euclidean(), "median").fit(digits[:1].repeat(5, 1, 1, 1))
    with pytest.raises(ValueError, match="the median distance of the 2 points is nan"):
        median_distance(Euclidean(), torch.tensor([[0.0], [math.nan]]))


@pytest.mark.parametrize("bandwidths", [(), (0.0,), (1.0, -1.0), (math.nan,), (math.inf,), ("1",), (True,)])
@pytest.mark.parametrize("kernel", [Gaussian, Laplacian])
@pytest.mark.usefixtures("no_shape_checks")
def test_bad_bandwidths(kernel: type, bandwidths: tuple) -> None:
    with pytest.raises(ValueError, match="bandwidths must be positive numbers in the units of the metric, got"):
        kernel(Euclidean(), bandwidths)


@pytest.mark.usefixtures("no_shape_checks")
def test_bandwidths_that_are_no_tuple() -> None:
    for bandwidths in ("mean", 1.0):
        with pytest.raises(ValueError, match=r"bandwidths must be a tuple of positive numbers or 'median', got"):
            Gaussian(Euclidean(), bandwidths)  # type: ignore[arg-type]


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data_range": 0}, "data_range must be a positive number"),
        ({"k1": 0}, "k1 must be a positive number, got 0"),
        ({"k2": float("nan")}, "k2 must be a positive number, got nan"),
        ({"window": 11}, "window must be a ssimgen.Window, got 11: pass Window.gaussian"),
    ],
)
def test_options_are_refused_when_the_kernel_is_made(options: dict, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        SSIM(**{"data_range": 1.0, **options})


@pytest.mark.usefixtures("no_shape_checks")
def test_other_bad_options() -> None:
    with pytest.raises(ValueError, match="a kernel is scaled by a positive number, got -1"):
        -1 * SSIM(1.0)
    with pytest.raises(ValueError, match=r"base must be a sample of one point, got 2 of shape \(3,\): pass x\[:1\]"):
        DistanceInduced(Euclidean(), torch.zeros(2, 3))
    with pytest.raises(TypeError):
        SSIM(1.0) + 1  # type: ignore[operator]


# The facts of docs/kernels.md


@pytest.mark.parametrize("metric", [*STRUCTURAL, Euclidean()], ids=name)
def test_centred_gram_is_positive_semidefinite(metric: Metric, hard_images: Tensor) -> None:
    """F2: for D and for D^2, with no eigenvalue clipped."""
    for distances, rounding in ((metric(hard_images), ROUNDING_OF_ROOTS), (metric.squared(hard_images), ROUNDING)):
        eigenvalues = torch.linalg.eigvalsh(centred_gram(distances))
        assert eigenvalues[0] >= -len(distances) * distances.max() * rounding


def test_centred_gram_is_the_matrix_of_the_paper(digits: Tensor) -> None:
    d = STRUCTURAL[0](digits[:9])
    H = torch.eye(9, dtype=torch.float64) - 1 / 9
    torch.testing.assert_close(centred_gram(d), -H @ d @ H / 2, rtol=0, atol=1e-14)


def test_new_points_are_centred_as_by_scikit_learn(digits: Tensor) -> None:
    training, new = digits[:20], digits[20:25]
    metric = STRUCTURAL[0]
    d_training, d_new = metric(training), metric(new, training)
    centerer = KernelCenterer().fit(-d_training.numpy() / 2)
    np.testing.assert_allclose(
        centred_gram(d_new, d_training), centerer.transform(-d_new.numpy() / 2), rtol=0, atol=1e-14
    )
    np.testing.assert_allclose(
        centred_gram(d_training), centerer.transform(-d_training.numpy() / 2), rtol=0, atol=1e-14
    )


@pytest.mark.usefixtures("no_shape_checks")
def test_bad_distances() -> None:
    with pytest.raises(ValueError, match=r"must be a square matrix, got shape \(2, 3\): pass training=metric\(x\)"):
        centred_gram(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"must be a square matrix, got shape \(2, 3\)$"):
        centred_gram(torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"one column for each of the 4 points of the sample, got shape \(2, 3\)"):
        centred_gram(torch.zeros(2, 3), torch.zeros(4, 4))


@pytest.mark.parametrize(
    ("window", "side"),
    [
        (Window.uniform(2), 20),
        (Window.gaussian(), 28),
        (Window.gaussian(), 11),
        (Window.uniform(7), 28),
        (Window.uniform(3), 9),
        (BLOCKS, 21),
        (Window((0.2, 0.8)), 9),
        (Window.gaussian(8, 2.0, stride=3), 20),
        (Window.uniform(3, stride=5), 13),
    ],
)
@pytest.mark.parametrize("k2", [0.03, 0.5])
def test_the_root_of_a_half_plus_half_ssim_is_no_kernel(window: Window, side: int, k2: float) -> None:
    """F7: the blind pair of F4, whatever its signs: an eigenvalue 1 + sqrt(T) - sqrt of (1 + T + R) / 2 and minus R."""
    kernel = SSIM(1.0, window, k2=k2)
    for seed in range(5):
        signs = torch.randint(0, 2, (side,), generator=torch.Generator().manual_seed(seed)).double() * 2 - 1
        signs[:2] = torch.tensor([1, -1])  # else b could be a, or -a, where the window sees it
        x = torch.cat(blind_pair(window, side, signs))
        gram = kernel(x)
        T, R = (1 + gram[0, 1]) / 2, (gram[0, 2] - gram[0, 3]) / 2
        assert 0 < T < 1
        assert R.abs() < 1 - T
        expected = 1 + T.sqrt() - ((1 + T + R) / 2).sqrt() - ((1 + T - R) / 2).sqrt()
        least = torch.linalg.eigvalsh(((1 + gram) / 2).sqrt())[0]
        assert expected < -1e-9
        torch.testing.assert_close(least, expected, rtol=1e-6, atol=1e-14)


def test_three_images_never_show_it(digits: Tensor) -> None:
    """F7: the roots of the Gram matrix of any three images are positive semidefinite."""
    window = Window.uniform(7)
    x = torch.cat([digits[:20], 1 - digits[:20], *blind_pair(window, 28)])
    roots = ((1 + SSIM(1.0, window)(x)) / 2).sqrt()
    triples = torch.combinations(torch.arange(len(x)), 3)
    assert torch.linalg.eigvalsh(roots[triples[:, :, None], triples[:, None]])[:, 0].min() > -1e-12
    assert torch.linalg.eigvalsh(roots)[0] < -0.3


@pytest.mark.parametrize("scales", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "window",
    [Window.uniform(2), Window.gaussian(), Window.uniform(7, unbiased=True), Window.uniform(3, 2), Window((0.2, 0.8))],
)
def test_ms_ssim_is_no_kernel_and_gives_no_metric(window: Window, scales: int) -> None:
    """F7: stripes by rows and by columns; all structure terms are above 0.01, so that the values are Wang's."""
    side = window.size * 2 ** (scales - 1)
    stripes = ((-1.0) ** torch.arange(side, dtype=torch.float64))[:, None].expand(side, side)
    mean = sum(tap * (-1) ** i for i, tap in enumerate(window.taps))
    a = math.sqrt(0.04 / (window.beta * (1 - mean**2))) * stripes  # of variance 0.04 in every patch
    x = 0.5 + torch.stack([a, (a + a.T) / math.sqrt(2), a.T])[:, None]
    gram = torch.stack([ms_ssim(image.expand_as(x), x, data_range=1.0, window=window) for image in x])
    weights = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
    w = weights[0] / sum(weights[:scales])
    near = (math.sqrt(2) * 0.04 + 0.0009) / 0.0809  # the structure term of neighbours
    far = 0.0009 / 0.0809
    assert far > 0.01
    assert gram[0, 1].item() == pytest.approx(near**w, rel=1e-10)
    assert gram[0, 2].item() == pytest.approx(far**w, rel=1e-10)
    least = 1 + far**w / 2 - math.sqrt(far ** (2 * w) / 4 + 2 * near ** (2 * w))
    assert torch.linalg.eigvalsh(gram)[0].item() == pytest.approx(least, abs=1e-10)
    assert least < -0.04
    d = (1 - gram).clamp_min(0).sqrt()
    assert d[0, 2] > d[0, 1] + d[1, 2] + 0.18  # no triangle inequality


def test_the_numbers_of_ms_ssim() -> None:
    """Those of docs/kernels.md, F7 (b), for two scales."""
    w = 0.0448 / (0.0448 + 0.2856)
    near, far = ((math.sqrt(2) * 0.04 + 0.0009) / 0.0809) ** w, (0.0009 / 0.0809) ** w
    assert [w, near, far] == pytest.approx([0.136, 0.955, 0.543], abs=5e-4)
    assert 1 + far / 2 - math.sqrt(far**2 / 4 + 2 * near**2) == pytest.approx(-0.106, abs=5e-4)
    assert [math.sqrt(1 - far), 2 * math.sqrt(1 - near)] == pytest.approx([0.676, 0.426], abs=5e-4)


@pytest.mark.parametrize("form", ["product", "sum", "uncentred"])
def test_no_bound_on_pixels_is_needed(form: Form) -> None:
    """F4 (c): laws on images of any size are told apart: no eigenvalue is 0, but that of constants for -D. Some are
    such as SSIM itself cannot tell apart, nor D of the centred form."""
    window = Window.uniform(3)
    scale = 10 ** torch.linspace(-3, 8, 12, dtype=torch.float64)[:, None, None, None]
    noise = scale * torch.randn(12, 1, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = torch.cat([noise, *blind_pair(window, 6), noise[4:6] + noise[4:6].std()])
    metric = StructuralDistance(1.0, form, window=window)
    for kernel in (Gaussian(metric, (0.5,)), Laplacian(metric, (0.5,))):
        assert torch.linalg.eigvalsh(kernel(x))[0] > 1e-6
    assert torch.linalg.eigvalsh(centred_gram(metric(x)))[1] > 1e-6
    blind = Gaussian(StructuralDistance(1.0, "centred", window=window), (0.5,))
    for kernel in (SSIM(1.0, window), blind):
        assert abs(torch.linalg.eigvalsh(kernel(x))[0]) < 1e-12


def test_a_characteristic_kernel_need_not_be_universal(digits: Tensor) -> None:
    """F4: k_b tells all distributions apart, and all functions of its Hilbert space are 0 at b."""
    x, b = digits[:20], digits[20:21]
    kernel = DistanceInduced(StructuralDistance(1.0, window=SMALL), b)
    assert kernel(b, x).abs().max() < 1e-12
    assert torch.linalg.eigvalsh(kernel(x))[0] > 1e-3


def test_centred_form_does_not_see_brightness(digits: Tensor) -> None:
    """F5: distance 0 between x and x + constant, where the other forms are far from 0."""
    x = 0.5 * digits[:5]
    for constant in (0.1, 0.5):
        distances = {form: StructuralDistance(1.0, form, window=SMALL)(x, x + constant).diagonal() for form in FORMS}
        assert (distances.pop("centred") < 1e-7).all()
        for form, d in distances.items():
            assert (d > 0.1).all(), form
