"""Files whose black and white are not the least and greatest value of their bits: `data_range` of sources."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from command_line import run
from ssimgen.data import Source, load_images, open_gallery, read_picture
from stored_pictures import png

LO, HI = -1024.0, 3071.0


@pytest.fixture
def scans(tmp_path: Path) -> np.ndarray:
    """Ten scans as signed TIFF, in the folder "scans"; the first one goes beyond the range."""
    values = np.random.default_rng(0).integers(LO, HI, (10, 16, 16), dtype=np.int16)
    values[0, 0, :2] = -2000, 4000
    (tmp_path / "scans").mkdir()
    for i, scan in enumerate(values):
        tifffile.imwrite(tmp_path / "scans" / f"{i}.tif", scan)
    return values


def unit(values: np.ndarray) -> np.ndarray:
    return ((values - LO) / (HI - LO)).clip(0, 1)


def test_a_folder_of_scans(scans: np.ndarray, tmp_path: Path) -> None:
    """As bytes to train on, in full in a gallery; what is cut off is said once."""
    said: list[str] = []
    train, held_out = load_images(Source(str(tmp_path / "scans"), data_range=(LO, HI)), said.append)
    assert said == [
        f"10 of 10 pictures of {tmp_path / 'scans'} have more than 8 bits a channel, rounded to 8",
        f"1 of 10 pictures of {tmp_path / 'scans'} have values beyond the data range, cut off",
    ]
    pixels = torch.cat([train.pixels, held_out.pixels])[:, 0].numpy()
    expected = {(255 * unit(scan)).round().astype(np.uint8).tobytes() for scan in scans}
    assert {image.tobytes() for image in pixels} == expected

    said.clear()
    gallery = open_gallery(Source(str(tmp_path / "scans"), data_range=(LO, HI)), said.append)
    images = gallery.images(range(10))[:, 0].numpy()
    np.testing.assert_allclose(images, unit(scans[[int(name.split(".")[0]) for name in gallery.names]]), atol=1e-6)
    first = tmp_path / "scans" / "0.tif"
    assert said == [f"pictures such as {first} have values beyond the data range, which are cut off"]


def test_one_picture_is_not_cut(scans: np.ndarray, tmp_path: Path) -> None:
    image = read_picture(tmp_path / "scans" / "0.tif", Source(data_range=(LO, HI), data="."))
    np.testing.assert_allclose(image[0], (scans[0] - LO) / (HI - LO), atol=1e-6)


def test_twelve_bits_in_sixteen(tmp_path: Path) -> None:
    twelve = np.random.default_rng(0).integers(0, 4096, (4, 16, 16, 1))
    for i, values in enumerate(twelve):
        (tmp_path / f"{i}.png").write_bytes(png(values, 16, 0))
    gallery = open_gallery(str(tmp_path), data_range=(4095,))
    np.testing.assert_allclose(gallery.images(range(4))[:, 0], twelve[..., 0] / 4095, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.uint8, np.float64])
def test_arrays_of_any_numbers(dtype: type[np.generic], tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(10, 200, (5, 8, 8)).astype(dtype)
    np.savez(tmp_path / "x.npz", x_train=values, x_test=values[:2])
    train, held_out = load_images(str(tmp_path / "x.npz"), data_range=(10, 200))
    np.testing.assert_allclose(train.pixels[:, 0], (values.astype(float) - 10) / 190, atol=1e-6)
    assert held_out.pixels.dtype == torch.float32
    with pytest.raises(ValueError, match=r"x_train must be in \[0, 100\], got \[1\d, 19\d\]: give a wider data_range"):
        load_images(str(tmp_path / "x.npz"), data_range=(100,))


def test_what_has_no_range_of_its_own_to_give(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\0\0\x08\3" + b"".join(n.to_bytes(4, "big") for n in (4, 8, 8)) + bytes(256))
    with pytest.raises(ValueError, match=r"^data_range is of files, and mnist5k has none: leave it out$"):
        Source(data_range=(0, 1))
    with pytest.raises(ValueError, match=r"^data_range is of pictures and arrays, and .*x holds bytes of IDX"):
        load_images(str(tmp_path / "x"), data_range=(0, 255))
    for bad in ((), (0,), (1, 0), (0, 1, 2)):
        with pytest.raises(ValueError, match=r"^data_range must be a positive number l"):
            Source("x", data_range=bad)


def test_commands_take_it(scans: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, words = tmp_path / "scans", ["--data-range", LO, HI]
    assert run("neighbours", folder / "1.tif", folder, "--json", *words) == 0
    assert len(json.loads(capsys.readouterr().out)["neighbours"]) == 9
    assert run("test-samples", folder, folder, "--json", "--permutations", 19, "--level", 0.1, *words) == 0
    assert json.loads(capsys.readouterr().out)
    options = ["--iterations", 1, "--batch", 4, "-o", tmp_path / "run", "--data", folder]
    assert run("train", "vae", "--tau", 0.1, *options, *words) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["source"]["data_range"] == [LO, HI]
    assert run("neighbours", folder / "1.tif", folder) == 2
    assert "without a fixed range: give it as --data-range" in capsys.readouterr().err
