"""Nearest neighbours: those of all distances at once, whatever the batches."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from ssimgen import Window, ssim
from ssimgen.data import Gallery
from ssimgen.evaluation import neighbours as module
from ssimgen.evaluation.neighbours import neighbours
from ssimgen.metrics import StructuralDistance

METRIC = StructuralDistance(1.0, window=Window.uniform(3))


def gallery(images: Sequence[Tensor]) -> Gallery:
    """Of images in memory."""
    return Gallery("memory", [f"{i}.png" for i in range(len(images))], lambda i: images[i])


@pytest.fixture
def images(generator: torch.Generator) -> Tensor:
    return torch.rand(20, 1, 6, 6, generator=generator)


def test_they_are_the_least_of_all_distances(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BATCH", 7)
    query = images[4] * 0.9 + 0.05
    found = neighbours(query, gallery(images), METRIC, number=6)
    distances, order = METRIC(query[None], images)[0].sort()
    assert [z.name for z in found] == [f"{i}.png" for i in order[:6].tolist()]
    assert found[0].name == "4.png"
    assert [z.distance for z in found] == pytest.approx(distances[:6].tolist(), rel=1e-5)
    expected = ssim(query.expand(6, -1, -1, -1), images[order[:6]], data_range=1.0, window=METRIC.window)
    assert [z.ssim for z in found] == pytest.approx(expected.tolist(), abs=1e-5)
    assert torch.equal(found[0].image, images[4])


def test_the_query_is_left_out_and_its_copies_are_found(images: Tensor) -> None:
    images[[9, 13]] = images[4].clone()
    found = neighbours(images[4], gallery(images), METRIC, number=3, leave_out=4)
    assert [z.name for z in found[:2]] == ["9.png", "13.png"]  # equally near: in their order
    assert [z.distance for z in found[:2]] == [0, 0]
    assert found[2].distance > 0


def test_fewer_than_asked_for(images: Tensor) -> None:
    assert len(neighbours(images[0], gallery(images[:3]), METRIC, number=10, leave_out=0)) == 2


def test_grey_images_beside_a_coloured_query(images: Tensor) -> None:
    query = images[:1].expand(1, 3, 6, 6)[0]
    assert neighbours(query, gallery(images), METRIC, number=1)[0].name == "0.png"


def test_refusals(images: Tensor) -> None:
    with pytest.raises(ValueError, match="number must be at least 1, got 0"):
        neighbours(images[0], gallery(images), METRIC, number=0)
    with pytest.raises(ValueError, match="memory holds no image but the query"):
        neighbours(images[0], gallery(images[:1]), METRIC, number=1, leave_out=0)
    with pytest.raises(ValueError, match=r"query is 6 x 5 px, but 0.png of memory is 6 x 6 px: .* --size"):
        neighbours(images[0, :, :5], gallery(images), METRIC, number=1)
    with pytest.raises(ValueError, match="query is grey, but memory holds coloured images: turn all grey, with --grey"):
        neighbours(images[0], gallery(images.expand(-1, 3, -1, -1)), METRIC, number=1)
