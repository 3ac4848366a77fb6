"""Numbers of a request as tensors: made once for each device, so that no call waits until they are there."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ssimgen.engine.visibility import seen_by_others


def numbers(values: tuple[float, ...], like: Tensor) -> Tensor:
    """The numbers, to be read only, in the dtype and on the device of `like`.

    A copy from the memory of the host waits for all work on the device, and has no place in a CUDA graph: where a
    tensor may not be kept, because somebody traces or captures what makes it, the device fills it itself.
    """
    if like.device.type == "cpu" and seen_by_others():
        return torch.tensor(values, dtype=like.dtype)
    if seen_by_others() or _captured(like.device):
        return torch.cat([like.new_full((1,), value) for value in values])
    return _kept(values, like.dtype, like.device)


@lru_cache(maxsize=256)
def _kept(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # such tensors could not be used in training
        return torch.tensor(values, dtype=dtype, device=device)


def _captured(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()
