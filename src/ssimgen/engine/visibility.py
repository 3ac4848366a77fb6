"""Who sees an operation: whether tensors are plain numbers in the memory of the CPU, which compiled code may read.

Whoever traces, transforms or intercepts operations (torch.compile, torch.func, forward-mode derivatives, dispatch
modes, tensor subclasses) must see PyTorch's operations, and no branch may look at values there.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

from ssimgen._precision import FLOATS
from ssimgen.engine.trouble import EngineWarning


@cache
def _unknown() -> bool:
    """Who cannot be asked may be there."""
    warnings.warn(
        f"PyTorch {torch.__version__} does not tell who transforms operations, so that its own do the work of compiled "
        "kernels, with the same results, several times slower: install a version of ssimgen that knows this PyTorch",
        EngineWarning,
        stacklevel=2,
    )
    return True


# PyTorch has no public names for these. Where a version has none at all, its own operations do everything.
transformed: Callable[[], bool] = getattr(torch._C, "_are_functorch_transforms_active", _unknown)
_intercepted: Callable[[], int] = getattr(torch._C, "_len_torch_dispatch_stack", _unknown)


def seen_by_others() -> bool:
    """Whether operations are traced, transformed or intercepted at this moment."""
    tracing: bool = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined]
    return tracing or transformed() or _intercepted() > 0


def may_be_launched(*images: Tensor) -> bool:
    """Whether operations of our own may take the images: compilers know their shapes, transforms not their rules."""
    if torch.compiler.is_compiling():
        return True
    return not seen_by_others() and all(_is_of_numbers(image) for image in images)


def is_plain(image: Tensor) -> bool:
    """Whether a tensor is floating-point numbers on the CPU and nothing else."""
    return image.device.type == "cpu" and image.dtype in FLOATS and _is_of_numbers(image)


def _is_of_numbers(image: Tensor) -> bool:
    return (
        type(image) in (Tensor, Parameter)
        and image.layout == torch.strided
        and forward_ad.unpack_dual(image).tangent is None
    )
