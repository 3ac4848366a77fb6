"""Checkpoints: everything a run needs to go on, in one safetensors file that is written whole or not at all.

A file holds named tensors (`model.*`, `average.*`, `optimiser.<step>.<parameter>.*`) and, as JSON in its
header, which model they belong to and how far training had come. Reading one executes no code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from ssimgen._files import write_atomically

FORMAT = 1
REQUIRED = ("version", "model", "shape", "config", "iteration", "seconds", "sums", "precision")


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or of another model or format."""


@dataclass(frozen=True)
class Checkpoint:
    """The content of one file."""

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
    data = safetensors.torch.save(tensors, metadata={"ssimgen": about})
    write_atomically(path, lambda file: file.write(data))


def load(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU, or raise CheckpointError saying what is wrong with the file."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError as error:
        raise CheckpointError(f"no such run or checkpoint: {path}") from error
    except safetensors.SafetensorError as error:
        raise CheckpointError(
            f"{path} is not a checkpoint, or is truncated or damaged ({error}){_remedy(path)}"
        ) from error
    if "ssimgen" not in metadata:
        raise CheckpointError(f"{path} is a safetensors file, but not a checkpoint of ssimgen")
    about = _object(path, metadata["ssimgen"])
    if about.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} has checkpoint format {about.get('format')}, this version of ssimgen reads {FORMAT}: "
            f"it was written by ssimgen {about.get('version', 'of another version')}"
        )
    if missing := [key for key in REQUIRED if key not in about]:
        raise CheckpointError(f"{path} is a damaged checkpoint: {', '.join(missing)} missing from its header")
    return Checkpoint(tensors, about)


def _object(path: Path, text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{path} is a damaged checkpoint: its header is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is a damaged checkpoint: its header is not a JSON object")
    return content


def _remedy(path: Path) -> str:
    """What to do without this file."""
    older = [file for file in files(path.parent) if file.name < path.name]
    return f": remove it to go on from {older[-1].name}" if older else ""


def files(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, oldest first."""
    return sorted(folder.glob("[0-9]*.safetensors"))


def path_of(folder: Path, iteration: int) -> Path:
    """Where the checkpoint after `iteration` iterations is."""
    return folder / f"{iteration:08d}.safetensors"


def keep_latest(folder: Path, count: int) -> None:
    """Delete all but the latest `count` checkpoints."""
    for old in files(folder)[:-count]:
        old.unlink()
