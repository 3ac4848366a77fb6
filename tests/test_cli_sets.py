"""The commands test-samples and neighbours: what they find, print and leave, and one line and exit code 2 otherwise."""

import gzip
import json
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from command_line import complaint, run
from ssimgen.data import load_images
from ssimgen.evaluation.sets import compare_sets


def save_all(folder: Path, images: np.ndarray) -> Path:
    """A folder of PNG files 000.png, 001.png, ..."""
    folder.mkdir(parents=True)
    for i, pixels in enumerate(images):
        Image.fromarray(pixels).save(folder / f"{i:03}.png")
    return folder


def idx(path: Path, images: np.ndarray) -> Path:
    """An IDX file, gzipped."""
    header = bytes([0, 0, 8, 3]) + struct.pack(">3I", *images.shape)
    path.write_bytes(gzip.compress(header + images.tobytes()))
    return path


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    """300 MNIST digits, as bytes."""
    return load_images("mnist5k").train.pixels[:300, 0].numpy()


@pytest.fixture(scope="module")
def sets(digits: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """100 digits in a folder; 100 others in an IDX file; the others blurred by 1 px in an .npz file."""
    folder = tmp_path_factory.mktemp("sets")
    blurred = gaussian_filter(digits[100:200].astype(float), (0, 1, 1)).round().astype(np.uint8)
    np.savez(folder / "blurred.npz", images=blurred)
    return {
        "digits": save_all(folder / "digits", digits[:100]),
        "others": idx(folder / "others-images-idx3-ubyte.gz", digits[100:200]),
        "blurred": folder / "blurred.npz",
    }


# --- test-samples -------------------------------------------------------------------------------------------------


def test_blurred_digits_are_found(sets: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("test-samples", sets["digits"], sets["blurred"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert re.search(r"^the sets differ: p = 0\.000999, level 0\.05, 1,000 permutations", out, re.MULTILINE)
    assert "kernel: Gaussian on luminance, contrast and structure" in out
    rows = {words[1]: words for line in out.splitlines() if len(words := line.split()) > 6 and words[0] == "│"}
    assert set(rows) == {"luminance", "contrast", "structure", "pixels"}
    assert float(rows["contrast"][9]) == pytest.approx(4 / 1001, rel=1e-3)  # Holm, of four
    assert float(rows["contrast"][11]) > float(rows["contrast"][13])  # blur lowers it
    assert re.search(r"^images of A whose like is rarest in B: \d+\.png, ", out, re.MULTILINE)


def test_digits_are_not_told_from_digits(sets: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("test-samples", sets["digits"], sets["others"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^no difference found, .*: p = 0\.\d+", out, re.MULTILINE)
    assert "rarest" not in out


def test_json_says_the_same(sets: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("test-samples", sets["digits"], sets["blurred"], "--json", "--kernel", "pixels", "--level", "0.01") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["differ"] is True
    assert found["p_value"] == 1 / 1001
    assert found["mmd2"] == found["respects"]["pixels"]["mmd2"]
    assert (found["level"], found["permutations"]) == (0.01, 1000)
    assert found["a"] == {"source": str(sets["digits"]), "images": 100, "of": 100}
    assert len(found["witnesses"]["a"]) == 24
    assert all((sets["digits"] / name).is_file() for name in found["witnesses"]["a"])


def test_a_part_is_drawn_by_the_seed(sets: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    def found(*options: object) -> dict:
        words = (
            "test-samples",
            sets["digits"],
            sets["others"],
            "--images",
            20,
            "--json",
            "--kernel",
            "pixels",
            *options,
        )
        assert run(*words) == 0
        return json.loads(capsys.readouterr().out)

    first, again, other = found(), found("--seed", 0), found("--seed", 1)
    assert (first["a"]["images"], first["a"]["of"]) == (20, 100)
    assert first == again
    assert set(first["witnesses"]["a"]) != set(other["witnesses"]["a"])


def test_only_the_drawn_pictures_are_read(
    sets: dict[str, Path], digits: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A damaged picture does no harm where it is not drawn, and is named where it is."""
    folder = save_all(tmp_path / "set", digits[:30])
    (folder / "030.png").write_bytes((folder / "000.png").read_bytes()[:100])
    codes = {seed: run("test-samples", folder, sets["others"], "--images", 20, "--seed", seed) for seed in range(4)}
    assert set(codes.values()) == {0, 2}
    assert f"ssimgen: {folder / '030.png'} is damaged" in capsys.readouterr().err


def test_the_picture_of_witnesses(sets: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "new" / "witnesses.png"
    assert run("test-samples", sets["digits"], sets["blurred"], "--picture", path, "--kernel", "pixels") == 0
    assert [file.name for file in path.parent.iterdir()] == ["witnesses.png"]
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("L"))
        assert picture.format == "PNG"
    assert pixels.shape[1] == 1320
    assert 0.4 < (pixels < 100).mean() < 0.9  # two rows of digits on black each, on white


def test_pairs_and_shared_images_are_said(
    sets: dict[str, Path], digits: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A set against itself, a little darker: p is near 1, and says nothing."""
    darker = save_all(tmp_path / "darker", (0.9 * digits[:30]).astype(np.uint8))
    same = save_all(tmp_path / "same", digits[:30])
    path, options = tmp_path / "witnesses.png", ("--kernel", "pixels", "--images", "30")
    assert run("test-samples", same, darker, *options, "--picture", path) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert re.search(r"\d\d of 60 images have their nearest one in the other set, by chance 3\d: are the same", out)
    assert "are also in A" not in out
    assert run("test-samples", same, same, *options) == 0
    assert "30 images of B are also in A: the sets are not independent" in " ".join(capsys.readouterr().out.split())
    assert run("test-samples", same, same, *options, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["shared"], found["paired"]) == (30, True)
    assert run("test-samples", sets["digits"], sets["others"], "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["shared"], found["paired"]) == (0, False)


def test_patches_are_those_of_the_library(
    digits: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = save_all(tmp_path / "a", digits[:25]), save_all(tmp_path / "b", digits[25:50])
    assert run("test-samples", a, b, "--json", "--permutations", 19) == 0
    printed = json.loads(capsys.readouterr().out)
    x, y = (torch.tensor(z[:, None] / 255).float() for z in (digits[:25], digits[25:50]))
    expected = compare_sets(x, y, permutations=19).test.statistic
    assert printed["mmd2"] == pytest.approx(expected, rel=1e-4)


def test_pictures_are_made_to_fit(digits: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Grey digits against larger coloured ones."""
    coloured = np.repeat(digits[30:60].repeat(2, 1).repeat(2, 2)[..., None], 3, 3)
    a, b = save_all(tmp_path / "a", digits[:30]), save_all(tmp_path / "b", coloured)
    options = ("--json", "--window", 5, "--stride", 4, "--permutations", 99)
    assert run("test-samples", a, b, *options) == 2
    assert complaint(capsys) == f"images of {a} are 28 x 28 px, but those of {b} are 56 x 56 px: " + (
        "give a size to scale to, with --size"
    )
    assert run("test-samples", a, b, "--size", 14, *options) == 2
    assert complaint(capsys) == f"images of {a} are grey, but those of {b} are coloured: turn all grey, with --grey"
    assert run("test-samples", a, b, "--size", 14, "--grey", *options) == 0
    assert json.loads(capsys.readouterr().out)["differ"] is False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--permutations", 10], "10 permutations .* cannot reach level 0.05: pass --permutations 19 or more"),
        (["--level", 0], "level must lie between 0 and 1, got 0.0"),
        (["--level", 1e-9], "pass --permutations 999999999 or more"),
        (["--images", 1], "images must be at least 2, got 1"),
        (["--images", 2], "samples of 2 and 2 points have 6 splits, too few"),
        (["--window", 29], "window of 29 x 29 px does not fit images of 28 x 28 px: pass --window 28 or smaller"),
        (["--window", 0], "--window must be at least 1 pixel, got 0"),
        (["--sigma", 0.01], "too small for a window of 11 px, .* take a smaller window or a larger sigma"),
        (["--background", "whit"], "background must be a colour such as white"),
        (["--sigma", -1], "sigma must be a positive number of pixels, got -1.0"),
        (["--k2", 0], "k2 must be a positive number, got 0.0"),
        (["--picture", "w.jpg"], "output w.jpg must end in .png"),
        (["--size", 0], "size must be from 1 to 10000 pixels, got 0"),
    ],
)
def test_options_out_of_range(
    options: list[object],
    message: str,
    sets: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("test-samples", sets["digits"], sets["others"], *options) == 2
    assert re.search(message, complaint(capsys))
    assert list(tmp_path.iterdir()) == []


def test_sets_that_cannot_be_read(
    sets: dict[str, Path], digits: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    damaged = tmp_path / "damaged.npz"
    damaged.write_bytes(sets["blurred"].read_bytes()[:1000])
    one = save_all(tmp_path / "one", digits[:1])
    flat = save_all(tmp_path / "flat", np.full((20, 28, 28), 7, np.uint8))
    mixed = save_all(tmp_path / "mixed", digits[:20])
    Image.fromarray(digits[0][:20]).save(mixed / "020.png")
    for path, message in (
        (tmp_path / "none", "no such data"),
        (empty, "holds no pictures"),
        (damaged, f"{damaged} is damaged"),
        (one, f"{one} holds one image, and a test needs two or more"),
        (mixed, "000.png is 28 x 28 px, 020.png is 28 x 20 px: give a size"),
    ):
        for pair in ((path, sets["digits"]), (sets["digits"], path)):
            assert run("test-samples", *pair) == 2
            assert message in complaint(capsys)
    assert run("test-samples", flat, flat) == 2
    assert "most images are equal in what the kernel compares" in complaint(capsys)


def test_a_picture_that_cannot_be_written(
    sets: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    for command in (["test-samples", sets["digits"], sets["others"]], ["neighbours", sets["digits"] / "000.png", "x"]):
        assert run(*command, "--picture", tmp_path / "file" / "w.png") == 2
        assert "cannot write to the folder" in complaint(capsys)
        assert run(*command, "--picture", tmp_path) == 2
        assert "must end in .png" in complaint(capsys)


# --- neighbours ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def album(digits: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 digits, and a copy of the fifth with a few grey levels more."""
    folder = save_all(tmp_path_factory.mktemp("album") / "digits", digits[:40])
    Image.fromarray(np.clip(digits[5].astype(int) + 3, 0, 255).astype(np.uint8)).save(folder / "copy.png")
    return folder


def test_the_copy_is_nearest(album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "near.png"
    assert run("neighbours", album / "005.png", album, "-n", 3, "--picture", path) == 0
    out, err = capsys.readouterr()
    assert err == ""
    ranks = [line.split()[1::2] for line in out.splitlines() if line.startswith("│")]
    assert [rank for rank, *_ in ranks] == ["1", "2", "3"]
    assert ranks[0][3] == "copy.png"
    assert "005.png" not in [name for *_, name in ranks]  # the query itself
    distances = [float(distance) for _, distance, *_ in ranks]
    assert 0 < distances[0] < distances[1] / 2 < distances[2]
    with Image.open(path) as picture:
        assert picture.width > picture.height


def test_neighbours_as_json_in_a_file_of_another_size(
    album: Path, digits: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "large.npy", digits[:40].repeat(2, 1).repeat(2, 2))
    words = ("neighbours", album / "007.png", tmp_path / "large.npy", "--json", "--number", 2)
    assert run(*words) == 2
    assert "the query is 28 x 28 px, but 0 of" in complaint(capsys)
    assert run(*words, "--size", 28, "--form", "centred") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["neighbours"][0]["image"] == "7"
    assert found["neighbours"][0]["ssim"] > 0.9


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.png", "{album}"], "no such file: none.png"),
        (["{album}/notes.txt", "{album}"], "notes.txt is not a picture"),
        (["{album}/005.png", "none"], "no such data: 'none'"),
        (["{album}/005.png", "{album}", "-n", 0], "number must be at least 1, got 0"),
        (
            ["{album}/005.png", "{album}", "--window", 40],
            "window of 40 x 40 px does not fit images of 28 x 28 px: pass --window 28",
        ),
    ],
)
def test_neighbours_refuses(words: list[object], message: str, album: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (album / "notes.txt").write_text("no picture")
    assert run("neighbours", *(str(word).format(album=album) for word in words)) == 2
    assert message in complaint(capsys)


@pytest.mark.parametrize("command", ["test-samples", "neighbours"])
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, "--help") == 0
    out = capsys.readouterr().out
    assert f"usage: ssimgen {command}" in out
    assert "--picture" in out
    assert run(command) == 2
