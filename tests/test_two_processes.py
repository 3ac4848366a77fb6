"""Losses of samples over two processes that hold unequal parts: the values and the gradients of one that holds all."""

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from ssimgen.batches import gathered, gathered_samples, mean_over_processes
from ssimgen.kernels import Gaussian
from ssimgen.losses import EnergyLoss, MMDLoss
from ssimgen.metrics import Euclidean

Results = dict[str, Any]

CODES, REAL = (3, 5), (4, 2)  # points of each process
KERNEL = Gaussian(Euclidean(), (1.0, 3.0))
LOSSES = {
    "mmd": MMDLoss(KERNEL, gather=True),
    "unbiased": MMDLoss(KERNEL, unbiased=True, gather=True),
    "root": MMDLoss(KERNEL, root=True, gather=True),
    "energy": EnergyLoss(Euclidean(), gather=True),
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


def work(rank: int, folder: str) -> None:
    """One process of two."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    codes, real = (z.split(sizes)[rank] for z, sizes in zip(points(), (CODES, REAL), strict=True))
    results = losses(codes, real)
    x, w = torch.ones(2, 3, requires_grad=True), torch.ones(4, 3, requires_grad=True)
    doubled = 2 * w  # before, and so differentiated after
    (gathered(x) + doubled).square().sum().backward()
    results["of two terms"] = x.grad, w.grad
    results["none of one"] = gathered_samples(torch.arange(3 * rank), torch.arange(2 - rank))
    with pytest.raises(ValueError, match="points of a sample must have one shape") as caught:
        LOSSES["mmd"](torch.zeros(2, 3), torch.zeros(2, 3 + rank))
    results["refused"] = str(caught.value)
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> list[Results]:
    """What each process has found."""
    folder = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.spawn(work, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.fixture
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
        at_x, at_w = result["of two terms"]
        assert torch.equal(at_x, torch.full((2, 3), 12.0))
        assert torch.equal(at_w, torch.full((4, 3), 12.0))


def test_what_processes_tell_one_another(of_two: list[Results]) -> None:
    for result in of_two:
        x, y = result["none of one"]
        assert x.tolist() == [0, 1, 2]
        assert y.tolist() == [0, 1, 0]
        assert "got (3,) in process 0 and (4,) in process 1: crop or resize" in result["refused"]
