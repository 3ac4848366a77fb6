"""Losses of samples, and metrics, over two processes that hold unequal parts: what one has that holds all.

The process of the tests is the first of the two.
"""

from datetime import timedelta
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from ssimgen import Window, distance, engine, ssim
from ssimgen.batches import gathered, gathered_samples, mean_over_processes
from ssimgen.discrepancy import energy_distance, mmd2
from ssimgen.kernels import Gaussian
from ssimgen.losses import EnergyLoss, MMDLoss
from ssimgen.metrics import Euclidean
from ssimgen.torchmetrics import EnergyDistanceMetric, MMDMetric, SSIMMetric, StructuralDistanceMetric

Results = dict[str, Any]

CODES, REAL = (3, 5), (4, 2)  # points of each process
WINDOW = Window.uniform(4)
METRIC = Euclidean()
KERNEL = Gaussian(METRIC, (1.0, 3.0))
LOSSES = {
    "mmd": MMDLoss(KERNEL, gather=True),
    "unbiased": MMDLoss(KERNEL, unbiased=True, gather=True),
    "root": MMDLoss(KERNEL, root=True, gather=True),
    "energy": EnergyLoss(METRIC, gather=True),
}


def points() -> tuple[Tensor, Tensor]:
    """What all processes hold together: codes and images, the first processes' first."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(sum(CODES), 4, generator=generator)
    return codes, torch.rand(sum(REAL), 1, 8, 8, generator=generator) ** 2


def losses(codes: Tensor, real: Tensor) -> Results:
    """Of each loss the value, the gradient of a generator, and that at the real images; of one in bfloat16 too."""
    torch.manual_seed(1)
    generator = nn.Sequential(nn.Linear(4, 64), nn.Sigmoid(), nn.Unflatten(1, (1, 8, 8)))
    parameters = list(generator.parameters())
    results: Results = {}
    for name, loss, half in [*((name, loss, False) for name, loss in LOSSES.items()), ("bf16", LOSSES["mmd"], True)]:
        images = real.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            value = loss(generator(codes), images.bfloat16() if half else images)
        *of_parameters, at_images = torch.autograd.grad(value, [*parameters, images])
        gradient = mean_over_processes(torch.cat([g.flatten() for g in of_parameters]))  # as DistributedDataParallel
        results[name] = value.detach(), gradient, at_images
    return results


def gathering(rank: int) -> Results:
    """Gradients of what is gathered, parts of no points, and what is said of points of two shapes."""
    x, w = torch.ones(2, 3, requires_grad=True), torch.ones(4, 3, requires_grad=True)
    doubled = 2 * w  # before, and so differentiated after
    (gathered(x) + doubled).square().sum().backward()
    with pytest.raises(ValueError, match="points of a sample must have one shape") as caught:
        LOSSES["mmd"](torch.zeros(2, 3), torch.zeros(2, 3 + rank))
    parts = gathered_samples(torch.arange(3 * rank), torch.arange(2 - rank))
    return {"at x and w": (x.grad, w.grad), "parts": parts, "refused": str(caught.value)}


def metrics(rank: int, real: Tensor) -> Results:
    """Of pairs in batches of two, twice; of sets that one process has each, that one has both, of parts, and of points
    of two shapes."""
    of_pairs = [SSIMMetric(data_range=1.0, window=WINDOW), StructuralDistanceMetric(data_range=1.0, window=WINDOW)]
    results: Results = {}
    for time in ("once", "twice"):
        for metric in of_pairs:
            for batch in real.split(2):
                metric.update(batch, batch.sqrt() if time == "once" else batch)
        results[time] = [metric.compute() for metric in of_pairs]
    x, y = points()[1].split(REAL)
    apart = MMDMetric(KERNEL)
    apart.update(*((None, y), (x, None))[rank])
    lonely = EnergyDistanceMetric(METRIC)
    if rank == 0:
        lonely.update(x, y)
    part = EnergyDistanceMetric(METRIC, keep=2)
    part.update(real, real.flip(0))
    results["sets"] = [metric.compute() for metric in (apart, lonely, part)]
    unlike = MMDMetric(KERNEL)
    unlike.update(real[:, :, rank:], None)
    with pytest.raises(ValueError, match="points must have one shape in all processes") as caught:
        unlike.compute()
    return {**results, "unlike": str(caught.value)}


def work(rank: int, folder: str) -> Results:
    """One process of two."""
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2, timeout=timedelta(seconds=100))
    codes, real = (z.split(sizes)[rank] for z, sizes in zip(points(), (CODES, REAL), strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "_fused_pairs_can", lambda *_: False)  # no windows to compile
        results = {**losses(codes, real), **gathering(rank), **metrics(rank, real)}
    dist.destroy_process_group()
    return results


def second(_: int, folder: str) -> None:
    torch.save(work(1, folder), f"{folder}/results.pt")


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> list[Results]:
    """What each process has found."""
    folder = str(tmp_path_factory.mktemp("processes"))
    other = torch.multiprocessing.spawn(second, (folder,), join=False)
    first = work(0, folder)
    other.join()
    return [first, torch.load(f"{folder}/results.pt")]


@pytest.fixture(scope="module")
def of_one() -> Results:
    return losses(*points())


@pytest.mark.parametrize("name", [*LOSSES, "bf16"])
def test_losses_are_those_of_one_process(name: str, of_two: list[Results], of_one: Results) -> None:
    """So is the mean of the gradients of parameters; those at points are twice as large."""
    value, gradient, at_images = of_one[name]
    close = {"rtol": 0.02, "atol": 1e-3} if name == "bf16" else {"rtol": 1e-4, "atol": 1e-6}
    assert value > 0.01
    assert gradient.abs().max() > 1e-3
    for result, part in zip(of_two, at_images.split(REAL), strict=True):
        torch.testing.assert_close(result[name][0], value, **close)
        torch.testing.assert_close(result[name][1], gradient, **close)
        torch.testing.assert_close(result[name][2], 2 * part, **close)


def test_gradients_that_others_hold_are_left_alone(of_two: list[Results]) -> None:
    """Of (x + 2 w)^2, all ones: 6 and 12, and that of x from both processes."""
    for result in of_two:
        at_x, at_w = result["at x and w"]
        assert torch.equal(at_x, torch.full((2, 3), 12.0))
        assert torch.equal(at_w, torch.full((4, 3), 12.0))


def test_what_processes_tell_one_another(of_two: list[Results]) -> None:
    for result in of_two:
        x, y = result["parts"]
        assert x.tolist() == [0, 1, 2]
        assert y.tolist() == [0, 1, 0]
        assert "got (3,) in process 0 and (4,) in process 1: crop or resize" in result["refused"]
        assert result["unlike"].endswith("got [(1, 7, 8), (1, 8, 8)]: crop or resize them")


@pytest.mark.usefixtures("eager_engine")
def test_metrics_are_those_of_one_process(of_two: list[Results]) -> None:
    """Of pairs, when more has come too; and of sets, wherever their points are."""
    real = points()[1]
    x, y = real.split(REAL)
    similar = ssim(real, real.sqrt(), data_range=1.0, window=WINDOW).mean()
    far = distance(real, real.sqrt(), data_range=1.0, window=WINDOW).mean()
    for result in of_two:
        torch.testing.assert_close(result["once"], [similar, far])
        torch.testing.assert_close(result["twice"], [(1 + similar) / 2, far / 2])
        torch.testing.assert_close(result["sets"][0], mmd2(KERNEL(y), KERNEL(x, y).T, KERNEL(x)))
        torch.testing.assert_close(result["sets"][1], energy_distance(METRIC(x), METRIC(x, y), METRIC(y)))
    assert of_two[0]["sets"][2] == of_two[1]["sets"][2]
