"""All scores of a model in one table: its samples, or its reconstructions, beside the same scores of real images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen._numbers import positive_integer
from ssimgen._request import DEFAULT_WINDOW, DataRange, window_fits
from ssimgen.discrepancy import two_sample_test
from ssimgen.evaluation.classification import (
    at_chance,
    check_labels,
    check_several_classes,
    class_accuracy,
    train_classifier,
)
from ssimgen.evaluation.distributions import frechet_distance, kernel_distance
from ssimgen.evaluation.estimates import DEFAULT_BOOTSTRAP, Bootstrap, Estimate, PointEstimate
from ssimgen.evaluation.feature_networks import FeatureNetwork, efficientnet_lite0
from ssimgen.evaluation.images import in_unit_range, nearest, sharpness
from ssimgen.evaluation.manifolds import coverage, density, precision, recall
from ssimgen.evaluation.parzen import SIGMAS, parzen_bandwidth, parzen_log_likelihood
from ssimgen.evaluation.reconstruction import feature_distance, psnr
from ssimgen.kernels import SSIM, Gaussian, Kernel
from ssimgen.metrics import Euclidean, StructuralDistance
from ssimgen.scores import GAUSSIAN_ON_DISTANCE, GAUSSIAN_ON_PIXELS, SSIM_KERNEL, Better, Score
from ssimgen.similarity import ms_ssim, ssim
from ssimgen.windows import Window

LEAST = 20  # images of each set: enough for every metric to be defined, far from enough for it to be sharp


@dataclass(frozen=True)
class Row:
    """One metric of one model.

    Attributes:
        score: the metric, with the network or kernel that it depends on.
        model: its estimate for the model, an interval with it but for p-values. Without one there is no score, and
            `note` says why.
        reference: that for real images in the place of the model's, or None.
        n: how many of the model's images the estimate is of.
        note: what else it depends on.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation import FeatureNetwork, evaluate_reconstructions
        >>> images, network = torch.rand(20, 1, 16, 16), FeatureNetwork("pixels", lambda z: z.flatten(1))
        >>> row = evaluate_reconstructions(images, images / 2, data_range=1.0, network=network)[3]
        >>> row.metric, row.n, row.better
        ('feature distance (pixels)', 20, 'lower')
    """

    score: Score
    model: Estimate | PointEstimate | None
    reference: Estimate | PointEstimate | None
    n: int
    note: str = ""

    @property
    def metric(self) -> str:
        """The label of the metric, with the network or kernel."""
        return self.score.label

    @property
    def better(self) -> Better:
        """Which value is best: "higher", "lower", or "reference", that of real images."""
        return self.score.metric.better


class ClassLabels(NamedTuple):
    """Class numbers, from 0, of the images of an evaluation.

    Attributes:
        samples: what the model was asked for.
        train, held_out: what the real images show.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation import ClassLabels
        >>> labels = ClassLabels(*(torch.arange(n) % 2 for n in (20, 40, 30)))  # samples, train, held_out
        >>> len(labels.train)
        40
    """

    samples: Int[Tensor, " n"]
    train: Int[Tensor, " m"]
    held_out: Int[Tensor, " h"]


@dataclass(frozen=True)
class SampleOptions:
    """What an evaluation of samples takes in, and how its intervals are made.

    Attributes:
        images: at most so many images of each set, drawn at random, are used; only the search for the nearest
            training image goes through all of them.
        tested: at most so many images of each set enter the two-sample tests.
        permutations: of the two-sample tests.
        window: of SSIM and the structural distance.
        bootstrap: of all intervals; its seed fixes every random choice of the evaluation.
        parzen: estimate the log-likelihood by Parzen windows too.

    Raises:
        ValueError: fewer than 20 images, or a number that is no whole one.

    Example:
        >>> from ssimgen.evaluation import Bootstrap, SampleOptions
        >>> quick = SampleOptions(images=500, permutations=199, bootstrap=Bootstrap(resamples=200))
        >>> quick.tested
        1000
    """

    images: int = 5000
    tested: int = 1000
    permutations: int = 1000
    window: Window = DEFAULT_WINDOW
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP
    parzen: bool = True

    def __post_init__(self) -> None:
        for name in ("images", "tested"):
            if positive_integer(name, getattr(self, name), "images") < LEAST:
                raise ValueError(f"{name} must be at least {LEAST}, got {getattr(self, name)}")


class _Sets(NamedTuple):
    """The images of an evaluation, in [0, 1]."""

    samples: Tensor
    train: Tensor
    held_out: Tensor

    def at_most(self, count: int) -> _Sets:
        return _Sets(*(images[:count] for images in self))


class Pairs(NamedTuple):
    """What a metric of reconstructions compares, in [0, 1]: guesses, one an image, with the images.

    Attributes:
        guesses: reconstructions, or what stands for them.
        images: in the same order.
        window: of structural metrics.
        network: of the features.
        features: of the images, made once.
    """

    guesses: Tensor
    images: Tensor
    window: Window
    network: FeatureNetwork
    features: Callable[[], Tensor]


OF_RECONSTRUCTIONS: dict[str, Callable[[Pairs], Tensor]] = {
    "psnr": lambda pairs: psnr(pairs.guesses, pairs.images, data_range=1.0),
    "ssim": lambda pairs: ssim(pairs.guesses, pairs.images, data_range=1.0, window=pairs.window),
    "ms_ssim": lambda pairs: ms_ssim(pairs.guesses, pairs.images, data_range=1.0, window=pairs.window),
    "feature_distance": lambda pairs: feature_distance(pairs.network(pairs.guesses), pairs.features()),
}
"""Key of a metric of reconstructions -> the function that computes it, one value an image."""

OF_FEATURES: dict[str, Callable[[Tensor, Tensor, Bootstrap], Estimate]] = {
    "frechet_distance": lambda fake, real, bootstrap: frechet_distance(fake, real, bootstrap=bootstrap),
    "kernel_distance": lambda fake, real, bootstrap: kernel_distance(fake, real, bootstrap=bootstrap),
    "precision": lambda fake, real, bootstrap: bootstrap.mean(precision(real, fake)),
    "recall": lambda fake, real, bootstrap: bootstrap.mean(recall(real, fake)),
    "density": lambda fake, real, bootstrap: bootstrap.mean(density(real, fake)),
    "coverage": lambda fake, real, bootstrap: bootstrap.mean(coverage(real, fake)),
}
"""Key of a metric of samples -> the function that computes it from their features and those of training images."""


def evaluate_samples(
    samples: Float[Tensor, "n C H W"],
    train: Float[Tensor, "m C H W"],
    held_out: Float[Tensor, "h C H W"],
    *,
    data_range: DataRange,
    labels: ClassLabels | None = None,
    network: FeatureNetwork | None = None,
    options: SampleOptions = SampleOptions(),
    report: Callable[[Row], object] | None = None,
) -> list[Row]:
    """How good and how diverse a model's samples are, each metric beside its value for held-out real images.

    ================================  ==============================================================================
    Frechet and kernel distance       :func:`frechet_distance`, :func:`kernel_distance`
    precision, recall, density,       :func:`precision` and so on, in the features of the same network
    coverage
    Parzen log-likelihood             :func:`parzen_log_likelihood` of one half of the held-out images, sigma chosen
                                      on the other; the reference has training images as samples, equally many
    MMD^2 and its p-value             :func:`ssimgen.discrepancy.two_sample_test` with three kernels; bandwidths are
                                      medians over further training images, so that they do not depend on the model
    class accuracy                    :func:`class_accuracy` after :func:`train_classifier`, where there are labels; no
                                      score if the classifier is :func:`at_chance` for held-out images
    nearest training image            :func:`nearest`; below the reference: copies of training images
    sharpness                         :func:`sharpness`
    ================================  ==============================================================================

    Samples stand against training images, and the reference is held-out against training images. Metrics that depend
    on the number of images take equally many samples and held-out images.

    Args:
        samples: images of the model.
        train: what the model was trained on.
        held_out: real images that it has not seen.
        data_range: of all images.
        labels: their classes, for a conditional model.
        network: of the features; EfficientNet-Lite0 where None (needs the optional dependencies "eval").
        options: sizes, window and intervals.
        report: called with each row as soon as it is there.

    Raises:
        TypeError, ValueError: before anything is computed, for images that are not finite, beyond their data_range, of
            unequal shapes, smaller than the window or fewer than 20 of a set, and for labels that do not fit.
        ModuleNotFoundError: EfficientNet-Lite0 is wanted but not installed.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation import Bootstrap, FeatureNetwork, SampleOptions, evaluate_samples
        >>> images, network = torch.rand(3, 20, 1, 16, 16), FeatureNetwork("pixels", lambda z: z.flatten(1))
        >>> options = SampleOptions(permutations=19, bootstrap=Bootstrap(resamples=20))
        >>> rows = evaluate_samples(*images, data_range=1.0, network=network, options=options)
        >>> rows[0].better, rows[0].n
        ('lower', 20)
    """
    everything = _Sets(
        _prepared("samples", samples, data_range),
        _prepared("train", train, data_range),
        _prepared("held_out", held_out, data_range),
    )
    for name, images in (("train", train), ("held_out", held_out)):
        arguments.samples(samples, images, ("samples", name))
    window_fits(options.window, samples)
    if labels is not None:
        for name, classes, images in zip(_Sets._fields, labels, everything, strict=True):
            check_labels(f"labels.{name}", classes, images)
        check_several_classes("labels.train", labels.train)
    network = _checked(network)

    orders = [_order(len(images), options.bootstrap.seed)[: options.images] for images in everything]
    sets = _Sets(*(images[order] for images, order in zip(everything, orders, strict=True)))

    def rows() -> Iterator[Row]:
        yield from _feature_rows(sets, network, options.bootstrap)
        if options.parzen:
            yield _parzen_row(sets, options.bootstrap)
        yield from _test_rows(sets, options)
        if labels is not None:
            drawn = ClassLabels(*(classes[order] for classes, order in zip(labels, orders, strict=True)))
            yield _class_row(sets, drawn, options.bootstrap)
        yield _nearest_row(sets, everything.train, options)
        yield _sharpness_row(sets.samples, sets.held_out, options.bootstrap)

    return _collected(rows(), report)


def evaluate_reconstructions(
    images: Float[Tensor, "n C H W"],
    reconstructions: Float[Tensor, "n C H W"],
    *,
    data_range: DataRange,
    train: Float[Tensor, "m C H W"] | None = None,
    network: FeatureNetwork | None = None,
    window: Window = DEFAULT_WINDOW,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    report: Callable[[Row], object] | None = None,
) -> list[Row]:
    """How close reconstructions are to their images: PSNR, SSIM, MS-SSIM, feature distance, and sharpness.

    The reference of all but sharpness is what copying would reach: for each image the training image nearest to it in
    the structural distance, in the place of its reconstruction. That of sharpness is the sharpness of the images.

    Args:
        images: held-out images.
        reconstructions: of each of them, in the same order.
        data_range: of all images.
        train: what the model was trained on; None leaves the reference out.
        network: of the feature distance; EfficientNet-Lite0 where None (needs the optional dependencies "eval").
        report: called with each row as soon as it is there.
        window: of SSIM, MS-SSIM and the structural distance.
        bootstrap: of all intervals.

    Raises:
        TypeError, ValueError: before anything is computed, for images that are not finite, beyond their data_range, of
            unequal shapes, smaller than the window or fewer than 20, and for unequally many reconstructions.
        ModuleNotFoundError: EfficientNet-Lite0 is wanted but not installed.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation import FeatureNetwork, evaluate_reconstructions
        >>> images, network = torch.rand(20, 1, 16, 16), FeatureNetwork("pixels", lambda z: z.flatten(1))
        >>> rows = evaluate_reconstructions(images, images / 2, data_range=1.0, network=network)
        >>> [row.better for row in rows]
        ['higher', 'higher', 'higher', 'lower', 'reference']
    """
    arguments.samples(images, reconstructions, ("images", "reconstructions"))
    unit, rebuilt = _prepared("images", images, data_range), _prepared("reconstructions", reconstructions, data_range)
    if len(unit) != len(rebuilt):
        raise ValueError(
            f"images and reconstructions are compared pair by pair, got {len(unit)} and {len(rebuilt)}: "
            "pass one reconstruction an image"
        )
    window_fits(window, images)
    guesses = [rebuilt]  # then the copies
    if train is not None:
        arguments.samples(images, train, ("images", "train"))
        candidates = _prepared("train", train, data_range)
        guesses.append(candidates[nearest(unit, candidates, data_range=1.0, window=window).index])
    network = _checked(network)

    def rows() -> Iterator[Row]:
        seen = cache(lambda: network(unit))  # once, for reconstructions and copies
        for key, metric in OF_RECONSTRUCTIONS.items():
            scores = (bootstrap.mean(metric(Pairs(guess, unit, window, network, seen))) for guess in guesses)
            yield _row(_score(key, network), scores, len(unit))
        yield _sharpness_row(rebuilt, unit, bootstrap)

    return _collected(rows(), report)


def _checked(network: FeatureNetwork | None) -> FeatureNetwork:
    """The network, or the default."""
    if network is not None and not isinstance(network, FeatureNetwork):
        raise TypeError(
            f"network must be a FeatureNetwork, got {type(network).__name__}: wrap a function of images in [0, 1] as "
            "FeatureNetwork(name, function)"
        )
    return network or efficientnet_lite0()


def _feature_rows(sets: _Sets, network: FeatureNetwork, bootstrap: Bootstrap) -> Iterator[Row]:
    """Metrics of samples against training images in the feature space, for equally many samples and held-out images."""
    n = min(len(sets.samples), len(sets.held_out))
    real = network(sets.train)
    ours, theirs = network(sets.samples[:n]), network(sets.held_out[:n])
    for key, metric in OF_FEATURES.items():
        yield _row(_score(key, network), (metric(features, real, bootstrap) for features in (ours, theirs)), n)


def _score(key: str, network: FeatureNetwork) -> Score:
    """The score of that key, by the network if it needs one."""
    return Score(key, network.name if Score(key).metric.needs == "network" else "")


def _parzen_row(sets: _Sets, bootstrap: Bootstrap) -> Row:
    """Log-likelihood of held-out images; in the reference, training images are the samples."""
    n = min(len(sets.samples), len(sets.train))
    validation, test = sets.held_out.tensor_split(2)
    scores, notes = [], []
    for centres in (sets.samples[:n], sets.train[:n]):
        sigma = parzen_bandwidth(validation, centres)
        scores.append(bootstrap.mean(parzen_log_likelihood(test, centres, sigma=sigma)))
        notes.append(f"{sigma:g}" + (", an end of the grid" if sigma in (min(SIGMAS), max(SIGMAS)) else ""))
    note = f"pixels in [0, 1]; sigma {notes[0]}; of the reference, training images as samples, {notes[1]}"
    return _row(Score("parzen"), scores, n, note)


def _test_rows(sets: _Sets, options: SampleOptions) -> Iterator[Row]:
    """MMD^2 and p-values against training images, under three kernels."""
    n = min(len(sets.samples), len(sets.held_out), len(sets.train) // 2, options.tested)
    others = sets.train[n : 2 * n]  # for bandwidths: independent of what is tested, and the same for every model
    metric = StructuralDistance(1.0, window=options.window)
    kernels: dict[str, Kernel] = {
        GAUSSIAN_ON_PIXELS: Gaussian(Euclidean(), "median"),
        SSIM_KERNEL: SSIM(1.0, window=options.window),
        GAUSSIAN_ON_DISTANCE: Gaussian(metric, "median"),
    }
    train = sets.train[:n]
    for name, kernel in kernels.items():
        fitted = kernel.fit(others)
        scores: list[Estimate] = []
        p_values: list[PointEstimate] = []
        for images in (sets.samples[:n], sets.held_out[:n]):
            scores.append(options.bootstrap.mmd2(fitted(images), fitted(images, train), fitted(train)))
            test = two_sample_test(
                images, train, fitted, permutations=options.permutations, seed=options.bootstrap.seed
            )
            p_values.append(PointEstimate(test.p_value))
        yield _row(Score("mmd2", name), scores, n)
        yield _row(Score("p_value", name), p_values, n)


def _class_row(sets: _Sets, labels: ClassLabels, bootstrap: Bootstrap) -> Row:
    classifier = train_classifier(sets.train, labels.train, data_range=1.0, seed=bootstrap.seed)
    ours, real = (
        class_accuracy(classifier, images, classes)
        for images, classes in ((sets.samples, labels.samples), (sets.held_out, labels.held_out))
    )
    row = _row(Score("class_accuracy"), map(bootstrap.mean, (ours, real)), len(sets.samples))
    reason = at_chance(real, labels.held_out)
    return dataclasses.replace(row, model=None, note=reason) if reason else row


def _nearest_row(sets: _Sets, train: Tensor, options: SampleOptions) -> Row:
    scores = (
        options.bootstrap.mean(nearest(images, train, data_range=1.0, window=options.window).distance)
        for images in (sets.samples, sets.held_out)
    )
    return _row(Score("nearest"), scores, len(sets.samples))


def _sharpness_row(images: Tensor, real: Tensor, bootstrap: Bootstrap) -> Row:
    scores = (bootstrap.mean(sharpness(x, data_range=1.0)) for x in (images, real))
    return _row(Score("sharpness"), scores, len(images))


def _row(score: Score, estimates: Iterable[Estimate | PointEstimate], n: int, note: str = "") -> Row:
    """`estimates` are the model's and, where there is one, the reference."""
    model, *references = estimates
    return Row(score, model, references[0] if references else None, n, note)


def _collected(rows: Iterator[Row], report: Callable[[Row], object] | None) -> list[Row]:
    collected = []
    for row in rows:
        if report is not None:
            report(row)
        collected.append(row)
    return collected


def _prepared(name: str, images: Tensor, data_range: DataRange) -> Tensor:
    """Images of a set as float32 in [0, 1]."""
    arguments.at_least(name, arguments.image_batch(name, images), LEAST, "an evaluation")
    return in_unit_range(name, images, data_range).float()


def _order(n: int, seed: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))
