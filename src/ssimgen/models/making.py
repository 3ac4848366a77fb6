"""Models with new weights, the one place where they are made; and with networks of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from ssimgen._memory import check_fits
from ssimgen._shown import first_line
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
        raise ValueError(f"a network of this size cannot be made ({first_line(error)}): {_REMEDY}") from error
    network = f"{'training ' if training else ''}a network of {weights / 1e9:.3g} GB of weights"
    check_fits(weights * (_COPIES if training else 1), network, _REMEDY)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make(config, shape)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]  # faster convolutions


def with_networks(model: M, **own: nn.Module) -> M:
    """The model with networks of your own in place of some of those that its options describe.

    They take and return what those do that they replace, images in [0, 1] or vectors. To train such a model, and to
    load it again, pass a function that makes it to :func:`make_model` and :func:`ssimgen.runs.load_model`.

    Args:
        model: of :mod:`ssimgen.models`; it is changed.
        own: networks by the names of sub-modules of the model: encoder, decoder, generator, discriminator.

    Raises:
        ValueError: no network of that name, or one that takes or returns other shapes.

    Example:
        >>> from torch import nn
        >>> from ssimgen.models import VAE, VAEConfig, make_model, with_networks
        >>> def make(config, shape):
        ...     layers = nn.Linear(config.latent, 256), nn.Sigmoid(), nn.Unflatten(1, shape)
        ...     return with_networks(VAE(config, shape), decoder=nn.Sequential(*layers))
        >>> make_model(make, VAEConfig(tau=6.5e-3), (1, 16, 16), seed=1).sample(4).shape
        torch.Size([4, 1, 16, 16])
    """
    networks = {name: child for name, child in model.named_children() if any(True for _ in child.parameters())}
    for name, network in own.items():
        if name not in networks:
            raise ValueError(f"a {model.name} has no network {name!r}: its networks are {', '.join(networks)}")
        given = _given_to(networks[name], model.shape)
        wanted, returned = _returned(networks[name], given), _returned(network, given)
        if wanted != returned:
            raise ValueError(f"{name} must return {wanted} for what is {given}, and it returns {returned}")
        setattr(model, name, network)
    return model


def _given_to(network: nn.Module, shape: Shape) -> tuple[int, ...]:
    """The shape of two points that a network of a model takes: vectors if it begins with a linear layer, or images."""
    first = next(layer for layer in network.modules() if not [*layer.children()])
    return (2, first.in_features) if isinstance(first, nn.Linear) else (2, *shape)


@torch.no_grad()
def _returned(network: nn.Module, given: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of what a network returns, which is left as it was."""
    device, training = next((p.device for p in network.parameters()), torch.device("cpu")), network.training
    try:
        with device:  # models are first made without memory, on a device of its own
            return tuple(network.eval()(torch.zeros(given)).shape)
    except RuntimeError as error:
        raise ValueError(f"a network that takes {given} is needed, and this one fails: {first_line(error)}") from error
    finally:
        network.train(training)


_REMEDY = "take fewer classes, a smaller latent, features, width or hidden, or smaller images"
