"""The boundary-equilibrium network: energies, equilibrium control, who moves what, and that it learns."""

import pytest
import torch

from ssimgen.batches import Batch
from ssimgen.models.began import BEGAN, BEGANConfig
from ssimgen.models.networks import Network
from ssimgen.objectives.reconstruction import Reconstruction
from ssimgen.objectives.structure import Structure

SMALL = Network("mlp", hidden=(16,))
ENERGIES = ["l1", "l2", "ssim", "ms_ssim", "mix"]
STRUCTURE = Structure(form="sum", size=5, sigma=1.0)


def make(
    energy: str = "l1", network: Network = SMALL, shape: tuple[int, int, int] = (1, 12, 12), **options: float
) -> BEGAN:
    """A small model with fixed weights."""
    torch.manual_seed(0)
    config = BEGANConfig(3, 5, energy, STRUCTURE, network=network, discriminator=network, **options)  # type: ignore[arg-type]
    return BEGAN(config, shape)


def batch(n: int = 8) -> Batch:
    """Random images."""
    return Batch(torch.rand(n, 1, 12, 12, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("kind", ["mlp", "conv"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 64, 64)])
def test_samples_are_images_fixed_by_the_generator(kind: str, shape: tuple[int, int, int]) -> None:
    model = make(network=Network(kind, hidden=(16,), width=4), shape=shape)
    drawn = model.sample(4, torch.Generator().manual_seed(7))
    assert drawn.shape == model.discriminator(drawn).shape == (4, *shape)
    assert 0 <= drawn.min() <= drawn.max() <= 1
    assert torch.equal(drawn, model.sample(4, torch.Generator().manual_seed(7)))
    assert not torch.equal(drawn, model.sample(4, torch.Generator().manual_seed(8)))


@pytest.mark.parametrize("energy", ENERGIES)
def test_terms_are_the_energies_and_k_follows_them(energy: str) -> None:
    model, data = make(energy, gamma=0.7, rate=0.5), batch()
    model.balance.fill_(0.3)
    torch.manual_seed(3)
    terms, fooling = model.discriminator_terms(data), model.generator_terms(data)["energy"]
    torch.manual_seed(3)
    error = Reconstruction(energy, STRUCTURE)  # type: ignore[arg-type]
    images = [model.generator(torch.randn(8, 3)) for _ in range(2)]
    real = error(model.discriminator(data.images), data.images).mean()
    fake, other = (error(model.discriminator(x), x).mean() for x in images)
    torch.testing.assert_close(terms["real"], real)
    torch.testing.assert_close(terms["fake"], -0.3 * fake)
    torch.testing.assert_close(fooling, other)
    torch.testing.assert_close(terms["k"], torch.tensor(0.3))
    torch.testing.assert_close(terms["convergence"], (real + (0.7 * real - fake).abs()).detach())
    torch.testing.assert_close(model.balance, (0.3 + 0.5 * (0.7 * real - fake)).clamp(0, 1).detach())


def test_k_moves_in_training_only_and_is_kept_with_the_weights() -> None:
    model, data = make(rate=0.5), batch()
    model.balance.fill_(0.3)
    model.eval().discriminator_terms(data)
    assert model.balance.item() == pytest.approx(0.3)
    model.train().discriminator_terms(data)
    assert model.balance.item() != pytest.approx(0.3)
    again = make(rate=0.5)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.balance, model.balance)


def test_each_player_moves_its_own_network_and_k_none() -> None:
    model, data = make("ssim"), batch()
    model.balance.fill_(0.3)
    discriminator, generator = model.steps()
    assert discriminator.modules == (model.discriminator,)
    assert generator.modules == (model.generator,)
    assert dict(discriminator.weights) == {"k": 0.0, "convergence": 0.0}
    terms = discriminator.terms(data)
    assert not terms["k"].requires_grad
    assert not terms["convergence"].requires_grad
    (terms["real"] + terms["fake"]).backward()
    assert all(p.grad is None for p in model.generator.parameters())
    assert all(p.grad is not None and p.grad.any() for p in model.discriminator.parameters())
    generator.terms(data)["energy"].backward()
    assert all(p.grad is not None and p.grad.any() for p in model.generator.parameters())


@pytest.mark.usefixtures("no_shape_checks")  # which would take most of the time
@pytest.mark.parametrize("energy", ENERGIES)
def test_every_energy_learns(energy: str) -> None:
    """Images with one bright half: after training, so have the drawn ones, whatever the energy."""
    model, data = make(energy, Network("mlp", hidden=(32,)), rate=0.1), batch(16)
    images = 0.1 * data.images
    images[:, :, :6] += 0.8
    optimisers = [torch.optim.Adam(s.modules[0].parameters(), 5e-3) for s in model.steps()]
    for _ in range(80):
        for step, optimiser in zip(model.steps(), optimisers, strict=True):
            terms = step.terms(Batch(images)).items()
            loss = torch.stack([step.weights.get(name, 1.0) * term for name, term in terms]).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    drawn = model.sample(8, torch.Generator().manual_seed(0))
    assert (drawn[:, :, :6].mean((1, 2, 3)) > 2 * drawn[:, :, 6:].mean((1, 2, 3))).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"energy": "bce"}, "energy must be one of 'l1', 'l2', 'ssim', 'ms_ssim', 'mix', got 'bce'"),
        ({"code": 0}, "latent and code must be at least 1 dimension, got 32 and 0"),
        ({"gamma": 0.0}, r"gamma must be a fraction in \(0, 1\], got 0.0"),
        ({"rate": 0.0}, "rate must be a positive number, got 0.0"),
    ],
)
@pytest.mark.usefixtures("no_shape_checks")
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BEGANConfig(**options)  # type: ignore[arg-type]
