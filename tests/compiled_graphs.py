"""Functions of the library below `torch.compile`, for a process without the shape checks of the tests.

Those are not there to be compiled. The backends need no compiler for C++. `python compiled_graphs.py` prints what went
wrong in each check; `python compiled_graphs.py cuda` does so of kernels for GPUs, by PyTorch's compiler for them.
"""

import json
import sys
import traceback
import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ssimgen import Window, distance, ms_ssim, pairwise, ssim
from ssimgen.components import Component
from ssimgen.kernels import Gaussian
from ssimgen.losses import EnergyLoss, MMDLoss, StructuralDistanceLoss
from ssimgen.metrics import Euclidean, StructuralDistance


def nothing_is_said_of_images_out_of_range() -> None:
    x = 255 * torch.rand(2, 1, 24, 24)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.compile(lambda x: ssim(x, x.flip(-1), data_range=1), backend="eager", fullgraph=True)(x)


def pairs() -> None:
    """Also for images of other sides, channels and ranges."""
    _of_pairs(partial(distance, window=Window.uniform(4, stride=4)), (3, 2, 15, 20))


def scales_of_pairs() -> None:
    """Also for the last batch of an epoch."""
    _of_pairs(partial(ms_ssim, window=Window.gaussian(7)), (3, 1, 14, 14))


def _of_pairs(function: Callable[..., Tensor], other: tuple[int, ...]) -> None:
    """With the backward pass in a graph too, and in the forward pass alone, for another shape and range."""

    def loss(x: Tensor, y: Tensor, length: float) -> Tensor:
        return function(x, y, data_range=length).sum()

    first = (2, 1, 14, 14), 1.0
    for backend, calls in (("aot_eager", [first]), ("eager", [first, (other, 255.0)])):
        torch.compiler.reset()
        compiled = torch.compile(loss, fullgraph=True, backend=backend)
        for shape, length in calls:
            x, y = torch.rand(2, *shape, dtype=torch.float64).requires_grad_().unbind(0)
            _same(compiled(x, y, length), loss(x, y, length), x, y)


def all_pairs() -> None:
    options = {"data_range": 1.0, "window": Window.gaussian(5, 1.0, stride=3)}

    def total(x: Tensor, y: Tensor) -> Tensor:
        return pairwise.distance(x, y, **options).sum() + pairwise.ssim(x, **options).sum()

    compiled = torch.compile(total, fullgraph=True, backend="aot_eager")
    x, y = torch.rand(2, 3, 1, 13, 12, dtype=torch.float64).requires_grad_().unbind(0)
    _same(compiled(x, y), total(x, y), x, y)


def losses_of_samples() -> None:
    """Where nobody asks whether a value is finite."""
    window = Window.gaussian(5, 1.0)
    losses = (
        EnergyLoss(StructuralDistance(1.0, window=window)),
        MMDLoss(Gaussian(Euclidean(), (1.0, 2.0)), root=True),
        MMDLoss(Gaussian(Component("structure", 1.0, window=window), (1.0,))),
    )
    x, y = torch.rand(2, 4, 1, 8, 7, dtype=torch.float64)
    for loss in losses:
        torch.testing.assert_close(torch.compile(loss, fullgraph=True, backend="eager")(x, y), loss(x, y))


def a_range_for_each_image() -> None:
    x, y, ranges = torch.rand(3, 1, 16, 16), torch.rand(3, 1, 16, 16), torch.tensor([1.0, 2.0, 3.0])
    compiled = torch.compile(ssim, backend="eager", fullgraph=True)(x, y, data_range=ranges)
    torch.testing.assert_close(compiled, ssim(x, y, data_range=ranges))


def kernels_for_gpus(device: str) -> None:
    """As operations in a graph that PyTorch compiles for the device."""

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return 2 * StructuralDistanceLoss(data_range=1.0)(x, y) + pairwise.distance(x, y, data_range=1.0).mean()

    torch.compiler.reset()
    x, y = torch.rand(2, 4, 3, 64, 66, device=device).requires_grad_().unbind(0)
    _same(torch.compile(loss, fullgraph=True)(x, y), loss(x, y), x, y)


def _same(value: Tensor, expected: Tensor, *arguments: Tensor) -> None:
    torch.testing.assert_close(value, expected)
    for pair in zip(torch.autograd.grad(value, arguments), torch.autograd.grad(expected, arguments), strict=True):
        torch.testing.assert_close(*pair)


CHECKS: tuple[Callable[[], None], ...] = (
    nothing_is_said_of_images_out_of_range,  # first: of many calls few are looked at
    pairs,
    scales_of_pairs,
    all_pairs,
    losses_of_samples,
    a_range_for_each_image,
)


def main(device: str = "cpu") -> None:
    checks = {check.__name__: check for check in CHECKS}
    wrong = {}
    for name, check in (checks if device == "cpu" else {"": partial(kernels_for_gpus, device)}).items():
        try:
            check()
        except Exception:
            wrong[name] = traceback.format_exc()
    print(json.dumps(wrong))


if __name__ == "__main__":
    main(*sys.argv[1:])
