"""A trained model before its data: what it draws and reconstructs, and how that is scored and shown."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import torch
from torch import Tensor

from ssimgen import pictures
from ssimgen._numbers import positive_integer
from ssimgen.data import Images, Splits
from ssimgen.evaluation import (
    Bootstrap,
    ClassLabels,
    FeatureNetwork,
    Row,
    SampleOptions,
    evaluate_reconstructions,
    evaluate_samples,
    nearest,
    probe_accuracy,
)
from ssimgen.evaluation.classification import principal_components
from ssimgen.evaluation.rows import row_of
from ssimgen.models import VAE, Autoencoder, LatentAutoencoder, Model
from ssimgen.scores import PROBE, RATE, Kind, Score
from ssimgen.similarity import ssim
from ssimgen.windows import Window

_SAMPLED = "of codes drawn from q(z|x)"
_BATCH = 50  # images passed through the model at a time
_SHOWN = 16  # worst reconstructions, and samples with their nearest images
_BLACK = 1 / 255  # mean of pixels
_ONE_IMAGE = 1e-4  # of the variance of real images, a hundredth of their deviation
_PROBED = 5000  # training images whose codes a probe is fitted to
_SEARCHED = 2**30  # bytes of training images, as float32, that are searched for the nearest


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


class Judge:
    """A trained model before its data: what it draws and reconstructs, and how that is scored and shown."""

    def __init__(self, model: Model, splits: Splits, options: EvaluationOptions, network: FeatureNetwork) -> None:
        self.model, self.options, self.network = model, options, network
        self.classes = model.num_classes
        self.held_out = splits.held_out.some(options.images, options.seed)
        self.images = self.held_out.select(slice(None)).images
        self.train = _searched(splits.train, options).select(slice(None))
        self.all_train = len(splits.train)
        self.window = options.make_window()
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
                yield "reconstruction", dataclasses.replace(row, note=_SAMPLED) if _is_steered(self.model) else row
            if isinstance(self.model, LatentAutoencoder) and (probe := self._probe_row(self.model)):
                yield "reconstruction", probe
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

    def collapse(self) -> str:
        """In what way the model draws, or returns, one and the same for everything; "" if it does not."""
        for what, images in (("samples", self.samples), ("reconstructions", self.reconstructions)):
            if images is not None and (found := collapsed(images, self.images)):
                return f"its {what} are {found}"
        return ""

    def write_pictures(self, folder: Path) -> list[int]:
        """Pictures for whoever looks at the run; returns places of the images that come back worst, worst first."""
        real = self.held_out.first(64).images
        pictures.write(folder / "real.png", pictures.grid(real))
        shown = self.samples[:_SHOWN]
        found = nearest(shown, self.train.images, data_range=1.0, window=self.window)
        pictures.write(folder / "nearest.png", pictures.beside(shown, self.train.images[found.index], columns=8))
        if self.reconstructions is None:
            return []
        order = ssim(self.reconstructions, self.images, data_range=1.0, window=self.window).argsort()[:_SHOWN]
        pairs = pictures.beside(self.images[order], self.reconstructions[order], columns=8)
        pictures.write(folder / "worst.png", pairs)
        worst: list[int] = order.tolist()
        return worst

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
        generator = torch.Generator().manual_seed(self.options.seed)
        parts = []
        for part in self.images.split(_BATCH):
            if _is_steered(self.model):
                parts.append(self.model.reconstruct_from_samples(part, generator))
            else:
                parts.append(self.model.reconstruct(part))
        return torch.cat(parts).float().clamp(0, 1)

    def _probe_row(self, model: LatentAutoencoder) -> Row | None:
        """What codes tell of classes, beside as many principal components; of images with classes, by a model that is
        not told them."""
        if self.classes or self.train.labels is None or self.held_out.labels is None:
            return None
        generator = torch.Generator().manual_seed(self.options.seed)
        chosen = torch.randperm(len(self.train.images), generator=generator)[:_PROBED]
        train, classes = self.train.images[chosen], (self.train.labels[chosen], self.held_out.labels)
        if len(classes[0].unique()) < 2:
            return None
        with torch.no_grad():
            codes = [torch.cat([model.code(part) for part in z.split(_BATCH)]) for z in (train, self.images)]
        components = principal_components(train, self.images, codes[0].shape[1])
        ours, theirs = (
            probe_accuracy(fitted, classes[0], of_held_out, classes[1]) for fitted, of_held_out in (codes, components)
        )
        note = f"{float(theirs.mean()):.3f} from {components[0].shape[1]} principal components of pixels"
        return row_of(Score(PROBE), [self.options.bootstrap().mean(ours)], len(self.images), note)

    def _class_labels(self) -> ClassLabels | None:
        if self.labels is None or self.train.labels is None or self.held_out.labels is None:
            return None
        if len(self.train.labels.unique()) < 2:
            raise ValueError(
                f"all training images are of class {int(self.train.labels[0])}, and class accuracy needs two: "
                "add images of another class, or train a model without classes"
            )
        return ClassLabels(self.labels, self.train.labels, self.held_out.labels)


def collapsed(images: Tensor, real: Tensor) -> str:
    """Whether images are all black, or hardly differ where real ones do: "black", "one image" or ""."""
    if images.mean() < _BLACK <= real.mean():
        return "black"
    return "one image" if images.var(0).mean() < _ONE_IMAGE * real.var(0).mean() else ""


def _is_steered(model: Model) -> TypeGuard[VAE]:
    """Whether a model came to a KL target: its reconstructions are then those of codes that hold no more."""
    return isinstance(model, VAE) and model.config.kl_target is not None


def rate_row(model: Model, images: Images, options: EvaluationOptions) -> Row | None:
    """The KL of a variational model's code from its prior, nats an image; None for a model without one."""
    if not isinstance(model, VAE):
        return None
    rates = torch.cat([model.rate(part) for part in images.select(slice(None)).images.split(_BATCH)])
    return Row(Score(RATE), options.bootstrap().mean(rates), None, len(images), "held-out images")


def _searched(images: Images, options: EvaluationOptions) -> Images:
    """The images, or as many of a large set, drawn at random, as memory should hold; enough for every other score."""
    most = max(_SEARCHED // (4 * math.prod(images.shape)), options.images, 2 * options.tested)
    return images.some(most, options.seed)
