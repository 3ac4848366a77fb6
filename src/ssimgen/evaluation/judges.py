"""May this metric judge models of these images? It may if it ranks images degraded on purpose as everyone would.

    checks = check_judges(train, held_out, data_range=1.0)
    print([check.metric for check in checks if check.valid])

A network that was trained on photographs can prefer a grey picture to every image that a model makes. Whoever compares
models by it learns nothing, and does not notice. So each judge must rank, on the images in hand,

=========  ==========================================================================================================
blur       real images before a 3 x 3 blur, that before a 5 x 5 blur, that before the mean image
noise      weak noise before strong noise
colours    right colours before wrong ones, where there is colour
modes      all classes or clusters before half of them
detail     a linear reconstruction, which holds four fifths of the variance, before the mean image
spread     real images before the mean image
=========  ==========================================================================================================

as far as it can be expected to see them (:data:`JUDGES`): in all images and in either half of them. Half of the modes
is half of the images as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen._judged import JudgeCheck, Ranking, Rung
from ssimgen._request import DataRange
from ssimgen.evaluation.classification import check_labels, class_accuracy, train_classifier
from ssimgen.evaluation.colours import colour_distance, colour_error, mean_colours
from ssimgen.evaluation.degradations import (
    BLUR,
    COLOURS,
    DETAIL,
    MODES,
    NOISE,
    REAL,
    SPREAD,
    Degraded,
    Order,
)
from ssimgen.evaluation.estimates import DEFAULT_BOOTSTRAP, Bootstrap, Estimate
from ssimgen.evaluation.feature_networks import FeatureNetwork
from ssimgen.evaluation.images import in_unit_range
from ssimgen.evaluation.perceptual import INSTALL, st_lpips, weights_file
from ssimgen.evaluation.reconstruction import feature_distance
from ssimgen.evaluation.rows import network_or_default, score_of
from ssimgen.evaluation.samples import OF_FEATURES
from ssimgen.scores import Kind

LEAST = 40  # images of each set: the halves must be enough for every metric
MOST = 500  # images of each set that are looked at
_PAIRED = 100  # of them by ST-LPIPS, a mean over pairs of little spread, which takes long
_BYTES = 2**29  # of a degraded set in memory
_QUICK = Bootstrap(resamples=1)  # for scores whose interval nobody asks for

FAITHFUL = (BLUR, NOISE, COLOURS, DETAIL)
ALL = (*FAITHFUL, MODES)


class Case:
    """The images in hand, and what judges see of them.

    Attributes:
        available: images of each set that there are, of which some are looked at.
        train: training images.
        images: held-out images, and what was made of them.
        labels: classes of both, if known.
        network: of the features.
        seed: of every random choice.
    """

    def __init__(
        self,
        train: Tensor,
        held_out: Tensor,
        labels: tuple[Tensor, Tensor] | None,
        network: FeatureNetwork,
        seed: int,
    ) -> None:
        self.available = min(len(train), len(held_out))
        n = min(self.available, MOST, room(train[0].numel()))
        chosen = [torch.randperm(len(z), generator=torch.Generator().manual_seed(seed))[:n] for z in (train, held_out)]
        self.train, real = (z[order] for z, order in zip((train, held_out), chosen, strict=True))
        self.labels = None if labels is None else [z[order] for z, order in zip(labels, chosen, strict=True)]
        self.network, self.seed = network, seed
        self.images = Degraded(self.train, real, None if self.labels is None else self.labels[1], seed)
        self._all = train, labels

    def __len__(self) -> int:
        return len(self.train)

    @cached_property
    def classifier(self) -> Callable[[Tensor], Tensor]:
        """A classifier of all training images that there are."""
        train, labels = self._all
        assert labels is not None
        return train_classifier(train, labels[0], data_range=1.0, seed=self.seed)


def room(pixels: int) -> int:
    """How many images of so many pixels, of all channels, should be in memory at once."""
    return max(2, _BYTES // (4 * pixels))


View = Callable[[Tensor, Case], Tensor]


def _features(images: Tensor, case: Case) -> Tensor:
    return case.network(images)


def _colours(images: Tensor, _: Case) -> Tensor:
    return mean_colours(images)


def _to_original(images: Tensor, case: Case) -> Tensor:
    distances: Tensor = st_lpips()(images[:_PAIRED], case.images.real[:_PAIRED])
    return distances


def _classified(images: Tensor, case: Case) -> Tensor:
    assert case.labels is not None
    return class_accuracy(case.classifier, images, case.labels[1])


@dataclass(frozen=True)
class Judge:
    """A metric that compares images with others: samples with training images, reconstructions with their originals.

    Attributes:
        kind: "samples" or "reconstruction".
        view: what it takes of the images of a set.
        score: of what it took of a set, and of those that the set is compared with.
        must: what it has to rank.
        refuses: why it cannot judge these images, "" if it can.

    Example:
        >>> from ssimgen.evaluation.judges import JUDGES
        >>> [order.name for order in JUDGES["kernel_distance"].must]
        ['blur', 'noise', 'colours', 'detail', 'modes']
    """

    kind: Kind
    view: View
    score: Callable[[Tensor, Tensor, Bootstrap], Estimate]
    must: tuple[Order, ...]
    refuses: Callable[[Case], str] = lambda _: ""


def _mean_of_pairs(values: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor, Bootstrap], Estimate]:
    return lambda x, y, bootstrap: bootstrap.mean(values(x, y))


def _no_colour(case: Case) -> str:
    return "" if case.images.coloured else "the images are grey"


def _no_st_lpips(case: Case) -> str:
    if weights_file() is None:
        return f"it is {INSTALL}"
    return "" if case.train.shape[1] in (1, 3) else f"it has no use for {case.train.shape[1]} channels"


def _few_for_covariances(case: Case) -> str:
    features = case.network(case.train[:1]).shape[1]
    if case.available > features:
        return ""
    return f"it needs more images than the {features:,} features, and there are {case.available:,} of a set"


def _no_classes(case: Case) -> str:
    if case.labels is None:
        return "the classes of the images are not known"
    for name, labels in zip(("training", "held-out"), case.labels, strict=True):
        if len(labels.unique()) < 2:
            return f"it needs two classes, and all {name} images are of class {int(labels[0])}"
    return ""


def _of_features(key: str, must: tuple[Order, ...], refuses: Callable[[Case], str] = lambda _: "") -> Judge:
    return Judge("samples", _features, OF_FEATURES[key], must, refuses)


JUDGES: dict[str, Judge] = {
    "st_lpips": Judge("reconstruction", _to_original, _mean_of_pairs(lambda x, _: x), FAITHFUL, _no_st_lpips),
    "feature_distance": Judge("reconstruction", _features, _mean_of_pairs(feature_distance), FAITHFUL),
    "colour_error": Judge("reconstruction", _colours, _mean_of_pairs(colour_error), (COLOURS, SPREAD), _no_colour),
    "kernel_distance": _of_features("kernel_distance", ALL),
    "c2st": _of_features("c2st", ALL),
    "frechet_distance": _of_features("frechet_distance", ALL, _few_for_covariances),
    "precision": _of_features("precision", FAITHFUL),
    "recall": _of_features("recall", ALL),
    "density": _of_features("density", FAITHFUL),
    "coverage": _of_features("coverage", ALL),
    "colour_distance": Judge(
        "samples",
        _colours,
        lambda x, y, bootstrap: colour_distance(x, y, bootstrap=bootstrap),
        (COLOURS, SPREAD),
        _no_colour,
    ),
    "class_accuracy": Judge("samples", _classified, _mean_of_pairs(lambda x, _: x), (BLUR, NOISE), _no_classes),
}
"""Key of a metric -> the judge that it is, and what it has to rank.

Precision and density are of single samples, and need not notice that half of the modes are missing.
"""


def check_judges(
    train: Float[Tensor, "m C H W"],
    held_out: Float[Tensor, "h C H W"],
    *,
    data_range: DataRange,
    labels: tuple[Int[Tensor, " m"], Int[Tensor, " h"]] | None = None,
    network: FeatureNetwork | None = None,
    judges: Sequence[str] = tuple(JUDGES),
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    track: Callable[[Iterable[str]], Iterable[str]] = iter,
) -> list[JudgeCheck]:
    """Have each judge rank degraded images: held-out ones, compared with training images, or with what they were.

    At most 500 images of each set are looked at, drawn at random.

    Args:
        train: what models are, or would be, trained on.
        held_out: other real images.
        data_range: of all images.
        labels: classes of both sets, for modes and class accuracy.
        network: of the features; EfficientNet-Lite0 where None (needs the optional dependencies "eval").
        judges: keys of :data:`JUDGES`.
        bootstrap: of all intervals; its seed fixes every random choice.
        track: passes on the names of the sets as they are made, for a progress bar.

    Raises:
        TypeError, ValueError: images that are not finite, beyond their data_range or of unequal shapes; labels that do
            not fit; a judge that does not exist.
        ModuleNotFoundError: EfficientNet-Lite0 is wanted but not installed.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation import FeatureNetwork, check_judges
        >>> train, held_out = torch.rand(2, 60, 1, 16, 16)
        >>> pixels = FeatureNetwork("pixels", lambda z: z.flatten(1))
        >>> judges = ["feature_distance", "colour_error"]
        >>> features, colours = check_judges(train, held_out, data_range=1.0, network=pixels, judges=judges)
        >>> features.valid, colours.valid, colours.reason
        (True, False, 'the images are grey')
    """
    arguments.samples(train, held_out, ("train", "held_out"))
    sets = [in_unit_range(*named, data_range).float() for named in (("train", train), ("held_out", held_out))]
    for name, classes, images in zip(("labels[0]", "labels[1]"), labels or (), sets, strict=False):
        check_labels(name, classes, images)
    for key in judges:
        arguments.choice("judges", key, JUDGES)
    network = network_or_default(network)
    case = Case(sets[0], sets[1], labels, network, bootstrap.seed)
    refusals = {key: _too_few(case) or JUDGES[key].refuses(case) for key in judges}
    willing = {key: JUDGES[key] for key, refusal in refusals.items() if not refusal}
    seen = _Seen(case, willing.values(), track)
    return [
        JudgeCheck(
            kind=JUDGES[key].kind,
            metric=score_of(key, network).label,
            better=score_of(key, network).metric.better,
            n=0 if refusal else seen.count(JUDGES[key]),
            rankings=tuple(_ranked(key, order, seen, bootstrap) for order in JUDGES[key].must) if not refusal else (),
            note=refusal,
        )
        for key, refusal in refusals.items()
    ]


def _too_few(case: Case) -> str:
    if len(case) >= LEAST:
        return ""
    if len(case) < case.available:
        _, height, width = case.train.shape[1:]
        return (
            f"it needs {LEAST} images of each set in memory, where no more than {len(case)} of {width} x {height} px "
            "should be: make them smaller"
        )
    return f"it needs {LEAST} images of each set, and there are {case.available}"


class _Seen:
    """What judges took of each set. Sets are made one after the other, and not kept."""

    def __init__(self, case: Case, judges: Iterable[Judge], track: Callable[[Iterable[str]], Iterable[str]]) -> None:
        self.case = case
        wanted: dict[str, dict[View, None]] = {}
        for judge in judges:
            rungs = [rung for order in judge.must if not case.images.lacks(order) for rung in order.rungs]
            for rung in (REAL, *rungs) if judge.kind == "reconstruction" else rungs:
                wanted.setdefault(rung, {})[judge.view] = None
        self._of: dict[tuple[View, str], Tensor] = {}
        for rung in track(wanted):
            images = case.images[rung]
            for view in wanted[rung]:
                self._of[view, rung] = view(images, case)
        views = {judge.view for judge in judges if judge.kind == "samples" and judge.view is not _classified}
        self._train = {view: view(case.train, case) for view in views}

    def count(self, judge: Judge) -> int:
        """How many images of a set it has seen."""
        return max(len(seen) for (view, _), seen in self._of.items() if view is judge.view)

    def halves(self, judge: Judge, rung: str) -> Iterator[tuple[Tensor, Tensor]]:
        """What `judge` took of a set, and what it compares that with: of all images, and of either half.

        Half of the modes is half of the images as it is.
        """
        ours = self._of[judge.view, rung]
        theirs = self._train.get(judge.view, ours) if judge.kind == "samples" else self._of[judge.view, REAL]
        yield ours, theirs[: len(ours)]
        half = len(ours) // 2
        for part in () if rung in MODES.rungs else (slice(half), slice(half, None)):
            yield ours[part], theirs[: len(ours)][part]


def _ranked(key: str, order: Order, seen: _Seen, bootstrap: Bootstrap) -> Ranking:
    """One ranking of a judge."""
    judge = JUDGES[key]
    if lack := seen.case.images.lacks(order):
        return Ranking(name=order.name, rungs=(), passed=None, note=lack)
    estimates = [
        [judge.score(*pair, _QUICK if part else bootstrap) for part, pair in enumerate(seen.halves(judge, rung))]
        for rung in order.rungs
    ]
    rungs = tuple(
        Rung(name=rung, value=whole.value, low=whole.low, high=whole.high)
        for rung, (whole, *_) in zip(order.rungs, estimates, strict=True)
    )
    sign = 1 if score_of(key, seen.case.network).metric.better == "higher" else -1
    note = _wrong(order.rungs, [[sign * part.value for part in parts] for parts in estimates], sign)
    return Ranking(name=order.name, rungs=rungs, passed=not note, note=note)


def _wrong(names: Sequence[str], scores: Sequence[Sequence[float]], sign: int) -> str:
    """What was ranked wrongly, first in all images, then in a half of them; "" if nothing was. Higher is better."""
    places = ("", "on the first half of the images ", "on the second half of the images ")
    for part, where in enumerate(places[: len(scores[0])]):
        named = [(name, of_set[part]) for name, of_set in zip(names, scores, strict=True)]
        for (better, high), (worse, low) in pairwise(named):
            if not high > low:
                return f"{where}it does not rank {better} ({sign * high:.3g}) before {worse} ({sign * low:.3g})"
    return ""
