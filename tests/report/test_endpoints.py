"""Primary endpoints: which comparisons they are, what is adjusted, and when there is no verdict."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from made_runs import DISTANCE, KL, PSNR, judge, place, write_run

from ssimgen import scores
from ssimgen.report import write_report
from ssimgen.report.endpoints import PRIMARIES, conclusion, endpoints, faults, table, unequal, unnamed
from ssimgen.report.folders import read_runs
from ssimgen.report.results import Result, records_of
from ssimgen.report.summary import summary

BETTER = (-0.5, -0.6, -0.4, -0.55, -0.45)
NOISE = (-0.5, 0.3, -0.4, 0.2, -0.3)
PRIMARY = "feature_distance"


def study(
    folder: Path,
    variants: dict[str, Sequence[float]],
    *,
    primary: str = PRIMARY,
    rate: float = 20.0,
    target: float | None = 20.0,
    **changes: Any,
) -> list[Result]:
    """A study whose baseline has a feature distance of 2 with every seed, and variants so much more."""
    for variant, differences in {"l2": [0.0] * max(map(len, variants.values())), **variants}.items():
        for seed, difference in enumerate(differences):
            write_run(
                folder / f"{variant}-{seed}",
                {KL: rate, DISTANCE: 2.0 + 0.1 * seed + difference, PSNR: 20.0 + 1e-3 * seed - difference},
                seed=seed,
                options={"objective": variant, "kl_target": target},
                study={**place(variant), "primary": primary},
                **changes,
            )
    return records_of(read_runs([folder]))


def test_a_difference_is_found_and_described(tmp_path: Path) -> None:
    (found,) = endpoints(study(tmp_path, {"ssim": BETTER}))
    assert (found.row.verdict, found.why, found.row.metric) == ("better", "", DISTANCE)
    assert found.row.difference == pytest.approx(-0.5)
    assert found.row.p_adjusted == found.row.p_value
    assert found.effect is not None
    assert found.effect.value == pytest.approx(-0.5 / math.sqrt(0.025 / 4))
    assert found.effect.low < found.effect.value < found.effect.high < 0
    assert found.p_sign_flip == 2 / 2**5  # all signs agree, and yet it is above 0.05
    assert found.power == pytest.approx(1.0, abs=1e-3)
    said = conclusion([found], [])
    assert said.heading == "Of 1 primary comparison, 1 better than the baseline"
    assert (
        "noise, vae: ssim against l2: feature distance 1.7 instead of 2.2 (-22.7%; 95% interval -0.598 to -0.402"
        in (said.sentences[0])
    )


def test_what_is_not_found_comes_with_what_could_have_been(tmp_path: Path) -> None:
    (found,) = endpoints(study(tmp_path, {"ssim": NOISE}))
    assert found.row.verdict == "no difference shown"
    assert found.needed is not None
    assert found.needed > 5
    assert found.power is not None
    assert 0.05 < found.power < 0.8
    said = conclusion([found], [])
    assert said.heading == "No difference is shown in a primary endpoint"
    assert f"with {found.power:.2f}: that needs {found.needed} seeds." in said.sentences[0]


def test_one_adjustment_is_over_all_primary_comparisons(tmp_path: Path) -> None:
    """Of both sets of images, what cannot be tested included."""
    records = study(tmp_path / "a", {"ssim": BETTER, "mix": NOISE, "few": BETTER[:3]})
    alone = {e.row.variant: e for e in endpoints(records)}
    assert alone["ssim"].row.p_adjusted == pytest.approx(3 * alone["ssim"].row.p_value)
    assert alone["few"].row.verdict == "no verdict"
    both = [*records, *study(tmp_path / "b", {"ssim": NOISE}, data_hash="e" * 64)]
    for record in both[len(records) :]:
        object.__setattr__(record, "data", "other")
    of_all = {(e.row.data, e.row.variant): e for e in endpoints(both)}
    assert len(of_all) == 4
    assert of_all["noise", "ssim"].row.p_adjusted == pytest.approx(4 * alone["ssim"].row.p_value)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"variants": {"ssim": BETTER[:4]}}, "it has 4 seeds, and a verdict needs 5"),
        ({"variants": {"ssim": BETTER[:1]}}, "it has 1 seed, and a verdict needs 5"),
        ({"judges": [judge(DISTANCE, passed=False)]}, "feature distance is no judge here: it does not rank"),
        ({"judges": [judge(DISTANCE, mean_image=1.0)]}, "it is no better than one picture"),
        ({"rate": 0.4, "target": None}, ""),
        ({"rate": 17.9}, "ssim seed 0: it has 17.9 nats instead of 20"),
        ({"rate": 0.4}, "ssim seed 0: its code says 0.4 nats of an image"),
        ({"primary": "psnr"}, "l2 was trained on that very metric"),
    ],
    ids=["4 seeds", "1 seed", "no judge", "one picture", "no target", "off target", "collapsed", "own objective"],
)
def test_there_is_no_verdict_without_grounds(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    records = study(tmp_path, **{"variants": {"ssim": BETTER}, **changes})
    found = endpoints(records)
    if not why:
        assert found == []
        assert unnamed(records)[0].startswith(
            "noise, vae: no verdict, as its models have different rates, and its file"
        )
        return
    assert [e.row.verdict for e in found] == ["no verdict"]
    assert why in found[0].why
    assert conclusion(found, []).heading == "No verdict"


def test_runs_that_are_missing_leave_no_verdict(tmp_path: Path) -> None:
    (found,) = endpoints(study(tmp_path, {"ssim": BETTER}), missing="runs of the study are missing")
    assert found.why == "runs of the study are missing"
    assert [line["verdict"] for line in table([found])] == ["no verdict"]
    assert tuple(table([found])[0]) == PRIMARIES


def test_an_endpoint_that_was_named_afterwards_is_none(tmp_path: Path) -> None:
    study(tmp_path / "before", {"ssim": BETTER}, primary="")
    study(tmp_path / "after", {"mix": BETTER})
    for seed in range(5):  # the baseline is trained once
        (tmp_path / "after" / f"l2-{seed}" / "config.json").unlink()
    records = records_of(read_runs([tmp_path]))
    assert endpoints(records) == []
    assert "was named, or changed, when some of its runs were there already" in unnamed(records)[0]
    exploratory = records_of(read_runs([tmp_path / "before"]))
    assert conclusion([], unnamed(exploratory)).heading == "No verdict: what is here is exploratory"
    assert "names no primary endpoint" in unnamed(exploratory)[0]


def test_models_of_different_rates_are_compared_at_the_rates_of_the_file(tmp_path: Path) -> None:
    """Collapsed runs are no points to interpolate from: at 5 nats there is nothing, at 25 there is."""
    for seed, difference in enumerate(BETTER):
        for variant in ("l2", "ssim"):
            for rate in (0.0, 20.0, 30.0):
                value = 3.0 - rate / 100 + (difference if variant == "ssim" else 0.0)
                of_study = {**place(variant, tau=rate), "primary": PRIMARY}
                write_run(
                    tmp_path / f"{variant}-{rate}-{seed}",
                    {KL: rate, DISTANCE: value},
                    seed=seed,
                    options={"objective": variant, "tau": rate},
                    study=of_study,
                )
    records = records_of(read_runs([tmp_path]))
    assert endpoints(records) == endpoints(records, [5.0]) == []
    (found,) = endpoints(records, [25.0])
    assert (found.row.rate, found.row.verdict) == (25.0, "better")
    assert "at 25 nats" in found.name
    assert faults(records)[0] == (
        "noise, vae: l2 tau=0 with seed 0, 1, 2, 3, 4 compares with no other, as its code says 0 nats of an image."
    )


def swept(folder: Path, collapsed: set[tuple[str, float, int]], seeds: int = 5, **changes: Any) -> list[Result]:
    """l2 and ssim at 3, 12 and 30 nats; ssim is nearer by half. Some collapsed, (variant, rate, seed)."""
    for seed in range(seeds):
        for variant in ("l2", "ssim"):
            for rate in (3.0, 12.0, 30.0):
                write_run(
                    folder / f"{variant}-{rate}-{seed}",
                    {KL: rate, DISTANCE: 3.0 - rate / 100 - (0.5 + 0.01 * seed if variant == "ssim" else 0.0)},
                    seed=seed,
                    options={"objective": variant, "tau": rate},
                    study={**place(variant, tau=rate), "primary": PRIMARY},
                    collapsed="its samples are one image" if (variant, rate, seed) in collapsed else "",
                    **changes,
                )
    return records_of(read_runs([folder]))


def test_no_line_is_drawn_across_runs_that_collapsed(tmp_path: Path) -> None:
    whole = swept(tmp_path / "whole", set())
    assert [e.row.verdict for e in endpoints(whole, [12.0, 20.0])] == ["better", "better"]
    gap = swept(tmp_path / "gap", {("ssim", 12.0, seed) for seed in range(5)})
    assert endpoints(gap, [12.0]) == endpoints(gap, [20.0]) == []
    assert faults(gap)[0].startswith("noise, vae: ssim tau=12 with seed 0, 1, 2, 3, 4 compares with no other")
    end = swept(tmp_path / "end", {("ssim", 3.0, seed) for seed in range(5)})  # which nothing needs
    assert [e.row.verdict for e in endpoints(end, [20.0])] == ["better"]


@pytest.mark.parametrize("variant", ["l2", "ssim"])
def test_seeds_that_collapsed_are_not_dropped(variant: str, tmp_path: Path) -> None:
    """Of either arm: what is left is a choice of seeds by their outcome."""
    (found,) = endpoints(swept(tmp_path, {(variant, 12.0, 5)}, seeds=6), [20.0])
    assert (found.row.pairs, found.row.verdict) == (5, "no verdict")
    assert found.why == f"{variant} tau=12 seed 5: its samples are one image"


def test_a_report_of_some_runs_gives_no_verdict_of_their_study(tmp_path: Path) -> None:
    study(tmp_path / "runs", {"ssim": BETTER})
    html = write_report([tmp_path / "runs"], tmp_path / "report").read_text()
    assert "no verdict, as these may be some of the runs of their study, whose own report has the verdict" in html
    assert "▲ better" not in html.split('<section id="primary">')[1].split("</section>")[0]


def test_what_cost_more_is_said(tmp_path: Path) -> None:
    for seed in range(5):
        for variant, seconds in (("l2", 10.0), ("l1", 10.9), ("ssim", 50.0)):
            write_run(
                tmp_path / f"{variant}-{seed}",
                {KL: 20.0, DISTANCE: 2.0},
                seed=seed,
                options={"objective": variant, "kl_target": 20.0},
                study={**place(variant), "primary": PRIMARY},
                processor_seconds=seconds,
            )
    assert unequal(records_of(read_runs([tmp_path]))) == [
        "noise, vae: ssim had 50 s of processor time a run and l2 10: not equal time."
    ]


@pytest.mark.parametrize(
    ("objective", "primary", "why"),
    [
        ("features", "feature_distance", "ssim was trained on a metric like that one"),
        ("mix", "ms_ssim", "ssim was trained on a metric like that one"),
        ("bce", "parzen", "log-likelihood is not put to a test before it judges models"),
    ],
)
def test_primaries_that_judge_nothing(objective: str, primary: str, why: str, tmp_path: Path) -> None:
    label = scores.METRICS[primary].label
    metric = f"{label} (EfficientNet-Lite0, 64 px)" if primary == "feature_distance" else label
    for seed, difference in enumerate(BETTER):
        for variant, name, more in (("l2", "bce", 0.0), ("ssim", objective, difference)):
            write_run(
                tmp_path / f"{variant}-{seed}",
                {KL: 20.0, metric: 2.0 + more},
                seed=seed,
                options={"objective": name, "kl_target": 20.0},
                study={**place(variant), "primary": primary},
                judges=[judge(metric)],
            )
    (found,) = endpoints(records_of(read_runs([tmp_path])))
    assert why in found.why


def test_other_metrics_are_exploratory(tmp_path: Path) -> None:
    rows = {r.score.key: r for r in summary(study(tmp_path, {"ssim": BETTER})) if r.variant == "ssim"}
    assert (rows["psnr"].verdict, rows[PRIMARY].verdict) == ("exploratory", "primary endpoint")


def test_the_report_shows_them(tmp_path: Path) -> None:
    study(tmp_path / "runs", {"ssim": BETTER, "mix": NOISE})
    primary = endpoints(records_of(read_runs([tmp_path / "runs"])))
    html = write_report([tmp_path / "runs"], tmp_path / "report", primary=primary).read_text()
    assert "Of 2 primary comparisons, 1 better than the baseline" in html
    section = html.split('<section id="primary">')[1].split("</section>")[0]
    assert section.count("<tr>") == 3
    assert "▲ better" in section
    assert "Exploratory, but for the primary endpoints above" in html
    compared = html.split('<section id="compared">')[1].split("</section>")[0]
    assert "▲<" not in compared
    study(tmp_path / "old", {"ssim": BETTER}, primary="")
    html = write_report([tmp_path / "old"], tmp_path / "report").read_text()
    assert "No verdict: what is here is exploratory" in html
    assert '<section id="primary">' not in html


def test_primaries_are_written_as_a_table(tmp_path: Path) -> None:
    path = tmp_path / "primaries.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, PRIMARIES)
        writer.writeheader()
        writer.writerows(table(endpoints(study(tmp_path / "runs", {"ssim": BETTER}))))
    (line,) = csv.DictReader(path.read_text().splitlines())
    assert float(line["baseline_value"]) == pytest.approx(2.2)
    assert (line["verdict"], line["why"]) == ("better", "")
