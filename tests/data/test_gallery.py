"""Galleries: the same images as the sets they come from, by name, a few at a time."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssimgen.data import Source, load_images, open_gallery, read_picture


def save(path: Path, *shape: int, seed: int = 0) -> np.ndarray:
    """Write random bytes as a picture."""
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def test_a_folder_by_the_names_of_its_files(tmp_path: Path) -> None:
    pixels = {name: save(tmp_path / name, 8, 9, seed=i) for i, name in enumerate(["b.png", "a.png", "c/d.png"])}
    (tmp_path / "notes.txt").write_text("no picture")
    gallery = open_gallery(str(tmp_path))
    assert gallery.names == ["a.png", "b.png", "c/d.png"]
    assert (len(gallery), gallery.source) == (3, str(tmp_path))
    images = gallery.images([2, 0])
    assert images.dtype == torch.float32
    np.testing.assert_array_equal((images * 255).round().byte()[:, 0], np.stack([pixels["c/d.png"], pixels["a.png"]]))


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    save(tmp_path / "good.png", 8, 8)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    gallery = open_gallery(str(tmp_path))
    assert gallery.images([gallery.names.index("good.png")]).shape == (1, 1, 8, 8)
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'bad.png'} is not a picture")):
        gallery.images([0, 1])


def test_a_file_by_numbers(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "x.npy", pixels)
    gallery = open_gallery(str(tmp_path / "x.npy"))
    assert gallery.names == ["0", "1", "2", "3", "4"]
    np.testing.assert_array_equal((gallery.images([3, 1]) * 255).round().byte()[:, 0], pixels[[3, 1]])


def test_training_and_test_images_are_one_gallery(tmp_path: Path) -> None:
    train, test = (np.full((n, 8, 8), n, dtype=np.uint8) for n in (3, 2))
    np.savez(tmp_path / "x.npz", x_train=train, x_test=test)
    gallery = open_gallery(str(tmp_path / "x.npz"))
    path = tmp_path / "x.npz"
    assert gallery.names[2:4] == [f"{path}, x_train 2", f"{path}, x_test 0"]
    assert gallery.images([2, 3])[:, 0, 0, 0].mul(255).round().tolist() == [3, 2]


def test_a_named_source() -> None:
    gallery = open_gallery("mnist5k")
    assert len(gallery) == 5000
    parts = load_images("mnist5k")
    everything = {image.numpy().tobytes() for part in parts for image in part.select(slice(None)).images}
    assert all(image.numpy().tobytes() in everything for image in gallery.images(range(20)))


def test_images_are_made_to_fit(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 20, 30, 3)
    source = Source(str(tmp_path), size=8, grey=True)
    image = open_gallery(source).images([0])[0]
    assert image.shape == (1, 8, 8)
    assert torch.equal(image, read_picture(tmp_path / "a.png", source))


def test_grey_pictures_among_coloured_ones(tmp_path: Path) -> None:
    grey = save(tmp_path / "a.png", 8, 8)
    save(tmp_path / "b.png", 8, 8, 3)
    gallery = open_gallery(str(tmp_path))
    assert gallery.images([0]).shape[1] == 1
    images = gallery.images([0, 1])
    assert images.shape[1] == 3
    np.testing.assert_array_equal((images[0] * 255).round().byte(), np.stack([grey] * 3))


def test_different_sizes_are_named(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 8, 8)
    save(tmp_path / "b.png", 8, 9)
    with pytest.raises(ValueError, match=r"differ in size: a.png is 8 x 8 px, b.png is 9 x 8 px: give a size"):
        open_gallery(str(tmp_path)).images([0, 1])


def test_the_place_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.png", "c/d.png"):
        save(tmp_path / "set" / name, 8, 8)
    save(tmp_path / "a.png", 8, 8)
    monkeypatch.chdir(tmp_path)
    gallery = open_gallery("set")
    assert gallery.place(tmp_path / "set" / "c" / "d.png") == 1
    assert gallery.place(Path("set/../set/a.png")) == 0
    assert gallery.place(Path("a.png")) is None
    np.save(tmp_path / "x.npy", np.zeros((2, 8, 8), dtype=np.uint8))
    assert open_gallery("x.npy").place(Path("x.npy")) is None


def test_nothing_to_show(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no pictures"):
        open_gallery(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no such data"):
        open_gallery(str(tmp_path / "none"))
