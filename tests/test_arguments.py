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

from ssimgen import Window, distance, ms_ssim, pairwise, presets, ssim, ssim_map
from ssimgen.losses import MSSSIMLoss, SSIMLoss, StructuralDistanceLoss

pytestmark = pytest.mark.usefixtures("no_shape_checks")

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


GOOD = torch.rand(2, 1, 192, 192, generator=torch.Generator().manual_seed(0))


def test_good_arguments_pass() -> None:
    """So that a refusal below is of the one argument that is changed."""
    for function in PAIRS + ALL_PAIRS:
        assert function(GOOD, GOOD.flip(0), data_range=1).isfinite().all()
    for number in (1.0, (0, 1), [-1, 1], np.float32(1), np.int64(255), Fraction(1, 2), (np.float64(0), 1)):
        assert ssim(GOOD, GOOD, data_range=number).tolist() == [1, 1]  # type: ignore[arg-type]
    assert ms_ssim(GOOD, GOOD, data_range=1, weights=[0.5, 1]).tolist() == [1, 1]  # type: ignore[arg-type]


@each
@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (GOOD.numpy(), "ndarray"),
        (GOOD.tolist(), "list"),
        (3, "int"),
        ("image.png", "str"),
        (None, "NoneType"),
    ],
    ids=["numpy", "list", "int", "path", "None"],
)
def test_images_are_tensors(function: Function, position: int, image: Any, kind: str) -> None:
    if image is None and position == 1 and function in ALL_PAIRS:
        return  # y=None is x against itself
    images = [GOOD, GOOD]
    images[position] = image
    name = "xy"[position]
    text = f"{name} must be a torch.Tensor, got {kind}: convert with torch.as_tensor"
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
        "the same units (255 for bytes)"
    )
    refused(TypeError, text, function, *images, data_range=255)


@each
@pytest.mark.parametrize("position", [0, 1])
def test_images_have_four_axes(function: Function, position: int) -> None:
    name = "xy"[position]
    for image, remedy in (
        (GOOD[0, 0], f"(192, 192): add the missing axes, as in {name}[None, None] for one grey image"),
        (GOOD[0], f"(1, 192, 192): add the missing axes, as in {name}[None, None] for one grey image"),
        (torch.tensor(0.5), f"(): add the missing axes, as in {name}[None, None] for one grey image"),
        (GOOD[None], f"(1, 2, 1, 192, 192): fold the leading axes into the batch, {name}.flatten(0, -4)"),
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


@each
def test_dtypes_are_not_mixed(function: Function) -> None:
    """Not even where both are computed in float32."""
    for a, b in ((torch.float32, torch.float64), (torch.float16, torch.float32), (torch.float16, torch.bfloat16)):
        text = f"x and y must share a dtype, got {a} and {b}: convert one with .to(x.dtype)"
        refused(TypeError, text, function, GOOD.to(a), GOOD.to(b), data_range=1)


@each
def test_devices_are_not_mixed(function: Function) -> None:
    text = "x and y must share a device, got cpu and meta: move one with .to(x.device)"
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
        torch.tensor(1.0),
        np.ones(2),
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
@pytest.mark.parametrize("value", [0, -0.01, math.nan, math.inf, True, "0.01", None, (0.01,)], ids=repr)
def test_the_constants_are_positive_numbers(function: Function, name: str, value: Any) -> None:
    text = f"{name} must be a positive number, got {value!r}: the usual values are k1=0.01, k2=0.03"
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
    side = 7 if function is presets.scikit_image else 11
    text = (
        f"window of {side} x {side} px does not fit images of 6 x 20 px: "
        "pass window=Window.gaussian(6) or smaller, or enlarge the images"
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
