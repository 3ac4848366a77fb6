"""Checks of judges are made once for the same images and network, and anew for others."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from ssimgen.data import Images, Splits
from ssimgen.evaluation import Bootstrap, FeatureNetwork
from ssimgen.runs import checked_judges

FEW = Bootstrap(resamples=10)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSIMGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Counting:
    """A network of pixels that counts the images that it saw."""

    def __init__(self, factor: float = 1.0) -> None:
        self.images, self.factor = 0, factor

    def __call__(self, images: Tensor) -> Tensor:
        self.images += len(images)
        return self.factor * images.flatten(1)


@pytest.fixture
def splits() -> Splits:
    train, held_out = torch.rand(2, 44, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    return Splits(Images(train, None, "noise, training"), Images(held_out, None, "noise, held out"))


def check(splits: Splits, counting: Counting, *judges: str, images: int = 1000):
    return checked_judges(splits, FeatureNetwork("pixels", counting), judges=judges, images=images, bootstrap=FEW)


@pytest.mark.usefixtures("cache")
def test_what_was_found_is_recalled(splits: Splits) -> None:
    first, again = Counting(), Counting()
    found = check(splits, first, "recall", "precision")
    assert check(splits, again, "precision", "recall") == found[::-1]
    assert again.images < 10 < first.images


@pytest.mark.usefixtures("cache")
def test_judges_that_are_missing_are_added(splits: Splits) -> None:
    (recall,) = check(splits, Counting(), "recall")
    assert check(splits, Counting(), "recall", "c2st")[0] == recall
    later = Counting()
    assert [c.metric for c in check(splits, later, "c2st", "recall")] == ["C2ST, bits (pixels)", "recall (pixels)"]
    assert later.images < 10


@pytest.mark.usefixtures("cache")
def test_other_images_numbers_and_networks_are_checked_anew(splits: Splits) -> None:
    check(splits, Counting(), "recall")
    other = Splits(splits.train, Images(splits.held_out.pixels / 2, None, "dim"))
    for images, counting, most in ((other, Counting(), 1000), (splits, Counting(2.0), 1000), (splits, Counting(), 42)):
        (found,) = check(images, counting, "recall", images=most)
        assert counting.images > 10
        assert found.n == min(44, most)


def test_a_damaged_file_is_made_again(splits: Splits, cache: Path) -> None:
    found = check(splits, Counting(), "recall")
    (file,) = (cache / "judges").iterdir()
    for content in ('{"recall": {"kind": 3}}', "no json", "[]"):
        file.write_text(content)
        assert check(splits, Counting(), "recall") == found


def test_a_folder_that_cannot_be_written_is_no_hindrance(splits: Splits, cache: Path) -> None:
    cache.write_text("a file")
    assert check(splits, Counting(), "recall")[0].rankings


@pytest.mark.usefixtures("cache")
def test_no_more_images_are_read_than_fit_into_memory(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssimgen.evaluation.judges._BYTES", 30 * 4 * 36)
    read: list[int] = []
    select = Images.select

    def counting(images: Images, index):
        batch = select(images, index)
        read.append(len(batch.images))
        return batch

    monkeypatch.setattr(Images, "select", counting)
    (found,) = check(splits, Counting(), "recall")
    assert "no more than 30 of 6 x 6 px should be" in found.reason
    assert max(read) == 31
