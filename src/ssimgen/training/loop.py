"""The training loop; see the package's docstring for what it promises."""

from __future__ import annotations

import copy
import dataclasses
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column
from torch import Tensor, nn

import ssimgen
from ssimgen import pictures
from ssimgen._arguments import NonFiniteResultError
from ssimgen._interruption import leave_dead_terminal
from ssimgen.batches import Batch, Shape, mean_over_processes, own_share, processes
from ssimgen.models.options import Hardware, Optimiser, Training
from ssimgen.models.steps import Autoencoder, Model, Step
from ssimgen.runs import checkpoints
from ssimgen.runs.checkpoints import Checkpoint, CheckpointError
from ssimgen.runs.folder import RunFolder
from ssimgen.training.average import Average


@runtime_checkable
class Data(Protocol):
    """Where batches come from."""

    @property
    def shape(self) -> Shape:
        """(channels, height, width) of the images."""

    def describe(self) -> dict[str, Any]:
        """Source, number of images and a "hash" of the content, for the run's configuration."""

    def batches(self, size: int, seed: int, start: int) -> Iterator[Batch]:
        """Batches without end, from the start-th on, in an order that `seed` fixes."""

    def first(self, n: int) -> Batch:
        """n fixed images, or all if there are fewer, for pictures."""


@dataclass(frozen=True)
class Hook:
    """Something done every so many iterations and at the end, such as an evaluation.

    `run` gets the model (with averaged weights, in evaluation mode, without gradients) and the number of
    iterations done; the numbers that it returns are logged. It cannot disturb training. With `on_stop` it also runs
    when a signal ends the run early; what it then returns is not logged, since a run that was not stopped lacks it.
    """

    every: int
    run: Callable[[Model, int], Mapping[str, float]]
    on_stop: bool = False


class NotFiniteError(RuntimeError):
    """A loss term, gradient or weight became NaN or infinite."""


class NotWrittenError(OSError):
    """A file of the run could not be written, as on a full disk."""


class ProcessLostError(RuntimeError):
    """Another process of the run is gone."""


class Interrupted(Exception):  # noqa: N818 - not an error: the run can go on
    """A signal stopped the run after a checkpoint was written."""

    def __init__(self, signum: int, iteration: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name} after iteration {iteration}, checkpoint written")
        self.signum, self.iteration = signum, iteration


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

    A new run starts from the weights that the model has (:func:`ssimgen.training.make_model` makes them from a seed).
    The model ends with its last weights (not averaged); pictures of reconstructions are of `held_out` images
    where given. `notes` are added to config.json. Nothing is done where a finished run is resumed.

    Raises:
        ValueError: the folder holds a run (without `resume`) or none, one that is damaged, or of other options or data
            (with it); it is in use by another process; there are fewer images than a batch;
            options do not fit the images, this machine or its memory.
        CheckpointError: the latest checkpoint is damaged, of another model or of more iterations.
        NotFiniteError: a term, gradient or weight is NaN or infinite; the last checkpoint stays.
        NotWrittenError: a checkpoint, picture or line of the log could not be written; the last checkpoint stays.
        ProcessLostError: another process of the run ended; the last checkpoint stays.
        Interrupted: SIGINT, SIGTERM or SIGHUP came; the checkpoint of the iteration it came in is written.
    """
    world = hardware.devices * hardware.num_nodes
    if training.batch % world:
        raise ValueError(
            f"batch must be a multiple of the {world} devices, got {training.batch}: "
            f"take {max(1, training.batch // world) * world}, or fewer devices"
        )
    fabric = _fabric(hardware)
    with _memory_in_words():
        _rehearse(model, next(data.batches(training.batch, training.seed, 0)))
    _launch(fabric, hardware)
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
    with _one_voice(fabric), ExitStack() as stack:
        loop = _Loop(fabric, model, training, optimiser)
        _open_together(fabric, stack, run, about, resume)
        stack.enter_context(torch.random.fork_rng())
        received = stack.enter_context(_signals())
        try:
            if resume:
                loop.restore(run, about)
                if fabric.is_global_zero:
                    run.write_config(about)
            with _memory_in_words():
                hooks = [*_picture_hooks(run, training, data, held_out), *hooks]
                loop.go(run, about, data, hooks, received)
        except ValueError:  # options that do not fit a part of the batch
            if fabric.is_global_zero and loop.iteration == 0 and not resume:
                run.abandon()
            raise
        except BrokenPipeError:  # whoever read our output has gone
            raise
        except OSError as error:
            raise NotWrittenError(
                f"{error}: training stopped in iteration {loop.iteration}, the last checkpoint is kept; "
                "make room, then go on with it (resume)"
            ) from error


def _fabric(hardware: Hardware) -> Any:
    """Lightning's Fabric for the devices asked for.

    Raises:
        ValueError: this machine does not have them.
    """
    most = max(4 * (os.cpu_count() or 1), torch.cuda.device_count())
    if hardware.devices > most:
        raise ValueError(f"devices must be at most {most} on this machine, got {hardware.devices}")
    if hardware.num_nodes > 1 and "SLURM_NTASKS" not in os.environ:
        missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
        if not {"NODE_RANK", "GROUP_RANK"} & os.environ.keys():
            missing.append("NODE_RANK")
        if missing:
            raise ValueError(
                f"training on num_nodes = {hardware.num_nodes} machines needs {', '.join(missing)} in the environment "
                "of each, so that they find one another: set them, or start with torchrun or SLURM"
            )
    from lightning_fabric import Fabric  # takes seconds to import: only when training starts

    try:
        return Fabric(
            accelerator=hardware.accelerator,
            devices=hardware.devices,
            num_nodes=hardware.num_nodes,
            precision=hardware.precision,
        )
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"accelerator {hardware.accelerator!r} with {hardware.devices} device(s) is not available on this machine "
            f"({error}): choose accelerator 'auto' or 'cpu', or fewer devices"
        ) from error


def _launch(fabric: Any, hardware: Hardware) -> None:
    """Start the other processes of the run, and wait for those of other machines, as long as Lightning does.

    Raises:
        ProcessLostError: they do not come.
    """
    if hardware.num_nodes == 1:
        fabric.launch()
        return
    place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    print(f"waiting up to half an hour for {hardware.num_nodes} machines at {place}", file=sys.stderr)
    try:
        fabric.launch()
    except torch.distributed.DistError as error:
        raise ProcessLostError(
            f"not all {hardware.num_nodes} machines came to {place} in time: start the same command on each, with its "
            "own NODE_RANK"
        ) from error


@contextmanager
def _memory_in_words() -> Iterator[None]:
    """What PyTorch raises for want of memory, as ValueError with a remedy."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "allocate" not in str(error):
            raise
        first = (str(error).splitlines() or ["out of memory"])[0]
        raise ValueError(
            f"a batch does not fit into memory ({first}): take a smaller batch, network or images"
        ) from error


def _rehearse(model: Model, batch: Batch) -> None:
    """Evaluate every step once on a copy of the model, also those that come late in the run.

    What does not fit the images raises ValueError here, before there is a folder or another process.
    """
    twin = copy.deepcopy(model).train()
    with torch.random.fork_rng():
        for step in twin.steps():
            with suppress(NonFiniteResultError):  # the run will tell in which iteration
                _evaluated(step, batch)


def _evaluated(step: Step, batch: Batch) -> Mapping[str, Tensor]:
    """The terms of a step, which must include those that it weighs."""
    terms = step.terms(batch)
    if unknown := step.weights.keys() - terms.keys():
        raise ValueError(f"step {step.name!r} weighs {sorted(unknown)}, but its terms are {sorted(terms)}")
    return terms


class _ToldElsewhere(Exception):  # noqa: N818 - not an error of this process
    """The first process could not begin, and says why."""


@contextmanager
def _one_voice(fabric: Any) -> Iterator[None]:
    """Let the first process alone report what stops all of them.

    The others leave with exit code 0: Lightning kills the first process when one of them ends with another code, and
    it may still be busy with its report.
    """
    try:
        yield
    except (NotFiniteError, Interrupted, CheckpointError, _ToldElsewhere):
        if fabric.is_global_zero:
            raise
        raise SystemExit(0) from None
    except RuntimeError as error:
        if not (isinstance(error, torch.distributed.DistError) or "by peer" in str(error)):
            raise
        if not fabric.is_global_zero:
            raise SystemExit(0) from None
        raise ProcessLostError(
            "another process of the run has ended; the last checkpoint is kept, go on with it (resume)"
        ) from error


def _open_together(fabric: Any, stack: ExitStack, run: RunFolder, about: dict[str, Any], resume: bool) -> None:
    """Let the first process lock and open the folder for all of them, until `stack` ends."""
    failure: Exception | None = None
    if fabric.is_global_zero:
        try:
            stack.enter_context(run.locked())
            _open(run, about, resume)
        except (ValueError, OSError) as error:
            failure = error
    if fabric.broadcast(failure is not None):
        raise failure or _ToldElsewhere


def _open(run: RunFolder, about: dict[str, Any], resume: bool) -> None:
    if not resume:
        return run.begin(about)
    before = run.read_config()
    for section, key in _must_agree(about):
        old, new = (_get(x, section, key) for x in (before, about))
        if old != new:
            name = f"{section}.{key}" if key else section
            raise ValueError(f"{run.path} was trained with {name} = {old!r}, it cannot go on with {new!r}")
    return None


def _must_agree(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a resumed run shares with the one it continues; length, logging and devices may change."""
    plain = [("model", ""), ("shape", ""), ("data", "hash")]
    options = [("config", key) for key in about["config"]] + [("optimiser", key) for key in about["optimiser"]]
    return plain + options + [("training", key) for key in ("batch", "seed", "ema")]


def _get(about: Mapping[str, Any], section: str, key: str) -> Any:
    value = about.get(section)
    value = value.get(key) if key and isinstance(value, Mapping) else value
    return _as_lists(value)


def _as_lists(value: Any) -> Any:
    """As JSON has it: tuples are lists."""
    if isinstance(value, Mapping):
        return {k: _as_lists(v) for k, v in value.items()}
    return [_as_lists(v) for v in value] if isinstance(value, (list, tuple)) else value


@dataclass
class _Sums:
    """Sums of logged numbers since the last line of the log."""

    totals: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.totals[name] = self.totals.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        return {name: total / self.counts[name] for name, total in self.totals.items()}


_TAMER = "the last checkpoint is kept; try a lower learning rate, less weight decay or gradient clipping"


class _Loop:
    """The state of a run, and one iteration of it."""

    def __init__(self, fabric: Any, model: Model, training: Training, optimiser: Optimiser) -> None:
        self.fabric, self.model, self.training, self.optimiser = fabric, model, training, optimiser
        fabric.to_device(model)
        self.steps = model.steps()
        names = [step.name for step in self.steps]
        if len(set(names)) < len(names):
            raise ValueError(f"steps of a model must have different names, got {names}")
        self.parameters = [_parameters(step.modules) for step in self.steps]
        makers = [optimiser.make(p, s.lr_scale) for p, s in zip(self.parameters, self.steps, strict=True)]
        self.optimisers: list[Any] = [fabric.setup_optimizers(o) for o in makers]
        self.average = Average(model, model.averaged, training.ema)
        self.iteration = 0  # how many are done
        self.seconds = 0.0
        self.sums = _Sums()

    # --- one iteration -----------------------------------------------------------------------------------------

    def iterate(self, batch: Batch) -> dict[str, float]:
        """Take the steps that are due; returns the terms by name."""
        torch.manual_seed(_seed_of(self.training.seed, self.iteration))
        values: dict[str, float] = {}
        for i, step in enumerate(self.steps):
            progress = self._progress(step)
            if progress is not None and self.iteration % step.every == 0:
                values |= self._take(i, batch, progress)
        self.iteration += 1
        self.average.update(self.iteration)
        return values

    def _progress(self, step: Step) -> float | None:
        """How much of the step's span is over, or None outside of it."""
        first, last = (round(f * self.training.iterations) for f in step.span)
        return (self.iteration - first) / (last - first) if first <= self.iteration < last else None

    def _take(self, i: int, batch: Batch, progress: float) -> dict[str, float]:
        step, parameters, optimiser = self.steps[i], self.parameters[i], self.optimisers[i]
        for group in optimiser.param_groups:
            group["lr"] = self.optimiser.lr * step.lr_scale * self.optimiser.rate(progress)
        _only(parameters, self.model)
        optimiser.zero_grad()
        try:
            with self.fabric.autocast():
                terms = _evaluated(step, batch)
        except NonFiniteResultError as error:  # a discrepancy that refuses to be NaN
            raise NotFiniteError(self._not_finite("a term", step, f"not finite ({error})")) from error
        loss = torch.stack([step.weights.get(n, 1.0) * t for n, t in terms.items() if step.weights.get(n, 1.0)]).sum()
        values = self._checked(step, terms)
        self.fabric.backward(loss)
        self._finish_gradients(step, parameters, optimiser)
        optimiser.step()
        return {f"{step.name}/{name}": value for name, value in values.items()}

    def _checked(self, step: Step, terms: Mapping[str, Tensor]) -> dict[str, float]:
        """The terms, averaged over devices, as numbers; all of them finite."""
        means = mean_over_processes(torch.stack([term.detach().float() for term in terms.values()]))
        values = dict(zip(terms, means.tolist(), strict=True))
        for name, value in values.items():
            if not math.isfinite(value):
                raise NotFiniteError(self._not_finite(f"term {name!r}", step, value))
        return values

    def _finish_gradients(self, step: Step, parameters: list[nn.Parameter], optimiser: Any) -> None:
        """Average over devices, check, clip."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        if processes() > 1:
            flat = mean_over_processes(torch.cat([g.flatten() for g in gradients]))  # one message, not one a parameter
            for g, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                g.copy_(mean.view_as(g))
        precision = self.fabric.strategy.precision
        precision.unscale_gradients(optimiser.optimizer)
        norm = nn.utils.get_total_norm(gradients)
        scaled = getattr(precision, "scaler", None) is not None  # then steps of infinite gradient are left out
        if not scaled and not torch.isfinite(norm):
            raise NotFiniteError(self._not_finite("the gradient", step, norm.item()))
        if self.optimiser.clip:
            nn.utils.clip_grads_with_norm_(parameters, self.optimiser.clip, norm)

    def _not_finite(self, what: str, step: Step, value: float | str) -> str:
        return f"{what} of step {step.name!r} is {value} in iteration {self.iteration + 1}: {_TAMER}"

    # --- the run -----------------------------------------------------------------------------------------------

    def go(self, run: RunFolder, about: dict[str, Any], data: Data, hooks: list[Hook], received: list[int]) -> None:
        """From where the run stands to its end."""
        training, total = self.training, self.training.iterations
        batches = data.batches(training.batch, training.seed, self.iteration)
        main = self.fabric.is_global_zero
        board = self._board(run) if main and training.tensorboard else None
        self.model.train()
        with _progress_bar(self.model.name, total, self.iteration, visible=main) as advance:
            while self.iteration < total:
                started = time.perf_counter()
                values = self.iterate(self._to_device(next(batches)))
                self.seconds += time.perf_counter() - started
                advance(values)
                self.sums.add(values)
                done = self.iteration
                due = [h for h in hooks if main and (done % h.every == 0 or done == total)]
                line = self._hooked(due)
                if done % training.log_every == 0 or done == total:
                    line = {**self.sums.means(), **line}
                    self.sums = _Sums()
                if line and main:
                    self._log(run, line, board)
                stop = self._agreed(bool(received))
                if main and (done % training.checkpoint_every == 0 or done == total or stop):
                    self.save(run, about)
                if stop and done < total:
                    self._hooked([h for h in hooks if main and h.on_stop and h not in due])
                    self.fabric.barrier()  # until the checkpoint is written
                    raise Interrupted(received[0] if received else signal.SIGTERM, done)

    def _to_device(self, batch: Batch) -> Batch:
        images, labels = own_share(batch.images), None if batch.labels is None else own_share(batch.labels)
        return Batch(self.fabric.to_device(images), None if labels is None else self.fabric.to_device(labels))

    def _agreed(self, stop: bool) -> bool:
        """Whether any process was told to stop: all must leave at the same iteration."""
        return bool(self.fabric.strategy.reduce_boolean_decision(stop, all=False)) if processes() > 1 else stop

    def _hooked(self, hooks: list[Hook]) -> dict[str, float]:
        if not hooks:
            return {}
        self._check_state()
        self.model.eval()
        results: dict[str, float] = {}
        with torch.no_grad(), self.average.in_place():
            for hook in hooks:
                results |= hook.run(self.model, self.iteration)
        self.model.train()
        return results

    def _log(self, run: RunFolder, line: Mapping[str, float], board: Any) -> None:
        rates = {f"{s.name}/lr": o.param_groups[0]["lr"] for s, o in zip(self.steps, self.optimisers, strict=True)}
        run.log({"iteration": self.iteration, "seconds": round(self.seconds, 3), **rates, **line})
        if board is not None:
            board.log_metrics({**rates, **line}, self.iteration)

    def _board(self, run: RunFolder) -> Any:
        from lightning_fabric.loggers.tensorboard import TensorBoardLogger

        again = self.iteration + 1  # what an interrupted run wrote from here on is hidden
        return TensorBoardLogger(run.path, name="tensorboard", version="", purge_step=again)

    # --- checkpoints -------------------------------------------------------------------------------------------

    def save(self, run: RunFolder, about: Mapping[str, Any]) -> None:
        """Write the state after `iteration` iterations, and drop the oldest checkpoints."""
        self._check_state()
        meta = {
            "version": ssimgen.__version__,
            **{key: about[key] for key in ("model", "shape", "config")},
            "iteration": self.iteration,
            "seconds": self.seconds,
            "sums": dataclasses.asdict(self.sums),
            "precision": self.fabric.strategy.precision.state_dict(),
            "log": run.keep_log(),
        }
        checkpoints.save(checkpoints.path_of(run.checkpoints, self.iteration), Checkpoint(self._state(), meta))
        checkpoints.keep_latest(run.checkpoints, self.training.keep)

    def _check_state(self) -> None:
        if name := checkpoints.first_not_finite(self._state().items()):
            raise NotFiniteError(f"{name} is not finite after iteration {self.iteration}: {_TAMER}")

    def _state(self) -> dict[str, Tensor]:
        """Weights, their averages, and what optimisers remember."""
        tensors = {f"model.{key}": value for key, value in self.model.state_dict().items()}
        tensors |= {f"average.{key}": value for key, value in self.average.tensors.items()}
        for step, optimiser in zip(self.steps, self.optimisers, strict=True):
            for number, state in optimiser.state_dict()["state"].items():
                for key, value in state.items():
                    if isinstance(value, Tensor):
                        tensors[f"optimiser.{step.name}.{number}.{key}"] = value
        return tensors

    def restore(self, run: RunFolder, about: Mapping[str, Any]) -> None:
        """Take up the latest checkpoint of the run, if it has one."""
        checkpoint = run.latest()
        if checkpoint is not None:
            self._take_up(run, checkpoint, about)
        if self.iteration > self.training.iterations:
            raise CheckpointError(
                f"{run.path} was trained for {self.iteration} iterations, more than {self.training.iterations}: "
                "set iterations to as many or more to go on, or choose another folder"
            )
        if self.fabric.is_global_zero:
            run.restore_log(self.iteration, checkpoint.about.get("log") if checkpoint else None)

    def _take_up(self, run: RunFolder, checkpoint: Checkpoint, about: Mapping[str, Any]) -> None:
        for section, key in [("model", ""), ("shape", ""), *(("config", key) for key in about["config"])]:
            old, new = (_get(x, section, key) for x in (checkpoint.about, about))
            if old != new:
                raise CheckpointError(
                    f"the latest checkpoint in {run.checkpoints} is of another run: it has {section}"
                    f"{'.' if key else ''}{key} = {old!r}, not {new!r}"
                )
        try:
            self.model.load_state_dict(checkpoint.part("model"))
            self.average.restore(checkpoint.part("average"))
            for step, optimiser in zip(self.steps, self.optimisers, strict=True):
                state = optimiser.state_dict()
                state["state"] = _nested(checkpoint.part(f"optimiser.{step.name}"))
                optimiser.load_state_dict(state)
            self.fabric.strategy.precision.load_state_dict(checkpoint.about["precision"])
        except (RuntimeError, KeyError, ValueError) as error:
            raise CheckpointError(
                f"the latest checkpoint in {run.checkpoints}, written by ssimgen {checkpoint.about['version']}, "
                f"does not fit the model: {error}"
            ) from error
        self.iteration, self.seconds = checkpoint.about["iteration"], checkpoint.about["seconds"]
        self.sums = _Sums(**checkpoint.about["sums"])


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


def _only(parameters: list[nn.Parameter], model: nn.Module) -> None:
    """Let `parameters` alone require gradients."""
    model.requires_grad_(False)
    for p in parameters:
        p.requires_grad_(True)


def _seed_of(seed: int, iteration: int) -> int:
    """The seed of an iteration's random numbers."""
    return int(np.random.SeedSequence((seed, iteration)).generate_state(1, np.uint64)[0])


@contextmanager
def _signals() -> Iterator[list[int]]:
    """A list to which the first SIGINT, SIGTERM or SIGHUP is added; a second one ends the process as usual.

    Those that the process was told to ignore, as by nohup, it ignores. A terminal that closes sends SIGHUP more than
    once: after the first signal it no longer counts.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received  # only the main thread may set handlers
        return
    known = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {s: handler for s in known if (handler := signal.getsignal(s)) is not signal.SIG_IGN}

    def note(signum: int, _: object) -> None:
        received.append(signum)
        leave_dead_terminal()
        for s, handler in before.items():
            signal.signal(s, signal.SIG_IGN if s == getattr(signal, "SIGHUP", None) else handler)

    for s in before:
        signal.signal(s, note)
    try:
        yield received
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)


@contextmanager
def _progress_bar(
    name: str, total: int, done: int, *, visible: bool
) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """A bar with the latest terms; yields what to call after each iteration.

    Where no terminal is, as in a log, it is one line at the end. Nothing is cut: terms go on below each other.
    """
    console = Console()
    console.width -= 1  # the last column stays free, or what a terminal echoes (^C) breaks the line and stays
    columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn())
    terms_column = TextColumn("{task.fields[terms]}", markup=False, table_column=Column(ratio=1))
    live = visible and console.is_terminal
    terms = ""
    with Progress(*columns, terms_column, console=console, disable=not live, expand=True) as progress:
        task = progress.add_task(name, total=total, completed=done, terms="")

        def advance(values: Mapping[str, float]) -> None:
            nonlocal done, terms
            done += 1
            terms = "  ".join(f"{key.split('/')[-1]} {value:.4g}" for key, value in values.items())
            progress.update(task, advance=1, terms=terms)

        try:
            yield advance
        finally:
            if visible and not live:
                print(f"{name} {done}/{total}  {terms}".rstrip())


def _picture_hooks(run: RunFolder, training: Training, data: Data, held_out: Data | None) -> list[Hook]:
    """Grids of samples from a fixed noise, and of reconstructions of fixed images."""
    originals = (held_out or data).first(32).images

    def draw(model: Model, iteration: int) -> dict[str, float]:
        samples = model.sample(64, torch.Generator().manual_seed(training.seed))
        pictures.write(run.path / "samples" / f"{iteration:08d}.png", pictures.grid(samples))
        if isinstance(model, Autoencoder):
            pairs = pictures.beside(originals, model.reconstruct(originals.to(model.device)), columns=8)
            pictures.write(run.path / "reconstructions" / f"{iteration:08d}.png", pairs)
        return {}

    return [Hook(training.picture_every, draw, on_stop=True)]
