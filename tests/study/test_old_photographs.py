"""The photographs of the first study, whose verdicts were withdrawn: what is concluded from them today."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from ssimgen.data import load_images
from ssimgen.evaluation import Bootstrap, JudgeCheck, check_judges, efficientnet_lite0
from ssimgen.report.results import RESULTS, Result
from ssimgen.report.summary import matched, summary
from ssimgen.scores import read
from ssimgen.study.quick import recommendation

STUDY = Path(__file__).parents[2] / "studies" / "results" / "results-photos.csv"
FEATURES = ("feature_distance", "kernel_distance", "precision", "recall", "density", "coverage")


@pytest.fixture(scope="module")
def checks() -> dict[str, JudgeCheck]:
    """Of the judges of the study, by some of its images."""
    train, held_out = load_images("photos")
    found = check_judges(
        train.first(60).images,
        held_out.first(60).images,
        data_range=1.0,
        network=efficientnet_lite0(64),
        judges=(*FEATURES, "frechet_distance", "colour_error"),
        bootstrap=Bootstrap(resamples=10),
    )
    return {check.metric: check for check in found}


@pytest.fixture(scope="module")
def records(checks: dict[str, JudgeCheck]) -> list[Result]:
    """The numbers of the study, as its file has them, with what is known of their judges."""
    numbers = {"value", "low", "high", "reference", "reference_low", "reference_high", "train_seconds"}
    found = []
    with STUDY.open(newline="") as file:
        for row in csv.DictReader(file):
            fields = {name: row[name] for name in RESULTS if name != "metric"}
            fields |= {name: float(row[name]) if row[name] else None for name in (*numbers, "evaluation_seconds")}
            fields |= {name: int(row[name]) for name in ("seed", "iterations", "n")}
            record = Result(**fields, score=read(row["metric"]))
            check = checks.get(record.metric)
            found.append(replace(record, unfit=check.reason) if check else record)
    return found


def test_none_of_its_judges_may_judge(checks: dict[str, JudgeCheck]) -> None:
    """A blur comes before held-out photographs, and a mean image before a linear reconstruction."""
    assert [check.metric for check in checks.values() if check.valid] == ["colour error"]  # which is a new one
    (feature_distance,) = (check for metric, check in checks.items() if read(metric).key == "feature_distance")
    assert feature_distance.reason.startswith("it does not rank linear reconstruction")


def test_no_verdict_is_left(records: list[Result], checks: dict[str, JudgeCheck]) -> None:
    assert {record.metric for record in records} >= checks.keys() - {"colour error"}
    for row in (*summary(records), *matched(records)):
        if row.metric in checks:
            assert row.verdict in ("", "no judge"), row


def test_what_a_quick_study_would_say_of_its_autoencoders(records: list[Result]) -> None:
    vaes = [record for record in records if record.group == "vae"]
    verdict = recommendation(vaes, 800)
    assert verdict.heading == "No conclusion: no judge is fit for these images"
    assert any("does not rank linear reconstruction" in sentence for sentence in verdict.sentences)
