"""Every model of `ssimgen train`: it trains, resumes with its own options, and is sampled."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssimgen.cli import main
from ssimgen.models import MODELS
from ssimgen.training import load_model, read_metrics

SMALL = ["--network.kind", "mlp", "--network.hidden", "8", "--batch", "16", "--latent", "2"]
NEEDED = {"vae": ["--tau", "0.1"], "cgmmn": ["--num-classes", "2"]}
"""What a model asks for on the pictures of `tiny`."""
LABELLED = ["cgmmn", "aae", "gan", "lsgan"]
"""Models that draw classes, with --num-classes."""


def run(*words: object) -> int:
    """The exit code of `ssimgen WORDS`."""
    try:
        return main([str(word) for word in words])
    except SystemExit as stop:  # how the parser of options leaves
        return int(stop.code or 0)


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
    assert "labels must be class numbers from 0 to 0, got 0 to 1: set num_classes" in complaint(capsys)
    assert not (tmp_path / "x").exists()
