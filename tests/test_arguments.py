"""What strangers pass by mistake to the functions of image pairs, and what they are told.

Every function refuses with a TypeError or ValueError that names the argument, shows what came, and says what to do.
"""

import math
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ssimgen import Window, distance, ms_ssim, pairwise, presets, ssim, ssim_map, streaming
from ssimgen.components import PARTS, Component
from ssimgen.discrepancy import MeanEmbedding, cmmd2, embedded_mmd2, energy_distance, mmd2, two_sample_test
from ssimgen.kernels import SSIM, DistanceInduced, Gaussian, Laplacian, centred_gram
from ssimgen.losses import EnergyLoss, MMDLoss, MSSSIMLoss, SSIMLoss, StructuralDistanceLoss
from ssimgen.metrics import Euclidean, StructuralDistance

pytestmark = pytest.mark.usefixtures("eager_engine", "no_shape_checks")

Function = Callable[..., torch.Tensor]


def loss(module: type) -> Function:
    def call(x: Any, y: Any, **options: Any) -> torch.Tensor:
        return module(**options)(x, y)

    call.__name__ = module.__name__
    return call


PAIRS: list[Function] = [
    ssim,
    ssim_map,
    ms_ssim,
    distance,
    presets.wang_2004,
    presets.scikit_image,
    presets.tensorflow_ms_ssim,
    loss(SSIMLoss),
    loss(MSSSIMLoss),
    loss(StructuralDistanceLoss),
]
ALL_PAIRS: list[Function] = [pairwise.ssim, pairwise.distance]
WITH_WINDOW = [f for f in PAIRS + ALL_PAIRS if f not in (presets.wang_2004, presets.scikit_image)]
WITH_CONSTANTS = [f for f in WITH_WINDOW if f is not presets.tensorflow_ms_ssim]

each_pair = pytest.mark.parametrize("function", PAIRS, ids=lambda f: f.__name__)
each = pytest.mark.parametrize("function", PAIRS + ALL_PAIRS, ids=lambda f: f"{f.__module__}.{f.__name__}")
each_with_window = pytest.mark.parametrize("function", WITH_WINDOW, ids=lambda f: f"{f.__module__}.{f.__name__}")


def refused(kind: type[Exception], text: str, function: Function, *images: Any, **options: Any) -> None:
    """The call raises `kind` with `text`, all of it."""
    with pytest.raises(kind, match=f"^{re.escape(text)}$"):
        function(*images, **options)


GOOD = torch.rand(2, 1, 192, 192, generator=torch.Generator().manual_seed(0))  # five scales fit


def good(function: Function) -> torch.Tensor:
    """Images for the function to compute with: small ones for all pairs, whose kernels are compiled for a size."""
    return GOOD[..., :28, :28] if function in ALL_PAIRS else GOOD


def test_good_arguments_pass() -> None:
    """So that a refusal below is of the one argument that is changed."""
    for function in PAIRS + ALL_PAIRS:
        assert function(good(function), good(function).flip(0), data_range=1).isfinite().all()
    for number in (1.0, (0, 1), [-1, 1], np.float32(1), np.int64(255), Fraction(1), (np.float64(0), 1)):
        assert ssim(GOOD, GOOD, data_range=number).tolist() == [1, 1]  # type: ignore[arg-type]
    assert ms_ssim(GOOD, GOOD, data_range=1, weights=[0.5, 1]).tolist() == [1, 1]  # type: ignore[arg-type]


def test_tensors_of_no_axes_are_numbers() -> None:
    """As `x.max()` gives them; the number is a constant, so it gets no gradient, and is kept as a number."""

    def pair(function: Function) -> tuple[torch.Tensor, torch.Tensor]:
        x = good(function).double()
        return x, 0.5 * x + 0.5 * x.flip(0)

    for one in (torch.tensor(1.5), torch.tensor(1.5).requires_grad_(), np.array(1.5), np.float32(1.5)):
        for function in PAIRS + ALL_PAIRS:
            x, y = pair(function)
            assert torch.equal(function(x, y, data_range=one), function(x, y, data_range=1.5))
            assert torch.equal(function(x, y, data_range=(one - 2, one)), function(x, y, data_range=(-0.5, 1.5)))
        for function in WITH_CONSTANTS:
            x, y = pair(function)
            assert torch.equal(
                function(x, y, data_range=1, k1=one, k2=one), function(x, y, data_range=1, k1=1.5, k2=1.5)
            )
        for made in (
            SSIMLoss(data_range=one, k1=one),
            MSSSIMLoss(data_range=one, k1=one),
            StructuralDistanceLoss(data_range=one, k1=one),
            StructuralDistance(one, k1=one),
            Component("structure", one, k1=one),
            SSIM(one, k1=one),
        ):
            assert type(made.data_range) in (float, np.float32)
            assert type(made.k1) in (float, np.float32)
        for made in (Gaussian(Euclidean(), (one,)), Laplacian(Euclidean(), (one,))):
            assert made.bandwidths == (1.5,)
        factor = (SSIM(1.0) * one).factor  # type: ignore[operator]
        assert factor == 1.5
        assert type(factor) in (float, np.float32)
    weights = (torch.tensor(0.25), np.array(0.75))
    x, y = pair(ms_ssim)
    assert torch.equal(ms_ssim(x, y, data_range=1, weights=weights), ms_ssim(x, y, data_range=1, weights=(0.25, 0.75)))  # type: ignore[arg-type]
    window = Window.gaussian(torch.tensor(7), np.array(2.0), stride=torch.tensor(2))  # type: ignore[arg-type]
    assert window == Window.gaussian(7, 2.0, stride=2)


@pytest.mark.parametrize("value", [torch.tensor([7]), np.array([7]), torch.tensor(True), 7.0, torch.tensor(7.0)])
def test_whole_numbers(value: Any) -> None:
    text = f"size must be a whole number of pixels, at least 1, got {value!r}"
    refused(ValueError, text, Window.gaussian, value)


@each
@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (GOOD.numpy(), "ndarray: convert with torch.from_numpy({})"),
        (GOOD.tolist(), "list: convert with torch.tensor({})"),
        (3, "int: pass the pixels or numbers themselves"),
        ("image.png", "str: pass the pixels or numbers themselves"),
        (None, "NoneType: pass the pixels or numbers themselves"),
    ],
    ids=["numpy", "list", "int", "path", "None"],
)
def test_images_are_tensors(function: Function, position: int, image: Any, kind: str) -> None:
    if image is None and position == 1 and function in ALL_PAIRS:
        return  # y=None is x against itself
    images = [GOOD, GOOD]
    images[position] = image
    name = "xy"[position]
    text = f"{name} must be a torch.Tensor, got {kind.format(name)}"
    refused(TypeError, text, function, *images, data_range=1)


@each
@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn], ids=lambda d: str(d)[6:]
)
def test_images_are_floating_point(function: Function, position: int, dtype: torch.dtype) -> None:
    """Bytes pass elsewhere, with SSIM 1 or an average of rounded values."""
    images = [GOOD, GOOD]
    images[position] = (255 * GOOD).to(dtype)
    name = "xy"[position]
    text = (
        f"{name} must be a floating-point tensor, got {dtype}: convert with {name}.float() and keep data_range in "
        "the same units (255 for bytes), or pass arrays of bytes to ssimgen.arrays"
    )
    refused(TypeError, text, function, *images, data_range=255)


@each
@pytest.mark.parametrize("position", [0, 1])
def test_images_have_four_axes(function: Function, position: int) -> None:
    name = "xy"[position]
    for image, remedy in (
        (GOOD[0, 0], f"(192, 192): add the missing axes, {name}[None, None] for one grey image"),
        (GOOD[0], f"(1, 192, 192): add the missing axis, {name}[None] for one image"),
        (GOOD[:, 0], f"(2, 192, 192): add the missing axis, {name}[:, None] for grey images"),
        (
            GOOD[0].expand(3, -1, -1).permute(1, 2, 0),
            f"(192, 192, 3): put the channels first, {name}.permute(2, 0, 1)[None] for one image",
        ),
        (
            torch.tensor(0.5),
            f"(): give the pixels their places, as in {name}.reshape(1, 1, height, width)",
        ),
        (GOOD[None, None], f"(1, 1, 2, 1, 192, 192): fold the leading axes into the batch, {name}.flatten(0, -4)"),
    ):
        images = [GOOD, GOOD]
        images[position] = image
        text = f"{name} must have shape (batch, channels, height, width), got {remedy}"
        refused(ValueError, text, function, *images, data_range=1)


@each
@pytest.mark.parametrize("shape", [(0, 1, 16, 16), (2, 0, 16, 16), (2, 1, 0, 16), (2, 1, 16, 0)])
def test_images_are_not_empty(function: Function, shape: tuple[int, ...]) -> None:
    text = f"x is empty, shape {shape}: pass at least one image of at least one pixel"
    refused(ValueError, text, function, torch.rand(shape), torch.rand(shape), data_range=1)


@pytest.mark.parametrize(
    ("image", "remedy"),
    [
        (GOOD.numpy(), r"torch\.from_numpy\(x\)"),
        (Image.fromarray(GOOD[0, 0].numpy()), r"torch\.from_numpy\(numpy\.array\(x\)\)"),
        (GOOD.tolist(), r"torch\.tensor\(x\)"),
        (GOOD[0, 0], r"x\[None, None\]"),
        (GOOD[0], r"x\[None\]"),
        (GOOD[0].expand(3, -1, -1), r"x\[None\]"),
        (GOOD[:, 0], r"x\[:, None\]"),
        (GOOD[0].permute(1, 2, 0), r"x\.permute\(2, 0, 1\)\[None\]"),
        (GOOD[None, None], r"x\.flatten\(0, -4\)"),
        (GOOD[0, 0].flatten(), r"x\.reshape\(1, 1, height, width\)"),
        (GOOD.permute(0, 2, 3, 1), r"x\.permute\(0, 3, 1, 2\)"),
        ((255 * GOOD).byte(), r"x\.float\(\)"),
    ],
)
def test_remedies_of_images_work(image: Any, remedy: str) -> None:
    """Followed until nothing is refused any more: a picture needs two."""
    names = {"torch": torch, "numpy": np, "height": 192, "width": 192}
    for _ in range(3):
        with pytest.raises((TypeError, ValueError), match=remedy) as error:
            ssim(image, image, data_range=255)
        image = eval(re.search(remedy, str(error.value))[0], {**names, "x": image})  # type: ignore[index]
        remedy = r"x\[None, None\]"
        if isinstance(image, torch.Tensor) and image.ndim == 4:
            break
    assert (ssim(image, image, data_range=255) == 1).all()


def test_remedies_of_small_images_and_mixed_devices_work() -> None:
    x = torch.rand(2, 1, 6, 20, generator=torch.Generator().manual_seed(0))
    for function in PAIRS + ALL_PAIRS:
        options = {"weights": (1.0,)} if function in (presets.tensorflow_ms_ssim, ms_ssim) else {}
        with pytest.raises(ValueError, match=r"window=Window.(gaussian|uniform)\(6\)") as error:
            function(x, x, data_range=1, **options)
        if "use ssimgen.ssim" in str(error.value):
            function = ssim
        kind = Window.uniform if "uniform" in str(error.value) else Window.gaussian
        function(x, x, data_range=1, window=kind(6), **options)
    with pytest.raises(ValueError, match=r"y\.to\(x\.device\)"):
        ssim(GOOD.to("meta"), GOOD, data_range=1)
    x, y = GOOD.to("meta"), GOOD
    ssim(x, y.to(x.device), data_range=1)


WIDER = [
    (torch.float32, torch.float64, torch.float64),
    (torch.float16, torch.float32, torch.float32),
    (torch.bfloat16, torch.float64, torch.float64),
    (torch.float16, torch.bfloat16, torch.float32),
]


@each
@pytest.mark.parametrize(("narrow", "wide", "common"), WIDER, ids=str)
def test_two_dtypes_are_computed_in_the_wider_one(
    function: Function, narrow: torch.dtype, wide: torch.dtype, common: torch.dtype
) -> None:
    x, y = good(function).to(narrow), good(function).flip(0).to(wide)
    for a, b in ((x, y), (y, x)):
        value = function(a, b, data_range=1)
        assert value.dtype == common
        assert torch.equal(value, function(a.to(common), b.to(common), data_range=1))
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(function(x, y, data_range=1).sum(), x)
    assert gradient.dtype == narrow


OF_SAMPLES: dict[str, Function] = {
    "Euclidean": Euclidean(),
    "StructuralDistance": StructuralDistance(1.0),
    **{part: Component(part, 1.0) for part in PARTS},
    "Gaussian": Gaussian(Euclidean(), (1.0,)),
    "Laplacian": Laplacian(StructuralDistance(1.0), (1.0,)),
    "SSIM": SSIM(1.0),
    "DistanceInduced": DistanceInduced(Euclidean(), torch.zeros(1, 1, 16, 16)),
    "MMDLoss": MMDLoss(Gaussian(Euclidean(), (3.0,))),
    "EnergyLoss": EnergyLoss(StructuralDistance(1.0)),
    "cmmd2": lambda x, y: cmmd2(*_products(x, y), *_products(y.flip(1), x), regularisation=0.1),
    "mmd2": lambda x, y: mmd2(*_products(x, y)),
    "energy_distance": lambda x, y: energy_distance(*_products(x, y)),
    "centred_gram": lambda x, y: centred_gram(Euclidean()(y[:2], x), Euclidean()(x)),
    "streaming": lambda x, y: torch.tensor(streaming.mmd2([x], [y], SSIM(1.0)), dtype=torch.float64),
    "embedded_mmd2": lambda x, y: embedded_mmd2(*(MeanEmbedding.of(z.flatten(1)) for z in (x, y))),
    "two_sample_test": lambda x, y: two_sample_test(x, y, Gaussian(Euclidean(), "median"), permutations=39).null,
}
each_of_samples = pytest.mark.parametrize("function", OF_SAMPLES.values(), ids=OF_SAMPLES)
SMALL = torch.rand(2, 6, 1, 16, 16, generator=torch.Generator().manual_seed(1))


def _products(x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
    """Inner products of points in their dtypes, without a matrix product that autocast would change."""
    points = [(a.flatten(1)[:, None], b.flatten(1)[None]) for a, b in ((x, x), (x, y), (y, y))]
    return [((a * b).sum(-1) / 100).to(a.dtype) for a, b in points]


@each_of_samples
@pytest.mark.parametrize(("narrow", "wide", "common"), WIDER, ids=str)
def test_samples_of_two_dtypes(function: Function, narrow: torch.dtype, wide: torch.dtype, common: torch.dtype) -> None:
    x, y = SMALL[0].to(narrow), SMALL[1].to(wide)
    value = function(x, y)
    expected = function(x.to(common), y.to(common))
    assert value.dtype in (common, torch.float64)
    if function not in (OF_SAMPLES["mmd2"], OF_SAMPLES["energy_distance"], OF_SAMPLES["cmmd2"]):
        torch.testing.assert_close(value.double(), expected.double(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("function", [*PAIRS, *ALL_PAIRS], ids=lambda f: f"{f.__module__}.{f.__name__}")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_autocast_changes_nothing_for_images(function: Function, dtype: torch.dtype) -> None:
    x, y = good(function).to(dtype).requires_grad_(), good(function).flip(0).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = function(x, y, data_range=1)
        (gradient,) = torch.autograd.grad(value.sum(), x)
    assert value.dtype == dtype
    expected = function(x, y, data_range=1)
    assert torch.equal(value, expected)
    assert torch.equal(gradient, torch.autograd.grad(expected.sum(), x)[0])


@each_of_samples
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_autocast_changes_nothing_for_samples(function: Function, dtype: torch.dtype) -> None:
    x, y = SMALL.to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = function(x, y)
    expected = function(x, y)
    assert value.dtype == expected.dtype
    assert torch.equal(value, expected)


def test_the_output_of_a_network_under_autocast() -> None:
    network = torch.nn.Conv2d(1, 1, 3, padding=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network(GOOD).sigmoid()
        assert output.dtype == torch.bfloat16
        loss = SSIMLoss(data_range=1)(output, GOOD)
    loss.backward()
    assert loss.dtype == torch.float32
    assert network.weight.grad is not None
    assert network.weight.grad.abs().max() > 0


@each
def test_devices_are_not_mixed(function: Function) -> None:
    text = "x and y must share a device, got cpu and meta: move one with y.to(x.device)"
    refused(ValueError, text, function, GOOD, GOOD.to("meta"), data_range=1)


@each
@pytest.mark.parametrize("shape", [(2, 3, 192, 192), (2, 1, 191, 192), (2, 1, 192, 191)])
def test_images_have_one_shape(function: Function, shape: tuple[int, ...]) -> None:
    """No broadcasting of one channel to three, or of anything else."""
    text = (
        f"images of x and y must have equal shapes, got (1, 192, 192) and {shape[1:]} (channels, height, width): "
        "crop or resize one"
    )
    refused(ValueError, text, function, GOOD, torch.rand(shape), data_range=1)


@each_pair
def test_pairs_are_as_many_as_their_images(function: Function) -> None:
    text = (
        "x and y are compared pair by pair and must have equal batch sizes, got 2 and 1: "
        "use ssimgen.pairwise for all pairs"
    )
    refused(ValueError, text, function, GOOD, GOOD[:1], data_range=1)


@each
@pytest.mark.parametrize(
    "value",
    [
        0,
        0.0,
        -1,
        math.nan,
        math.inf,
        True,
        "255",
        None,
        1j,
        torch.tensor(True),
        torch.tensor(1j),
        torch.tensor(math.nan),
        np.array(True),
        np.bool_(True),
        10**400,
        (1, 0),
        (1, 1),
        (0, math.nan),
        (-math.inf, 1),
        (0, True),
        (0, 1, 2),
        (1,),
        (),
        ("0", "1"),
        [1.0, -1.0],
        {0, 1},
        range(2),
    ],
    ids=repr,
)
def test_the_data_range_is_a_length_or_a_pair(function: Function, value: Any) -> None:
    text = (
        "data_range must be a positive number l (values in [0, l]) or a pair (lo, hi) with lo < hi, "
        f"got {value!r}: pass 1.0 for images in [0, 1], 255 for bytes, (-1, 1) for tanh outputs"
    )
    refused(ValueError, text, function, GOOD, GOOD, data_range=value)


@pytest.mark.parametrize("function", WITH_CONSTANTS, ids=lambda f: f"{f.__module__}.{f.__name__}")
@pytest.mark.parametrize("name", ["k1", "k2"])
@pytest.mark.parametrize("value", [0, -0.01, math.nan, math.inf, True, "0.01", None, (0.01, 0.03)], ids=repr)
def test_the_constants_are_positive_numbers(function: Function, name: str, value: Any) -> None:
    text = f"{name} must be a positive number, got {value!r}: the usual values are k1=0.01, k2=0.03"
    if isinstance(value, tuple) and "distance" in function.__name__.lower():  # which take one number a scale
        text = f"{name} must be one number, or one for each of scales=1, got 2: pass scales=2, or one number"
    refused(ValueError, text, function, GOOD, GOOD, data_range=1, **{name: value})


@each
@pytest.mark.parametrize("length", [1e-30, 1e30])
def test_a_range_beyond_float32_is_refused(function: Function, length: float) -> None:
    """(k l)^2 would be 0 or infinite, and SSIM of flat patches not a number."""
    with pytest.raises(ValueError, match=r"data_range of length 1e.30 give \(k1 \* length\)\^2 beyond .* rescale"):
        function(GOOD, GOOD, data_range=length)


@each_with_window
@pytest.mark.parametrize("value", [11, (11, 1.5), "gaussian", None, torch.ones(11, 11), Window], ids=repr)
def test_the_window_is_a_window(function: Function, value: Any) -> None:
    text = f"window must be a ssimgen.Window, got {value!r}: pass Window.gaussian(size, sigma) or Window.uniform(size)"
    refused(TypeError, text, function, GOOD, GOOD, data_range=1, window=value)


@each
def test_the_window_fits_the_images(function: Function) -> None:
    x = torch.rand(2, 1, 6, 20)
    side, kind = (7, "uniform") if function is presets.scikit_image else (11, "gaussian")
    how = "use ssimgen.ssim with" if function in (presets.scikit_image, presets.wang_2004) else "pass"
    text = (
        f"window of {side} x {side} px does not fit images of 6 x 20 px: "
        f"{how} window=Window.{kind}(6) or smaller, or enlarge the images"
    )
    refused(ValueError, text, function, x, x, data_range=1)


@each
def test_channels_come_before_rows_and_columns(function: Function) -> None:
    """(B, H, W, C) of NumPy and TensorFlow is the commonest wrong shape: the width is then 1, 3 or 4 px."""
    for channels in (1, 3, 4):
        x = torch.rand(2, 32, 32, channels)
        with pytest.raises(ValueError, match=r"32 x \d px: are the channels last\? Then pass x.permute\(0, 3, 1, 2\)"):
            function(x, x, data_range=1)


@pytest.mark.parametrize(
    "function",
    [distance, loss(StructuralDistanceLoss), pairwise.distance],
    ids=lambda f: f"{f.__module__}.{f.__name__}",
)
def test_forms_and_norms_are_of_a_list(function: Function) -> None:
    forms = "form must be one of 'product', 'sum', 'centred', 'uncentred', got "
    norms = "norm must be one of 'rms', 'frobenius', got "
    for options, message in (
        ({"form": "centered"}, forms + "'centered': did you mean 'centred'?"),
        ({"form": "SUM"}, forms + "'SUM'"),
        ({"form": "Sum"}, forms + "'Sum': did you mean 'sum'?"),
        ({"form": "ssim"}, forms + "'ssim'"),
        ({"form": None}, forms + "None"),
        ({"form": 2}, forms + "2"),
        ({"form": ["sum"]}, forms + "['sum']: did you mean 'sum'?"),
        ({"norm": "frobenious"}, norms + "'frobenious': did you mean 'frobenius'?"),
        ({"norm": 2}, norms + "2"),
        ({"norm": None}, norms + "None"),
    ):
        refused(ValueError, message, function, GOOD, GOOD, data_range=1, **options)


@pytest.mark.parametrize("function", [ms_ssim, presets.tensorflow_ms_ssim, loss(MSSSIMLoss)], ids=lambda f: f.__name__)
def test_the_weights_of_scales(function: Function) -> None:
    for weights in ((), (0.5, 0), (0.5, -0.5), (0.5, math.nan), (True,), "0.5", 0.5, 5, ("a",), torch.ones(2)):
        text = (
            f"weights must be a tuple of positive numbers, one a scale from fine to coarse, got {weights!r}: "
            "Wang's are (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)"
        )
        refused(ValueError, text, function, GOOD, GOOD, data_range=1, weights=weights)
    x = torch.rand(1, 1, 40, 60)
    text = (
        "weights ask for 3 scales, but 2 fit images whose shorter side is 40 px with a window of 11 px: "
        "pass fewer weights or a smaller window"
    )
    refused(ValueError, text, function, x, x, data_range=1, weights=(0.2, 0.3, 0.5))


def test_misspelt_options_are_refused() -> None:
    """There is no **kwargs for them to vanish in."""
    for function in PAIRS + ALL_PAIRS:
        with pytest.raises(TypeError, match="win_size"):
            function(GOOD, GOOD, data_range=1, win_size=7)
    with pytest.raises(TypeError, match="positional argument"):
        ssim(GOOD, GOOD, 1.0)  # type: ignore[misc]


def test_images_on_other_devices_are_computed_there() -> None:
    """The meta device has shapes and no numbers; it stands for whatever is not a CPU."""
    x = GOOD.to("meta")
    for function in (ssim, ms_ssim, distance):
        value = function(x, x, data_range=1)
        assert value.device.type == "meta"
        assert value.shape == (2,)
