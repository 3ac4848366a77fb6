"""How the kernels of volumes are run: which parts of which volumes are tasks of threads, and what becomes of parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssimgen.engine.fused import volume_kernels, workers
from ssimgen.engine.fused.compilation import Kernels
from ssimgen.engine.fused.pair_kernels import Request, at_once
from ssimgen.engine.spec import positions
from ssimgen.windows import Window

_Array = NDArray[Any]


class Found(NamedTuple):
    """Sums of d^2 over the positions of each volume, and extremes, (n, volumes)."""

    sums: _Array
    extremes: _Array


def values(request: Request, x: Tensor, window: Window, image: _Array) -> Found:
    """Sums of d^2, and d^2 itself in `image` if it has room, of volumes in the shape of x."""
    kernel = _kernel(volume_kernels.VALUES, x, window)
    area = image.size // (x.shape[0] * x.shape[1])

    def task(volume: int, first: int, last: int, found: tuple[_Array, ...]) -> None:
        part = volume_kernels.Part(volume * x[0, 0].numel(), first, last, volume * area)
        kernel(request, part, found, image)

    return _run(task, x, window, 1)


def gradients(request: Request, x: Tensor, window: Window, upstream: _Array, gx: _Array, gy: _Array) -> Found:
    """Sums of d^2, and the gradients of the sum, or of the sum weighted by `upstream`."""
    kernel = _kernel(volume_kernels.GRADIENTS, x, window)
    area, count = upstream.size // (x.shape[0] * x.shape[1]), positions(x, window)[0]

    def task(volume: int, first: int, last: int, found: tuple[_Array, ...]) -> None:
        part = volume_kernels.Part(volume * x[0, 0].numel(), first, last, volume * area)
        kernel(request, part, found, count, upstream, gx, gy)

    return _run(task, x, window, 4)


def _kernel(kernels: Kernels, x: Tensor, window: Window) -> Callable[..., None]:
    deep, down, across = window.axes(3)
    geometry = deep.size, down.size, across.size, deep.stride, down.stride, across.stride
    return kernels.fit(geometry, x.numel(), across.stride == 1, at_once(down), at_once(deep))


def _run(task: Callable[..., None], x: Tensor, window: Window, extremes: int) -> Found:
    """Cut volumes along their depth, where there are fewer than threads; sums of a depth do not depend on that."""
    volumes, count = x.shape[0] * x.shape[1], positions(x, window)[0]
    parts = -(-2 * torch.get_num_threads() // volumes) if torch.get_num_threads() > 1 else 1
    least = 2 * window.axes(3)[0].size  # shorter parts would compute more of their neighbours than of their own
    parts = max(1, min(parts, count // least))
    starts = [count * part // parts // 2 * 2 for part in range(parts)] + [count]  # even, as the kernels take pairs
    sums, most = np.zeros((volumes, count)), np.zeros((parts, extremes, volumes))

    def chunk(index: int) -> None:
        volume, part = divmod(index, parts)
        task(volume, starts[part], starts[part + 1], (sums[volume], *most[part, :, volume, None]))

    workers.run(chunk, volumes * parts)
    return Found(sums.sum(1), most.max(0))
