"""SSIM, MS-SSIM and the structural distances by their definitions, in float64, one window position at a time.

Everything is computed from the mean, variance and covariance of a patch as the papers print them, never from the
complements that the library uses. Gradients come from a complex step through the same definitions: every formula
is analytic, so f(x + ih e) has the imaginary part h f'(x) e to full precision, with no difference to cancel
(Squire and Trapp 1998, SIAM Review 40, 110-112).

    Wang, Bovik, Sheikh, Simoncelli (2004), IEEE TIP 13, 600-612                 [W04]
    Wang, Simoncelli, Bovik (2003), Asilomar Conference on Signals, 1398-1402    [W03]
    Ghojogh, Karray, Crowley (2020), structural similarity in generative models  [G20]

Images are arrays (B, C, H, W); a window is anything with `taps` (its weights are their outer product), `stride`
and `beta`; `data_range` is l for values in [0, l], or (lo, hi).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

STEP = 1e-30  # of the complex-step derivative: nothing is subtracted, so it may be as small as one likes
STRUCTURE_FLOOR = 0.01


def statistics(x, y, weights, beta):
    """mu_x, mu_y, var_x, var_y, cov of patches (..., k, k) [W04 Eqs. 14-16; beta = q / (q - 1): Eqs. 2, 4, 8]."""
    axes = (-2, -1)
    mu_x, mu_y = (weights * x).sum(axes), (weights * y).sum(axes)
    dx, dy = x - mu_x[..., None, None], y - mu_y[..., None, None]
    var_x, var_y = beta * (weights * dx**2).sum(axes), beta * (weights * dy**2).sum(axes)
    return mu_x, mu_y, var_x, var_y, beta * (weights * dx * dy).sum(axes)


def patch_ssim(x, y, weights, beta, c1, c2):
    """SSIM of patches [W04 Eq. 13, one fraction]."""
    mu_x, mu_y, var_x, var_y, cov = statistics(x, y, weights, beta)
    return (2 * mu_x * mu_y + c1) * (2 * cov + c2) / ((mu_x**2 + mu_y**2 + c1) * (var_x + var_y + c2))


def squared_patch_distance(x, y, form, weights, beta, c1, c2):
    """d^2 of patches (..., k, k), whose pixels start at lo = 0."""
    mu_x, mu_y, var_x, var_y, cov = statistics(x, y, weights, beta)
    s1 = (2 * mu_x * mu_y + c1) / (mu_x**2 + mu_y**2 + c1)  # [W04 Eq. 6]
    s2 = (2 * cov + c2) / (var_x + var_y + c2)  # [W04 Eqs. 9 and 10, c3 = c2 / 2]
    if form == "product":
        return 1 - patch_ssim(x, y, weights, beta, c1, c2)  # [G20 Eq. 1]
    if form == "sum":
        return 2 - s1 - s2  # [G20 Eq. 2]
    if form == "centred":
        return 1 - s2  # [G20 Eq. 1, for patches of mean zero]
    if form == "uncentred":  # [G20 Eq. 1, the norms taken without centring]
        norm_x, norm_y, norm_d = (beta * (weights * z**2).sum((-2, -1)) for z in (x, y, x - y))
        return norm_d / (norm_x + norm_y + c2)
    raise ValueError(form)


def squared_map(x, y, *, form, data_range, window, k1=0.01, k2=0.03):
    """d^2 at every window position, (B, C, h, w)."""
    x, y, arguments = _prepared(x, y, form, data_range, window, k1, k2)
    out = np.empty(x.shape[:2] + _grid(x, window))
    for place, rows, columns in _positions(x, window):
        out[(..., *place)] = squared_patch_distance(x[..., rows, columns], y[..., rows, columns], *arguments)
    return out


def squared_map_gradients(x, y, upstream, *, form, data_range, window, k1=0.01, k2=0.03):
    """Gradients to x and y of sum(upstream * squared_map(x, y)), by a complex step of each pixel of each patch."""
    x, y, arguments = _prepared(x, y, form, data_range, window, k1, k2)
    size = len(window.taps)
    step = 1j * STEP * np.eye(size * size).reshape(-1, 1, 1, size, size)  # one pixel a row
    gradient_x, gradient_y = np.zeros(x.shape), np.zeros(y.shape)
    for place, rows, columns in _positions(x, window):
        patch_x, patch_y, g = x[..., rows, columns], y[..., rows, columns], upstream[(..., *place)]
        for gradient, dx, dy in ((gradient_x, step, 0), (gradient_y, 0, step)):
            slope = squared_patch_distance(patch_x + dx, patch_y + dy, *arguments).imag / STEP  # (k k, B, C)
            gradient[..., rows, columns] += np.moveaxis(g * slope, 0, -1).reshape(patch_x.shape)
    return gradient_x, gradient_y


def ssim_map(x, y, *, data_range, window, k1=0.01, k2=0.03):
    """SSIM at every window position [W04 Eq. 13]."""
    return 1 - squared_map(x, y, form="product", data_range=data_range, window=window, k1=k1, k2=k2)


def ssim(x, y, **options):
    """Mean SSIM over positions and channels [W04 Eq. 17], (B,)."""
    return ssim_map(x, y, **options).mean((1, 2, 3))


def ssim_gradients(x, y, upstream, *, data_range, window, k1=0.01, k2=0.03):
    """Gradients of sum(upstream * ssim(x, y)), upstream (B,)."""
    options = {"form": "product", "data_range": data_range, "window": window, "k1": k1, "k2": k2}
    return squared_map_gradients(x, y, -_spread(upstream, x, window), **options)


def distance(x, y, *, form, norm, squared=False, **options):
    """D or D^2 of image pairs: the Frobenius norm of the map of d [G20 section 2], or its root mean square, (B,)."""
    square = squared_map(x, y, form=form, **options)
    square = square.sum((1, 2, 3)) if norm == "frobenius" else square.mean((1, 2, 3))
    return square if squared else np.sqrt(np.maximum(square, 0))


def distance_gradients(x, y, upstream, *, form, norm, squared=False, **options):
    """Gradients of sum(upstream * distance(x, y)), upstream (B,); by the chain rule, 0 where D is 0."""
    window = options["window"]
    if not squared:
        root = distance(x, y, form=form, norm=norm, **options)
        upstream = upstream * np.divide(0.5, root, out=np.zeros_like(root), where=root > 0)
    if norm == "frobenius":
        upstream = upstream * (x.shape[1] * np.prod(_grid(x, window)))
    return squared_map_gradients(x, y, _spread(upstream, x, window), form=form, **options)


def pairwise_ssim(x, y, **options):
    """SSIM of x_i and y_j, (n, m)."""
    return np.stack([ssim(np.broadcast_to(image, y.shape), y, **options) for image in x])


def pairwise_distance(x, y, **options):
    """Distance of x_i and y_j, (n, m)."""
    return np.stack([distance(np.broadcast_to(image, y.shape), y, **options) for image in x])


def pairwise_ssim_gradients(x, y, upstream, **options):
    """Gradients of sum(upstream * pairwise_ssim(x, y)), upstream (n, m)."""
    return _pairwise_gradients(ssim_gradients, x, y, upstream, options)


def pairwise_distance_gradients(x, y, upstream, **options):
    """Gradients of sum(upstream * pairwise_distance(x, y)), upstream (n, m)."""
    return _pairwise_gradients(distance_gradients, x, y, upstream, options)


def ms_ssim(x, y, *, weights, data_range, window, k1=0.01, k2=0.03):
    """MS-SSIM [W03 Eq. 7], the mean over channels of the weighted product over scales, (B,)."""
    terms = _scale_terms(x, y, len(weights), {"data_range": data_range, "window": window, "k1": k1, "k2": k2})
    return scale_product(np.stack([1 - squared.mean((-2, -1)) for *_, squared in terms]), weights).mean(1)


def ms_ssim_gradients(x, y, upstream, *, weights, data_range, window, k1=0.01, k2=0.03):
    """Gradients of sum(upstream * ms_ssim(x, y)), upstream (B,); the scales are joined by the chain rule."""
    options = {"data_range": data_range, "window": window, "k1": k1, "k2": k2}
    terms = list(_scale_terms(x, y, len(weights), options))
    means = np.stack([1 - squared.mean((-2, -1)) for *_, squared in terms])  # (M, B, C)
    gradient_x, gradient_y = np.zeros(x.shape), np.zeros(y.shape)
    for j, (form, x_j, y_j, squared) in enumerate(terms):
        stepped = means.astype(complex)
        stepped[j] += 1j * STEP
        slope = scale_product(stepped, weights).imag / STEP  # (B, C)
        per_patch = -upstream[:, None] / x.shape[1] * slope / (squared.shape[-2] * squared.shape[-1])
        parts = squared_map_gradients(
            x_j, y_j, np.broadcast_to(per_patch[..., None, None], squared.shape), form=form, **options
        )
        for gradient, part in zip((gradient_x, gradient_y), parts, strict=True):
            for _ in range(j):
                part = np.repeat(np.repeat(part, 2, -2), 2, -1) / 4  # the adjoint of `halved`
            gradient[..., : part.shape[-2], : part.shape[-1]] += part
    return gradient_x, gradient_y


def scale_product(terms, weights):
    """prod_j t_j^w_j over the first axis; a term below the floor f counts as f, and w_j (f - t_j) is subtracted."""
    product, shortfall = 1.0, 0.0
    for t, w in zip(terms, weights, strict=True):
        low = t.real < STRUCTURE_FLOOR
        product = product * np.where(low, STRUCTURE_FLOOR, t) ** w
        shortfall = shortfall + np.where(low, w * (STRUCTURE_FLOOR - t), 0)
    return product - shortfall


def halved(x):
    """2 x 2 averages; an odd last row or column is dropped [W03 Fig. 1]."""
    height, width = x.shape[-2] // 2, x.shape[-1] // 2
    x = x[..., : 2 * height, : 2 * width].reshape(*x.shape[:-2], height, 2, width, 2)
    return x.mean((-3, -1))


def gaussian(size: int, sigma: float):
    """Two-dimensional Gaussian weights of sum 1 [W04 section III-C]."""
    offset = np.arange(size) - (size - 1) / 2
    weights = np.exp(-(offset[:, None] ** 2 + offset[None, :] ** 2) / (2 * sigma**2))
    return weights / weights.sum()


def _scale_terms(x, y, scales, options) -> Iterator[tuple]:
    """(form, images, images, d^2 map) of each scale: structure alone, and with luminance at the coarsest."""
    for j in range(scales):
        form = "product" if j == scales - 1 else "centred"
        yield form, x, y, squared_map(x, y, form=form, **options)
        x, y = halved(x), halved(y)


def _pairwise_gradients(gradients, x, y, upstream, options):
    gradient_x, gradient_y = np.zeros(x.shape), np.zeros(y.shape)
    for i, image in enumerate(x):
        part_x, part_y = gradients(np.broadcast_to(image, y.shape), y, upstream[i], **options)
        gradient_x[i] = part_x.sum(0)
        gradient_y += part_y
    return gradient_x, gradient_y


def _prepared(x, y, form, data_range, window, k1, k2):
    lo, hi = data_range if isinstance(data_range, tuple) else (0, data_range)
    length = hi - lo
    weights = np.outer(window.taps, window.taps)
    arguments = (form, weights, window.beta, (k1 * length) ** 2, (k2 * length) ** 2)
    return np.asarray(x, float) - lo, np.asarray(y, float) - lo, arguments


def _spread(upstream, x, window):
    """The gradient (B,) of a mean over channels and positions as one of the map (B, C, h, w)."""
    shape = x.shape[:2] + _grid(x, window)
    return np.broadcast_to((upstream / np.prod(shape[1:]))[:, None, None, None], shape)


def _grid(x, window) -> tuple[int, int]:
    return tuple((side - len(window.taps)) // window.stride + 1 for side in x.shape[-2:])


def _positions(x, window) -> Iterator[tuple]:
    size, (height, width) = len(window.taps), _grid(x, window)
    for i in range(height):
        for j in range(width):
            top, left = i * window.stride, j * window.stride
            yield (i, j), slice(top, top + size), slice(left, left + size)
