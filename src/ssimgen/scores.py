"""The catalogue of metrics: what each is called, which way it is better, what it looks at, and what it means.

A new metric is an entry of :data:`METRICS` and one of the function that computes it, in `OF_SAMPLES` or
`OF_RECONSTRUCTIONS` of :mod:`ssimgen.evaluation.samples` and :mod:`~ssimgen.evaluation.reconstruction` (those that
look into models, the rate and the probe, are in :mod:`ssimgen.runs.judge`). Tables, reports, their glossary and
comparisons know metrics by their keys; files hold labels, which :func:`read` turns back.

A model trained with SSIM wins in SSIM; that proves little. :func:`trained_on` says for a score and the configuration of
a run

- "yes": the metric is the objective, or rises and falls with it;
- "related": it looks at the same thing, pixels or structure, in another way;
- "no": it is independent of what was trained, and may judge.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

from ssimgen._options import suggestion

Answer = Literal["yes", "related", "no"]
Better = Literal["higher", "lower", "reference"]
Kind = Literal["rate", "reconstruction", "samples"]
Looks = Literal["pixels", "structure", "features", "elsewhere"]


@dataclass(frozen=True)
class Metric:
    """An entry of the catalogue of metrics.

    Attributes:
        name: as tables show it, without its unit.
        better: "higher", "lower", or "reference" if the best value is that of real images.
        unit: of its values, if they have one.
        looks_at: what it compares in images: pixels, structure, or what no objective compares.
        objective: that which is this metric, or rises and falls with it.
        needs: what its values depend on; with one of :data:`KERNELS`, it looks at what the kernel looks at.
        ranked: whether models are ranked by it and compared in it.
        meaning: a sentence for those who have not seen it before.
    """

    name: str
    better: Better
    unit: str = ""
    looks_at: Looks = "elsewhere"
    objective: str = ""
    needs: Literal["nothing", "network", "kernel"] = "nothing"
    ranked: bool = True
    meaning: str = ""

    @property
    def label(self) -> str:
        """Name and unit of the metric, as tables show them."""
        return f"{self.name}, {self.unit}" if self.unit else self.name


@dataclass(frozen=True)
class KernelOfTest:
    """A kernel of two-sample tests: what it looks at, and the objective that it is."""

    looks_at: Looks
    objective: str = ""


LEAST_RATE = 0.5  # nats: below it a variational model returns nearly the same for every image

METRICS = {
    "kl": Metric(
        "KL",
        "lower",
        unit="nats",
        meaning="the rate: how much the code says of an image (1 nat is 1.44 bits). Models reconstruct better with "
        "more nats, so they are compared at equal KL.",
    ),
    "psnr": Metric(
        "PSNR",
        "higher",
        unit="dB",
        looks_at="pixels",
        objective="l2",
        meaning="peak signal-to-noise ratio of a reconstruction: its squared error, pixel by pixel, in decibels.",
    ),
    "ssim": Metric(
        "SSIM",
        "higher",
        looks_at="structure",
        objective="ssim product",
        meaning="structural similarity of an image and its reconstruction, 1 if they are equal.",
    ),
    "ms_ssim": Metric(
        "MS-SSIM", "higher", looks_at="structure", objective="ms_ssim", meaning="SSIM at several scales."
    ),
    "feature_distance": Metric(
        "feature distance",
        "lower",
        needs="network",
        meaning="how far a reconstruction is from its image in the features of a network for photographs, on "
        "which no model was trained.",
    ),
    "st_lpips": Metric(
        "ST-LPIPS",
        "lower",
        meaning="how different people would find a reconstruction and its image: a distance fitted to human choices.",
    ),
    "colour_error": Metric(
        "colour error",
        "lower",
        looks_at="pixels",
        meaning="how far the mean colour of a reconstruction is from that of its image.",
    ),
    "sharpness": Metric(
        "sharpness",
        "reference",
        meaning="variance of the Laplacian. Blur lowers it and noise raises it, so it is best as real images have it.",
    ),
    "probe_accuracy": Metric(
        "probe accuracy",
        "higher",
        meaning="share of held-out images whose class a linear classifier tells from their codes; tables of a run "
        "say what it tells from as many principal components of pixels.",
    ),
    "frechet_distance": Metric(
        "Frechet distance",
        "lower",
        needs="network",
        meaning="between the distributions of samples and of real images, by means and covariances of "
        "features: what FID is with the network Inception.",
    ),
    "kernel_distance": Metric(
        "kernel distance",
        "lower",
        needs="network",
        meaning="between the same, by a kernel on features: what KID is with Inception.",
    ),
    "c2st": Metric(
        "C2ST",
        "lower",
        unit="bits",
        needs="network",
        meaning="how well a classifier tells samples from real images: 1 if it always does, 0 if it cannot.",
    ),
    "colour_distance": Metric(
        "colour distance",
        "lower",
        looks_at="pixels",
        meaning="between the distributions of the mean colours of samples and of real images; 0 if they are equal.",
    ),
    "precision": Metric(
        "precision", "higher", needs="network", meaning="share of the samples that lie near real images."
    ),
    "recall": Metric("recall", "higher", needs="network", meaning="share of the real images that lie near samples."),
    "density": Metric(
        "density",
        "higher",
        needs="network",
        meaning="how densely samples lie around real images, about 1 for real ones.",
    ),
    "coverage": Metric(
        "coverage", "higher", needs="network", meaning="share of the real images with a sample close by."
    ),
    "parzen": Metric(
        "Parzen log-likelihood",
        "higher",
        unit="nats",
        meaning="log-likelihood of held-out images under blurred samples; known to mislead.",
    ),
    "mmd2": Metric(
        "MMD^2",
        "lower",
        needs="kernel",
        meaning="squared distance of samples from real images, by the kernel named; 0 if nothing tells them apart.",
    ),
    "p_value": Metric("p-value", "higher", needs="kernel", ranked=False),
    "class_accuracy": Metric(
        "class accuracy", "higher", meaning="share of samples that a classifier puts into the class asked for."
    ),
    "nearest": Metric(
        "structural distance to the nearest training image",
        "reference",
        looks_at="structure",
        meaning="far below its value for real images, samples are copies.",
    ),
}
"""Key -> metric."""

GAUSSIAN_ON_PIXELS = "Gaussian kernel on pixels"
SSIM_KERNEL = "SSIM kernel"
GAUSSIAN_ON_DISTANCE = "Gaussian kernel on structural distance"
KERNELS = {
    GAUSSIAN_ON_PIXELS: KernelOfTest("pixels", "gaussian l2"),
    SSIM_KERNEL: KernelOfTest("structure"),
    GAUSSIAN_ON_DISTANCE: KernelOfTest("structure", "gaussian ssim"),
}
"""Name of a kernel of two-sample tests -> what it looks at."""

RATE, PROBE = "kl", "probe_accuracy"
RANKED_BY = {
    "reconstruction": ("st_lpips", "feature_distance"),
    "samples": ("kernel_distance", "c2st", "frechet_distance"),
}
"""What is scored -> the neutral metrics that rank models: the first of them that may judge these images."""

JUDGES = frozenset(
    {
        "feature_distance", "st_lpips", "colour_error",
        "kernel_distance", "c2st", "frechet_distance", "precision", "recall", "density", "coverage", "colour_distance",
        "class_accuracy",
    }
)  # fmt: skip
"""Keys of the metrics that judge models only after they have ranked degraded images as they must."""


@dataclass(frozen=True)
class Score:
    """A metric, and the name of the network or kernel that its values depend on ("" where there is none)."""

    key: str
    of: str = ""

    @property
    def metric(self) -> Metric:
        """Its entry; a label that is not in the catalogue stands for itself."""
        return METRICS.get(self.key) or Metric(self.key, "reference")

    @property
    def label(self) -> str:
        """What files and tables call it."""
        return f"{self.metric.label} ({self.of})" if self.of else self.metric.label

    def short(self, network: str | None) -> str:
        """Its label where all that needs one has this network."""
        return self.metric.label if self.of == network else self.label


def read(label: str) -> Score:
    """The score that a file calls so. Only here is a label taken apart."""
    name, _, of = label.removesuffix(")").partition(" (")
    for key, metric in METRICS.items():
        if metric.label == name and (score := Score(key, of)).label == label:
            return score
    return Score(label)


def endpoint(name: str) -> str:
    """The key of the metric that a study names as its endpoint: by its key, its name or its label.

    Raises:
        ValueError: there is none, or one that cannot say which of two models is better.
    """
    known = {metric.label: key for key, metric in METRICS.items()} | {m.name: key for key, m in METRICS.items()}
    key = name if name in METRICS else known.get(name, "")
    if not key:
        raise ValueError(f"unknown metric {name!r}{suggestion(name, [*METRICS, *known])}")
    metric = METRICS[key]
    if key == RATE or metric.needs == "kernel" or not metric.ranked or metric.better == "reference":
        raise ValueError(f"{metric.name} does not say which of two models is better: name another metric")
    return key


def meanings(scores: Iterable[Score]) -> dict[str, str]:
    """Label -> meaning of every metric that has one."""
    return {score.metric.label: score.metric.meaning for score in scores if score.metric.meaning}


# --- what was trained -------------------------------------------------------------------------------------------

_TRAINED_WITH = "EfficientNet-Lite0"  # of which deep features as objective are
_LOOKS_AT = {
    "l2": {"pixels"},
    "l1": {"pixels"},
    "bce": {"pixels"},
    "ssim": {"structure"},
    "ms_ssim": {"structure"},
    "mix": {"structure", "pixels"},
    "pyramid": {"structure", "pixels"},
    "both": {"structure", "pixels"},
    "components": {"structure"},
    "features": {"features"},
}


def trained_on(score: Score, config: Mapping[str, Any]) -> Answer:
    """Whether `score` is what a model with the options `config` was trained on."""
    judge = KERNELS.get(score.of) or score.metric
    objectives = list(_objectives(config))
    if any(judge.objective == objective for objective, _ in objectives):
        return "yes"
    looks_at = "features" if score.metric.needs == "network" and score.of.startswith(_TRAINED_WITH) else judge.looks_at
    return "related" if any(looks_at in seen for _, seen in objectives) else "no"


def _objectives(config: Mapping[str, Any]) -> Iterator[tuple[str, set[str]]]:
    """Everything that compares images in the training of a model: its name, and what it looks at."""
    structure = _table(config, "structure")
    for key in ("objective", "energy"):  # errors of reconstructions; of a discriminator that reconstructs
        error = config.get(key)
        if _known(error):
            yield _structural(structure) if error == "ssim" else (error, _LOOKS_AT[error])
    perceptual = _table(config, "perceptual")
    if perceptual.get("kind", "none") != "none" and _known(error := perceptual.get("error")):
        yield f"perceptual {error}", _LOOKS_AT[error]
    kernel = _table(config, "kernel")
    if config.get("compare") != "codes" and _known(metric := kernel.get("metric")):  # codes are not images
        yield f"{kernel.get('kind')} {metric}", _LOOKS_AT[metric]


def _structural(structure: Mapping[str, Any]) -> tuple[str, set[str]]:
    """Name of the error "ssim" with these options, and what it looks at: over scales it is not SSIM itself."""
    looks_at = _LOOKS_AT["ssim"] | ({"pixels"} if structure.get("pixels") else set())
    whole = structure.get("scales", 1) == 1 and not structure.get("pixels") and structure.get("chroma") is None
    return f"ssim {structure.get('form', 'product')}" if whole else "ssim pyramid", looks_at


def _table(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The options of that name, none if there are none."""
    value = config.get(key)
    return value if isinstance(value, Mapping) else {}


def _known(error: Any) -> TypeGuard[str]:
    return isinstance(error, str) and error in _LOOKS_AT
