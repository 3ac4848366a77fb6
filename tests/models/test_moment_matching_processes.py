"""Moment matching over processes: two with half a batch each have the loss and the gradients of one with all of it."""

from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from ssimgen.batches import Batch, own_share
from ssimgen.models.cgmmn import CGMMN, CGMMNConfig
from ssimgen.models.code_gmmn import CodeGMMN, CodeGMMNConfig
from ssimgen.models.gmmn import GMMN, GMMNConfig
from ssimgen.models.networks import Network
from ssimgen.models.steps import Model
from ssimgen.objectives.moment_matching import LI_2015, PairKernel
from ssimgen.objectives.structure import Structure

BATCH = 8
SMALL = Network("mlp", hidden=(16,))
BLOCKS = PairKernel(structure=Structure(form="sum", window="uniform", size=7, stride=7), scales=(1.0,))
ENERGY = PairKernel("energy", "l2")
SHAPE = (1, 28, 28)


def models() -> dict[str, Model]:
    """Each loss that looks at a whole batch, with fixed weights."""
    torch.manual_seed(0)
    unbiased = GMMNConfig(network=SMALL, kernel=ENERGY, unbiased=True, root=False)
    return {
        "gmmn": GMMN(GMMNConfig(network=SMALL, kernel=LI_2015), SHAPE),
        "gmmn, relative": GMMN(GMMNConfig(network=SMALL, kernel=BLOCKS), SHAPE),
        "gmmn, unbiased": GMMN(unbiased, SHAPE),
        "code-gmmn": CodeGMMN(CodeGMMNConfig(network=SMALL, generator=SMALL), SHAPE),
        "cgmmn": CGMMN(CGMMNConfig(network=SMALL, kernel=BLOCKS), SHAPE),
        "cgmmn, halves": CGMMN(CGMMNConfig("upper_half", network=SMALL, kernel=ENERGY), SHAPE),
    }


def losses_and_gradients(batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
    """Of the last step of each model: the loss, and the gradient averaged over processes, as the training loop does."""
    results = {}
    for name, model in models().items():
        step = model.steps()[-1]
        torch.manual_seed(1)
        (loss,) = step.terms(batch).values()
        parameters = [p for module in step.modules for p in module.parameters()]
        gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])
        if dist.is_initialized():
            dist.all_reduce(gradient)
            gradient /= dist.get_world_size()
        results[name] = loss.detach(), gradient
    return results


def work(rank: int, folder: str, images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """One process of two."""
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2, timeout=timedelta(seconds=100))
    results = losses_and_gradients(Batch(own_share(images), own_share(torch.arange(BATCH) % 3)))
    dist.destroy_process_group()
    return results


def second(_: int, folder: str, images: Tensor) -> None:
    torch.set_num_threads(1)
    torch.save(work(1, folder, images), f"{folder}/results.pt")


@pytest.mark.usefixtures("no_shape_checks")
def test_two_processes_see_one_batch(digits: Tensor, tmp_path: Path) -> None:
    images, folder = digits[:BATCH].float(), str(tmp_path)
    other = torch.multiprocessing.spawn(second, (folder, images), join=False)
    of_two = [work(0, folder, images)]
    other.join()
    of_two.append(torch.load(f"{folder}/results.pt"))
    expected = losses_and_gradients(Batch(images, torch.arange(BATCH) % 3))
    for results in of_two:
        for name, (loss, gradient) in expected.items():
            torch.testing.assert_close(results[name][0], loss, msg=lambda text, name=name: f"{name}: {text}")
            error = (results[name][1] - gradient).norm() / gradient.norm()
            assert error < 1e-4, name
