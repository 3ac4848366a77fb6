"""Tables of runs made by hand, against numbers worked out by hand."""

from dataclasses import replace
from pathlib import Path

import pytest
from made_runs import DISTANCE, FRECHET, KERNEL, KL, PSNR, SSIM, judge, place, sweep, write_run

from ssimgen.report.arms import arms_of
from ssimgen.report.comparison import comparisons
from ssimgen.report.folders import read_runs
from ssimgen.report.ranking import ranking
from ssimgen.report.results import RESULTS, records_of
from ssimgen.report.summary import MATCHED, SUMMARY, Summary, _verdict, matched, rank_key, summary
from ssimgen.scores import Score

MEAN = Summary(
    study="", data="noise", group="vae", model="vae", variant="l2", point="", arm="l2", rate=None, kind="samples",
    score=Score("frechet_distance", "x"), better="lower", trained_on="no", seeds=3, value=1.0, low=None, high=None,
    interval="seeds", reference=None, baseline="", pairs=0, difference=None, difference_low=None, difference_high=None,
    p_value=None,
)  # fmt: skip


def test_records_hold_every_number(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", {PSNR: 20.0, SSIM: 0.5}, seed=3, study=place("l2"))
    records = records_of(read_runs([run]))
    assert [(r.metric, r.value, r.trained_on) for r in records] == [(PSNR, 20.0, "yes"), (SSIM, 0.5, "no")]
    first = records[0]
    assert (first.variant, first.seed, first.iterations, first.train_seconds) == ("l2", 3, 20, 2.0)
    assert all(hasattr(first, column) for column in RESULTS)


def test_seeds_are_taken_together_and_compared_in_pairs(tmp_path: Path) -> None:
    for seed, (ours, theirs) in enumerate([(1.0, 2.0), (2.0, 4.0), (3.0, 6.0)]):
        write_run(tmp_path / f"a{seed}", {DISTANCE: theirs}, seed=seed, study=place("l2"))
        write_run(tmp_path / f"b{seed}", {DISTANCE: ours}, seed=seed, study=place("ssim"))
    rows = {row.variant: row for row in summary(records_of(read_runs([tmp_path])))}
    assert (rows["l2"].value, rows["l2"].seeds, rows["l2"].difference) == (4.0, 3, None)
    assert (rows["ssim"].value, rows["ssim"].difference) == (2.0, -2.0)
    assert rows["ssim"].low == pytest.approx(2 - 4.302653 / 3**0.5, rel=1e-6)  # Student, s = 1
    assert rows["ssim"].p_value == pytest.approx(1 - (12 / 14) ** 0.5)  # t = -2 sqrt 3 with 2 degrees of freedom
    assert rows["ssim"].verdict == "no difference shown"
    assert all(hasattr(rows["ssim"], column) for column in SUMMARY)


@pytest.mark.parametrize(
    ("p", "difference", "better", "verdict"),
    [
        (0.05, 1.0, "higher", "better"),  # at most 0.05, as docs/study.md says
        (0.05, -1.0, "higher", "worse"),
        (0.05, -1.0, "lower", "better"),
        (0.05, 1.0, "reference", "differs"),
        (0.0500001, 1.0, "higher", "no difference shown"),
        (0.0500001, 1.0, "reference", "no difference shown"),
        (None, 1.0, "higher", "one seed"),
    ],
)
def test_verdicts(p: float | None, difference: float, better: str, verdict: str) -> None:
    row = replace(MEAN, difference=difference, pairs=3, p_adjusted=p, better=better)
    assert _verdict(row, 3) == verdict
    assert _verdict(row, 4) == "3 of 4 seeds"


def test_a_metric_that_may_not_judge_has_no_verdict() -> None:
    row = replace(MEAN, difference=-1.0, pairs=3, p_adjusted=0.01, unfit="it does not rank a before b")
    assert _verdict(row, 3) == "no judge"
    assert _verdict(replace(row, p_adjusted=0.9), 3) == "no judge"


@pytest.mark.parametrize(
    ("value", "difference", "better", "verdict"),
    [
        (2.0, -1.0, "lower", "better"),  # 2 against 3; the mean image is at 2.5
        (4.0, 1.6, "lower", "worse"),  # 4 against 2.4
        (2.5, -1.0, "lower", "no better than one picture"),
        (4.0, 1.0, "lower", "no better than one picture"),
        (3.0, 1.0, "higher", "better"),
        (2.5, 1.0, "higher", "no better than one picture"),
    ],
)
def test_models_that_one_picture_could_replace_have_no_verdict(
    value: float, difference: float, better: str, verdict: str
) -> None:
    row = replace(MEAN, value=value, difference=difference, pairs=3, p_adjusted=0.01, better=better)
    assert _verdict(replace(row, mean_image=2.5), 3) == verdict


def test_what_was_not_checked_may_not_judge(tmp_path: Path) -> None:
    checked = write_run(tmp_path / "a", {DISTANCE: 2.0, PSNR: 20.0}, judges=[judge(DISTANCE, mean_image=7.0)])
    records = {r.metric: r for r in records_of(read_runs([checked]))}
    assert (records[DISTANCE].unfit, records[DISTANCE].mean_image, records[PSNR].unfit) == ("", 7.0, "")
    failed = write_run(tmp_path / "b", {DISTANCE: 2.0}, judges=[judge(DISTANCE, passed=False)])
    (record,) = records_of(read_runs([failed]))
    assert record.unfit == "it does not rank real images (0) before mean image (0)"
    unchecked = write_run(tmp_path / "c", {DISTANCE: 2.0, PSNR: 20.0}, judges=[])
    records = {r.metric: r for r in records_of(read_runs([unchecked]))}
    assert records[DISTANCE].unfit.startswith("nobody has checked whether it ranks degraded images")
    assert records[PSNR].unfit == ""  # it is what it says, and needs no check


def test_models_are_ranked_by_the_first_metric_that_may_judge(tmp_path: Path) -> None:
    values = {"l2": (1.0, 5.0), "ssim": (3.0, 4.0)}  # by the kernel distance l2 comes first, by Frechet's ssim
    for fit, first in (((True, True), "l2"), ((False, True), "ssim"), ((False, False), "l2")):
        folder = tmp_path / "-".join(map(str, fit))
        checks = [judge(KERNEL, passed=fit[0]), judge(FRECHET, passed=fit[1])]
        for variant, (by_kernel, by_frechet) in values.items():
            scores = {KERNEL: by_kernel, FRECHET: by_frechet}
            write_run(folder / variant, scores, options={"objective": variant}, study=place(variant), judges=checks)
        runs = read_runs([folder])
        means = summary(records_of(runs))
        found = ranking("samples", means, arms_of(runs, records_of(runs)))
        assert found is not None
        assert found.lines[0].label.startswith(first)
        (compared,) = comparisons(means, lambda row: row.variant)
        if any(fit):
            assert found.columns[found.by].score.key == ("kernel_distance" if fit[0] else "frechet_distance")
            assert compared.place == found.by
        else:
            assert found.by is compared.place is None
        assert [column.unfit for column in found.columns] == [not f for f in fit]
        assert [column.best is None for column in found.columns] == [not f for f in fit]


def test_there_is_no_verdict_while_a_seed_is_missing(tmp_path: Path) -> None:
    paths = sweep(tmp_path)
    lost = next(path for path in paths if path.name == "ssim-20-2")
    paths.remove(lost)
    records = records_of(read_runs(paths))
    by_point = {(r.variant, r.point): r for r in summary(records) if r.metric == DISTANCE}
    assert {r.verdict for r in by_point.values()} == {""}  # no point in common with the baseline
    at_rate = [r for r in matched(records, [25.0]) if r.metric == DISTANCE and r.variant == "ssim"]
    assert [(r.verdict, r.seeds) for r in at_rate] == [("2 of 3 seeds", 2)]


def test_one_ranking_serves_all_metrics() -> None:
    def order(better: str, values: list[float | None], reference: float | None = None) -> list[float | None]:
        rows = [v if v is None else replace(MEAN, value=v, better=better, reference=reference) for v in values]
        return [row and row.value for row in sorted(rows, key=rank_key)]

    assert order("higher", [1.0, None, 3.0, 2.0]) == [3.0, 2.0, 1.0, None]
    assert order("lower", [1.0, None, 3.0, 2.0]) == [1.0, 2.0, 3.0, None]
    assert order("reference", [1.0, 5.0, 3.0, None], 3.5) == [3.0, 5.0, 1.0, None]
    assert rank_key(None) > rank_key(replace(MEAN, value=9.0))


def test_comparisons_rank_by_nearness_to_real_images_where_that_is_best(tmp_path: Path) -> None:
    """Sharpness 0.5 is that of real images: 0.2 is too blurred, 0.55 about right, 0.9 too sharp."""
    for variant, value in (("l2", 0.2), ("ssim", 0.55), ("mix", 0.9)):
        write_run(tmp_path / variant, {"sharpness": value}, options={"objective": variant}, study=place(variant))
    (table,) = comparisons(summary(records_of(read_runs([tmp_path]))), lambda row: row.variant)
    assert [line.label for line in table.lines] == ["ssim", "l2", "mix"]


def test_a_single_seed_keeps_the_interval_over_images(tmp_path: Path) -> None:
    write_run(tmp_path / "a", {DISTANCE: 2.0}, study=place("l2"))
    write_run(tmp_path / "b", {DISTANCE: 1.0}, study=place("ssim"))
    rows = {row.variant: row for row in summary(records_of(read_runs([tmp_path])))}
    assert (rows["l2"].interval, rows["l2"].low, rows["l2"].high) == ("images", 1.8, 2.2)
    assert (rows["ssim"].difference, rows["ssim"].p_value, rows["ssim"].verdict) == (-1.0, None, "one seed")


def test_models_are_compared_at_equal_rate(tmp_path: Path) -> None:
    """Rates of all reach from 20 to 30, where the lines of both are known: see `sweep`."""
    rows = [r for r in matched(records_of(read_runs(sweep(tmp_path)))) if r.metric == DISTANCE]
    assert sorted({row.rate for row in rows}) == [22.5, 25.0, 27.5]
    at = {row.variant: row for row in rows if row.rate == 25.0}
    assert at["l2"].value == pytest.approx(10 - 2.5 + 1)
    assert at["ssim"].value == pytest.approx(10 - 2.5 + 1 - 2.1)
    assert at["ssim"].difference == pytest.approx(-2.1)
    assert at["ssim"].verdict == "better"  # t = -2.1 / (0.1 / sqrt 3) = -36
    assert at["ssim"].p_value == pytest.approx(1 - 36.3731 / (36.3731**2 + 2) ** 0.5, rel=1e-3)
    assert all(hasattr(at["ssim"], column) for column in MATCHED)


def test_rates_can_be_chosen_and_nothing_is_extrapolated(tmp_path: Path) -> None:
    rows = matched(records_of(read_runs(sweep(tmp_path))), [15.0])
    assert {row.variant for row in rows} == {"l2"}
    assert KL not in {row.metric for row in rows}


def test_a_variant_of_other_rates_does_not_hinder_the_rest(tmp_path: Path) -> None:
    paths = sweep(tmp_path)
    for seed in range(3):
        for rate in (0.1, 0.2):
            values = {KL: rate, DISTANCE: 1.0}
            paths.append(write_run(tmp_path / f"far-{rate}-{seed}", values, seed=seed, study=place("far", tau=rate)))
    rows = matched(records_of(read_runs(paths)))
    assert sorted({row.rate for row in rows}) == [22.5, 25.0, 27.5]
    assert {row.variant for row in rows} == {"l2", "ssim"}


def test_the_baseline_is_never_left_out(tmp_path: Path) -> None:
    for seed in range(2):
        for variant, rates in (("l2", (0.1, 0.2)), ("ssim", (10.0, 20.0)), ("mix", (10.0, 20.0))):
            for rate in rates:
                path = tmp_path / f"{variant}-{rate}-{seed}"
                write_run(path, {KL: rate, DISTANCE: 1.0}, seed=seed, study=place(variant, tau=rate))
    assert matched(records_of(read_runs([tmp_path]))) == []


def test_a_rate_that_is_unknown_is_left_out(tmp_path: Path) -> None:
    paths = sweep(tmp_path)
    paths.append(write_run(tmp_path / "lost", {KL: None, DISTANCE: 1.0}, seed=0, study=place("ssim", tau=99.0)))
    assert sorted({row.rate for row in matched(records_of(read_runs(paths)))}) == [22.5, 25.0, 27.5]


def test_runs_without_a_study_are_named_by_what_differs(tmp_path: Path) -> None:
    write_run(tmp_path / "a", {PSNR: 1.0})
    write_run(tmp_path / "b", {PSNR: 2.0}, options={"objective": "ssim", "structure": {"form": "sum", "k2": 0.03}})
    records = records_of(read_runs([tmp_path]), baseline="objective=l2")
    assert [r.variant for r in records] == ["objective=l2 form=product", "objective=ssim form=sum"]
    assert {r.baseline for r in records} == {"objective=l2 form=product"}
    with pytest.raises(ValueError, match=r"no run is called 'l3', as the baseline should be: there are objective=l2"):
        records_of(read_runs([tmp_path]), baseline="l3")


def test_infinite_values_are_left_out(tmp_path: Path) -> None:
    write_run(tmp_path / "a", {PSNR: None, SSIM: 1.0}, study=place("l2"))
    assert [row.metric for row in summary(records_of(read_runs([tmp_path])))] == [SSIM]
