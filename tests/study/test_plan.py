"""The study file: what its grid is, and that every key and value is checked before anything runs."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from ssimgen.models import GMMNConfig
from ssimgen.models.defaults import DEFAULTS
from ssimgen.study import make_plan, read_plan
from ssimgen.training import Optimiser, Training

FILE = """
name = "example"
seeds = [3, 4]
rates = [10, 20.5]

[training]
iterations = 50
[optimiser]
lr = 0.01
[evaluation]
images = 30

[data.digits]
data = "mnist5k"
limit = 100
[data.patches]
data = "photos"

[models.vae]
baseline = "l2"
options = { latent = 4, network = { width = 8 } }
[models.vae.variants.l2]
options = { objective = "l2" }
sweep = { tau = [0.1, 0.2] }
[models.vae.variants.ssim]
options = { objective = "ssim", network = { activation = "silu" } }
sweep = { tau = [1.0], "structure.k2" = [0.03, 0.3] }
training = { batch = 32 }

[models.moments]
model = "gmmn"
data = ["digits"]
seeds = [3]
[models.moments.variants.rbf]
options = { kernel = { metric = "l2" } }
"""


def content(**changes: Any) -> dict[str, Any]:
    """A study of one run, with changes."""
    return {
        "data": {"digits": {"data": "mnist5k"}},
        "models": {"vae": {"variants": {"l2": {"options": {"objective": "l2", "tau": 0.1}}}}},
        **changes,
    }


def vae(**changes: Any) -> dict[str, Any]:
    """The same, with changes in its table models.vae."""
    return content(models={"vae": {"variants": {"l2": {"options": {"tau": 0.1}}}, **changes}})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(FILE)
    return path


def test_the_grid(file: Path) -> None:
    plan = read_plan(file)
    assert (plan.name, plan.rates, plan.evaluation.images) == ("example", (10.0, 20.5), 30)
    # two seeds x two sets of images x (two temperatures of l2, two constants of ssim), and one of gmmn
    assert len(plan.runs) == 2 * 2 * 4 + 1
    assert [run.seed for run in plan.runs] == [3] * 9 + [4] * 8  # a seed is complete before the next begins
    folders = [str(run.folder) for run in plan.runs]
    assert folders[:5] == [
        "runs/digits/vae/l2_tau=0.1/seed-3",
        "runs/digits/vae/l2_tau=0.2/seed-3",
        "runs/digits/vae/ssim_tau=1_structure.k2=0.03/seed-3",
        "runs/digits/vae/ssim_tau=1_structure.k2=0.3/seed-3",
        "runs/patches/vae/l2_tau=0.1/seed-3",
    ]
    run = plan.runs[3]
    assert (run.config.structure.k2, run.config.network.width, run.config.network.activation) == (0.3, 8, "silu")
    assert (run.training.iterations, run.training.batch, run.optimiser.lr) == (50, 32, 0.01)
    assert run.baseline == "l2"


@pytest.mark.parametrize("name", ["kernel_distance", "kernel distance"])
def test_a_primary_endpoint_is_named(name: str) -> None:
    assert {run.primary for run in make_plan(vae(primary=name, baseline="l2"), "study").runs} == {"kernel_distance"}


def test_defaults_of_a_model_hold_where_the_file_says_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DEFAULTS, "gmmn", (Training(batch=99), Optimiser(momentum=0.1)))
    plan = read_plan(file)
    (run,) = [run for run in plan.runs if run.model == "gmmn"]
    assert isinstance(run.config, GMMNConfig)
    assert (run.training.batch, run.training.iterations) == (99, 50)
    assert (run.optimiser.momentum, run.optimiser.lr) == (0.1, 0.01)


@pytest.mark.parametrize(
    ("study", "message"),
    [
        (content(modles={}), "unknown key modles: did you mean 'models'"),
        ({"data": {"a": {}}}, r"models is missing: name at least one, as \[models.NAME\]"),
        (content(data={}), r"data is empty: name at least one, as \[data.NAME\]"),
        (content(data={"a": {"sise": 3}}), r"unknown option data\.a\.sise: did you mean 'size'"),
        (content(seeds=[]), r"^seeds is empty: list at least one$"),
        (vae(data=[]), r"models\.vae\.data is empty: list at least one$"),
        (content(seeds=[1, 1]), r"seeds names something twice: \[1, 1\]"),
        (content(rates=[-3]), r"rates must be positive numbers of nats, got \[-3\.0\]"),
        (content(seeds=["a"]), "seeds must be a list of whole numbers"),
        (content(name=3), "name must be a text, got 3"),
        (content(training={"iteration": 3}), r"unknown option training\.iteration: did you mean 'iterations'"),
        (content(training={"seed": 3}), r"training\.seed: seeds of a study are listed under seeds"),
        (content(training={"batch": 0}), r"models\.vae\.variants\.l2: batch must be at least 1, got 0"),
        (content(evaluation={"images": 3}), "images must be at least 20, got 3"),
        (content(evaluation={"image": 30}), r"unknown option evaluation\.image: did you mean 'images'"),
        (content(models={"vea": {"variants": {"a": {}}}}), r"models\.vea: unknown model 'vea': did you mean 'vae'"),
        (vae(varients={}), r"unknown key models\.vae\.varients: did you mean 'variants'"),
        (vae(data=["digit"]), r"models\.vae\.data: unknown data 'digit': did you mean 'digits'"),
        (vae(baseline="l1"), r"models\.vae\.baseline: unknown variant 'l1'"),
        (vae(variants={}), r"models\.vae\.variants is empty"),
        (vae(variants={"a": {"option": {}}}), r"unknown key models\.vae\.variants\.a\.option: did you mean 'options'"),
        (vae(variants={"a": {"options": {"tua": 1}}}), r"variants\.a: unknown option tua: did you mean 'tau'"),
        (vae(variants={"a": {}}), r"variants\.a: option tau is missing"),
        (vae(variants={"a": {"options": {"tau": -1.0}}}), "variants.a: tau must be a positive number"),
        (vae(variants={"a": {"sweep": {"tau": 1}}}), r"a\.sweep\.tau must be a list of values, got 1"),
        (vae(variants={"a": {"sweep": {"tau": [1.0, 1]}}}), "two runs would share the folder"),
        (vae(variants={"a/b": {"options": {"tau": 1.0}}}), "name 'a/b' must be of letters"),
        (vae(variants={"..": {"options": {"tau": 1.0}}}), r"name '\.\.' must be of letters"),
        (vae(primary="FID"), r"models\.vae\.primary: unknown metric 'FID'"),
        (vae(primary="feature_distanc"), r"unknown metric 'feature_distanc': did you mean 'feature_distance'"),
        (vae(primary="KL"), r"models\.vae\.primary: KL does not say which of two models is better"),
        (vae(primary="sharpness"), "sharpness does not say which of two models is better"),
        (vae(primary="mmd2"), "does not say which of two models is better"),
        (vae(primary="psnr"), r"models\.vae\.primary needs a baseline"),
        (
            content(models={"gan": {"primary": "PSNR, dB", "baseline": "a", "variants": {"a": {}}}}),
            r"models\.gan\.primary: PSNR, dB is of reconstructions, and gan makes none",
        ),
        (
            vae(primary="C2ST", baseline="a", variants={"a": {}, "b": {"training": {"seconds": 600}}}),
            r"models\.vae\.variants\.b\.training\.seconds: models with a primary endpoint are compared at equal cost",
        ),
        (vae(variants=[1]), r"models\.vae\.variants must be a table, got \[1\]"),
    ],
)
def test_what_is_wrong_is_named(study: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_plan(study, "study")


def test_the_example_of_equal_search() -> None:
    plan = read_plan(Path(__file__).parents[2] / "studies" / "equal.toml")
    assert (len(plan.runs), len(plan.trials)) == (2 * 5, 2 * 4)
    assert {run.training.seconds for run in (*plan.runs, *plan.trials)} == {30.0}


def test_a_file_that_is_not_toml(file: Path) -> None:
    file.write_text("name = ")
    with pytest.raises(ValueError, match=r"study\.toml is not valid TOML"):
        read_plan(file)
    file.write_text(FILE.replace("baseline", "base_line"))
    with pytest.raises(ValueError, match=r"study\.toml: unknown key models\.vae\.base_line: did you mean 'baseline'"):
        read_plan(file)


@pytest.mark.parametrize("path", ["docs/study.md", "studies/main.toml", "studies/distance.toml", "studies/ladder.toml"])
def test_studies_of_this_repository(path: str) -> None:
    text = (Path(__file__).parents[2] / path).read_text()
    if path.endswith(".md"):
        (text,) = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    plan = make_plan(tomllib.loads(text), "study")
    folders = {run.folder for run in plan.runs}
    assert len(folders) == len(plan.runs)
    expected = {
        "docs/study.md": 3 * (2 + 2 * 2),
        "studies/main.toml": 3 * (3 * (7 * 3 + 2 + 4 + 2 + 2 + 4 + 4) + 2 * 2),  # on three sets of images, or two
        "studies/distance.toml": 5 * 3 * 9,
        "studies/ladder.toml": 3 * 5 * 5,
    }
    assert len(plan.runs) == expected[path]
