"""Where the lines of metrics.jsonl go besides: TensorBoard, a CSV file, Weights & Biases, MLflow."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from uuid import uuid4

from ssimgen import _options
from ssimgen._extras import ExtraNeededError
from ssimgen._reading import read_metrics
from ssimgen._shown import first_line
from ssimgen.runs.folder import RunFolder
from ssimgen.training.errors import NotWrittenError


@runtime_checkable
class Logger(Protocol):
    """What Lightning Fabric calls a logger, as far as a run needs it."""

    def log_metrics(self, metrics: dict[str, Any], step: int) -> None:
        """Take in the numbers of one line."""

    def finalize(self, status: str) -> None:
        """End with "success" or "failed"."""


def check_loggers(names: Sequence[str]) -> None:
    """Refuse loggers whose package cannot be imported, before there is anything to log.

    Raises:
        ModuleNotFoundError: it is missing; with the command that installs it.
        ValueError: it is broken.
    """
    for name in names:
        if name != "csv":
            _package(name)


@contextmanager
def opened_loggers(
    names: Sequence[str], run: RunFolder, about: Mapping[str, Any], iteration: int
) -> Iterator[list[Logger]]:
    """The loggers of these names for the run `about`, which stands after so many iterations.

    Raises:
        ValueError: one cannot begin, such as for want of a login.
    """
    loggers = [_open(name, run, about, iteration) for name in dict.fromkeys(names)]
    status = "failed"
    try:
        yield loggers
        status = "success"
    finally:
        for logger in loggers:
            with _in_words(logger):
                logger.finalize(status)


def log_line(loggers: Sequence[Logger], line: Mapping[str, float]) -> None:
    """Hand a line of metrics.jsonl to the loggers.

    Raises:
        NotWrittenError: one does not take it.
    """
    numbers, step = _split(line)
    for logger in loggers:
        with _in_words(logger):
            logger.log_metrics(numbers, step)


@contextmanager
def _in_words(logger: Logger) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # each package has its own
        raise NotWrittenError(
            f"{type(logger).__name__.strip('_')}: {first_line(error)}: training stopped, the last checkpoint is kept; "
            "go on with it (resume), with other loggers or none"
        ) from error


def _open(name: str, run: RunFolder, about: Mapping[str, Any], iteration: int) -> Logger:
    try:
        return _LOGGERS[name](run, about, iteration)
    except Exception as error:
        raise ValueError(f"the logger {name!r} cannot begin: {first_line(error)}") from error


def _tensorboard(run: RunFolder, _: Mapping[str, Any], iteration: int) -> Logger:
    from lightning_fabric.loggers.tensorboard import TensorBoardLogger

    again = iteration + 1  # what an interrupted run wrote from here on is hidden
    return TensorBoardLogger(run.path, name="tensorboard", version="", purge_step=again)


def _csv(run: RunFolder, _: Mapping[str, Any], iteration: int) -> Logger:
    """csv/metrics.csv, written anew from metrics.jsonl: Fabric's logger begins with an empty file."""
    from lightning_fabric.loggers.csv_logs import CSVLogger

    (run.path / "csv" / "metrics.csv").unlink(missing_ok=True)
    logger = CSVLogger(run.path, name="csv", version="", flush_logs_every_n_steps=1)
    for line in read_metrics(run.path) if iteration else []:
        logger.log_metrics(*_split(line))
    return logger


class _WandB:
    """A run of Weights & Biases, the same one when the run goes on."""

    def __init__(self, run: RunFolder, about: Mapping[str, Any], iteration: int) -> None:
        number = _kept(run.path / "wandb.id", iteration) or uuid4().hex[:8]
        project = os.environ.get("WANDB_PROJECT", "ssimgen")
        self._run = _package("wandb").init(
            project=project, name=run.path.name, id=number, dir=run.path, config=dict(about), resume="allow"
        )
        (run.path / "wandb.id").write_text(number)

    def log_metrics(self, metrics: dict[str, Any], step: int) -> None:
        self._run.log(metrics, step=step)

    def finalize(self, status: str) -> None:
        self._run.finish(exit_code=0 if status == "success" else 1)


class _MLflow:
    """A run of MLflow, the same one when the run goes on."""

    def __init__(self, run: RunFolder, about: Mapping[str, Any], iteration: int) -> None:
        self._client = _package("mlflow").MlflowClient()
        number = _kept(run.path / "mlflow.id", iteration)
        if number is None:
            experiment = _package("mlflow").set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", "ssimgen"))
            number = self._client.create_run(experiment.experiment_id, run_name=run.path.name).info.run_id
            options = {key: about[key] for key in ("model", "config", "training", "optimiser")}
            for key, value in _options.flat(options).items():
                self._client.log_param(number, key, value)
            (run.path / "mlflow.id").write_text(number)
        self._number = number

    def log_metrics(self, metrics: dict[str, Any], step: int) -> None:
        for key, value in metrics.items():
            self._client.log_metric(self._number, key, value, step=step)

    def finalize(self, status: str) -> None:
        self._client.set_terminated(self._number, "FINISHED" if status == "success" else "FAILED")


_LOGGERS: dict[str, Callable[[RunFolder, Mapping[str, Any], int], Logger]] = {
    "tensorboard": _tensorboard,
    "csv": _csv,
    "wandb": _WandB,
    "mlflow": _MLflow,
}


def _package(name: str) -> Any:  # a module
    try:
        return import_module(name)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            raise ExtraNeededError(f"the logger {name!r} needs a package: pip install {name}", name=name) from None
        raise ValueError(f"the logger {name!r} needs a package that is broken ({first_line(error)})") from error


def _kept(file: Path, iteration: int) -> str | None:
    """The identity under which the run was logged, if it goes on."""
    return file.read_text() if iteration and file.exists() else None


def _split(line: Mapping[str, float]) -> tuple[dict[str, Any], int]:
    return {key: value for key, value in line.items() if key != "iteration"}, int(line["iteration"])
