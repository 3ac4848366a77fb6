"""Models with new weights: what the seed fixes, and networks that are too large."""

from pathlib import Path

import pytest
import torch

from command_line import run
from ssimgen import _memory
from ssimgen.data import Source, load_images
from ssimgen.models import MODELS, VAE, VAEConfig
from ssimgen.models.networks import Network
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
