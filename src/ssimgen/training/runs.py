"""The folder of a run: its configuration, metrics, pictures and checkpoints, for one process at a time.

config.json          model, options, data with its hash, versions
metrics.jsonl        one JSON object a line: iteration, seconds, learning rate, loss terms, results of hooks
samples/             grids of samples from a fixed noise, one PNG a time
reconstructions/     fixed images, each row followed by its reconstructions
checkpoints/         the latest few, see :mod:`ssimgen.training.checkpoints`
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import torch

import ssimgen
from ssimgen import _options
from ssimgen._files import writable_folder, write_atomically
from ssimgen.models import MODELS, Model
from ssimgen.training import checkpoints
from ssimgen.training.checkpoints import Checkpoint, CheckpointError


class RunFolder:
    """Paths and files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.json"
        self.metrics = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder if need be and keep other processes out; the system lifts the lock if this one dies."""
        writable_folder(self.path)
        lock = filelock.FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise ValueError(
                f"another process is training in {self.path}: wait for it or choose another folder"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def latest(self) -> Checkpoint | None:
        """The latest checkpoint, or None if there is none yet."""
        paths = checkpoints.files(self.checkpoints)
        return checkpoints.load(paths[-1]) if paths else None

    def latest_iteration(self) -> int:
        """After how many iterations the latest checkpoint was written; 0 if there is none yet."""
        paths = checkpoints.files(self.checkpoints)
        return int(paths[-1].stem) if paths else 0

    def begin(self, about: Mapping[str, Any]) -> None:
        """Start a new run; the folder must not hold one."""
        if self.config.exists() or checkpoints.files(self.checkpoints):
            raise ValueError(f"{self.path} already holds a run: resume it, or choose another folder")
        for folder in (self.checkpoints, self.path / "samples", self.path / "reconstructions"):
            folder.mkdir(exist_ok=True)
        self.write_config(about)

    def abandon(self) -> None:
        """Undo `begin`, for a run that never took its first iteration."""
        self.config.unlink()
        for folder in (self.checkpoints, self.path / "samples", self.path / "reconstructions"):
            folder.rmdir()
        (self.path / ".lock").unlink()
        if not any(self.path.iterdir()):
            self.path.rmdir()

    def write_config(self, about: Mapping[str, Any]) -> None:
        """Write config.json."""
        text = json.dumps({**about, "versions": versions()}, indent=2) + "\n"
        write_atomically(self.config, lambda file: file.write(text.encode()))

    def read_config(self) -> dict[str, Any]:
        """Read config.json."""
        try:
            content = json.loads(self.config.read_text())
        except FileNotFoundError as error:
            raise ValueError(f"{self.path} holds no run: {self.config.name} is missing") from error
        except json.JSONDecodeError as error:
            raise ValueError(f"{self.config} is damaged: {error}") from error
        if not isinstance(content, dict):
            raise ValueError(f"{self.config} is damaged: not a JSON object")
        return content

    def log(self, line: Mapping[str, float]) -> None:
        """Append a line to metrics.jsonl."""
        with self.metrics.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def forget_metrics_after(self, iteration: int) -> None:
        """Drop the lines that a resumed run will write again."""
        if not self.metrics.exists():
            return
        lines = [line for line in self.metrics.read_text().splitlines() if line.endswith("}")]  # a torn last line
        kept = "".join(f"{line}\n" for line in lines if json.loads(line)["iteration"] <= iteration)
        write_atomically(self.metrics, lambda file: file.write(kept.encode()))


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl of the run in `path`."""
    return [json.loads(line) for line in RunFolder(path).metrics.read_text().splitlines()]


def load_model(path: Path | str) -> Model:
    """The trained model of a run folder, or of one checkpoint file, ready to sample (with averaged weights if kept).

    Raises:
        CheckpointError: no checkpoint, a damaged one, or one of a model that this version does not know.
    """
    path = Path(path)
    if path.is_dir():
        checkpoint = RunFolder(path).latest()
        if checkpoint is None:
            raise CheckpointError(f"{path} holds no checkpoint: is it the folder of a run?")
    else:
        checkpoint = checkpoints.load(path)
    about = checkpoint.about
    name = about["model"]
    if name not in MODELS:
        raise CheckpointError(f"{path} is of a model {name!r}{_options.suggestion(name, MODELS)}")
    make, options = MODELS[name]
    try:
        channels, height, width = about["shape"]
        model = make(_options.from_mapping(options, about["config"]), (channels, height, width))
        model.load_state_dict({**checkpoint.part("model"), **checkpoint.part("average")})
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"{path} was written by ssimgen {about.get('version')}, this is {ssimgen.__version__}: {error}"
        ) from error
    return model.eval()


def versions() -> dict[str, str]:
    """What a run's numbers depend on."""
    return {
        "ssimgen": ssimgen.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
    }
