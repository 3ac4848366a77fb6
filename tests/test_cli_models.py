"""Every model of `ssimgen train`: it trains, resumes with its own options, and is sampled."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from command_line import run
from ssimgen.models import MODELS
from ssimgen.training import load_model, read_metrics

SMALL = ["--network.kind", "mlp", "--network.hidden", "8", "--batch", "16", "--latent", "2"]
NEEDED = {"vae": ["--tau", "0.1"], "cgmmn": ["--num-classes", "2"]}
"""What a model asks for on the pictures of `tiny`."""
LABELLED = ["cgmmn", "aae", "gan", "lsgan"]
"""Models that draw classes, with --num-classes."""


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error."""
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ssimgen: ")
    return line


def write_pictures(folder: Path, classes: str) -> Path:
    """A folder of 40 random pictures, in a subfolder for each letter of `classes`."""
    values = np.random.default_rng(0).integers(0, 256, (40, 12, 12), dtype=np.uint8)
    for i, pixels in enumerate(values):
        path = folder / (classes[i % len(classes)] if classes else "") / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small pictures in two classes."""
    return write_pictures(tmp_path_factory.mktemp("tiny"), "ab")


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the same pictures without classes."""
    return write_pictures(tmp_path_factory.mktemp("unlabelled"), "")


@pytest.mark.parametrize("name", MODELS)
def test_every_model_trains_resumes_and_is_sampled(name: str, tiny: Path, tmp_path: Path) -> None:
    folder, options = tmp_path / "run", ["--data", tiny, "--iterations", "4", "--log-every", "1"]
    assert run("train", name, "-o", folder, *NEEDED.get(name, []), *SMALL, *options) == 0
    before = load_model(folder).state_dict()
    assert run("train", name, "-o", folder, "--resume", "--iterations", "6") == 0
    assert [line["iteration"] for line in read_metrics(folder)] == [1, 2, 3, 4, 5, 6]
    after = load_model(folder).state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in after)
    assert run("sample", folder, "-n", 3, "-o", tmp_path / "a.npy") == 0
    drawn = np.load(tmp_path / "a.npy")
    assert drawn.shape == (3, 1, 12, 12)
    assert 0 <= drawn.min() <= drawn.max() <= 1


@pytest.mark.parametrize("name", LABELLED)
def test_classes_that_the_data_lacks_are_missed(
    name: str, unlabelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--num-classes", "2", *SMALL]
    assert run("train", name, "-o", tmp_path / "x", "--data", unlabelled, *options) == 2
    assert "needs images with class numbers, and these have none: take a source with classes" in complaint(capsys)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", LABELLED)
def test_more_classes_than_the_model_knows_are_refused(
    name: str, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--num-classes", "1", *SMALL]
    assert run("train", name, "-o", tmp_path / "x", "--data", tiny, *options) == 2
    assert "labels must be class numbers from 0 to 0, got 0 to 1: set --num-classes" in complaint(capsys)
    assert not (tmp_path / "x").exists()


@pytest.fixture(scope="module")
def runs(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of a VAE, of a GAN and of a conditional GAN."""
    folder = tmp_path_factory.mktemp("runs")
    options = ["--data", tiny, "--iterations", "2", *SMALL]
    assert run("train", "vae", "-o", folder / "vae", *NEEDED["vae"], *options) == 0
    assert run("train", "gan", "-o", folder / "gan", *options) == 0
    assert run("train", "gan", "-o", folder / "classes", "--num-classes", "2", *options) == 0
    return {name: folder / name for name in ("vae", "gan", "classes")}


def test_samples_of_a_class(runs: dict[str, Path], tmp_path: Path) -> None:
    model = load_model(runs["classes"])
    for words, labels in ((["1"], [1] * 5), (["1", "0"], [1, 0, 1, 0, 1])):
        assert run("sample", runs["classes"], "-n", 5, "-o", tmp_path / "a.npy", "--class", *words) == 0
        expected = model.sample(5, torch.Generator().manual_seed(0), torch.tensor(labels))  # type: ignore[call-arg]
        np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), expected.numpy())


@pytest.mark.parametrize("name", ["vae", "gan", "classes"])
def test_interpolations_begin_and_end_with_images_of_noise(runs: dict[str, Path], name: str, tmp_path: Path) -> None:
    words = ["--rows", 3, "--columns", 5, "--seed", 4, "-o", tmp_path / "grid.png"]
    pixels = {}
    for path in ("spherical", "linear"):
        assert run("interpolate", runs[name], *words, "--path", path) == 0
        with Image.open(tmp_path / "grid.png") as picture:
            pixels[path] = np.asarray(picture)
    model = load_model(runs[name])
    labels = torch.tensor([0, 1, 0]) if name == "classes" else None
    z = model.noise(6, 2, torch.Generator().manual_seed(4))
    with torch.no_grad():
        ends = [model.draw(part, labels) for part in z.split(3)]  # type: ignore[operator]
    for grid in pixels.values():
        assert grid.shape == (3 * 14 + 2, 5 * 14 + 2)
        for row in range(3):
            for column, images in ((0, ends[0]), (4, ends[1])):
                tile = grid[14 * row + 2 : 14 * row + 14, 14 * column + 2 : 14 * column + 14]
                np.testing.assert_allclose(tile, images[row, 0].numpy() * 255, atol=0.51)  # rounded
    assert not np.array_equal(pixels["spherical"], pixels["linear"])


def test_interpolations_between_images_show_them(runs: dict[str, Path], tiny: Path, tmp_path: Path) -> None:
    words = ["--rows", 2, "--columns", 3, "--ends", "images", "-o", tmp_path / "grid.png"]
    assert run("interpolate", runs["vae"], *words) == 0
    with Image.open(tmp_path / "grid.png") as picture:
        grid = np.asarray(picture)
    assert grid.shape == (2 * 14 + 2, 5 * 14 + 2)
    known = [np.asarray(Image.open(path)) for path in tiny.rglob("*.png")]
    for row in (2, 16):
        for column in (2, 58):
            tile = grid[row : row + 12, column : column + 12]
            assert any(np.array_equal(tile, pixels) for pixels in known)


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("gan", ["--ends", "images"], "does not encode images: leave out --ends images"),
        ("gan", ["--class", "1"], "this model was trained without classes: leave out --class"),
        ("classes", ["--class", "2"], "--class must be from 0 to 1, got 2"),
        ("gan", ["--columns", "1"], "--rows must be at least 1 and --columns at least 2, got 8 and 1"),
        ("gan", ["-o", "x.npy"], "output x.npy must end in .png"),
        ("vae", ["--ends", "images", "--rows", "30"], "has 8 images, fewer than 60: fewer rows"),
    ],
)
def test_bad_requests_for_interpolations(
    runs: dict[str, Path],
    name: str,
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert run("interpolate", runs[name], *words) == 2
    assert message in complaint(capsys)
    assert not list(tmp_path.iterdir())


def test_a_collapse_is_told(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After training, not after its first iterations; and the remedy works."""
    words = ["train", "vae", "--data", tiny, "--batch", "8", "--network.kind", "mlp", "--network.hidden", "8"]
    assert run(*words, "--tau", "100", "--iterations", "1", "-o", tmp_path / "begun") == 0
    assert "nats of an image" not in capsys.readouterr().err
    assert run(*words, "--tau", "100", "--iterations", "500", "-o", tmp_path / "dead") == 0
    text = capsys.readouterr().err
    assert f"the code of {tmp_path / 'dead'} says" in text
    assert "train with a smaller --tau, or with --kl-target 25, which finds one" in text
    remedy = ["--tau", "100", "--kl-target", "25", "--iterations", "500", "-o", tmp_path / "alive"]
    assert run(*words, *remedy) == 0
    assert "nats of an image" not in capsys.readouterr().err
    assert read_metrics(tmp_path / "alive")[-1]["vae/kl"] > 10
