"""Options of training that every model shares."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from ssimgen._arguments import choice, is_positive
from ssimgen._options import keep_types

_MOST_ITERATIONS = 99_999_999  # names of checkpoints and pictures have eight digits
_LEAST, _GREATEST = 1e-30, 1e30  # of what multiplies gradients: products and quotients with others leave float32 room


@dataclass(frozen=True)
class Training:
    """How long, on what batches, and what is kept on the way.

    Attributes:
        iterations: how many batches the model sees; each takes every step of the model that is due.
        batch: images in a batch, over all devices.
        seed: fixes batches and noise, and the first weights of the model.
        ema: decay of the exponential moving average of weights (such as 0.999), with which samples are drawn; 0: none.
        log_every: iterations between lines of metrics.jsonl, each the mean since the last.
        picture_every: iterations between pictures of samples and reconstructions.
        checkpoint_every: iterations between checkpoints.
        keep: how many of the latest checkpoints are kept.
        loggers: where lines of metrics.jsonl go besides: "tensorboard", "csv", and, with the package of that name
            installed, "wandb", "mlflow".
        seconds: train for so many seconds of processor time, of all threads together and without evaluations,
            instead of so many iterations; schedules run over it. How many iterations that makes is not repeatable.

    Example:
        >>> from ssimgen.training import Training
        >>> Training(iterations=10_000, ema=0.999).batch
        64
    """

    iterations: int = 3000
    batch: int = 64
    seed: int = 0
    ema: float = 0.0
    log_every: int = 50
    picture_every: int = 500
    checkpoint_every: int = 500
    keep: int = 2
    loggers: tuple[Literal["tensorboard", "csv", "wandb", "mlflow"], ...] = ()
    seconds: float | None = None

    def __post_init__(self) -> None:
        keep_types(self)
        for name in ("iterations", "batch", "log_every", "picture_every", "checkpoint_every", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.iterations > _MOST_ITERATIONS:
            raise ValueError(f"iterations must be at most {_MOST_ITERATIONS}, got {self.iterations}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must be in [0, 2^63), got {self.seed}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema must be a decay in [0, 1), such as 0.999, or 0 for none, got {self.ema}")
        if self.seconds is not None and not is_positive(self.seconds):
            raise ValueError(f"seconds must be a positive number of seconds of processor time, got {self.seconds}")

    @property
    def length(self) -> float:
        """Of the run, in seconds of processor time if it has them, otherwise in iterations."""
        return self.iterations if self.seconds is None else self.seconds


@dataclass(frozen=True)
class Optimiser:
    """How parameters move down the gradient.

    Attributes:
        method: "adam", "adamw" or "sgd".
        lr: learning rate.
        momentum: beta_1 of Adam, momentum of SGD.
        beta2: beta_2 of Adam.
        weight_decay: l2 penalty (decoupled with "adamw").
        schedule: "constant"; "linear" and "cosine" fall to zero at the end; "drops" divides by 10 at each of the drops.
        drops: fractions of the run, for the schedule of that name.
        warmup: fraction of the run over which the rate rises from zero.
        clip: longest l2 norm of the gradient of a step; 0: unlimited.

    Example:
        >>> from ssimgen.training import Optimiser
        >>> Optimiser("adamw", lr=2e-3, schedule="linear").lr_factor(0.25)  # when a quarter of the run is done
        0.75
    """

    method: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = 1e-3
    momentum: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 0.0
    schedule: Literal["constant", "linear", "cosine", "drops"] = "constant"
    drops: tuple[float, ...] = (0.5, 0.75)
    warmup: float = 0.0
    clip: float = 0.0

    def __post_init__(self) -> None:
        keep_types(self)
        choice("method", self.method, _METHODS)
        choice("schedule", self.schedule, ("constant", "linear", "cosine", "drops"))
        _check_positive("lr", self.lr)
        for name in ("weight_decay", "clip"):
            if getattr(self, name) != 0:
                _check_positive(name, getattr(self, name), "or 0 for none, ")
        for name in ("momentum", "beta2", "warmup"):
            if not 0 <= getattr(self, name) <= 1 - 1e-7:  # which float32 still tells from 1
                raise ValueError(f"{name} must be in [0, 1), at most 1 - 1e-7, got {getattr(self, name)}")
        if not all(0 < drop < 1 for drop in self.drops):
            raise ValueError(f"drops must be fractions of the run between 0 and 1, got {self.drops}")

    def make(self, parameters: list[nn.Parameter], scale: float) -> torch.optim.Optimizer:
        """The PyTorch optimiser of `parameters`, at `scale` times the learning rate."""
        return _METHODS[self.method](self, parameters, self.lr * scale)

    def lr_factor(self, progress: float) -> float:
        """The learning rate when a fraction `progress` of the run is done, as a multiple of `lr`."""
        rise = min(1.0, progress / self.warmup) if self.warmup else 1.0
        if self.schedule == "linear":
            return rise * (1 - progress)
        if self.schedule == "cosine":
            return rise * (1 + math.cos(math.pi * progress)) / 2
        if self.schedule == "drops":
            return rise * 0.1 ** sum(progress >= drop for drop in self.drops)
        return rise


def _check_positive(name: str, value: float, otherwise: str = "") -> None:
    if not (is_positive(value) and _LEAST <= value <= _GREATEST):
        raise ValueError(
            f"{name} must be a positive number, {otherwise}between {_LEAST:g} and {_GREATEST:g}, got {value}"
        )


_METHODS: dict[str, Callable[[Optimiser, list[nn.Parameter], float], torch.optim.Optimizer]] = {
    "adam": lambda o, p, lr: torch.optim.Adam(p, lr, betas=(o.momentum, o.beta2), weight_decay=o.weight_decay),
    "adamw": lambda o, p, lr: torch.optim.AdamW(p, lr, betas=(o.momentum, o.beta2), weight_decay=o.weight_decay),
    "sgd": lambda o, p, lr: torch.optim.SGD(p, lr, momentum=o.momentum, weight_decay=o.weight_decay),
}


@dataclass(frozen=True)
class Hardware:
    """The devices and processes on which training runs, in Lightning Fabric's terms.

    Attributes:
        accelerator: "auto", "cpu", "cuda", "mps".
        devices: how many devices (processes, on CPU) a machine.
        num_nodes: how many machines. Each runs the same command, with MASTER_ADDR and MASTER_PORT of the first and its
            own NODE_RANK in the environment; torchrun and SLURM set them.
        precision: "32-true", or mixed "bf16-mixed" and "16-mixed"; SSIM itself is always computed in 32 bits.

    Example:
        >>> from ssimgen.training import Hardware
        >>> Hardware(accelerator="cpu", devices=2).precision
        '32-true'
    """

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = 1
    num_nodes: int = 1
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"

    def __post_init__(self) -> None:
        keep_types(self)
        choice("accelerator", self.accelerator, ("auto", "cpu", "cuda", "mps"))
        choice("precision", self.precision, ("32-true", "bf16-mixed", "16-mixed"))
        if self.devices < 1 or self.num_nodes < 1:
            raise ValueError(f"devices and num_nodes must be at least 1, got {self.devices}, {self.num_nodes}")
