"""The threshold of conformal prediction: the rank, what it promises, and how many images that takes."""

import pytest
import torch

from ssimgen.detection import conformal_threshold


def test_the_threshold_is_the_right_rank() -> None:
    scores = torch.randperm(19, generator=torch.Generator().manual_seed(0)).float()
    assert conformal_threshold(scores, 0.05) == 18  # the 19th of 19: 20 x 0.95
    assert conformal_threshold(scores, 0.1) == 17
    assert conformal_threshold(scores, 0.5) == 9


@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_good_images_are_flagged_at_the_rate(rate: float) -> None:
    """Over draws of 39 good images and one more; ranks are 1 / 40 each, so that both rates are met exactly."""
    generator = torch.Generator().manual_seed(0)
    flagged = [
        (new > conformal_threshold(known, rate)).item()
        for known, new in ((draw[:39], draw[39]) for draw in torch.randn(4000, 40, generator=generator).exp())
    ]
    assert sum(flagged) / 4000 == pytest.approx(rate, abs=4 * (rate * (1 - rate) / 4000) ** 0.5)


def test_too_few_images_are_refused_with_what_would_do() -> None:
    message = "of 0.01 needs at least 99 good images .* got 50: give more, or a rate of at least 0.02"
    with pytest.raises(ValueError, match=message):
        conformal_threshold(torch.rand(50), 0.01)
    conformal_threshold(torch.rand(50), 0.02)
    conformal_threshold(torch.rand(99), 0.01)
    with pytest.raises(ValueError, match=r"needs at least 19 good images .* got 0: give more$"):
        conformal_threshold(torch.rand(0), 0.05)


@pytest.mark.parametrize("rate", [0.0, 1.0, -1.0, float("nan")])
def test_a_rate_is_between_0_and_1(rate: float) -> None:
    with pytest.raises(ValueError, match="rate must be a false positive rate between 0 and 1, got"):
        conformal_threshold(torch.rand(50), rate)
