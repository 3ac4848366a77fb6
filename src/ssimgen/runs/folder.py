"""The folder of a run: its configuration, metrics, pictures and checkpoints, for one process at a time.

config.json          model, options, data with its hash, versions
metrics.jsonl        one JSON object a line: iteration, seconds, learning rate, loss terms, results of hooks
samples/             grids of samples from a fixed noise, one PNG a time
reconstructions/     fixed images, each row followed by its reconstructions
checkpoints/         the latest few, see :mod:`ssimgen.runs.checkpoints`

and what the loggers leave that were asked for: tensorboard/, csv/, wandb/, and wandb.id and mlflow.id, by which a run
that goes on is found there again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import torch
from torch import Tensor

from ssimgen import _options
from ssimgen._files import remove_temporaries, synchronise, writable_folder, write_atomically
from ssimgen._reading import CONFIG, METRICS, read_config, whole_lines
from ssimgen._version import __version__
from ssimgen.batches import Shape
from ssimgen.models import MODELS, Model
from ssimgen.models.making import make_model
from ssimgen.models.options import Hardware, Optimiser, Training
from ssimgen.runs import checkpoints
from ssimgen.runs.checkpoints import Checkpoint, CheckpointError


class _Config(typing.TypedDict):
    """What config.json says of every run; whoever starts one may add to it."""

    model: str
    shape: tuple[int, int, int]
    config: dict[str, Any]
    training: Training
    optimiser: Optimiser
    hardware: Hardware
    data: dict[str, Any]


_CHECKSUM = "sha256"  # entry of config.json: of the others


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class RunFolder:
    """The folder of a run: where its files are, and how they are written and read.

    Example:
        >>> from pathlib import Path
        >>> from ssimgen.runs import RunFolder
        >>> run = RunFolder(Path("runs/vae"))
        >>> run.latest_iteration(), run.latest()
        (0, None)
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / CONFIG
        self.metrics = path / METRICS
        self.checkpoints = path / "checkpoints"
        self._logged = hashlib.sha256()  # the log as this process knows it

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder if need be and keep other processes out; the system lifts the lock if this one dies.

        What a process that was killed left half-written is removed.
        """
        writable_folder(self.path)
        lock = filelock.FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise ValueError(
                f"another process is training in {self.path}: wait for it or choose another folder"
            ) from error
        try:
            self._tidy()
            yield
        finally:
            lock.release()

    def _tidy(self) -> None:
        for file in (self.config, self.metrics):
            remove_temporaries(self.path, file.name)
        for folder in self._folders():
            remove_temporaries(folder)

    def _folders(self) -> tuple[Path, ...]:
        return self.checkpoints, self.path / "samples", self.path / "reconstructions"

    def latest(self) -> Checkpoint | None:
        """The latest checkpoint, or None if there is none yet."""
        paths = checkpoints.files(self.checkpoints)
        return checkpoints.load(paths[-1]) if paths else None

    def latest_of(self, about: Mapping[str, Any]) -> Checkpoint | None:
        """The latest checkpoint, or None if there is none yet, for the run `about` to go on from.

        Raises:
            CheckpointError: it is damaged, or of another model.
        """
        checkpoint = self.latest()
        if checkpoint is not None:
            for name, old, new in differences(checkpoint.about, _model(about)):
                raise CheckpointError(
                    f"the latest checkpoint in {self.checkpoints} is of another run: "
                    f"it has {name} = {old!r}, not {new!r}"
                )
        return checkpoint

    def latest_iteration(self) -> int:
        """After how many iterations the latest checkpoint was written; 0 if there is none yet."""
        paths = checkpoints.files(self.checkpoints)
        return int(paths[-1].stem) if paths else 0

    def is_trained(self, training: Training) -> bool:
        """Whether the latest checkpoint is of a run as long as `training` asks for."""
        if training.seconds is None:
            return self.latest_iteration() >= training.iterations
        paths = checkpoints.files(self.checkpoints)
        return bool(paths) and checkpoints.progress(paths[-1]).get("processor_seconds", 0.0) >= training.seconds

    def save(
        self, about: Mapping[str, Any], tensors: Mapping[str, Tensor], progress: Mapping[str, Any], keep: int
    ) -> None:
        """Write a checkpoint of the run `about`, which had come as far as `progress` says; keep the latest few."""
        header = {"version": __version__, **_model(about), **progress, "log": self._kept_log()}
        path = checkpoints.path_of(self.checkpoints, progress["iteration"])
        checkpoints.save(path, Checkpoint(tensors, header))
        checkpoints.keep_latest(self.checkpoints, keep)

    @contextmanager
    def opened(self, about: Mapping[str, Any], *, resume: bool) -> Iterator[None]:
        """Begin the run `about`, or see that it may go on here (`resume`); keep other processes out as long.

        Raises:
            ValueError: there is a run, or to resume none, a damaged one or one of other options or data; it is in use.
        """
        with self.locked():
            if resume:
                self._check_agreement(about)
            else:
                self._begin(about)
            yield

    def _check_agreement(self, about: Mapping[str, Any]) -> None:
        for name, old, new in differences(self.read_config(), must_agree(about)):
            raise ValueError(f"{self.path} was trained with {name} = {old!r}, it cannot go on with {new!r}")

    def _begin(self, about: Mapping[str, Any]) -> None:
        if self.config.exists() or checkpoints.files(self.checkpoints):
            raise ValueError(f"{self.path} already holds a run: resume it, or choose another folder")
        for folder in self._folders():
            folder.mkdir(exist_ok=True)
        self.write_config(about)

    def abandon(self) -> None:
        """Undo the beginning of a run that never took its first iteration."""
        self.config.unlink()
        for folder in self._folders():
            folder.rmdir()
        (self.path / ".lock").unlink()
        if not any(self.path.iterdir()):
            self.path.rmdir()

    def write_config(self, about: Mapping[str, Any]) -> None:
        """Write config.json, with a checksum."""
        content = {**about, "versions": versions()}
        text = json.dumps({**content, _CHECKSUM: _checksum(content)}, indent=2) + "\n"
        write_atomically(self.config, lambda file: file.write(text.encode()))

    def read_config(self) -> dict[str, Any]:
        """Read config.json, every entry of which that :class:`_Config` names is there and of its type.

        Raises:
            ValueError: there is no run, or its configuration is damaged.
        """
        content = read_config(self.path)
        hints = typing.get_type_hints(_Config)
        if missing := [key for key in hints if key not in content]:
            raise ValueError(f"{self.config} is damaged: {', '.join(missing)} missing")
        try:
            _options.check(hints, {key: _with_loggers(content)[key] for key in hints})
        except ValueError as error:
            raise ValueError(f"{self.config} is damaged: {error}") from error
        if content.pop(_CHECKSUM, None) not in (None, _checksum(content)):  # None: of an earlier version
            raise ValueError(f"{self.config} is damaged: its content does not have its checksum: restore it")
        return _with_loggers(content)

    def log(self, line: Mapping[str, float]) -> None:
        """Append a line to metrics.jsonl."""
        text = json.dumps(line) + "\n"
        with self.metrics.open("a") as file:
            file.write(text)
        self._logged.update(text.encode())

    def _kept_log(self) -> str:
        """Force the log so far to disk, before a checkpoint relies on it; returns its checksum."""
        if self.metrics.exists():
            synchronise(self.metrics)
        return self._logged.hexdigest()

    def restore_log(self, iteration: int, checksum: str | None) -> None:
        """Drop what a run resumed after `iteration` will write again, and a torn line; a removed log is not missed.

        Raises:
            ValueError: a line is damaged, or what is left does not have the checksum, unless that is None.
        """
        if not self.metrics.exists():
            return
        lines = whole_lines(self.metrics)
        kept = b"".join(line + b"\n" for line, content in lines if content["iteration"] <= iteration)
        self._logged = hashlib.sha256(kept)
        if checksum not in (None, self._logged.hexdigest()):
            raise ValueError(
                f"{self.metrics} is damaged: its lines up to iteration {iteration} are not those that were written: "
                "restore it, or remove it to go on without"
            )
        write_atomically(self.metrics, lambda file: file.write(kept))


def _with_loggers(about: dict[str, Any]) -> dict[str, Any]:
    """What a run says of itself; one of 0.1 says whether TensorBoard gets its lines, instead of who does."""
    training = dict(about["training"])
    tensorboard = training.pop("tensorboard", None)
    if tensorboard is None:
        return about
    return {**about, "training": {**training, "loggers": ["tensorboard"] if tensorboard else []}}


def _model(about: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of its run: all it takes to make the model again."""
    return {key: about[key] for key in ("model", "shape", "config")}


def must_agree(about: Mapping[str, Any]) -> dict[str, Any]:
    """What a resumed run shares with the one that it continues; length, logging and devices may change."""
    return {
        "model": about["model"],
        "shape": about["shape"],
        "data": {"hash": about["data"].get("hash")},
        "config": about["config"],
        "optimiser": about["optimiser"],
        "training": {key: about["training"][key] for key in ("batch", "seed", "ema")},
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(name, value before, value now) of what `now` has otherwise than `before`, which comes from JSON."""
    before = _with_later_options(before)
    for section, new in json.loads(json.dumps(now)).items():
        old = before.get(section)
        if not isinstance(new, dict):
            compared = [(section, old, new)]
        else:
            old = old if isinstance(old, dict) else {}
            compared = [(f"{section}.{key}", old.get(key), value) for key, value in new.items()]
        yield from ((name, a, b) for name, a, b in compared if a != b)


def _with_later_options(about: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a run says of itself; options that its version did not know have their defaults, which do nothing."""
    name, config = about.get("model"), about.get("config")
    if name not in MODELS or not isinstance(config, dict):
        return about
    try:
        complete: Any = _options.from_mapping(MODELS[name][1], config)
    except ValueError:  # which then differs
        return about
    return {**about, "config": json.loads(json.dumps(dataclasses.asdict(complete)))}


def load_model(path: Path | str, make: Callable[[Any, Shape], Model] | None = None) -> Model:
    """The trained model of a run folder, or of one checkpoint file, ready to sample (with averaged weights if kept).

    Args:
        path: a run folder or a checkpoint.
        make: the function of options and shape that made the model, if it has networks of your own.

    Raises:
        CheckpointError: no checkpoint, a damaged one, one of a model that this version does not know, or with networks
            of your own without `make`.

    Example:
        >>> import torch
        >>> from pathlib import Path
        >>> from ssimgen.data import Images
        >>> from ssimgen.models import VAE, VAEConfig, make_model
        >>> from ssimgen.models.networks import Network
        >>> from ssimgen.runs import load_model
        >>> from ssimgen.training import Training, train
        >>> images = Images(torch.rand(40, 1, 12, 12), None, "noise")
        >>> config = VAEConfig(0.1, objective="l2", network=Network("mlp", hidden=(8,)))
        >>> model = make_model(VAE, config, images.shape, seed=0)
        >>> train(model, images, Path("run"), training=Training(iterations=1, batch=8))
        vae 1/1 ...
        >>> load_model("run").sample(4, torch.Generator().manual_seed(0)).shape
        torch.Size([4, 1, 12, 12])
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
    usual, options = MODELS[name]
    try:
        config: Any = _options.from_mapping(options, about["config"])
        model = make_model(make or usual, config, tuple(about["shape"]), training=False)
        model.load_state_dict({**checkpoint.part("model"), **checkpoint.part("average")})
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} was written by ssimgen {about.get('version')}, this is {__version__}, and its networks are not "
            "those of its options: if they are your own, pass load_model the function that makes the model"
        ) from error
    except ValueError as error:
        raise CheckpointError(
            f"{path} was written by ssimgen {about.get('version')}, this is {__version__}: {error}"
        ) from error
    return model.eval()


def versions() -> dict[str, str]:
    """What a run's numbers depend on."""
    return {
        "ssimgen": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
    }
