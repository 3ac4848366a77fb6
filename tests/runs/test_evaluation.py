"""Evaluation of runs: what it writes, that its rows are those of the functions it calls, and what it refuses."""

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ssimgen import ssim
from ssimgen._reading import read_evaluation
from ssimgen.cli import main
from ssimgen.commands.evaluate import print_table
from ssimgen.data import Source, Splits, load_images
from ssimgen.evaluation import Estimate, FeatureNetwork, evaluate_samples, probe_accuracy
from ssimgen.evaluation.reconstruction import OF_RECONSTRUCTIONS
from ssimgen.evaluation.samples import OF_SAMPLES, of_images
from ssimgen.models import AAE, CGMMN, GMMN, VAE, AAEConfig, CGMMNConfig, GMMNConfig, Model, VAEConfig
from ssimgen.models.networks import Network
from ssimgen.models.vae import kl_to_standard_normal
from ssimgen.report import write_report
from ssimgen.runs import Evaluation, EvaluationOptions, ScoreRow, add_checks, evaluate_run, judge
from ssimgen.runs.evaluation import remembering
from ssimgen.runs.judge import rate_row
from ssimgen.scores import JUDGES, METRICS, Metric, read
from ssimgen.training import RunFolder, Training, load_model, train

pytestmark = pytest.mark.usefixtures("without_st_lpips")

NETWORK = Network("mlp", hidden=(8,))
OPTIONS = EvaluationOptions(images=40, tested=20, permutations=19, resamples=50)
PIXELS = FeatureNetwork("coarse pixels", lambda x: torch.nn.functional.avg_pool2d(x, 4).flatten(1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 pictures of 12 x 12 px in two classes: dark and bright noise."""
    place = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for i in range(150):
        pixels = generator.integers(0, 128, (12, 12), dtype=np.uint8) + 127 * (i % 2)
        path = place / "ab"[i % 2] / f"{i:03}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    return place


@pytest.fixture(scope="module")
def splits(folder: Path) -> Splits:
    return load_images(str(folder))


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda real: real.flip(0), ""),
        (lambda real: 0.02 * real + 0.4, ""),  # grey, with a trace of what they are
        (lambda real: 0.009 * real + 0.4, "one image"),
        (lambda real: real[:1].expand_as(real), "one image"),
        (lambda real: 0.003 * real, "black"),
    ],
    ids=["real", "faint", "fainter than a hundredth", "one", "black"],
)
def test_collapse_is_seen(make: Callable[[Tensor], Tensor], found: str) -> None:
    real = torch.rand(30, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert judge.collapsed(make(real), real) == found


def trained(model: Model, splits: Splits, path: Path, source: Path) -> Path:
    torch.manual_seed(0)
    options = Training(iterations=4, batch=20, picture_every=4)
    train(
        model,
        splits.train,
        path,
        training=options,
        held_out=splits.held_out,
        notes={"source": asdict(Source(str(source)))},
    )
    return path


@pytest.fixture(scope="module")
def kept_run(splits: Splits, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "vae"
    return trained(VAE(VAEConfig(0.1, 2, network=NETWORK), splits.train.shape), splits, path, folder)


@pytest.fixture
def vae_run(kept_run: Path, tmp_path: Path) -> Path:
    """A copy of its own for each test, which may write into it."""
    return shutil.copytree(kept_run, tmp_path / "vae")


def rows_of(result: Evaluation, kind: str) -> dict[str, ScoreRow]:
    return {row.metric: row for row in result.rows if row.kind == kind}


def test_an_autoencoder_is_judged_by_rate_reconstructions_and_samples(vae_run: Path, splits: Splits) -> None:
    result = evaluate_run(vae_run, OPTIONS, network=PIXELS)
    assert result == read_evaluation(vae_run)
    assert json.loads((vae_run / "evaluation.json").read_text()) == json.loads(json.dumps(asdict(result)))
    assert (result.iteration, result.network) == (4, "coarse pixels")
    model = load_model(vae_run)
    images = splits.held_out.select(slice(None)).images  # 30, all of them
    scores = ssim(model.reconstruct(images), images, data_range=1.0)  # type: ignore[attr-defined]
    reconstruction = rows_of(result, "reconstruction")
    assert reconstruction["SSIM"].value == pytest.approx(scores.mean().item(), abs=1e-6)
    assert reconstruction["SSIM"].n == 30
    assert list(result.worst) == scores.argsort()[:16].tolist()
    drawn = model.sample(40, torch.Generator().manual_seed(0))
    expected = evaluate_samples(
        drawn,
        splits.train.select(slice(None)).images,
        images,
        data_range=1.0,
        network=PIXELS,
        options=OPTIONS.sample_options(),
    )
    assert [row.model.value for row in expected] == [row.value for row in rows_of(result, "samples").values()]
    assert not any("Parzen" in row.metric for row in expected)


# --- judges -------------------------------------------------------------------------------------------------------


def test_metrics_that_may_judge_are_told_from_those_that_may_not(vae_run: Path, splits: Splits) -> None:
    more = Splits(splits.train, splits.train)  # as many held-out images as judges need
    result = evaluate_run(vae_run, OPTIONS, splits=more, network=PIXELS)
    judged = {check.metric: check for check in result.judges}
    rows = {row.metric for row in result.rows if read(row.metric).key in JUDGES}
    assert rows | {"ST-LPIPS"} == judged.keys()
    assert judged["feature distance (coarse pixels)"].n == 40
    assert any(check.rankings for check in result.judges)
    assert evaluate_run(vae_run, OPTIONS, splits=more, network=PIXELS).judges == result.judges


def test_too_few_images_leave_every_judge_out(vae_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = evaluate_run(vae_run, OPTIONS, network=PIXELS)
    print_table(vae_run, result)
    said = capsys.readouterr().out
    assert not any(check.valid for check in result.judges)
    reason = "it needs 40 images of each set, and there are 30"
    assert "Left out of every verdict: feature distance (coarse pixels), " in said
    assert f", as {reason}.\n" in said


def test_runs_of_an_earlier_version_are_checked_once(vae_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = evaluate_run(vae_run, OPTIONS, network=PIXELS)
    file = vae_run / "evaluation.json"
    complete = json.loads(file.read_text())
    earlier = {key: value for key, value in complete.items() if key != "judges"}
    file.write_text(json.dumps(earlier))
    assert read_evaluation(vae_run).judges == ()
    said: list[str] = []
    add_checks([vae_run], said.append)  # by the network that runs are evaluated with, which is not this one
    assert said[0].startswith("judges are not checked, and give no verdict: ")
    assert "was evaluated with the feature network coarse pixels, not with EfficientNet-Lite0, 96 px" in said[0]
    assert json.loads(file.read_text()) == earlier
    monkeypatch.setattr("ssimgen.runs.evaluation.shared_network", lambda resolution: PIXELS)
    add_checks([vae_run], said.append)
    assert json.loads(file.read_text()) == complete
    written = file.stat().st_mtime_ns
    add_checks([vae_run], said.append)
    assert file.stat().st_mtime_ns == written
    assert read_evaluation(vae_run) == result
    assert len(said) == 1


def test_images_that_are_gone_are_said_once(vae_run: Path) -> None:
    evaluate_run(vae_run, OPTIONS, network=PIXELS)
    evaluation, config = (json.loads((vae_run / name).read_text()) for name in ("evaluation.json", "config.json"))
    del evaluation["judges"]
    config["source"]["data"] = "gone"
    (vae_run / "evaluation.json").write_text(json.dumps(evaluation))
    (vae_run / "config.json").write_text(json.dumps(config))
    said: list[str] = []
    add_checks([vae_run, vae_run, vae_run.parent / "no run"], said.append)
    (line,) = said
    assert line.startswith("judges are not checked, and give no verdict: no such data: 'gone'")


# --- rows ---------------------------------------------------------------------------------------------------------


def test_a_metric_is_one_entry_and_the_function_that_computes_it(
    vae_run: Path,
    splits: Splits,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With both it is in the file, the table, the report, its glossary, charts and comparisons."""
    label, meaning = "error of the mean, grey levels", "how far the brightness is off."
    entry = Metric("error of the mean", "lower", unit="grey levels", meaning=meaning)
    monkeypatch.setitem(METRICS, "brightness", entry)
    monkeypatch.setitem(
        OF_RECONSTRUCTIONS, "brightness", lambda pairs: 255 * (pairs.guesses - pairs.images).mean((1, 2, 3)).abs()
    )
    other = trained(VAE(VAEConfig(0.2, 2, network=NETWORK), splits.train.shape), splits, tmp_path / "other", folder)
    for run in (vae_run, other):
        result = evaluate_run(run, OPTIONS, network=PIXELS)
        print_table(run, result)
        assert label in capsys.readouterr().out
    assert rows_of(result, "reconstruction")[label].better == "lower"
    page = write_report([vae_run, other], tmp_path / "report", baseline="tau=0.1").read_text()
    assert f"<dt>{label}</dt><dd>{meaning}</dd>" in page
    assert f"{label}, lower is better" in page  # a chart
    assert page.count(f'<button type="button">{label}&nbsp;') == 2  # in the ranking, and beside the baseline


def test_so_is_one_of_samples(vae_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meaning = "the mean of all pixels."
    monkeypatch.setitem(METRICS, "brightness", Metric("brightness", "reference", meaning=meaning))
    monkeypatch.setitem(OF_SAMPLES, "brightness", of_images(lambda images, _: images.mean((1, 2, 3))))
    row = rows_of(evaluate_run(vae_run, OPTIONS, network=PIXELS), "samples")["brightness"]
    assert row.reference == pytest.approx(0.5, abs=0.05)
    assert row.n == 40
    page = write_report([vae_run], tmp_path / "report").read_text()
    assert f"<dt>brightness</dt><dd>{meaning}</dd>" in page


def test_pictures_are_of_the_run(vae_run: Path) -> None:
    evaluate_run(vae_run, OPTIONS, network=PIXELS)
    sizes = {}
    for name in ("real", "worst", "nearest"):
        with Image.open(vae_run / f"{name}.png") as picture:
            sizes[name] = picture.size
    pairs = (8 * 14 + 2, 4 * 14 + 2)  # 16 pairs, 8 a row, gaps of 2 px
    assert sizes == {"real": (6 * 14 + 2, 5 * 14 + 2), "worst": pairs, "nearest": pairs}


def test_the_rate_is_the_mean_kl(vae_run: Path, splits: Splits) -> None:
    model = load_model(vae_run)
    assert isinstance(model, VAE)
    row = rate_row(model, splits.train, OPTIONS)
    assert row is not None
    with torch.no_grad():
        rates = kl_to_standard_normal(*model.encode(splits.train.select(slice(None)).images))
    assert (row.metric, row.n) == ("KL, nats", 120)  # all of them, though batches are of 50
    assert row.model is not None
    assert row.model.value == pytest.approx(rates.mean().item(), rel=1e-5)
    estimate = OPTIONS.bootstrap().mean(rates)
    assert (row.model.low, row.model.high) == (
        pytest.approx(estimate.low, rel=1e-5),
        pytest.approx(estimate.high, rel=1e-5),
    )


@pytest.mark.parametrize("n", [3, 49, 80])
def test_the_interval_of_the_rate_is_over_images_however_few(n: int, splits: Splits) -> None:
    model = VAE(VAEConfig(0.1, 2, network=NETWORK), splits.train.shape).eval()
    row = rate_row(model, splits.train.subset(torch.arange(n), "some"), OPTIONS)
    assert row is not None
    assert row.n == n
    assert isinstance(row.model, Estimate)
    assert row.model.low < row.model.value < row.model.high


def test_codes_are_probed_for_classes_beside_as_many_principal_components(vae_run: Path, splits: Splits) -> None:
    row = rows_of(evaluate_run(vae_run, OPTIONS, network=PIXELS), "reconstruction")["probe accuracy"]
    vae, (train, held_out) = load_model(vae_run), (part.select(slice(None)) for part in splits)
    assert isinstance(vae, VAE)
    with torch.no_grad():
        right = probe_accuracy(vae.code(train.images), train.labels, vae.code(held_out.images), held_out.labels)
    assert row.value == pytest.approx(right.mean().item())
    assert row.reference is None  # which tables call that of real images, or of the nearest training image
    assert row.note == "1.000 from 2 principal components of pixels"  # dark and bright images are easily told apart
    assert row.n == 30


def test_codes_of_a_model_that_is_told_classes_and_of_images_without_are_not_probed(
    splits: Splits, folder: Path, tmp_path: Path
) -> None:
    told: Model = AAE(AAEConfig(2, num_classes=2, network=NETWORK), splits.train.shape)
    untold: Model = VAE(VAEConfig(0.1, 2, network=NETWORK), splits.train.shape)
    without = Splits(*(dataclasses.replace(part, labels=None) for part in splits))
    for name, model, images in (("told", told, splits), ("without", untold, without)):
        run = trained(model, images, tmp_path / name, folder)
        result = evaluate_run(run, OPTIONS, splits=images, network=PIXELS)
        assert "probe accuracy" not in rows_of(result, "reconstruction")


def test_a_generator_has_no_rate_and_no_reconstructions(splits: Splits, folder: Path, tmp_path: Path) -> None:
    run = trained(GMMN(GMMNConfig(3, network=NETWORK), splits.train.shape), splits, tmp_path / "gmmn", folder)
    result = evaluate_run(run, OPTIONS, network=PIXELS)
    assert {row.kind for row in result.rows} == {"samples"}
    assert not (run / "worst.png").exists()
    assert result.worst == ()


def test_conditional_samples_are_judged_by_class(splits: Splits, folder: Path, tmp_path: Path) -> None:
    model = CGMMN(CGMMNConfig(num_classes=2, network=NETWORK), splits.train.shape)
    assert model.num_classes == 2
    result = evaluate_run(trained(model, splits, tmp_path / "cgmmn", folder), OPTIONS, network=PIXELS)
    row = rows_of(result, "samples")["class accuracy"]
    assert row.reference == 1  # dark and bright images are easily told apart
    assert row.n == 40


def test_without_a_classifier_that_tells_real_images_apart_there_is_no_class_accuracy(
    splits: Splits, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Forty classes that have nothing to do with the images, three of each to learn from."""
    unrelated = Splits(*(dataclasses.replace(part, labels=torch.arange(len(part)) % 40) for part in splits))
    model = CGMMN(CGMMNConfig(num_classes=40, network=NETWORK), unrelated.train.shape)
    run = trained(model, unrelated, tmp_path / "cgmmn", folder)
    result = evaluate_run(run, OPTIONS, splits=unrelated, network=PIXELS)
    row = rows_of(result, "samples")["class accuracy"]
    assert (row.value, row.low, row.high) == (None, None, None)
    assert row.reference < 0.2
    assert re.search(r"of 30 real held-out images into their class, and always naming one", str(row.note))
    print_table(run, result)
    assert "class accuracy: no score, as the classifier puts" in capsys.readouterr().out
    assert "no score" in write_report([run], tmp_path / "report").read_text()


def test_a_conditional_model_of_a_single_class_is_refused(splits: Splits, folder: Path, tmp_path: Path) -> None:
    only = Splits(*(part.subset(torch.nonzero(part.labels == 0)[:, 0], part.source) for part in splits))
    model = CGMMN(CGMMNConfig(num_classes=1, network=NETWORK), only.train.shape)
    run = trained(model, only, tmp_path / "cgmmn", folder)
    before = sorted(run.iterdir())
    with pytest.raises(ValueError, match="all training images are of class 0, and class accuracy needs two: add"):
        evaluate_run(run, OPTIONS, splits=Splits(only.train, splits.held_out), network=PIXELS)
    assert sorted(run.iterdir()) == before


def test_too_few_images_are_named(vae_run: Path, splits: Splits) -> None:
    few = splits.held_out.subset(torch.arange(12), "a folder, held out")
    with pytest.raises(ValueError, match="20 held-out images, but a folder, held out has 12: add images, or hold out"):
        evaluate_run(vae_run, OPTIONS, splits=Splits(splits.train, few), network=PIXELS)


def test_completions_of_upper_halves_have_no_class(splits: Splits) -> None:
    model = CGMMN(CGMMNConfig("upper_half", num_classes=2, network=NETWORK), splits.train.shape)
    assert model.num_classes == 0
    assert VAE(VAEConfig(0.1, network=NETWORK), splits.train.shape).num_classes == 0


def test_features_of_known_images_are_not_computed_again() -> None:
    calls = []

    def embed(images: Tensor) -> Tensor:
        calls.append(len(images))
        return images.flatten(1)

    network = remembering(FeatureNetwork("pixels", embed, batch=2), batches=2)
    x = torch.rand(4, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network(x), x.flatten(1))
    assert torch.equal(network(x), x.flatten(1))
    assert calls == [2, 2]
    network(1 - x)  # pushes the first ones out
    network(x)
    assert calls == [2] * 6


def test_other_images_are_refused(vae_run: Path, folder: Path, tmp_path: Path) -> None:
    before = sorted(vae_run.iterdir())
    other = load_images(Source(str(folder), held_out=0.3))
    with pytest.raises(ValueError, match=r"not those that the run in .*vae was trained on \(content hash"):
        evaluate_run(vae_run, OPTIONS, splits=other, network=PIXELS)
    assert sorted(vae_run.iterdir()) == before


def test_of_a_large_set_only_so_many_training_images_are_searched(
    vae_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "_SEARCHED", 100 * 4 * 144)  # 100 images of 12 x 12 px
    rows = rows_of(evaluate_run(vae_run, OPTIONS, network=PIXELS), "samples")
    assert rows["structural distance to the nearest training image"].note == "of 100 of the 120 training images"
    monkeypatch.undo()
    rows = rows_of(evaluate_run(vae_run, OPTIONS, network=PIXELS), "samples")
    assert rows["structural distance to the nearest training image"].note == ""


def test_a_run_started_from_python_says_so(vae_run: Path) -> None:
    folder = RunFolder(vae_run)
    folder.write_config({key: value for key, value in folder.read_config().items() if key != "source"})
    with pytest.raises(ValueError, match="does not say where its images came from"):
        evaluate_run(vae_run, OPTIONS, network=PIXELS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 5}, "images must be at least 20, got 5"),
        ({"resolution": 50}, "resolution must be a positive multiple of 32 px, got 50"),
        ({"permutations": 9}, "permutations must be at least 19 to reach level 0.05, got 9"),
    ],
    ids=["images", "resolution", "permutations"],
)
def test_options_are_checked(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EvaluationOptions(**options)


# --- the command --------------------------------------------------------------------------------------------------


def test_the_command_prints_a_table(vae_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--images", "20", "--tested", "20", "--permutations", "19", "--resolution", "32", "--parzen"]
    assert main(["evaluate", str(vae_run), *words]) == 0
    printed = capsys.readouterr().out
    result = read_evaluation(vae_run)
    assert result.network == "EfficientNet-Lite0, 32 px"
    for row in result.rows:
        assert row.metric.removesuffix(" (EfficientNet-Lite0, 32 px)") in printed
    assert "Parzen" in printed
    assert main(["evaluate", str(vae_run), *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == [asdict(row) for row in result.rows]


def test_images_smaller_than_the_window(vae_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(vae_run), "--window", "13", "--images", "20"]) == 2
    assert "window of 13 x 13 px does not fit images of 12 x 12" in capsys.readouterr().err
    assert not (vae_run / "evaluation.json").exists()


def test_not_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"ssimgen: {tmp_path} holds no run: config.json is missing\n"
    assert main(["evaluate"]) == 2
