"""A run folder with every part missing in turn: report, study and evaluation say so, or name it in one line."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch.nn.functional import avg_pool2d

from ssimgen import _reading
from ssimgen._reading import CONFIG, EVALUATION
from ssimgen.evaluation import FeatureNetwork
from ssimgen.report import write_report
from ssimgen.runs import Evaluation, EvaluationOptions, evaluate_run
from ssimgen.study import Plan, read_plan, results
from ssimgen.study.execution import is_finished

pytestmark = pytest.mark.usefixtures("without_st_lpips")

KEPT = Path(__file__).parents[1] / "data" / "before_rooms"
RUN = Path("study/runs/discs/vae/l2/seed-0")
PIXELS = FeatureNetwork("coarse pixels", lambda x: avg_pool2d(x, 4).flatten(1))
OPTIONS = EvaluationOptions(images=20, tested=20, permutations=19, resamples=20)
NO_PICTURE = "no picture in the run folder"


@pytest.fixture(autouse=True)
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory holds the images and the study."""
    shutil.copytree(KEPT, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return read_plan(KEPT / "study.toml")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of a run folder with all its parts."""
    return write_report([KEPT / RUN], tmp_path_factory.mktemp("whole")).read_text()


def report() -> str:
    return write_report([RUN], Path("report")).read_text()


def evaluation() -> Evaluation:
    return evaluate_run(RUN, OPTIONS, network=PIXELS)


def finished(plan: Plan) -> bool:
    """Whether the study takes the run as it is."""
    run = next(run for run in plan.runs if Path("study") / run.folder == RUN)
    return is_finished(run, Path("study"), plan.evaluation)


def one_line(error: pytest.ExceptionInfo[ValueError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert str(RUN) in text
    return text


# --- files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("metrics.jsonl", "No metrics.jsonl in the run folder of l2."),
        ("samples", NO_PICTURE),
        ("samples/00000006.png", NO_PICTURE),
        ("reconstructions", NO_PICTURE),
        ("real.png", "no run folder has a picture of them"),
        ("worst.png", NO_PICTURE),
        ("nearest.png", NO_PICTURE),
    ],
)
def test_a_file_for_the_eye(part: str, said: str, whole: str, plan: Plan) -> None:
    assert said not in " ".join(whole.split())
    remove(part)
    assert said in " ".join(report().split())
    assert finished(plan)
    assert len(results(plan, Path("study"))) > 0
    evaluation()


@pytest.mark.parametrize("part", ["checkpoints", "checkpoints/00000006.safetensors"])
def test_the_checkpoints(part: str, plan: Plan) -> None:
    """The scores are still there, but the model is not: the study trains it again."""
    remove(part)
    report()
    assert not finished(plan)
    with pytest.raises(ValueError, match="holds no checkpoint: is it the folder of a run") as error:
        evaluation()
    one_line(error)


def test_the_evaluation(plan: Plan) -> None:
    remove(EVALUATION)
    with pytest.raises(ValueError, match="has not been evaluated: ssimgen evaluate") as error:
        report()
    one_line(error)
    assert not finished(plan)
    evaluation()
    report()


def test_the_configuration(plan: Plan) -> None:
    remove(CONFIG)
    for read in (report, evaluation):
        with pytest.raises(ValueError, match=f"holds no run: .*{CONFIG}") as error:
            read()
        one_line(error)
    assert not finished(plan)


def remove(part: str) -> None:
    path = RUN / part
    shutil.rmtree(path) if path.is_dir() else path.unlink()


# --- entries of files ---------------------------------------------------------------------------------------------


def entries(form: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Every key that a file may have, with those of the tables that it is in; and whether it may be missing."""
    if isinstance(form, list):
        yield from entries(form[0], place)
    elif isinstance(form, dict):
        for key, inner in form.items():
            here = (*place, key.removesuffix("?"))
            yield here, key.endswith("?")
            yield from entries(inner, here)


ENTRIES = {CONFIG: list(entries(_reading._CONFIG)), EVALUATION: list(entries(_reading._EVALUATION))}
OPTIONAL = [(file, place) for file in ENTRIES for place, optional in ENTRIES[file] if optional]
REQUIRED = [(file, place) for file in ENTRIES for place, optional in ENTRIES[file] if not optional]


@pytest.mark.parametrize(("file", "place"), OPTIONAL, ids=str)
def test_an_entry_that_may_be_missing(file: str, place: tuple[str, ...], plan: Plan) -> None:
    forget(file, place)
    assert report()
    assert finished(plan)
    assert len(results(plan, Path("study"))) > 0
    if place == ("source",):
        with pytest.raises(ValueError, match=r"does not say where its images came from.*splits=") as error:
            evaluation()
        one_line(error)
    elif file == CONFIG:
        evaluation()


@pytest.mark.parametrize(("file", "place"), REQUIRED, ids=str)
def test_an_entry_that_must_be_there(file: str, place: tuple[str, ...], plan: Plan) -> None:
    """It is named; an evaluation without it is made again."""
    forget(file, place)
    named = re.escape(".".join(place)).replace("rows", r"rows(\[0\])?")
    with pytest.raises(ValueError, match=rf"{file} is damaged: it has no '{named}'") as error:
        report()
    one_line(error)
    if file == EVALUATION:
        assert not finished(plan)
        return
    for read in (evaluation, lambda: results(plan, Path("study"))):
        with pytest.raises(ValueError, match=f"has no '{named}'") as error:
            read()
        one_line(error)


def forget(file: str, place: tuple[str, ...]) -> None:
    """Remove an entry of a file, in every row of a list."""
    path = RUN / file
    content = json.loads(path.read_text())
    content.pop("sha256", None)  # of the others: it would tell
    tables = [content]
    for key in place[:-1]:
        inner = [table[key] for table in tables]
        tables = [row for each in inner for row in (each if isinstance(each, list) else [each])]
    for table in tables:
        table.pop(place[-1], None)
    path.write_text(json.dumps(content))
