"""Formats of numbers, and arithmetic of our own in full precision, whatever the caller's settings ask of products."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

WIDE = (torch.float32, torch.float64)
FLOATS = (torch.float16, torch.bfloat16, *WIDE)


def no_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Autocast off; nothing on a device that has none, such as "meta"."""
    known = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if known else nullcontext()


def widened(z: Tensor) -> Tensor:
    """z in float64 (which autocast leaves alone); in float32 on Apple's GPUs, which have no float64."""
    return z.float() if z.device.type == "mps" else z.double()


def dtype_of_result(*images: Tensor) -> torch.dtype:
    """The widest of the dtypes of floating-point tensors, float32 at least."""
    return torch.float64 if any(x.dtype == torch.float64 for x in images) else torch.float32


def in_common(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Floating-point tensors in the widest of their dtypes, float32 at least."""
    dtype = dtype_of_result(*tensors)
    return tuple(cast(x, dtype) for x in tensors)


def cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """x.to(dtype), without a call where there is nothing to do: of small images, those are what costs."""
    return x if x.dtype == dtype else x.to(dtype)


def where_float64_is(z: Tensor) -> Tensor:
    """z, on the CPU if its device has no float64: for sums that are numbers in the end."""
    return z.cpu() if z.device.type == "mps" else z


def for_products(z: Tensor) -> Tensor:
    """z in a dtype whose matrix products nobody rounds, in the backward pass neither: float64 where settings such as
    `torch.set_float32_matmul_precision("high")` may let those of float32 have 11 bits."""
    return z if _products_of_float32_are_full() else widened(z)


def _products_of_float32_are_full() -> bool:
    if torch.compiler.is_compiling():
        return False  # settings are not for tracing, and may change before the graph runs
    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # settings that are not the same for all devices
        return False
