"""AUROC and per-region overlap against their definitions, and images one after the other against all at once."""

from collections import deque

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor

from ssimgen.detection import AnomalyScores, pixel_auroc, pro
from ssimgen.evaluation import Bootstrap


def drawn(n: int = 6, size: int = 20, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Maps and masks: two rectangles in most images, none in the others, over noise with ties."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(n, size, size, generator=generator)
    masks = torch.zeros(n, size, size, dtype=torch.bool)
    for i in range(n):
        for _ in range(0 if i % 3 == 2 else 2):
            top, left, height, width = torch.randint(1, 9, (4,), generator=generator).tolist()
            masks[i, top : top + height, left : left + width] = True
    maps += 0.3 * masks
    return (maps * 16).round() / 16, masks


def regions(mask: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """Sets of pixels that touch each other, at corners too, by a walk from pixel to pixel."""
    left, found = mask.copy(), []
    for start in zip(*np.nonzero(mask), strict=True):
        if not left[start]:
            continue
        region, waiting = np.zeros_like(mask), deque([start])
        left[start] = False
        while waiting:
            i, j = waiting.popleft()
            region[i, j] = True
            for k in range(max(0, i - 1), min(len(mask), i + 2)):
                for m in range(max(0, j - 1), min(mask.shape[1], j + 2)):
                    if left[k, m]:
                        left[k, m] = False
                        waiting.append((k, m))
        found.append(region)
    return found


def overlap_curve(maps: NDArray[np.float64], masks: NDArray[np.bool_], limit: float) -> float:
    """PRO as it is defined: each threshold by itself, and the area by many small steps."""
    curve = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        above = maps >= threshold
        parts = [above[i][region].mean() for i, mask in enumerate(masks) for region in regions(mask)]
        curve.append((above[~masks].mean(), float(np.mean(parts))))
    false, true = np.array(curve).T
    steps = np.linspace(0, limit, 200_001)
    heights = np.interp(steps, false, true)
    return float(heights.mean())


def test_pixels_against_scikit_learn() -> None:
    maps, masks = drawn()
    expected = roc_auc_score(masks.flatten().numpy(), maps.flatten().numpy())
    assert pixel_auroc(maps, masks) == pytest.approx(expected, abs=1e-12)
    assert pixel_auroc(-maps, masks) == pytest.approx(1 - expected, abs=1e-12)


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
def test_overlap_against_its_definition(limit: float) -> None:
    maps, masks = drawn()
    expected = overlap_curve(maps.double().numpy(), masks.numpy(), limit)
    assert pro(maps, masks, limit) == pytest.approx(expected, abs=1e-5)


def test_small_regions_count_as_much_as_large_ones() -> None:
    """By hand: the large region is found at once, the small one after a fifth of the good pixels."""
    maps, masks = torch.zeros(1, 10, 10), torch.zeros(1, 10, 10, dtype=torch.bool)
    masks[0, :5] = True
    masks[0, 9, 9] = True
    masks[0, 8, 8] = True  # touches at a corner: one region
    maps[0, :5], maps[0, 9, 9], maps[0, 8, 8] = 3.0, 1.0, 1.0
    false_alarms = (~masks[0]).nonzero()[:10]  # of 48 good pixels
    maps[0, false_alarms[:, 0], false_alarms[:, 1]] = 2.0
    assert pro(maps, masks, limit=10 / 48) == pytest.approx(0.5)
    beyond = 0.5 + 0.5 * (0.3 - 10 / 48) / 0.3  # both are found from there on
    assert pro(maps, masks) == pytest.approx(beyond)


def test_images_one_after_the_other_are_all_at_once() -> None:
    maps, masks = drawn()
    scores = AnomalyScores(Bootstrap(resamples=20))
    for one, mask in zip(maps, masks, strict=True):
        scores.add(one, mask)
    assert (len(scores), scores.defective, scores.regions) == (6, 4, sum(len(regions(m)) for m in masks.numpy()))
    assert scores.pixel_auroc().value == pytest.approx(pixel_auroc(maps, masks), abs=1e-12)
    assert scores.pro().value == pytest.approx(pro(maps, masks), abs=1e-12)
    assert scores.pro(0.1).value == pytest.approx(pro(maps, masks, 0.1), abs=1e-12)
    expected = roc_auc_score(masks.flatten(1).any(1).numpy(), maps.flatten(1).amax(1).numpy())
    assert scores.image_auroc().value == pytest.approx(expected, abs=1e-12)


def test_rounded_values_and_images_of_many_sizes() -> None:
    """Of values of all magnitudes, areas move by less than the share of pairs that rounding makes equal."""
    generator = torch.Generator().manual_seed(1)
    scores, all_values, all_masks = AnomalyScores(Bootstrap(resamples=5)), [], []
    for size in ((30, 41), (25, 25), (64, 20)):
        mask = torch.zeros(size, dtype=torch.bool)
        mask[3:12, 5:14] = True
        one = torch.exp(3 * torch.randn(size, generator=generator) + mask)
        scores.add(one, mask, score=0.0)
        all_values.append(one.flatten())
        all_masks.append(mask.flatten())
    expected = pixel_auroc(torch.cat(all_values)[None, None], torch.cat(all_masks)[None, None])
    assert scores.pixel_auroc().value == pytest.approx(expected, abs=1e-4)


def test_intervals_are_of_images_drawn_anew() -> None:
    """Half of the defects are found, each in an image of its own: the interval is that of a proportion."""
    scores = AnomalyScores(Bootstrap(resamples=2000))
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[0, 0] = True
    for i in range(50):
        scores.add(torch.zeros(4, 4) + mask * float(i % 2), mask)
        scores.add(torch.full((4, 4), 0.5), torch.zeros_like(mask))
    found = scores.image_auroc()
    assert found.value == 0.5
    half = 1.96 * 0.5 / 50**0.5
    assert found.low == pytest.approx(0.5 - half, abs=0.03)
    assert found.high == pytest.approx(0.5 + half, abs=0.03)
    assert scores.image_auroc() == found


def test_scores_of_images_may_be_given() -> None:
    scores, mask = AnomalyScores(Bootstrap(resamples=5)), torch.zeros(4, 4, dtype=torch.bool)
    scores.add(torch.ones(4, 4), mask, score=2.0)
    mask = mask.clone()
    mask[0, 0] = True
    scores.add(torch.ones(4, 4), mask, score=1.0)
    assert scores.image_auroc().value == 0.0
    assert scores.pixel_auroc().value == 0.5


@pytest.mark.usefixtures("no_shape_checks")
def test_what_cannot_be_scored_is_refused() -> None:
    maps, masks = drawn()
    good, scores = torch.zeros_like(masks), AnomalyScores(Bootstrap(resamples=5))
    for function in (pixel_auroc, pro):
        with pytest.raises(ValueError, match="masks must leave pixels of both kinds"):
            function(maps, good)
        with pytest.raises(ValueError, match="maps and masks must have one shape, got"):
            function(maps, masks[:, :5])
        with pytest.raises(ValueError, match="maps must be finite, got NaN or infinite values"):
            function(maps * torch.nan, masks)
    for limit in (0.0, 1.1):
        with pytest.raises(ValueError, match=r"limit must be a false positive rate in \(0, 1\], got"):
            pro(maps, masks, limit)
        with pytest.raises(ValueError, match=r"limit must be a false positive rate in \(0, 1\], got"):
            scores.pro(limit)
    scores.add(maps[0], good[0])
    with pytest.raises(ValueError, match="0 of 1 images have a defect, and an AUROC needs both kinds"):
        scores.image_auroc()
    with pytest.raises(ValueError, match="none of 1 images has a defect: there is none to find"):
        scores.pixel_auroc()
    with pytest.raises(ValueError, match=r"map and mask must have one size, got \(20, 20\) and \(5, 20\)"):
        scores.add(maps[0], masks[0, :5])
