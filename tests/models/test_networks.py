"""Networks: shapes at every supported size, gradients to every weight, errors."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from ssimgen.models.networks import (
    MarginalBias,
    Network,
    begin_at_marginals,
    decoder,
    encoder,
    perceptron,
    score_map,
)

SHAPES = [(1, 28, 28), (3, 32, 32), (1, 48, 32), (1, 3, 1), (3, 45, 61)]
UNITS = (("relu", "none"), ("leaky_relu", "batch"), ("silu", "group"), ("sigmoid", "none"), ("maxout", "group"))
NETWORKS = [
    Network(kind, hidden=(12, 10), width=4, activation=activation, norm=norm)
    for kind, (activation, norm) in itertools.product(("residual", "mlp", "conv"), UNITS)
]


def name(network: Network) -> str:
    return f"{network.kind}-{network.activation}"


def all_weights_moved(network: nn.Module, output: Tensor) -> bool:
    """Whether a gradient that is not zero reaches every parameter."""
    output.square().sum().backward()
    return all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("options", NETWORKS, ids=name)
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


@pytest.mark.parametrize("options", [n for n in NETWORKS if n.norm != "batch"], ids=name)
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


@pytest.mark.parametrize("kind", ["residual", "conv"])
@pytest.mark.parametrize(("side", "grid"), [(28, 7), (30, 8), (33, 5), (64, 8), (128, 8), (4, 2), (1, 1)])
def test_score_maps_have_the_resolution_of_the_coarsest_layer(kind: str, side: int, grid: int) -> None:
    scores = score_map(Network(kind, width=4), (3, side, side))(torch.rand(2, 3, side, side))  # type: ignore[arg-type]
    assert scores.shape == (2, 1, grid, grid)


def test_odd_sides_are_padded_by_the_outermost_pixels_and_cropped() -> None:
    """An encoder for 31 x 29 px is that for 32 x 32 px with pixels repeated at the borders; a decoder cuts them off."""
    torch.manual_seed(0)
    small, large = encoder(Network(width=4), (1, 31, 29), 3), encoder(Network(width=4), (1, 32, 32), 3)
    small.load_state_dict(dict(zip(small.state_dict(), large.state_dict().values(), strict=True)))
    images = torch.rand(2, 1, 31, 29)
    padded = nn.functional.pad(images, (1, 2, 0, 1), mode="replicate")
    torch.testing.assert_close(small(images), large(padded))
    drawn, whole = decoder(Network(width=4), 3, (1, 31, 29)), decoder(Network(width=4), 3, (1, 32, 32))
    drawn.load_state_dict(dict(zip(drawn.state_dict(), whole.state_dict().values(), strict=True)))
    z = torch.randn(2, 3)
    torch.testing.assert_close(drawn(z), whole(z)[:, :, :31, 1:30])


def test_networks_of_earlier_versions_are_what_they_were() -> None:
    """Their checkpoints name layers by number, and their configurations no option that is new."""
    torch.manual_seed(0)
    network = Network("conv", width=4, activation="relu", norm="batch")
    decode = decoder(network, 3, (1, 28, 28)).eval()
    before = nn.Sequential(
        nn.Linear(3, 8 * 49),
        nn.Unflatten(1, (8, 7, 7)),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 4, 4, 2, 1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.ConvTranspose2d(4, 1, 4, 2, 1),
        nn.Sigmoid(),
    ).eval()
    before.load_state_dict(decode.state_dict())
    z = torch.randn(2, 3)
    assert torch.equal(decode(z), before(z))
    assert {"input_dropout": network.input_dropout, "marginals": network.marginals} == {
        "input_dropout": 0.0,
        "marginals": False,
    }


def test_decoders_draw_no_checkerboards() -> None:
    """What they make of equal features is flat away from the borders; transposed convolutions make a pattern."""
    torch.manual_seed(0)
    spreads = {}
    for kind in ("residual", "conv"):
        decode = decoder(Network(kind, width=8), 4, (1, 16, 16))  # type: ignore[arg-type]
        with torch.no_grad():
            decode[0].weight.zero_()
            decode[0].bias.copy_(torch.randn(len(decode[0].bias) // 64).repeat_interleave(64))
            middle = decode[:-1](torch.zeros(1, 4))[..., 6:10, 6:10]  # which the borders do not reach
        spreads[kind] = (middle.std() / middle.abs().mean()).item()
    assert spreads["residual"] < 1e-6 < 0.01 < spreads["conv"]


def test_a_residual_block_adds_to_its_input() -> None:
    network = encoder(Network("residual", width=4), (1, 16, 16), 3)
    with torch.no_grad():
        for module in network.modules():
            if type(module).__name__ == "_Residual":
                module.f[-1].weight.zero_()
                module.f[-1].bias.zero_()
    plain = encoder(Network("conv", width=4), (1, 16, 16), 3)
    plain.load_state_dict(dict(zip(plain.state_dict(), _not_residual(network), strict=True)))
    images = torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(network(images), plain(images))


def _not_residual(network: nn.Module) -> list[Tensor]:
    return [value for key, value in network.state_dict().items() if ".f." not in key]


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 128, 100)])
def test_residual_networks_keep_the_variance_and_begin_at_the_mean_colour(shape: tuple[int, int, int]) -> None:
    """Through all layers, with no norm, the deeper ones too: else they learn black and stay there."""
    torch.manual_seed(0)
    images = torch.rand(8, *shape) * torch.linspace(0.2, 0.6, shape[0]).view(-1, 1, 1)
    encode, decode = encoder(Network("residual"), shape, 5), decoder(Network("residual"), 5, shape)
    begin_at_marginals(decode, images)
    features = encode[:-2](images)
    assert 0.3 < (features.square().mean() / images.square().mean()).sqrt() < 3
    pixels = decode[:-1](torch.randn(8, 5)) - decode[-2].bias
    assert 0.05 < pixels.std() < 0.5
    colours = torch.sigmoid(decode[-2].bias).flatten()
    torch.testing.assert_close(colours, (8 * images.mean((0, 2, 3)) + 0.5) / 9)


def test_a_maxout_unit_is_the_largest_of_five_linear_functions() -> None:
    torch.manual_seed(0)
    units = perceptron(Network("mlp", hidden=(3,), activation="maxout"), 2, 1)
    x = torch.randn(4, 2)
    each = (x @ units[0].weight.T + units[0].bias).reshape(4, 3, 5)
    torch.testing.assert_close(units[:2](x), each.max(2).values)


def test_dropout_of_the_input_drops_pixels_in_training_only() -> None:
    torch.manual_seed(0)
    for kind in ("residual", "mlp", "conv"):
        first = encoder(Network(kind, width=4, input_dropout=0.5), (1, 28, 28), 3)[0]  # type: ignore[arg-type]
        seen = first(torch.ones(1, 1, 28, 28))
        assert 0.4 < (seen == 0).float().mean() < 0.6
        assert torch.equal(first.eval()(torch.ones(1, 1, 28, 28)), torch.ones(1, 1, 28, 28))


@pytest.mark.parametrize("kind", ["residual", "mlp", "conv"])
def test_decoders_begin_at_the_marginals_of_the_images(kind: str) -> None:
    torch.manual_seed(0)
    images = torch.rand(30, 1, 12, 12) * torch.linspace(0, 1, 12)
    decode = decoder(Network(kind, hidden=(8,), width=4, marginals=True), 2, (1, 12, 12))  # type: ignore[arg-type]
    begin_at_marginals(nn.ModuleDict({"generator": decode}), images)
    last = next(layer for layer in decode if isinstance(layer, MarginalBias))
    torch.testing.assert_close(torch.sigmoid(last.bias), (30 * images.mean(0) + 0.5) / 31)
    assert all_weights_moved(decode, decode(torch.randn(8, 2)))


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "cnn"}, "kind must be one of 'conv', 'residual', 'mlp', got 'cnn'"),
        ({"norm": "layer"}, "norm must be one of 'none', 'batch', 'group'"),
        ({"activation": "rleu"}, "did you mean 'relu'"),
        ({"width": 0}, "width and hidden must be at least 1"),
        ({"dropout": 1.0}, r"dropout must be a probability in \[0, 1\), got 1.0"),
        ({"input_dropout": -0.1}, r"input_dropout must be a probability in \[0, 1\), got -0.1"),
    ],
)
@pytest.mark.usefixtures("no_shape_checks")
def test_bad_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Network(**options)  # type: ignore[arg-type]
