"""The plain autoencoder: its one term, every objective, and that it draws from the distribution of its codes."""

import pytest
import torch
from torch import Tensor

from ssimgen.batches import Batch
from ssimgen.models import PlainAutoencoder, PlainAutoencoderConfig
from ssimgen.models.networks import Network
from ssimgen.objectives.reconstruction import OBJECTIVES

SMALL = Network("mlp", hidden=(16,))


def make(
    objective: str = "l2", network: Network = SMALL, shape: tuple[int, int, int] = (1, 28, 28)
) -> PlainAutoencoder:
    """A small model with fixed weights."""
    torch.manual_seed(0)
    return PlainAutoencoder(PlainAutoencoderConfig(3, objective, network=network), shape)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["mlp", "conv"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_samples_and_reconstructions_are_images(kind: str, shape: tuple[int, int, int]) -> None:
    model = make(network=Network(kind, hidden=(16,), width=4), shape=shape)  # type: ignore[arg-type]
    images = torch.rand(4, *shape)
    for drawn in (model.sample(4, torch.Generator().manual_seed(7)), model.reconstruct(images)):
        assert drawn.shape == images.shape
        assert not drawn.requires_grad
        assert 0 <= drawn.min() <= drawn.max() <= 1
    first = model.sample(4, torch.Generator().manual_seed(7))
    assert torch.equal(first, model.sample(4, torch.Generator().manual_seed(7)))


def test_the_term_is_the_error_of_what_comes_back(digits: Tensor) -> None:
    model, images = make("l1"), digits[:8].float()
    back = model.decoder(model.encoder(images))
    torch.testing.assert_close(model.terms(Batch(images, None))["reconstruction"], (back - images).abs().mean())
    torch.testing.assert_close(model.reconstruct(images), back)
    (step,) = model.steps()
    assert (step.name, step.modules, dict(step.weights)) == ("autoencoder", (model.encoder, model.decoder), {})


@pytest.mark.usefixtures("no_shape_checks")  # which would take most of the time
@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_every_objective_learns(objective: str, digits: Tensor) -> None:
    model, data = make(objective, Network("mlp", hidden=(64,))), Batch(digits[:16].float(), None)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        losses.append(model.terms(data)["reconstruction"])
        optimiser.zero_grad()
        losses[-1].backward()
        optimiser.step()
    assert losses[-1].item() < 0.9 * losses[0].item()


@pytest.mark.usefixtures("no_shape_checks")
def test_moments_become_those_of_the_codes(digits: Tensor) -> None:
    """And standardised codes have mean 0 and covariance I, and are drawn back to what they were codes of."""
    model = make()
    with torch.no_grad():
        model.encoder[-1].bias.add_(torch.tensor([3.0, -2.0, 0.5]))
        for i in range(1500):
            model.terms(Batch(digits[i % 10 * 400 : i % 10 * 400 + 400].float(), None))
        images = digits[:4000].float()
        codes = model.encoder(images)
        torch.testing.assert_close(model.code_mean, codes.mean(0), rtol=0.02, atol=0.02)
        torch.testing.assert_close(model.code_covariance, codes.T.cov(correction=0), rtol=0.1, atol=0.02)
        standardised = model.code(images)
        torch.testing.assert_close(standardised.mean(0), torch.zeros(3), rtol=0, atol=0.1)
        torch.testing.assert_close(standardised.T.cov(correction=0), torch.eye(3), rtol=0, atol=0.1)
        torch.testing.assert_close(model.draw(standardised[:9]), model.reconstruct(images[:9]), rtol=0, atol=1e-5)


def test_evaluation_leaves_the_moments_alone(digits: Tensor) -> None:
    model = make().eval()
    model.terms(Batch(digits[:8].float(), None))
    assert torch.equal(model.code_mean, torch.zeros(3))
    assert torch.equal(model.code_covariance, torch.eye(3))


@pytest.mark.usefixtures("no_shape_checks")
def test_codes_that_do_not_vary_are_no_error(digits: Tensor) -> None:
    model = make()
    torch.nn.init.zeros_(model.encoder[-1].weight)
    model.code_covariance.zero_()
    model.terms(Batch(digits[:8].float(), None))
    assert model.sample(2).isfinite().all()
    assert model.code(digits[:2].float()).isfinite().all()


@pytest.mark.usefixtures("no_shape_checks")
def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="latent must be at least 1 dimension, got 0"):
        PlainAutoencoderConfig(latent=0)
    with pytest.raises(ValueError, match=r"objective must be one of .*got 'l3'"):
        PlainAutoencoderConfig(objective="l3")  # type: ignore[arg-type]
