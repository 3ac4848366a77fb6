"""The variational autoencoder: its KL, its loss, its samples, and that it learns."""

import math
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from ssimgen.batches import Batch
from ssimgen.data import Images
from ssimgen.models import MODELS, VAE, VAEConfig, make_model
from ssimgen.models.networks import Network
from ssimgen.models.vae import SUGGESTED_TAU, kl_to_standard_normal
from ssimgen.objectives.reconstruction import OBJECTIVES
from ssimgen.training import Training, train

SMALL = Network("mlp", hidden=(16,))
SHAPE = (1, 6, 6)


def make(objective: str = "l2", network: Network = SMALL, shape: tuple[int, int, int] = (1, 28, 28)) -> VAE:
    """A small model with fixed weights."""
    torch.manual_seed(0)
    return VAE(VAEConfig(tau=0.01, latent=4, objective=objective, network=network), shape)


def test_kl_is_that_of_torch_distributions(generator: torch.Generator) -> None:
    mean, log_variance = torch.randn(6, 5, generator=generator), torch.randn(6, 5, generator=generator)
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0, 1)).sum(1)
    torch.testing.assert_close(kl_to_standard_normal(mean, log_variance), expected)
    assert kl_to_standard_normal(torch.zeros(1, 5), torch.zeros(1, 5)).item() == 0


def test_terms_are_kl_and_the_error_of_decoded_draws(digits: Tensor) -> None:
    model, images = make("l1"), digits[:8].float()
    torch.manual_seed(3)
    terms = model.terms(Batch(images))
    torch.manual_seed(3)
    noise = torch.randn(8, 4)
    mean, log_variance = model.encode(images)
    decoded = model.decoder(mean + (0.5 * log_variance).exp() * noise)
    torch.testing.assert_close(terms["reconstruction"], (decoded - images).abs().mean())
    torch.testing.assert_close(
        terms["kl"], kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0, 1)).sum(1).mean()
    )


def test_the_loss_is_kl_plus_reconstruction_over_tau() -> None:
    (step,) = make().steps()
    assert dict(step.weights) == {"reconstruction": pytest.approx(100)}
    assert {id(p) for module in step.modules for p in module.parameters()} == {id(p) for p in make_again(step)}


def make_again(step: object) -> list[Tensor]:
    """All parameters of the model that the step belongs to."""
    return list(step.terms.__self__.parameters())  # type: ignore[attr-defined]


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 64, 64)])
@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_samples_and_reconstructions_are_images(kind: str, shape: tuple[int, int, int]) -> None:
    model = make(network=Network(kind, hidden=(16,), width=4), shape=shape)
    images = torch.rand(3, *shape)
    for drawn in (model.sample(3), model.reconstruct(images)):
        assert drawn.shape == images.shape
        assert not drawn.requires_grad
        assert drawn.min() >= 0
        assert drawn.max() <= 1


def test_the_generator_fixes_samples_whatever_the_global_state() -> None:
    model = make()
    first = model.sample(5, torch.Generator().manual_seed(7))
    torch.manual_seed(99)
    assert torch.equal(first, model.sample(5, torch.Generator().manual_seed(7)))
    assert not torch.equal(first, model.sample(5, torch.Generator().manual_seed(8)))


def test_reconstruction_is_without_noise(digits: Tensor) -> None:
    model, images = make(), digits[:4].float()
    assert torch.equal(model.reconstruct(images), model.reconstruct(images))


@pytest.mark.usefixtures("no_shape_checks")  # which would take most of the time
@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_every_objective_learns(objective: str, digits: Tensor) -> None:
    """Sixty steps on sixteen digits bring the reconstruction error well down."""
    model, batch = make(objective, Network("mlp", hidden=(64,))), Batch(digits[:16].float())
    (step,) = model.steps()
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    errors = []
    for _ in range(60):
        terms = step.terms(batch)
        loss = terms["kl"] + step.weights["reconstruction"] * terms["reconstruction"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        errors.append(terms["reconstruction"].item())
    assert errors[-1] < 0.85 * errors[0]


@pytest.mark.parametrize("tau", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.usefixtures("no_shape_checks")
def test_tau_must_be_positive(tau: float) -> None:
    with pytest.raises(ValueError, match="tau must be a positive number"):
        VAEConfig(tau=tau)


@pytest.mark.usefixtures("no_shape_checks")
def test_tau_has_no_default() -> None:
    with pytest.raises(TypeError, match="tau"):
        VAEConfig()  # type: ignore[call-arg]


def test_models_are_listed_under_their_own_names() -> None:
    for name, (model, _) in MODELS.items():
        assert model.name == name


def test_suggested_temperatures_are_in_the_help() -> None:
    documented = re.findall(r"\b(\w+) (\d[\d.]*e-\d)", VAEConfig.__doc__ or "")
    assert {name: float(tau) for name, tau in documented} == dict(SUGGESTED_TAU)
    assert SUGGESTED_TAU.keys() == OBJECTIVES.keys()


@pytest.mark.parametrize("tau", [1e-3, 0.5])
def test_the_kl_is_brought_to_its_target(tau: float) -> None:
    """From above and from below."""
    images = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0)).round()
    config = VAEConfig(tau, latent=4, objective="l2", network=Network("mlp", hidden=(32,)), kl_target=3.0)
    vae = make_model(VAE, config, (1, 8, 8), seed=0)
    (step,) = vae.steps()
    optimiser = torch.optim.Adam(vae.parameters(), 1e-2)
    rates = []
    for _ in range(300):
        terms = step.terms(Batch(images))
        optimiser.zero_grad()
        terms["loss"].backward()
        optimiser.step()
        rates.append(terms["kl"].item())
    assert sum(rates[-50:]) / 50 == pytest.approx(3.0, rel=0.1)
    assert {name for name, weight in step.weights.items() if weight == 0} == terms.keys() - {"loss"}


def test_tau_is_steered_in_training_alone() -> None:
    vae = VAE(VAEConfig(0.1, latent=2, objective="l2", network=SMALL, kl_target=3.0), SHAPE)
    images = Batch(torch.rand(4, *SHAPE))
    vae.eval().terms(images)
    assert vae.log_tau.exp().item() == pytest.approx(0.1)
    terms = vae.train().terms(images)
    assert terms["tau"].item() == pytest.approx(0.1)  # that of this loss
    assert terms["loss"].item() == pytest.approx((terms["kl"] + terms["reconstruction"] / 0.1).item(), rel=1e-5)
    change = 0.05 * max(-1.0, min(1.0, terms["kl"].item() / 3.0 - 1))
    assert vae.log_tau.item() == pytest.approx(math.log(0.1) + change)
    assert "log_tau" not in VAE(VAEConfig(0.1, network=SMALL, objective="l2"), SHAPE).state_dict()


def test_a_steered_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    images = Images(torch.rand(40, *SHAPE, generator=torch.Generator().manual_seed(0)), None, "noise")
    config = VAEConfig(0.1, latent=2, objective="l2", network=SMALL, kl_target=3.0)
    ends = []
    for lengths in ((6,), (3, 6)):
        for iterations in lengths:
            vae = make_model(VAE, config, SHAPE, seed=0)
            training, resume = Training(iterations=iterations, batch=8), iterations != lengths[0]
            train(vae, images, tmp_path / str(len(lengths)), training=training, resume=resume)
        ends.append(vae.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(ends[0].values(), ends[1].values(), strict=True))
    assert ends[0]["log_tau"].item() != math.log(0.1)


def test_codes_are_drawn_for_reconstructions_at_a_rate() -> None:
    vae = VAE(VAEConfig(0.1, latent=2, objective="l2", network=SMALL), SHAPE)
    images = torch.rand(4, *SHAPE)
    drawn = [vae.reconstruct_from_samples(images, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    mean, log_variance = vae.encode(images)
    noise = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(drawn[0], vae.draw(mean + (log_variance / 2).exp() * noise))


@pytest.mark.parametrize("target", [0.0, -1.0, float("nan")])
def test_a_kl_target_is_positive(target: float) -> None:
    with pytest.raises(ValueError, match="kl_target must be a positive number of nats"):
        VAEConfig(0.1, kl_target=target)
