"""Judges that see what they should may judge; those that are blind, too few, or misled may not, and say why."""

import re

import pytest
import torch
from torch import Tensor

from ssimgen import scores
from ssimgen._judged import left_out
from ssimgen.data import load_images
from ssimgen.evaluation import (
    Bootstrap,
    FeatureNetwork,
    JudgeCheck,
    Ranking,
    Rung,
    check_judges,
    efficientnet_lite0,
    kernel_distance,
    perceptual,
)
from ssimgen.evaluation.degradations import Degraded
from ssimgen.evaluation.judges import JUDGES, MOST
from ssimgen.scores import METRICS

FEW = Bootstrap(resamples=20)
PIXELS = FeatureNetwork("pixels", lambda images: images.flatten(1))


def laplacian(images: Tensor) -> Tensor:
    """Pixels, and next to them the differences of neighbours, which blur and noise change most."""
    detail = torch.cat([images.diff(dim=2).flatten(1), images.diff(dim=3).flatten(1)], 1)
    return torch.cat([images.flatten(1), detail], 1)


SHARP = FeatureNetwork("sharp", laplacian)


@pytest.fixture(scope="module")
def splits() -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    train, held_out = load_images("mnist5k")
    a, b = train.first(120), held_out.first(120)
    return a.images, b.images, (a.labels, b.labels)


def checked(splits, network: FeatureNetwork, *judges: str) -> dict[str, JudgeCheck]:
    train, held_out, labels = splits
    found = check_judges(
        train, held_out, data_range=1.0, labels=labels, network=network, judges=judges or tuple(JUDGES), bootstrap=FEW
    )
    return dict(zip(judges or tuple(JUDGES), found, strict=True))


def test_the_catalogue_knows_all_judges() -> None:
    assert JUDGES.keys() == scores.JUDGES
    assert {key for keys in scores.RANKED_BY.values() for key in keys} < scores.JUDGES
    for kind, keys in scores.RANKED_BY.items():
        assert {JUDGES[key].kind for key in keys} == {kind}


def test_every_judge_is_a_neutral_metric_and_has_something_to_rank() -> None:
    for key, judge in JUDGES.items():
        assert METRICS[key].better in ("higher", "lower")
        assert judge.must


def test_a_judge_that_sees_detail_may_judge_digits(splits) -> None:
    check = checked(splits, SHARP, "feature_distance")["feature_distance"]
    assert check.valid, check.reason
    assert check.reason == ""
    assert [(r.name, r.passed) for r in check.rankings] == [
        ("blur", True),
        ("noise", True),
        ("colours", None),
        ("detail", True),
    ]
    assert check.rankings[2].note == "the images are grey"


def test_a_network_that_sees_nothing_may_judge_nothing(splits) -> None:
    of_features = [key for key in JUDGES if METRICS[key].needs == "network"]
    found = checked(splits, FeatureNetwork("blind", lambda images: torch.ones(len(images), 8)), *of_features)
    assert len(found) == 8
    assert not [check.metric for check in found.values() if check.valid]
    assert found["feature_distance"].reason == "it does not rank real images (0) before 3 x 3 blur (0)"


def test_a_judge_that_prefers_grey_pictures_is_found_out(splits) -> None:
    """Features that grow the further an image is from its own mean: every image is far from all but flat ones."""
    far = FeatureNetwork("far", lambda z: 100 * (z - z.mean((1, 2, 3), keepdim=True)).flatten(1) ** 3)
    check = checked(splits, far, "precision")["precision"]
    assert not check.valid
    assert re.search(r"it does not rank .* before", check.reason)


def test_judges_need_their_modes_only_where_they_can_see_them() -> None:
    without = {key for key, judge in JUDGES.items() if "modes" not in [order.name for order in judge.must]}
    samples = {key for key, judge in JUDGES.items() if judge.kind == "samples"}
    assert samples - without == {"kernel_distance", "c2st", "frechet_distance", "recall", "coverage"}


def test_scores_are_those_of_the_metric(splits) -> None:
    train, held_out, labels = splits
    check = checked(splits, PIXELS, "kernel_distance")["kernel_distance"]
    order = torch.randperm(120, generator=torch.Generator().manual_seed(0))
    images = Degraded(train[order], held_out[order], labels[1][order])
    expected = kernel_distance(images["5 x 5 blur"].flatten(1), images.train.flatten(1), bootstrap=FEW)
    rung = check.rankings[0].rungs[2]
    assert (rung.name, check.n, check.better) == ("5 x 5 blur", 120, "lower")
    assert (rung.value, rung.low, rung.high) == pytest.approx((expected.value, expected.low, expected.high), rel=1e-4)
    assert check.metric == "kernel distance (pixels)"


def test_a_ranking_must_hold_in_either_half(splits) -> None:
    """Digits whose second half a network cannot see."""
    train, held_out, labels = splits
    order = torch.randperm(120, generator=torch.Generator().manual_seed(0))
    hidden = {image.sum().item() for image in held_out[order[60:]]}

    def features(images: Tensor) -> Tensor:
        seen = torch.tensor([image.sum().item() not in hidden for image in images])
        seen &= torch.arange(len(images)) < 60
        return torch.where(seen[:, None], laplacian(images), 0.0)

    network = FeatureNetwork("half", features, batch=1000)
    check = checked((train, held_out, labels), network, "feature_distance")["feature_distance"]
    assert check.reason.startswith("on the second half of the images it does not rank")


def test_efficientnet_may_judge_digits() -> None:
    train, held_out = load_images("mnist5k")
    images = (train.first(60).images, held_out.first(60).images, (train.first(60).labels, held_out.first(60).labels))
    found = checked(images, efficientnet_lite0(64), "feature_distance", "kernel_distance", "c2st")
    assert [check.reason for check in found.values()] == ["", "", ""]


# --- what cannot be judged ----------------------------------------------------------------------------------------


def test_sets_that_are_too_small_are_named_and_nothing_is_scored(splits) -> None:
    def forbidden(images: Tensor) -> Tensor:
        raise AssertionError("too few images must be noticed before the network is called")

    train, held_out, labels = splits
    few = (train, held_out[:39], (labels[0], labels[1][:39]))
    for check in checked(few, FeatureNetwork("none", forbidden)).values():
        assert (check.valid, check.rankings) == (False, ())
        assert check.reason == "it needs 40 images of each set, and there are 39"


def test_one_class_is_named(splits) -> None:
    train, held_out, labels = splits
    check = checked((train, held_out, (labels[0], torch.full((120,), 3))), PIXELS, "class_accuracy")["class_accuracy"]
    assert check.reason == "it needs two classes, and all held-out images are of class 3"
    check = checked((train, held_out, None), PIXELS, "class_accuracy")["class_accuracy"]
    assert check.reason == "the classes of the images are not known"


def test_frechet_distance_needs_more_images_than_features(splits) -> None:
    check = checked(splits, PIXELS, "frechet_distance")["frechet_distance"]
    assert check.reason == "it needs more images than the 784 features, and there are 120 of a set"
    coarse = FeatureNetwork("coarse", lambda z: torch.nn.functional.avg_pool2d(z, 7).flatten(1))
    check = checked(splits, coarse, "frechet_distance")["frechet_distance"]
    assert check.rankings


def test_the_error_of_colour_has_no_use_for_grey(splits) -> None:
    assert checked(splits, PIXELS, "colour_error")["colour_error"].reason == "the images are grey"


def test_st_lpips_says_how_to_have_it(splits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssimgen.evaluation.judges.weights_file", lambda: None)
    check = checked(splits, PIXELS, "st_lpips")["st_lpips"]
    assert left_out([check]) == [
        "Left out of every verdict: ST-LPIPS, as it is an optional dependency: pip install 'ssimgen[judges]'."
    ]


@pytest.mark.skipif(perceptual.weights_file() is None, reason="the package stlpips-pytorch is not installed")
def test_st_lpips_may_judge_photographs() -> None:
    train, held_out = load_images("photos")
    images = (train.first(40).images, held_out.first(40).images, None)
    assert checked(images, PIXELS, "st_lpips")["st_lpips"].valid


def test_a_half_of_the_modes_that_is_small_ranks_nothing() -> None:
    """As of two classes of which one is small: no judge takes so few images, and none fails on them."""
    train, held_out = torch.rand(2, 106, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    labels = (torch.arange(106) >= 6).long()
    judges = [key for key in JUDGES if key not in ("st_lpips", "class_accuracy")]
    pixels = FeatureNetwork("pixels", lambda z: z.flatten(1))
    checks = check_judges(train, held_out, data_range=1.0, labels=(labels, labels), network=pixels, judges=judges)
    notes = {r.note for check in checks for r in check.rankings if r.name == "modes"}
    assert notes == {"half of the modes are 6 of the images, and 20 are needed"}


def test_images_too_large_for_memory_are_named(splits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssimgen.evaluation.judges._BYTES", 30 * 4 * 28 * 28)
    check = checked(splits, PIXELS, "recall")["recall"]
    assert check.reason == (
        "it needs 40 images of each set in memory, where no more than 30 of 28 x 28 px should be: make them smaller"
    )


def test_no_more_images_than_needed_are_looked_at() -> None:
    images = torch.rand(2, MOST + 30, 1, 4, 4)
    (check,) = check_judges(*images, data_range=1.0, network=PIXELS, judges=["precision"], bootstrap=FEW)
    assert check.n == MOST


@pytest.mark.usefixtures("no_shape_checks")
def test_bad_arguments(splits) -> None:
    train, held_out, labels = splits
    with pytest.raises(ValueError, match=r"judges must be one of .*, got 'recal'.*did you mean 'recall'"):
        check_judges(train, held_out, data_range=1.0, network=PIXELS, judges=["recal"])
    with pytest.raises(ValueError, match=r"labels\[1\] must be a tensor of 120 class numbers"):
        check_judges(train, held_out, data_range=1.0, network=PIXELS, labels=(labels[0], labels[1][:3]))
    with pytest.raises(ValueError, match="beyond its data_range"):
        check_judges(train * 255, held_out, data_range=1.0, network=PIXELS)


# --- what is said -------------------------------------------------------------------------------------------------


def test_a_judge_that_ranked_nothing_is_not_valid() -> None:
    nothing = Ranking(name="colours", rungs=(), passed=None, note="the images are grey")
    right = Ranking(name="blur", rungs=(Rung(name="real images", value=0.0, low=0.0, high=0.0),), passed=True)
    wrong = Ranking(name="noise", rungs=(), passed=False, note="it does not rank a before b")

    def check(*rankings: Ranking) -> JudgeCheck:
        return JudgeCheck(kind="samples", metric="m", better="lower", n=50, rankings=rankings)

    assert check(right, nothing).valid
    assert not check(nothing).valid
    assert not check(right, wrong).valid
    assert check(right, wrong).reason == "it does not rank a before b"
    assert check(right).scores() == {"real images": 0.0}
