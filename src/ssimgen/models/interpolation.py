"""Images on the way from one code to another."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ssimgen._arguments import choice

Path = Literal["spherical", "linear"]


def between(
    a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], count: int, path: Path = "spherical"
) -> Float[Tensor, "n {count} d"]:
    """`count` points from each a_i to its b_i, both included, at equal steps.

    "linear" is the straight line. Half-way between two draws from N(0, I) it passes nearer to 0, by a factor of about
    sqrt 2, than such draws ever are in many dimensions; "spherical" turns at a constant rate instead, the length
    changing evenly (White 2016, "slerp", with the angle w between a and b):

        length(t) (sin((1 - t) w) a / |a| + sin(t w) b / |b|) / sin w,     length(t) = (1 - t) |a| + t |b|.

    Raises:
        ValueError: fewer than two points.

    Example:
        >>> import torch
        >>> from ssimgen.models.interpolation import between
        >>> between(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), 3).round(decimals=3)
        tensor([[[1.0000, 0.0000],
                 [0.7070, 0.7070],
                 [0.0000, 1.0000]]])
        >>> between(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), 3, "linear")
        tensor([[[1.0000, 0.0000],
                 [0.5000, 0.5000],
                 [0.0000, 1.0000]]])
    """
    choice("path", path, ("spherical", "linear"))
    if count < 2:
        raise ValueError(f"an interpolation has at least 2 points, its ends, got {count}")
    t = torch.linspace(0, 1, count, dtype=a.dtype, device=a.device)[:, None]  # (count, 1)
    a, b = a[:, None], b[:, None]  # (n, 1, d)
    if path == "linear":
        return (1 - t) * a + t * b
    lengths = a.norm(dim=2, keepdim=True), b.norm(dim=2, keepdim=True)  # (n, 1, 1)
    u, v = (x / length.clamp_min(_TINY) for x, length in zip((a, b), lengths, strict=True))
    angle = torch.atan2((u - v).norm(dim=2, keepdim=True), (u + v).norm(dim=2, keepdim=True)) * 2  # exact near 0
    sine = angle.sin()
    turned = (torch.sin((1 - t) * angle) * u + torch.sin(t * angle) * v) / sine.clamp_min(_TINY)
    straight = (1 - t) * u + t * v  # equal or opposite directions: there is no arc, or none in particular
    direction = torch.where(sine > 1e-4, turned, straight)
    points: Tensor = ((1 - t) * lengths[0] + t * lengths[1]) * direction
    return points


_TINY = 1e-20
