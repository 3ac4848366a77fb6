"""Encoders, decoders and discriminators of every model: multilayer perceptrons and convolutional networks.

Four functions build them from one description, :class:`Network`; each returns a plain `torch.nn.Sequential`:

    encoder(network, shape, outputs)     (B, C, H, W) -> (B, outputs)          also a discriminator, with outputs = 1
    decoder(network, inputs, shape)      (B, inputs)  -> (B, C, H, W)          in [0, 1]; also a generator
    perceptron(network, inputs, outputs) (B, inputs)  -> (B, outputs)          adversaries on codes
    score_map(network, shape, outputs)   (B, C, H, W) -> (B, outputs, h, w)    a discriminator of patches

Convolutional networks halve the image by convolutions of stride 2 until no side is longer than 8 px, and double it
again: "conv" by transposed convolutions of stride 2, which draw checkerboards (Odena, Dumoulin, Olah 2016), "residual"
by repeating pixels and convolving. Sides that cannot be halved so often are padded before, by the outermost pixels, and
cropped after. In residual networks a block x + f(x) follows at each resolution but the full one (He et al. 2016). They
learn without a norm, too: weights keep the variance from layer to layer (He et al. 2015), f begins small, and what is
drawn at the mean colour of the first batch. Begun at grey, a decoder rushes to black and stays there.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ssimgen._arguments import choice
from ssimgen.batches import Shape

_COARSEST = 8  # convolutional networks halve the image until no side is longer than this
_SMALL = 0.2  # f of a residual block, and what a network returns, begin so much smaller than what they are added to
_PIECES = 5  # linear functions of which a maxout unit takes the largest (Goodfellow et al. 2014)


@dataclass(frozen=True)
class Network:
    """What a network is made of.

    Attributes:
        kind: "conv", strided and transposed convolutions, "residual", convolutions that draw no checkerboards, with
            residual blocks, at a higher cost, or "mlp", a multilayer perceptron on flattened pixels.
        hidden: units of the hidden layers of an "mlp", in the order of an encoder; a decoder mirrors them.
        width: channels of convolutional networks at half the resolution; they double with each halving of the image.
        activation: "relu", "leaky_relu" (slope 0.2, usual in discriminators), "silu", "sigmoid" or "maxout", the
            largest of 5 linear functions (Goodfellow et al. 2013), which takes 5 times the weights.
        norm: "none", "batch" or "group" (groups of about 8 channels, an "mlp" takes layer normalisation).
            Batch statistics tie the images of a batch together and differ between devices; "group" does neither.
        dropout: probability of dropping a hidden unit (of an "mlp") or channel (of a convolutional network).
        input_dropout: probability of dropping a pixel of the images that an encoder or a discriminator sees.
        marginals: a decoder begins at the mean of the first training batch, pixel by pixel (Goodfellow et al. 2014),
            not only, as residual ones do, at its mean colour. For images that are centred, such as digits.

    Raises:
        ValueError: an option that is unknown or out of range, by its name.

    Example:
        >>> from ssimgen.models.networks import Network, encoder
        >>> network = Network("mlp", hidden=(64,), norm="group")
        >>> [type(layer).__name__ for layer in encoder(network, (1, 16, 16), outputs=8)]
        ['Flatten', 'Linear', 'GroupNorm', 'ReLU', 'Linear']
    """

    kind: Literal["conv", "residual", "mlp"] = "conv"
    hidden: tuple[int, ...] = (512, 512)
    width: int = 32
    activation: Literal["relu", "leaky_relu", "silu", "sigmoid", "maxout"] = "relu"
    norm: Literal["none", "batch", "group"] = "none"
    dropout: float = 0.0
    input_dropout: float = 0.0
    marginals: bool = False

    def __post_init__(self) -> None:
        choice("kind", self.kind, ("conv", "residual", "mlp"))
        choice("activation", self.activation, _ACTIVATIONS)
        choice("norm", self.norm, ("none", "batch", "group"))
        if self.width < 1 or any(units < 1 for units in self.hidden):
            raise ValueError(f"width and hidden must be at least 1, got width={self.width}, hidden={self.hidden}")
        for name in ("dropout", "input_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be a probability in [0, 1), got {getattr(self, name)}")


class _Maxout(nn.Module):
    """The largest of every `_PIECES` neighbouring channels: (B, 5 k, ...) -> (B, k, ...)."""

    def forward(self, x: Float[Tensor, "B pk ..."]) -> Float[Tensor, "B k ..."]:
        units: Tensor = x.unflatten(1, (-1, _PIECES)).amax(2)
        return units


class _Residual(nn.Module):
    """x + f(x)."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.f = nn.Sequential(*layers)

    def forward(self, x: Float[Tensor, "B f h w"]) -> Float[Tensor, "B f h w"]:
        added: Tensor = self.f(x)
        return added + x  # in this order, which keeps the layout in memory that convolutions return


class MarginalBias(nn.Module):
    """A bias for every pixel, or one for all of a channel, which begins at the log-odds of the mean of images.

    With n images of mean m it is log(q / (1 - q)), q = (n m + 1/2) / (n + 1), so that pixels that are always black
    have one that is finite. Its shape is (C, H, W) or (C, 1, 1).

    Example:
        >>> import torch
        >>> from ssimgen.models.networks import MarginalBias
        >>> bias = MarginalBias((1, 2, 2))
        >>> bias.fit(torch.full((99, 1, 2, 2), 0.25))
        >>> torch.sigmoid(bias(torch.zeros(1, 1, 2, 2))).mean().item()
        0.2524...
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """The log-odds x, with the bias."""
        return x + self.bias

    @torch.no_grad()
    def fit(self, images: Float[Tensor, "B C H W"]) -> None:
        """Begin at the mean of these images, in [0, 1]."""
        mean = (images.sum(0) + 0.5) / (len(images) + 1)
        self.bias.copy_(torch.logit(mean.mean((1, 2), keepdim=True) if self.bias.shape[1:] == (1, 1) else mean))


def begin_at_marginals(model: nn.Module, images: Float[Tensor, "B C H W"]) -> None:
    """Let every decoder in `model` that has a :class:`MarginalBias` begin at the mean of `images`.

    Example:
        >>> import torch
        >>> from ssimgen.models.networks import Network, begin_at_marginals, decoder
        >>> generator = decoder(Network("mlp", marginals=True), 2, (1, 4, 4))
        >>> begin_at_marginals(generator, torch.zeros(9, 1, 4, 4))
        >>> generator(torch.zeros(1, 2)).mean() < 0.1
        tensor(True)
    """
    for module in model.modules():
        if isinstance(module, MarginalBias):
            module.fit(images)


_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "maxout": _Maxout,
}


def encoder(network: Network, shape: Shape, outputs: int) -> nn.Sequential:
    """(B, C, H, W) -> (B, outputs), without a final activation; also a discriminator, with outputs = 1.

    Example:
        >>> import torch
        >>> from ssimgen.models.networks import Network, encoder
        >>> encoder(Network(width=8), (1, 17, 16), outputs=8)(torch.rand(2, 1, 17, 16)).shape
        torch.Size([2, 8])
    """
    channels, height, width = shape
    if network.kind == "mlp":
        return nn.Sequential(
            *_input_dropout(network),
            nn.Flatten(),  # (B, C H W)
            *_dense(network, (channels * height * width, *network.hidden)),
            nn.Linear(_last(network.hidden, channels * height * width), outputs),
        )
    depth, h, w = _halvings(shape)
    return _begun(
        network,
        *_halving_layers(network, shape, depth),  # (B, features, h, w)
        nn.Flatten(),  # (B, features h w)
        nn.Linear(_features(network, depth) * h * w, outputs),
    )


def decoder(network: Network, inputs: int, shape: Shape) -> nn.Sequential:
    """(B, inputs) -> (B, C, H, W) in [0, 1], by a final sigmoid; also a generator.

    Example:
        >>> import torch
        >>> from ssimgen.models.networks import Network, decoder
        >>> decoder(Network(width=8), 4, (3, 17, 16))(torch.rand(2, 4)).shape
        torch.Size([2, 3, 17, 16])
    """
    channels, height, width = shape
    end = [*_output_bias(network, shape), nn.Sigmoid()]
    if network.kind == "mlp":
        hidden = network.hidden[::-1]
        return nn.Sequential(
            *_dense(network, (inputs, *hidden)),
            nn.Linear(_last(hidden, inputs), channels * height * width),
            nn.Unflatten(1, shape),  # (B, C, H, W)
            *end,
        )
    depth, h, w = _halvings(shape)
    features = _features(network, depth)
    units = features * _spread(network)
    layers: list[nn.Module] = [
        nn.Linear(inputs, units * h * w),
        nn.Unflatten(1, (units, h, w)),  # (B, units, h, w)
        *_finish(network, units, image=True),
        *_residual(network, features),
    ]
    for level in reversed(range(1, depth)):
        finer = _features(network, level)
        layers += [*_doubling(network, features, finer * _spread(network))]
        layers += [*_finish(network, finer * _spread(network), image=True), *_residual(network, finer)]
        features = finer
    return _begun(network, *layers, *_pixels(network, features, channels), *_crop(shape), *end)


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

    Example:
        >>> import torch
        >>> from ssimgen.models.networks import Network, score_map
        >>> score_map(Network(width=8), (1, 16, 16))(torch.rand(2, 1, 16, 16)).shape
        torch.Size([2, 1, 8, 8])
    """
    if network.kind == "mlp":
        raise ValueError("a map of scores needs a convolutional network: set kind='conv'")
    depth, _, _ = _halvings(shape)
    scores = nn.Conv2d(_features(network, depth), outputs, 3, padding=1)
    return _begun(network, *_halving_layers(network, shape, depth), scores)


def _dense(network: Network, sizes: tuple[int, ...]) -> list[nn.Module]:
    """Linear layers between successive sizes, each with norm, activation and dropout."""
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        units = b * _spread(network)
        layers += [nn.Linear(a, units), *_finish(network, units, image=False)]
    return layers


def _begun(network: Network, *layers: nn.Module) -> nn.Sequential:
    """The layers in a row; residual networks with weights that keep the variance, but for what begins small."""
    if network.kind == "residual":
        for module in _weighted(*layers):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # all have one
        branches = [layer for layer in layers if isinstance(layer, _Residual)]
        for last in (_weighted(*layers)[-1], *(_weighted(branch)[-1] for branch in branches)):
            with torch.no_grad():
                last.weight.mul_(_SMALL)
    return nn.Sequential(*layers)


def _weighted(*layers: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    return [m for layer in layers for m in layer.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def _halving_layers(network: Network, shape: Shape, depth: int) -> list[nn.Module]:
    """Convolutions of stride 2, each halving the image and doubling the channels."""
    channels, layers = shape[0], _input_dropout(network)
    if any(margins := _margins(shape)):
        layers.append(nn.ReplicationPad2d(margins))
    for level in range(1, depth + 1):
        features = _features(network, level)
        units = features * _spread(network)
        layers += [nn.Conv2d(channels, units, 4, stride=2, padding=1), *_finish(network, units, image=True)]
        layers += _residual(network, features)
        channels = features
    return layers


def _residual(network: Network, features: int) -> list[nn.Module]:
    """A residual block, if the network has them; without dropout, which follows the layer before."""
    if network.kind == "conv":
        return []
    units = features * _spread(network)
    inner = [nn.Conv2d(features, units, 3, padding=1), *_norm(network, units, image=True)]
    return [_Residual(*inner, _ACTIVATIONS[network.activation](), nn.Conv2d(features, features, 3, padding=1))]


def _doubling(network: Network, features: int, outputs: int) -> list[nn.Module]:
    """(B, features, h, w) -> (B, outputs, 2 h, 2 w)."""
    if network.kind == "conv":
        return [nn.ConvTranspose2d(features, outputs, 4, stride=2, padding=1)]
    return [nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(features, outputs, 3, padding=1)]


def _pixels(network: Network, features: int, channels: int) -> list[nn.Module]:
    """(B, features, h, w) -> (B, channels, 2 h, 2 w), log-odds of pixels."""
    if network.kind == "conv":
        return _doubling(network, features, channels)
    finest = max(1, network.width // 2)
    units = finest * _spread(network)
    layers = [*_doubling(network, features, units), *_norm(network, units, image=True)]
    return [*layers, _ACTIVATIONS[network.activation](), nn.Conv2d(finest, channels, 3, padding=1)]


def _finish(network: Network, units: int, *, image: bool) -> list[nn.Module]:
    """What follows a linear or convolutional layer: norm, activation, dropout."""
    layers = [*_norm(network, units, image=image), _ACTIVATIONS[network.activation]()]
    if network.dropout:
        layers.append(nn.Dropout2d(network.dropout) if image else nn.Dropout(network.dropout))
    return layers


def _norm(network: Network, units: int, *, image: bool) -> list[nn.Module]:
    if network.norm == "batch":
        return [nn.BatchNorm2d(units) if image else nn.BatchNorm1d(units)]
    if network.norm == "group":
        groups = max(g for g in range(1, max(1, units // 8) + 1) if units % g == 0) if image else 1
        return [nn.GroupNorm(groups, units)]
    return []


def _output_bias(network: Network, shape: Shape) -> list[nn.Module]:
    if network.marginals:
        return [MarginalBias(shape)]
    return [MarginalBias((shape[0], 1, 1))] if network.kind == "residual" else []


def _input_dropout(network: Network) -> list[nn.Module]:
    return [nn.Dropout(network.input_dropout)] if network.input_dropout else []


def _spread(network: Network) -> int:
    """Outputs of a layer for each unit of the next."""
    return _PIECES if network.activation == "maxout" else 1


def _features(network: Network, level: int) -> int:
    """Channels of a convolutional network after so many halvings."""
    return network.width << level - 1


def _margins(shape: Shape) -> tuple[int, int, int, int]:
    """Pixels (left, right, top, bottom) that make the sides those which can be halved."""
    depth, h, w = _halvings(shape)
    high, wide = (h << depth) - shape[1], (w << depth) - shape[2]
    return wide // 2, wide - wide // 2, high // 2, high - high // 2


def _crop(shape: Shape) -> list[nn.Module]:
    left, right, top, bottom = _margins(shape)
    return [nn.ZeroPad2d((-left, -right, -top, -bottom))] if left + right + top + bottom else []


def _halvings(shape: Shape) -> tuple[int, int, int]:
    """(how often a convolutional network halves the image, height and width after it): 28 px -> (2, 7, 7)."""
    depth = max(1, math.ceil(math.log2(max(shape[1:]) / _COARSEST)))
    return depth, -(-shape[1] >> depth), -(-shape[2] >> depth)


def _last(sizes: tuple[int, ...], otherwise: int) -> int:
    return sizes[-1] if sizes else otherwise
