"""The generative adversarial network: its two losses, its perceptual terms, classes, and that it learns."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus

from ssimgen.batches import Batch
from ssimgen.models.gan import GAN, GANConfig
from ssimgen.models.networks import Network
from ssimgen.objectives.adversarial import Perceptual
from ssimgen.objectives.lipschitz import Penalty, slope_penalty
from ssimgen.objectives.reconstruction import Reconstruction
from ssimgen.objectives.structure import Structure

SMALL = Network("mlp", hidden=(16,))
BLOCKS = Structure(form="sum", window="uniform", size=4, stride=4)
KINDS = ["none", "literal", "paired", "energy"]


def make(
    kind: str = "none",
    classes: int = 0,
    game: str = "non-saturating",
    network: Network = SMALL,
    shape: tuple[int, int, int] = (1, 12, 12),
    penalty: str = "none",
) -> GAN:
    """A small model with fixed weights."""
    torch.manual_seed(0)
    perceptual = Perceptual(kind, 0.5, structure=BLOCKS)
    return GAN(GANConfig(3, classes, game, perceptual, network, network, Penalty(penalty, structure=BLOCKS)), shape)


def batch(n: int = 8, classes: int = 0) -> Batch:
    """Random images, with classes in turn."""
    images = torch.rand(n, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    return Batch(images, torch.arange(n) % classes if classes else None)


@pytest.mark.parametrize("kind", ["mlp", "conv"])
@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 64, 64)])
def test_samples_are_images_fixed_by_the_generator(kind: str, classes: int, shape: tuple[int, int, int]) -> None:
    model = make(classes=classes, network=Network(kind, hidden=(16,), width=4), shape=shape)
    drawn = model.sample(4, torch.Generator().manual_seed(7))
    assert drawn.shape == (4, *shape)
    assert not drawn.requires_grad
    assert 0 <= drawn.min() <= drawn.max() <= 1
    torch.manual_seed(99)
    assert torch.equal(drawn, model.sample(4, torch.Generator().manual_seed(7)))
    assert not torch.equal(drawn, model.sample(4, torch.Generator().manual_seed(8)))
    assert model.scores(drawn, model.chosen(4)).shape == (4, 1)


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("game", ["non-saturating", "minimax", "wasserstein"])
def test_terms_are_the_losses_of_scores_of_images_of_one_class(game: str, classes: int) -> None:
    model, data = make(classes=classes, game=game, penalty="slope"), batch(8, classes)
    torch.manual_seed(3)
    told, fooled = model.discriminator_terms(data), model.generator_terms(data)["fooling"]
    torch.manual_seed(3)

    def score(images: Tensor) -> Tensor:
        columns = model.discriminator(images)
        return columns[torch.arange(8), data.labels if classes else 0]

    def generated() -> Tensor:
        z = torch.randn(8, 3)
        return model.generator(torch.cat([z, torch.eye(3)[data.labels]], 1) if classes else z)

    real, fake, scores = score(data.images), score(drawn := generated()), score(generated())
    losses = {
        "non-saturating": (softplus(-real), softplus(fake), softplus(-scores)),
        "minimax": (softplus(-real), softplus(fake), -softplus(scores)),
        "wasserstein": (-real, fake, -scores),
    }[game]
    penalty = slope_penalty(lambda z: score(z)[:, None], data.images, drawn, Reconstruction("ssim", BLOCKS))
    for found, expected in zip((told["real"], told["fake"], fooled, told["slope"]), (*losses, penalty), strict=True):
        torch.testing.assert_close(found, expected.mean())


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_perceptual_terms_are_added_but_for_the_literal_one(kind: str, classes: int) -> None:
    model, data = make(kind, classes), batch(9, classes)
    torch.manual_seed(3)
    terms = model.generator_terms(data)
    assert list(terms) == {"none": ["fooling"], "literal": ["perceptual"]}.get(kind, ["fooling", "perceptual"])
    assert list(model.discriminator_terms(data)) == (["real"] if kind == "literal" else ["real", "fake"])
    discriminator, generator = model.steps()
    assert dict(discriminator.weights) == {}
    assert dict(make(penalty="both").steps()[0].weights) == {"gradient": 10.0, "slope": 1.0}
    assert dict(generator.weights) == ({} if kind == "none" else {"perceptual": 0.5})
    if kind != "none":
        torch.manual_seed(3)
        images = model.draw(model.noise(9, 3), model.chosen(9))
        torch.testing.assert_close(terms["perceptual"], model.config.perceptual(images, data.images, data.labels))


def test_each_player_moves_its_own_network() -> None:
    model, data = make("energy"), batch()
    discriminator, generator = model.steps()
    assert discriminator.modules == (model.discriminator,)
    assert generator.modules == (model.generator,)
    torch.stack(list(discriminator.terms(data).values())).sum().backward()
    assert all(p.grad is None for p in model.generator.parameters())
    assert all(p.grad is not None and p.grad.any() for p in model.discriminator.parameters())
    torch.stack(list(generator.terms(data).values())).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.generator.parameters())


def play(model: GAN, data: Batch, iterations: int, rate: float) -> None:
    """Plain training, without the loop."""
    optimisers = [torch.optim.Adam(s.modules[0].parameters(), rate, betas=(0.5, 0.999)) for s in model.steps()]
    for _ in range(iterations):
        for step, optimiser in zip(model.steps(), optimisers, strict=True):
            loss = torch.stack([step.weights.get(name, 1.0) * term for name, term in step.terms(data).items()]).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()


@pytest.mark.usefixtures("no_shape_checks")  # they would take most of the time
@pytest.mark.parametrize(
    ("options", "iterations", "rate"),
    [
        ({}, 150, 5e-3),
        ({"kind": "paired"}, 150, 5e-3),
        ({"kind": "energy"}, 70, 1e-2),
        ({"game": "wasserstein", "penalty": "gradient"}, 150, 5e-3),
        ({"game": "wasserstein", "penalty": "slope"}, 150, 5e-3),
    ],
)
def test_a_conditional_network_learns_what_belongs_to_a_class(
    options: dict[str, str], iterations: int, rate: float
) -> None:
    """Three classes with one bright column of three each; after training, so have the drawn images."""
    model, data = make(classes=3, network=Network("mlp", hidden=(32,)), **options), batch(30, 3)
    images = 0.1 * data.images
    for i, label in enumerate(data.labels.tolist()):
        images[i, :, :, 4 * label : 4 * label + 4] += 0.8
    play(model, Batch(images, data.labels), iterations, rate)
    asked = torch.tensor([2, 2, 0, 1, 1])
    columns = model.sample(5, torch.Generator().manual_seed(0), asked)[:, 0].mean(1).view(5, 3, 4).mean(2)  # (5, 3)
    assert torch.equal(columns.argmax(1), asked)


def test_classes_are_drawn_in_turn_unless_asked_for() -> None:
    model, generator = make(classes=3), torch.Generator()
    in_turn = model.sample(4, generator.manual_seed(1))
    assert torch.equal(in_turn, model.sample(4, generator.manual_seed(1), torch.tensor([0, 1, 2, 0])))
    assert not torch.equal(in_turn, model.sample(4, generator.manual_seed(1), torch.tensor([1, 1, 2, 0])))


def test_labels_that_lack_or_exceed_are_named() -> None:
    for terms in (make(classes=3).discriminator_terms, make(classes=3).generator_terms):
        with pytest.raises(ValueError, match="num_classes=3 needs images with class numbers, and these have none"):
            terms(batch())
        with pytest.raises(ValueError, match="class numbers from 0 to 2, got 0 to 3: set num_classes"):
            terms(batch(8, 4))
    with pytest.raises(ValueError, match="class numbers from 0 to 2, got 0 to 3"):
        make(classes=3).sample(2, labels=torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="draws images of 3 classes: pass labels"):
        make(classes=3).draw(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="knows no classes: leave labels out"):
        make().sample(2, labels=torch.tensor([0, 0]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"game": "saturating"}, "game must be one of 'non-saturating', 'minimax', 'wasserstein', got 'saturating'"),
        ({"game": "wasserstein"}, "game='wasserstein' has no end without a penalty on steep discriminators: set pen"),
        ({"latent": 0}, "latent must be at least 1 and num_classes at least 0, got 0 and 0"),
        ({"num_classes": -1}, "latent must be at least 1 and num_classes at least 0, got 32 and -1"),
    ],
)
@pytest.mark.usefixtures("no_shape_checks")
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GANConfig(**options)  # type: ignore[arg-type]
