"""The small study of one's own images: what it plans, what it concludes, and what it refuses."""

import dataclasses
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssimgen.cli import main
from ssimgen.data import Images, Source, Splits, load_images
from ssimgen.report.results import Result
from ssimgen.scores import Score
from ssimgen.study import Outcome, Plan, make_plan
from ssimgen.study.quick import Costs, Extent, planned, planning, recommendation, replanned, running
from ssimgen.study.quick.planning import extent_of, study_file, warn_if_short
from ssimgen.study.run import carry_out

NAMES = ("l2", "l1", "ssim", "ssim_sum", "ms_ssim", "mix", "pyramid")
COSTS = Costs(dict.fromkeys(NAMES, 0.01), 5.0)


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    path = tmp_path_factory.mktemp("images") / "noise.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (120, 12, 12), dtype=np.uint8))
    return load_images(str(path))


def extent(minutes: float, parallel: int = 1) -> Extent:
    return planned(COSTS, seconds=60 * minutes, parallel=parallel, seeds=3)


def content(splits: Splits, minutes: float) -> dict[str, Any]:
    return study_file(Source("mine", size=12), splits, extent(minutes))


# --- planning -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("minutes", "objectives", "points"),
    [(60, 7, 3), (7, 4, 3), (2.4, 3, 2)],
    ids=["all", "without the sum form, MS-SSIM and the pyramid", "too short for 400 iterations"],
)
def test_the_study_fits_into_the_budget(splits: Splits, minutes: float, objectives: int, points: int) -> None:
    made = content(splits, minutes)
    study = make_plan(made, "quick")
    runs = study.runs
    seconds = sum(run.training.iterations * 0.01 + 5.0 for run in runs)
    assert seconds <= 0.85 * 60 * minutes
    assert extent_of(study) == extent(minutes)
    variants = made["models"]["vae"]["variants"]
    if minutes > 3:
        assert (len(variants), len(variants["l2"]["sweep"]["tau"])) == (objectives, points)
        assert runs[0].training.iterations >= 400
    else:  # not even the smallest has room for them: the most that there is room for
        assert runs[0].training.iterations < 400
        assert list(variants) == ["l2", "l1", "mix"]
    assert made["models"]["vae"]["baseline"] == "l2"
    assert made["data"]["images"] == {
        "data": "mine", "size": 12, "grey": False, "background": "white", "strict": False, "held_out": 0.2,
    }  # fmt: skip


def test_two_processes_do_more() -> None:
    one, two = (extent(60, parallel=n).iterations for n in (1, 2))
    assert two > 1.9 * one or two == 4000


def test_windows_fit_small_images(splits: Splits) -> None:
    small = Images(splits.train.pixels[:, :, :8, :8], None, "small")
    made = content(Splits(small, small), 60)
    assert made["evaluation"]["window"] == 7
    assert made["models"]["vae"]["variants"]["mix"]["options"]["structure"] == {"size": 7}


def test_too_short_a_budget_says_how_much_is_needed() -> None:
    with pytest.raises(
        ValueError, match=r"1\.0 minutes of the budget are left for training, too little .* at least 2 minutes"
    ):
        extent(1)


# --- concluding ---------------------------------------------------------------------------------------------------


def records(differences: dict[str, list[float]], rates: tuple[float, float] = (10.0, 20.0)) -> list[Result]:
    """Of variants at two rates and several seeds: a feature distance of 2 plus the difference of variant and seed."""
    found = []
    for variant, by_seed in {"l2": [0.0] * 3, **differences}.items():
        for seed, difference in enumerate(by_seed):
            for rate in rates if variant != "far" else (100.0, 200.0):
                found.append(result("rate", Score("kl"), rate, variant, seed, str(rate)))
                distance = Score("feature_distance", "x")
                found.append(result("reconstruction", distance, 2 + difference, variant, seed, str(rate)))
    return found


def result(kind: str, score: Score, value: float, variant: str, seed: int, point: str) -> Result:
    """A number of a run."""
    return Result(
        study="", data="d", group="vae", model="vae", variant=variant, point=point, arm=variant, seed=seed,
        baseline="l2", iterations=1, train_seconds=None, evaluation_seconds=None, kind=kind, score=score, value=value,
        low=None, high=None, reference=None, reference_low=None, reference_high=None, n=20, better="lower",
        trained_on="no", note="", folder="",
    )  # fmt: skip


def test_nothing_is_concluded_where_no_judge_is_fit() -> None:
    of_all = records({"ssim": [-0.5, -0.51, -0.49]})
    unfit = [dataclasses.replace(r, unfit="it does not rank a before b") for r in of_all]
    verdict = recommendation(unfit, 400, left_out=["mix"])
    assert verdict.heading == "No conclusion: no judge is fit for these images"
    assert "feature distance (x): it does not rank a before b." in verdict.sentences
    assert "pip install 'ssimgen[judges]'" in verdict.sentences[2]
    assert verdict.sentences[-1].startswith("Left out for want of time: mix.")


def test_the_first_fit_judge_decides() -> None:
    of_all = records({"ssim": [-0.5, -0.51, -0.49]})
    people = [
        dataclasses.replace(r, score=Score("st_lpips"), value=4 - r.value)  # of the other opinion
        for r in of_all
        if r.kind == "reconstruction"
    ]
    verdict = recommendation([*of_all, *people], 400)
    assert verdict.heading == "Structure does not help on these images: train with l2"
    assert "as people see it (ST-LPIPS)" in verdict.sentences[0]
    said = "By the feature distance, which may judge these images too: ssim: 1.5 instead of 2 (-25%, "
    assert any(sentence.startswith(said) and sentence.endswith(": better.") for sentence in verdict.sentences)
    unfit = [dataclasses.replace(r, unfit="it does not rank a before b") for r in people]
    assert recommendation([*of_all, *unfit], 400).heading.startswith("Structure helps")


def test_what_another_judge_calls_worse_is_not_recommended() -> None:
    of_all = records({"ssim": [0.5, 0.51, 0.49], "mix": [0.1, -0.1, 0.0]})
    people = [
        dataclasses.replace(
            r, score=Score("st_lpips"), value={"l2": 2.0, "ssim": 1.0, "mix": 1.5}[r.variant] + 0.01 * r.seed**2
        )
        for r in of_all
        if r.kind == "reconstruction"
    ]
    assert recommendation([*of_all, *people], 400).heading == "Structure helps on these images: train with mix"
    alone = [r for r in [*of_all, *people] if r.variant != "mix"]
    assert recommendation(alone, 400).heading == "No conclusion: what is better for one judge is worse for another"


def test_models_that_one_picture_could_replace_are_far_from_real_images() -> None:
    of_all = [dataclasses.replace(r, mean_image=1.5) for r in records({"ssim": [-0.5, -0.45, -0.49]})]
    verdict = recommendation(of_all, 400)
    assert verdict.heading == "No conclusion: all models are far from real images"
    assert "is at 1.5, and no model is nearer (l2 2, ssim 1.52): train longer." in verdict.sentences[0]
    near = [dataclasses.replace(r, mean_image=1.6) for r in records({"ssim": [-0.5, -0.45, -0.49]})]
    assert recommendation(near, 400).heading.startswith("Structure helps")


def test_a_steady_difference_is_a_recommendation() -> None:
    verdict = recommendation(records({"ssim": [-0.5, -0.51, -0.49], "mix": [-0.2, -0.2, -0.21]}), 400)
    assert verdict.heading == "Structure helps on these images: train with ssim"
    text = " ".join(verdict.sentences)
    assert "Compared with l2 at a KL of 15 nats" in text
    assert "ssim: 1.5 instead of 2 (-25%, 95% interval -26% to -24%" in text
    assert "400 iterations" in text


def test_structure_must_do_better_than_l1_too() -> None:
    """Which is in the mix, and may be all that helps in it."""
    verdict = recommendation(records({"l1": [-0.4, -0.41, -0.39], "mix": [-0.2, -0.2, -0.21]}), 400)
    assert verdict.heading == "Structure does not help on these images: train with l1"
    assert verdict.sentences[0].startswith("Compared with l1, the nearer one of l2 and l1, at a KL of 15 nats")
    assert "l2: 2 instead of 1.6" in verdict.sentences[1]
    assert "mix: 1.8 instead of 1.6 (+12%" in verdict.sentences[2]
    same = recommendation(records({"l1": [-0.4, -0.41, -0.39], "mix": [-0.5, -0.35, -0.4]}), 400)
    assert same.heading == "No difference is shown on these images: there is no reason to leave l1"
    more = recommendation(records({"l1": [-0.4, -0.41, -0.39], "mix": [-0.6, -0.61, -0.58]}), 400)
    assert more.heading == "Structure helps on these images: train with mix"
    assert "mix: 1.4 instead of 1.6" in " ".join(more.sentences)
    alone = recommendation(records({"l1": [-0.4, -0.41, -0.39]}), 400)
    assert alone.heading == "No conclusion"


def test_chance_is_called_chance() -> None:
    verdict = recommendation(records({"ssim": [-0.5, 0.4, -0.2]}), 400)
    assert verdict.heading.startswith("No difference is shown")
    assert "no difference shown" in verdict.sentences[1]


def test_a_negative_result_is_a_result() -> None:
    verdict = recommendation(records({"ssim": [0.5, 0.51, 0.49]}), 400)
    assert verdict.heading == "Structure does not help on these images: train with l2"


def test_several_comparisons_count(splits: Splits) -> None:
    """One of p = 0.03 is not enough beside another: times two."""
    alone = records({"ssim": [-0.3, -0.4, -0.25]})  # t = 7.3, p = 0.018
    assert recommendation(alone, 1).heading.startswith("Structure helps")
    many = records({"ssim": [-0.3, -0.4, -0.25], "mix": [0.1, -0.1, 0.0], "ms_ssim": [0.1, -0.1, 0.1]})
    assert recommendation(many, 1).heading.startswith("No difference")


def test_harm_by_some_is_not_called_no_difference() -> None:
    verdict = recommendation(records({"ssim": [0.5, 0.51, 0.49], "mix": [-0.1, 0.1, 0.02]}), 400)
    assert verdict.heading.startswith("Structure is not shown to help on these images, and some of it does harm")


def test_collapsed_runs_are_named() -> None:
    of_all = records({"ssim": [-0.5, -0.51, -0.49], "mix": [-0.2, -0.2, -0.21]})
    collapsed = [dataclasses.replace(r, fault="it collapsed") if r.variant == "mix" else r for r in of_all]
    said = "d, vae: mix with seed 0, 1, 2 compares with no other, as it collapsed."
    assert said in recommendation(collapsed, 400).sentences


def test_lost_colours_are_said_where_there_is_colour() -> None:
    of_all = records({"ssim": [-0.5, -0.51, -0.49]})
    colours = [
        dataclasses.replace(r, score=Score("colour_error"), value=0.03 if r.variant == "l2" else 0.09 + 1e-3 * r.seed)
        for r in of_all
        if r.kind == "reconstruction"
    ]
    said = "Colours: the mean colour of a reconstruction, of channels from 0 to 1, is off by l2 0.03, ssim 0.091, "
    assert f"{said}worse than l2." in recommendation([*of_all, *colours], 400).sentences
    unfit = [dataclasses.replace(r, unfit="the images are grey") for r in colours]
    assert "Colours" not in " ".join(recommendation([*of_all, *unfit], 400).sentences)


def test_rates_that_do_not_meet_allow_no_conclusion() -> None:
    verdict = recommendation(records({"far": [0.0, 0.0, 0.0]}), 1)
    assert verdict.heading == "No conclusion"
    assert "(KL in nats: l2 10 to 20, far 100 to 200)" in verdict.sentences[0]
    assert "give a larger budget and another folder" in verdict.sentences[1]


@pytest.mark.parametrize("seeds", [0, 1])
def test_one_seed_allows_no_conclusion(seeds: int) -> None:
    """Not even of a difference as large as this."""
    of_seed = [r for r in records({"ssim": [-1.5] * 3, "mix": [0.0] * 3}) if r.seed < seeds]
    verdict = recommendation(of_seed, 400, finished=(8, 18), left_out=["ssim_sum", "ms_ssim"])
    assert verdict.heading == "No conclusion"
    assert verdict.sentences == (
        f"8 of 18 runs are finished, {'all of 1 seed: other seeds' if seeds else 'of no seed all: they'} do not count "
        "here, and the same command goes on with them.",
        "Left out for want of time: ssim_sum, ms_ssim. A larger budget in another folder tries more.",
        "At least two seeds with every objective and temperature are needed: go on with the same command.",
    )


def test_an_unfinished_study_says_what_it_has_and_concludes_nothing() -> None:
    verdict = recommendation(records({"ssim": [-0.5, -0.51, -0.49]}), 400, finished=(14, 18), left_out=["mix"])
    assert verdict.heading == "No conclusion yet: 14 of 18 runs are finished"
    assert any(sentence.startswith("14 of 18 runs are finished, all of 3 seeds") for sentence in verdict.sentences)
    assert any(sentence.startswith("ssim: ") and ": better" in sentence for sentence in verdict.sentences)
    assert any(sentence.startswith("Left out for want of time: mix.") for sentence in verdict.sentences)


def test_one_that_is_far_off_does_not_hinder_the_others() -> None:
    verdict = recommendation(records({"ssim": [-0.5, -0.51, -0.49], "far": [0.0, 0.0, 0.0]}), 400)
    assert verdict.heading == "Structure helps on these images: train with ssim"
    assert "Not compared, as their rates do not reach that far: far." in verdict.sentences


def test_the_nearest_training_image_gives_a_scale() -> None:
    with_reference = [replace(r, reference=0.25) for r in records({"ssim": [-0.5, -0.51, -0.49]})]
    assert "the nearest training image is at 0.25" in recommendation(with_reference, 400).sentences[0]


def test_short_training_is_announced(capsys: pytest.CaptureFixture[str]) -> None:
    warn_if_short(extent(60), COSTS, 1)
    assert capsys.readouterr().out == ""
    warn_if_short(extent(2.4), COSTS, 1)
    # 3 objectives x 2 points x 3 seeds x (400 x 0.01 s + 5 s) / 0.85 = 191 s
    assert "do not expect a clear answer; 400 would need about 4 minutes" in capsys.readouterr().out


# --- planning anew ------------------------------------------------------------------------------------------------


def again(old: Extent, seconds: float, done: int) -> tuple[int, list[str]]:
    """Seeds and objectives when so many seconds are left after `done` seeds."""
    new = replanned(old, COSTS, seconds=seconds, parallel=1, done=done)
    assert (new.points, new.iterations) == (old.points, old.iterations)
    return new.seeds, list(new.objectives)


def test_a_plan_follows_what_runs_have_cost() -> None:
    old = extent(7)
    assert old.objectives == ("l2", "l1", "ssim", "mix")
    run = old.iterations * 0.01 + 5.0
    seed = 4 * 3 * run  # seconds
    assert again(old, 2 * seed, 1) == (3, ["l2", "l1", "ssim", "mix"])  # as planned
    assert again(old, 1.6 * seed, 1) == (3, ["l2", "l1", "mix"])  # slower
    assert again(old, 0.1 * seed, 1) == (3, ["l2", "l1", "mix"])
    assert again(old, 0.1 * seed, 2) == (3, ["l2", "l1", "ssim", "mix"])  # which have two seeds
    everything = 2 * 7 * 3 * run + 3 * 3 * run  # two seeds of seven, and one of those that come in
    assert again(old, everything, 1) == (3, list(NAMES))
    assert again(old, everything + 2.1 * 7 * 3 * run, 1) == (5, list(NAMES))  # seeds for the rest
    assert again(old, 1e6, 1) == (10, list(NAMES))


def test_costs_are_corrected_by_what_runs_took(splits: Splits) -> None:
    runs = make_plan(content(splits, 7), "quick").runs
    seconds = COSTS.of([run.variant for run in runs], runs[0].training.iterations)
    corrected = COSTS.corrected(runs, 2 * seconds)
    assert corrected.iteration["mix"] == pytest.approx(0.02)
    assert corrected.evaluation == pytest.approx(10)


def test_what_the_first_runs_cost_is_known_before_the_others_begin(splits: Splits, tmp_path: Path) -> None:
    """Of nothing finished, as many runs as there are processes; then all others of the seed."""
    plan = make_plan(content(splits, 7), "quick")
    assert running._next_runs(plan, tmp_path, 2) == plan.runs[:2]
    finished = plan.runs[:2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "is_finished", lambda run, *_: run in finished)
        assert running._next_runs(plan, tmp_path, 2) == tuple(run for run in plan.runs[2:] if run.seed == 0)


# --- the command --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("without_st_lpips")
def test_a_whole_quick_study(
    splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With as little as there can be: two objectives, two temperatures, two seeds, two iterations."""
    data = splits.train.source.removesuffix(", images, training")
    monkeypatch.setattr(running, "measure", lambda _: Costs(dict.fromkeys(NAMES, 1.0), 0.1))
    monkeypatch.setattr(planning, "_LEAST", 1)
    monkeypatch.setattr(planning, "_MOST", 2)
    monkeypatch.setattr(planning, "_MOST_SEEDS", 3)
    monkeypatch.setattr(planning, "_SIZES", ((("l2", "ssim"), 2),))
    monkeypatch.setattr(planning, "_RESOLUTION", 32)

    def carry_on(plan: Plan, output: Path, **_: object) -> list[Outcome]:
        """In this process, which is quicker than to start another."""
        for run in plan.runs:
            carry_out(run, output, plan.evaluation, splits)
        return [Outcome(run, "finished") for run in plan.runs]

    monkeypatch.setattr(running, "carry_on", carry_on)
    words = ["study", "--quick", "--data", data, "-o", str(tmp_path / "out"), "--budget", "5", "--seeds", "2"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "8 runs of 2 iterations" in printed
    assert "there is time for 3 seeds" in printed  # which is used
    assert len(list((tmp_path / "out" / "runs").rglob("evaluation.json"))) == 12
    html = (tmp_path / "out" / "report" / "index.html").read_text()
    heading = next(line for line in printed.splitlines() if line.startswith(("Structure", "No ")))
    assert heading in html
    assert len((tmp_path / "out" / "results.csv").read_text().splitlines()) > 8
    kept = json.loads((tmp_path / "out" / "quick.json").read_text())
    assert main([*words, "--size", "10"]) == 2
    assert "holds a study of" in capsys.readouterr().err
    assert json.loads((tmp_path / "out" / "quick.json").read_text()) == kept


@pytest.mark.usefixtures("without_st_lpips")
def test_a_quick_study_that_its_budget_ends_has_no_verdict(
    splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One seed is whole, of the other a run is missing."""
    data = splits.train.source.removesuffix(", images, training")
    monkeypatch.setattr(running, "measure", lambda _: Costs(dict.fromkeys(NAMES, 1.0), 0.1))
    monkeypatch.setattr(planning, "_LEAST", 1)
    monkeypatch.setattr(planning, "_MOST", 2)
    monkeypatch.setattr(planning, "_SIZES", ((NAMES, 3), (("l2", "ssim"), 2)))
    monkeypatch.setattr(planning, "_RESOLUTION", 32)

    monkeypatch.setattr(running, "replanned", lambda extent, *_, **__: extent)
    monkeypatch.setattr(running, "planned", lambda *_, **__: Extent(("l2", "ssim"), 2, 2, 2))

    def carry_on(plan: Plan, output: Path, **_: object) -> list[Outcome]:
        last = len(plan.runs) - plan.runs[0].seed  # of seed 1 not the last
        for run in plan.runs[:last]:
            carry_out(run, output, plan.evaluation, splits)
        return [Outcome(run, "finished") for run in plan.runs[:last]]

    monkeypatch.setattr(running, "carry_on", carry_on)
    assert main(["study", "--quick", "--data", data, "-o", str(tmp_path / "out"), "--seeds", "2"]) == 0
    printed = capsys.readouterr()
    assert "\nNo conclusion\n7 of 8 runs are finished, all of 1 seed: " in printed.out
    assert "Left out for want of time: l1, ssim_sum, ms_ssim, mix, pyramid." in printed.out
    assert "7 of 8 runs are finished; the same command goes on" in printed.err
    html = (tmp_path / "out" / "report" / "index.html").read_text()
    assert "<h2>No conclusion</h2>" in html


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--budget", "0"], "budget must be a positive number of minutes, got 0"),
        (["--seeds", "1"], "seeds must be at least 2, or nothing can be said of chance, got 1"),
        (["--size", "5"], "images are 5 x 5 px: structure needs at least 8 x 8 px"),
        (["--data", "nowhere"], "no such data: 'nowhere'"),
    ],
    ids=["budget", "seeds", "size", "data"],
)
def test_bad_input_leaves_nothing(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", "--quick", "--data", "mnist5k", "-o", str(tmp_path / "out"), *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_few_images_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "few.npy", np.zeros((50, 12, 12), np.uint8))
    assert main(["study", "--quick", "--data", str(tmp_path / "few.npy"), "-o", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "few.npy" in error
    assert "holds 50 images: an answer needs at least 100, and a thousand are better" in error
    assert not (tmp_path / "out").exists()
