"""Equal search: what is drawn, on which images trials are trained and judged, and that the best options are taken."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ssimgen._reading import read_config
from ssimgen.data import Images, Splits, load_images
from ssimgen.evaluation import FeatureNetwork
from ssimgen.report.folders import run_folders
from ssimgen.runs import evaluate_run
from ssimgen.study import Outcome, PlannedRun, execution, make_plan, run, run_study, write_tables
from ssimgen.study.ranges import drawn
from ssimgen.study.search import chosen, results_of_trials, validation

PIXELS = FeatureNetwork("coarse pixels", lambda x: torch.nn.functional.avg_pool2d(x, 4).flatten(1))
RANGES = {"optimiser.lr": {"from": 1e-4, "to": 1e-2}, "latent": {"from": 2, "to": 6}, "objective": ["l1", "l2"]}


def content(images: Path | str, **changes: Any) -> dict[str, Any]:
    """Two tiny VAEs with two trials each."""
    return {
        "seeds": [0],
        "training": {"iterations": 3, "batch": 16},
        "evaluation": {"images": 20, "tested": 20, "permutations": 19, "resolution": 32, "resamples": 20},
        "data": {"noise": {"data": str(images)}},
        "models": {
            "vae": {
                "baseline": "l2",
                "primary": "psnr",
                "options": {"tau": 0.1, "latent": 2, "kl_target": 3.0, "network": {"kind": "mlp", "hidden": [8]}},
                "search": {"trials": 2, "options": {"optimiser.lr": {"from": 1e-4, "to": 1e-2}}},
                "variants": {
                    "l2": {"options": {"objective": "l2"}},
                    "ssim": {"search": {"options": {"structure.k2": [0.03, 0.3]}}},
                },
                **changes,
            }
        },
    }


def test_options_are_drawn_from_ranges_and_lists() -> None:
    found = drawn(RANGES, 200, "digits vae l2")
    assert found == drawn(RANGES, 200, "digits vae l2")
    assert found != drawn(RANGES, 200, "digits vae ssim")
    rates = [each["optimiser.lr"] for each in found]
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)
    assert 70 < sum(rate < 1e-3 for rate in rates) < 130  # evenly on a logarithmic scale
    assert {each["latent"] for each in found} == {2, 3, 4, 5, 6}
    assert {each["objective"] for each in found} == {"l1", "l2"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search": {"trials": 0}}, r"models\.vae\.search\.trials must be at least 1, as many for each variant, got 0"),
        ({"search": {"trial": 2}}, r"unknown option models\.vae\.search\.trial: did you mean 'trials'"),
        ({"search": {"trials": 2}}, "no options to search: state some under search.options"),
        ({"primary": ""}, r"models\.vae\.search needs a primary endpoint"),
        ({"search": {}}, r"search\.trials belongs to the group"),
        ({"options": {"tau": 0.1}}, "a search needs models of one rate: set kl_target"),
        ({"search": {"trials": 1, "options": {"tua": [1.0]}}}, "unknown option tua: did you mean 'tau'"),
        ({"search": {"trials": 1, "options": {"tau": 1.0}}}, r"search\.options\.tau must be a list of values, or \{"),
        (
            {"search": {"trials": 1, "options": {"tau": {"from": 2.0, "to": 1.0}}}},
            r"search\.options\.tau must be a list of values, or \{ from = a, to = b \} with numbers 0 < a < b",
        ),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_plan(content("mnist5k", **changes), "study")


def test_every_variant_has_as_many_trials_of_its_own() -> None:
    plan = make_plan(content("mnist5k"), "study")
    assert [str(run.folder) for run in plan.trials] == [
        f"search/noise/vae/{variant}/trial-{n}" for variant in ("l2", "ssim") for n in (0, 1)
    ]
    assert len({run.optimiser.lr for run in plan.trials}) == 4
    assert {run.config.structure.k2 for run in plan.trials if run.variant == "l2"} == {0.03}
    assert [run.drawn.keys() for run in plan.trials if run.variant == "ssim"] == [{"optimiser.lr", "structure.k2"}] * 2


def test_a_fifth_of_the_training_images_validates() -> None:
    pixels = torch.arange(50, dtype=torch.uint8).view(50, 1, 1, 1)
    held_out = Images(torch.full((9, 1, 1, 1), 99, dtype=torch.uint8), None, "held out")
    train, val = validation(Splits(Images(pixels, None, "a"), held_out))
    assert (len(train), len(val)) == (40, 10)
    assert sorted([*train.pixels.flatten().tolist(), *val.pixels.flatten().tolist()]) == list(range(50))


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are carried out here, and evaluated with a network that costs nothing."""

    def carried_out(runs: Sequence[PlannedRun], output: Path, evaluation: Any, *_: object) -> Iterator[Outcome]:
        for planned in runs:
            run.carry_out(planned, output, evaluation, load_images(planned.source))
            yield Outcome(planned, "finished")

    def evaluated(folder: Path, options: Any, **given: Any) -> Any:
        return evaluate_run(folder, options, network=PIXELS, **{**given, "check_judges": False})

    monkeypatch.setattr(execution, "carried_out", carried_out)
    monkeypatch.setattr(run, "evaluate_run", evaluated)


@pytest.mark.usefixtures("in_this_process", "eager_engine", "without_st_lpips")
def test_the_best_trial_gives_the_options_of_the_runs(tmp_path: Path) -> None:
    path = tmp_path / "noise.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (160, 12, 12), dtype=np.uint8))
    plan, output = make_plan(content(path), "study"), tmp_path / "out"
    assert chosen(plan, output).runs == ()  # nothing is known yet
    outcomes = run_study(plan, output)
    assert [(str(o.run.folder), o.status) for o in outcomes] == [
        (f"runs/noise/vae/{variant}/seed-0", "finished") for variant in ("l2", "ssim")
    ]
    train = load_images(str(path)).train
    for trial in plan.trials:
        assert read_config(output / trial.folder)["data"]["hash"] != train.digest
    trials = results_of_trials(plan, output)
    for outcome in outcomes:
        of_arm = [trial for trial in trials if trial.arm == outcome.run.arm]
        best = max(of_arm, key=lambda trial: (not trial.fault, trial.value))
        assert [trial.chosen for trial in of_arm] == [trial is best for trial in of_arm]
        config = read_config(output / outcome.run.folder)
        assert config["data"]["hash"] == train.digest
        assert f"optimiser.lr={config['optimiser']['lr']}" in best.options
    assert {outcome.status for outcome in run_study(plan, output)} == {"skipped"}
    write_tables(plan, output)
    with (output / "search.csv").open() as file:
        assert [row["chosen"] for row in csv.DictReader(file)] == [str(trial.chosen) for trial in trials]
    assert run_folders([output]) == sorted(output / run.folder for run in chosen(plan, output).runs)  # no trial
