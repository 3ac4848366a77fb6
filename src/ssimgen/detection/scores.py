"""How well anomaly maps find defects whose masks are known: AUROC of images and pixels, and per-region overlap."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from scipy.ndimage import label
from scipy.sparse import csr_array
from torch import Tensor

from ssimgen.evaluation import Bootstrap, Estimate
from ssimgen.evaluation.estimates import DEFAULT_BOOTSTRAP

Numbers = NDArray[np.floating[Any]]

_DIGITS = 9  # significant bits of the values of maps that are counted: 0.2 %
_NEIGHBOURS = np.ones((3, 3))  # regions hang together across corners too, as in MVTec's evaluation
PRO_LIMIT = 0.3


def pixel_auroc(maps: Float[Tensor, "n H W"], masks: Bool[Tensor, "n H W"]) -> float:
    """Area under the ROC curve of pixels: the probability that one of a defect has a greater value than a good one.

    Args:
        maps: anomaly maps.
        masks: where defects are.

    Raises:
        ValueError: no defect in any mask, or nothing else; values that are not finite.

    Example:
        >>> import torch
        >>> from ssimgen.detection import pixel_auroc
        >>> pixel_auroc(torch.tensor([[[0.1, 0.4, 0.3, 0.9]]]), torch.tensor([[[False, False, True, True]]]))
        0.75
    """
    values, defect = _checked(maps, masks)
    return _area_of(values, defect, ~defect)


def pro(maps: Float[Tensor, "n H W"], masks: Bool[Tensor, "n H W"], limit: float = PRO_LIMIT) -> float:
    """Per-region overlap (Bergmann et al. 2019, "MVTec AD"; 2021, section 5): how much of each defect is found.

    At a threshold t, the overlap is the mean over the connected regions of all masks of the share of their pixels with
    values >= t, so that small defects count as much as large ones. PRO is the area under its curve over the share of
    good pixels with values >= t, from 0 to `limit`, divided by `limit`. Pixels that touch at a corner are connected.

    Args:
        maps: anomaly maps.
        masks: where defects are.
        limit: the greatest false positive rate.

    Returns:
        A number in [0, 1]; about limit / 2 by chance.

    Raises:
        ValueError: no defect in any mask, or nothing else; values that are not finite; a limit out of (0, 1].

    Example:
        >>> import torch
        >>> from ssimgen.detection import pro
        >>> masks = torch.zeros(1, 8, 8, dtype=torch.bool)
        >>> masks[0, :2, :2] = masks[0, 5, 5] = True
        >>> pro(masks.float(), masks)
        1.0
        >>> missed = masks.float()
        >>> missed[0, 5, 5] = 0
        >>> round(pro(missed, masks), 3)  # one region of two, and less than a third of what is at random
        0.575
    """
    values, defect = _checked(maps, masks)
    if not 0 < limit <= 1:
        raise ValueError(f"limit must be a false positive rate in (0, 1], got {limit}")
    overlap = np.stack([_shares(mask)[0] for mask in defect])
    return _area_of(values, overlap, ~defect, limit)


@dataclass(frozen=True, eq=False)
class _Counts:
    """What is kept of an image: how often each value is at good pixels, at those of defects, and as shares of these."""

    score: float
    values: Numbers
    good: Numbers
    defect: Numbers
    overlap: Numbers
    regions: int


@dataclass(eq=False)
class AnomalyScores:
    """Scores of images that come one after the other, of which no map is kept: some 50 kB an image are.

    Values of maps are rounded to 9 significant bits, 0.2 %, and counted; of these, the areas are exact. Intervals are
    of images drawn anew, good ones and those with defects each among themselves.

    Attributes:
        bootstrap: how intervals are made.

    Example:
        >>> import torch
        >>> from ssimgen.detection import AnomalyScores
        >>> scores, mask = AnomalyScores(), torch.zeros(16, 16, dtype=torch.bool)
        >>> scores.add(torch.full((16, 16), 0.1), mask)
        >>> mask[4:8, 4:8] = True
        >>> scores.add(torch.where(mask, 0.5, 0.2), mask)
        >>> scores.image_auroc().value, scores.pixel_auroc().value, scores.pro().value
        (1.0, 1.0, 1.0)
    """

    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP
    _images: list[_Counts] = field(default_factory=list, init=False, repr=False)

    def add(self, map: Float[Tensor, "H W"], mask: Bool[Tensor, "H W"], score: float | None = None) -> None:
        """One more image.

        Args:
            map: the anomaly map.
            mask: where defects are; nowhere, in a good image.
            score: of the image; the greatest value of the map where None.

        Raises:
            ValueError: a map and a mask of different sizes, or values that are not finite.
        """
        if map.shape != mask.shape:
            raise ValueError(f"map and mask must have one size, got {tuple(map.shape)} and {tuple(mask.shape)}")
        exact = _finite(map)
        defect = mask.cpu().numpy()
        values, place = np.unique(_rounded(exact), return_inverse=True)
        shares, regions = _shares(defect)

        def counted(weights: NDArray[Any]) -> Numbers:
            counts: Numbers = np.bincount(place.ravel(), weights.ravel().astype(float), len(values)).astype(float)
            return counts

        greatest = float(exact.max()) if score is None else score
        self._images.append(_Counts(greatest, values, counted(~defect), counted(defect), counted(shares), regions))

    def __len__(self) -> int:
        return len(self._images)

    @property
    def defective(self) -> int:
        """How many images have a defect."""
        return sum(image.regions > 0 for image in self._images)

    @property
    def regions(self) -> int:
        """How many connected regions of defects there are."""
        return sum(image.regions for image in self._images)

    def image_auroc(self) -> Estimate:
        """The probability that an image with a defect has a greater score than a good one.

        Raises:
            ValueError: all images are good, or none is.
        """
        if not 0 < self.defective < len(self):
            raise ValueError(f"{self.defective} of {len(self)} images have a defect, and an AUROC needs both kinds")
        scores = np.array([image.score for image in self._images])
        defective = np.array([image.regions > 0 for image in self._images])
        return self._estimate(lambda counts: _area_of(scores, counts * defective, counts * ~defective))

    def pixel_auroc(self) -> Estimate:
        """As :func:`pixel_auroc`, of all images."""
        return self._of_pixels([image.defect for image in self._images], 1.0)

    def pro(self, limit: float = PRO_LIMIT) -> Estimate:
        """As :func:`pro`, of all images."""
        if not 0 < limit <= 1:
            raise ValueError(f"limit must be a false positive rate in (0, 1], got {limit}")
        return self._of_pixels([image.overlap for image in self._images], limit)

    def _of_pixels(self, positives: list[Numbers], limit: float) -> Estimate:
        if not self.defective:
            raise ValueError(f"none of {len(self)} images has a defect: there is none to find")
        values = np.unique(np.concatenate([image.values for image in self._images]))
        places = [np.searchsorted(values, image.values) for image in self._images]
        shape = (len(self._images), len(values))
        defects, goods = (
            csr_array(_rows(counts, places), shape=shape) for counts in (positives, [z.good for z in self._images])
        )
        return self._estimate(lambda counts: _area(counts @ defects, counts @ goods, limit))

    def _estimate(self, statistic: Any) -> Estimate:
        kinds = torch.tensor([image.regions > 0 for image in self._images])
        return self.bootstrap.of_counts(lambda counts: statistic(counts.numpy()), kinds)


def _rows(counts: list[Numbers], places: list[NDArray[Any]]) -> tuple[Numbers, tuple[NDArray[Any], NDArray[Any]]]:
    """The entries of a matrix of one row an image."""
    rows = np.repeat(np.arange(len(counts)), [len(row) for row in counts])
    return np.concatenate(counts), (rows, np.concatenate(places))


def _area(positives: Numbers, negatives: Numbers, limit: float = 1.0) -> float:
    """The area under a ROC curve up to a false positive rate, divided by it.

    Args:
        positives, negatives: how much of either kind there is at each of the values that occur, from the least on.
        limit: of the false positive rate.
    """
    if not positives.sum() > 0 or not negatives.sum() > 0:
        raise ValueError("masks must leave pixels of both kinds, of defects and good ones")
    true, false = (np.append(0.0, part[::-1].cumsum() / part.sum()) for part in (positives, negatives))
    inside = false <= limit
    true, false = np.append(true[inside], np.interp(limit, false, true)), np.append(false[inside], limit)
    return float((np.diff(false) * (true[1:] + true[:-1])).sum() / (2 * limit))


def _area_of(values: Numbers, positives: NDArray[Any], negatives: NDArray[Any], limit: float = 1.0) -> float:
    """The same of values in any order, and how much of either kind each stands for."""
    _, place = np.unique(values, return_inverse=True)
    true, false = (np.bincount(place.ravel(), part.ravel().astype(float)) for part in (positives, negatives))
    return _area(true.astype(float), false.astype(float), limit)


def _shares(mask: NDArray[Any]) -> tuple[Numbers, int]:
    """At every pixel of a defect 1 / the area of its region, elsewhere 0; and how many regions there are."""
    regions, number = label(mask, _NEIGHBOURS)
    areas = np.bincount(regions.ravel()).astype(float)
    areas[0] = np.inf
    return 1 / areas[regions], number


def _rounded(values: Numbers) -> Numbers:
    mantissa, exponent = np.frexp(values)
    rounded: Numbers = np.ldexp(np.round(mantissa * 2**_DIGITS) / 2**_DIGITS, exponent)
    return rounded


def _finite(maps: Tensor) -> Numbers:
    values: Numbers = maps.detach().cpu().double().numpy()
    if not np.isfinite(values).all():
        raise ValueError("maps must be finite, got NaN or infinite values: look for them in the images")
    return values


def _checked(maps: Tensor, masks: Tensor) -> tuple[Numbers, NDArray[np.bool_]]:
    if maps.shape != masks.shape:
        raise ValueError(f"maps and masks must have one shape, got {tuple(maps.shape)} and {tuple(masks.shape)}")
    return _finite(maps), masks.cpu().numpy()
