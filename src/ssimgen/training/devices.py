"""The devices and processes that a run is spread over: how they start, how they share the work, how they end."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any

import torch

from ssimgen._extras import extra
from ssimgen.batches import Batch, own_share, processes
from ssimgen.models.options import Hardware
from ssimgen.runs.checkpoints import CheckpointError
from ssimgen.training.errors import Interrupted, NotFiniteError, ProcessLostError


def make_fabric(hardware: Hardware, batch: int) -> Any:
    """Lightning's Fabric for the devices asked for, which share batches of this size.

    Raises:
        ValueError: they cannot share it equally, or this machine does not have them.
    """
    _check(hardware, batch)
    # the version of torchmetrics is all that Lightning wants of it, which half of this import would be
    with extra("train", "training"), _version_alone("torchmetrics"):
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


@contextmanager
def _version_alone(package: str) -> Iterator[None]:
    """What is imported here finds of a package, unless it is imported already, its version and nothing else."""
    imported = package in sys.modules
    sys.modules.setdefault(package, _named_and_numbered(package))  # type: ignore[arg-type]
    try:
        yield
    finally:
        if not imported:
            del sys.modules[package]


def _named_and_numbered(package: str) -> ModuleType | None:
    """A module with a version; None, by which Python says that there is none, for a package that is not installed."""
    module = ModuleType(package)
    try:
        module.__version__ = version(package)  # type: ignore[attr-defined]
    except PackageNotFoundError:
        return None
    return module


def _check(hardware: Hardware, batch: int) -> None:
    world = hardware.devices * hardware.num_nodes
    if batch % world:
        raise ValueError(
            f"batch must be a multiple of the {world} devices, got {batch}: "
            f"take {max(1, batch // world) * world}, or fewer devices"
        )
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


def launch(fabric: Any, hardware: Hardware) -> None:
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


class _ToldElsewhere(Exception):  # noqa: N818 - not an error of this process
    """The first process could not begin, and says why."""


@contextmanager
def one_voice(fabric: Any) -> Iterator[None]:
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


@contextmanager
def in_first_process(fabric: Any, opened: AbstractContextManager[None]) -> Iterator[None]:
    """Let the first process alone enter `opened`, for all of them: where it cannot, none goes on."""
    failure: Exception | None = None
    with ExitStack() as stack:
        if fabric.is_global_zero:
            try:
                stack.enter_context(opened)
            except (ValueError, OSError) as error:
                failure = error
        if fabric.broadcast(failure is not None):
            raise failure or _ToldElsewhere
        yield


@contextmanager
def memory_in_words() -> Iterator[None]:
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


def own_part(fabric: Any, batch: Batch) -> Batch:
    """This process's share of a batch, on its device."""
    images, labels = own_share(batch.images), None if batch.labels is None else own_share(batch.labels)
    return Batch(fabric.to_device(images), None if labels is None else fabric.to_device(labels))


def any_process(fabric: Any, told: bool) -> bool:
    """Whether any process was told to stop: all must leave at the same iteration."""
    return bool(fabric.strategy.reduce_boolean_decision(told, all=False)) if processes() > 1 else told
