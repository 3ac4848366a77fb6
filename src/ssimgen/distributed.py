"""All pairs beyond one machine: distances, MMD and energy distance of images in dask arrays, block by block.

    import dask.array as da
    from ssimgen import distributed
    from ssimgen.metrics import StructuralDistance

    x = da.from_zarr("images.zarr")  # (n, C, H, W), floating point
    d = distributed.all_pairs(x, None, StructuralDistance(data_range=1.0))  # lazy, (n, n)
    d.to_zarr("distances.zarr")

Everything is lazy and runs on the scheduler that the caller has chosen: threads, or a `dask.distributed.Client`,
which computes the blocks of a lost worker again. The numbers are those in memory. A task holds two blocks of images
and one matrix between them, and computes in one thread, as dask expects of tasks: a worker uses as many cores as it
has threads. Needs `pip install 'ssimgen[dask]'`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssimgen import streaming
from ssimgen._extras import extra
from ssimgen._numbers import positive_integer
from ssimgen.streaming import PairFunction

with extra("dask", "ssimgen.distributed"):
    import dask.array as da

Task = Callable[[Tensor, Tensor, int, int], NDArray[Any]]
"""What is made of block i of x and block j of y."""

_MOST_POINTS = 1024  # of a block: matrices of 4 MiB in float32
_MOST_BYTES = 2**26  # of a block


def all_pairs(x: da.Array, y: da.Array | None, function: PairFunction, *, block: int | None = None) -> da.Array:
    """function(x_i, y_j) of all pairs: a lazy (n, m) dask array in chunks of `block` x `block`.

    With y=None, x is compared with itself: half the work, exactly symmetric, exact diagonal.

    Args:
        x, y: images (n, C, H, W) and (m, C, H, W), or other points along the first axis, floating point. Blocks
            are cut anew, whatever the chunks.
        function: a metric or a kernel, as `StructuralDistance(data_range=1.0)`; its `.squared` for D^2.
        block: how many points of x, and of y, a task compares: it bounds the memory of a task. By default 1024, or
            fewer where those would take more than 64 MiB.

    Raises:
        TypeError, ValueError: before any work, whatever `function` raises for points of this shape and dtype;
            arrays that are not dask's, not floating point, empty, of unknown length, or of unlike points.

    Example:
        >>> import dask.array as da
        >>> from ssimgen import distributed
        >>> from ssimgen.metrics import StructuralDistance
        >>> x = da.random.random((6, 1, 16, 16), chunks=(3, 1, 16, 16))
        >>> d = distributed.all_pairs(x, None, StructuralDistance(data_range=1.0), block=3)
        >>> d.shape, d.chunks, d.compute().diagonal().max().item()
        ((6, 6), ((3, 3), (3, 3)), 0.0)
    """
    itself = y is None
    x, y, dtype = _blocks(x, x if y is None else y, function, block)
    task: Task = partial(_upper_pairs, function=function, dtype=dtype) if itself else partial(_pairs, function=function)
    matrix = _map(task, x, y, (x.chunks[0], y.chunks[0]), dtype)
    if itself:
        matrix = matrix + matrix.T
    return matrix


def mmd2(
    x: da.Array, y: da.Array, kernel: PairFunction, *, unbiased: bool = True, block: int | None = None
) -> da.Array:
    """Squared maximum mean discrepancy of two samples: a lazy number in float64, which `float(...)` computes.

    As :func:`ssimgen.discrepancy.mmd2` of the three Gram matrices, of which only the sums of blocks are kept.

    Args:
        x, y, block: as :func:`all_pairs`.
        kernel: with its bandwidths set; `kernel.fit(torch.from_numpy(x[:1000].compute()))` takes them from a part.
        unbiased: the U-statistic, otherwise the V-statistic.

    Raises:
        TypeError, ValueError: as :func:`all_pairs`; fewer than two points with `unbiased`; and, when computed,
            kernel values that are not finite.

    Example:
        >>> import dask.array as da
        >>> from ssimgen import distributed
        >>> from ssimgen.kernels import Gaussian
        >>> from ssimgen.metrics import Euclidean
        >>> x, y = da.asarray([[0.0], [1.0]]), da.asarray([[4.0], [5.0]])
        >>> round(float(distributed.mmd2(x, y, Gaussian(Euclidean(), bandwidths=(1.0,)))), 3)
        1.207
    """
    x, y, _ = _blocks(x, y, kernel, block)
    n, m = len(x), len(y)
    streaming.check_sizes(n, m, unbiased)

    def total(task: Task, a: da.Array, b: da.Array) -> Any:
        sums = _map(task, a, b, ((1,) * a.numblocks[0], (1,) * b.numblocks[0]), np.dtype(np.float64))
        return sums.sum()

    s_xx, s_yy = (
        total(partial(_upper_sum, kernel=kernel, sample=name, diagonal=not unbiased), z, z)
        for name, z in (("x", x), ("y", y))
    )
    s_xy = total(partial(_sum, kernel=kernel), x, y)
    value: da.Array = streaming.from_sums(s_xx, s_xy, s_yy, n, m, unbiased)
    return value


def energy_distance(
    x: da.Array, y: da.Array, metric: PairFunction, *, unbiased: bool = True, block: int | None = None
) -> da.Array:
    """Energy distance of two samples: a lazy number in float64, which `float(...)` computes.

    As :func:`ssimgen.discrepancy.energy_distance` of the three distance matrices, of which only the sums of blocks are
    kept.

    Args:
        x, y, block: as :func:`all_pairs`.
        metric: D, as `StructuralDistance(data_range=1.0)`.
        unbiased: the U-statistic, otherwise the V-statistic.

    Raises:
        TypeError, ValueError: as :func:`all_pairs`; fewer than two points with `unbiased`; and, when computed,
            distances that are not finite.

    Example:
        >>> import dask.array as da
        >>> from ssimgen import distributed
        >>> from ssimgen.metrics import Euclidean
        >>> x, y = da.asarray([[0.0], [1.0]]), da.asarray([[4.0], [5.0]])
        >>> float(distributed.energy_distance(x, y, Euclidean()))
        6.0
    """
    value: da.Array = -mmd2(x, y, metric, unbiased=unbiased, block=block)  # MMD^2 with the kernel -D
    return value


def _blocks(
    x: da.Array, y: da.Array, function: PairFunction, block: int | None
) -> tuple[da.Array, da.Array, np.dtype[Any]]:
    """x and y in blocks of whole points, and the dtype of function(x, y)."""
    for name, z in (("x", x), ("y", y)):
        _check(name, z)
    if x.shape[1:] != y.shape[1:]:
        raise ValueError(f"points of x and y must have one shape, got {x.shape[1:]} and {y.shape[1:]}")
    a, b = (torch.from_numpy(np.zeros((1, *z.shape[1:]), z.dtype)) for z in (x, y))
    with torch.no_grad():
        dtype = function(a, b).numpy().dtype  # raises here what tasks would raise later
    if block is None:
        block = max(1, min(_MOST_POINTS, _MOST_BYTES // max(a.nbytes, b.nbytes)))
    sizes = {0: positive_integer("block", block, "points"), **dict.fromkeys(range(1, x.ndim), -1)}
    return x.rechunk(sizes), y.rechunk(sizes), dtype


def _check(name: str, x: da.Array) -> None:
    if not isinstance(x, da.Array):
        raise TypeError(
            f"{name} must be a dask array, got {type(x).__name__}: da.from_array(x) makes one, and for tensors in "
            "memory there are ssimgen.pairwise and ssimgen.discrepancy"
        )
    if x.ndim < 2:
        raise ValueError(f"{name} must have a sample axis and at least one more, got shape {x.shape}")
    if any(math.isnan(length) for length in x.shape):
        raise ValueError(f"the lengths of {name} are unknown, {x.shape}: call {name}.compute_chunk_sizes() first")
    if 0 in x.shape:
        raise ValueError(f"{name} is empty, shape {x.shape}: pass at least one point")
    if x.dtype.kind != "f":
        raise TypeError(
            f"{name} must be a floating-point array, got {x.dtype}: convert with {name}.astype('float32') and keep "
            "data_range in the same units (255 for bytes)"
        )


def _map(
    task: Task, x: da.Array, y: da.Array, chunks: tuple[tuple[int, ...], tuple[int, ...]], dtype: np.dtype[Any]
) -> da.Array:
    """What `task` makes of every pair of blocks, side by side as a matrix."""
    matrix: da.Array = da.map_blocks(
        _run,
        x[:, None],  # map_blocks pairs the blocks of x and y as NumPy pairs entries: by broadcasting
        y[None],
        task=task,
        drop_axis=range(2, x.ndim + 1),
        chunks=chunks,
        meta=np.empty((0, 0), dtype),
    )
    return matrix


def _run(x: NDArray[Any], y: NDArray[Any], task: Task, block_id: tuple[int, int]) -> NDArray[Any]:
    """The task on tensors (n, ...) and (m, ...), in one thread."""
    with torch.no_grad(), _one_thread():
        a, b = (torch.from_numpy(np.require(z, requirements=("C", "W"))) for z in (x[:, 0], y[0]))
        return task(a, b, *block_id)


def _pairs(x: Tensor, y: Tensor, i: int, j: int, function: PairFunction) -> NDArray[Any]:
    return function(x, y).numpy()


def _upper_pairs(x: Tensor, y: Tensor, i: int, j: int, function: PairFunction, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The matrix above the diagonal, half of it on the diagonal, zeros below: with its transpose, the whole."""
    if i > j:
        return np.zeros((len(x), len(y)), dtype)
    return function(x, y).numpy() if i < j else function(x, None).numpy() / 2


def _sum(x: Tensor, y: Tensor, i: int, j: int, kernel: PairFunction) -> NDArray[Any]:
    return np.array([[streaming.block_sum(x, y, kernel, f"block {i} of x and block {j} of y")]])


def _upper_sum(x: Tensor, y: Tensor, i: int, j: int, kernel: PairFunction, sample: str, diagonal: bool) -> NDArray[Any]:
    """Twice the sum above the diagonal, once on it, none below: together, the sum of the whole matrix."""
    total = 0.0
    if i < j:
        total = 2 * streaming.block_sum(x, y, kernel, f"blocks {i} and {j} of {sample}")
    elif i == j:
        total = streaming.block_sum(x, None, kernel, f"the points of block {i} of {sample}", diagonal)
    return np.array([[total]])


_lock = threading.Lock()
_computing = 0  # tasks in this process
_threads = 1  # of torch, while there are none


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch with one thread in this task.

    The setting is the process's in part (what new threads and MKL take): the first task changes it, the last one
    puts it back, lest a task that ends changes it under one that runs.
    """
    global _computing, _threads
    with _lock:
        if not _computing:
            _threads = torch.get_num_threads()
        _computing += 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _lock:
            _computing -= 1
            if not _computing:
                torch.set_num_threads(_threads)
