"""The catalogue of metrics: labels of files, and which metrics may judge which objectives."""

import ast
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import ssimgen
from ssimgen.models import MODELS, CodeGMMNConfig, GMMNConfig, VAEConfig
from ssimgen.objectives.moment_matching import PairKernel
from ssimgen.objectives.structure import Structure
from ssimgen.scores import KERNELS, METRICS, SSIM_KERNEL, Score, meanings, read, trained_on

PIXELS, SSIM, ON_D = (
    f"MMD^2 ({kernel})"
    for kernel in ("Gaussian kernel on pixels", "SSIM kernel", "Gaussian kernel on structural distance")
)
FEATURES = "Frechet distance (EfficientNet-Lite0, 96 px)"


EARLIER = Path(__file__).parent / "data" / "before_rooms"
ROOMS = ("evaluation", "report", "runs", "study", "training")


def test_labels_are_read_back() -> None:
    for key, metric in METRICS.items():
        of = {"nothing": "", "network": "EfficientNet-Lite0 (96 px), twice", "kernel": SSIM_KERNEL}[metric.needs]
        assert read(Score(key, of).label) == Score(key, of)


def test_labels_of_an_earlier_version_are_read_and_written_as_they_were() -> None:
    files = sorted(EARLIER.rglob("evaluation.json"))
    assert len(files) == 6
    for file in files:
        evaluation = json.loads(file.read_text())
        for row in evaluation["rows"]:
            score = read(row["metric"])
            assert score.key in METRICS
            assert (score.label, score.metric.better) == (row["metric"], row["better"])
            assert score.of == {"nothing": "", "network": evaluation["network"]}.get(score.metric.needs, score.of)
            assert (score.of in KERNELS) == (score.metric.needs == "kernel")


@pytest.mark.parametrize("label", ["wholly new", "SSIM (", "SSIMs", "Parzen", "PSNR", "", "MMD^2 (SSIM kernel"])
def test_a_label_that_is_not_in_the_catalogue_stands_for_itself(label: str) -> None:
    assert read(label).label == read(label).short("x") == label
    assert read(label).key not in METRICS
    assert meanings([read(label)]) == {}
    assert trained_on(read(label), asdict(vae("ssim"))) == "no"


def test_no_other_module_knows_a_label() -> None:
    others = {"SSIM", "MS-SSIM", *METRICS}  # names of other things too
    labels = tuple({metric.label for metric in METRICS.values()} - others)
    wrong = [
        f"{path}:{node.lineno} {node.value!r}"
        for room in ROOMS
        for path in sorted((Path(ssimgen.__file__).parent / room).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(labels)
        if not node.value.endswith(".")  # a sentence about it
    ]
    assert not wrong, "\n".join(wrong)


def vae(objective: str, form: str = "product", **structure: Any) -> VAEConfig:
    return VAEConfig(0.1, objective=objective, structure=Structure(form, **structure))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "answers"),
    [
        (vae("l2"), {"PSNR, dB": "yes", "SSIM": "no", PIXELS: "related", SSIM: "no", FEATURES: "no"}),
        (vae("l1"), {"PSNR, dB": "related", "MS-SSIM": "no"}),
        (vae("ssim"), {"PSNR, dB": "no", "SSIM": "yes", "MS-SSIM": "related", FEATURES: "no"}),
        (vae("ssim", "sum"), {"SSIM": "related"}),
        (vae("ms_ssim"), {"SSIM": "related", "MS-SSIM": "yes"}),
        (vae("mix"), {"SSIM": "related", "PSNR, dB": "related"}),
        (vae("pyramid"), {"SSIM": "related", "PSNR, dB": "related"}),
        (vae("ssim", scales=2), {"SSIM": "related", "PSNR, dB": "no"}),
        (vae("ssim", pixels=0.5), {"SSIM": "related", "PSNR, dB": "related"}),
        (GMMNConfig(kernel=PairKernel("gaussian", "l2")), {PIXELS: "yes", ON_D: "no"}),
        (GMMNConfig(kernel=PairKernel("gaussian", "ssim")), {PIXELS: "no", ON_D: "yes", SSIM: "related"}),
        (GMMNConfig(kernel=PairKernel("energy", "ssim")), {ON_D: "related", "p-value (SSIM kernel)": "related"}),
        (CodeGMMNConfig(objective="bce"), {PIXELS: "related", ON_D: "no"}),
    ],
    ids=[
        "l2",
        "l1",
        "ssim",
        "sum",
        "ms_ssim",
        "mix",
        "pyramid",
        "scales",
        "pixels",
        "rbf",
        "gaussian on D",
        "energy of D",
        "codes",
    ],
)
def test_answers(config: object, answers: dict[str, str]) -> None:
    options = asdict(config)  # type: ignore[call-overload]
    assert {metric: trained_on(read(metric), options) for metric in answers} == answers


@pytest.mark.parametrize("perceptual", ["none", "paired"])
def test_perceptual_terms_count_when_they_are_used(perceptual: str) -> None:
    options = {"perceptual": {"kind": perceptual, "error": "ssim"}}
    assert trained_on(read(SSIM), options) == ("no" if perceptual == "none" else "related")


def test_every_model_gets_an_answer() -> None:
    for name, (_, config) in MODELS.items():
        options = asdict(config(0.1) if name == "vae" else config())
        assert trained_on(read(FEATURES), options) == "no"
        assert trained_on(read(SSIM), options) in ("yes", "related", "no")
