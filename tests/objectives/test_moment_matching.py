"""Discrepancies of batches: each kernel against its formula, the units of bandwidths, the root, and what is refused."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from oracles import ssim as oracle
from ssimgen import Window
from ssimgen.engine import PatchDistance, eager
from ssimgen.kernels import median_distance
from ssimgen.metrics import StructuralDistance
from ssimgen.objectives.deep import features
from ssimgen.objectives.moment_matching import (
    LI_2015,
    BlockDistance,
    FittedKernel,
    MomentMatching,
    PairKernel,
    uniform,
)
from ssimgen.objectives.structure import Structure

pytestmark = pytest.mark.usefixtures("eager_engine")

STRUCTURE = Structure(form="sum", window="uniform", size=4, stride=2, k1=0.05, k2=0.1)
SIGMAS = (2, 5, 10, 20, 40, 80)


def images(n: int, seed: int, mean: float = 0.5) -> Tensor:
    """Images of 8 x 8 px around a mean."""
    return (mean + 0.2 * torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))).clamp(0, 1)


def loss_of(kernel: PairKernel, *, unbiased: bool = False, root: bool = False) -> MomentMatching:
    return MomentMatching(kernel, kernel.image_metrics((1, 8, 8)), unbiased=unbiased, root=root)


def pixel_distance(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.sqrt(((x - y) ** 2).sum()))


def structural_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Eq. (2) of the paper, from its definition, root mean square over patches."""
    square = oracle.squared_map(
        x[None], y[None], form="sum", data_range=1.0, window=STRUCTURE.make_window(), k1=STRUCTURE.k1, k2=STRUCTURE.k2
    )
    return float(np.sqrt(square.mean()))


def component_distances(x: np.ndarray, y: np.ndarray) -> list[float]:
    """D^2 in luminance, contrast and structure (Wang et al. 2004, Eqs. 6, 9, 10, c3 = c2 / 2), patch by patch."""
    c1, c2 = STRUCTURE.k1**2, STRUCTURE.k2**2
    rows = []
    for top in range(0, x.shape[1] - 3, 2):
        for left in range(0, x.shape[2] - 3, 2):
            u, v = (z[0, top : top + 4, left : left + 4] for z in (x, y))
            mu, nu = u.mean(), v.mean()
            sigma, tau = (math.sqrt(z.var() + c2 / 2) for z in (u, v))
            covariance = ((u - mu) * (v - nu)).mean()
            luminance = (2 * mu * nu + c1) / (mu**2 + nu**2 + c1)
            contrast, structure = 2 * sigma * tau / (sigma**2 + tau**2), (covariance + c2 / 2) / (sigma * tau)
            rows.append([1 - luminance, 1 - contrast, 1 - structure])
    return np.mean(rows, 0).tolist()


def mean_over_pairs(of_pair, x: Tensor, y: Tensor, *, without_diagonal: bool = False) -> float:
    a, b = x.double().numpy(), y.double().numpy()
    values = [of_pair(p, q) for i, p in enumerate(a) for j, q in enumerate(b) if not (without_diagonal and i == j)]
    return sum(values) / len(values)


def expected_mmd2(of_pair, x: Tensor, y: Tensor, *, unbiased: bool) -> float:
    """E k(x, x') + E k(y, y') - 2 E k(x, y), one pair at a time."""
    same = sum(mean_over_pairs(of_pair, z, z, without_diagonal=unbiased) for z in (x, y))
    return same - 2 * mean_over_pairs(of_pair, x, y)


KERNELS = {
    "gaussian-l2": (
        PairKernel("gaussian", "l2", (0.5, 1.5), relative=False),
        lambda x, y: sum(math.exp(-(pixel_distance(x, y) ** 2) / (2 * s * s)) for s in (0.5, 1.5)),
    ),
    "li-2015": (LI_2015, lambda x, y: sum(math.exp(-(pixel_distance(x, y) ** 2) / (2 * s)) for s in SIGMAS)),
    "energy-l2": (PairKernel("energy", "l2"), lambda x, y: -pixel_distance(x, y)),
    "energy-ssim": (
        PairKernel("energy", "ssim", structure=STRUCTURE, scales=(1.0,)),
        lambda x, y: -structural_distance(x, y),
    ),
    "gaussian-ssim": (
        PairKernel("gaussian", "ssim", (0.3, 0.8), relative=False, structure=STRUCTURE, scales=(1.0,)),
        lambda x, y: sum(math.exp(-(structural_distance(x, y) ** 2) / (2 * s * s)) for s in (0.3, 0.8)),
    ),
    "components": (
        PairKernel("gaussian", "components", (0.3, 0.8), relative=False, structure=STRUCTURE, scales=(1.0,)),
        lambda x, y: sum(math.exp(-sum(component_distances(x, y)) / 3 / (2 * s * s)) for s in (0.3, 0.8)),
    ),
    "energy-components": (
        PairKernel("energy", "components", relative=False, structure=STRUCTURE, scales=(1.0,)),
        lambda x, y: -math.sqrt(abs(sum(component_distances(x, y))) / 3),
    ),
    "both": (
        PairKernel("gaussian", "both", (0.3, 0.8), relative=False, structure=STRUCTURE, scales=(1.0,)),
        lambda x, y: sum(
            math.exp(-(d**2) / (2 * s * s))
            for d in (pixel_distance(x, y) / 8, structural_distance(x, y))
            for s in (0.3, 0.8)
        ),
    ),
    "energy-both": (
        PairKernel("energy", "both", structure=STRUCTURE, scales=(1.0,)),
        lambda x, y: -pixel_distance(x, y) / 8 - structural_distance(x, y),
    ),
}


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("name", KERNELS)
def test_each_kernel_is_its_formula(name: str, unbiased: bool) -> None:
    kernel, of_pair = KERNELS[name]
    x, y = images(4, 0, 0.3), images(3, 1, 0.6)
    value = loss_of(kernel, unbiased=unbiased)(x, y)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected_mmd2(of_pair, x, y, unbiased=unbiased), abs=3e-6)


def test_the_root_divides_the_gradient_as_the_original_does() -> None:
    """Li, Swersky, Zemel divide the gradient of L = MMD^2 by 2 sqrt(L) + 1e-10."""
    kernel, _ = KERNELS["gaussian-ssim"]
    x, y = images(5, 2, 0.4).requires_grad_(), images(6, 3)
    square = loss_of(kernel)(x, y)
    (of_square,) = torch.autograd.grad(square, x)
    rooted = loss_of(kernel, root=True)(x, y)
    (of_root,) = torch.autograd.grad(rooted, x)
    assert rooted.item() == pytest.approx(math.sqrt(square.item()))
    torch.testing.assert_close(of_root, of_square / (2 * math.sqrt(square.item()) + 1e-10))


def test_the_root_of_nothing_has_no_gradient() -> None:
    x = images(5, 2).requires_grad_()
    value = loss_of(KERNELS["energy-ssim"][0], root=True)(x, x.detach())
    (gradient,) = torch.autograd.grad(value, x)
    assert value.item() == pytest.approx(0, abs=1e-3)  # float32 sums of 25 terms below 2, then a root
    assert gradient.isfinite().all()


def test_relative_bandwidths_are_multiples_of_the_median_distance_of_the_first_batch() -> None:
    kernel = PairKernel("gaussian", "ssim", (0.5, 1.0), structure=STRUCTURE, scales=(1.0,))
    loss, real, generated = loss_of(kernel), images(7, 4), images(5, 5, 0.3)
    first = loss(generated, real)
    distances = [
        structural_distance(p, q) for i, p in enumerate(real.double().numpy()) for q in real[:i].double().numpy()
    ]
    median = float(np.sort(distances)[(len(distances) - 1) // 2])
    assert loss.fitted.units.tolist() == pytest.approx([median])
    absolute = PairKernel(
        "gaussian", "ssim", (0.5 * median, median), relative=False, structure=STRUCTURE, scales=(1.0,)
    )
    torch.testing.assert_close(first, loss_of(absolute)(generated, real))

    loss(generated, images(7, 6, 0.9))  # a later batch changes nothing
    torch.testing.assert_close(loss(generated, real), first)
    again = loss_of(kernel)
    again.load_state_dict(loss.state_dict())  # as a resumed run does
    torch.testing.assert_close(again(generated, images(7, 6, 0.9)), loss(generated, images(7, 6, 0.9)))


def test_relative_bandwidths_come_from_training_alone() -> None:
    loss = loss_of(PairKernel()).eval()
    with pytest.raises(ValueError, match="multiples of the median distance in the first training batch"):
        loss(torch.rand(4, 1, 8, 8), torch.rand(4, 1, 8, 8))


@pytest.mark.parametrize("kind", ["gaussian", "energy"])
def test_kernels_of_several_windows_are_summed(kind: str) -> None:
    """Sides 4 and 8 from a window of 4 px, sigma 1, stride 2: sigma and stride grow with the side."""
    base = Structure(form="sum", window="gaussian", size=4, sigma=1.0, stride=2)
    double = Structure(form="sum", window="gaussian", size=8, sigma=2.0, stride=4)
    x, y = images(4, 7), images(5, 8, 0.3)
    both = PairKernel(kind, bandwidths=(0.4, 0.9), relative=False, structure=base, scales=(1.0, 2.0))
    alone = [
        PairKernel(kind, bandwidths=(0.4, 0.9), relative=False, structure=s, scales=(1.0,)) for s in (base, double)
    ]
    torch.testing.assert_close(loss_of(both)(x, y), sum(loss_of(kernel)(x, y) for kernel in alone))
    relative = loss_of(PairKernel(kind, structure=base, scales=(1.0, 2.0)))
    relative(x, y)
    assert len(set(relative.fitted.units.tolist())) == (2 if kind == "gaussian" else 1)  # each window has its own


def test_scales_whose_windows_do_not_fit_are_left_out() -> None:
    """Of windows of 14, 4 and 8 px, those of 4 and 8 px on images of 8 px; of 16 px alone, none, which is refused."""
    kernel = PairKernel(scales=(1.75, 0.5, 1.0), relative=False)
    both = PairKernel(scales=(0.5, 1.0), relative=False)
    x, y = images(4, 7), images(5, 8, 0.3)
    torch.testing.assert_close(loss_of(kernel)(x, y), loss_of(both)(x, y))
    with pytest.raises(ValueError, match="window of 16 x 16 px does not fit images of 8 x 8 px"):
        loss_of(PairKernel(scales=(2.0,), relative=False))(x, y)


def test_the_energy_kernel_has_half_the_energy_distance_whatever_the_base_point() -> None:
    fitted = FittedKernel(
        PairKernel("energy", structure=STRUCTURE, scales=(1.0,)), (StructuralDistance(1.0, window=Window.uniform(4)),)
    )
    x, y = images(6, 9), images(5, 10, 0.3)
    for base in (torch.zeros(1, 1, 8, 8), x[:1]):
        k = fitted.kernel(base)
        from_kernel = k(x).mean() + k(y).mean() - 2 * k(x, y).mean()
        torch.testing.assert_close(2 * from_kernel, fitted.mmd2(x, y, unbiased=False))


@pytest.mark.parametrize("form", ["product", "sum", "centred", "uncentred"])
def test_a_code_is_one_block(form: str) -> None:
    """An image whose rows all are the code has the code's mean and variance under one uniform window as large as it."""
    x, y = (torch.rand(n, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(n)) for n in (4, 3))
    metric = BlockDistance(form, 0.02, 0.05)
    patch = PatchDistance(Window.uniform(6), form, 0.02**2, 0.05**2, 0.0)

    def by_engine(u: Tensor, v: Tensor) -> Tensor:
        tiled = [z[:, None, None, :].expand(-1, 1, 6, -1) for z in (u, v)]
        return torch.stack([eager.squared_mean(p.expand_as(tiled[1]), tiled[1], patch)[:, 0] for p in tiled[0]])

    torch.testing.assert_close(metric.squared(x, y), by_engine(x, y))
    torch.testing.assert_close(metric.squared(x), by_engine(x, x))
    assert torch.equal(metric.squared(x), metric.squared(x).T)
    assert (metric.squared(x).diagonal() == 0).all()
    assert gradcheck(metric.squared, (x.clone().requires_grad_(), y.clone().requires_grad_()))
    assert gradcheck(metric.squared, (x.clone().requires_grad_(),))


@pytest.mark.parametrize("form", ["product", "sum", "centred", "uncentred"])
def test_code_distances_are_hilbertian(form: str) -> None:
    """-1/2 H D^2 H and -1/2 H D H are positive semidefinite."""
    x = torch.rand(40, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    metric = BlockDistance(form)
    assert metric.hilbertian
    centring = torch.eye(40, dtype=torch.float64) - 1 / 40
    for matrix in (metric.squared(x), metric(x)):
        assert torch.linalg.eigvalsh(-0.5 * centring @ matrix @ centring).min() > -1e-12


@pytest.mark.parametrize("kind", ["gaussian", "energy"])
def test_every_scale_has_its_components(kind: str) -> None:
    """Each in units of its own median."""
    options = PairKernel(kind, "components", structure=STRUCTURE, scales=(1.0, 1.5))
    metrics = options.image_metrics((1, 8, 8))
    sizes = [(metric.part, metric.window.size) for metric in metrics]
    assert sizes == [(part, size) for size in (4, 6) for part in ("luminance", "contrast", "structure")]
    fitted, x, y, base = FittedKernel(options, metrics), images(9, 0), images(4, 1), torch.zeros(1, 1, 8, 8)
    with pytest.raises(ValueError, match="call fit in training mode, or set relative=False"):
        fitted.mmd2(x, y, unbiased=False)
    fitted.fit(x)
    medians = [median_distance(metric, x) for metric in metrics]
    assert fitted.units.tolist() == pytest.approx(medians)

    def distances(x: Tensor, y: Tensor) -> list[Tensor]:
        squares = [metric.squared(x, y) / median**2 for metric, median in zip(metrics, medians, strict=True)]
        return [(sum(squares[i : i + 3]) / 3).sqrt() for i in (0, 3)]

    if kind == "gaussian":
        expected = sum((-(d**2) / (2 * s * s)).exp() for d in distances(x, y) for s in options.bandwidths)
    else:
        sides = zip(distances(x, base), distances(base, y), distances(x, y), strict=True)
        expected = sum((to_x + to_y - d) / 2 for to_x, to_y, d in sides)
    torch.testing.assert_close(fitted.kernel(base)(x, y), expected, atol=1e-5, rtol=1e-4)


def test_deep_features_are_compared_as_they_say() -> None:
    loss = loss_of(PairKernel("energy", "features"))
    x, y = images(3, 0), images(4, 1, 0.3)
    d = {
        (a, b): torch.cdist(features(p), features(q)) for a, p in (("x", x), ("y", y)) for b, q in (("x", x), ("y", y))
    }
    expected = 2 * d["x", "y"].mean() - d["x", "x"].mean() - d["y", "y"].mean()
    torch.testing.assert_close(loss(x, y), expected, atol=1e-5, rtol=1e-4)


def test_codes_are_compared_by_their_own_metrics() -> None:
    codes = torch.rand(6, 9)
    for metric in ("l2", "ssim"):
        kernel = PairKernel(metric=metric)
        loss = MomentMatching(kernel, kernel.code_metrics(), unbiased=False, root=True)
        assert loss(codes[:3], codes[3:]).item() > 0
    with pytest.raises(ValueError, match="codes are compared with metric 'l2' or 'ssim', got 'both'"):
        PairKernel(metric="both").code_metrics()


def test_noise_becomes_uniform() -> None:
    normal = torch.tensor([[0.0, 0.67448975, -0.67448975, 6.0]])  # 0 and the quartiles of N(0, 1)
    torch.testing.assert_close(uniform(normal), torch.tensor([[0.0, 0.5, -0.5, 1.0]]))


def test_half_precision_is_compared_in_full() -> None:
    loss, x, y = loss_of(KERNELS["gaussian-ssim"][0]), images(4, 0), images(4, 1)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(x.bfloat16(), y)
    torch.testing.assert_close(value, loss(x.bfloat16().float(), y))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "gausian"}, r"kind must be one of 'gaussian', 'energy', got 'gausian': did you mean 'gaussian'\?"),
        ({"metric": "l1"}, r"metric must be one of 'ssim', 'l2', 'both', 'components', 'features', got 'l1'"),
        ({"bandwidths": ()}, r"bandwidths must be one or more positive numbers, got \(\)"),
        ({"bandwidths": (1.0, -1.0)}, r"bandwidths must be one or more positive numbers, got \(1.0, -1.0\)"),
        ({"bandwidths": (float("nan"),)}, "bandwidths must be one or more positive numbers"),
        ({"scales": ()}, r"scales must be one or more positive numbers, got \(\)"),
        ({"scales": (1.0, 0.0)}, r"scales must be one or more positive numbers, got \(1.0, 0.0\)"),
    ],
)
@pytest.mark.usefixtures("no_shape_checks")
def test_bad_kernels_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PairKernel(**options)  # type: ignore[arg-type]


def test_the_unbiased_estimate_has_no_root() -> None:
    with pytest.raises(ValueError, match="can be negative and has no root: set root=False or unbiased=False"):
        loss_of(PairKernel(), unbiased=True, root=True)


@pytest.mark.parametrize("kind", ["gaussian", "energy"])
def test_the_unbiased_estimate_needs_two_images(kind: str) -> None:
    loss = loss_of(PairKernel(kind, relative=False, structure=STRUCTURE, scales=(1.0,)), unbiased=True)
    with pytest.raises(ValueError, match="needs at least two points a sample, got 1 and 1: pass unbiased=False"):
        loss(images(1, 0), images(1, 1))


def test_relative_bandwidths_need_two_images() -> None:
    with pytest.raises(ValueError, match="the median distance needs at least two points, got one"):
        loss_of(PairKernel(structure=STRUCTURE, scales=(1.0,)))(images(1, 0), images(1, 1))


def test_windows_must_fit_the_images() -> None:
    with pytest.raises(ValueError, match="window of 11 x 11 px does not fit images of 8 x 8 px"):
        loss_of(PairKernel(structure=Structure(), scales=(1.0,)))(images(2, 0), images(2, 1))
