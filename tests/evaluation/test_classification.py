"""The classifier of real images, and the accuracy that it gives to conditional samples."""

import math
import re

import pytest
import torch
from torch import Tensor

from ssimgen.data import load_images
from ssimgen.evaluation import at_chance, class_accuracy, probe_accuracy, train_classifier
from ssimgen.evaluation.classification import principal_components


@pytest.fixture(scope="module")
def labelled() -> tuple[Tensor, Tensor]:
    """1,500 digits in a random order, with their classes."""
    train, _ = load_images("mnist5k")
    return train.pixels[:1500].float() / 255, train.labels[:1500]


def test_digits_are_told_apart_and_wrong_labels_are_noticed(labelled):
    images, labels = labelled
    classify = train_classifier(images[:1000], labels[:1000], data_range=1.0, epochs=4)
    right = class_accuracy(classify, images[1000:], labels[1000:])
    assert right.mean() > 0.9
    assert class_accuracy(classify, images[1000:], (labels[1000:] + 1) % 10).mean() < 0.1
    assert class_accuracy(classify, 1 - images[1000:], labels[1000:]).mean() < right.mean()


@pytest.mark.parametrize(
    ("right", "shares", "told"),
    [
        (3, [2] * 40, False),  # 0.0375 of 80 where 1 in 40 is chance
        (30, [2] * 40, True),
        (60, [50, 50], False),  # p = 0.028
        (63, [50, 50], True),  # p = 0.006
        (82, [80, 20], False),  # as good as naming the larger class
        (95, [80, 20], True),
        (50, [50], False),  # one class: nothing to tell
    ],
)
def test_a_classifier_at_chance_is_recognised(right: int, shares: list[int], told: bool):
    labels = torch.repeat_interleave(torch.arange(len(shares)), torch.tensor(shares))
    hits = (torch.arange(len(labels)) < right).float()
    reason = at_chance(hits, labels)
    assert (reason == "") == told
    if not told:
        assert f"puts {right} of {len(labels)} real held-out images" in reason
        assert f"is right for {max(shares)}:" in reason


def test_equal_seeds_give_equal_classifiers_and_leave_the_global_state_alone(labelled):
    images, labels = labelled
    state = torch.random.get_rng_state()
    scores = [
        train_classifier(images[:64], labels[:64], data_range=1.0, epochs=1, seed=seed)(images[64:70])
        for seed in (5, 5, 6)
    ]
    assert torch.equal(scores[0], scores[1])
    assert not torch.equal(scores[0], scores[2])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_units_do_not_matter(labelled):
    images, labels = labelled
    in_unit = train_classifier(images[:64], labels[:64], data_range=1.0, epochs=1)(images[64:70])
    centred = 2 * images - 1
    in_two = train_classifier(centred[:64], labels[:64], data_range=(-1, 1), epochs=1)(centred[64:70])
    assert torch.allclose(in_unit, in_two, atol=1e-4)


def test_colour_images_of_any_size(generator):
    bright = torch.rand(40, 3, 5, 9, generator=generator) / 2 + torch.arange(40)[:, None, None, None] % 2 / 2
    labels = torch.arange(40) % 2
    classify = train_classifier(bright, labels, data_range=1.0, epochs=20)
    assert class_accuracy(classify, bright, labels).mean() == 1.0


def test_accuracy_of_a_classifier_made_by_hand():
    def classify(images: Tensor) -> Tensor:
        return torch.stack([1 - images.mean((1, 2, 3)), images.mean((1, 2, 3))], 1)

    images = torch.tensor([0.1, 0.9, 0.8]).view(3, 1, 1, 1).expand(-1, 1, 2, 2)
    assert class_accuracy(classify, images, torch.tensor([0, 1, 0])).tolist() == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.zeros(6), "labels must be a tensor of 6 class numbers, one an image, got torch.float32 of shape (6,)"),
        (torch.zeros(5, dtype=torch.long), "labels must be a tensor of 6 class numbers, one an image, got torch.int64"),
        ([0] * 6, "labels must be a tensor of 6 class numbers, one an image, got list"),
        (torch.arange(6) - 1, "labels must be class numbers from 0, got -1"),
        (torch.full((6,), 3), "a classifier needs images of at least two classes, but all of labels are 3"),
    ],
)
def test_unfit_labels(labels, message, no_shape_checks):
    with pytest.raises(ValueError, match=re.escape(message)):
        train_classifier(torch.rand(6, 1, 8, 8), labels, data_range=1.0)


def test_a_classifier_that_returns_something_else():
    images, labels = torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 0, 1])
    for wrong in (lambda x: x.mean((1, 2, 3)), lambda x: torch.full((len(x), 2), math.nan)):
        with pytest.raises(ValueError, match=r"the classifier must return finite scores \(batch, classes\), got shape"):
            class_accuracy(wrong, images, labels)


def test_a_probe_tells_digits_by_their_principal_components_and_not_by_noise(labelled):
    images, labels = labelled
    train, held_out = principal_components(images[:1000], images[1000:], 16)
    right = probe_accuracy(train, labels[:1000], held_out, labels[1000:])
    assert set(right.tolist()) == {0.0, 1.0}
    assert right.mean() > 0.8
    noise = torch.randn(1500, 16, generator=torch.Generator().manual_seed(0))
    assert probe_accuracy(noise[:1000], labels[:1000], noise[1000:], labels[1000:]).mean() < 0.2
    assert probe_accuracy(train, labels[:1000], held_out, (labels[1000:] + 1) % 10).mean() < 0.2


def test_a_probe_does_not_depend_on_units(labelled):
    images, labels = labelled
    train, held_out = principal_components(images[:300], images[1000:1100], 8)
    once, again = (probe_accuracy(a * train + 5, labels[:300], a * held_out + 5, labels[1000:1100]) for a in (1, 1e4))
    assert torch.equal(once, again)


def test_principal_components_are_those_of_the_covariance(generator: torch.Generator):
    images = torch.randn(60, 1, 3, 4, generator=generator) * torch.linspace(0.1, 3, 12).view(3, 4)
    train, others = principal_components(images[:50], images[50:], 3)
    flat = images[:50].flatten(1).double()
    vectors = torch.linalg.eigh(flat.T.cov()).eigenvectors
    expected = (images.flatten(1).double() - flat.mean(0)) @ vectors.flip(1)[:, :3]
    torch.testing.assert_close(torch.cat([train, others]).abs(), expected.abs(), rtol=1e-6, atol=1e-6)
    assert principal_components(images[:5], images, 9)[0].shape == (5, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": torch.zeros(4, dtype=torch.long)}, "labels"),
        ({"labels": torch.arange(3)}, "labels"),
        ({"codes": torch.zeros(2, 2)}, "equal shapes"),
        ({"codes": torch.full((2, 1), torch.nan)}, "codes"),
    ],
)
@pytest.mark.usefixtures("no_shape_checks")
def test_what_a_probe_cannot_take(change: dict[str, Tensor], message: str):
    arguments = {
        "train": torch.arange(4.0)[:, None],
        "labels": torch.arange(4) % 2,
        "codes": torch.zeros(2, 1),
        "of_codes": torch.zeros(2, dtype=torch.long),
    }
    with pytest.raises(ValueError, match=message):
        probe_accuracy(**(arguments | change))
