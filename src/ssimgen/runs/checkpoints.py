"""Checkpoints: everything a run needs to go on, in one safetensors file that is written whole or not at all.

A file holds named tensors (`model.*`, `average.*`, `optimiser.<step>.<parameter>.*`) and in its header, as JSON, which
model they belong to and how far training had come, and the SHA-256 of the whole file with zeros in its own place.
Reading one executes no code. Files of earlier versions, without a checksum, are read all the same.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ssimgen._files import parse_json, write_atomically
from ssimgen._numbers import as_number
from ssimgen._options import from_mapping

FORMAT = 1
_ABOUT, _CHECKSUM = "ssimgen", "sha256"  # keys of the metadata
_BLANK = b"0" * 64
_BEFORE_CHECKSUM = b'"sha256":"'


class CheckpointError(ValueError):
    """A checkpoint cannot be used: it is missing, damaged, or of another model or format.

    Example:
        >>> from ssimgen.runs import CheckpointError, load_model
        >>> try:
        ...     load_model("nowhere")
        ... except CheckpointError as error:
        ...     print(error)
        no such run or checkpoint: nowhere
    """


@dataclass(frozen=True)
class _Sums:
    """Sums of logged numbers since the last line of the log, as the loop has them."""

    totals: dict[str, float]
    counts: dict[str, int]


@dataclass(frozen=True)
class _About:
    """What the header says, and the types of it."""

    format: int
    version: str
    model: str
    shape: tuple[int, int, int]
    config: dict[str, Any]
    iteration: int
    seconds: float
    sums: _Sums
    precision: dict[str, Any]
    log: str | None = None  # SHA-256 of the log so far, not in those of earlier versions
    processor_seconds: float = 0.0  # nor this


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint: named tensors, and what its header says of the run.

    Example:
        >>> import torch
        >>> from ssimgen.runs import Checkpoint
        >>> Checkpoint({"model.bias": torch.zeros(2), "average.bias": torch.ones(2)}, about={}).part("average")
        {'bias': tensor([1., 1.])}
    """

    tensors: Mapping[str, Tensor]
    about: Mapping[str, Any]

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors called `name.*`, without the prefix."""
        prefix = f"{name}."
        return {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write atomically; a full disk leaves what was there."""
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in checkpoint.tensors.items()}
    about = json.dumps({"format": FORMAT, **checkpoint.about})
    data = safetensors.torch.save(tensors, metadata={_ABOUT: about, _CHECKSUM: _BLANK.decode()})
    start = data.index(_BEFORE_CHECKSUM) + len(_BEFORE_CHECKSUM)
    signed = (data[:start], hashlib.sha256(data).hexdigest().encode(), data[start + len(_BLANK) :])
    write_atomically(path, lambda file: file.writelines(signed))


def load(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU, or raise CheckpointError saying what is wrong with the file."""
    if not path.is_file():
        raise CheckpointError(f"no such run or checkpoint: {path}")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            _check_sum(path, metadata)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except safetensors.SafetensorError as error:
        raise CheckpointError(
            f"{path} is not a checkpoint, or is truncated or damaged ({error}){_remedy(path)}"
        ) from error
    about = _about(path, metadata)
    if name := first_not_finite(tensors.items()):
        raise CheckpointError(f"{path} is of no use: {name} is not finite{_remedy(path)}")
    return Checkpoint(tensors, about)


def progress(path: Path) -> dict[str, Any]:
    """What the header of a checkpoint says, without its tensors; errors as :func:`load`, but for damaged tensors."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return _about(path, file.metadata() or {})
    except (safetensors.SafetensorError, KeyError) as error:
        raise CheckpointError(f"{path} is not a checkpoint, or is damaged ({error}){_remedy(path)}") from error


def first_not_finite(tensors: Iterable[tuple[str, Tensor]]) -> str | None:
    """The name of the first tensor with a NaN or infinite number in it."""
    return next((name for name, x in tensors if x.is_floating_point() and not torch.isfinite(x).all()), None)


def _check_sum(path: Path, metadata: Mapping[str, str]) -> None:
    if _ABOUT not in metadata:
        raise CheckpointError(f"{path} is a safetensors file, but not a checkpoint of ssimgen{_remedy(path)}")
    if metadata.keys() == {_ABOUT}:  # of an earlier version
        return
    data = path.read_bytes()
    start = data.find(_BEFORE_CHECKSUM) + len(_BEFORE_CHECKSUM)
    content = hashlib.sha256(data[:start])
    content.update(_BLANK)
    content.update(data[start + len(_BLANK) :])
    if content.hexdigest() != metadata.get(_CHECKSUM):
        raise CheckpointError(f"{path} is damaged: its content does not have its checksum{_remedy(path)}")


def _about(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """What the header says, every entry checked."""
    try:
        content = parse_json(metadata[_ABOUT])
    except ValueError as error:
        raise CheckpointError(
            f"{path} is a damaged checkpoint: its header is not JSON ({error}){_remedy(path)}"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is a damaged checkpoint: its header is not a JSON object{_remedy(path)}")
    if content.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} has checkpoint format {content.get('format')}, this version of ssimgen reads {FORMAT}: "
            f"it was written by ssimgen {content.get('version', 'of another version')}"
        )
    try:
        about = from_mapping(_About, content)
    except ValueError as error:
        raise CheckpointError(f"{path} is a damaged checkpoint: in its header, {error}{_remedy(path)}") from error
    if impossible := _impossible(about):
        raise CheckpointError(f"{path} is a damaged checkpoint: in its header, {impossible}{_remedy(path)}")
    if _NAME.fullmatch(path.name) and int(path.stem) != about.iteration:
        raise CheckpointError(
            f"{path} is not the checkpoint that it is called: its header says iteration {about.iteration}"
            f"{_remedy(path)}"
        )
    return content


def _impossible(about: _About) -> str | None:
    """What in a header has the right type and cannot be."""
    if about.iteration < 0:
        return f"iteration is {about.iteration}"
    for name in ("seconds", "processor_seconds"):
        if (seconds := as_number(getattr(about, name))) is None or seconds < 0:
            return f"{name} is {getattr(about, name)}"
    if min(about.shape) < 1:
        return f"shape is {list(about.shape)}"
    if about.sums.totals.keys() != about.sums.counts.keys() or min(about.sums.counts.values(), default=1) < 1:
        return "sums do not have a count for each total"
    return None


def _remedy(path: Path) -> str:
    """What to do without this file, if it is the latest of a run."""
    *older, latest = files(path.parent) or [Path()]
    if path != latest or path.parent.name != "checkpoints":
        return ""
    return f": remove it to go on from {older[-1].name}" if older else ": remove it to train from the beginning"


_NAME = re.compile(r"\d{8}\.safetensors")


def files(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, oldest first."""
    return sorted(file for file in folder.glob("*.safetensors") if _NAME.fullmatch(file.name))


def path_of(folder: Path, iteration: int) -> Path:
    """Where the checkpoint after `iteration` iterations is."""
    return folder / f"{iteration:08d}.safetensors"


def keep_latest(folder: Path, count: int) -> None:
    """Delete all but the latest `count` checkpoints."""
    for old in files(folder)[:-count]:
        old.unlink()
