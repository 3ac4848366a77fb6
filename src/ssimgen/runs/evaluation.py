"""The evaluation of a trained run: scores beside those of real images, and pictures of successes and failures.

    from ssimgen.runs.evaluation import evaluate_run
    evaluate_run(Path("runs/vae"))

writes into the folder of the run

evaluation.json      options, data, and one row a metric (:class:`ssimgen.evaluation.Row`)
real.png             held-out images, laid out as the run's samples
worst.png            held-out images and below each its reconstruction, worst SSIM first (autoencoders)
nearest.png          samples and below each the training image nearest to it
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssimgen import _options, pictures
from ssimgen._files import write_atomically
from ssimgen._numbers import positive_integer
from ssimgen._reading import EVALUATION, Evaluation, ScoreRow, read_config
from ssimgen.data import Images, Source, Splits, load_images
from ssimgen.evaluation import (
    Bootstrap,
    ClassLabels,
    FeatureNetwork,
    Row,
    SampleOptions,
    efficientnet_lite0,
    evaluate_reconstructions,
    evaluate_samples,
    nearest,
)
from ssimgen.evaluation.rows import LEAST
from ssimgen.models import VAE, Autoencoder, Model
from ssimgen.runs.folder import RunFolder, load_model, versions
from ssimgen.scores import RATE, Kind, Score
from ssimgen.similarity import ssim
from ssimgen.windows import Window

_BATCH = 50  # images passed through the model at a time
_SHOWN = 16  # worst reconstructions, and samples with their nearest images
_SEARCHED = 2**30  # bytes of training images, as float32, that are searched for the nearest
_REMEMBERED = 256  # batches whose features are kept, about 80 MB


@dataclass(frozen=True)
class EvaluationOptions:
    """What an evaluation of a run takes in. Values compare only between runs with equal options.

    Attributes:
        images: at most so many held-out images, training images and samples. More are sharper and take longer.
        resolution: side in pixels at which the feature network sees the images, a multiple of 32; its cost grows with
            the square.
        tested: at most so many images of each set enter the two-sample tests.
        permutations: of the two-sample tests.
        window: side in pixels of the Gaussian window of SSIM and the structural distance (sigma 1.5).
        parzen: estimate the log-likelihood by Parzen windows too, which is weak, for comparison with papers.
        resamples: bootstrap draws of the intervals.
        seed: of samples and every random choice.

    Example:
        >>> from ssimgen.runs import EvaluationOptions
        >>> EvaluationOptions(images=500, resolution=64).tested
        500
    """

    images: int = 1000
    resolution: int = 96
    tested: int = 500
    permutations: int = 500
    window: int = 11
    parzen: bool = False
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if positive_integer("permutations", self.permutations, "relabellings") < 19:
            raise ValueError(f"permutations must be at least 19 to reach level 0.05, got {self.permutations}")
        if self.resolution < 32 or self.resolution % 32:
            raise ValueError(f"resolution must be a positive multiple of 32 px, got {self.resolution}")
        self.sample_options()

    def bootstrap(self) -> Bootstrap:
        """The bootstrap by which intervals are made."""
        return Bootstrap(resamples=self.resamples, seed=self.seed)

    def make_window(self) -> Window:
        """The window of SSIM and the structural distance."""
        return Window.gaussian(self.window, 1.5)

    def sample_options(self) -> SampleOptions:
        """The options of the scores of samples."""
        return SampleOptions(
            self.images,
            self.tested,
            self.permutations,
            window=self.make_window(),
            bootstrap=self.bootstrap(),
            parzen=self.parzen,
        )


def evaluate_run(
    path: Path,
    options: EvaluationOptions = EvaluationOptions(),
    *,
    splits: Splits | None = None,
    network: FeatureNetwork | None = None,
    report: Callable[[Kind, Row], object] | None = None,
) -> Evaluation:
    """Score the latest checkpoint of the run in `path`; write evaluation.json and pictures, and return the former.

    Args:
        path: folder of the run.
        options: numbers of images and the like.
        splits: the data of the run, if they are in memory already; otherwise they are read again from the source that
            the run's configuration names.
        network: of the features; EfficientNet-Lite0 at the resolution of `options` where None.
        report: called with each row as soon as it is there.

    Raises:
        ValueError: no run in the folder, one without a checkpoint, images that are not those of the run, too few
            images, images smaller than the window.
        OSError: the data are gone.
        ModuleNotFoundError: EfficientNet-Lite0 is wanted but not installed.

    Example:
        >>> import torch
        >>> from pathlib import Path
        >>> from ssimgen.data import Images, Splits
        >>> from ssimgen.evaluation import FeatureNetwork
        >>> from ssimgen.models import VAE, VAEConfig, make_model
        >>> from ssimgen.models.networks import Network
        >>> from ssimgen.runs import EvaluationOptions, evaluate_run
        >>> from ssimgen.training import Training, train
        >>> images = Images(torch.rand(40, 1, 12, 12), None, "noise")
        >>> config = VAEConfig(0.1, objective="l2", network=Network("mlp", hidden=(8,)))
        >>> model = make_model(VAE, config, images.shape, seed=0)
        >>> train(model, images, Path("run"), training=Training(iterations=1, batch=8))
        vae 1/1 ...
        >>> splits = Splits(images, Images(torch.rand(20, 1, 12, 12), None, "more noise"))
        >>> pixels = FeatureNetwork("pixels", lambda z: z.flatten(1))
        >>> options = EvaluationOptions(images=20, permutations=19, resamples=20)
        >>> found = evaluate_run(Path("run"), options, splits=splits, network=pixels)
        >>> [row.metric for row in found.rows[:3]]
        ['KL, nats', 'PSNR, dB', 'SSIM']
    """
    began = time.monotonic()
    run = RunFolder(path)
    about = read_config(path)
    iteration = run.latest_iteration()
    model = load_model(path)
    splits = splits or load_images(source_of(about, path), report=lambda _: None)
    if splits.train.digest != about["data"]["hash"]:
        raise ValueError(
            f"the images of {splits.train.source} are not those that the run in {path} was trained on "
            f"(content hash {splits.train.digest[:12]}, of the run {about['data']['hash'][:12]}): "
            "restore them, or train again"
        )
    _check_enough(splits)
    network = network or shared_network(options.resolution)
    judge = _Judge(model, splits, options, network)
    rows = []
    for kind, row in judge.rows():
        rows.append(_record(kind, row))
        if report is not None:
            report(kind, row)
    judge.write_pictures(path)
    result = Evaluation(
        iteration=iteration,
        options=dataclasses.asdict(options),
        network=network.name,
        data={"train": splits.train.digest, "held_out": splits.held_out.digest},
        rows=tuple(rows),
        worst=tuple(judge.worst),
        seconds=round(time.monotonic() - began, 1),
        versions=versions(),
    )
    text = json.dumps(dataclasses.asdict(result), indent=2, allow_nan=False) + "\n"
    write_atomically(path / EVALUATION, lambda file: file.write(text.encode()))
    return result


def _record(kind: Kind, row: Row) -> ScoreRow:
    """A row as evaluation.json holds it."""
    ours, real = (
        (None, None, None) if found is None else map(_finite, (found.value, found.low, found.high))
        for found in (row.model, row.reference)
    )
    value, low, high = ours
    reference, reference_low, reference_high = real
    return ScoreRow(
        kind=kind,
        metric=row.metric,
        value=value,
        low=low,
        high=high,
        reference=reference,
        reference_low=reference_low,
        reference_high=reference_high,
        n=row.n,
        better=row.better,
        note=row.note,
    )


def _check_enough(splits: Splits) -> None:
    for images in splits:
        if len(images) < LEAST:
            raise ValueError(
                f"an evaluation needs at least {LEAST} training and {LEAST} held-out images, but {images.source} has "
                f"{len(images)}: add images, or hold out a larger fraction"
            )


def source_of(about: dict[str, Any], path: Path) -> Source:
    """Where the images of a run came from, from its configuration."""
    if "source" not in about:
        raise ValueError(
            f"config.json of {path} does not say where its images came from: the run was started from Python; "
            "evaluate it there, with evaluate_run(path, splits=...)"
        )
    try:
        return _options.from_mapping(Source, about["source"], "source.")
    except ValueError as error:
        raise ValueError(f"config.json of {path} is damaged: {error}: train the run again") from error


_NETWORKS: dict[int, FeatureNetwork] = {}


def shared_network(resolution: int) -> FeatureNetwork:
    """EfficientNet-Lite0, which remembers features of real images from one evaluation to the next."""
    if resolution not in _NETWORKS:
        _NETWORKS[resolution] = remembering(efficientnet_lite0(resolution))
    return _NETWORKS[resolution]


def remembering(network: FeatureNetwork, batches: int = _REMEMBERED) -> FeatureNetwork:
    """A feature network that keeps the features of the latest batches that it saw."""
    known: OrderedDict[bytes, Tensor] = OrderedDict()

    def embed(images: Tensor) -> Tensor:
        key = hashlib.sha256(images.contiguous().numpy().data).digest() + bytes(str(tuple(images.shape)), "ascii")
        if key not in known:
            known[key] = network.embed(images)
        known.move_to_end(key)
        while len(known) > batches:
            known.popitem(last=False)
        return known[key]

    return FeatureNetwork(network.name, embed, network.batch)


class _Judge:
    """One model before its data."""

    def __init__(self, model: Model, splits: Splits, options: EvaluationOptions, network: FeatureNetwork) -> None:
        self.model, self.options, self.network = model, options, network
        self.classes = model.num_classes
        self.held_out = _some(splits.held_out, options)
        self.images = self.held_out.select(slice(None)).images
        self.train = _searched(splits.train, options).select(slice(None))
        self.all_train = len(splits.train)
        self.window = options.make_window()
        self.worst: list[int] = []
        self.labels: Tensor | None = None
        self.samples = self._drawn()
        self.reconstructions = self._reconstructed() if isinstance(model, Autoencoder) else None

    def rows(self) -> Iterator[tuple[Kind, Row]]:
        """Every score of the model, with what is scored."""
        if isinstance(self.model, Autoencoder):
            rate = rate_row(self.model, self.held_out, self.options)
            if rate is not None:
                yield "rate", rate
            assert self.reconstructions is not None
            for row in evaluate_reconstructions(
                self.images,
                self.reconstructions,
                data_range=1.0,
                train=self.train.images,
                network=self.network,
                window=self.window,
                bootstrap=self.options.bootstrap(),
            ):
                yield "reconstruction", row
        for row in evaluate_samples(
            self.samples,
            self.train.images,
            self.images,
            data_range=1.0,
            labels=self._class_labels(),
            network=self.network,
            options=self.options.sample_options(),
        ):
            yield "samples", self._noted(row)

    def write_pictures(self, folder: Path) -> None:
        """Pictures for whoever looks at the run."""
        real = self.held_out.first(64).images
        pictures.write(folder / "real.png", pictures.grid(real))
        shown = self.samples[:_SHOWN]
        found = nearest(shown, self.train.images, data_range=1.0, window=self.window)
        pictures.write(folder / "nearest.png", pictures.beside(shown, self.train.images[found.index], columns=8))
        if self.reconstructions is not None:
            order = ssim(self.reconstructions, self.images, data_range=1.0, window=self.window).argsort()[:_SHOWN]
            pairs = pictures.beside(self.images[order], self.reconstructions[order], columns=8)
            pictures.write(folder / "worst.png", pairs)
            self.worst = order.tolist()

    def _noted(self, row: Row) -> Row:
        """A row that says so if not all training images were searched."""
        searched = len(self.train.images)
        if row.score.key != "nearest" or searched == self.all_train:
            return row
        return dataclasses.replace(row, note=f"of {searched:,} of the {self.all_train:,} training images")

    def _drawn(self) -> Tensor:
        """The samples to be judged; of a conditional model, of all classes in turn."""
        generator = torch.Generator().manual_seed(self.options.seed)
        if not self.classes:
            return self.model.sample(self.options.images, generator).float().clamp(0, 1)
        self.labels = torch.arange(self.options.images) % self.classes
        images = self.model.sample(self.options.images, generator, self.labels)  # type: ignore[call-arg]
        return images.float().clamp(0, 1)

    def _reconstructed(self) -> Tensor:
        assert isinstance(self.model, Autoencoder)
        return torch.cat([self.model.reconstruct(part) for part in self.images.split(_BATCH)]).float().clamp(0, 1)

    def _class_labels(self) -> ClassLabels | None:
        if self.labels is None or self.train.labels is None or self.held_out.labels is None:
            return None
        if len(self.train.labels.unique()) < 2:
            raise ValueError(
                f"all training images are of class {int(self.train.labels[0])}, and class accuracy needs two: "
                "add images of another class, or train a model without classes"
            )
        return ClassLabels(self.labels, self.train.labels, self.held_out.labels)


def rate_row(model: Model, images: Images, options: EvaluationOptions) -> Row | None:
    """The KL of a variational model's code from its prior, nats an image; None for a model without one."""
    if not isinstance(model, VAE):
        return None
    rates = torch.cat([model.rate(part) for part in images.select(slice(None)).images.split(_BATCH)])
    return Row(Score(RATE), options.bootstrap().mean(rates), None, len(images), "held-out images")


def _some(images: Images, options: EvaluationOptions) -> Images:
    """At most so many of the images, drawn at random."""
    return images if len(images) <= options.images else _chosen(images, options.images, options.seed)


def _chosen(images: Images, number: int, seed: int) -> Images:
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return images.subset(order[:number], images.source)


def _searched(images: Images, options: EvaluationOptions) -> Images:
    """The images, or as many of a large set, drawn at random, as memory should hold; enough for every other score."""
    most = max(_SEARCHED // (4 * math.prod(images.shape)), options.images, 2 * options.tested)
    return images if len(images) <= most else _chosen(images, most, options.seed)


def _finite(value: float | None) -> float | None:
    """None in the place of NaN and infinite numbers, which JSON does not have."""
    return value if value is not None and math.isfinite(value) else None
