"""The adversarial autoencoder: three steps, their terms, classes, and that codes become those of the prior."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus

from ssimgen.batches import Batch
from ssimgen.models.aae import AAE, AAEConfig
from ssimgen.models.networks import Network
from ssimgen.objectives.reconstruction import OBJECTIVES, Reconstruction

SMALL = Network("mlp", hidden=(16,))


def make(
    objective: str = "l2", classes: int = 0, network: Network = SMALL, shape: tuple[int, int, int] = (1, 28, 28)
) -> AAE:
    """A small model with fixed weights."""
    torch.manual_seed(0)
    config = AAEConfig(3, classes, objective, network=network, adversary=Network("mlp", hidden=(16,)))
    return AAE(config, shape)


def of(digits: Tensor, n: int, classes: int = 0) -> Batch:
    """The first digits, with made-up classes in turn."""
    return Batch(digits[:n].float(), torch.arange(n) % classes if classes else None)


def train(model: AAE, data: Batch, iterations: int, rate: float = 3e-3) -> None:
    """Plain training, without the loop."""
    optimisers = [torch.optim.Adam([p for m in s.modules for p in m.parameters()], rate) for s in model.steps()]
    for _ in range(iterations):
        for step, optimiser in zip(model.steps(), optimisers, strict=True):
            loss = torch.stack(list(step.terms(data).values())).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()


@pytest.mark.parametrize("kind", ["mlp", "conv"])
@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 64, 64)])
def test_samples_and_reconstructions_are_images(kind: str, classes: int, shape: tuple[int, int, int]) -> None:
    model = make(classes=classes, network=Network(kind, hidden=(16,), width=4), shape=shape)
    images = torch.rand(4, *shape)
    for drawn in (model.sample(4, torch.Generator().manual_seed(7)), model.reconstruct(images)):
        assert drawn.shape == images.shape
        assert not drawn.requires_grad
        assert 0 <= drawn.min() <= drawn.max() <= 1
    first = model.sample(4, torch.Generator().manual_seed(7))
    assert torch.equal(first, model.sample(4, torch.Generator().manual_seed(7)))


@pytest.mark.parametrize("classes", [0, 3])
def test_terms_are_the_error_and_the_losses_on_codes(classes: int, digits: Tensor) -> None:
    model, data = make("l1", classes), of(digits, 8, classes)
    torch.manual_seed(3)
    reconstruction, told = model.reconstruction_terms(data)["reconstruction"], model.adversary_terms(data)
    fooled = model.encoder_terms(data)["fooling"]
    torch.manual_seed(3)

    def score(codes: Tensor) -> Tensor:
        return model.adversary(codes)[torch.arange(8), data.labels if classes else 0]

    codes = model.encoder(data.images)
    decoded = model.decoder(torch.cat([codes, torch.eye(3)[data.labels]], 1) if classes else codes)
    torch.testing.assert_close(reconstruction, (decoded - data.images).abs().mean())
    torch.testing.assert_close(told["real"], softplus(-score(torch.randn(8, 3))).mean())
    torch.testing.assert_close(told["fake"], softplus(score(codes)).mean())
    torch.testing.assert_close(fooled, softplus(-score(codes)).mean())


def test_the_steps_move_what_they_should() -> None:
    model = make()
    assert [step.modules for step in model.steps()] == [
        (model.encoder, model.decoder),
        (model.adversary,),
        (model.encoder,),
    ]


@pytest.mark.usefixtures("no_shape_checks")  # which would take most of the time
@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_every_objective_learns(objective: str, digits: Tensor) -> None:
    model, data = make(objective, network=Network("mlp", hidden=(64,))), of(digits, 16)
    before = model.reconstruction_terms(data)["reconstruction"].item()
    train(model, data, 60)
    assert model.reconstruction_terms(data)["reconstruction"].item() < 0.9 * before


@pytest.mark.usefixtures("no_shape_checks")  # which would take most of the time
@pytest.mark.parametrize("classes", [0, 2])
def test_codes_become_those_of_the_prior(classes: int, digits: Tensor) -> None:
    """Codes that begin far from N(0, I) come to have its mean and variance, within every class."""
    model, data = make(classes=classes), of(digits, 128, classes)
    with torch.no_grad():
        model.encoder[-1].bias.add_(3.0)
    train(model, data, 300)
    codes = model.code(data.images).detach()
    for label in range(classes or 1):
        part = codes[data.labels == label] if classes else codes
        assert (part.mean(0).abs() < 1).all()
        assert ((part.std(0) > 0.5) & (part.std(0) < 2)).all()


def test_reconstructions_are_of_the_class_that_is_given_or_fits_best(digits: Tensor) -> None:
    model, images = make(classes=3), digits[:5].float()
    each = torch.stack([model.reconstruct(images, torch.full((5,), label)) for label in range(3)])  # (3, 5, 1, 28, 28)
    errors = torch.stack([Reconstruction("l2")(drawn, images) for drawn in each])  # (3, 5)
    assert len({e.item() for e in errors[:, 0]}) == 3
    torch.testing.assert_close(model.reconstruct(images), each[errors.argmin(0), torch.arange(5)])
    plain = make()
    torch.testing.assert_close(plain.reconstruct(images), plain.decoder(plain.encoder(images)))


def test_the_class_that_fits_best_may_be_the_first_the_last_or_any(
    digits: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six images that are drawn too bright by 0.1, 0.2 and 0.3, in every order of the three classes."""
    model, images = make("l1", classes=3), 0.5 * digits[:6].float()
    offsets = torch.tensor(list(itertools.permutations((0.1, 0.2, 0.3))))  # (image, class)

    def draw(_: Tensor, labels: Tensor) -> Tensor:
        return images + offsets[torch.arange(6), labels][:, None, None, None]

    monkeypatch.setattr(model, "draw", draw)
    torch.testing.assert_close(model.reconstruct(images), images + 0.1)


def test_labels_of_images_are_required(digits: Tensor) -> None:
    for step in make(classes=3).steps():
        with pytest.raises(ValueError, match="num_classes=3 needs images with class numbers, and these have none"):
            step.terms(of(digits, 4))


@pytest.mark.usefixtures("no_shape_checks")
def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="latent must be at least 1 and num_classes at least 0, got 0 and 0"):
        AAEConfig(latent=0)
    with pytest.raises(ValueError, match=r"objective must be one of .*got 'l3'"):
        AAEConfig(objective="l3")  # type: ignore[arg-type]
