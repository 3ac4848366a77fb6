"""Anomaly maps against their definitions in float64, pixel by pixel, and what is refused."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from ssimgen import Window
from ssimgen.detection import anomaly_map
from ssimgen.detection.maps import WINDOW

pytestmark = pytest.mark.usefixtures("eager_engine")

SMALL = Window.gaussian(5, 1.0, padding="symmetric")
Array = NDArray[np.float64]


def pair(*size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two images that are alike in half of their columns."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(2, *size, generator=generator, dtype=torch.float64)
    y = (x + 0.3 * torch.randn(x.shape, generator=generator, dtype=torch.float64)).clamp(0, 1)
    y[..., : size[-1] // 2] = 0.9 * x[..., : size[-1] // 2]
    return x, y


def complements(x: Array, y: Array, window: Window) -> tuple[Array, Array]:
    """1 - s1 and 1 - s2 of a plane at every pixel, by the sums that define them, borders mirrored with the edge."""
    taps = np.array(window.taps)
    side, weights = len(taps), np.outer(taps, taps)
    x, y = (np.pad(z, side // 2, mode="symmetric") for z in (x, y))
    a, b = (np.empty((len(x) - side + 1, x.shape[1] - side + 1)) for _ in range(2))
    for i in range(len(a)):
        for j in range(a.shape[1]):
            p, q = x[i : i + side, j : j + side], y[i : i + side, j : j + side]
            m, n = (weights * p).sum(), (weights * q).sum()
            u, v, c = ((weights * z).sum() for z in ((p - m) ** 2, (q - n) ** 2, (p - m) * (q - n)))
            a[i, j] = 1 - (2 * m * n + 1e-4) / (m * m + n * n + 1e-4)
            b[i, j] = 1 - (2 * c + 9e-4) / (u + v + 9e-4)
    return a, b


def each(function: object, x: Tensor, y: Tensor) -> Array:
    """A function of planes, for those of all images and channels: (B, C, H, W)."""
    rows = [[function(p, q) for p, q in zip(u, v, strict=True)] for u, v in zip(x.numpy(), y.numpy(), strict=True)]  # type: ignore[operator]
    return np.array(rows)


def test_squared_error() -> None:
    x, y = pair(3, 9, 12)
    expected = ((x - y) ** 2).mean(1)
    torch.testing.assert_close(anomaly_map(x, y, data_range=1.0, residual="l2"), expected)
    torch.testing.assert_close(anomaly_map(255 * x, 255 * y, data_range=255, residual="l2"), expected)
    torch.testing.assert_close(anomaly_map(2 * x - 1, 2 * y - 1, data_range=(-1, 1), residual="l2"), expected)


@pytest.mark.parametrize("residual", ["ssim", "distance"])
def test_structure(residual: str) -> None:
    x, y = pair(2, 9, 12)

    def square(p: Array, q: Array) -> Array:
        a, b = complements(p, q, SMALL)
        return a + b - a * b if residual == "ssim" else a + b

    expected = each(square, x, y).mean(1)
    found = anomaly_map(x, y, data_range=1.0, residual=residual, window=SMALL)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.numpy(), expected if residual == "ssim" else np.sqrt(expected), atol=1e-12)


def enlarged(plane: Array, factor: int, height: int, width: int) -> Array:
    """Between centres of pixels straight lines, beyond them and in a row or column that was dropped the last value."""
    rows, columns = ((np.arange(n) + 0.5) / factor - 0.5 for n in (height, width))
    plane = np.stack([np.interp(rows, np.arange(len(plane)), column) for column in plane.T], 1)
    return np.stack([np.interp(columns, np.arange(plane.shape[1]), row) for row in plane])


@pytest.mark.parametrize("size", [(20, 24), (21, 27)])
def test_scales(size: tuple[int, int]) -> None:
    """Three scales fit a window of 5 px."""
    x, y = pair(1, *size)
    weights = np.array([0.0448, 0.2856, 0.3001])
    weights /= weights.sum()

    def local(p: Array, q: Array) -> Array:
        product, lacking = np.ones(size), np.zeros(size)
        for scale, weight in enumerate(weights):
            if scale:
                height, width = (side // 2 for side in p.shape)
                p, q = (z[: 2 * height, : 2 * width].reshape(height, 2, width, 2).mean((1, 3)) for z in (p, q))
            a, b = complements(p, q, SMALL)
            term = 1 - enlarged(a + b - a * b if scale == 2 else b, 2**scale, *size)
            product *= np.maximum(term, 0.01) ** weight
            lacking += weight * np.maximum(0.01 - term, 0)
        return 1 - product + lacking

    expected = each(local, x, y).mean(1)
    found = anomaly_map(x, y, data_range=1.0, residual="ms_ssim", window=SMALL)
    inside = np.s_[:, : size[0] // 4 * 4, : size[1] // 4 * 4]  # beyond, rows and columns were dropped
    np.testing.assert_allclose(found.numpy()[inside], expected[inside], atol=1e-9)
    assert found.shape == (2, *size)


@pytest.mark.parametrize("residual", ["l2", "ssim", "ms_ssim", "distance"])
def test_every_residual(residual: str) -> None:
    """Zero for equal images, never below, greatest at the defect; of any size, in the dtype that it is of."""
    options = {"data_range": 1.0, "residual": residual}
    for size in ((8, 6), (11, 40), (37, 29)):
        x, y = (z.float() for z in pair(3, *size))
        found = anomaly_map(x, y, **options)  # type: ignore[arg-type]
        assert (found.shape, found.dtype) == ((2, *size), torch.float32)
        assert found.min() >= 0
        assert (anomaly_map(x, x, **options) < 1e-6).all()  # type: ignore[arg-type]
    good = torch.full((1, 1, 64, 64), 0.4, dtype=torch.float64)
    scratched = good.clone()
    scratched[..., 50:52, 3:9] = 0.9
    row, column = divmod(int(anomaly_map(scratched, good, **options).argmax()), 64)  # type: ignore[arg-type]
    assert 46 <= row <= 55
    assert 0 <= column <= 13


def test_smoothing_is_a_gaussian() -> None:
    x, y = pair(1, 20, 24)
    rough = anomaly_map(x, y, data_range=1.0)
    expected = [gaussian_filter(z, 1.5) for z in rough.numpy()]
    np.testing.assert_allclose(anomaly_map(x, y, data_range=1.0, smoothing=1.5).numpy(), expected, atol=1e-12)


@pytest.mark.usefixtures("no_shape_checks")
def test_bad_options_are_refused() -> None:
    x, y = pair(1, 16, 16)
    for options, message in (
        ({"residual": "l3"}, "residual must be one of 'l2', 'ssim', 'ms_ssim', 'distance', got 'l3'"),
        ({"smoothing": -1.0}, "smoothing must be a number of pixels, at least 0, got -1.0"),
        ({"smoothing": float("inf")}, "smoothing must be a number of pixels, at least 0, got inf"),
        ({"window": Window.gaussian(11)}, "window must have stride 1 and padding 'symmetric' or 'reflect', so that"),
        ({"window": Window.gaussian(11, stride=2, padding="reflect")}, "window must have stride 1 and padding"),
        ({"data_range": 0}, "data_range must be a positive number"),
    ):
        with pytest.raises(ValueError, match=message):
            anomaly_map(x, y, **{"data_range": 1.0, **options})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shape"):
        anomaly_map(x, y[..., :5], data_range=1.0)
    with pytest.raises(ValueError, match="to be mirrored, the height must be at least 5 px"):
        anomaly_map(x[..., :3, :], y[..., :3, :], data_range=1.0, window=WINDOW)
