"""Degraded images are what their names say."""

import pytest
import torch
from torch import Tensor

from ssimgen.evaluation.degradations import COLOURS, MODES, Degraded, k_means


@pytest.fixture(scope="module")
def images() -> Degraded:
    generator = torch.Generator().manual_seed(0)
    train, real = torch.rand(2, 60, 3, 8, 8, generator=generator)
    return Degraded(train, real, torch.arange(60) % 5)


def test_blur_is_the_mean_of_neighbours(images: Degraded) -> None:
    real, blurred = images.real, images["3 x 3 blur"]
    torch.testing.assert_close(blurred[:, :, 3, 4], real[:, :, 2:5, 3:6].mean((2, 3)))
    corner = (4 * real[..., 0, 0] + 2 * real[..., 0, 1] + 2 * real[..., 1, 0] + real[..., 1, 1]) / 9  # border repeated
    torch.testing.assert_close(blurred[..., 0, 0], corner)
    torch.testing.assert_close(images["5 x 5 blur"][:, :, 3, 4], real[:, :, 1:6, 2:7].mean((2, 3)))


def test_the_mean_image_is_that_of_the_training_images(images: Degraded) -> None:
    assert images["mean image"].shape == images.real.shape
    torch.testing.assert_close(images["mean image"][7], images.train.mean(0))


@pytest.mark.parametrize(("name", "deviation"), [("weak noise", 0.02), ("strong noise", 0.1)])
def test_noise_has_its_deviation_and_is_cut(name: str, deviation: float) -> None:
    grey = Degraded(torch.full((60, 1, 8, 8), 0.5), torch.full((60, 1, 8, 8), 0.5))
    assert (grey[name] - 0.5).std().item() == pytest.approx(deviation, rel=0.05)
    dark = Degraded(torch.zeros(60, 1, 8, 8), torch.zeros(60, 1, 8, 8))
    assert dark[name].min() == 0
    assert torch.equal(dark[name], dark[name])


def test_wrong_colours_are_the_right_ones_in_another_order(images: Degraded) -> None:
    red = torch.zeros(60, 3, 8, 8)
    red[:, 0] = 1
    assert Degraded(red, red)["wrong colours"][0, :, 0, 0].tolist() == [0, 0, 1]
    assert images.lacks(COLOURS) == ""


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_images_have_no_wrong_colours(channels: int) -> None:
    grey = torch.rand(60, 1, 8, 8).expand(-1, channels, -1, -1)
    assert Degraded(grey, grey).lacks(COLOURS) == "the images are grey"


def of_rank(rank: int, generator: torch.Generator) -> Tensor:
    """Images around grey in a space of so many dimensions."""
    basis = torch.randn(rank, 64, generator=torch.Generator().manual_seed(1))
    return (0.5 + 0.02 * torch.randn(60, rank, generator=generator) @ basis).view(60, 1, 8, 8)


def test_a_linear_reconstruction_keeps_four_fifths_of_the_variance_with_the_fewest_components() -> None:
    generator = torch.Generator().manual_seed(0)
    train, real = of_rank(12, generator), of_rank(12, generator)
    rebuilt = Degraded(train, real)["linear reconstruction"]
    lost = (rebuilt - real).square().sum() / (real - train.mean(0)).square().sum()
    assert lost.item() <= 0.2
    flat = (train - train.mean(0)).flatten(1)
    rank = torch.linalg.matrix_rank((rebuilt - train.mean(0)).flatten(1), rtol=1e-4)
    components = torch.linalg.svd(flat, full_matrices=False).Vh[: rank - 1]
    codes = (real - train.mean(0)).flatten(1) @ components.T
    assert codes.square().sum() / (real - train.mean(0)).square().sum() < 0.8  # one fewer is not enough


def test_where_all_components_are_too_few_all_are_taken() -> None:
    generator = torch.Generator().manual_seed(0)
    train, real = of_rank(2, generator), torch.rand(60, 1, 8, 8, generator=generator)
    rebuilt = Degraded(train, real)["linear reconstruction"]
    assert torch.linalg.matrix_rank((rebuilt - train.mean(0)).flatten(1), rtol=1e-3) == 2


def test_half_of_the_modes_are_half_of_the_classes_and_all_modes_are_as_many_images(images: Degraded) -> None:
    half, everything = images["half of the modes"], images["all modes"]
    kept = images.real[torch.arange(60) % 5 < 3]
    assert torch.equal(half, kept)
    assert len(everything) == len(half)
    assert len({tuple(image.flatten().tolist()) for image in everything}) == len(half)  # none twice


def test_without_classes_or_with_one_modes_are_clusters() -> None:
    spots = torch.zeros(60, 1, 8, 8)
    for i in range(60):
        row, column = divmod(i % 4, 2)
        spots[i, 0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 1 - 0.001 * i
    for labels in (None, torch.zeros(60, dtype=torch.long)):
        images = Degraded(spots, spots, labels)
        assert 0 < len(images["half of the modes"]) < 60
        assert images.lacks(MODES) == ""


def test_too_few_images_have_no_clusters() -> None:
    few = torch.rand(19, 1, 8, 8)
    assert Degraded(few, few).lacks(MODES) == "clusters need 20 different images, and classes are not known"
    same = torch.zeros(60, 1, 8, 8)
    assert "different" in Degraded(same, same).lacks(MODES)


def test_clusters_that_lie_apart_are_found() -> None:
    points = torch.cat([torch.rand(20, 2), torch.rand(20, 2) + 9])
    found = k_means(points, 2, seed=0)
    assert len(found[:20].unique()) == len(found[20:].unique()) == 1
    assert found[0] != found[20]
