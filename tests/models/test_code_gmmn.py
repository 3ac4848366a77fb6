"""Moment matching in code space: which step moves what, what is compared, and that it learns."""

from dataclasses import asdict

import pytest
import torch
from torch import Tensor, nn

from ssimgen.batches import Batch
from ssimgen.models.code_gmmn import CodeGMMN, CodeGMMNConfig
from ssimgen.models.networks import Network
from ssimgen.objectives.moment_matching import PairKernel
from ssimgen.objectives.structure import Structure

pytestmark = pytest.mark.usefixtures("eager_engine")

SMALL = Network("mlp", hidden=(32,), dropout=0.3)
BLOCKS = Structure(form="sum", window="uniform", size=7, stride=7, k1=0.1, k2=0.1)
COMPARISONS = {
    "gaussians on codes": ("codes", PairKernel("gaussian", "l2")),
    "blocks of codes": ("codes", PairKernel("gaussian", "ssim")),
    "energy of blocks": ("codes", PairKernel("energy", "ssim")),
    "decoded images": ("images", PairKernel("gaussian", "ssim", structure=BLOCKS)),
}


def make(name: str = "gaussians on codes", network: Network = SMALL) -> CodeGMMN:
    """A small model with fixed weights."""
    torch.manual_seed(0)
    compare, kernel = COMPARISONS[name]
    config = CodeGMMNConfig(
        code=9, latent=3, compare=compare, kernel=kernel, network=network, generator=Network("mlp", hidden=(32,))
    )
    return CodeGMMN(config, (1, 28, 28))


def gradients(module: nn.Module) -> list[bool]:
    """For each parameter, whether it has a gradient that is not 0 everywhere."""
    return [p.grad is not None and bool(p.grad.any()) for p in module.parameters()]


@pytest.mark.parametrize("name", COMPARISONS)
def test_first_the_autoencoder_moves_and_then_the_generator(name: str, digits: Tensor) -> None:
    model, batch = make(name), Batch(digits[:8].float())
    autoencoder, generator = model.steps()
    assert (autoencoder.span, generator.span) == ((0, 0.5), (0.5, 1))
    assert autoencoder.modules == (model.encoder, model.decoder)
    assert generator.modules == (model.generator,)
    autoencoder.terms(batch)["reconstruction"].backward()
    assert all(gradients(model.decoder))
    assert not any(gradients(model.generator))
    for module in autoencoder.modules:
        module.requires_grad_(False)  # as the loop does, of whatever a step does not move
    model.zero_grad()
    generator.terms(batch)["mmd"].backward()
    assert all(gradients(model.generator))
    assert not any(gradients(model.encoder) + gradients(model.decoder))


@pytest.mark.parametrize("name", COMPARISONS)
def test_codes_of_real_images_are_without_dropout(name: str, digits: Tensor) -> None:
    """The generator is matched with the codes, or their images, that the autoencoder has outside of training."""
    model, images = make(name), digits[:8].float()
    torch.manual_seed(1)
    value = model.matching_terms(Batch(images))["mmd"]
    assert model.encoder.training
    assert model.decoder.training
    torch.manual_seed(1)
    drawn, real = model.generate_codes(8), model.eval().encoder(images)
    if COMPARISONS[name][0] == "images":
        drawn, real = model.decoder(drawn), model.decoder(real)
    torch.testing.assert_close(model.matching(drawn, real), value)


def test_codes_are_in_the_unit_cube(digits: Tensor) -> None:
    model = make()
    for codes in (model.generate_codes(5), model.encoder(digits[:5].float())):
        assert codes.shape == (5, 9)
        assert codes.min() > 0
        assert codes.max() < 1


def test_samples_are_decoded_codes_and_fixed_by_the_generator() -> None:
    model = make().eval()
    drawn = model.sample(5, torch.Generator().manual_seed(7))
    codes = model.generate_codes(5, torch.Generator().manual_seed(7))
    assert drawn.shape == (5, 1, 28, 28)
    assert torch.equal(drawn, model.decoder(codes))
    assert not drawn.requires_grad


def test_reconstructions_are_decoded_codes(digits: Tensor) -> None:
    model, images = make().eval(), digits[:4].float()
    assert torch.equal(model.reconstruct(images), model.decoder(model.encoder(images)))


@pytest.mark.usefixtures("no_shape_checks")  # which would take most of the time
@pytest.mark.parametrize("name", COMPARISONS)
def test_every_comparison_learns(name: str, digits: Tensor) -> None:
    """Fifty steps of each part bring the samples nearer to the digits, judged by the energy distance of pixels."""
    model, batch = make(name, Network("mlp", hidden=(64,))), Batch(digits[:32].float())
    energy = PairKernel("energy", "l2")
    judge = CodeGMMN(CodeGMMNConfig(compare="images", kernel=energy, root=False), (1, 28, 28)).matching

    def distance() -> float:
        return judge(model.sample(32, torch.Generator().manual_seed(1)), batch.images).item()

    start = distance()
    for step in model.steps():
        optimiser = torch.optim.Adam([p for m in step.modules for p in m.parameters()], 3e-3)
        before = distance()
        for _ in range(50):
            loss = torch.stack(list(step.terms(batch).values())).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    assert distance() < 0.995 * before  # away from the images it is 0.9964 at best
    assert distance() < 0.5 * start


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compare": "code"}, "compare must be one of 'codes', 'images', got 'code': did you mean 'codes'"),
        ({"code": 1}, "code must be at least 2 dimensions, got 1"),
        ({"latent": 0}, "latent must be at least 1 dimension, got 0"),
        ({"pretraining": 1.0}, "pretraining must be a fraction of the run between 0 and 1, got 1.0"),
        ({"unbiased": True}, "can be negative and has no root"),
        ({"objective": "l3"}, "objective must be one of .*got 'l3'"),
    ],
)
@pytest.mark.usefixtures("no_shape_checks")
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CodeGMMNConfig(**options)  # type: ignore[arg-type]


def test_options_are_plain_data() -> None:
    assert asdict(CodeGMMNConfig())["kernel"]["metric"] == "l2"
