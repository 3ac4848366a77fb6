"""Encoders, decoders and discriminators of every model: multilayer perceptrons and convolutional networks.

Four functions build them from one description, :class:`Network`; each returns a plain `torch.nn.Sequential`:

    encoder(network, shape, outputs)     (B, C, H, W) -> (B, outputs)          also a discriminator, with outputs = 1
    decoder(network, inputs, shape)      (B, inputs)  -> (B, C, H, W)          in [0, 1]; also a generator
    perceptron(network, inputs, outputs) (B, inputs)  -> (B, outputs)          adversaries on codes
    score_map(network, shape, outputs)   (B, C, H, W) -> (B, outputs, h, w)    a discriminator of patches
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import nn

from ssimgen._arguments import choice
from ssimgen.batches import Shape

_COARSEST = 8  # convolutional networks halve the image until no side is longer than this


class SidesError(ValueError):
    """What is wrong with the sides of images, and a `size` to which they can be scaled and cropped.

    Example:
        >>> from ssimgen.models.networks import Network, SidesError, encoder
        >>> try:
        ...     encoder(Network(), (1, 30, 30), outputs=8)
        ... except SidesError as error:
        ...     print(error.size)
        28
    """

    def __init__(self, problem: str, size: int) -> None:
        super().__init__(f"{problem}: pass size={size} to scale and crop the images, or take a network of kind mlp")
        self.problem, self.size = problem, size


@dataclass(frozen=True)
class Network:
    """What a network is made of.

    Attributes:
        kind: "mlp", a multilayer perceptron on flattened pixels, or "conv", a convolutional network.
        hidden: units of the hidden layers of an "mlp", in the order of an encoder; a decoder mirrors them.
        width: channels of the finest layer of a "conv"; they double with each halving of the image.
        activation: "relu", "leaky_relu" (slope 0.2, usual in discriminators) or "silu".
        norm: "none", "batch" or "group" (groups of about 8 channels, an "mlp" takes layer normalisation).
            Batch statistics tie the images of a batch together and differ between devices; "group" does neither.
        dropout: probability of dropping a hidden unit (of an "mlp") or channel (of a "conv").

    Raises:
        ValueError: an option that is unknown or out of range, by its name.

    Example:
        >>> from ssimgen.models.networks import Network, encoder
        >>> network = Network("mlp", hidden=(64,), norm="group")
        >>> [type(layer).__name__ for layer in encoder(network, (1, 16, 16), outputs=8)]
        ['Flatten', 'Linear', 'GroupNorm', 'ReLU', 'Linear']
    """

    kind: Literal["mlp", "conv"] = "conv"
    hidden: tuple[int, ...] = (512, 512)
    width: int = 32
    activation: Literal["relu", "leaky_relu", "silu"] = "relu"
    norm: Literal["none", "batch", "group"] = "none"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        choice("kind", self.kind, ("mlp", "conv"))
        choice("activation", self.activation, _ACTIVATIONS)
        choice("norm", self.norm, ("none", "batch", "group"))
        if self.width < 1 or any(units < 1 for units in self.hidden):
            raise ValueError(f"width and hidden must be at least 1, got width={self.width}, hidden={self.hidden}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be a probability in [0, 1), got {self.dropout}")


_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "silu": nn.SiLU,
}


def encoder(network: Network, shape: Shape, outputs: int) -> nn.Sequential:
    """(B, C, H, W) -> (B, outputs), without a final activation; also a discriminator, with outputs = 1.

    Raises:
        SidesError: a convolutional network, and sides that cannot be halved to 8 px or less.

    Example:
        >>> import torch
        >>> from ssimgen.models.networks import Network, encoder
        >>> encoder(Network(width=8), (1, 16, 16), outputs=8)(torch.rand(2, 1, 16, 16)).shape
        torch.Size([2, 8])
    """
    channels, height, width = shape
    if network.kind == "mlp":
        return nn.Sequential(
            nn.Flatten(),  # (B, C H W)
            *_dense(network, (channels * height * width, *network.hidden)),
            nn.Linear(_last(network.hidden, channels * height * width), outputs),
        )
    depth, h, w = _halvings(shape)
    features = network.width * 2 ** (depth - 1)
    return nn.Sequential(
        *_halving_layers(network, channels, depth),  # (B, features, h, w)
        nn.Flatten(),  # (B, features h w)
        nn.Linear(features * h * w, outputs),
    )


def decoder(network: Network, inputs: int, shape: Shape) -> nn.Sequential:
    """(B, inputs) -> (B, C, H, W) in [0, 1], by a final sigmoid; also a generator.

    Raises:
        SidesError: a convolutional network, and sides that cannot be halved to 8 px or less.

    Example:
        >>> import torch
        >>> from ssimgen.models.networks import Network, decoder
        >>> decoder(Network(width=8), 4, (3, 16, 16))(torch.rand(2, 4)).shape
        torch.Size([2, 3, 16, 16])
    """
    channels, height, width = shape
    if network.kind == "mlp":
        hidden = network.hidden[::-1]
        return nn.Sequential(
            *_dense(network, (inputs, *hidden)),
            nn.Linear(_last(hidden, inputs), channels * height * width),
            nn.Sigmoid(),
            nn.Unflatten(1, shape),  # (B, C, H, W)
        )
    depth, h, w = _halvings(shape)
    features = network.width * 2 ** (depth - 1)
    layers: list[nn.Module] = [
        nn.Linear(inputs, features * h * w),
        nn.Unflatten(1, (features, h, w)),  # (B, features, h, w)
        *_finish(network, features, image=True),
    ]
    for finer in (network.width * 2**i for i in reversed(range(depth - 1))):
        layers += [nn.ConvTranspose2d(features, finer, 4, stride=2, padding=1), *_finish(network, finer, image=True)]
        features = finer
    layers += [nn.ConvTranspose2d(features, channels, 4, stride=2, padding=1), nn.Sigmoid()]  # (B, C, H, W)
    return nn.Sequential(*layers)


def perceptron(network: Network, inputs: int, outputs: int) -> nn.Sequential:
    """(B, inputs) -> (B, outputs): the hidden layers of `network` whatever its kind, for vectors.

    Example:
        >>> import torch
        >>> from ssimgen.models.networks import Network, perceptron
        >>> perceptron(Network("mlp", hidden=(64, 64)), 4, 1)(torch.rand(2, 4)).shape
        torch.Size([2, 1])
    """
    return nn.Sequential(*_dense(network, (inputs, *network.hidden)), nn.Linear(_last(network.hidden, inputs), outputs))


def score_map(network: Network, shape: Shape, outputs: int = 1) -> nn.Sequential:
    """(B, C, H, W) -> (B, outputs, h, w), a score for each patch of the image; convolutional only.

    Raises:
        ValueError: a network of another kind.
        SidesError: sides that cannot be halved to 8 px or less.

    Example:
        >>> import torch
        >>> from ssimgen.models.networks import Network, score_map
        >>> score_map(Network(width=8), (1, 16, 16))(torch.rand(2, 1, 16, 16)).shape
        torch.Size([2, 1, 8, 8])
    """
    if network.kind != "conv":
        raise ValueError("a map of scores needs a convolutional network: set kind='conv'")
    depth, _, _ = _halvings(shape)
    features = network.width * 2 ** (depth - 1)
    return nn.Sequential(*_halving_layers(network, shape[0], depth), nn.Conv2d(features, outputs, 3, padding=1))


def _dense(network: Network, sizes: tuple[int, ...]) -> list[nn.Module]:
    """Linear layers between successive sizes, each with norm, activation and dropout."""
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), *_finish(network, b, image=False)]
    return layers


def _halving_layers(network: Network, channels: int, depth: int) -> list[nn.Module]:
    """Convolutions of stride 2, each halving the image and doubling the channels."""
    layers: list[nn.Module] = []
    for features in (network.width * 2**i for i in range(depth)):
        layers += [nn.Conv2d(channels, features, 4, stride=2, padding=1), *_finish(network, features, image=True)]
        channels = features
    return layers


def _finish(network: Network, features: int, *, image: bool) -> list[nn.Module]:
    """What follows a linear or convolutional layer: norm, activation, dropout."""
    layers: list[nn.Module] = []
    if network.norm == "batch":
        layers.append(nn.BatchNorm2d(features) if image else nn.BatchNorm1d(features))
    elif network.norm == "group":
        groups = max(g for g in range(1, max(1, features // 8) + 1) if features % g == 0) if image else 1
        layers.append(nn.GroupNorm(groups, features))
    layers.append(_ACTIVATIONS[network.activation]())
    if network.dropout:
        layers.append(nn.Dropout2d(network.dropout) if image else nn.Dropout(network.dropout))
    return layers


def _halvings(shape: Shape) -> tuple[int, int, int]:
    """(how often a convolutional network halves the image, height and width after it): 28 px -> (2, 7, 7)."""
    depth, (_, h, w) = 0, shape
    while depth == 0 or max(h, w) > _COARSEST:
        if h % 2 or w % 2:
            raise SidesError(
                f"convolutional networks halve the image until no side is longer than {_COARSEST} px, but "
                f"{shape[1]} x {shape[2]} px becomes {h} x {w}",
                _fitting_size(min(shape[1:])),
            )
        depth, h, w = depth + 1, h // 2, w // 2
    return depth, h, w


def _fitting_size(side: int) -> int:
    """The longest side up to `side`, and at least 2 px, of square images that convolutional networks can halve."""
    halvings = max(1, math.ceil(math.log2(max(side, 2) / _COARSEST)))
    return max(2, side >> halvings << halvings)


def _last(sizes: tuple[int, ...], otherwise: int) -> int:
    return sizes[-1] if sizes else otherwise
