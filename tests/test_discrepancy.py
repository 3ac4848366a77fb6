"""Discrepancies: values against naive sums and closed forms, and the calibration and power of the two-sample test."""

import itertools
import math
import re
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from torch import Tensor

from image_pairs import blind_pair
from ssimgen import Window
from ssimgen._request import FORMS
from ssimgen.data import load_images
from ssimgen.discrepancy import (
    MeanEmbedding,
    cmmd2,
    embedded_mmd2,
    energy_distance,
    mmd2,
    permutation_test,
    two_sample,
    two_sample_test,
)
from ssimgen.discrepancy.two_sample import shared_points
from ssimgen.kernels import SSIM, DistanceInduced, Gaussian, Kernel, centred_gram, median_distance
from ssimgen.metrics import Euclidean, Metric, StructuralDistance

pytestmark = pytest.mark.usefixtures("eager_engine")

BLOCKS = Window.uniform(7, stride=7, unbiased=True)
STRUCTURE = StructuralDistance(1.0, window=BLOCKS)
RBF = Gaussian(Euclidean(), (1.0,))


def points(n: int, seed: int, dimensions: int = 3) -> Tensor:
    return torch.randn(n, dimensions, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def blurred(images: Tensor) -> Tensor:
    """Images under a Gaussian filter of standard deviation 1 px."""
    taps = torch.exp(-(torch.arange(-3.0, 4.0, dtype=images.dtype) ** 2) / 2)
    return F.conv2d(images, torch.outer(taps, taps)[None, None] / taps.sum() ** 2, padding=3)


def of(function: object, kernel: Kernel | Metric, x: Tensor, y: Tensor, *, unbiased: bool = True) -> float:
    return function(kernel(x), kernel(x, y), kernel(y), unbiased=unbiased).item()  # type: ignore[operator]


# MMD and energy distance


@pytest.mark.parametrize("unbiased", [True, False])
def test_sums_are_those_of_the_definition(unbiased: bool) -> None:
    k_xx, k_xy, k_yy = points(4, 0, 4), points(4, 1, 3), points(3, 2, 3)

    def mean(matrix: Tensor, diagonal: bool) -> float:
        entries = [v for i, row in enumerate(matrix.tolist()) for j, v in enumerate(row) if diagonal or i != j]
        return math.fsum(entries) / len(entries)

    expected = mean(k_xx, not unbiased) + mean(k_yy, not unbiased) - 2 * mean(k_xy, True)
    assert mmd2(k_xx, k_xy, k_yy, unbiased=unbiased).item() == pytest.approx(expected, abs=1e-14)
    assert energy_distance(k_xx, k_xy, k_yy, unbiased=unbiased).item() == pytest.approx(-expected, abs=1e-14)


def test_the_unbiased_estimate_is_unbiased() -> None:
    """Over all splits of one sample, that is under the null given the pooled sample, its mean is 0 exactly."""
    gram = RBF(points(7, 0))
    values = []
    for chosen in itertools.combinations(range(7), 3):
        rest = [i for i in range(7) if i not in chosen]
        values.append(mmd2(gram[chosen, :][:, chosen], gram[chosen, :][:, rest], gram[rest, :][:, rest]).item())
    assert math.fsum(values) == pytest.approx(0, abs=1e-14)
    assert min(values) < 0 < max(values)


def test_biased_estimate_is_a_squared_distance() -> None:
    x, y = points(6, 0), points(5, 1)
    assert of(mmd2, RBF, x, y, unbiased=False) > 0
    assert of(mmd2, RBF, x, x, unbiased=False) == pytest.approx(0, abs=1e-15)
    assert of(energy_distance, Euclidean(), x, x, unbiased=False) == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("shift", [0.0, 0.7, 2.0])
def test_mmd_of_normal_distributions(shift: float) -> None:
    """MMD^2 of N(0, 1) and N(a, 1) with a Gaussian kernel: 2 s / sqrt(s^2 + 2) (1 - exp(-a^2 / (2 (s^2 + 2))))."""
    s, n = 0.8, 1500
    x, y = points(n, 0, 1), points(n, 1, 1) + shift
    expected = 2 * s / math.sqrt(s**2 + 2) * (1 - math.exp(-(shift**2) / (2 * (s**2 + 2))))
    # the kernel lies in [0, 1], so each mean moves by at most 2 / n with one point: 5 / sqrt(n) is 5 deviations
    assert of(mmd2, Gaussian(Euclidean(), (s,)), x, y) == pytest.approx(expected, abs=5 / math.sqrt(n))


def test_energy_distance_on_the_line() -> None:
    """It is 2 int (F - G)^2 of the distribution functions (Szekely and Rizzo 2013)."""
    x, y = points(6, 0, 1), points(4, 1, 1) + 0.5
    nodes = torch.cat([x, y]).flatten().sort().values
    middles = (nodes[1:] + nodes[:-1]) / 2
    gap = (middles[:, None] >= x.T).double().mean(1) - (middles[:, None] >= y.T).double().mean(1)
    expected = 2 * (gap**2 * nodes.diff()).sum().item()
    assert of(energy_distance, Euclidean(), x, y, unbiased=False) == pytest.approx(expected, abs=1e-7)


def test_gradients_reach_both_samples() -> None:
    x, y = points(4, 0).requires_grad_(), points(3, 1).requires_grad_()
    for unbiased in (True, False):
        assert torch.autograd.gradcheck(lambda x, y, u=unbiased: mmd2(RBF(x), RBF(x, y), RBF(y), unbiased=u), (x, y))
        metric = Euclidean()
        assert torch.autograd.gradcheck(
            lambda x, y, u=unbiased, d=metric: energy_distance(d(x), d(x, y), d(y), unbiased=u), (x, y)
        )


# The facts of docs/kernels.md


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("norm", ["rms", "frobenius"])
@pytest.mark.parametrize("form", FORMS)
def test_mmd_with_the_kernel_of_the_paper_is_half_the_energy_distance(
    form: str, norm: str, unbiased: bool, digits: Tensor
) -> None:
    """F3: K = -1/2 H D H of the pooled sample; its centring cancels, and so does the base point of k."""
    x, y = digits[:40], blurred(digits[40:70])
    metric = StructuralDistance(1.0, form, norm, BLOCKS)
    half = of(energy_distance, metric, x, y, unbiased=unbiased) / 2
    D = metric(torch.cat([x, y]))
    K = centred_gram(D)
    assert mmd2(K[:40, :40], K[:40, 40:], K[40:, 40:], unbiased=unbiased).item() == pytest.approx(half, abs=1e-14)
    for base in (x[:1], torch.zeros_like(x[:1])):
        induced = DistanceInduced(metric, base)
        # distances computed anew, in blocks of other shapes: D^2 to 1e-12 of its greatest value, D > 0.1 of its own
        assert of(mmd2, induced, x, y, unbiased=unbiased) == pytest.approx(half, abs=1e-11 * D.max().item())
    assert half > 1e-3


def test_centring_does_not_cancel_in_the_conditional_discrepancy(digits: Tensor) -> None:
    """F3: there the weights of L do not sum to 0 where the conditions differ, so the base point matters."""
    x, y = digits[:6], digits[6:11]
    conditions = RBF(points(6, 0)), RBF(points(6, 0), points(5, 1)), RBF(points(5, 1))
    values = []
    for base in (x[:1], torch.zeros_like(x[:1])):
        k = DistanceInduced(STRUCTURE, base)
        values.append(cmmd2(*conditions, k(x), k(x, y), k(y), regularisation=0.1).item())
    assert abs(values[0] - values[1]) > 0.01 * values[0]


@pytest.mark.parametrize(
    ("window", "side"),
    [(Window.uniform(2), 20), (Window.gaussian(11, 1.5), 20), (Window.gaussian(8, 2.0, 3), 20), (BLOCKS, 21)],
    ids=["uniform 2", "gaussian 11", "gaussian 8", "blocks"],
)
@pytest.mark.parametrize("form", FORMS)
def test_ssim_as_kernel_has_a_blind_pair(form: str, window: Window, side: int) -> None:
    """F4: D^2 cannot tell the two apart, D and what is made of it can."""
    x, y = blind_pair(window, side)
    metric = StructuralDistance(1.0, form, window=window)
    x_squared, xy_squared, y_squared = metric.squared(x), metric.squared(x, y), metric.squared(y)
    assert abs(energy_distance(x_squared, xy_squared, y_squared, unbiased=False).item()) < 1e-13
    assert metric(x, y).min() > 1e-3
    assert of(energy_distance, metric, x, y, unbiased=False) > 1e-3
    assert of(mmd2, Gaussian(metric, (0.3,)), x, y, unbiased=False) > 1e-7
    assert abs(of(mmd2, SSIM(1.0, window), x, y, unbiased=False)) < 1e-13


def test_equal_norms_of_whole_images_are_not_enough() -> None:
    """F4: stripes in the left half and in the right half are orthogonal and of equal norm, but not patch by patch."""
    rows = ((-1.0) ** torch.arange(8, dtype=torch.float64))[:, None].expand(8, 8)
    left = (torch.arange(8) < 4).double()
    a, b = 0.4 * rows * left, 0.4 * rows * (1 - left)
    assert (a * b).sum() == 0
    assert a.norm() == b.norm()
    x, y = (torch.stack([0.5 + z, 0.5 - z])[:, None] for z in (a, b))
    assert of(mmd2, SSIM(1.0, Window.uniform(2)), x, y, unbiased=False) == pytest.approx(0.85, abs=0.01)


# Conditional MMD


def conditional_case(seed: int = 0) -> list[Tensor]:
    """Six symmetric Gram matrices of 5 and 4 (condition, outcome) points."""
    k = [points(5, seed), points(4, seed + 1)]
    grams = []
    for x, y in (k, [points(5, seed + 2), points(4, seed + 3)]):
        grams += [RBF(x), RBF(x, y), RBF(y)]
    return grams


def test_cmmd_is_the_formula_with_inverses() -> None:
    K_d, K_ds, K_s, L_d, L_ds, L_s = (gram.numpy() for gram in conditional_case())
    lam = 0.05
    inverse_d, inverse_s = np.linalg.inv(K_d + lam * np.eye(5)), np.linalg.inv(K_s + lam * np.eye(4))
    expected = (
        np.trace(K_d @ inverse_d @ L_d @ inverse_d)
        + np.trace(K_s @ inverse_s @ L_s @ inverse_s)
        - 2 * np.trace(K_ds.T @ inverse_d @ L_ds @ inverse_s)
    )
    assert cmmd2(*conditional_case(), regularisation=lam).item() == pytest.approx(expected, rel=1e-12)


def test_cmmd_of_labels_compares_class_means() -> None:
    """With k(a, b) = [a = b]: sum over classes of |n_c / (n_c + lambda) mean_c x - m_c / (m_c + lambda) mean_c y|^2."""
    labels_x, labels_y = torch.tensor([0, 0, 1, 1, 1, 2]), torch.tensor([1, 0, 0, 2, 2])
    x, y = points(6, 0), points(5, 1)
    one_x, one_y = (F.one_hot(labels, 3).double() for labels in (labels_x, labels_y))
    lam = 0.3
    means = [(one.T @ z) / (one.sum(0)[:, None] + lam) for one, z in ((one_x, x), (one_y, y))]
    expected = ((means[0] - means[1]) ** 2).sum().item()
    value = cmmd2(
        one_x @ one_x.T, one_x @ one_y.T, one_y @ one_y.T, x @ x.T, x @ y.T, y @ y.T, regularisation=lam
    ).item()
    assert value == pytest.approx(expected, rel=1e-12)


LABELS = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2])


def same_label(a: Tensor, b: Tensor) -> Tensor:
    return (a[:, None] == b).double()


@pytest.mark.parametrize("lam", [1e-3, 0.3, 10.0])
def test_cmmd_of_labels_is_a_weighted_sum_of_the_mmd2_of_classes(lam: float, digits: Tensor) -> None:
    """F9 (a): weights (n_c / (n_c + lambda))^2, where both samples have the same labels."""
    x, y, K = digits[:12], digits[12:24], same_label(LABELS, LABELS)
    for kernel in (Gaussian(STRUCTURE, (0.5,)), SSIM(1.0, BLOCKS)):
        expected = 0.0
        for label in range(3):
            inside = label == LABELS
            n = inside.sum().item()
            expected += (n / (n + lam)) ** 2 * of(mmd2, kernel, x[inside], y[inside], unbiased=False)
        value = cmmd2(K, K, K, kernel(x), kernel(x, y), kernel(y), regularisation=lam).item()
        assert value == pytest.approx(expected, rel=1e-9)


def test_cmmd_of_labels_needs_a_characteristic_kernel() -> None:
    """F9 (b): with SSIM as kernel of the images it does not see a class of the blind pair; what F4 (c) allows does."""
    x, y = (torch.cat([z, z, z]) for z in blind_pair(BLOCKS, 21))
    labels = torch.tensor([0, 0, 1, 1, 1, 1])
    K = same_label(labels, labels)
    for kernel, sees in (
        (SSIM(1.0, BLOCKS), False),
        (Gaussian(STRUCTURE, (0.3,)), True),
        (DistanceInduced(STRUCTURE, x[:1]), True),
    ):
        value = cmmd2(K, K, K, kernel(x), kernel(x, y), kernel(y), regularisation=1e-3).item()
        assert (abs(value) < 1e-13) != sees
        assert (value > 1e-3) == sees


def test_cmmd_with_any_positive_definite_kernel_of_labels() -> None:
    """F9 (b): as lambda falls to 0, the sum of (k^-1)_cd <Delta_c, Delta_d>, Delta the differences of class means."""
    x, y, root = points(12, 0, 5), points(12, 1, 5), points(3, 2, 3)
    k = root @ root.T + 0.1 * torch.eye(3)
    one = F.one_hot(LABELS, 3).double()
    K, difference = one @ k @ one.T, (one.T @ (x - y)) / one.sum(0)[:, None]
    expected = (torch.linalg.inv(k) * (difference @ difference.T)).sum().item()
    assert cmmd2(K, K, K, x @ x.T, x @ y.T, y @ y.T, regularisation=1e-8).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("lam", [1e-3, 0.3])
def test_the_base_point_matters_to_cmmd_only_where_conditions_differ(lam: float, digits: Tensor) -> None:
    """F9 (c): not at all if both samples have the same conditions; else by the row sums of the weights."""
    x, y = digits[:12], digits[12:24]
    bases = x[:1], torch.zeros_like(x[:1])

    def values(*conditions: Tensor) -> list[float]:
        kernels = [DistanceInduced(STRUCTURE, base) for base in bases]
        return [cmmd2(*conditions, k(x), k(x, y), k(y), regularisation=lam).item() for k in kernels]

    for K in (same_label(LABELS, LABELS), RBF(points(12, 3))):
        one, other = values(K, K, K)
        assert one == pytest.approx(other, rel=1e-9)
    others = torch.tensor([0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2])
    one, other = values(same_label(LABELS, LABELS), same_label(LABELS, others), same_label(others, others))
    n, m = LABELS.bincount().double(), others.bincount().double()
    rows_x, rows_y = (lam * (p - q) / ((p + lam) ** 2 * (q + lam)) for p, q in ((n, m), (m, n)))
    half_x, half_y = ((STRUCTURE(z, bases[0]) - STRUCTURE(z, bases[1]))[:, 0] / 2 for z in (x, y))
    change = 2 * ((rows_x[LABELS] * half_x).sum() + (rows_y[others] * half_y).sum()).item()
    assert one - other == pytest.approx(change, rel=1e-6)
    bound = STRUCTURE(*bases) * ((n * rows_x.abs()).sum() + (m * rows_y.abs()).sum())
    assert 0 < abs(change) <= bound.item()


def weights(K: Tensor, lam: float) -> Tensor:
    """W of F9: (K + lambda)^-1 K (K + lambda)^-1."""
    regularised = K + lam * torch.eye(len(K), dtype=K.dtype)
    return torch.linalg.solve(regularised, torch.linalg.solve(regularised, K).T)


def test_what_cmmd_is_on_average() -> None:
    """F9 (d): <Delta, W Delta> + sum of W_ii (V(P_i) + V(Q_i)), against the mean over all outcomes of fair coins."""
    K, lam, spread = RBF(points(3, 0)), 0.2, points(12, 1).view(2, 3, 2, 3)
    draws = [
        [sample[torch.arange(3), torch.tensor(coins)] for coins in itertools.product((0, 1), repeat=3)]
        for sample in spread
    ]  # P_i and Q_i put half their mass on each of two points, in R^3 with the linear kernel
    values = [
        cmmd2(K, K, K, x @ x.T, x @ y.T, y @ y.T, regularisation=lam).item()
        for x, y in itertools.product(draws[0], draws[1])
    ]
    W, means = weights(K, lam), spread.mean(2)
    variance = ((spread - means[:, :, None]) ** 2).sum(-1).mean(2).sum(0)
    difference = means[0] - means[1]
    expected = (W * (difference @ difference.T)).sum() + (W.diagonal() * variance).sum()
    assert np.mean(values) == pytest.approx(expected.item(), rel=1e-12)


def mean_cmmd(K: Tensor, lam: float, centres: Tensor, real: float, drawn: float, width: float) -> float:
    """The mean of CMMD^2, where outcomes are normal about the centres, by F9 (d); L is Gaussian."""

    def product(s: float, t: float) -> Tensor:
        spread = width**2 + s**2 + t**2
        return width / math.sqrt(spread) * torch.exp(-((centres - centres.T) ** 2) / (2 * spread))

    W = weights(K, lam)
    differences = product(real, real) + product(drawn, drawn) - 2 * product(real, drawn)
    variance = 2 - product(real, real).diagonal() - product(drawn, drawn).diagonal()
    return ((W * differences).sum() + (W.diagonal() * variance).sum()).item()


def test_cmmd_of_single_conditions_prefers_one_outcome_to_the_truth() -> None:
    """F9 (d), y = sin 2x + noise of 0.3, 256 conditions x: no noise is best where conditions are hardly pooled."""
    x = points(256, 0, 1)
    centres, width = torch.sin(2 * x), 0.5
    best = {}
    for conditions, lam in itertools.product((0.1, 0.5, 2.0), (1e-3, 1.0, 100.0)):
        K = Gaussian(Euclidean(), (conditions,))(x)
        found = {noise: mean_cmmd(K, lam, centres, 0.3, noise, width) for noise in (0.0, 0.1, 0.2, 0.3, 0.4)}
        best[conditions, lam] = min(found, key=found.__getitem__)
    assert list(best.values()) == [0.0, 0.0, 0.3, 0.1, 0.3, 0.3, 0.2, 0.3, 0.3]  # the table of docs/kernels.md
    K, outcome = Gaussian(Euclidean(), (0.5,))(x), Gaussian(Euclidean(), (width,))
    values = []
    for seed in range(40):
        y, z = (centres + s * points(256, n + seed, 1) for s, n in ((0.3, 100), (0.1, 200)))
        values.append(cmmd2(K, K, K, outcome(y), outcome(y, z), outcome(z), regularisation=1.0).item())
    standard_error = np.std(values, ddof=1) / math.sqrt(len(values))
    assert abs(np.mean(values) - mean_cmmd(K, 1.0, centres, 0.3, 0.1, width)) < 3 * standard_error
    assert standard_error < 0.05


def test_a_class_of_one_image_is_matched_by_the_likeliest_image() -> None:
    """F9 (d): one image beats the truth if a batch holds fewer than n* of its class; on digits n* is 1.0 to 1.9."""
    data = load_images("mnist5k")[0].first(2000)
    metric = StructuralDistance(1.0, window=Window.uniform(8, stride=4))
    median = median_distance(metric, data.images[:250])
    for label, width in itertools.product(range(10), (0.2, 1.0)):
        images = data.images[data.labels == label][:150].double()
        gram, n = Gaussian(metric, (width * median,))(images), len(images)
        squared_norm = (gram.sum() - n) / (n * (n - 1))
        density = ((gram.sum(1) - 1) / (n - 1)).max()
        least = (1 - squared_norm) / (1 + squared_norm - 2 * density)
        assert 1 < least < 1.9
        for count in (1, 2):
            truth = 2 * (1 - squared_norm) / count
            one = squared_norm + 1 - 2 * density + (1 - squared_norm) / count
            assert (one < truth) == (count < least)


def test_how_much_variance_counts_in_the_completion_of_digits(digits: Tensor) -> None:
    """The numbers of docs/kernels.md, F9 (d): the trace of W against its sum, for 256 upper halves."""
    upper = digits[:256, :, :14]
    units = median_distance(Euclidean(), upper)
    K = Gaussian(Euclidean(), tuple(f * units for f in (0.2, 0.3, 0.5, 0.7, 1.0)))(upper)
    ratios = {lam: (W.trace() / W.sum()).item() for lam in (1e-3, 1.0, 100.0) for W in [weights(K, lam)]}
    assert ratios == pytest.approx({1e-3: 86, 1.0: 45, 100.0: 0.18}, rel=0.05)


def test_cmmd_of_a_sample_with_itself_is_zero_and_otherwise_positive() -> None:
    K, _, _, L, _, _ = conditional_case()
    assert cmmd2(K, K, K, L, L, L, regularisation=1e-3).item() == pytest.approx(0, abs=1e-9)
    assert cmmd2(*conditional_case(), regularisation=1e-3).item() > 0


def test_cmmd_gradients_reach_all_six() -> None:
    K_d, K_ds, K_s, L_d, L_ds, L_s = conditional_case()
    free = [gram.clone().requires_grad_() for gram in (K_d, K_ds, K_s, L_d, L_ds, L_s)]

    def value(*grams: Tensor) -> Tensor:
        grams = tuple((g + g.T) / 2 if len(g) == len(g.T) else g for g in grams)  # Gram matrices are symmetric
        return cmmd2(*grams, regularisation=0.1)

    assert torch.autograd.gradcheck(value, free)


def test_cmmd_refuses_what_cannot_be_factored() -> None:
    grams = conditional_case()
    singular = torch.ones(5, 5)
    with pytest.raises(ValueError, match=r"k_xx \+ 1e-09 I is not positive definite in float32: raise regularisation"):
        cmmd2(singular, *(g.float() for g in grams[1:]), regularisation=1e-9)
    for lam in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="regularisation must be a positive number, got"):
            cmmd2(*grams, regularisation=lam)
    with pytest.raises(ValueError, match=r"k_yy .* is not positive definite in float64"):
        cmmd2(*grams[:2], -grams[2], *grams[3:], regularisation=0.1)


def test_cmmd_refuses_outcomes_of_other_samples(no_shape_checks: None) -> None:
    grams = conditional_case()
    with pytest.raises(ValueError, match="got 5 and 4 conditions, 4 and 5 outcomes"):
        cmmd2(*grams[:3], grams[5], grams[4].T, grams[3], regularisation=0.1)


# Bad matrices


@pytest.mark.parametrize("function", [mmd2, energy_distance])
@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2, 3), (2, 2), (2, 2)), "xx must be square, a sample against itself, got shape (2, 3)"),
        (((2, 2), (2, 3), (3, 2)), "yy must be square, a sample against itself, got shape (3, 2)"),
        (((2, 2), (3, 2), (3, 3)), "xy must have shape (2, 3) to fit {0}xx and {0}yy, got (3, 2): pass {0}xy.T"),
        (((2, 2), (2, 2), (3, 3)), "xy must have shape (2, 3) to fit {0}xx and {0}yy, got (2, 2)"),
        (((0, 0), (0, 3), (3, 3)), "xx must be a matrix with at least one entry, got shape (0, 0)"),
        (((2,), (2, 3), (3, 3)), "xx must be a matrix with at least one entry, got shape (2,)"),
    ],
)
@pytest.mark.usefixtures("no_shape_checks")
def test_bad_shapes(function: object, shapes: tuple, message: str) -> None:
    prefix = "k_" if function is mmd2 else "d_"
    with pytest.raises(ValueError, match="^" + re.escape(prefix + message.format(prefix)) + "$"):
        function(*(torch.zeros(shape) for shape in shapes))  # type: ignore[operator]


@pytest.mark.parametrize("function", [mmd2, energy_distance])
def test_one_point_has_no_unbiased_estimate(function: object) -> None:
    one, row, square = torch.zeros(1, 1), torch.zeros(1, 3), torch.zeros(3, 3)
    with pytest.raises(ValueError, match="needs at least two points a sample, got 1 and 3: pass unbiased=False"):
        function(one, row, square)  # type: ignore[operator]
    assert function(one, row, square, unbiased=False).item() == 0  # type: ignore[operator]


def test_nan_is_never_returned() -> None:
    k_xx, k_xy, k_yy = points(3, 0, 3), points(3, 1, 4), points(4, 2, 4)
    k_xy[1, 2] = math.nan
    k_yy[0, 1] = math.inf
    with pytest.raises(ValueError, match=r"^mmd2 is nan: k_xy, k_yy held values that are not finite; look for NaN"):
        mmd2(k_xx, k_xy, k_yy)
    with pytest.raises(ValueError, match=r"^energy_distance is nan: d_xy held values"):
        energy_distance(k_xx, k_xy, points(4, 2, 4))
    huge = torch.full((3, 3), 3e38)
    with pytest.raises(ValueError, match=r"^mmd2 is nan: the sums overflowed"):
        mmd2(huge, huge, huge)
    grams = conditional_case()
    grams[4][0, 0] = math.nan
    with pytest.raises(ValueError, match=r"^cmmd2 is nan: l_xy held values"):
        cmmd2(*grams, regularisation=0.1)


# Mean embeddings


@pytest.mark.parametrize("unbiased", [True, False])
def test_mean_embeddings_give_the_mmd_of_their_features(unbiased: bool) -> None:
    x, y = points(7, 0), points(5, 1)
    parts = [MeanEmbedding.of(part) for part in (x[:2], x[2:3], x[3:])]
    whole = sum(parts[1:], parts[0])
    expected = mmd2(x @ x.T, x @ y.T, y @ y.T, unbiased=unbiased).item()
    value = embedded_mmd2(whole, MeanEmbedding.of(y), unbiased=unbiased).item()
    assert value == pytest.approx(expected, abs=1e-14)
    assert whole.count == 7
    assert MeanEmbedding.of(x.float()).total.dtype == torch.float64


def test_bad_embeddings() -> None:
    x, y = MeanEmbedding.of(points(3, 0)), MeanEmbedding.of(points(3, 0, 2))
    with pytest.raises(ValueError, match="must have equally many features, got 3 and 2"):
        embedded_mmd2(x, y)
    with pytest.raises(ValueError, match="got 1 and 3: pass unbiased=False"):
        embedded_mmd2(MeanEmbedding.of(points(1, 0)), x)
    with pytest.raises(ValueError, match=r"^embedded_mmd2 is nan: y held values"):
        embedded_mmd2(x, MeanEmbedding.of(points(3, 1) * math.nan))


# The two-sample test


def test_statistic_and_permutations_are_mmd_of_relabelled_samples() -> None:
    x, y = points(6, 0), points(4, 1) + 0.3
    result = two_sample_test(x, y, RBF, permutations=40, seed=3)
    assert result.statistic == pytest.approx(of(mmd2, RBF, x, y), abs=1e-15)
    gram = RBF(torch.cat([x, y]))
    possible = []
    for chosen in itertools.combinations(range(10), 6):
        rest = [i for i in range(10) if i not in chosen]
        possible.append(mmd2(gram[chosen, :][:, chosen], gram[chosen, :][:, rest], gram[rest, :][:, rest]).item())
    nearest = np.abs(result.null.numpy()[:, None] - np.array(possible)).min(1)
    assert nearest.max() < 1e-14
    assert len(result.null.unique()) > 30  # of 210 splits
    assert result.p_value == (1 + (result.null >= result.statistic).sum().item()) / 41


def test_the_test_on_a_gram_matrix_is_the_same_test() -> None:
    x, y = points(6, 0), points(4, 1) + 0.3
    gram = RBF(torch.cat([x, y]))
    expected, result = two_sample_test(x, y, RBF, permutations=40), permutation_test(gram, 6, permutations=40)
    assert (result.statistic, result.p_value) == (expected.statistic, expected.p_value)
    assert torch.equal(result.null, expected.null)
    assert (gram.diagonal() == 1).all()  # not written to


def test_bad_gram_matrices(no_shape_checks: None) -> None:
    gram = RBF(points(10, 0))
    with pytest.raises(ValueError, match=r"gram must be square, .*got shape \(10, 9\)"):
        permutation_test(gram[:, 1:], 5)
    with pytest.raises(ValueError, match="at least two points a sample, got 9 and 1"):
        permutation_test(gram, 9)
    with pytest.raises(ValueError, match="values that are not finite"):
        permutation_test(gram.log().log(), 5)


def test_witness_is_the_difference_of_mean_kernels() -> None:
    x, y = points(5, 0), points(4, 1)
    result = two_sample_test(x, y, RBF, permutations=19)
    for i in range(5):
        others = torch.cat([x[:i], x[i + 1 :]])
        expected = RBF(x[i : i + 1], others).mean() - RBF(x[i : i + 1], y).mean()
        assert result.witness_x[i].item() == pytest.approx(expected.item(), abs=1e-14)
    for j in range(4):
        others = torch.cat([y[:j], y[j + 1 :]])
        expected = RBF(y[j : j + 1], x).mean() - RBF(y[j : j + 1], others).mean()
        assert result.witness_y[j].item() == pytest.approx(expected.item(), abs=1e-14)
    assert result.statistic == pytest.approx((result.witness_x.mean() - result.witness_y.mean()).item(), abs=1e-14)


def test_the_seed_decides() -> None:
    x, y = points(10, 0), points(10, 1)
    first, again, other = (two_sample_test(x, y, RBF, permutations=99, seed=seed) for seed in (0, 0, 1))
    assert first.p_value == again.p_value
    assert (first.null == again.null).all()
    assert (first.null != other.null).any()
    state = torch.get_rng_state()
    two_sample_test(x, y, RBF, permutations=99)
    assert (torch.get_rng_state() == state).all()


def test_equal_points_are_ties() -> None:
    same = points(1, 0).repeat(8, 1)
    result = two_sample_test(same[:5], same[:3], RBF, permutations=50)
    assert result.p_value == 1
    assert not result.rejected


def test_p_values_are_uniform_under_the_null_for_vectors() -> None:
    p_values = []
    for i in range(400):
        z = points(25, i, 2)
        p_values.append(two_sample_test(z[:15], z[15:], RBF, permutations=99, seed=i).p_value)
    # p is uniform on {0.01, ..., 1}: as many at each of 10 tenths; chi^2 with 9 degrees of freedom
    counts = np.histogram(p_values, bins=np.linspace(0.005, 1.005, 11))[0]
    assert scipy.stats.chisquare(counts).pvalue > 0.01
    assert np.mean(np.array(p_values) <= 0.05) == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / 400))


def test_p_values_are_uniform_under_the_null_for_digits(digits: Tensor) -> None:
    p_values = []
    for i in range(100):
        z = digits[24 * i : 24 * (i + 1)].float()
        kernel = Gaussian(STRUCTURE, "median")
        p_values.append(two_sample_test(z[:12], z[12:], kernel, permutations=99, seed=i).p_value)
    counts = np.histogram(p_values, bins=np.linspace(0.005, 1.005, 6))[0]
    assert scipy.stats.chisquare(counts).pvalue > 0.01


@pytest.mark.parametrize(
    "kernel",
    [Gaussian(STRUCTURE, "median"), DistanceInduced(STRUCTURE, torch.zeros(1, 1, 28, 28)), SSIM(1.0, BLOCKS)],
    ids=lambda k: type(k).__name__,
)
def test_blurred_digits_are_found_and_digits_are_not(kernel: Kernel, digits: Tensor) -> None:
    x, y, other = digits[:100].float(), blurred(digits[100:200]).float(), digits[200:300].float()
    found = two_sample_test(x, y, kernel)
    assert found.rejected
    assert found.p_value == 1 / 1001
    assert not two_sample_test(x, other, kernel).rejected


def test_the_median_is_that_of_the_pooled_sample() -> None:
    x, y = points(10, 0), 5 * points(12, 1)
    fitted = Gaussian(Euclidean(), (median_distance(Euclidean(), torch.cat([x, y])),))
    found, expected = (two_sample_test(x, y, kernel) for kernel in (Gaussian(Euclidean(), "median"), fitted))
    assert found.statistic == expected.statistic
    assert found.statistic != pytest.approx(two_sample_test(x, y, Gaussian(Euclidean(), "median").fit(x)).statistic)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = points(13, 0), points(10, 1) + 0.2
    whole = two_sample_test(x, y, RBF, permutations=50)
    monkeypatch.setattr(two_sample, "_BLOCK", 4)
    parts = two_sample_test(x, y, RBF, permutations=50)
    torch.testing.assert_close(parts.null, whole.null, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(parts.witness_y, whole.witness_y, rtol=1e-12, atol=1e-15)
    assert (parts.across, parts.across_by_chance) == (whole.across, whole.across_by_chance)


MEMORY = """
import resource, torch
from ssimgen.discrepancy import permutation_test
gram = torch.rand(3000, 3000, generator=torch.Generator().manual_seed(0))
permutation_test(gram[:100, :100], 50)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
permutation_test(gram, 1500)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / gram.nbytes)
"""


def test_the_test_takes_no_second_matrix() -> None:
    """Blocks of 256 rows in float64 are 0.17 of a float32 matrix of 3,000, and there are a few."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.5


def test_a_result_is_one_line() -> None:
    result = two_sample_test(points(10, 0), points(10, 1) + 9, RBF, permutations=99)
    text = f"TwoSampleResult(statistic={result.statistic!r}, p_value=0.01, level=0.05, across=0, shared=0)"
    assert repr(result) == text


def test_paired_points_are_noticed() -> None:
    """Independent draws are not, equal points, or sets that differ, neither."""
    x = points(40, 0, 8)
    paired = two_sample_test(x, x + 0.1 * points(40, 1, 8), RBF)
    assert paired.across == 80
    assert paired.paired
    assert paired.shared == 0
    mean, deviation = paired.across_by_chance
    assert mean == pytest.approx(80 * 40 / 79, abs=4 * deviation / math.sqrt(1000))
    assert two_sample_test(x, x[:25] + 0.1 * points(25, 1, 8), RBF).paired
    assert not two_sample_test(x, 3 + points(40, 1, 8), RBF).paired
    assert not two_sample_test(x[:1].expand(40, -1), x[:1].expand(30, -1), RBF).paired
    alarms = [
        two_sample_test(points(30, 2 * i), points(20, 2 * i + 1), RBF, permutations=99).paired for i in range(100)
    ]
    assert not any(alarms)


def test_shared_points_are_counted() -> None:
    x, y = points(20, 0), points(15, 1)
    assert two_sample_test(x, torch.cat([y, x[:3], x[:1]]), RBF).shared == 4
    assert shared_points(torch.tensor([[0.0], [1.0]]), torch.tensor([[-0.0], [2.0]])) == 1


def test_permutations_must_reach_the_level() -> None:
    x, y = points(10, 0), points(10, 1)
    with pytest.raises(
        ValueError,
        match=re.escape(
            "10 permutations give p-values of at least 0.0909 and cannot reach level 0.05: pass permutations=19 or more"
        ),
    ):
        two_sample_test(x, y, RBF, permutations=10)
    assert two_sample_test(x, y, RBF, permutations=19).p_value >= 0.05
    assert two_sample_test(x, y, RBF, permutations=99, level=0.01).level == 0.01
    with pytest.raises(ValueError, match="pass permutations=999 or more"):
        two_sample_test(x, y, RBF, permutations=998, level=0.001)
    for permutations in (0, -1):
        with pytest.raises(ValueError, match=r"cannot reach level 0.5: pass permutations=1 or more"):
            two_sample_test(x, y, RBF, permutations=permutations, level=0.5)
    for level in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match="level must lie between 0 and 1, got"):
            two_sample_test(x, y, RBF, level=level)


def test_splits_must_be_able_to_reach_the_level() -> None:
    x, y = points(2, 0), points(2, 1)
    with pytest.raises(
        ValueError,
        match=re.escape("samples of 2 and 2 points have 6 splits, too few for p-values of 0.05: pass larger samples"),
    ):
        two_sample_test(x, y, RBF)
    with pytest.raises(ValueError, match="samples of 3 and 3 points have 20 splits, too few"):  # of 10 values
        two_sample_test(points(3, 0), points(3, 1), RBF)
    assert two_sample_test(points(3, 0), points(4, 1), RBF).level == 0.05  # 35


@pytest.mark.usefixtures("no_shape_checks")
def test_bad_samples() -> None:
    x = points(4, 0)
    with pytest.raises(ValueError, match="a two-sample test needs at least two points a sample, got 4 and 1"):
        two_sample_test(x, x[:1], RBF)
    with pytest.raises(ValueError, match="y is empty"):
        two_sample_test(x, x[:0], RBF)
    with pytest.raises(ValueError, match=r"points of x and y must have equal shapes, got \(3,\) and \(2,\)"):
        two_sample_test(x, points(4, 0, 2), RBF)
    bad = x.clone()
    bad[2, 1] = math.nan
    with pytest.raises(ValueError, match=r"y has values that are not finite, first in y\[2\]: drop or repair it"):
        two_sample_test(x, bad, RBF)
    with pytest.raises(ValueError, match="the kernel returned values that are not finite: check its bandwidths"):
        two_sample_test(1e200 * x, 1e200 * x, DistanceInduced(Euclidean(), x[:1]))
