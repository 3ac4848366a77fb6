"""A warning, once a process, where images lie outside the data_range they are said to have."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from ssimgen import engine
from ssimgen._precision import in_common
from ssimgen._request import DataRange, lo_and_length, of_first_image
from ssimgen.engine.trouble import level_of_caller

_EVERY = 64  # calls that are looked at; of later ones, only every power of two: a loop shows what it does at once
_PIXELS = 1024  # looked at of the first image of a batch
_MARGIN = 0.1  # of the range: noise and unclamped outputs of networks go so far
_SHARE = 0.05  # of the pixels must lie beyond the margin

_calls = 0
_warned = False


class DataRangeWarning(UserWarning):
    """Images are outside the data_range that they are said to have, so that their SSIM is a number of no meaning.

    Given once a process; off with `warnings.simplefilter("ignore", ssimgen.DataRangeWarning)`.

    Example:
        >>> import warnings, torch, ssimgen
        >>> warnings.simplefilter("error", ssimgen.DataRangeWarning)
        >>> ssimgen.ssim(torch.full((1, 1, 16, 16), 255.0), torch.zeros(1, 1, 16, 16), data_range=1.0)
        Traceback (most recent call last):
            ...
        ssimgen._range_check.DataRangeWarning: x has values from 255 to 255, but data_range says [0, 1]: pass 1.0 ...
    """


def notice_range(data_range: DataRange, x: Tensor, y: Tensor | None, seen: Tensor | None = None) -> None:
    """Warn, the first time, if images are clearly outside data_range, in what a mask lets be seen.

    SSIM of bytes with data_range=1 or of tanh outputs with 1 instead of (-1, 1) is a number like any other, and
    wrong. Nothing is looked at where others trace or transform what happens here, nor on devices, which would wait.
    """
    global _calls, _warned
    if torch.compiler.is_compiling() or _warned:
        return
    _calls += 1
    if _calls > _EVERY and _calls & (_calls - 1):
        return
    for name, images in (("x", x), ("y", y)):
        if images is None or not engine.fused_can(images):
            continue
        lo, length = lo_and_length(of_first_image(data_range))
        pixels = images.detach()[0]
        pixels = pixels.flatten() if seen is None else pixels[seen[0] > 0]
        pixels = pixels[:: 1 + len(pixels) // _PIXELS]
        (pixels,) = in_common(pixels)
        outside = (pixels < lo - _MARGIN * length) | (pixels > lo + (1 + _MARGIN) * length)
        if outside.count_nonzero() > _SHARE * len(pixels):
            _warned = True
            low, high = (end.item() for end in pixels.aminmax())
            warnings.warn(
                f"{name} has values from {low:.4g} to {high:.4g}, but data_range says [{lo:g}, {lo + length:g}]: pass "
                "1.0 for images in [0, 1], 255 for bytes, (-1, 1) for tanh outputs. (Said once; to ignore it, "
                'warnings.simplefilter("ignore", ssimgen.DataRangeWarning).)',
                DataRangeWarning,
                stacklevel=level_of_caller(),
            )
            return
