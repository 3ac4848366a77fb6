"""Runs and studies of an earlier version, kept in tests/data/before_rooms, are read as before."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from command_line import run
from ssimgen.scores import JUDGES, read

KEPT = Path(__file__).parent / "data" / "before_rooms"
TABLES = ("results.csv", "summary.csv", "matched.csv")


@pytest.fixture(autouse=True)
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory holds the images, the run and the study; their paths are relative to it."""
    shutil.copytree(KEPT, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def test_a_run_goes_on() -> None:
    before = Path("run/metrics.jsonl").read_text()
    assert run("train", "vae", "-o", "run", "--resume", "--iterations", "8") == 0
    after = Path("run/metrics.jsonl").read_text()
    assert after.startswith(before)
    assert [json.loads(line)["iteration"] for line in after.splitlines()] == [2, 4, 6, 8]
    assert Path("run/checkpoints/00000008.safetensors").exists()


def test_a_run_draws_images() -> None:
    assert run("sample", "run", "-o", "samples.npy", "-n", "4") == 0
    assert np.load("samples.npy").shape == (4, 1, 12, 12)
    assert run("interpolate", "run", "-o", "ways.png", "--rows", "2", "--ends", "images") == 0


def test_a_run_is_evaluated_as_it_was() -> None:
    before = json.loads(Path("run/evaluation.json").read_text())
    small = ["--images", "20", "--tested", "20", "--permutations", "19", "--resolution", "32"]
    assert run("evaluate", "run", *small) == 0
    after = json.loads(Path("run/evaluation.json").read_text())
    assert after["options"] == before["options"]
    known = {(row["kind"], row["metric"]) for row in before["rows"]}
    again = [row for row in after["rows"] if (row["kind"], row["metric"]) in known]
    new = {row["metric"] for row in after["rows"] if row not in again}
    assert new - {"ST-LPIPS"} == {"C2ST, bits (EfficientNet-Lite0, 32 px)", "probe accuracy"}
    for row, old in zip(again, before["rows"], strict=True):
        assert (row["kind"], row["metric"]) == (old["kind"], old["metric"])
        if row["kind"] != "samples":
            assert row["value"] == pytest.approx(old["value"], rel=1e-3, abs=1e-4)


COMPARED = ("better", "worse", "differs", "no difference shown")
"""Verdicts of models that can be compared, as earlier versions gave them to collapsed ones too."""


def test_a_finished_study_is_finished(capsys: pytest.CaptureFixture[str]) -> None:
    """Its options are those of the runs, the usual ones of each model included, and its tables come out alike."""
    before = {name: Path("study", name).read_text() for name in TABLES}
    assert run("study", "study.toml", "-o", "study", "--list") == 0
    assert "5 of 5 runs are finished" in capsys.readouterr().out
    assert run("study", "study.toml", "-o", "study") == 0
    said = capsys.readouterr()
    assert said.err == ""  # no run was carried out again
    after = {name: Path("study", name).read_text() for name in TABLES}
    assert after.pop("results.csv") == before.pop("results.csv")
    for name in before:
        old, new = (list(csv.DictReader(io.StringIO(tables[name]))) for tables in (before, after))
        for row, again in zip(old, new, strict=True):
            verdict = row["verdict"]
            if read(row["metric"]).key in JUDGES and verdict:  # none of them was checked then
                verdict = "no judge"
            elif row["model"] == "vae" and verdict in COMPARED:  # of less than 0.5 nats
                verdict = "collapsed"
            assert again == row | {"verdict": verdict}
    assert "discs: Left out of every verdict: feature distance (EfficientNet-Lite0, 32 px), " in said.out


@pytest.mark.parametrize(("folder", "names"), [("run", ["vae"]), ("study", ["l2", "ssim", "gmmn"])])
def test_a_report_of_what_was_kept(folder: str, names: list[str]) -> None:
    assert run("report", folder, "-o", "report") == 0
    page = Path("report/index.html").read_text()
    for name in names:
        assert name in page
