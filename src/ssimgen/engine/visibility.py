"""Who sees an operation: whether tensors are plain numbers in the memory of the CPU, which compiled code may read.

Whoever traces, transforms or intercepts operations (torch.compile, torch.func, forward-mode derivatives, dispatch
modes, tensor subclasses) must see PyTorch's operations, and no branch may look at values there.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

from ssimgen._precision import FLOATS


def seen_by_others() -> bool:
    """Whether operations are traced, transformed or intercepted at this moment."""
    return (
        torch.compiler.is_compiling()
        or torch._C._is_tracing()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack() > 0
    )


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
