"""Studies of autoencoders: what is the border, what becomes of pixels in another order, and how they go on."""

import csv
import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch

from ssimgen import ssim
from ssimgen.data import Images, Splits
from ssimgen.models import make_model

STUDIES = Path(__file__).parents[2] / "studies"


@pytest.fixture(params=["padding", "locality"])
def study(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return imported(request.param, monkeypatch)


def imported(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A script, as a module."""
    monkeypatch.syspath_prepend(STUDIES)
    return importlib.import_module(name)


def test_every_pixel_is_of_the_border_or_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten of 28 px a side are border, 784 - 18^2 pixels."""
    numbers = torch.arange(2 * 3 * 28 * 28).view(2, 3, 28, 28)
    parts = imported("padding", monkeypatch).parts(numbers)
    assert {name: part.shape for name, part in parts.items()} == {"border": (2, 3 * 460), "inside": (2, 3 * 324)}
    assert torch.equal(torch.cat([*parts.values()], 1).sort(1).values, numbers.flatten(1))
    assert 5 * 28 + 4 in parts["border"]
    assert 5 * 28 + 5 in parts["inside"]


def test_energy_distance_in_units_of_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two points 0.5 apart in every pixel: 2 x 0.5, less nothing within either set."""
    x, energy = torch.full((4, 9), 0.25), imported("padding", monkeypatch).energy
    assert energy(x, x + 0.5) == pytest.approx(1)
    assert energy(x, x) == 0


def test_pixels_in_another_order_are_compared_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    """A permuted image is a fixed one to the error, of all channels alike; its own pixels are all there."""
    locality = imported("locality", monkeypatch)
    model = make_model(locality.VAE, locality.config("ssim"), (3, 16, 16), seed=0)
    x, y = torch.rand(2, 4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    error = locality.Permuted(model, 5)
    order = torch.randperm(256, generator=torch.Generator().manual_seed(5))
    assert not torch.equal(order, torch.arange(256))
    expected = 1 - ssim(*(z.flatten(2)[..., order].view(4, 3, 16, 16) for z in (y, x)), data_range=1.0)
    torch.testing.assert_close(error(y, x), expected)
    assert not error(x, x).any()


def test_a_study_goes_on_where_it_was(study: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = torch.rand(160, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    splits = Splits(Images(noise[:128], None, "noise"), Images(noise[128:], None, "noise"))
    arms = study.ARMS[-2:]
    monkeypatch.setattr(study, "SETS", {"noise": None})
    monkeypatch.setattr(study, "ARMS", arms)
    shared = importlib.import_module("_autoencoders")
    monkeypatch.setattr(shared, "SEEDS", range(1))
    monkeypatch.setattr(shared, "load_images", lambda _: splits)
    words = [str(tmp_path), "--seconds", "0.2"]
    study.main(words)
    path = tmp_path / f"{study.__name__}.csv"
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["arm"] for row in rows] == list(arms)
    assert all(
        float(number) > 0 for row in rows for key, number in row.items() if key not in ("data", "arm", "seed", "SSIM")
    )
    whole = path.read_text()
    path.write_text(whole[:-3])  # torn within a number
    study.main(words)
    assert path.read_text().splitlines()[:2] == whole.splitlines()[:2]
    assert [row["arm"] for row in csv.DictReader(path.read_text().splitlines())] == list(arms)
    study.main([*words, "--budget", "0"])
    assert len(path.read_text().splitlines()) == 3
