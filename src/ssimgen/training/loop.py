"""The training loop; see the package's docstring for what it promises."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ssimgen._interruption import noted
from ssimgen.batches import Data
from ssimgen.models.options import Hardware, Optimiser, Training
from ssimgen.models.steps import Model
from ssimgen.runs.folder import RunFolder
from ssimgen.training.bar import progress_bar
from ssimgen.training.devices import (
    any_process,
    in_first_process,
    launch,
    make_fabric,
    memory_in_words,
    one_voice,
    own_part,
)
from ssimgen.training.errors import Interrupted, NotWrittenError
from ssimgen.training.hooks import Hook, picture_hook, run_hooks
from ssimgen.training.iteration import iterate, rehearse
from ssimgen.training.loggers import Logger, check_loggers, log_line, opened_loggers
from ssimgen.training.state import State, Sums


def train(
    model: Model,
    data: Data,
    folder: Path,
    *,
    training: Training = Training(),  # noqa: B008 - frozen
    optimiser: Optimiser = Optimiser(),  # noqa: B008
    hardware: Hardware = Hardware(),  # noqa: B008
    held_out: Data | None = None,
    hooks: Sequence[Hook] = (),
    resume: bool = False,
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Train `model` on `data` in the run folder `folder`, or go on from its latest checkpoint (`resume`).

    A new run starts from the weights that the model has (:func:`ssimgen.training.make_model` makes them from a seed),
    with the output biases that its networks may ask for (`marginals`).
    The model ends with its last weights (not averaged); pictures of reconstructions are of `held_out` images
    where given. `notes` are added to config.json. Nothing is done where a finished run is resumed.

    Raises:
        ValueError: the folder holds a run (without `resume`) or none, one that is damaged, or of other options or data
            (with it); it is in use by another process; there are fewer images than a batch;
            options do not fit the images, this machine or its memory; a logger cannot begin.
        ModuleNotFoundError: a logger needs a package that is not installed.
        CheckpointError: the latest checkpoint is damaged, of another model or of more iterations.
        NotFiniteError: a term, gradient or weight is NaN or infinite; the last checkpoint stays.
        NotWrittenError: a checkpoint, picture or line of the log could not be written; the last checkpoint stays.
        ProcessLostError: another process of the run ended; the last checkpoint stays.
        Interrupted: SIGINT, SIGTERM or SIGHUP came; the checkpoint of the iteration it came in is written.

    Example:
        >>> import torch
        >>> from pathlib import Path
        >>> from ssimgen.data import Images
        >>> from ssimgen.models import VAE, VAEConfig, make_model
        >>> from ssimgen.models.networks import Network
        >>> from ssimgen.training import Training, read_metrics, train
        >>> images = Images(torch.rand(40, 1, 12, 12), None, "noise")
        >>> config = VAEConfig(0.1, objective="l2", network=Network("mlp", hidden=(8,)))
        >>> model = make_model(VAE, config, images.shape, seed=0)
        >>> train(model, images, Path("run"), training=Training(iterations=2, batch=8))
        vae 2/2 ...
        >>> read_metrics(Path("run"))[-1]["iteration"]
        2
        >>> train(model, images, Path("run"), training=Training(iterations=3, batch=8), resume=True)
        vae 3/3 ...
    """
    check_loggers(training.loggers)
    fabric = make_fabric(hardware, training.batch)
    first = next(data.batches(training.batch, training.seed, 0))
    with memory_in_words():
        rehearse(model, first)
    model.begin(first)
    launch(fabric, hardware)
    about = {
        "model": model.name,
        "shape": list(model.shape),
        "config": dataclasses.asdict(model.config),  # type: ignore[call-overload]
        "training": dataclasses.asdict(training),
        "optimiser": dataclasses.asdict(optimiser),
        "hardware": dataclasses.asdict(hardware),
        "data": data.describe(),
        **(notes or {}),
    }
    run = RunFolder(folder)
    with one_voice(fabric):
        state = State(fabric, model, training, optimiser)
        opened = in_first_process(fabric, run.opened(about, resume=resume))
        with opened, torch.random.fork_rng(), noted() as received, _failures(run, state, resume):
            if resume:
                state.resume(run, about)
            with memory_in_words():
                hooks = [picture_hook(run, training, held_out or data), *hooks]
                _loop(state, run, about, data, hooks, received)


@contextmanager
def _failures(run: RunFolder, state: State, resume: bool) -> Iterator[None]:
    """A run that cannot take its first iteration leaves nothing; what cannot be written is told with the remedy."""
    try:
        yield
    except ValueError:  # options that do not fit a part of the batch
        if state.fabric.is_global_zero and state.iteration == 0 and not resume:
            run.abandon()
        raise
    except (BrokenPipeError, NotWrittenError):  # whoever read our output has gone, or it is in words already
        raise
    except OSError as error:
        raise NotWrittenError(
            f"{error}: training stopped in iteration {state.iteration}, the last checkpoint is kept; "
            "make room, then go on with it (resume)"
        ) from error


def _loop(
    state: State, run: RunFolder, about: Mapping[str, Any], data: Data, hooks: Sequence[Hook], received: list[int]
) -> None:
    """From where the run stands to its end."""
    fabric, training = state.fabric, state.training
    main = fabric.is_global_zero
    batches = data.batches(training.batch, training.seed, state.iteration)
    state.model.train()
    with (
        opened_loggers(training.loggers if main else (), run, about, state.iteration) as loggers,
        progress_bar(state.model.name, training.length, state.done, visible=main) as advance,
    ):
        while state.done < training.length:
            with state.timed():
                values = iterate(state, own_part(fabric, next(batches)))
            advance(state.done, values)
            state.sums.add(values)

            done, last = state.iteration, state.done >= training.length
            due = [h for h in hooks if main and (last or done % h.every == 0)]
            line = run_hooks(due, state)
            if last or done % training.log_every == 0:
                line = {**state.sums.means(), **line}
                state.sums = Sums()
            if line and main:
                _log(state, run, line, loggers)

            stop = any_process(fabric, bool(received))
            if main and (stop or last or done % training.checkpoint_every == 0):
                state.save(run, about)
            if stop and not last:
                run_hooks([h for h in hooks if main and h.on_stop and h not in due], state)
                fabric.barrier()  # until the checkpoint is written
                raise Interrupted(received[0] if received else signal.SIGTERM, done)


def _log(state: State, run: RunFolder, line: Mapping[str, float], loggers: Sequence[Logger]) -> None:
    rates = {f"{m.step.name}/lr": m.optimiser.param_groups[0]["lr"] for m in state.movers}
    seconds = {"seconds": round(state.seconds, 3), "processor_seconds": round(state.processor_seconds, 3)}
    line = {"iteration": state.iteration, **seconds, **rates, **line}
    run.log(line)
    log_line(loggers, line)
