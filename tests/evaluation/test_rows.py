"""The tables: every row is what its metric says, beside the right reference, and bad input stops before any work."""

import math
import re

import pytest
import torch
from torch import Tensor

from ssimgen import Window, distance, ms_ssim, ssim
from ssimgen.discrepancy import two_sample_test
from ssimgen.evaluation import (
    Bootstrap,
    ClassLabels,
    FeatureNetwork,
    SampleOptions,
    coverage,
    evaluate_reconstructions,
    evaluate_samples,
    feature_distance,
    frechet_distance,
    kernel_distance,
    nearest,
    precision,
    psnr,
    sharpness,
)
from ssimgen.evaluation.perceptual import st_lpips, weights_file
from ssimgen.kernels import SSIM, Gaussian
from ssimgen.metrics import Euclidean

WINDOW = Window.uniform(7, stride=7)
OPTIONS = SampleOptions(permutations=99, window=WINDOW, bootstrap=Bootstrap(resamples=100))
PIXELS = FeatureNetwork("coarse pixels", lambda x: torch.nn.functional.avg_pool2d(x, 7).flatten(1))


def forbidden(images: Tensor) -> Tensor:
    raise AssertionError("bad input must stop the evaluation before the network is called")


@pytest.fixture(scope="module")
def sets(digits) -> dict[str, Tensor]:
    """Samples (digits under noise), training and held-out digits, in float32."""
    noise = 0.3 * torch.randn(60, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    return {
        "samples": (digits[:60].float() + noise).clamp(0, 1),
        "train": digits[100:220].float(),
        "held_out": digits[300:350].float(),
    }


@pytest.fixture(scope="module")
def rows(sets):
    dark = [(images.mean((1, 2, 3)) < 0.12).long() for images in sets.values()]  # easily told
    labels = ClassLabels(*dark)
    made = evaluate_samples(**sets, data_range=1.0, labels=labels, network=PIXELS, options=OPTIONS)
    return {row.metric: row for row in made}


def test_rows_and_their_order(rows):
    assert list(rows) == [
        "Frechet distance (coarse pixels)",
        "kernel distance (coarse pixels)",
        "C2ST, bits (coarse pixels)",
        "precision (coarse pixels)",
        "recall (coarse pixels)",
        "density (coarse pixels)",
        "coverage (coarse pixels)",
        "Parzen log-likelihood, nats",
        "MMD^2 (Gaussian kernel on pixels)",
        "p-value (Gaussian kernel on pixels)",
        "MMD^2 (SSIM kernel)",
        "p-value (SSIM kernel)",
        "MMD^2 (Gaussian kernel on structural distance)",
        "p-value (Gaussian kernel on structural distance)",
        "class accuracy",
        "structural distance to the nearest training image",
        "sharpness",
    ]


def test_intervals_hold_their_values(rows):
    for metric, row in rows.items():
        if metric.startswith("p-value"):
            assert (row.model.low, row.model.high) == (None, None)
        else:
            assert row.model.low <= row.model.value <= row.model.high
            assert row.model.low < row.model.high or row.model.value in (0, 1)
            assert row.reference.low <= row.reference.value <= row.reference.high


def test_rows_are_what_their_metrics_say(rows, sets):
    """In the order in which the evaluation draws: a permutation by its seed."""
    drawn = {
        name: images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))]
        for name, images in sets.items()
    }
    ours, theirs, train = drawn["samples"], drawn["held_out"], drawn["train"]
    real, fake, held_out = PIXELS(train), PIXELS(ours[:50]), PIXELS(theirs)
    for metric, score in (
        ("Frechet distance (coarse pixels)", lambda x: frechet_distance(x, real).value),
        ("kernel distance (coarse pixels)", lambda x: kernel_distance(x, real).value),
        ("precision (coarse pixels)", lambda x: precision(real, x).mean().item()),
        ("coverage (coarse pixels)", lambda x: coverage(real, x).mean().item()),
    ):
        assert rows[metric].model.value == pytest.approx(score(fake), rel=1e-5)
        assert rows[metric].reference.value == pytest.approx(score(held_out), rel=1e-5)
        assert rows[metric].n == 50  # as many samples as held-out images
    for metric, score in (
        ("sharpness", lambda x: sharpness(x, data_range=1.0)),
        (
            "structural distance to the nearest training image",
            lambda x: nearest(x, train, data_range=1.0, window=WINDOW).distance,
        ),
    ):
        assert rows[metric].model.value == pytest.approx(score(ours).mean().item(), rel=1e-5)
        assert rows[metric].reference.value == pytest.approx(score(theirs).mean().item(), rel=1e-5)
        assert (rows[metric].n, rows[metric].better) == (60, "reference")
    kernel = Gaussian(Euclidean(), "median").fit(train[50:100])  # not the images that are tested
    for name, tested in (("SSIM kernel", SSIM(1.0, window=WINDOW)), ("Gaussian kernel on pixels", kernel)):
        for images, field in ((ours[:50], "model"), (theirs, "reference")):
            result = two_sample_test(images, train[:50], tested, permutations=99)
            assert getattr(rows[f"MMD^2 ({name})"], field).value == pytest.approx(result.statistic, rel=1e-3)
            assert getattr(rows[f"p-value ({name})"], field).value == result.p_value


def test_noise_shows_in_every_row_that_looks_for_it(rows):
    for metric, row in rows.items():
        if row.better == "lower":
            assert row.model.value > row.reference.value, metric
    for kernel in ("Gaussian kernel on pixels", "SSIM kernel"):
        assert rows[f"p-value ({kernel})"].model.value == 0.01 < rows[f"p-value ({kernel})"].reference.value
    assert rows["sharpness"].model.value > 2 * rows["sharpness"].reference.value
    assert rows["Parzen log-likelihood, nats"].model.value < rows["Parzen log-likelihood, nats"].reference.value


def test_copied_training_images_are_exposed(sets):
    copies = {row.metric: row for row in made_from(sets | {"samples": sets["train"][:60]})}
    memorised = copies["structural distance to the nearest training image"]
    assert memorised.model.value == memorised.model.high == 0.0 < memorised.reference.low
    assert copies["precision (coarse pixels)"].model.value == 1.0


def made_from(sets: dict[str, Tensor], **overrides) -> list:
    return evaluate_samples(**sets, **{"data_range": 1.0, "network": PIXELS, "options": OPTIONS} | overrides)


def test_rows_are_reported_as_they_come_and_repeat(sets, rows):
    reported = []
    made = made_from(sets, report=reported.append)
    assert reported == made
    assert made == [row for row in rows.values() if row.metric != "class accuracy"]


def test_units_of_the_images_do_not_matter(sets, rows):
    for row in made_from({name: 255 * images for name, images in sets.items()}, data_range=255):
        assert row.model.value == pytest.approx(rows[row.metric].model.value, rel=1e-3, abs=1e-5)


def test_reconstructions_against_the_metrics_and_copies_of_training_images(sets, digits):
    images, rebuilt = digits[:60].float(), sets["samples"]
    made = evaluate_reconstructions(images, rebuilt, data_range=1.0, train=sets["train"], network=PIXELS, window=WINDOW)
    copies = torch.stack(
        [
            sets["train"][distance(x.expand(120, -1, -1, -1), sets["train"], data_range=1.0, window=WINDOW).argmin()]
            for x in images
        ]
    )
    metrics = {
        "PSNR, dB": lambda x: psnr(x, images, data_range=1.0),
        "SSIM": lambda x: ssim(x, images, data_range=1.0, window=WINDOW),
        "MS-SSIM": lambda x: ms_ssim(x, images, data_range=1.0, window=WINDOW),
        "feature distance (coarse pixels)": lambda x: feature_distance(PIXELS(x), PIXELS(images)),
    }
    if weights_file() is not None:
        metrics["ST-LPIPS"] = lambda x: st_lpips()(x, images)
    assert [row.metric for row in made] == [*metrics, "sharpness"]
    for row, metric in zip(made, metrics.values(), strict=False):
        assert row.model.value == pytest.approx(metric(rebuilt).mean().item(), rel=1e-5)
        assert row.reference.value == pytest.approx(metric(copies).mean().item(), rel=1e-5)
        assert row.model.low < row.model.value < row.model.high
        assert row.n == 60
    assert made[-1].reference.value == pytest.approx(sharpness(images, data_range=1.0).mean().item(), rel=1e-5)


@pytest.mark.usefixtures("without_st_lpips")
def test_images_pass_the_feature_network_once(sets):
    """Those of the reconstructions, of the nearest training images, and of the images."""
    seen = []

    def embed(images: Tensor) -> Tensor:
        seen.append(len(images))
        return PIXELS.embed(images)

    network = FeatureNetwork("counted", embed, batch=1000)
    images = sets["train"][:60]
    evaluate_reconstructions(images, sets["samples"], data_range=1.0, train=sets["train"], network=network)
    assert seen == [60, 60, 60]


@pytest.mark.usefixtures("without_st_lpips")
def test_perfect_reconstructions(sets):
    made = evaluate_reconstructions(sets["train"], sets["train"].clone(), data_range=1.0, network=PIXELS, window=WINDOW)
    values = {row.metric: row.model.value for row in made}
    assert values["PSNR, dB"] == math.inf
    assert values["SSIM"] == values["MS-SSIM"] == 1.0
    assert values["feature distance (coarse pixels)"] == 0.0
    assert [row.reference is None for row in made] == [True] * (len(made) - 1) + [False]


def broken(images: Tensor) -> Tensor:
    images = images.clone()
    images[5, 0, 3, 3] = math.nan
    return images


ONE_CLASS = ClassLabels(torch.zeros(60).long(), torch.zeros(120).long(), torch.zeros(50).long())


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"held_out": lambda x: x[:19]}, {}, "an evaluation needs at least 20 points, but held_out has 19"),
        ({"train": broken}, {}, "train has values that are not finite, first in train[5]: drop or repair it"),
        ({"samples": lambda x: 2 * x}, {}, "samples has values in [0, 2], beyond its data_range [0, 1]"),
        ({"train": lambda x: x[..., :20]}, {}, "points of samples and train must have equal shapes"),
        ({"samples": lambda x: (x * 255).byte()}, {}, "samples must be a floating-point tensor, got torch.uint8"),
        ({}, {"labels": ONE_CLASS}, "at least two classes, but all of labels.train are 0"),
        (
            {},
            {"labels": ONE_CLASS._replace(samples=torch.zeros(59).long())},
            "labels.samples must be a tensor of 60 class numbers, one an image, got torch.int64 of shape (59,)",
        ),
        ({}, {"network": forbidden}, "network must be a FeatureNetwork, got function: wrap a function of images"),
        ({}, {"options": SampleOptions(window=Window.uniform(29))}, "window of 29 x 29 px does not fit images of 28"),
    ],
)
def test_bad_sets_stop_before_any_work(changes, options, message, sets, no_shape_checks):
    changed = {name: changes.get(name, lambda x: x)(images) for name, images in sets.items()}
    arguments = {"data_range": 1.0, "network": FeatureNetwork("none", forbidden), "options": OPTIONS} | options
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        evaluate_samples(**changed, **arguments)


def test_bad_reconstructions_stop_before_any_work(sets, no_shape_checks):
    images, network = sets["train"], FeatureNetwork("none", forbidden)
    for rebuilt, message in (
        (images[:100], r"images and reconstructions are compared pair by pair, got 120 and 100"),
        (images[..., :20], r"points of images and reconstructions must have equal shapes"),
        (broken(images), r"reconstructions has values that are not finite, first in reconstructions\[5\]"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate_reconstructions(images, rebuilt, data_range=1.0, network=network)
    with pytest.raises(ValueError, match=r"window of 29 x 29 px does not fit images of 28 x 28 px"):
        evaluate_reconstructions(images, images, data_range=1.0, network=network, window=Window.uniform(29))


def test_options_are_checked():
    with pytest.raises(ValueError, match=r"tested must be at least 20, got 5"):
        SampleOptions(tested=5)
