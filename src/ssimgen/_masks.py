"""The argument `mask`: weights >= 0 of pixels, of which 0 hides a pixel."""

from __future__ import annotations

from hashlib import sha256

import torch
from torch import Tensor

from ssimgen.engine import fused_can
from ssimgen.windows import Window


def weights_of(mask: Tensor | None, x: Tensor) -> Tensor | None:
    """A mask as weights (b, C, *spatial) for the images x, b being 1 or the batch; None where it hides nothing.

    It is a constant: no gradient flows through it.
    """
    if mask is None:
        return None
    _check_mask(mask, x)
    exact = mask.dtype in (torch.float64, torch.int32, torch.int64) or x.dtype == torch.float64
    weights = mask.detach().to(torch.float64 if exact else torch.float32)
    weights = weights[(None,) * (x.ndim - weights.ndim)]
    if fused_can(weights):  # nobody waits for it, or sees it
        _check_weights(weights)
        if bool((weights == 1).all()):
            return None
    return weights.expand(len(weights), *x.shape[1:])


def common_weights_of(mask: Tensor | None, x: Tensor) -> Tensor | None:
    """The same for all pairs of images, which must have one mask."""
    if isinstance(mask, Tensor) and mask.ndim == x.ndim and len(mask) > 1:
        raise ValueError(
            f"mask must be one for all images here, of shape {(1, *x.shape[1:])} or without its batch axis, got "
            f"{tuple(mask.shape)}: with masks that differ from image to image, D is no metric and exp(-D^2) no kernel "
            "(docs/any-image.md, Masks); ssimgen.distance compares pairs under masks of their own"
        )
    return weights_of(mask, x)


def digest(mask: Tensor | None) -> str:
    """By which masks are compared, where a tensor is part of a value."""
    if not isinstance(mask, Tensor):
        return ""
    numbers = mask.detach().cpu().double().contiguous()
    return sha256(repr(tuple(mask.shape)).encode() + numbers.numpy().tobytes()).hexdigest()


def check_some(weights: Tensor, window: Window, where: str = "") -> None:
    """Raise if an image of weights (B, C), or all images of (1, C), have none; not where that cannot be looked at
    without waiting: means over nothing are NaN there."""
    if not fused_can(weights):
        return
    empty = ~(weights.sum(1) > 0)
    if empty.any():
        raise ValueError(
            f"mask leaves no window that sees {'two pixels' if window.unbiased else 'a pixel'}{where} of image "
            f"{int(empty.nonzero()[0])}: leave that image out, or widen its mask"
        )


def _check_mask(mask: Tensor, x: Tensor) -> None:
    if not isinstance(mask, Tensor):
        raise TypeError(
            f"mask must be a torch.Tensor of bool or of weights >= 0, got {type(mask).__name__}: "
            "convert with torch.as_tensor(mask)"
        )
    if mask.is_complex():
        raise TypeError(f"mask must be bool or weights >= 0, got {mask.dtype}")
    if mask.device != x.device:
        raise ValueError(
            f"mask and x must share a device, got {mask.device} and {x.device}: move it with mask.to(x.device)"
        )
    fits = mask.ndim <= x.ndim and all(
        own in (1, side) for own, side in zip(reversed(mask.shape), reversed(x.shape), strict=False)
    )
    if not fits:
        raise ValueError(
            f"mask must have the shape of the images, {tuple(x.shape)}, or one that broadcasts, got "
            f"{tuple(mask.shape)}: pass {tuple(x.shape[2:])} for all images and channels, or (B, 1, ...) for each image"
        )


def _check_weights(weights: Tensor) -> None:
    if not bool((weights >= 0).all()) or not bool(weights.isfinite().all()):
        finite = "finite " if bool((weights == torch.inf).any()) else ""
        raise ValueError(
            f"mask must be {finite}weights >= 0, got values from {weights.min().item():g} to "
            f"{weights.max().item():g}: pass mask > 0, or clamp it"
        )
