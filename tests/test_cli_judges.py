"""The command `ssimgen judges`."""

import json
from pathlib import Path

import pytest
import torch

from ssimgen import cli, pictures
from ssimgen._judged import left_out
from ssimgen.data import Source, load_images
from ssimgen.evaluation import Bootstrap, efficientnet_lite0
from ssimgen.runs import checked_judges

QUICK = ["--resolution", "32"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    images = torch.rand(100, 3, 16, 16, generator=torch.Generator().manual_seed(0)) ** 2
    pictures.write_array(tmp_path / "images.npy", images)
    pictures.write_array(tmp_path / "few.npy", images[:30])
    pictures.write_array(tmp_path / "one.npy", images[:1])
    return tmp_path


@pytest.mark.usefixtures("folder", "without_st_lpips")
def test_a_table_and_the_numbers_behind_it(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["judges", "--data", "images.npy", "--held-out", "0.5", *QUICK]
    assert cli.main([*words, "-o", "judges.json"]) == 0
    shown = capsys.readouterr().out
    assert "features: EfficientNet-Lite0, 32 px" in shown
    assert "real images" in shown
    written = json.loads(Path("judges.json").read_text())
    network = efficientnet_lite0(32)
    splits = load_images(Source("images.npy", held_out=0.5))
    found = checked_judges(splits, network, bootstrap=Bootstrap(seed=0))
    assert [record["metric"] for record in written["judges"]] == [check.metric for check in found]
    for record, check in zip(written["judges"], found, strict=True):
        assert (record["valid"], record["reason"], record["n"]) == (check.valid, check.reason, check.n)
        assert [r["passed"] for r in record["rankings"]] == [r.passed for r in check.rankings]
    for sentence in left_out(found):
        assert sentence in shown
    colours = next(record for record in written["judges"] if record["metric"] == "colour error")
    assert colours["valid"]
    assert colours["rankings"][0]["rungs"][0] == {"name": "real images", "value": 0.0, "low": 0.0, "high": 0.0}


@pytest.mark.usefixtures("folder")
def test_too_few_images_are_named_and_no_number_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["judges", "--data", "few.npy", *QUICK]) == 0
    shown = capsys.readouterr().out
    assert "class accuracy, as it needs 40 images of each set, and there are 6." in shown
    assert "the score that each judge" not in shown


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data", "one.npy"], "too few to hold out a fraction of 0.2"),
        (["--data", "none"], "no such data: 'none'"),
        (["-o", "judges.txt"], "output judges.txt must end in .json"),
        (["--images", "0"], "--images must be at least 1, got 0"),
        (["--resolution", "50"], "resolution must be a multiple of 32 px"),
        (["--imagse", "3"], "did you mean"),
    ],
)
def test_bad_input_is_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["judges", *words]) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""
