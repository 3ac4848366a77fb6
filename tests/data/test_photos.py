"""Patches of photographs: where they stand, how they are split, what is refused."""

import pytest
import torch

from ssimgen.data import Source, load_images
from ssimgen.data.photos import patches


def test_patches_stand_on_a_grid_of_a_quarter_of_their_size():
    photograph = torch.arange(2 * 11 * 14).view(2, 11, 14).byte()
    cut = patches(photograph, 8)
    assert cut.shape == (2 * 4, 2, 8, 8)  # rows at 0 and 2, columns at 0, 2, 4, 6
    assert torch.equal(cut[0], photograph[:, :8, :8])
    assert torch.equal(cut[5], photograph[:, 2:10, 2:10])
    assert torch.equal(cut[7], photograph[:, 2:10, 6:14])


@pytest.mark.parametrize(("size", "side"), [(None, 32), (64, 64)])
def test_photos_are_split_by_photograph(size, side):
    train, held_out = load_images(Source("photos", size=size))
    assert train.shape == held_out.shape == (3, side, side)
    assert len(train) > 3 * len(held_out)
    assert len(held_out) > 200
    assert train.pixels.dtype == torch.uint8
    assert train.digest == load_images(Source("photos", size=size)).train.digest
    assert train.source == "photos, training"


def test_photos_can_be_grey():
    train, _ = load_images(Source("photos", size=96, grey=True))
    assert train.shape == (1, 96, 96)


def test_patches_larger_than_a_photograph():
    with pytest.raises(ValueError, match=r"patches of 200 px do not fit into a photograph of 225 x 150 px: ask for sm"):
        load_images(Source("photos", size=200))
