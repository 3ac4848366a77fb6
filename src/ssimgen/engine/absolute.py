"""Sums of absolute differences of all pairs of vectors, whose second derivatives exist, as those of torch.cdist do not.

In blocks of pairs: some devices hold all differences of a block at once in the backward pass. So does the backward
pass that is itself differentiated, of one block after another.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ssimgen._precision import no_autocast
from ssimgen.engine.eager_all_pairs import by_blocks, recomputed
from ssimgen.engine.spec import Advance

_BLOCK = 2**24  # differences of one block


def absolute_all_pairs(
    x: Float[Tensor, "n F"], y: Float[Tensor, "m F"] | None, advance: Advance | None = None
) -> Float[Tensor, "n m"]:
    """sum |x_i - y_j| of all pairs; y = None is x against itself, exactly symmetric, with a diagonal of 0.

    NaN for vectors that hold NaN. Where two numbers are equal, the derivative of their difference is 0.
    """

    def block(x: Tensor, y: Tensor | None) -> Tensor:
        sums: Tensor = _AbsoluteSums.apply(x, x if y is None else y)
        return sums

    with no_autocast(x.device):
        return by_blocks(x, y, max(1, math.isqrt(_BLOCK // x.shape[1])), block, advance)


class _AbsoluteSums(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, y: Tensor) -> Tensor:
        return torch.cdist(x, y, p=1.0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor]:
        x, y = ctx.saved_tensors
        if torch.is_grad_enabled():
            return recomputed(_by_signs, upstream, x, y)
        with torch.enable_grad():
            pair = x.detach().requires_grad_(), y.detach().requires_grad_()
            g_x, g_y = torch.autograd.grad(torch.cdist(*pair, p=1.0), pair, upstream)
        return g_x, g_y


def _by_signs(upstream: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients to x and y of the sum of |x - y| times `upstream`, as operations that PyTorch differentiates."""
    slopes = upstream[:, :, None] * (x[:, None] - y).sign()
    return slopes.sum(1), -slopes.sum(0)
