"""Models with new weights: what the seed fixes, and networks that are too large."""

from pathlib import Path

import pytest
import torch
from torch import nn

from command_line import run
from ssimgen import _memory
from ssimgen.batches import Shape
from ssimgen.data import Images, Source, load_images
from ssimgen.models import GAN, MODELS, VAE, GANConfig, VAEConfig, with_networks
from ssimgen.models.networks import Network
from ssimgen.runs import CheckpointError
from ssimgen.training import Training, load_model, make_model, train

CONFIG = VAEConfig(0.1, latent=2, network=Network("mlp", hidden=(8,)))
SHAPE = (1, 28, 28)


def weights(seed: int) -> list[torch.Tensor]:
    """Those of a small VAE."""
    return list(make_model(VAE, CONFIG, SHAPE, seed).state_dict().values())


def test_the_seed_fixes_the_weights_and_nothing_else_does() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = weights(1)
    assert torch.equal(torch.rand(3), expected)  # the caller's numbers are left alone
    assert all(torch.equal(a, b) for a, b in zip(first, weights(1), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, weights(2), strict=True))


def test_python_and_the_command_line_train_the_same_model(tmp_path: Path) -> None:
    """What `Training.seed` says it fixes, it fixes in both."""
    training = Training(iterations=2, batch=16, seed=3)
    splits = load_images(Source("mnist5k"))
    model = make_model(VAE, CONFIG, splits.train.shape, training.seed)
    train(model, splits.train, tmp_path / "python", training=training, held_out=splits.held_out)
    words = ["--tau", 0.1, "--latent", 2, "--network.kind", "mlp", "--network.hidden", 8]
    words += ["--iterations", 2, "--batch", 16, "--seed", 3]
    assert run("train", "vae", "-o", tmp_path / "command", *words) == 0
    a, b = (load_model(tmp_path / name).state_dict() for name in ("python", "command"))
    assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("latent", [10**10, 10**30])
def test_networks_beyond_memory_are_refused_at_once(
    name: str, latent: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needed = {"vae": ["--tau", "0.1"]}.get(name, [])
    assert run("train", name, "-o", tmp_path / "x", *needed, "--latent", latent) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "take fewer classes, a smaller latent, features, width or hidden, or smaller images" in line
    assert not (tmp_path / "x").exists()


def test_less_memory_is_needed_to_draw_than_to_train(monkeypatch: pytest.MonkeyPatch) -> None:
    size = sum(p.numel() * 4 for p in make_model(VAE, CONFIG, SHAPE).parameters())
    monkeypatch.setattr(_memory, "available_memory", lambda: 2 * size)
    with pytest.raises(ValueError, match=r"training a network of .* GB of weights takes .* GB, but"):
        make_model(VAE, CONFIG, SHAPE)
    make_model(VAE, CONFIG, SHAPE, training=False)


def make_own(config: VAEConfig, shape: Shape) -> VAE:
    """A VAE with a decoder of one layer."""
    layers = nn.Linear(config.latent, shape[0] * shape[1] * shape[2]), nn.Sigmoid(), nn.Unflatten(1, shape)
    return with_networks(VAE(config, shape), decoder=nn.Sequential(*layers))


def test_networks_of_the_users_own_are_trained_resumed_and_loaded(tmp_path: Path) -> None:
    """As exactly as any other."""
    images = Images(torch.rand(40, 1, 12, 12), None, "noise")
    for name, lengths in {"whole": (4,), "parts": (2, 4)}.items():
        for iterations in lengths:
            model = make_model(make_own, CONFIG, images.shape, seed=1)
            training = Training(iterations=iterations, batch=8, ema=0.5)
            train(model, images, tmp_path / name, training=training, resume=iterations != lengths[0])
    whole, parts = (load_model(tmp_path / name, make_own) for name in ("whole", "parts"))
    assert all(torch.equal(a, parts.state_dict()[key]) for key, a in whole.state_dict().items())
    assert not torch.equal(
        whole.decoder[0].weight, make_model(make_own, CONFIG, images.shape, seed=1).decoder[0].weight
    )
    with pytest.raises(CheckpointError, match="if they are your own, pass load_model the function"):
        load_model(tmp_path / "whole")


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"generator": nn.Linear(32, 3)}, r"generator must return \(2, 1, 28, 28\) for what is \(2, 32\), and it "),
        ({"generator": nn.Linear(31, 3)}, r"a network that takes \(2, 32\) is needed, and this one fails: mat1"),
        ({"discriminator": nn.Flatten()}, r"discriminator must return \(2, 1\) for what is \(2, 1, 28, 28\), and it "),
        ({"decoder": nn.Linear(32, 3)}, "a gan has no network 'decoder': its networks are generator, discriminator"),
    ],
)
def test_networks_that_do_not_fit_are_refused(own: dict[str, nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_networks(GAN(GANConfig(), SHAPE), **own)


def test_the_output_bias_is_fitted_before_training(tmp_path: Path) -> None:
    """To the first batch, so that a run that is killed before its first checkpoint begins with the same weights."""
    images = Images(torch.rand(40, 1, 12, 12) / 4, None, "noise")
    config = GANConfig(network=Network("mlp", hidden=(8,), marginals=True), discriminator=Network("mlp", hidden=(8,)))
    model = make_model(GAN, config, images.shape)
    train(model, images, tmp_path / "run", training=Training(iterations=1, batch=8))
    first = next(images.batches(8, 0, 0)).images
    bias = model.generator[-2].bias
    torch.testing.assert_close(bias, torch.logit((first.sum(0) + 0.5) / 9), atol=2e-3, rtol=0)  # a step of 1e-3 later
