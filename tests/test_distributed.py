"""All pairs over dask arrays: the numbers of memory, on every scheduler and when a worker is killed."""

import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import torch
from dask.distributed import Client, LocalCluster
from torch import Tensor

from ssimgen import Window, discrepancy, distributed
from ssimgen.kernels import DistanceInduced, Gaussian
from ssimgen.metrics import Euclidean, StructuralDistance

WINDOW = Window.uniform(3)
METRIC = StructuralDistance(data_range=1.0, window=WINDOW)
KERNEL = Gaussian(METRIC, (0.3, 1.0))


@pytest.fixture
def samples(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Of different sizes, neither a multiple of the blocks."""
    x = torch.rand(11, 2, 5, 6, generator=generator, dtype=torch.float64)
    y = torch.rand(7, 2, 5, 6, generator=generator, dtype=torch.float64) ** 2
    return x, y


@pytest.fixture
def arrays(samples: tuple[Tensor, Tensor]) -> tuple[da.Array, da.Array]:
    """The samples, in chunks that divide images too."""
    x, y = (z.numpy() for z in samples)
    return da.from_array(x, chunks=(5, 1, 5, 4)), da.from_array(y, chunks=(7, 2, 2, 6))


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Of a cluster of two processes."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


def test_all_pairs_are_those_in_memory(samples: tuple[Tensor, Tensor], arrays: tuple[da.Array, da.Array]) -> None:
    lazy = distributed.all_pairs(*arrays, METRIC, block=4)
    assert lazy.chunks == ((4, 4, 3), (4, 3))
    computed = lazy.compute()
    assert computed.dtype == lazy.dtype == np.float64
    np.testing.assert_allclose(computed, METRIC(*samples).numpy(), rtol=1e-12)


def test_a_sample_against_itself(samples: tuple[Tensor, Tensor], arrays: tuple[da.Array, da.Array]) -> None:
    computed = distributed.all_pairs(arrays[0], None, METRIC, block=4).compute()
    np.testing.assert_allclose(computed, METRIC(samples[0]).numpy(), rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(computed, computed.T)
    np.testing.assert_array_equal(computed.diagonal(), 0)
    gram = distributed.all_pairs(arrays[0], None, KERNEL, block=4).compute()
    np.testing.assert_array_equal(gram.diagonal(), 2)  # two bandwidths


def test_any_function_of_pairs(samples: tuple[Tensor, Tensor], arrays: tuple[da.Array, da.Array]) -> None:
    """Methods, kernels that hold tensors, and single precision, which stays."""
    kernel = DistanceInduced(Euclidean(), samples[1][:1].float())
    x, y = (z.astype(np.float32) for z in arrays)
    for function in (METRIC.squared, kernel):
        lazy = distributed.all_pairs(x, y, function, block=4)
        computed = lazy.compute()
        assert computed.dtype == lazy.dtype == np.float32
        np.testing.assert_allclose(computed, function(*(z.float() for z in samples)).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("unbiased", [True, False])
def test_discrepancies_are_those_in_memory(
    samples: tuple[Tensor, Tensor], arrays: tuple[da.Array, da.Array], unbiased: bool
) -> None:
    x, y = samples
    expected = discrepancy.mmd2(KERNEL(x), KERNEL(x, y), KERNEL(y), unbiased=unbiased)
    assert float(distributed.mmd2(*arrays, KERNEL, unbiased=unbiased, block=4)) == pytest.approx(expected.item(), 1e-12)
    expected = discrepancy.energy_distance(METRIC(x), METRIC(x, y), METRIC(y), unbiased=unbiased)
    value = distributed.energy_distance(*arrays, METRIC, unbiased=unbiased, block=4)
    assert float(value) == pytest.approx(expected.item(), 1e-12)
    assert (value.shape, value.dtype) == ((), np.float64)


def test_no_task_sees_more_than_a_block() -> None:
    """Whatever the chunks of the arrays: here one chunk of everything."""
    shapes = []

    def function(a: Tensor, b: Tensor | None) -> Tensor:
        shapes.append((len(a), None if b is None else len(b)))
        return Euclidean()(a, b)

    x = da.zeros((10, 3), chunks=-1)
    with dask.config.set(scheduler="synchronous"):
        distributed.all_pairs(x, None, function, block=4).compute()
        probe, *tasks = shapes
        assert probe == (1, 1)
        assert sorted(tasks, key=str) == [(2, None), (4, 2), (4, 2), (4, 4), (4, None), (4, None)]  # half of 3 x 3
    wide = da.zeros((9, 3, 1024, 1024), chunks=(1, -1, -1, -1), dtype=np.float32)
    assert distributed.all_pairs(wide, None, Euclidean()).chunks[0] == (5, 4)  # 12 MiB an image, 64 MiB a block
    assert distributed.all_pairs(da.zeros((1500, 3)), None, Euclidean()).chunks[0] == (1024, 476)


def test_a_task_computes_in_one_thread() -> None:
    """And leaves torch as it was, also when tasks overlap."""
    threads = torch.get_num_threads()
    both = threading.Barrier(2, timeout=30)

    def function(a: Tensor, b: Tensor | None) -> Tensor:
        if len(a) > 1:
            both.wait()
        return torch.full((len(a), len(a if b is None else b)), float(torch.get_num_threads()))

    torch.set_num_threads(3)
    try:
        x, y = da.zeros((4, 3)), da.zeros((2, 3))
        with dask.config.set(scheduler="threads", num_workers=2):
            computed = distributed.all_pairs(x, y, function, block=2).compute()
        np.testing.assert_array_equal(computed, 1)
        assert torch.get_num_threads() == 3
        assert _in_a_new_thread(torch.get_num_threads) == 3
    finally:
        torch.set_num_threads(threads)


def _in_a_new_thread(function: object) -> object:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()  # type: ignore[arg-type]


def test_on_a_cluster(client: Client, samples: tuple[Tensor, Tensor], arrays: tuple[da.Array, da.Array]) -> None:
    """Both processes, with the functions of the package sent as they are."""
    x, y = samples
    matrix, value = client.gather(
        client.compute([distributed.all_pairs(*arrays, METRIC, block=2), distributed.mmd2(*arrays, KERNEL, block=2)])
    )
    np.testing.assert_allclose(matrix, METRIC(x, y).numpy(), rtol=1e-12)
    assert value == pytest.approx(discrepancy.mmd2(KERNEL(x), KERNEL(x, y), KERNEL(y)).item(), rel=1e-12)


def test_a_worker_that_is_killed_half_way(
    client: Client, samples: tuple[Tensor, Tensor], arrays: tuple[da.Array, da.Array], tmp_path: Path
) -> None:
    """Its blocks are computed again, and the result is that of memory."""

    def slow(a: Tensor, b: Tensor | None) -> Tensor:
        time.sleep(0.05)
        (tmp_path / f"{os.getpid()} {time.monotonic_ns()}").touch()
        return METRIC(a, b)

    def done(pid: int) -> int:
        return len(list(tmp_path.glob(f"{pid} *")))

    lazy = distributed.all_pairs(*arrays, slow, block=1)  # 77 blocks
    victim = next(iter(client.run(os.getpid).values()))
    for mark in tmp_path.iterdir():
        mark.unlink()
    future = client.compute(lazy)
    while done(victim) < 10:
        time.sleep(0.01)
    os.kill(victim, signal.SIGKILL)
    before = len(list(tmp_path.iterdir()))
    assert before < 60  # half-way indeed
    computed = future.result(timeout=60)
    np.testing.assert_allclose(computed, METRIC(*samples).numpy(), rtol=1e-12)
    assert len(list(tmp_path.iterdir())) > 77  # the lost blocks twice


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask.array", None)
    monkeypatch.delitem(sys.modules, "ssimgen.distributed")
    with pytest.raises(ImportError, match=r"ssimgen.distributed needs dask: pip install 'ssimgen\[dask\]'"):
        importlib.import_module("ssimgen.distributed")


def test_two_dtypes_are_computed_in_the_wider_one() -> None:
    x = da.from_array(np.random.default_rng(0).random((4, 1, 12, 12)), chunks=(2, 1, 12, 12))
    mixed, plain = (distributed.all_pairs(x, y, KERNEL) for y in (x.astype("float32"), x))
    assert mixed.dtype == np.float64
    np.testing.assert_allclose(mixed.compute(), plain.compute(), rtol=0, atol=1e-5)


@pytest.mark.usefixtures("no_shape_checks")
class TestRefusals:
    X = da.zeros((4, 1, 8, 8), chunks=(2, 1, 8, 8))

    @pytest.mark.parametrize(
        ("y", "error", "message"),
        [
            (np.zeros((4, 1, 8, 8)), TypeError, r"y must be a dask array, got ndarray: da.from_array\(x\) makes one"),
            (X.astype("uint8"), TypeError, r"y must be a floating-point array, got uint8: convert with y.astype"),
            (X[:0], ValueError, r"y is empty, shape \(0, 1, 8, 8\): pass at least one point"),
            (X[X[:, 0, 0, 0] > 0], ValueError, r"lengths of y are unknown.*call y.compute_chunk_sizes\(\) first"),
            (X[:, :, :5], ValueError, r"points of x and y must have one shape, got \(1, 8, 8\) and \(1, 5, 8\)"),
            (X[:, 0, 0, 0], ValueError, r"y must have a sample axis and at least one more, got shape \(4,\)"),
        ],
    )
    def test_arrays(self, y: da.Array, error: type[Exception], message: str) -> None:
        for function in (distributed.all_pairs, distributed.mmd2):
            with pytest.raises(error, match=message):
                function(self.X, y, KERNEL)

    def test_before_any_work(self) -> None:
        """What the metric says of the images, and of its own options."""
        with pytest.raises(ValueError, match="window of 11 x 11 px does not fit images of 8 x 8 px"):
            distributed.all_pairs(self.X, None, StructuralDistance(data_range=1.0))
        with pytest.raises(ValueError, match="'median' are not set yet"):
            distributed.mmd2(self.X, self.X, Gaussian(METRIC, "median"))

    def test_sizes(self) -> None:
        with pytest.raises(ValueError, match="needs at least 2 points a sample, got 1 and 4: pass unbiased=False"):
            distributed.energy_distance(self.X[:1], self.X, METRIC)
        with pytest.raises(ValueError, match="block must be a whole number of points, at least 1, got 0"):
            distributed.all_pairs(self.X, None, METRIC, block=0)

    def test_pixels_that_are_not_finite(self) -> None:
        """Named by their block in a number; kept as NaN in a matrix, as in memory."""
        pixels = np.zeros((4, 1, 8, 8))
        pixels[3, 0, 0, 0] = np.nan
        y = da.from_array(pixels)
        with (
            dask.config.set(scheduler="synchronous"),
            pytest.raises(ValueError, match=r"not finite between .* 1 of y: look for NaN"),
        ):
            distributed.mmd2(self.X[:2], y, KERNEL, block=2).compute()
        matrix = distributed.all_pairs(self.X, y, METRIC, block=2).compute()
        assert np.isnan(matrix).any(axis=0).tolist() == [False, False, False, True]
