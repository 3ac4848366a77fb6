"""Networks: shapes at every supported size, gradients to every weight, errors."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from ssimgen.models.networks import Network, SidesError, decoder, encoder, perceptron, score_map

SHAPES = [(1, 28, 28), (3, 32, 32), (3, 64, 64), (1, 48, 32)]
NETWORKS = [
    Network(kind, hidden=(12, 10), width=8, activation=activation, norm=norm)
    for kind, (activation, norm) in itertools.product(
        ("mlp", "conv"), (("relu", "none"), ("leaky_relu", "batch"), ("silu", "group"))
    )
]


def all_weights_moved(network: nn.Module, output: Tensor) -> bool:
    """Whether a gradient that is not zero reaches every parameter."""
    output.square().sum().backward()
    return all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("options", NETWORKS, ids=lambda n: f"{n.kind}-{n.norm}")
def test_encoders_and_decoders_have_the_promised_shapes(options: Network, shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    images = torch.rand(4, *shape)
    encode, decode = encoder(options, shape, 5), decoder(options, 5, shape)
    codes = encode(images)
    assert codes.shape == (4, 5)
    decoded = decode(torch.randn(4, 5))
    assert decoded.shape == images.shape
    assert decoded.dtype == torch.float32
    assert decoded.min() >= 0
    assert decoded.max() <= 1


@pytest.mark.parametrize("options", [n for n in NETWORKS if n.norm != "batch"], ids=lambda n: f"{n.kind}-{n.norm}")
def test_gradients_reach_every_weight(options: Network) -> None:
    torch.manual_seed(0)
    encode, decode = encoder(options, (3, 32, 32), 5), decoder(options, 5, (3, 32, 32))
    assert all_weights_moved(encode, encode(torch.rand(8, 3, 32, 32)))
    assert all_weights_moved(decode, decode(torch.randn(8, 5)))


def test_layers_of_an_mlp_are_those_of_its_options_and_mirrored_in_a_decoder() -> None:
    options = Network("mlp", hidden=(64, 32))
    sizes = [layer.weight.shape for layer in encoder(options, (1, 4, 4), 3) if isinstance(layer, nn.Linear)]
    assert sizes == [(64, 16), (32, 64), (3, 32)]
    sizes = [layer.weight.shape for layer in decoder(options, 3, (1, 4, 4)) if isinstance(layer, nn.Linear)]
    assert sizes == [(32, 3), (64, 32), (16, 64)]


def test_no_hidden_layers_is_a_linear_map() -> None:
    assert sum(isinstance(layer, nn.Linear) for layer in encoder(Network("mlp", hidden=()), (1, 4, 4), 3)) == 1


@pytest.mark.parametrize(("side", "grid"), [(28, 7), (32, 8), (64, 8), (128, 8), (4, 2)])
def test_score_maps_have_the_resolution_of_the_coarsest_layer(side: int, grid: int) -> None:
    scores = score_map(Network("conv", width=4), (3, side, side))(torch.rand(2, 3, side, side))
    assert scores.shape == (2, 1, grid, grid)


def test_score_maps_are_convolutional() -> None:
    with pytest.raises(ValueError, match="set kind='conv'"):
        score_map(Network("mlp"), (1, 28, 28))


def test_perceptrons_take_vectors_whatever_the_kind() -> None:
    assert perceptron(Network("conv", hidden=(7,)), 3, 2)(torch.rand(5, 3)).shape == (5, 2)


def test_batch_statistics_appear_only_with_batch_norm() -> None:
    for options in NETWORKS:
        layers = list(encoder(options, (1, 28, 28), 2)) + list(decoder(options, 2, (1, 28, 28)))
        found = any(isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)) for layer in layers)
        assert found == (options.norm == "batch")


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    encode = encoder(Network("mlp", dropout=0.5), (1, 28, 28), 3)
    images = torch.rand(2, 1, 28, 28)
    assert not torch.equal(encode(images), encode(images))
    encode.eval()
    assert torch.equal(encode(images), encode(images))


@pytest.mark.parametrize(("side", "size"), [(1, 2), (3, 2), (5, 4), (27, 24), (36, 32), (50, 48), (90, 80), (513, 512)])
def test_sides_that_cannot_be_halved_are_refused(side: int, size: int) -> None:
    """By an error with a side that can."""
    with pytest.raises(SidesError, match=rf"pass size={size} to scale and crop the images, or take a network of kind"):
        encoder(Network("conv"), (1, side, side + 20), 3)
    assert encoder(Network("conv"), (1, size, size), 3)(torch.rand(2, 1, size, size)).shape == (2, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "cnn"}, "kind must be one of 'mlp', 'conv', got 'cnn'"),
        ({"norm": "layer"}, "norm must be one of 'none', 'batch', 'group'"),
        ({"activation": "rleu"}, "did you mean 'relu'"),
        ({"width": 0}, "width and hidden must be at least 1"),
        ({"dropout": 1.0}, r"dropout must be a probability in \[0, 1\), got 1.0"),
    ],
)
@pytest.mark.usefixtures("no_shape_checks")
def test_bad_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Network(**options)  # type: ignore[arg-type]
