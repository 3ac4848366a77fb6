"""All scores of a model's samples in one table, beside the same scores of held-out images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
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
from ssimgen.evaluation.classifier_test import c2st
from ssimgen.evaluation.colours import colour_distance, mean_colours
from ssimgen.evaluation.distributions import frechet_distance, kernel_distance
from ssimgen.evaluation.estimates import DEFAULT_BOOTSTRAP, Bootstrap, Estimate, PointEstimate
from ssimgen.evaluation.feature_networks import FeatureNetwork
from ssimgen.evaluation.images import nearest, sharpness
from ssimgen.evaluation.manifolds import coverage, density, precision, recall
from ssimgen.evaluation.parzen import SIGMAS, parzen_bandwidth, parzen_log_likelihood
from ssimgen.evaluation.rows import LEAST, Row, network_or_default, prepared, reported, row_of, score_of
from ssimgen.kernels import SSIM, Gaussian, Kernel
from ssimgen.metrics import Euclidean, StructuralDistance
from ssimgen.scores import GAUSSIAN_ON_DISTANCE, GAUSSIAN_ON_PIXELS, SSIM_KERNEL, Score
from ssimgen.windows import Window


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


class Sets(NamedTuple):
    """The images of an evaluation, in [0, 1]."""

    samples: Tensor
    train: Tensor
    held_out: Tensor


@dataclass(frozen=True)
class Case:
    """What metrics of samples look at, in [0, 1].

    Attributes:
        sets: at most as many images of each as the options say, in random order.
        all_train: every training image.
        labels: classes of the images of `sets`, of a conditional model.
        network: of the features.
        options: sizes, window and intervals.
    """

    sets: Sets
    all_train: Tensor
    labels: ClassLabels | None
    network: FeatureNetwork
    options: SampleOptions

    @cached_property
    def features(self) -> Sets:
        """Features of the training images, and of equally many samples and held-out images."""
        samples, train, held_out = self.sets
        n = min(len(samples), len(held_out))
        real = self.network(train)
        return Sets(self.network(samples[:n]), real, self.network(held_out[:n]))


Rows = Callable[[Score, Case], Iterator[Row]]

OF_FEATURES: dict[str, Callable[[Tensor, Tensor, Bootstrap], Estimate]] = {
    "frechet_distance": lambda fake, real, bootstrap: frechet_distance(fake, real, bootstrap=bootstrap),
    "kernel_distance": lambda fake, real, bootstrap: kernel_distance(fake, real, bootstrap=bootstrap),
    "c2st": lambda fake, real, bootstrap: c2st(fake, real, bootstrap=bootstrap),
    "precision": lambda fake, real, bootstrap: bootstrap.mean(precision(real, fake)),
    "recall": lambda fake, real, bootstrap: bootstrap.mean(recall(real, fake)),
    "density": lambda fake, real, bootstrap: bootstrap.mean(density(real, fake)),
    "coverage": lambda fake, real, bootstrap: bootstrap.mean(coverage(real, fake)),
}
"""Key of a metric of features -> the function that computes it for samples and real images."""


def of_features(metric: Callable[[Tensor, Tensor, Bootstrap], Estimate]) -> Rows:
    """The row of a metric of features: of samples, or of held-out images in their place, and of training images."""

    def rows(score: Score, case: Case) -> Iterator[Row]:
        samples, train, held_out = case.features
        estimates = (metric(features, train, case.options.bootstrap) for features in (samples, held_out))
        yield row_of(score, estimates, len(samples))

    return rows


def of_images(metric: Callable[[Tensor, Case], Tensor]) -> Rows:
    """The row of a metric with one value an image: of samples, or of held-out images in their place."""

    def rows(score: Score, case: Case) -> Iterator[Row]:
        values = (metric(images, case) for images in (case.sets.samples, case.sets.held_out))
        yield row_of(score, map(case.options.bootstrap.mean, values), len(case.sets.samples))

    return rows


def _parzen(score: Score, case: Case) -> Iterator[Row]:
    """Log-likelihood of held-out images; in the reference, training images are the samples."""
    if not case.options.parzen:
        return
    sets, bootstrap = case.sets, case.options.bootstrap
    n = min(len(sets.samples), len(sets.train))
    validation, test = sets.held_out.tensor_split(2)
    estimates, notes = [], []
    for centres in (sets.samples[:n], sets.train[:n]):
        sigma = parzen_bandwidth(validation, centres)
        estimates.append(bootstrap.mean(parzen_log_likelihood(test, centres, sigma=sigma)))
        notes.append(f"{sigma:g}" + (", an end of the grid" if sigma in (min(SIGMAS), max(SIGMAS)) else ""))
    note = f"pixels in [0, 1]; sigma {notes[0]}; of the reference, training images as samples, {notes[1]}"
    yield row_of(score, estimates, n, note)


def _two_sample_tests(score: Score, case: Case) -> Iterator[Row]:
    """MMD^2 and p-values against training images, under three kernels."""
    sets, options = case.sets, case.options
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
        try:
            fitted = kernel.fit(others)
        except ValueError as error:  # equal images have no distance to take for a bandwidth
            yield Row(dataclasses.replace(score, of=name), None, None, n, str(error))
            continue
        estimates: list[Estimate] = []
        p_values: list[PointEstimate] = []
        for images in (sets.samples[:n], sets.held_out[:n]):
            estimates.append(options.bootstrap.mmd2(fitted(images), fitted(images, train), fitted(train)))
            test = two_sample_test(
                images, train, fitted, permutations=options.permutations, seed=options.bootstrap.seed
            )
            p_values.append(PointEstimate(test.p_value))
        yield row_of(dataclasses.replace(score, of=name), estimates, n)
        yield row_of(Score("p_value", name), p_values, n)


def _class_accuracy(score: Score, case: Case) -> Iterator[Row]:
    """Of a conditional model; no score if the classifier cannot tell the classes of held-out images."""
    if case.labels is None:
        return
    sets, labels, bootstrap = case.sets, case.labels, case.options.bootstrap
    classifier = train_classifier(sets.train, labels.train, data_range=1.0, seed=bootstrap.seed)
    ours = class_accuracy(classifier, sets.samples, labels.samples)
    real = class_accuracy(classifier, sets.held_out, labels.held_out)
    row = row_of(score, map(bootstrap.mean, (ours, real)), len(sets.samples))
    reason = at_chance(real, labels.held_out)
    yield dataclasses.replace(row, model=None, note=reason) if reason else row


def _to_nearest(images: Tensor, case: Case) -> Tensor:
    """The structural distance of each image to the training image nearest to it."""
    return nearest(images, case.all_train, data_range=1.0, window=case.options.window).distance


def _colour_distance(score: Score, case: Case) -> Iterator[Row]:
    """Of coloured images: from training images, of samples or of held-out images in their place."""
    samples, train, held_out = (mean_colours(images) for images in case.sets)
    if train.shape[1] != 3:
        return
    n = min(len(samples), len(held_out))
    estimates = (colour_distance(z[:n], train, bootstrap=case.options.bootstrap) for z in (samples, held_out))
    yield row_of(score, estimates, n)


OF_SAMPLES: dict[str, Rows] = {
    **{key: of_features(metric) for key, metric in OF_FEATURES.items()},
    "colour_distance": _colour_distance,
    "parzen": _parzen,
    "mmd2": _two_sample_tests,  # "p_value" too
    "class_accuracy": _class_accuracy,
    "nearest": of_images(_to_nearest),
    "sharpness": of_images(lambda images, _: sharpness(images, data_range=1.0)),
}
"""Key of a metric of samples -> the function that computes its rows, in the order of the table."""


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
    C2ST                              :func:`c2st`: how well a classifier tells samples from real images
    precision, recall, density,       :func:`precision` and so on, in the features of the same network
    coverage
    colour distance                   :func:`colour_distance`, of coloured images
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
    everything = Sets(
        prepared("samples", samples, data_range),
        prepared("train", train, data_range),
        prepared("held_out", held_out, data_range),
    )
    for name, images in (("train", train), ("held_out", held_out)):
        arguments.samples(samples, images, ("samples", name))
    window_fits(options.window, samples)
    if labels is not None:
        for name, classes, images in zip(Sets._fields, labels, everything, strict=True):
            check_labels(f"labels.{name}", classes, images)
        check_several_classes("labels.train", labels.train)
    network = network_or_default(network)
    orders = [_order(len(images), options.bootstrap.seed)[: options.images] for images in everything]
    case = Case(
        Sets(*(images[order] for images, order in zip(everything, orders, strict=True))),
        everything.train,
        None if labels is None else ClassLabels(*(z[order] for z, order in zip(labels, orders, strict=True))),
        network,
        options,
    )
    rows = (row for key, rows_of in OF_SAMPLES.items() for row in rows_of(score_of(key, network), case))
    return reported(rows, report)


def _order(n: int, seed: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))
