"""What is done on the way through a run: pictures, evaluations, and what a caller adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from ssimgen import pictures
from ssimgen.batches import Data
from ssimgen.models.options import Training
from ssimgen.models.steps import Autoencoder, Model
from ssimgen.runs.folder import RunFolder
from ssimgen.training.state import State


@dataclass(frozen=True)
class Hook:
    """Something done every so many iterations and at the end, such as an evaluation.

    `run` gets the model (with averaged weights, in evaluation mode, without gradients) and the number of
    iterations done; the numbers that it returns are logged. It cannot disturb training. With `on_stop` it also runs
    when a signal ends the run early; what it then returns is not logged, since a run that was not stopped lacks it.

    Example:
        >>> import torch
        >>> from ssimgen.training import Hook
        >>> brightness = Hook(100, lambda model, iteration: {"brightness": model.sample(64).mean().item()})
        >>> brightness.every
        100
    """

    every: int
    run: Callable[[Model, int], Mapping[str, float]]
    on_stop: bool = False


def run_hooks(hooks: Sequence[Hook], state: State) -> dict[str, float]:
    """The numbers that the hooks return for the model as it is now."""
    if not hooks:
        return {}
    state.check()
    state.model.eval()
    results: dict[str, float] = {}
    with torch.no_grad(), state.average.in_place():
        for hook in hooks:
            results |= hook.run(state.model, state.iteration)
    state.model.train()
    return results


def picture_hook(run: RunFolder, training: Training, data: Data) -> Hook:
    """Grids of samples from a fixed noise, and of reconstructions of the first images of `data`."""
    originals = data.first(32).images

    def show(model: Model, iteration: int) -> dict[str, float]:
        samples = model.sample(64, torch.Generator().manual_seed(training.seed))
        pictures.write(run.path / "samples" / f"{iteration:08d}.png", pictures.grid(samples))
        if isinstance(model, Autoencoder):
            pairs = pictures.beside(originals, model.reconstruct(originals.to(model.device)), columns=8)
            pictures.write(run.path / "reconstructions" / f"{iteration:08d}.png", pairs)
        return {}

    return Hook(training.picture_every, show, on_stop=True)
