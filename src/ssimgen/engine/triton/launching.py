"""Launches of kernels for GPUs. Where Triton is missing, too old or fails, one warning says so, and others serve.

Triton looks at every argument of a call to find what it has compiled for such; for a small image that takes it longer
than the device takes. So `launch` keeps what it found, by what matters to it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

import torch
from torch import Tensor

from ssimgen.engine.trouble import EngineWarning

_LEAST_VERSION = (3, 6)
_ALIGNMENT = 16  # bytes, at multiples of which Triton reads vectors

Result = TypeVar("Result")


class LaunchError(RuntimeError):
    """Kernels did not compile, or not start. In a graph of torch.compile it is an error to the caller."""


def _why_not() -> str:
    """Why Triton cannot be used here, "" if it can."""
    try:
        import triton
    except ImportError:
        return "there is no package triton, which comes with PyTorch for GPUs"
    if tuple(int(part) for part in triton.__version__.split(".")[:2]) < _LEAST_VERSION:
        return f"triton {triton.__version__} is older than {'.'.join(map(str, _LEAST_VERSION))}"
    return ""


_trouble = _why_not()
_said = False


def kernels(name: str) -> Any:
    """A module of kernels beside this one, or None where there is no Triton."""
    return None if _trouble else import_module(f"ssimgen.engine.triton.{name}")


def possible() -> bool:
    """Whether there is no trouble so far; else it is said."""
    if _trouble:
        say(_trouble)
    return not _trouble


def launched(run: Callable[[], Result], x: Tensor) -> Result:
    """What kernels launched on the device of x give."""
    try:
        if x.is_cuda and x.device.index != torch.cuda.current_device():
            with torch.cuda.device_of(x):
                return run()
        return run()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise LaunchError(f"{type(error).__name__}: {error}") from error


_compiled: dict[tuple[Any, ...], Any] = {}


def launch(
    kernel: Any,
    grid: tuple[int, int, int],
    tensors: tuple[Tensor, ...],
    numbers: tuple[float, ...],
    constants: tuple[Any, ...],
    warps: int,
    stages: int = 3,
) -> None:
    """Starts a kernel, whose arguments are these in turn. No number is specialised: what is compiled depends on its
    constants, and on the kind of tensors.

    On the current device and stream. In Triton's interpreter, which compiles nothing, nothing is kept.
    """
    kinds = [(z.dtype, z.data_ptr() % _ALIGNMENT == 0) for z in tensors]
    key = kernel.__name__, constants, warps, stages, tensors[0].device, *kinds
    compiled = _compiled.get(key)
    if compiled is None:
        _compiled[key] = kernel[grid](*tensors, *numbers, *constants, num_warps=warps, num_stages=stages)
    else:
        compiled[grid](*tensors, *numbers, *constants)


def say(trouble: str) -> None:
    """Warn of it if nothing was said before, and take no more kernels."""
    global _trouble, _said
    _trouble = trouble
    if not _said and not torch.compiler.is_compiling():
        _said = True
        warnings.warn(
            f"the kernels for GPUs cannot run, PyTorch's operations do their work with the same results: {trouble}",
            EngineWarning,
            stacklevel=2,
        )
