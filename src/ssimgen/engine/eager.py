"""SSIM in plain PyTorch: any device, float32 or float64, derivatives of any order, vmap and compile.

The complements of luminance and structure are computed from s = x + y and d = x - y,

    a = 1 - s1 = 2 m_d^2 / (m_s^2 + m_d^2 + 2 c1),     b = 1 - s2 = 2 v_d / (v_s + v_d + 2 c2),

with m the windowed mean and v the windowed variance: four averages (s, d, s^2, d^2), no cancellation when
x is near y, and a, b >= 0. They follow from 2 mu_x mu_y = (m_s^2 - m_d^2) / 2, mu_x^2 + mu_y^2 =
(m_s^2 + m_d^2) / 2 and the same for variances (s1, s2: Wang et al. 2004, Eqs. 6 and 9 with c3 = c2 / 2).

A variance is a difference of averages, E z^2 - (E z)^2: in float32 its rounding error on bright flat patches
is not small beside c2 and would change SSIM by 1e-5 to 1e-4. Therefore float32 images are averaged in float64, and
about a pixel of their plane that many are near.
Where pixels are so large beside the constants that float64 is not enough either, variances are merged: about a
pixel of the window along each row, then about a row down the columns, and so on (the law of total variance), with x
and y apart for as long as one can be lost beside the other. That costs several times as much; it is chosen by looking
at the pixels. Where that would wait for a device, or they are traced or transformed, it is chosen by the constants
beside the range of pixels, and variances that are nothing but rounding errors, of pixels far out of it, are NaN.

Images have any number of spatial axes, and windows lie wholly inside them (`engine` has padded what is to be padded).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ssimgen._precision import dtype_of_result, no_autocast, widened
from ssimgen.engine.spec import Form, Over, PatchDistance, joined
from ssimgen.engine.taps import numbers
from ssimgen.engine.visibility import is_plain, seen_by_others
from ssimgen.windows import AxisWindow, Window

_LARGE = 1e5  # beta pixels^2 / c2 up to which a difference of averages is right: b within 4 eps of that = 1e-10
_NEAR = 1e-16  # mean d^2 above which rounding errors of x - y, of pixels that are not large, do not show in slopes of d
_DOUBTFUL = 5e7  # E z^2 - (E z)^2 is off by 8 eps E z^2 at most: 1e-7 of a number so many times smaller
_SOME = 64  # pixels of a plane at least, of which the middle one is taken
_ALIKE = 5e-12  # times (beta (x - y)^2 / c2)^2, d^2 above which the rounding error of that is 1e-10 in d, or less
_HUGE = 1e100  # pixels whose squares may leave float64

_Moments = tuple[Tensor, Tensor, Tensor, Tensor]  # mean and variance in each window, of s and of d
_Combined = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def squared_map(
    x: Float[Tensor, "B C *spatial"], y: Float[Tensor, "B C *spatial"], patch: PatchDistance
) -> Float[Tensor, "B C *positions"]:
    """d^2 at every window position, in the dtype of x, float32 at least."""
    dtype, window = dtype_of_result(x), patch.window
    x, y = (covered(widened(z), window) - patch.lo for z in (x, y))
    c1: float | Tensor = patch.c1
    c2: float | Tensor = patch.c2
    large = is_large(patch, x, y)
    if large:  # similarity does not depend on the unit of pixels
        unit = unit_of(x, y)
        x, y, c1, c2 = x * unit, y * unit, c1 * unit**2, c2 * unit**2
    if patch.form == "uncentred":
        q_s, q_d = (window.factor(z.ndim - 2) * filtered(z * z, window) for z in (x + y, x - y))
        return structure(q_s, q_d, c2).to(dtype)
    if not large:
        squares = from_moments(patch.form, *_moments(x, y, patch), c1, c2)
    if large or are_near(squares, x, y, patch):
        squares = merged_squares(patch.form, x, y, window, window.factor(x.ndim - 2), c1, c2)
    return not_below_0(squares).to(dtype)  # a + b - a b of opposite images


def from_moments(
    form: Form, m_s: Tensor, v_s: Tensor, m_d: Tensor, v_d: Tensor, c1: float | Tensor, c2: float | Tensor
) -> Tensor:
    """d^2 of a centred form from means and variances (times beta) of s and d."""
    b = structure(v_s, v_d, c2)
    if form == "centred":
        return b
    return joined(form, luminance(m_s, m_d, c1), b)


def luminance(m_s: Tensor, m_d: Tensor, c1: float | Tensor) -> Tensor:
    """2 m_d^2 / (m_s^2 + m_d^2 + 2 c1): 1 - s1 of means."""
    return 2 * m_d**2 / (m_s**2 + m_d**2 + 2 * c1)


def structure(v_s: Tensor, v_d: Tensor, c2: float | Tensor) -> Tensor:
    """2 v_d / (v_s + v_d + 2 c2): 1 - s2 of variances; of means of squares, times beta, d^2 of the form "uncentred"."""
    return 2 * v_d / (v_s + v_d + 2 * c2)


def squared_mean(
    x: Float[Tensor, "B C *spatial"], y: Float[Tensor, "B C *spatial"], patch: PatchDistance
) -> Float[Tensor, "B C"]:
    """d^2 averaged over the window positions of each channel."""
    return squared_map(x, y, patch).flatten(2).mean(2)


def averaged(mean: Float[Tensor, "B C"], over: Over) -> Tensor:
    """Averages over positions, and over channels, and over the batch, as far as that is asked for."""
    if over == "positions":
        return mean
    of_images = mean.mean(1) if mean.shape[1] > 1 else mean.squeeze(1)
    return of_images if over == "images" else of_images.mean()


def gradients(
    function: Callable[[Tensor, Tensor, PatchDistance], Tensor],
    x: Tensor,
    y: Tensor,
    patch: PatchDistance,
    upstream: Tensor,
    needs: tuple[bool, bool],
    *,
    create_graph: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of sum(upstream * function) to x and y, None where not needed; with a graph, as functions of x, y and
    upstream that can be differentiated again."""
    with torch.enable_grad():
        pair = x.view_as(x), y.view_as(y)  # two nodes of the graph, even where x and y are one tensor
        value = function(*pair, patch)
    wanted = [z for z, need in zip(pair, needs, strict=True) if need]
    found = iter(torch.autograd.grad(value, wanted, upstream, create_graph=create_graph))
    g_x, g_y = (next(found) if need else None for need in needs)
    return g_x, g_y


def covered(z: Float[Tensor, "B C *spatial"], window: Window) -> Float[Tensor, "B C *covered"]:
    """The pixels that some window covers, side by side: what the others hold, NaN too, touches no gradient.

    Windows then stand `_step` pixels apart.
    """
    for dim, axis in enumerate(window.axes(z.ndim - 2), 2):
        end = (axis.positions(z.shape[dim]) - 1) * axis.stride + axis.size
        if axis.stride > axis.size:
            first = torch.arange(0, end, axis.stride, device=z.device)
            index = first[:, None] + torch.arange(axis.size, device=z.device)
            z = z.index_select(dim, index.flatten())
        else:
            z = z.narrow(dim, 0, end)
    return z


def _step(axis: AxisWindow) -> int:
    return min(axis.stride, axis.size)


def is_large(patch: PatchDistance, *images: Tensor) -> bool:
    """Whether rounding errors of E z^2 - (E z)^2 could be seen beside c2: of these pixels, or where they cannot be
    looked at, of those in their range."""
    beta = patch.window.factor(images[0].ndim - 2)
    if not _may_be_looked_at(*images):
        return beta * patch.length**2 > _LARGE * patch.c2
    most = (z.detach().abs().max().double() for z in images)
    return any(not bool(beta * pixel * pixel <= _LARGE * patch.c2) for pixel in most)


def are_near(squares: Tensor, x: Tensor, y: Tensor, patch: PatchDistance) -> bool:
    """Whether rounding errors could be all that differs in some plane of images that are not equal, as far as that can
    be known. Squared distances may hide them; their root, and above all its slope, do not."""
    if not _may_be_looked_at(squares, x, y):
        return False
    least: float | Tensor = _NEAR
    if patch.overlooks_brightness(x.ndim - 2):  # rounding errors of E d^2 - (E d)^2 are of the size of (E d)^2
        most = (x - y).detach().abs().flatten(2).amax(2)
        least = (_ALIKE * (patch.window.factor(x.ndim - 2) / patch.c2 * most**2).clamp(min=1) ** 2).clamp(min=_NEAR)
    near = squares.detach().flatten(2).mean(2) < least
    return bool(near.any()) and not torch.equal(x.detach()[near], y.detach()[near])


def _may_be_looked_at(*images: Tensor) -> bool:
    return not seen_by_others() and all(is_plain(z) for z in images)


def unit_of(x: Tensor, y: Tensor) -> Tensor:
    """1, or for planes of huge pixels a power of two that makes them smaller, (B, C, 1, ...)."""
    spatial = tuple(range(2, x.ndim))
    finite = (torch.where(z.isfinite(), z.abs(), 0.0).amax(spatial, True) for z in (x.detach(), y.detach()))
    most = torch.maximum(*finite)
    return torch.where(most > _HUGE, torch.exp2(-most.log2().floor()), 1.0)


def _moments(x: Float[Tensor, "B C *covered"], y: Float[Tensor, "B C *covered"], patch: PatchDistance) -> _Moments:
    return *_mean_and_variance(x + y, patch), *_mean_and_variance(x - y, patch)


def _mean_and_variance(z: Float[Tensor, "B C *covered"], patch: PatchDistance) -> tuple[Tensor, Tensor]:
    """Windowed mean and variance."""
    origin = inner_pixel(z)
    z = z - origin
    m = filtered(z, patch.window)
    v = not_below_0(filtered(z * z, patch.window) - m * m)
    return origin + m, relied_on(patch.window.factor(z.ndim - 2), v, m, patch.c2)


def inner_pixel(z: Float[Tensor, "B C *covered"], seen: Tensor | None = None) -> Tensor:
    """A pixel of each plane that is seen and neither among the largest nor the smallest, (B, C, 1, ...), constant: the
    middle one of some. Unlike a mean it is not far from all pixels where one is hot."""
    planes = z.detach().flatten(2)
    count, width = planes.shape[-1], z.shape[-1]
    step = max(1, count // _SOME)
    step += step > 1 and step % width == 0  # not a column
    some = planes[..., ::step]
    if seen is not None:
        some = torch.where(seen.flatten(2)[..., ::step] > 0, some, torch.nan)
    some = some.sort(-1).values  # NaN comes last
    last = some.shape[-1] - 1 - some.isnan().sum(-1, keepdim=True)
    origin = some.gather(-1, last.clamp(min=0) // 2)
    return torch.where(origin.isfinite(), origin, 0.0).view(*z.shape[:2], *[1] * (z.ndim - 2))


def relied_on(beta: float | Tensor, v: Tensor, m: Tensor, c2: float) -> Tensor:
    """beta v, NaN with its derivatives where that and c2 are nothing beside rounding errors of (E z)^2 = m^2: such
    pixels have gone another way if they were looked at."""
    if v.dtype != torch.float64 or _may_be_looked_at(v):  # float32, on Apple's GPUs, is not exact anyway
        return beta * v
    return beta * v * torch.where(beta * m * m > _DOUBTFUL * (beta * v + c2), torch.nan, 1.0)


def not_below_0(z: Tensor) -> Tensor:
    """z without what rounding took too much; unlike a clamp, this leaves the derivatives alone."""
    return z + F.relu(-z.detach())


def filtered(z: Float[Tensor, "B C *covered"], window: Window, power: int = 1) -> Float[Tensor, "B C *positions"]:
    """sum w^power z over each window, of covered pixels: one filter along each axis."""
    for dim, axis in enumerate(window.axes(z.ndim - 2), 2):
        z = _filtered_along(z, dim, axis._replace(taps=tuple(tap**power for tap in axis.taps)))
    return z


def window_weights(window: Window, like: Float[Tensor, "B C *spatial"]) -> Float[Tensor, " q"]:
    """w of the pixels of a patch, of sum 1, in the dtype and on the device of `like`."""
    w = like.new_ones(())
    for axis in window.axes(like.ndim - 2):
        w = w[..., None] * numbers(axis.taps, like)
    return w.flatten()


def _filtered_along(z: Float[Tensor, "B C *covered"], dim: int, axis: AxisWindow) -> Tensor:
    """sum w z over the windows along one axis: a convolution of planes, of which the axes before are channels."""
    batch, shape, step = z.shape[0], z.shape, _step(axis)
    taps = numbers(axis.taps, z)
    if dim == z.ndim - 1 > 2:
        planes, taps, stride = z.reshape(batch, -1, *shape[-2:]), taps.view(1, 1, 1, -1), (1, step)
    else:
        planes, taps, stride = (
            z.reshape(batch, -1, shape[dim], shape[dim + 1 :].numel()),
            taps.view(1, 1, -1, 1),
            (step, 1),
        )
    filtered = _convolved(planes, taps, stride) if z.device.type == "cpu" else _on_device(planes, taps, stride)
    return filtered.reshape(*shape[:dim], axis._replace(stride=step).positions(shape[dim]), *shape[dim + 1 :])


def _convolved(planes: Tensor, taps: Tensor, stride: tuple[int, int]) -> Tensor:
    groups = planes.shape[1]
    return F.conv2d(planes, taps.expand(groups, 1, -1, -1), stride=stride, groups=groups)


def _on_device(planes: Tensor, taps: Tensor, stride: tuple[int, int]) -> Tensor:
    """The same where a convolution of one channel is a dense one, in float64 several times slower than one a channel:
    grey images become the channels of one, and a single plane its lines across the window."""
    batch, channels, rows, columns = planes.shape
    with no_autocast(planes.device):  # only float64 is left alone, which not every device has
        if batch * channels > 1:
            return _convolved(planes.reshape(1, -1, rows, columns), taps, stride)
        across = 3 if taps.shape[2] > 1 else 2
        return _convolved(planes.transpose(1, across), taps, stride).transpose(1, across)


def merged_squares(
    form: Form,
    x: Float[Tensor, "B C *covered"],
    y: Float[Tensor, "B C *covered"],
    window: Window,
    beta: float | Tensor,
    c1: float | Tensor,
    c2: float | Tensor,
    mask: Float[Tensor, "b C *covered"] | None = None,
) -> Tensor:
    """d^2 of a centred form from sums of squares about values inside each window, which never cancel."""
    m_s, m_d, *products = merged_statistics(x, y, window, lambda x, y: (x + y, x - y), mask)
    v_s, v_d, _ = (beta * product for product in products)
    if form != "product":
        return from_moments(form, m_s, v_s, m_d, v_d, c1, c2)
    m_x, m_y, *products = merged_statistics(x, y, window, lambda x, y: (x, y), mask)
    v_x, v_y, cov = (beta * product for product in products)
    s1 = (2 * m_x * m_y + c1) / (m_x**2 + m_y**2 + c1)
    s2 = (2 * cov + c2) / (v_x + v_y + c2)
    a, b = luminance(m_s, m_d, c1), structure(v_s, v_d, c2)  # 1 - s1, 1 - s2
    p = 2 * (m_s**2 + 2 * c1) / (m_s**2 + m_d**2 + 2 * c1)  # 1 + s1
    q = 2 * (v_s + 2 * c2) / (v_s + v_d + 2 * c2)  # 1 + s2
    # 1 - s1 s2 by the one in which neither value nor derivatives hold what rounding has left of a difference
    squares = 1 - s1 * s2
    for where, exact in (
        ((p < 0.5) & (q < 0.5), p + q - p * q),
        (a < 0.5, b + a * s2),
        (b < 0.5, a + b * s1),
        ((a < 0.5) & (b < 0.5), a + b - a * b),
    ):
        squares = torch.where(where, exact, squares)
    return squares


def merged_statistics(
    x: Float[Tensor, "B C *covered"],
    y: Float[Tensor, "B C *covered"],
    window: Window,
    combined: _Combined,
    mask: Float[Tensor, "b C *covered"] | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Of two linear combinations u and v of x and y: in each window their means, E (u - E u)^2, that of v, and
    E (u - E u)(v - E v).

    Axis by axis, from the last to the first, by the law of total variance. A mean is kept in two parts, a pixel and the
    mean of the rest about it, so that means of neighbouring rows differ by what their pixels differ by, however large
    those are. Under a mask, weights w become w m / sum w m, as in `masked`; hidden pixels must be finite, and where a
    window sees nothing the result is 0.
    """
    means = [torch.zeros_like(x)] * 2
    products = [torch.zeros_like(x)] * 3
    for dim, axis in reversed(list(enumerate(window.axes(x.ndim - 2), 2))):
        size, step = axis.size, _step(axis)
        w = numbers(axis.taps, x)
        parts_x, parts_y = x.unfold(dim, size, step), y.unfold(dim, size, step)  # (B, C, ..., k)
        if mask is None:
            x, y = parts_x[..., size // 2], parts_y[..., size // 2]
        else:
            w = w * mask.unfold(dim, size, step)
            mask = w.sum(-1)
            w = w / torch.where(mask > 0, mask, 1.0)[..., None]
            seen = w.argmax(-1, keepdim=True).expand(*x.shape[:2], *[-1] * (x.ndim - 1))
            x, y = parts_x.gather(-1, seen)[..., 0], parts_y.gather(-1, seen)[..., 0]
        centred = _centred(parts_x, parts_y, x[..., None], y[..., None], combined)
        about = [u + mean.unfold(dim, size, step) for u, mean in zip(centred, means, strict=True)]
        means = [_weighted(u, w) for u in about]
        u, v = (u - mean[..., None] for u, mean in zip(about, means, strict=True))
        products = [
            _weighted(within.unfold(dim, size, step), w) + _weighted(between, w)
            for within, between in zip(products, (u * u, v * v, u * v), strict=True)
        ]
    mean_u, mean_v = (u + mean for u, mean in zip(combined(x, y), means, strict=True))
    square_u, square_v, product = products
    return mean_u, mean_v, square_u, square_v, product


def _centred(x: Tensor, y: Tensor, x_centre: Tensor, y_centre: Tensor, combined: _Combined) -> list[Tensor]:
    """How u and v differ from those of the centre: from x and y about theirs, as where x is flat and huge, or from u
    and v, as where x and y are nearly equal and v = x - y; by whichever rounds less."""
    of_x, of_y = x - x_centre, y - y_centre
    of_pixels = of_x.detach().abs() + of_y.detach().abs()
    return [
        torch.where(of_pixels < z.detach().abs() + z_centre.detach().abs(), of_z, z - z_centre)
        for of_z, z, z_centre in zip(combined(of_x, of_y), combined(x, y), combined(x_centre, y_centre), strict=True)
    ]


def _weighted(parts: Float[Tensor, "... k"], w: Float[Tensor, "... k"]) -> Float[Tensor, " ..."]:
    return parts @ w if w.ndim == 1 else (parts * w).sum(-1)
