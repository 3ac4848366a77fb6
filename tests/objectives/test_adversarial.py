"""Losses of adversarial players against their formulas, values and gradients, and the perceptual terms."""

import math
import warnings
from itertools import permutations
from typing import Literal

import pytest
import torch
from torch import Tensor

from ssimgen import DataRangeWarning, distance
from ssimgen.discrepancy import energy_distance
from ssimgen.metrics import Euclidean, StructuralDistance
from ssimgen.objectives.adversarial import (
    LabelDistance,
    Perceptual,
    convergence,
    discriminator_losses,
    energy_distance_within_classes,
    generator_loss,
    moved_balance,
)
from ssimgen.objectives.reconstruction import Reconstruction
from ssimgen.objectives.structure import Structure
from ssimgen.windows import Window

pytestmark = pytest.mark.usefixtures("eager_engine")

BLOCKS = Structure(form="sum", window="uniform", size=4, stride=4)
METRIC = StructuralDistance(1.0, form="sum", window=Window.uniform(4, 4))


def sigmoid(score: float) -> float:
    """The probability that a score stands for."""
    return 1 / (1 + math.exp(-score))


def slopes(loss: Tensor, scores: Tensor) -> list[float]:
    """The derivatives of the loss by each score."""
    (gradient,) = torch.autograd.grad(loss, scores)
    return gradient.flatten().tolist()


def numbers(*values: float) -> Tensor:
    """Scores (B, 1) that require gradients."""
    return torch.tensor(values, dtype=torch.float64)[:, None].requires_grad_()


def pictures(n: int, seed: int) -> Tensor:
    """Random images, float64."""
    return torch.rand(n, 1, 12, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- log loss -----------------------------------------------------------------------------------------------------


def test_the_discriminator_loss_is_the_negative_of_the_value_of_the_game() -> None:
    real, fake = numbers(0.3, -1.2, 4.0), numbers(-0.5, 2.0)
    terms = discriminator_losses(real, fake)
    assert terms["real"].item() == pytest.approx(-sum(math.log(sigmoid(s)) for s in (0.3, -1.2, 4.0)) / 3)
    assert terms["fake"].item() == pytest.approx(-sum(math.log(1 - sigmoid(s)) for s in (-0.5, 2.0)) / 2)
    assert slopes(terms["real"], real) == pytest.approx([(sigmoid(s) - 1) / 3 for s in (0.3, -1.2, 4.0)])
    assert slopes(terms["fake"], fake) == pytest.approx([sigmoid(s) / 2 for s in (-0.5, 2.0)])


def test_the_generator_losses_are_their_formulas() -> None:
    scores = (-0.5, 2.0, -7.0)
    fake = numbers(*scores)
    assert generator_loss(fake, "minimax").item() == pytest.approx(sum(math.log(1 - sigmoid(s)) for s in scores) / 3)
    assert generator_loss(fake, "non-saturating").item() == pytest.approx(
        -sum(math.log(sigmoid(s)) for s in scores) / 3
    )
    assert slopes(generator_loss(fake, "minimax"), fake) == pytest.approx([-sigmoid(s) / 3 for s in scores])
    assert slopes(generator_loss(fake, "non-saturating"), fake) == pytest.approx([(sigmoid(s) - 1) / 3 for s in scores])


def test_minimax_is_the_zero_sum_game() -> None:
    fake = numbers(-0.5, 2.0)
    torch.testing.assert_close(generator_loss(fake, "minimax"), -discriminator_losses(numbers(1.0), fake)["fake"])


def test_the_wasserstein_game_compares_the_scores() -> None:
    real, fake = numbers(0.3, -1.2, 4.0), numbers(-0.5, 2.0)
    terms = discriminator_losses(real, fake, "wasserstein")
    assert terms["real"].item() == pytest.approx(-3.1 / 3)
    assert terms["fake"].item() == pytest.approx(0.75)
    assert generator_loss(fake, "wasserstein").item() == pytest.approx(-0.75)


def test_losses_of_sure_discriminators_are_finite() -> None:
    fake = numbers(-1e4, 1e4)
    for loss in (
        generator_loss(fake, "minimax"),
        generator_loss(fake, "non-saturating"),
        discriminator_losses(fake, fake)["real"],
    ):
        assert math.isfinite(loss.item())
        assert all(map(math.isfinite, slopes(loss, fake)))


# --- distances to labels ------------------------------------------------------------------------------------------


def test_squared_distances_to_labels_are_those_of_least_squares() -> None:
    scores = numbers(0.3, -1.0)
    loss = LabelDistance("l2")(scores, 1.0)
    assert loss.item() == pytest.approx((0.7**2 + 2.0**2) / 4)
    assert slopes(loss, scores) == pytest.approx([-0.35, -1.0])


@pytest.mark.parametrize("label", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("k1", [0.01, 0.7])
def test_the_structural_distance_of_a_scalar_is_its_luminance_part(label: float, k1: float) -> None:
    values, c1 = (0.3, -1.5), k1**2
    scores = numbers(*values)
    loss = LabelDistance("structural", Structure(form="sum", window="uniform", size=3, k1=k1))(scores, label)
    sums = [s**2 + label**2 + c1 for s in values]
    expected = [(s - label) ** 2 / z for s, z in zip(values, sums, strict=True)]
    assert loss.item() == pytest.approx(sum(expected) / 2, rel=1e-6)  # float32
    gradient = [(2 * (s - label) - 2 * s * d) / z / 2 for s, d, z in zip(values, expected, sums, strict=True)]
    assert slopes(loss, scores) == pytest.approx(gradient, rel=1e-5, abs=2e-7)  # differences of numbers of order 1


def test_it_is_the_structural_distance_of_windows_of_one_pixel() -> None:
    """With the factor 1 instead of q / (q - 1), which the paper's definition divides by 0."""
    scores = torch.randn(5, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    of_pixels = LabelDistance("structural", Structure(form="sum", window="uniform", size=1, k1=0.5, k2=0.5))
    torch.testing.assert_close(of_pixels(scores, 1.0), of_pixels(scores.view(-1, 1), 1.0))


@pytest.mark.parametrize("norm", ["rms", "frobenius"])
def test_of_maps_it_is_the_squared_distance_to_a_constant_map(norm: Literal["rms", "frobenius"]) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(4, 1, 7, 7, generator=generator, dtype=torch.float64).requires_grad_()
    structure = Structure(form="sum", norm=norm, window="uniform", size=3, k1=0.5, k2=0.8)
    loss = LabelDistance("structural", structure)(maps, -1.0)  # and no warning of scores outside of [0, 1]
    options = {"form": "sum", "window": Window.uniform(3), "k1": 0.5, "k2": 0.8, "norm": norm, "squared": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataRangeWarning)
        full = distance(maps, torch.full_like(maps, -1.0), data_range=1.0, **options)
    assert loss.item() == pytest.approx(full.mean().item(), rel=1e-5)
    assert slopes(loss, maps) == pytest.approx(slopes(full.mean(), maps), rel=1e-3, abs=1e-6)


def test_of_maps_it_is_equation_2_against_a_constant_map() -> None:
    maps = torch.randn(4, 1, 7, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    structure = Structure(form="sum", window="uniform", size=3, k1=0.5, k2=0.8)
    loss = LabelDistance("structural", structure)(maps, -1.0)
    patches = maps.detach().unfold(2, 3, 1).unfold(3, 3, 1).flatten(4)  # (4, 1, 5, 5, 9)
    mean, variance = patches.mean(4), patches.var(4, correction=0)
    by_hand = (mean + 1) ** 2 / (mean**2 + 1 + 0.5**2) + variance / (variance + 0.8**2)
    assert loss.item() == pytest.approx(by_hand.mean().item(), rel=1e-5)


# --- equilibrium --------------------------------------------------------------------------------------------------


def test_the_balance_follows_its_recursion_and_stays_between_0_and_1() -> None:
    def moved(k: float, real: float, fake: float) -> float:
        return moved_balance(torch.tensor(k), torch.tensor(real), torch.tensor(fake), 0.5, 0.1).item()

    assert moved(0.3, 0.8, 0.2) == pytest.approx(0.3 + 0.1 * (0.4 - 0.2))
    assert moved(0.3, 0.8, 0.9) == pytest.approx(0.3 + 0.1 * (0.4 - 0.9))
    assert moved(0.0, 0.1, 5.0) == 0
    assert moved(0.99, 9.0, 0.0) == 1


def test_convergence_is_its_formula() -> None:
    assert convergence(torch.tensor(0.8), torch.tensor(0.1), 0.5).item() == pytest.approx(0.8 + 0.3)
    assert convergence(torch.tensor(0.8), torch.tensor(0.6), 0.5).item() == pytest.approx(0.8 + 0.2)


# --- perceptual terms ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["literal", "paired"])
@pytest.mark.parametrize("error", ["ssim", "ms_ssim", "l1"])
def test_paired_terms_compare_each_image_with_its_partner(kind: str, error: str) -> None:
    fake, real = pictures(6, 1), pictures(6, 2)
    structure = Structure(form="centred", size=5, sigma=1.0)
    expected = Reconstruction(error, structure)(fake, real).mean()
    torch.testing.assert_close(Perceptual(kind, 3.0, error, structure)(fake, real), expected)


def test_the_energy_term_is_the_energy_distance_of_the_structural_distance() -> None:
    fake, real = pictures(5, 1).requires_grad_(), pictures(5, 2)
    term = Perceptual("energy", structure=BLOCKS)(fake, real)

    def mean(x: Tensor, y: Tensor, pairs: list[tuple[int, int]]) -> Tensor:
        i, j = (torch.tensor(index) for index in zip(*pairs, strict=True))
        return distance(x[i], y[j], data_range=1.0, form="sum", window=Window.uniform(4, 4)).mean()

    everyone = [(i, j) for i in range(5) for j in range(5)]
    others = list(permutations(range(5), 2))
    expected = 2 * mean(real, fake, everyone) - mean(fake, fake, others) - mean(real, real, others)
    assert term.item() == pytest.approx(expected.item(), rel=1e-4)  # float32
    (a,), (b,) = torch.autograd.grad(term, fake), torch.autograd.grad(expected, fake)
    assert (a - b).norm() < 1e-4 * b.norm()


def test_the_energy_term_of_a_conditional_model_stays_within_classes() -> None:
    fake, real = pictures(7, 1).float(), pictures(7, 2).float()
    labels = torch.tensor([0, 2, 0, 2, 2, 1, 0])
    term = Perceptual("energy", structure=BLOCKS)(fake, real, labels)
    alone = {k: Perceptual("energy", structure=BLOCKS)(fake[labels == k], real[labels == k]) for k in (0, 2)}
    expected = (3 * alone[0] + 3 * alone[2]) / 7  # class 1 has one image, which tells nothing
    torch.testing.assert_close(term, expected)
    assert energy_distance_within_classes(METRIC, real, fake, torch.arange(7)).item() == 0


def test_classes_count_by_their_images() -> None:
    fake, real = pictures(7, 1).float(), pictures(7, 2).float()
    labels = torch.tensor([2, 0, 2, 0, 2, 1, 2])
    alone = {}
    for k in (0, 2):
        x, y = real[labels == k], fake[labels == k]
        alone[k] = energy_distance(METRIC(x), METRIC(x, y), METRIC(y), unbiased=True).item()
    assert abs(alone[0] - alone[2]) > 0.01  # or it would not show how they are weighed
    together = energy_distance_within_classes(METRIC, real, fake, labels).item()
    assert together == pytest.approx((2 * alone[0] + 4 * alone[2]) / 7, rel=1e-5)


def test_the_energy_term_of_pixels_is_that_of_the_euclidean_distance() -> None:
    assert Perceptual("energy", error="l2").metric() == Euclidean()
    assert Perceptual("energy", structure=BLOCKS).metric() == METRIC


def train(term: Perceptual, real: Tensor) -> Tensor:
    """Images of a linear generator after 150 steps down the perceptual term alone, each with a batch of its own."""
    torch.manual_seed(0)
    generator = torch.nn.Linear(4, real[0].numel())
    optimiser = torch.optim.Adam(generator.parameters(), 2e-2)
    for _ in range(150):
        batch = real[torch.randint(len(real), (32,))]
        loss = term(generator(torch.randn(32, 4)).sigmoid().view(batch.shape), batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return generator(torch.randn(64, 4)).sigmoid().view(64, *real.shape[1:]).detach()


def diversity(images: Tensor) -> float:
    """Root mean square distance between two of the images."""
    return images.flatten(1).var(0).mul(2).sum().sqrt().item()


@pytest.mark.usefixtures("no_shape_checks")  # they would take most of the time
def test_equation_5_as_printed_collapses_and_the_energy_does_not(digits: Tensor) -> None:
    """Without a repulsion, and x independent of z, one image is best; the energy distance is 0 for equal
    distributions only."""
    real = torch.nn.functional.avg_pool2d(digits[:400].float(), 2)[:, :, 1:-1, 1:-1].contiguous()  # 12 x 12 px
    structure = Structure(form="sum", window="uniform", size=4, stride=2, k1=0.1, k2=0.1)
    literal, energy = (diversity(train(Perceptual(kind, structure=structure), real)) for kind in ("literal", "energy"))
    whole = diversity(real)
    assert literal < 0.1 * whole
    assert energy > 0.4 * whole


# --- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_shape_checks")
def test_bad_options_are_named() -> None:
    with pytest.raises(ValueError, match=r"perceptual kind must be one of .* got 'pair': did you mean 'paired'"):
        Perceptual("pair")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="perceptual weight must not be negative, got -1"):
        Perceptual("paired", -1.0)
    with pytest.raises(ValueError, match="needs a metric between all pairs, 'ssim' or 'l2', got 'ms_ssim': choose one"):
        Perceptual("energy", error="ms_ssim")
    with pytest.raises(ValueError, match="label distance must be one of 'l2', 'structural', got 'l1'"):
        LabelDistance("l1")  # type: ignore[arg-type]
    for options in ({"scales": 2}, {"pixels": 1.0}, {"chroma": 1.0}):
        with pytest.raises(ValueError, match="scores are compared at one scale and have no pixels and no chroma"):
            LabelDistance("structural", Structure(**options))
