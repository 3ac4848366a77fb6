"""Images of any size through a model of one size: where tiles stand, how they fade, and what a detector makes of it."""

import numpy as np
import pytest
import torch
from torch import Tensor

from ssimgen.detection import Detector, anomaly_map, reconstruct_in_tiles
from ssimgen.detection.tiles import _starts
from ssimgen.models import AAE, GAN, AAEConfig, GANConfig, PlainAutoencoder, PlainAutoencoderConfig, make_model
from ssimgen.models.networks import Network

SMALL = Network("mlp", hidden=(8,))


@pytest.mark.parametrize(("length", "side", "overlap"), [(64, 64, 0.5), (65, 64, 0.5), (300, 64, 0.25), (50, 7, 0.9)])
def test_tiles_cover_an_axis_evenly(length: int, side: int, overlap: float) -> None:
    starts = _starts(length, side, overlap)
    assert (starts[0], starts[-1]) == (0, length - side)
    gaps = np.diff(starts)
    assert (gaps <= max(1, side * (1 - overlap) + 0.5)).all()
    assert len(starts) == 1 or gaps.max() - gaps.min() <= 1
    assert len(_starts(length, side, 0.0)) == -(-length // side)  # no more than it takes


def test_reconstructions_fade_into_each_other() -> None:
    """Two tiles, one after the other: at each row the weighted mean of both, by the formula."""
    image = torch.zeros(1, 24, 16)
    grey = iter([0.2, 0.6])

    def reconstruct(tiles: Tensor) -> Tensor:
        return torch.stack([torch.full_like(tile, next(grey)) for tile in tiles])

    found = reconstruct_in_tiles(reconstruct, image, (16, 16))
    for row in range(24):
        weights = [np.sin(np.pi * (i + 0.5) / 16) ** 2 if 0 <= i < 16 else 0.0 for i in (row, row - 8)]
        expected = np.dot(weights, [0.2, 0.6]) / sum(weights)
        np.testing.assert_allclose(found[0, row], expected, rtol=1e-5)
    assert found[0].diff(dim=0).abs().max() < 0.1


def test_tiles_are_parts_of_the_image() -> None:
    image, seen = torch.rand(3, 40, 100), []

    def reconstruct(tiles: Tensor) -> Tensor:
        seen.append(len(tiles))
        return 1 - tiles

    torch.testing.assert_close(reconstruct_in_tiles(reconstruct, image, (16, 8), 0.75), 1 - image)
    assert sum(seen) == 7 * 47
    assert max(seen) == 32


def test_an_image_of_the_size_of_a_tile_is_one() -> None:
    image = torch.rand(1, 16, 16)
    assert torch.equal(reconstruct_in_tiles(lambda tiles: tiles / 3, image, (16, 16)), image / 3)


@pytest.mark.usefixtures("no_shape_checks")
def test_bad_tiles_are_refused() -> None:
    with pytest.raises(ValueError, match="is 12 x 40 px, smaller than the 16 x 16 px that the model was trained on"):
        reconstruct_in_tiles(lambda tiles: tiles, torch.rand(1, 12, 40), (16, 16))
    with pytest.raises(ValueError, match=r"overlap must be a fraction in \[0, 1\), got 1.0"):
        reconstruct_in_tiles(lambda tiles: tiles, torch.rand(1, 40, 40), (16, 16), 1.0)


@pytest.fixture
def model() -> PlainAutoencoder:
    """An untrained autoencoder of coloured images of 16 px."""
    config = PlainAutoencoderConfig(latent=4, network=SMALL)
    return make_model(PlainAutoencoder, config, (3, 16, 16), seed=1).eval()


def test_a_detector_compares_an_image_with_what_comes_back(model: PlainAutoencoder) -> None:
    image = torch.rand(3, 20, 35)
    found = Detector(model, "l2", smoothing=1.0)(image)
    back = reconstruct_in_tiles(model.reconstruct, image, (16, 16))
    torch.testing.assert_close(found.reconstruction, back)
    expected = anomaly_map(image[None], back[None], data_range=1.0, residual="l2", smoothing=1.0)[0]
    torch.testing.assert_close(found.map, expected)
    assert found.score == expected.max().item()


def test_grey_images_are_seen_in_colour(model: PlainAutoencoder) -> None:
    grey = torch.rand(1, 16, 16)
    assert torch.equal(Detector(model)(grey).map, Detector(model)(grey.expand(3, -1, -1)).map)


def test_images_are_scaled_and_maps_scaled_back(model: PlainAutoencoder) -> None:
    detector = Detector(model, size=16)
    assert detector.seen_size(40, 64) == (16, 26)
    assert detector.seen_size(9, 5) == (29, 16)
    small = torch.rand(3, 16, 26)
    large = torch.nn.functional.interpolate(small[None], (40, 65), mode="bicubic")[0].clamp(0, 1)
    found, direct = detector(large), Detector(model)(small)
    assert found.map.shape == (40, 65)
    assert found.reconstruction.shape == large.shape
    assert found.score == pytest.approx(direct.score, rel=0.2)


@pytest.mark.usefixtures("no_shape_checks")
def test_what_no_detector_takes_is_refused(model: PlainAutoencoder) -> None:
    gan = GAN(GANConfig(network=SMALL), (1, 16, 16))
    message = "a gan draws images but does not reconstruct them: take one of vae, aae, autoencoder, code-gmmn"
    with pytest.raises(ValueError, match=message):
        Detector(gan)
    with pytest.raises(ValueError, match="is 16 x 12 px, smaller than the 16 x 16 px"):
        Detector(model)(torch.rand(3, 16, 12))
    grey = AAE(AAEConfig(network=SMALL), (1, 16, 16))
    with pytest.raises(ValueError, match="has 3 channels, and the model was trained on grey images: turn it into grey"):
        Detector(grey)(torch.rand(3, 16, 16))
