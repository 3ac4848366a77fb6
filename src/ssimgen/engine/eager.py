"""SSIM in plain PyTorch: any device, float32 or float64, derivatives of any order, vmap and compile.

The complements of luminance and structure are computed from s = x + y and d = x - y,

    a = 1 - s1 = 2 m_d^2 / (m_s^2 + m_d^2 + 2 c1),     b = 1 - s2 = 2 v_d / (v_s + v_d + 2 c2),

with m the windowed mean and v the windowed variance: four averages (s, d, s^2, d^2), no cancellation when
x is near y, and a, b >= 0. They follow from 2 mu_x mu_y = (m_s^2 - m_d^2) / 2, mu_x^2 + mu_y^2 =
(m_s^2 + m_d^2) / 2 and the same for variances (s1, s2: Wang et al. 2004, Eqs. 6 and 9 with c3 = c2 / 2).

A variance is a difference of averages, E z^2 - (E z)^2: in float32 its rounding error on bright flat patches
is not small beside c2 and would change SSIM by 1e-5 to 1e-4. Therefore float32 images are averaged in float64.
Where pixels are so large beside the constants that float64 is not enough either, variances are merged: about a
pixel of the window along the rows, then about a row down the columns (the law of total variance). That costs
several times as much; it is chosen by looking at the pixels, and so only where they can be looked at without
waiting for a device, and outside of what is traced or transformed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ssimgen.engine.spec import PatchDistance
from ssimgen.engine.visibility import is_plain, seen_by_others
from ssimgen.windows import Window

_LARGE = 1e8  # pixels^2 / c2 up to which a difference of averages is right: b within 4 eps (pixels^2 / c2) = 1e-7


def squared_map(
    x: Float[Tensor, "B C H W"], y: Float[Tensor, "B C H W"], patch: PatchDistance
) -> Float[Tensor, "B C h w"]:
    """d^2 at every window position, in the dtype of x."""
    dtype = x.dtype
    x, y = widened(x), widened(y)
    s, d = (x - patch.lo) + (y - patch.lo), x - y
    if patch.form == "uncentred":
        return _uncentred(s, d, patch).to(dtype)
    moments = _merged_mean_and_variance if is_large(patch, s, d) else _mean_and_variance
    (m_s, v_s), (m_d, v_d) = moments(s, patch.window), moments(d, patch.window)
    b = 2 * v_d / (v_s + v_d + 2 * patch.c2)
    if patch.form == "centred":
        return b.to(dtype)
    a = 2 * m_d**2 / (m_s**2 + m_d**2 + 2 * patch.c1)
    return (a + b if patch.form == "sum" else a + b - a * b).to(dtype)


def squared_mean(
    x: Float[Tensor, "B C H W"], y: Float[Tensor, "B C H W"], patch: PatchDistance
) -> Float[Tensor, "B C"]:
    """d^2 averaged over the window positions of each channel."""
    return squared_map(x, y, patch).mean((-2, -1))


def _uncentred(s: Tensor, d: Tensor, patch: PatchDistance) -> Tensor:
    """beta E d^2 / (beta E x^2 + beta E y^2 + c2), where x^2 + y^2 = (s^2 + d^2) / 2."""
    q_s, q_d = (patch.window.beta * windowed_mean(z * z, patch.window) for z in (s, d))
    return 2 * q_d / (q_s + q_d + 2 * patch.c2)


def widened(z: Tensor) -> Tensor:
    """z in float64 (which autocast leaves alone); as it is on Apple's GPUs, which have no float64."""
    return z if z.device.type == "mps" else z.double()


def is_large(patch: PatchDistance, *images: Tensor) -> bool:
    """Whether rounding errors of E z^2 - (E z)^2 could be seen beside c2, as far as that can be known."""
    if seen_by_others() or not all(is_plain(z) for z in images):
        return False
    return any(not float(z.detach().abs().max()) ** 2 <= _LARGE * patch.c2 for z in images)


def _mean_and_variance(z: Float[Tensor, "B C H W"], window: Window) -> tuple[Tensor, Tensor]:
    """Windowed mean and variance."""
    m = windowed_mean(z, window)
    v = windowed_mean(z * z, window) - m * m
    v = v + F.relu(-v.detach())  # rounding can fall below zero; unlike a clamp, this leaves the derivatives alone
    return m, window.beta * v


def windowed_mean(z: Float[Tensor, "B C H W"], window: Window) -> Float[Tensor, "B C h w"]:
    """sum w z over each window: one filter along the rows, one along the columns."""
    channels, stride = z.shape[-3], window.stride
    taps = torch.tensor(window.taps, dtype=z.dtype, device=z.device)
    rows = taps.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    columns = taps.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    z = F.conv2d(z, rows, stride=(stride, 1), groups=channels)  # (B, C, h, W)
    return F.conv2d(z, columns, stride=(1, stride), groups=channels)  # (B, C, h, w)


def _merged_mean_and_variance(z: Float[Tensor, "B C H W"], window: Window) -> tuple[Tensor, Tensor]:
    """The same from sums of squares about values inside each window, which never cancel.

    A mean is kept in two parts, a pixel and the mean of the rest about it, so that means of neighbouring rows differ
    by what their pixels differ by, however large those are.
    """
    taps = torch.tensor(window.taps, dtype=z.dtype, device=z.device)
    middle = window.size // 2

    pixels = z.unfold(-1, window.size, window.stride)  # (B, C, H, w, k)
    centre = pixels[..., middle]
    mean, variance = _about(pixels - centre[..., None], taps)

    centres = centre.unfold(-2, window.size, window.stride)  # (B, C, h, w, k)
    centre = centres[..., middle]
    rows = centres - centre[..., None] + mean.unfold(-2, window.size, window.stride)
    mean, between = _about(rows, taps)
    within = variance.unfold(-2, window.size, window.stride) @ taps
    return centre + mean, window.beta * (within + between)


def _about(u: Float[Tensor, "... k"], taps: Float[Tensor, " k"]) -> tuple[Float[Tensor, " ..."], Float[Tensor, " ..."]]:
    """Weighted mean and variance over the last axis, in two passes."""
    mean = u @ taps
    return mean, (u - mean[..., None]) ** 2 @ taps
