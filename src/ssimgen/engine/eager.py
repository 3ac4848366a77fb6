"""SSIM in plain PyTorch: any device, float32 or float64, derivatives of any order, vmap and compile.

The complements of luminance and structure are computed from s = x + y and d = x - y,

    a = 1 - s1 = 2 m_d^2 / (m_s^2 + m_d^2 + 2 c1),     b = 1 - s2 = 2 v_d / (v_s + v_d + 2 c2),

with m the windowed mean and v the windowed variance: four averages (s, d, s^2, d^2), no cancellation when
x is near y, and a, b >= 0. They follow from 2 mu_x mu_y = (m_s^2 - m_d^2) / 2, mu_x^2 + mu_y^2 =
(m_s^2 + m_d^2) / 2 and the same for variances (s1, s2: Wang et al. 2004, Eqs. 6 and 9 with c3 = c2 / 2).

A variance is a difference of averages, E z^2 - (E z)^2: in float32 its rounding error on bright flat patches
is not small beside c2 and would change SSIM by 1e-5 to 1e-4. Therefore float32 images are averaged in float64, and
about the mean of their plane.
Where pixels are so large beside the constants that float64 is not enough either, variances are merged: about a
pixel of the window along the rows, then about a row down the columns (the law of total variance), with x and y apart
for as long as one can be lost beside the other. That costs several times as much; it is chosen by looking at the
pixels, and so only where they can be looked at without waiting for a device, and outside of what is traced or
transformed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ssimgen.engine.spec import PatchDistance, joined
from ssimgen.engine.visibility import is_plain, seen_by_others
from ssimgen.windows import Window

_LARGE = 1e8  # pixels^2 / c2 up to which a difference of averages is right: b within 4 eps (pixels^2 / c2) = 1e-7
_HUGE = 1e100  # pixels whose squares may leave float64

_Moments = tuple[Tensor, Tensor, Tensor, Tensor]  # mean and variance in each window, of s and of d


def squared_map(
    x: Float[Tensor, "B C H W"], y: Float[Tensor, "B C H W"], patch: PatchDistance
) -> Float[Tensor, "B C h w"]:
    """d^2 at every window position, in the dtype of x."""
    dtype, window = x.dtype, patch.window
    x, y = (_covered(widened(z), window) - patch.lo for z in (x, y))
    c1: float | Tensor = patch.c1
    c2: float | Tensor = patch.c2
    large = is_large(patch, x, y)
    if large:  # similarity does not depend on the unit of pixels
        unit = _unit(x, y)
        x, y, c1, c2 = x * unit, y * unit, c1 * unit**2, c2 * unit**2
    if patch.form == "uncentred":
        return _uncentred(x + y, x - y, window, c2).to(dtype)
    m_s, v_s, m_d, v_d = _merged_moments(x, y, window) if large else _moments(x, y, window)
    b = 2 * v_d / (v_s + v_d + 2 * c2)
    if patch.form == "centred":
        return b.to(dtype)
    a = 2 * m_d**2 / (m_s**2 + m_d**2 + 2 * c1)
    return joined(patch.form, a, b).to(dtype)


def squared_mean(
    x: Float[Tensor, "B C H W"], y: Float[Tensor, "B C H W"], patch: PatchDistance
) -> Float[Tensor, "B C"]:
    """d^2 averaged over the window positions of each channel."""
    return squared_map(x, y, patch).mean((-2, -1))


def _uncentred(s: Tensor, d: Tensor, window: Window, c2: float | Tensor) -> Tensor:
    """beta E d^2 / (beta E x^2 + beta E y^2 + c2), where x^2 + y^2 = (s^2 + d^2) / 2."""
    q_s, q_d = (window.beta * _filtered(z * z, window) for z in (s, d))
    return 2 * q_d / (q_s + q_d + 2 * c2)


def widened(z: Tensor) -> Tensor:
    """z in float64 (which autocast leaves alone); as it is on Apple's GPUs, which have no float64."""
    return z if z.device.type == "mps" else z.double()


def _covered(z: Float[Tensor, "B C H W"], window: Window) -> Float[Tensor, "B C H_c W_c"]:
    """The pixels that some window covers, side by side: what the others hold, NaN too, touches no gradient.

    Windows then stand `_step(window)` pixels apart.
    """
    for axis in (-2, -1):
        end = (window.positions(z.shape[axis]) - 1) * window.stride + window.size
        if window.stride > window.size:
            index = torch.arange(end, device=z.device)
            z = z.index_select(axis, index[index % window.stride < window.size])
        else:
            z = z.narrow(axis, 0, end)
    return z


def _step(window: Window) -> int:
    return min(window.stride, window.size)


def is_large(patch: PatchDistance, *images: Tensor) -> bool:
    """Whether rounding errors of E z^2 - (E z)^2 could be seen beside c2, as far as that can be known."""
    if seen_by_others() or not all(is_plain(z) for z in images):
        return False
    most = (z.detach().abs().max().double() for z in images)
    return any(not bool(pixel * pixel <= _LARGE * patch.c2) for pixel in most)


def _unit(x: Tensor, y: Tensor) -> Tensor:
    """1, or for planes of huge pixels a power of two that makes them smaller, (B, C, 1, 1)."""
    most = torch.maximum(x.detach().abs().amax((-2, -1), True), y.detach().abs().amax((-2, -1), True))
    return torch.where((most > _HUGE) & most.isfinite(), torch.exp2(-most.log2().floor()), 1.0)


def _moments(x: Float[Tensor, "B C H_c W_c"], y: Float[Tensor, "B C H_c W_c"], window: Window) -> _Moments:
    return *_mean_and_variance(x + y, window), *_mean_and_variance(x - y, window)


def _mean_and_variance(z: Float[Tensor, "B C H_c W_c"], window: Window) -> tuple[Tensor, Tensor]:
    """Windowed mean and variance."""
    if window.size == 1:
        return z, 0 * z  # NaN for NaN, and within the graph
    origin = z.detach().mean((-2, -1), True)
    origin = torch.where(origin.isfinite(), origin, 0.0)
    z = z - origin
    m = _filtered(z, window)
    v = _filtered(z * z, window) - m * m
    v = v + F.relu(-v.detach())  # rounding can fall below zero; unlike a clamp, this leaves the derivatives alone
    return origin + m, window.beta * v


def windowed_mean(z: Float[Tensor, "B C H W"], window: Window) -> Float[Tensor, "B C h w"]:
    """sum w z over each window."""
    return _filtered(_covered(z, window), window)


def _filtered(z: Float[Tensor, "B C H_c W_c"], window: Window) -> Float[Tensor, "B C h w"]:
    """The same of covered pixels: one filter along the rows, one along the columns."""
    channels, stride = z.shape[-3], _step(window)
    taps = torch.tensor(window.taps, dtype=z.dtype, device=z.device)
    rows = taps.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    columns = taps.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    z = F.conv2d(z, rows, stride=(stride, 1), groups=channels)  # (B, C, h, W)
    return F.conv2d(z, columns, stride=(1, stride), groups=channels)  # (B, C, h, w)


def _merged_moments(x: Float[Tensor, "B C H_c W_c"], y: Float[Tensor, "B C H_c W_c"], window: Window) -> _Moments:
    """The same from sums of squares about values inside each window, which never cancel.

    A mean is kept in two parts, a pixel and the mean of the rest about it, so that means of neighbouring rows differ
    by what their pixels differ by, however large those are.
    """
    taps = torch.tensor(window.taps, dtype=x.dtype, device=x.device)
    size, step, middle = window.size, _step(window), window.size // 2

    def about_centres(z: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        parts = z.unfold(axis, size, step)
        return parts[..., middle], parts - parts[..., middle, None]

    (x, of_x), (y, of_y) = about_centres(x, -1), about_centres(y, -1)  # (B, C, H, w), (B, C, H, w, k)
    rows = [_about(u, taps) for u in (of_x + of_y, of_x - of_y)]
    (x, of_x), (y, of_y) = about_centres(x, -2), about_centres(y, -2)  # (B, C, h, w), (B, C, h, w, k)
    moments = []
    for centre, of_centre, (mean, variance) in zip((x + y, x - y), (of_x + of_y, of_x - of_y), rows, strict=True):
        mean, between = _about(of_centre + mean.unfold(-2, size, step), taps)
        within = variance.unfold(-2, size, step) @ taps
        moments += [centre + mean, window.beta * (within + between)]
    m_s, v_s, m_d, v_d = moments
    return m_s, v_s, m_d, v_d


def _about(u: Float[Tensor, "... k"], taps: Float[Tensor, " k"]) -> tuple[Float[Tensor, " ..."], Float[Tensor, " ..."]]:
    """Weighted mean and variance over the last axis, in two passes."""
    mean = u @ taps
    return mean, (u - mean[..., None]) ** 2 @ taps
