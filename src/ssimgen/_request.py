"""What is asked of an engine: the options of structural similarity, checked, with their defaults."""

from __future__ import annotations

from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen.engine import Form, PatchDistance
from ssimgen.windows import Window

DataRange = float | Tensor | tuple[float | Tensor, float | Tensor]
"""A number l, for values in [0, l], or (lo, hi); tensors and arrays of no axes, such as `x.max()`, are numbers."""

FORMS: tuple[Form, ...] = ("product", "sum", "centred", "uncentred")
NORMS = ("rms", "frobenius")
DEFAULT_WINDOW = Window.gaussian(11, 1.5)

_LEAST_ROOT, _GREATEST_ROOT = 1e-18, 1e18  # their squares leave float32 room on either side


def patch_distance(x: Tensor, data_range: DataRange, window: Window, k1: float, k2: float, form: Form) -> PatchDistance:
    """The checked request to an engine, for images of the size of x."""
    patch = checked_options(data_range, window, k1, k2, form)
    window_fits(window, x)
    return patch


def checked_options(data_range: DataRange, window: Window, k1: float, k2: float, form: Form) -> PatchDistance:
    """The checked request to an engine, for images of any size."""
    arguments.choice("form", form, FORMS)
    window_type(window)
    lo, length = lo_and_length(data_range)
    c1, c2 = stability_constants(length, k1, k2)
    return PatchDistance(window, form, c1, c2, lo)


def patches(x: Tensor, window: Window) -> int:
    """How many patches, over channels and positions, an image of batch x has."""
    channels, height, width = x.shape[-3:]
    return channels * window.positions(height) * window.positions(width)


def lo_and_length(value: DataRange) -> tuple[float, float]:
    """(lo, l): the least value and the length of the range."""
    pair = value if isinstance(value, (tuple, list)) and len(value) == 2 else (0.0, value)
    lo, hi = (arguments.as_number(end) for end in pair)
    if lo is None or hi is None or not hi > lo:
        raise ValueError(
            "data_range must be a positive number l (values in [0, l]) or a pair (lo, hi) with lo < hi, "
            f"got {value!r}: pass 1.0 for images in [0, 1], 255 for bytes, (-1, 1) for tanh outputs"
        )
    return lo, hi - lo


def stability_constants(length: float, k1: float, k2: float) -> tuple[float, float]:
    """c1 = (k1 l)^2 and c2 = (k2 l)^2 (Wang et al. 2004, Eqs. 7 and 11), which float32 must be able to hold."""
    constants = []
    for name, k in (("k1", k1), ("k2", k2)):
        number = arguments.as_number(k)
        if number is None or number <= 0:
            raise ValueError(f"{name} must be a positive number, got {k!r}: the usual values are k1=0.01, k2=0.03")
        root = number * length
        if not _LEAST_ROOT < root < _GREATEST_ROOT:
            raise ValueError(
                f"{name}={k!r} and a data_range of length {length!r} give ({name} * length)^2 beyond the range of "
                "float32: rescale the images and data_range, or take a less extreme constant"
            )
        constants.append(root * root)
    return constants[0], constants[1]


def window_type(window: Window) -> None:
    """Raise unless `window` is a Window."""
    if not isinstance(window, Window):
        raise TypeError(
            f"window must be a ssimgen.Window, got {window!r}: "
            "pass Window.gaussian(size, sigma) or Window.uniform(size)"
        )


def window_fits(window: Window, x: Tensor, otherwise: str = "pass") -> None:
    """Raise unless at least one window lies inside the images of x; `otherwise` says where to give a smaller one."""
    window_type(window)
    height, width = x.shape[-2:]
    side = min(height, width)
    if side < window.size:
        channels_last = width in arguments.CHANNELS and min(x.shape[-3:-1]) > max(arguments.CHANNELS)
        remedy = (
            "are the channels last? Then pass x.permute(0, 3, 1, 2)"
            if channels_last
            else f"{otherwise} window=Window.gaussian({side}) or smaller, or enlarge the images"
        )
        raise ValueError(
            f"window of {window.size} x {window.size} px does not fit images of {height} x {width} px: {remedy}"
        )
