"""Carrying out a study: worker processes that train and evaluate, a time budget, and going on where one stopped."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal

import filelock
import torch

from ssimgen._files import writable_folder
from ssimgen._interruption import Stopped, noted
from ssimgen._reading import read_config, read_evaluation
from ssimgen.batches import Shape
from ssimgen.data import Source, Splits, load_images
from ssimgen.models import MODELS, check_model
from ssimgen.models.networks import SidesError
from ssimgen.runs.evaluation import EvaluationOptions, evaluate_run
from ssimgen.runs.folder import differences, must_agree
from ssimgen.study.plan import Plan, PlannedRun
from ssimgen.training import Interrupted, NotFiniteError, RunFolder, make_model, train

Status = Literal["finished", "skipped", "stopped", "failed"]

_GRACE = 10.0  # seconds in which workers whose parent is gone write a checkpoint and end


@dataclass(frozen=True)
class Outcome:
    """What became of a run: finished now, skipped as it was finished before, stopped half-way, or failed, and why.

    Example:
        >>> from ssimgen.study import Outcome, make_plan
        >>> models = {"vae": {"variants": {"l2": {"options": {"objective": "l2"}, "sweep": {"tau": [0.01, 0.1]}}}}}
        >>> plan = make_plan({"data": {"digits": {"data": "mnist5k"}}, "models": models}, "taus")
        >>> Outcome(plan.runs[0], "failed", "no room").status
        'failed'
    """

    run: PlannedRun
    status: Status
    message: str = ""


def run_study(
    plan: Plan,
    output: Path,
    *,
    budget: float | None = None,
    parallel: int = 1,
    report: Callable[[Outcome], object] = lambda _: None,
) -> list[Outcome]:
    """Train and evaluate every run of `plan` that is not finished in `output`; returns what became of each.

    A run that was interrupted goes on from its latest checkpoint. When the budget is used up, or a signal comes,
    running ones write a checkpoint and stop, and the remaining ones are not begun and not in the list.

    Args:
        plan: the study.
        output: its folder.
        budget: minutes; None: no limit.
        parallel: worker processes, among which the threads of this one are divided.
        report: called with each outcome as it comes.

    Raises:
        ValueError: a budget or a number of processes that is not positive; images that cannot be read or are too few;
            a run in the folder that has other options than the study.
        OSError: images are missing, or the folder cannot be written.
        Stopped: a signal came, SIGINT, SIGTERM or SIGHUP, and every running model wrote a checkpoint; the outcomes so
            far have been reported.

    Example:
        >>> from pathlib import Path
        >>> from ssimgen.study import make_plan, run_study
        >>> models = {"vae": {"variants": {"l2": {"options": {"objective": "l2"}, "sweep": {"tau": [0.01, 0.1]}}}}}
        >>> plan = make_plan({"data": {"digits": {"data": "mnist5k"}}, "models": models}, "taus")
        >>> run_study(plan, Path("study"), budget=0.001)  # minutes: too few to begin
        []
    """
    if budget is not None and not budget > 0:
        raise ValueError(f"budget must be a positive number of minutes, got {budget}")
    if parallel < 1:
        raise ValueError(f"parallel must be at least 1 process, got {parallel}")
    deadline = None if budget is None else time.monotonic() + 60 * budget
    hashes = _checked_data(plan)
    for run in plan.runs:
        _check_before(run, output, hashes[run.data])
    writable_folder(output)
    outcomes = []
    waiting = []
    for run in plan.runs:
        if is_finished(run, output, plan.evaluation):
            outcomes.append(Outcome(run, "skipped"))
            report(outcomes[-1])
        else:
            waiting.append(run)
    with noted() as received:
        parallel = min(parallel, len(waiting))
        for outcome in _carried_out(waiting, output, plan.evaluation, parallel, deadline, received):
            outcomes.append(outcome)
            report(outcome)
    if received:
        raise Stopped(received[0])
    if len(outcomes) < len(plan.runs) or any(outcome.status == "stopped" for outcome in outcomes):
        print("budget used up", file=sys.stderr)
    return outcomes


def is_finished(run: PlannedRun, output: Path, evaluation: EvaluationOptions) -> bool:
    """Whether a run is trained to its end and evaluated as the study asks."""
    folder = RunFolder(output / run.folder)
    if not folder.config.exists() or folder.latest_iteration() < run.training.iterations:
        return False
    try:
        done = read_evaluation(folder.path)
    except ValueError:  # missing or damaged: it is made again
        return False
    wanted = json.loads(json.dumps(dataclasses.asdict(evaluation)))
    return done.iteration == folder.latest_iteration() and done.options == wanted


def finished_folders(plan: Plan, output: Path) -> dict[str, list[Path]]:
    """The folders of finished runs, by set of images, in the order of the plan; without sets that have none."""
    folders: dict[str, list[Path]] = {}
    for run in plan.runs:
        if is_finished(run, output, plan.evaluation):
            folders.setdefault(run.data, []).append(output / run.folder)
    return folders


def _checked_data(plan: Plan) -> dict[str, str]:
    """Read all images once, and try all models on them, so that what is wrong is known before hours have passed.

    Returns the hashes of the images.
    """
    hashes: dict[str, str] = {}
    shapes: dict[str, Shape] = {}
    for run in plan.runs:
        if run.data not in hashes:
            images = load_images(run.source, report=lambda line: print(line, file=sys.stderr)).train
            hashes[run.data], shapes[run.data] = images.digest, images.shape
            images.batches(run.training.batch, 0, 0)  # refuses if there are too few
    for run in {(run.data, run.model, run.arm): run for run in plan.runs}.values():
        try:
            check_model(run.model, run.config, shapes[run.data])
        except SidesError as error:
            remedy = f"add size = {error.size} to the images {run.data} of the study"
            raise ValueError(f"{error.problem}: {remedy}") from error
        except ValueError as error:
            raise ValueError(f"{run.folder}: {error}") from error
    return hashes


def _check_before(run: PlannedRun, output: Path, digest: str) -> None:
    """Refuse a run folder of other options or images; fewer iterations than wanted are no hindrance."""
    folder = RunFolder(output / run.folder)
    if not folder.config.exists():
        return
    before = read_config(folder.path)
    wanted = {
        "model": run.model,
        "shape": before.get("shape"),  # the hash of the images covers it
        "config": dataclasses.asdict(run.config),
        "optimiser": dataclasses.asdict(run.optimiser),
        "training": dataclasses.asdict(run.training),
        "data": {"hash": digest},
    }
    for name, old, new in differences(before, must_agree(wanted)):
        if name == "data.hash":
            raise ValueError(
                f"{folder.path} holds a run of other images than those that the study calls {run.data}: choose "
                "another folder for the study, or remove that run"
            )
        raise ValueError(
            f"{folder.path} holds a run with {name} = {old!r}, but the study says {new!r}: "
            "choose another folder for the study, or remove that run"
        )
    if before["training"]["iterations"] > run.training.iterations:
        raise ValueError(
            f"{folder.path} holds a run of {before['training']['iterations']} iterations, more than the "
            f"{run.training.iterations} of the study: choose another folder for the study, or remove that run"
        )


# --- worker processes -------------------------------------------------------------------------------------------


def _carried_out(
    runs: Sequence[PlannedRun],
    output: Path,
    evaluation: EvaluationOptions,
    parallel: int,
    deadline: float | None,
    received: list[int],
) -> Iterator[Outcome]:
    """The runs, by `parallel` processes; until they are done, the deadline has passed, or a signal comes."""
    waiting = list(runs)
    threads = max(1, torch.get_num_threads() // max(1, parallel))
    with _Workers(output, evaluation, threads) as workers:
        while True:
            over = bool(received) or (deadline is not None and time.monotonic() >= deadline)
            if over:
                waiting.clear()
                workers.stop()
            while waiting and len(workers.busy) < parallel:
                workers.start(waiting.pop(0))
            if not workers.busy:
                break
            left = 1.0 if deadline is None or over else min(1.0, max(0.0, deadline - time.monotonic()))
            yield from workers.outcomes(left)


class _Workers:
    """Processes that each carry out one run at a time; idle ones wait for the next."""

    def __init__(self, output: Path, evaluation: EvaluationOptions, threads: int) -> None:
        self._arguments = (str(output), evaluation, threads)
        self._idle: list[tuple[Any, Connection]] = []
        self.busy: dict[Connection, tuple[Any, PlannedRun]] = {}
        self._stopping = False

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for process, connection in [*self._idle, *((p, c) for c, (p, _) in self.busy.items())]:
            connection.close()
            process.terminate()
            process.join()

    def start(self, run: PlannedRun) -> None:
        """Have an idle process carry out a run, or a new one."""
        process, connection = self._idle.pop() if self._idle else self._made()
        connection.send(run)
        self.busy[connection] = (process, run)

    def stop(self) -> None:
        """Ask running ones to write a checkpoint and stop; once."""
        if not self._stopping:
            self._stopping = True
            for process, _ in self.busy.values():
                process.terminate()

    def outcomes(self, seconds: float) -> Iterator[Outcome]:
        """The outcomes that come in within some seconds."""
        for connection in wait(list(self.busy), timeout=seconds):
            assert isinstance(connection, Connection)
            process, run = self.busy.pop(connection)
            try:
                status, message = connection.recv()
                self._idle.append((process, connection))
            except (EOFError, ConnectionResetError):  # it died
                process.join()
                status, message = ("stopped", "") if self._stopping else ("failed", _death(process.exitcode))
            yield Outcome(run, status, message)

    def _made(self) -> tuple[Any, Connection]:
        context = multiprocessing.get_context("spawn")  # forks inherit threads that no longer run
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, *self._arguments), daemon=True)
        process.start()
        theirs.close()
        return process, ours


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"its process was ended by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")
    return f"its process ended with code {code}"


class _Stop(BaseException):
    """A signal came outside of training."""


def _work(connection: Connection, output: str, evaluation: EvaluationOptions, threads: int) -> None:
    """Carry out the runs that come, until the connection closes or a signal comes."""

    def stop(*_: object) -> None:
        raise _Stop

    signal.signal(signal.SIGTERM, stop)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C goes to the parent alone, which tells us: a second signal would cost the checkpoint
    torch.set_num_threads(threads)
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - progress bars of several runs would overwrite each other
    sources: dict[Source, Splits] = {}
    try:
        while True:
            run = connection.recv()
            connection.send(_outcome(run, Path(output), evaluation, sources))
    except (_Stop, EOFError, ConnectionError):  # the last two: the parent is gone
        return
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # nothing is left to be stopped


def _end_with_parent() -> None:
    """Wait for the end of the parent, which may have been killed: then stop as it would have asked us to."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE)  # a daemon's: it does not delay an end that is sooner
    os._exit(1)


def _outcome(
    run: PlannedRun, output: Path, evaluation: EvaluationOptions, sources: dict[Source, Splits]
) -> tuple[Status, str]:
    try:
        if run.source not in sources:
            sources[run.source] = load_images(run.source, report=lambda _: None)
        carry_out(run, output, evaluation, sources[run.source])
    except Interrupted as stop:
        return "stopped", f"after iteration {stop.iteration}, checkpoint written"
    except _Stop:
        return "stopped", ""
    except (ValueError, OSError, NotFiniteError, ModuleNotFoundError) as error:
        return "failed", str(error)
    return "finished", ""


def carry_out(run: PlannedRun, output: Path, evaluation: EvaluationOptions, splits: Splits) -> None:
    """Train a run to its end, going on if it was begun, and evaluate it."""
    folder = output / run.folder
    _wait_for_leftovers(folder)
    make, _ = MODELS[run.model]
    train(
        make_model(make, run.config, splits.train.shape, run.seed),
        splits.train,
        folder,
        training=run.training,
        optimiser=run.optimiser,
        held_out=splits.held_out,
        resume=RunFolder(folder).config.exists(),
        notes={"source": dataclasses.asdict(run.source), "study": about(run)},
    )
    evaluate_run(folder, evaluation, splits=splits)


def _wait_for_leftovers(folder: Path) -> None:
    """Let a worker of a study that was killed end; whoever holds the folder for longer than that, `train` names."""
    lock = folder / ".lock"
    if lock.exists():
        with suppress(filelock.Timeout), filelock.FileLock(lock).acquire(timeout=1.5 * _GRACE):
            pass


def about(run: PlannedRun) -> Mapping[str, Any]:
    """What the configuration of a run says of its place in the study."""
    return {
        "data": run.data,
        "group": run.group,
        "variant": run.variant,
        "point": dict(run.point),
        "arm": run.arm,
        "baseline": run.baseline,
    }
