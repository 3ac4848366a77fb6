"""The study of borders: what is the border, what is measured there, and how it goes on."""

import csv
import runpy
from pathlib import Path

import pytest
import torch

from ssimgen.data import Images, Splits

STUDY = runpy.run_path(str(Path(__file__).parents[2] / "studies" / "padding.py"))


def test_every_pixel_is_of_the_border_or_inside() -> None:
    """Ten of 28 px a side are border, 784 - 18^2 pixels."""
    numbers = torch.arange(2 * 3 * 28 * 28).view(2, 3, 28, 28)
    parts = STUDY["parts"](numbers)
    assert {name: part.shape for name, part in parts.items()} == {"border": (2, 3 * 460), "inside": (2, 3 * 324)}
    assert torch.equal(torch.cat([*parts.values()], 1).sort(1).values, numbers.flatten(1))
    assert 5 * 28 + 4 in parts["border"]
    assert 5 * 28 + 5 in parts["inside"]


def test_energy_distance_in_units_of_pixels() -> None:
    """Two points 0.5 apart in every pixel: 2 x 0.5, less nothing within either set."""
    x = torch.full((4, 9), 0.25)
    assert STUDY["energy"](x, x + 0.5) == pytest.approx(1)
    assert STUDY["energy"](x, x) == 0


def test_a_study_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = torch.rand(160, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    splits = Splits(Images(noise[:128], None, "noise"), Images(noise[128:], None, "noise"))
    sets = {"SETS": {"noise": None}, "SEEDS": range(1), "ARMS": ("reflect", "l2"), "load_images": lambda _: splits}
    main = STUDY["main"]
    for name, value in sets.items():
        monkeypatch.setitem(main.__globals__, name, value)
    words = [str(tmp_path), "--seconds", "0.2"]
    main(words)
    path = tmp_path / "padding.csv"
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["arm"] for row in rows] == ["reflect", "l2"]
    assert all(0 < float(row["rmse border"]) < 1 for row in rows)
    whole = path.read_text()
    path.write_text(whole[:-3])  # torn within a number
    main(words)
    assert path.read_text().splitlines()[:2] == whole.splitlines()[:2]
    assert [row["arm"] for row in csv.DictReader(path.read_text().splitlines())] == ["reflect", "l2"]
    main([*words, "--budget", "0"])
    assert len(path.read_text().splitlines()) == 3
