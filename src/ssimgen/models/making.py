"""Models with new weights, the one place where they are made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

from ssimgen._memory import check_fits
from ssimgen.batches import Shape
from ssimgen.models.steps import Model

M = TypeVar("M", bound=Model)

_COPIES = 4  # of the weights in training: they, their gradients, and two moments of Adam


def make_model(
    make: Callable[[Any, Shape], M], config: Any, shape: Shape, seed: int = 0, *, training: bool = True
) -> M:
    """The model `make(config, shape)`, as `make_model(VAE, VAEConfig(tau=5e-4), (1, 28, 28), seed=1)`.

    Its weights are a function of the seed alone, that of :class:`Training`; the caller's random numbers are left alone.

    Args:
        make: a class of :mod:`ssimgen.models`, or another function that makes a model.
        config: its options.
        shape: (channels, height, width) of the images.
        seed: fixes the weights.
        training: there must be memory for training, not only for drawing images.

    Raises:
        ValueError: options that do not fit the images, or a network that does not fit into memory.

    Example:
        >>> import torch
        >>> from ssimgen.models import VAE, VAEConfig, make_model
        >>> first, second = (make_model(VAE, VAEConfig(tau=6.5e-3), (1, 16, 16), seed=1) for _ in range(2))
        >>> torch.equal(first.encoder[0].weight, second.encoder[0].weight)
        True
    """
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            weights = sum(p.numel() * p.element_size() for p in make(config, shape).parameters())
    except (RuntimeError, TypeError, OverflowError, MemoryError) as error:  # sizes beyond 64 bits
        raise ValueError(f"a network of this size cannot be made ({_first_line(error)}): {_REMEDY}") from error
    network = f"{'training ' if training else ''}a network of {weights / 1e9:.3g} GB of weights"
    check_fits(weights * (_COPIES if training else 1), network, _REMEDY)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(config, shape)


_REMEDY = "take fewer classes, a smaller latent, features, width or hidden, or smaller images"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
