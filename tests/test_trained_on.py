"""Which metrics may judge which objectives."""

from dataclasses import asdict

import pytest

from ssimgen.models import MODELS, CodeGMMNConfig, GMMNConfig, VAEConfig
from ssimgen.objectives.moment_matching import PairKernel
from ssimgen.objectives.structure import Structure
from ssimgen.trained_on import trained_on

PIXELS, SSIM, ON_D = (
    f"MMD^2 ({kernel})"
    for kernel in ("Gaussian kernel on pixels", "SSIM kernel", "Gaussian kernel on structural distance")
)
FEATURES = "Frechet distance (EfficientNet-Lite0, 96 px)"


def vae(objective: str, form: str = "product") -> VAEConfig:
    return VAEConfig(0.1, objective=objective, structure=Structure(form))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "answers"),
    [
        (vae("l2"), {"PSNR, dB": "yes", "SSIM": "no", PIXELS: "related", SSIM: "no", FEATURES: "no"}),
        (vae("l1"), {"PSNR, dB": "related", "MS-SSIM": "no"}),
        (vae("ssim"), {"PSNR, dB": "no", "SSIM": "yes", "MS-SSIM": "related", FEATURES: "no"}),
        (vae("ssim", "sum"), {"SSIM": "related"}),
        (vae("ms_ssim"), {"SSIM": "related", "MS-SSIM": "yes"}),
        (vae("mix"), {"SSIM": "related", "PSNR, dB": "related"}),
        (GMMNConfig(kernel=PairKernel("gaussian", "l2")), {PIXELS: "yes", ON_D: "no"}),
        (GMMNConfig(kernel=PairKernel("gaussian", "ssim")), {PIXELS: "no", ON_D: "yes", SSIM: "related"}),
        (GMMNConfig(kernel=PairKernel("energy", "ssim")), {ON_D: "related", "p-value (SSIM kernel)": "related"}),
        (CodeGMMNConfig(objective="bce"), {PIXELS: "related", ON_D: "no"}),
    ],
    ids=["l2", "l1", "ssim", "sum", "ms_ssim", "mix", "rbf", "gaussian on D", "energy of D", "codes"],
)
def test_answers(config: object, answers: dict[str, str]) -> None:
    options = asdict(config)  # type: ignore[call-overload]
    assert {metric: trained_on(metric, options) for metric in answers} == answers


@pytest.mark.parametrize("perceptual", ["none", "paired"])
def test_perceptual_terms_count_when_they_are_used(perceptual: str) -> None:
    options = {"perceptual": {"kind": perceptual, "error": "ssim"}}
    assert trained_on(SSIM, options) == ("no" if perceptual == "none" else "related")


def test_every_model_gets_an_answer() -> None:
    for name, (_, config) in MODELS.items():
        options = asdict(config(0.1) if name == "vae" else config())
        assert trained_on(FEATURES, options) == "no"
        assert trained_on(SSIM, options) in ("yes", "related", "no")
