"""The command detect: what it finds, writes and says, and one line, exit code 2 and nothing left otherwise."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from command_line import complaint, run
from ssimgen import pictures
from ssimgen.data import Images, open_gallery
from ssimgen.detection import Detector, conformal_threshold
from ssimgen.models import MODELS, PlainAutoencoder, PlainAutoencoderConfig, make_model
from ssimgen.models.networks import Network
from ssimgen.runs.evaluation import images_of_run
from ssimgen.training import Training, load_model, train

pytestmark = pytest.mark.usefixtures("eager_engine")

SIDE = 16
SMALL = ["--network.kind", "mlp", "--network.hidden", "32", "--batch", "16", "--iterations", "150"]


def waves(n: int, height: int, width: int, seed: int) -> np.ndarray:
    """Good images: gentle waves of any phase."""
    phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, (n, 2, 1, 1))
    rows, columns = np.arange(height)[:, None], np.arange(width)
    values = 0.5 + 0.2 * np.sin(rows / 3 + phases[:, 0]) + 0.2 * np.sin(columns / 4 + phases[:, 1])
    return (255 * values).astype(np.uint8)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """good/ and a run of it; test/ of other sizes, in which 1.png and 3.png have defects, and their masks."""
    folder = tmp_path_factory.mktemp("detect")
    for name in ("good", "test/a", "masks/a"):
        (folder / name).mkdir(parents=True)
    for i, image in enumerate(waves(200, SIDE, SIDE, 0)):
        Image.fromarray(image).save(folder / "good" / f"{i:03}.png")
    for i, image in enumerate(waves(6, 24, 30, 1)):
        mask = np.zeros_like(image)
        if i in (1, 3):
            mask[8:12, 5:25] = 255
            image[mask > 0] = 255
            Image.fromarray(mask).save(folder / "masks" / "a" / f"{i}{'_mask' * (i == 3)}.png")
        Image.fromarray(image).save(folder / "test" / "a" / f"{i}.png")
    assert run("train", "autoencoder", "-o", folder / "run", "--data", folder / "good", *SMALL) == 0
    return folder


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "scores.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_defects_are_found(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    out = tmp_path / "new" / "out"
    words = ["--masks", place / "masks", "--resamples", 20, "--maps", "--residual", "l2"]
    assert run("detect", place / "run", place / "test", "-o", out, *words) == 0
    said, notes = capsys.readouterr()
    assert "2 images with 2 defects, 4 good ones" in said
    assert notes.count("\n") == 1
    assert "6 of 6 images are larger than the good ones by which the threshold was set" in notes
    found = {row["image"]: row for row in rows(out)}
    assert list(found) == [f"a/{i}.png" for i in range(6)]
    assert [row["defect"] for row in found.values()] == ["0", "1", "0", "1", "0", "0"]
    assert {name for name, row in found.items() if row["flagged"] == "1"} >= {"a/1.png", "a/3.png"}
    record = json.loads((out / "detection.json").read_text())
    assert record["evaluation"]["image AUROC"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert record["evaluation"]["pixel AUROC"]["value"] > 0.95
    assert record["evaluation"]["PRO up to FPR 0.3"]["value"] > 0.8
    assert (record["model"], record["residual"], record["calibration"]["good"]) == ("autoencoder", "l2", 40)
    assert sorted(p.name for p in out.iterdir()) == ["detection.json", "maps", "pictures", "scores.csv"]
    assert [p.name for p in out.parent.iterdir()] == ["out"]
    with Image.open(out / "maps" / "a" / "1.png.tiff") as file:
        written = np.asarray(file)
    assert (written.shape, written.dtype) == ((24, 30), np.float32)
    seen = Detector(load_model(place / "run"), "l2")(pictures.read(place / "test" / "a" / "1.png"))
    np.testing.assert_array_equal(written, seen.map.numpy())
    assert float(found["a/1.png"]["score"]) == seen.score
    with Image.open(out / "pictures" / "a" / "1.png") as file:
        assert file.size == (4 * (5 * 30 + 2) + 2, 5 * 24 + 4)
        assert {(255, 26, 26), (26, 230, 26)} <= set(file.get_flattened_data())  # both outlines


def test_the_threshold_is_that_of_held_out_images(place: Path, tmp_path: Path) -> None:
    assert (
        run("detect", place / "run", place / "test", "-o", tmp_path / "out", "--rate", 0.2, "--pictures", "none") == 0
    )
    found = json.loads((tmp_path / "out" / "detection.json").read_text())
    held_out = images_of_run(place / "run").held_out.select(slice(None)).images
    detector = Detector(load_model(place / "run"))
    scores = torch.tensor([detector(image).score for image in held_out])
    assert found["calibration"]["threshold"] == pytest.approx(conformal_threshold(scores, 0.2), rel=1e-6)
    assert found["evaluation"] == {}
    assert found["images"][0]["defect"] is None
    assert not (tmp_path / "out" / "pictures").exists()


def test_good_images_of_the_same_size_set_it_too(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "good.npy", waves(20, 24, 30, 2))
    words = ["--good", tmp_path / "good.npy", "--json", "--pictures", "flagged", "--residual", "distance"]
    capsys.readouterr()
    assert run("detect", place / "run", place / "test", "-o", tmp_path / "out", *words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    found = json.loads(out)
    assert found == json.loads((tmp_path / "out" / "detection.json").read_text())
    assert found["calibration"]["good"] == 20
    flagged = {z["image"] for z in found["images"] if z["flagged"]}
    assert flagged == {f"a/{p.name}" for p in (tmp_path / "out" / "pictures" / "a").iterdir()}


def test_images_that_cannot_be_searched_are_left_out(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = shutil.copytree(place / "test", tmp_path / "test")
    (images / "a" / "0.png").write_bytes(b"no picture")
    Image.fromarray(np.zeros((9, 40), np.uint8)).save(images / "b.png")
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(images / "c.png")
    capsys.readouterr()
    words = ["detect", place / "run", images, "--pictures", "none"]
    assert run(*words, "-o", tmp_path / "out") == 0
    first = capsys.readouterr().err.splitlines()[0]
    assert first.startswith(f"left out 3 of 8 images: {images / 'a' / '0.png'} is not a picture")
    assert "; b.png is 9 x 40 px, smaller than the 16 x 16 px that the model was trained on: enlarge it, or" in first
    assert "; c.png has 3 channels, and the model was trained on grey images" in first
    assert len(json.loads((tmp_path / "out" / "detection.json").read_text())["left_out"]) == 3
    assert len(rows(tmp_path / "out")) == 5
    assert run(*words, "-o", tmp_path / "strict", "--strict") == 2
    assert "0.png is not a picture" in complaint(capsys)
    assert run(*words, "-o", tmp_path / "grey", "--grey", "--size", SIDE) == 0  # the colours, and what is too small
    assert len(rows(tmp_path / "grey")) == 7
    assert sorted(p.name for p in tmp_path.iterdir()) == ["grey", "out", "test"]


@pytest.mark.parametrize("name", ["vae", "aae", "code-gmmn"])
def test_other_autoencoders_find_defects_too(name: str, place: Path, tmp_path: Path) -> None:
    words = ["--tau", 0.01] if name == "vae" else []
    small = [*SMALL[:-1], 2, "--latent", 2]
    assert run("train", name, "-o", tmp_path / "run", "--data", place / "good", *words, *small) == 0
    assert run("detect", tmp_path / "run", place / "test", "-o", tmp_path / "out", "--pictures", "none") == 0
    assert len(rows(tmp_path / "out")) == 6


def test_the_training_is_followed(place: Path, tmp_path: Path) -> None:
    """Images are made grey and scaled as the training did: 100 px of coloured waves are seen as 16 px of grey ones."""
    (tmp_path / "large").mkdir()
    for i, image in enumerate(waves(30, 100, 100, 3)):
        Image.fromarray(np.stack([image] * 3, -1)).save(tmp_path / "large" / f"{i:02}.png")
    words = ["--data", tmp_path / "large", "--size", SIDE, "--grey", *SMALL[:-1], 2]
    assert run("train", "autoencoder", "-o", tmp_path / "run", *words) == 0
    words = ["--pictures", "none", "--maps", "--rate", "0.5"]
    assert run("detect", tmp_path / "run", tmp_path / "large", "-o", tmp_path / "out", *words) == 0
    found = json.loads((tmp_path / "out" / "detection.json").read_text())
    assert found["calibration"]["pixels"] == SIDE**2
    image = open_gallery(tmp_path / "large", grey=True).read(4)
    expected = Detector(load_model(tmp_path / "run"), size=SIDE)(image)
    assert found["images"][4]["score"] == expected.score
    with Image.open(tmp_path / "out" / "maps" / "04.png.tiff") as file:
        np.testing.assert_array_equal(np.asarray(file), expected.map.numpy())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rate", "0.001"], "a false positive rate of 0.001 needs at least 999 good images that the model was not"),
        (["--rate", "2"], "--rate must be a false positive rate between 0 and 1, got 2.0"),
        (["--overlap", "1"], "--overlap must be a fraction in [0, 1), got 1.0"),
        (["--smoothing", "-1"], "--smoothing must be a number of pixels, at least 0, got -1.0"),
        (["--residual", "l1"], "--residual must be one of"),
        (["--window", "0"], "--window must be at least 1 pixel, got 0"),
        (["--window", "35"], "window of 35 x 35 px with padding='symmetric' does not fit images of 16 x 16 px"),
        (["--size", "-1"], "--size must be a whole number of pixels, at least 1, got -1"),
        (["--resamples", "0"], "--resamples must be a whole number of draws, at least 1, got 0"),
        (["--masks", "nowhere"], "--masks nowhere is not a folder"),
        (["--good", "nowhere"], "no such data: 'nowhere'"),
    ],
)
def test_bad_options(
    words: list[str], message: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run("detect", place / "run", place / "test", "-o", tmp_path / "out", *words) == 2
    assert message in complaint(capsys)
    assert list(tmp_path.iterdir()) == []


def test_bad_masks(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told(*names: str, size: tuple[int, int] = (24, 30)) -> str:
        masks = tmp_path / "masks"
        shutil.rmtree(masks, ignore_errors=True)
        (masks / "a").mkdir(parents=True)
        for name in names:
            Image.fromarray(np.full(size, 255, np.uint8)).save(masks / name)
        capsys.readouterr()
        assert run("detect", place / "run", place / "test", "-o", tmp_path / "out", "--masks", masks) == 2
        assert [p.name for p in tmp_path.iterdir()] == ["masks"]
        return complaint(capsys)

    assert "masks holds no pictures: leave it out, or name the folder of the masks" in told()
    assert "b.png is of no image of" in told("a/1.png", "b.png")
    assert "a/1.png has two masks" in told("a/1.png", "a/1_mask.png")
    assert "a/2.png is 24 x 30 px, but its image a/2.png is 30 x 24 px" in told("a/2.png", size=(30, 24))


def test_defects_alone_have_no_auroc_of_images(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor does one image, of which the pixels have one."""
    shutil.copytree(place / "test", tmp_path / "test", ignore=lambda *_: ["0.png", "2.png", "3.png", "4.png", "5.png"])
    shutil.copytree(place / "masks", tmp_path / "masks", ignore=lambda *_: ["3_mask.png"])
    words = ["--masks", tmp_path / "masks", "--resamples", 5, "--pictures", "none"]
    capsys.readouterr()
    assert run("detect", place / "run", tmp_path / "test", "-o", tmp_path / "out", *words) == 0
    notes = capsys.readouterr().err.splitlines()
    assert notes[-1] == "no image AUROC: 1 of 1 images have a defect, and an AUROC needs both kinds"
    found = json.loads((tmp_path / "out" / "detection.json").read_text())["evaluation"]
    assert found["image AUROC"] is None
    assert 0 < found["pixel AUROC"]["value"] <= 1


def test_models_that_do_not_reconstruct_are_refused(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", place / "good", *SMALL[:-1], 1]
    assert run("train", "gan", "-o", tmp_path / "gan", *words) == 0
    capsys.readouterr()
    assert run("detect", tmp_path / "gan", place / "test", "-o", tmp_path / "out") == 2
    able = "take one of vae, aae, autoencoder, code-gmmn"
    assert complaint(capsys) == f"a gan draws images but does not reconstruct them: {able}"
    assert [p.name for p in tmp_path.iterdir()] == ["gan"]
    assert "gmmn" in MODELS


def test_bad_places(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    before = sorted(tmp_path.rglob("*"))
    for words, message in (
        ([place / "run", tmp_path / "empty", "-o", tmp_path / "out"], "empty holds no pictures"),
        ([place / "run", tmp_path / "none", "-o", tmp_path / "out"], "no such data"),
        ([tmp_path / "empty", place / "test", "-o", tmp_path / "out"], "empty holds no"),
        ([place / "run", place / "test", "-o", tmp_path / "full"], "full is there already: choose a new or empty"),
    ):
        capsys.readouterr()
        assert run("detect", *words) == 2
        assert message in complaint(capsys)
        assert sorted(tmp_path.rglob("*")) == before
    assert run("detect", place / "run", place / "test", "-o", tmp_path / "empty", "--pictures", "none") == 0
    assert len(rows(tmp_path / "empty")) == 6


def test_runs_from_python_need_good_images(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = Images(torch.rand(40, 1, SIDE, SIDE), None, "noise")
    config = PlainAutoencoderConfig(network=Network("mlp", hidden=(8,)))
    model = make_model(PlainAutoencoder, config, images.shape)
    train(model, images, tmp_path / "run", training=Training(iterations=1, batch=8))
    capsys.readouterr()
    words = ["detect", tmp_path / "run", place / "test", "-o", tmp_path / "out", "--pictures", "none"]
    assert run(*words) == 2
    assert "started from Python: name good images that it was not trained on, with --good" in complaint(capsys)
    assert run(*words, "--good", place / "good") == 0
    assert json.loads((tmp_path / "out" / "detection.json").read_text())["calibration"]["good"] == 200
