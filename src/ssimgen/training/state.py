"""The state of a run: all that one iteration changes, how it is saved, and how a run goes on from it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ssimgen.batches import mean_over_processes
from ssimgen.models.options import Optimiser, Training
from ssimgen.models.steps import Model, Step
from ssimgen.runs.checkpoints import Checkpoint, CheckpointError, first_not_finite
from ssimgen.runs.folder import RunFolder
from ssimgen.training.average import Average
from ssimgen.training.errors import TAMER, NotFiniteError


@dataclass
class Sums:
    """Sums of logged numbers since the last line of the log."""

    totals: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, values: Mapping[str, float]) -> None:
        """Take in the numbers of one iteration."""
        for name, value in values.items():
            self.totals[name] = self.totals.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """The mean of each number over the iterations that had it."""
        return {name: total / self.counts[name] for name, total in self.totals.items()}


@dataclass(frozen=True)
class Mover:
    """A step of the model, with the parameters that move in it and the optimiser that moves them."""

    step: Step
    parameters: list[nn.Parameter]
    optimiser: Any  # of torch.optim, in Fabric's wrapper


class State:
    """Weights, their averages, what optimisers remember, and how far the run has come."""

    def __init__(self, fabric: Any, model: Model, training: Training, optimiser: Optimiser) -> None:
        self.fabric, self.model, self.training, self.optimiser = fabric, model, training, optimiser
        fabric.to_device(model)
        steps = model.steps()
        names = [step.name for step in steps]
        if len(set(names)) < len(names):
            raise ValueError(f"steps of a model must have different names, got {names}")
        self.movers = [self._mover(step) for step in steps]
        self.average = Average(model, model.averaged, training.ema)
        self.iteration = 0  # how many are done
        self.seconds = 0.0
        self.processor_seconds = 0.0
        self.sums = Sums()

    @property
    def done(self) -> float:
        """How much of the run is over, of its length."""
        return self.iteration if self.training.seconds is None else self.processor_seconds

    def _mover(self, step: Step) -> Mover:
        parameters = _parameters(step.modules)
        optimiser = self.optimiser.make(parameters, step.lr_scale)
        return Mover(step, parameters, self.fabric.setup_optimizers(optimiser))

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count the time that passes, by the clock and of the processor: of all threads, in the mean over processes."""
        clock, processor = time.perf_counter(), time.process_time()
        yield
        self.seconds += time.perf_counter() - clock
        spent = torch.tensor(time.process_time() - processor, device=self.model.device)
        self.processor_seconds += mean_over_processes(spent).item()

    def tensors(self) -> dict[str, Tensor]:
        """All of the state that is tensors, by its name in a checkpoint."""
        tensors = {f"model.{key}": value for key, value in self.model.state_dict().items()}
        tensors |= {f"average.{key}": value for key, value in self.average.tensors.items()}
        for mover in self.movers:
            for number, state in mover.optimiser.state_dict()["state"].items():
                for key, value in state.items():
                    if isinstance(value, Tensor):
                        tensors[f"optimiser.{mover.step.name}.{number}.{key}"] = value
        return tensors

    def check(self) -> None:
        """Refuse a state that is not finite, which no checkpoint or picture shall be of."""
        if name := first_not_finite(self.tensors().items()):
            raise NotFiniteError(f"{name} is not finite after iteration {self.iteration}: {TAMER}")

    def save(self, run: RunFolder, about: Mapping[str, Any]) -> None:
        """Write a checkpoint of the run that `about` describes, and drop the oldest."""
        self.check()
        progress = {
            "iteration": self.iteration,
            "seconds": self.seconds,
            "processor_seconds": self.processor_seconds,
            "sums": dataclasses.asdict(self.sums),
            "precision": self.fabric.strategy.precision.state_dict(),
        }
        run.save(about, self.tensors(), progress, self.training.keep)

    def resume(self, run: RunFolder, about: Mapping[str, Any]) -> None:
        """Take up the latest checkpoint of the run, if it has one, and its log as it then was."""
        checkpoint = run.latest_of(about)
        if checkpoint is not None:
            self._take_up(checkpoint, f"the latest checkpoint in {run.checkpoints}")
        if self.training.seconds is None and self.iteration > self.training.iterations:
            raise CheckpointError(
                f"{run.path} was trained for {self.iteration} iterations, more than {self.training.iterations}: "
                "set iterations to as many or more to go on, or choose another folder"
            )
        if self.fabric.is_global_zero:
            run.restore_log(self.iteration, checkpoint.about.get("log") if checkpoint else None)
            run.write_config(about)

    def _take_up(self, checkpoint: Checkpoint, called: str) -> None:
        about = checkpoint.about
        try:
            self.model.load_state_dict(checkpoint.part("model"))
            self.average.restore(checkpoint.part("average"))
            for mover in self.movers:
                state = mover.optimiser.state_dict()
                state["state"] = _nested(checkpoint.part(f"optimiser.{mover.step.name}"))
                mover.optimiser.load_state_dict(state)
            self.fabric.strategy.precision.load_state_dict(about["precision"])
        except (RuntimeError, KeyError, ValueError) as error:
            raise CheckpointError(
                f"{called}, written by ssimgen {about['version']}, does not fit the model: {error}"
            ) from error
        self.iteration, self.seconds, self.sums = about["iteration"], about["seconds"], Sums(**about["sums"])
        self.processor_seconds = about.get("processor_seconds", self.seconds)  # as good as earlier versions knew


def _nested(tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """{"0.exp_avg": t} as {0: {"exp_avg": t}}."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, key = name.split(".", 1)
        state.setdefault(int(number), {})[key] = value
    return state


def _parameters(modules: Sequence[nn.Module]) -> list[nn.Parameter]:
    """The parameters of modules, each once."""
    return list({id(p): p for module in modules for p in module.parameters()}.values())
