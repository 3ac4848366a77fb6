"""The least-squares adversarial network: distances of scores from labels, single ones and maps, and that it learns."""

import pytest
import torch
from torch import Tensor

from ssimgen.batches import Batch
from ssimgen.models.lsgan import LSGAN, LSGANConfig
from ssimgen.models.networks import Network
from ssimgen.objectives.adversarial import LabelDistance
from ssimgen.objectives.structure import Structure

CONV = Network("conv", width=4, activation="leaky_relu")
STRUCTURAL = LabelDistance("structural", Structure(form="sum", window="uniform", size=2, k1=1.0, k2=1.0))
DISTANCES = {"l2": LabelDistance("l2"), "structural": STRUCTURAL}


def make(
    labels: str = "0,1,1",
    distance: str = "l2",
    scores: str = "image",
    classes: int = 0,
    shape: tuple[int, int, int] = (1, 12, 12),
    network: Network = CONV,
) -> LSGAN:
    """A small model with fixed weights."""
    torch.manual_seed(0)
    config = LSGANConfig(3, classes, labels, DISTANCES[distance], scores, network, CONV)
    return LSGAN(config, shape)


def batch(n: int = 8, classes: int = 0) -> Batch:
    """Random images, with classes in turn."""
    images = torch.rand(n, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    return Batch(images, torch.arange(n) % classes if classes else None)


@pytest.mark.parametrize("kind", ["mlp", "conv"])
@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize(("shape", "side"), [((1, 28, 28), 7), ((3, 32, 32), 8), ((3, 64, 64), 8)])
def test_samples_are_images_and_scores_single_or_maps(
    kind: str, classes: int, shape: tuple[int, int, int], side: int
) -> None:
    network = Network(kind, hidden=(16,), width=4)
    model = make(scores="patches", classes=classes, shape=shape, network=network)
    drawn = model.sample(4, torch.Generator().manual_seed(7))
    assert drawn.shape == (4, *shape)
    assert 0 <= drawn.min() <= drawn.max() <= 1
    assert torch.equal(drawn, model.sample(4, torch.Generator().manual_seed(7)))
    assert model.scores(drawn, model.chosen(4)).shape == (4, 1, side, side)
    assert make(classes=classes, shape=shape).scores(drawn, model.chosen(4)).shape == (4, 1)


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("scores", ["image", "patches"])
@pytest.mark.parametrize("distance", list(DISTANCES))
@pytest.mark.parametrize(("labels", "abc"), [("0,1,1", (0.0, 1.0, 1.0)), ("-1,1,0", (-1.0, 1.0, 0.0))])
def test_terms_are_distances_of_scores_from_labels(
    labels: str, abc: tuple[float, float, float], distance: str, scores: str, classes: int
) -> None:
    model, data = make(labels, distance, scores, classes), batch(8, classes)
    torch.manual_seed(3)
    told, fooled = model.discriminator_terms(data), model.generator_terms(data)["fooling"]
    torch.manual_seed(3)

    def score(images: Tensor) -> Tensor:
        everything = model.discriminator(images)  # (8, classes or 1, ...)
        return torch.stack([s[data.labels[i] if classes else 0] for i, s in enumerate(everything)])[:, None]

    def generated() -> Tensor:
        z = torch.randn(8, 3)
        return model.generator(torch.cat([z, torch.eye(3)[data.labels]], 1) if classes else z)

    a, b, c = abc
    d = DISTANCES[distance]
    torch.testing.assert_close(told["real"], d(score(data.images), b))
    torch.testing.assert_close(told["fake"], d(score(generated()), a))
    torch.testing.assert_close(fooled, d(score(generated()), c))


def test_each_player_moves_its_own_network() -> None:
    model, data = make(scores="patches", distance="structural"), batch()
    discriminator, generator = model.steps()
    assert discriminator.modules == (model.discriminator,)
    assert generator.modules == (model.generator,)
    torch.stack(list(discriminator.terms(data).values())).sum().backward()
    assert all(p.grad is None for p in model.generator.parameters())
    assert all(p.grad is not None and p.grad.any() for p in model.discriminator.parameters())
    generator.terms(data)["fooling"].backward()
    assert all(p.grad is not None and p.grad.any() for p in model.generator.parameters())


@pytest.mark.usefixtures("no_shape_checks")  # which would take most of the time
@pytest.mark.parametrize("scores", ["image", "patches"])
@pytest.mark.parametrize("distance", list(DISTANCES))
@pytest.mark.parametrize("labels", ["0,1,1", "-1,1,0"])
def test_every_game_learns_the_brightness_of_a_class(labels: str, distance: str, scores: str) -> None:
    """Dark images of class 0 and bright ones of class 1: the drawn ones come to differ by half as much at least."""
    model, data = make(labels, distance, scores, 2, network=Network("mlp", hidden=(16,))), batch(16, 2)
    images = 0.1 * data.images + 0.8 * data.labels[:, None, None, None]
    optimisers = [torch.optim.Adam(s.modules[0].parameters(), 5e-3, betas=(0.5, 0.999)) for s in model.steps()]
    for _ in range(120):
        for step, optimiser in zip(model.steps(), optimisers, strict=True):
            loss = torch.stack(list(step.terms(Batch(images, data.labels)).values())).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    dark, bright = model.sample(2, torch.Generator().manual_seed(0)).mean((1, 2, 3)).tolist()
    assert bright - dark > 0.4  # of 0.8


def test_labels_of_images_are_required() -> None:
    with pytest.raises(ValueError, match="num_classes=3 needs images with class numbers, and these have none"):
        make(classes=3).discriminator_terms(batch())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": "0,1"}, "labels must be one of '0,1,1', '-1,1,0', got '0,1'"),
        ({"scores": "patch"}, "scores must be one of 'image', 'patches', got 'patch': did you mean 'patches'"),
        ({"latent": 0}, "latent must be at least 1 and num_classes at least 0, got 0 and 0"),
    ],
)
@pytest.mark.usefixtures("no_shape_checks")
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LSGANConfig(**options)  # type: ignore[arg-type]


def test_maps_need_a_convolutional_discriminator() -> None:
    config = LSGANConfig(scores="patches", discriminator=Network("mlp"))
    with pytest.raises(ValueError, match="a map of scores needs a convolutional network: set kind='conv'"):
        LSGAN(config, (1, 12, 12))
