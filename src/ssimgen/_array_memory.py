"""The memory of arrays as that of tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_ROWS = 32  # copied at a time


def tensor_of(array: NDArray[Any]) -> Tensor:
    """The same numbers as a tensor: without a copy where they are floating-point and lie channel by channel."""
    dtype = array.dtype.newbyteorder("=")
    if dtype.kind != "f":
        dtype = np.dtype(np.float32 if dtype.itemsize <= 2 else np.float64)  # 24 bits hold 16
    if array.flags.c_contiguous:
        whole = array.astype(dtype, copy=False)
        return torch.from_numpy(whole if whole.flags.writeable else np.asarray(_Borrowed(whole)))
    copy = np.empty(array.shape, dtype)
    for row in range(0, array.shape[2], _ROWS):  # while they are in the cache, where channels come last
        for channel in range(array.shape[1]):
            copy[:, channel, row : row + _ROWS] = array[:, channel, row : row + _ROWS]
    return torch.from_numpy(copy)


class _Borrowed:
    """Memory of an array, said to be writeable: PyTorch warns of memory that is not, and nobody here writes."""

    def __init__(self, array: NDArray[Any]) -> None:
        interface = array.__array_interface__
        self.__array_interface__ = interface | {"data": (interface["data"][0], False)}
        self.array = array  # as long as its memory is used
