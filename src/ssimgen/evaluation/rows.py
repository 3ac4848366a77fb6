"""A row of a table of scores: one metric of a model, beside that of real images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen import _shown as shown
from ssimgen._request import DataRange
from ssimgen.evaluation.estimates import Estimate, PointEstimate
from ssimgen.evaluation.feature_networks import FeatureNetwork, efficientnet_lite0
from ssimgen.evaluation.images import in_unit_range
from ssimgen.scores import Better, Score

LEAST = 20  # images of each set: enough for every metric to be defined, far from enough for it to be sharp


@dataclass(frozen=True)
class Row:
    """One metric of one model, beside its value for real images.

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

    def _repr_html_(self) -> str:
        """A table, for notebooks."""
        found = [("model", self.model), ("real images", self.reference)]
        rows = [(of, estimate.value, estimate.low, estimate.high) for of, estimate in found if estimate is not None]
        note = f" ({self.note})" if self.note else ""
        return shown.html_table(f"{self.metric}, {self.n} images{note}", rows, ("of", "value", "low", "high"))

    @property
    def metric(self) -> str:
        """The label of the metric, with the network or kernel."""
        return self.score.label

    @property
    def better(self) -> Better:
        """Which value is best: "higher", "lower", or "reference", that of real images."""
        return self.score.metric.better


def row_of(score: Score, estimates: Iterable[Estimate | PointEstimate], n: int, note: str = "") -> Row:
    """`estimates` are the model's and, where there is one, the reference."""
    model, *references = estimates
    return Row(score, model, references[0] if references else None, n, note)


def score_of(key: str, network: FeatureNetwork) -> Score:
    """The score of that key, by the network if it needs one."""
    return Score(key, network.name if Score(key).metric.needs == "network" else "")


def reported(rows: Iterable[Row], report: Callable[[Row], object] | None) -> list[Row]:
    """All rows, each reported as soon as it is there."""
    collected = []
    for row in rows:
        if report is not None:
            report(row)
        collected.append(row)
    return collected


def prepared(name: str, images: Tensor, data_range: DataRange) -> Tensor:
    """Images of a set as float32 in [0, 1]."""
    arguments.at_least(name, arguments.image_batch(name, images), LEAST, "an evaluation")
    return in_unit_range(name, images, data_range).float()


def network_or_default(network: FeatureNetwork | None) -> FeatureNetwork:
    """The feature network, which is EfficientNet-Lite0 where none is given.

    Raises:
        TypeError: a function that is not wrapped.
        ModuleNotFoundError: EfficientNet-Lite0 is wanted but not installed.
    """
    if network is not None and not isinstance(network, FeatureNetwork):
        raise TypeError(
            f"network must be a FeatureNetwork, got {type(network).__name__}: wrap a function of images in [0, 1] as "
            "FeatureNetwork(name, function)"
        )
    return network or efficientnet_lite0()
