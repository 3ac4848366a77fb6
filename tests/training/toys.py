"""A model small enough to follow by hand, images for it, and short runs of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ssimgen.batches import Batch, gathered
from ssimgen.data import Images
from ssimgen.models.steps import Autoencoder, Step
from ssimgen.training import Hardware, Hook, Optimiser, Training, train

SHAPE = (1, 4, 4)
SHORT = Training(iterations=12, batch=8, log_every=4, picture_every=6, checkpoint_every=5, keep=2)


@dataclass(frozen=True)
class ToyConfig:
    """Options of the toy."""

    latent: int = 3
    every: int = 1
    span: tuple[float, float] = (0.0, 1.0)
    lr_scale: float = 1.0
    dropout: float = 0.0


class Toy(Autoencoder):
    """A linear autoencoder trained against a linear critic; the critic's step comes second."""

    name = "toy"
    averaged = ("decoder",)
    config: ToyConfig

    def __init__(self, config: ToyConfig = ToyConfig(), shape: tuple[int, int, int] = SHAPE) -> None:
        super().__init__(config, shape)
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(16, config.latent))
        self.decoder = nn.Sequential(nn.Linear(config.latent, 16), nn.Sigmoid(), nn.Unflatten(1, shape))
        self.critic = nn.Sequential(nn.Flatten(), nn.Dropout(config.dropout), nn.Linear(16, 1), nn.BatchNorm1d(1))
        self.calls: list[tuple[str, dict[str, bool]]] = []
        self.poison: Callable[[str, Tensor], Tensor] = lambda name, term: term

    def fit(self, batch: Batch) -> dict[str, Tensor]:
        """Reconstruction, a moment of the whole batch, and a number only watched."""
        self.note("autoencoder")
        codes = self.encoder(batch.images) + 0.1 * self.noise(len(batch.images), self.config.latent)
        moment = gathered(self.decoder(codes)).mean(0).square().mean()  # not a mean over images: needs them all
        return {
            "error": self.poison("error", (self.decoder(codes) - batch.images).square().mean()),
            "moment": moment,
            "watched": self.poison("watched", codes.abs().max()),
        }

    def judge(self, batch: Batch) -> dict[str, Tensor]:
        """The critic tells images from reconstructions."""
        self.note("critic")
        fake = self.decoder(self.encoder(batch.images))
        return {"score": (self.critic(fake).tanh() - self.critic(batch.images).tanh()).mean()}

    def note(self, step: str) -> None:
        """Record which sub-modules require gradients."""
        parts = {"encoder": self.encoder, "decoder": self.decoder, "critic": self.critic}
        self.calls.append((step, {key: all(p.requires_grad for p in m.parameters()) for key, m in parts.items()}))

    def steps(self) -> list[Step]:
        """Autoencoder, then critic."""
        options = self.config
        return [
            Step("autoencoder", (self.encoder, self.decoder), self.fit, {"error": 2.0, "moment": 0.5, "watched": 0.0}),
            Step("critic", (self.critic,), self.judge, {}, options.every, options.span, options.lr_scale),
        ]

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Decoded noise."""
        images: Tensor = self.decoder(self.noise(n, self.config.latent, generator))
        return images

    @torch.no_grad()
    def reconstruct(self, images: Tensor) -> Tensor:
        """Decoded codes."""
        reconstructions: Tensor = self.decoder(self.encoder(images))
        return reconstructions


def images(n: int = 40, seed: int = 0) -> Images:
    """Random images with labels."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (n, *SHAPE), generator=generator, dtype=torch.uint8)
    return Images(pixels, torch.arange(n) % 4, "noise")


def fit(
    folder: Path,
    model: Toy | None = None,
    *,
    data: Images | None = None,
    training: Training = SHORT,
    optimiser: Optimiser = Optimiser(),  # noqa: B008
    hooks: tuple[Hook, ...] = (),
    resume: bool = False,
) -> Toy:
    """Train the toy; returns it."""
    model = model or Toy()
    train(
        model, data or images(), folder, training=training, optimiser=optimiser, hooks=hooks, resume=resume,
        hardware=Hardware(accelerator="cpu"),
    )  # fmt: skip
    return model


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    """Whether two models agree bit for bit, buffers included."""
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def signal_at(iteration: int, signum: int) -> Hook:
    """A hook that sends this process a signal after some iteration."""

    def run(_: nn.Module, done: int) -> dict[str, float]:
        if done == iteration:
            os.kill(os.getpid(), signum)
        return {}

    return Hook(1, run)


def latest(folder: Path) -> Path:
    """The file of the latest checkpoint."""
    return max((folder / "checkpoints").iterdir())


def crash_after(iteration: int) -> Hook:
    """A hook in which the machine loses power."""

    def run(_: nn.Module, done: int) -> dict[str, float]:
        if done == iteration:
            raise RuntimeError("power cut")
        return {}

    return Hook(1, run)
