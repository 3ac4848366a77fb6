"""What is asked of kernels for GPUs, as arguments that an operation of PyTorch's takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from ssimgen.engine.spec import Form, PatchDistance
from ssimgen.windows import Window

SCHEMA = "float[] vertical, float[] horizontal, int[] strides, str form, float c1, float c2, float lo, float beta"


_LEAST_K2 = 1e-3


class Request(NamedTuple):
    """d^2 of a form, of windows of these taps and strides down and across."""

    patch: PatchDistance
    vertical: tuple[float, ...]
    horizontal: tuple[float, ...]
    strides: tuple[int, int]
    beta: float

    @classmethod
    def of(
        cls,
        vertical: Sequence[float],
        horizontal: Sequence[float],
        strides: Sequence[int],
        form: str,
        c1: float,
        c2: float,
        lo: float,
        beta: float,
    ) -> Request:
        taps, (down, across) = (tuple(vertical), tuple(horizontal)), strides
        window = Window(taps, (down, across), beta)
        return cls(PatchDistance(window, cast(Form, form), c1, c2, lo), *taps, (down, across), beta)


def arguments(patch: PatchDistance) -> tuple[Any, ...]:
    """Those that `Request.of` takes, of the types of SCHEMA."""
    axes, beta = patch.window.axes(2), patch.window.factor(2)
    taps = (list(axis.taps) for axis in axes)
    return *taps, [axis.stride for axis in axes], patch.form, patch.c1, patch.c2, patch.lo, beta


def float32_serves(patch: PatchDistance) -> bool:
    """Whether k2 is not so small that float32 leaves too little of the gradient of flat patches."""
    return patch.c2 >= (_LEAST_K2 * patch.length) ** 2
