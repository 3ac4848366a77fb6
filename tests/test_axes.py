"""Images of one, two and three spatial axes, windows with a side, deviation and stride an axis, mirrored borders.

Values and gradients by the definition (`oracles.axes`), in both engines, for pairs and for all pairs.
"""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from oracles import axes as oracle
from ssimgen import Window, distance, engine, ms_ssim, pairwise, presets, ssim, ssim_map
from ssimgen._request import patch_distance
from ssimgen.components import PARTS, Component
from ssimgen.engine import PatchDistance
from ssimgen.engine.axes import prepared
from ssimgen.features import SSIMFeatures
from ssimgen.losses import MSSSIMLoss, SSIMLoss, StructuralDistanceLoss
from ssimgen.metrics import StructuralDistance

Case = tuple[tuple[int, ...], Window]

SIGNALS: list[Case] = [
    ((2, 3, 40), Window.gaussian((3,), 0.8)),
    ((2, 1, 41), Window.uniform((4,), 3, unbiased=True)),
    ((3, 2, 17), Window.gaussian((5,), padding="symmetric")),
]
PLANES: list[Case] = [
    ((2, 2, 9, 21), Window.gaussian((5, 3), (1.5, 0.8))),
    ((2, 1, 9, 12), Window.gaussian((3, 4), stride=(1, 2))),
    ((2, 1, 10, 9), Window.uniform((2, 1), (3, 1), unbiased=True)),
    ((2, 2, 7, 12), Window.uniform(3, padding="reflect")),
    ((1, 1, 8, 11), Window.gaussian(4, stride=3, padding="symmetric")),
]
VOLUMES: list[Case] = [
    ((2, 2, 6, 7, 5), Window.gaussian(3)),
    ((1, 1, 6, 7, 8), Window.uniform((2, 3, 4), (2, 1, 3), unbiased=True)),
    ((2, 2, 4, 9, 8), Window.gaussian((1, 3, 3))),
    ((1, 2, 9, 3, 8), Window.gaussian((3, 1, 3))),
    ((1, 1, 5, 6, 4), Window.gaussian((3, 3, 2), 1.0, padding="reflect")),
]
each_case = pytest.mark.parametrize(
    ("shape", "window"), SIGNALS + PLANES + VOLUMES, ids=lambda value: str(value) if isinstance(value, tuple) else ""
)
DTYPES = [torch.float32, torch.float64]


def images(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(shape, dtype=dtype, generator=generator)
    return x, (x + torch.rand(shape, dtype=dtype, generator=generator)) / 2


def definition(window: Window, spatial: int) -> dict[str, Any]:
    parts = window.axes(spatial)
    size = int(np.prod([part.size for part in parts]))
    return {
        "taps": [part.taps for part in parts],
        "strides": [part.stride for part in parts],
        "beta": size / (size - 1) if window.unbiased else 1.0,
        "padding": window.padding,
    }


def dtype_of(shape: tuple[int, ...]) -> torch.dtype:
    """Half of the cases each, as every window is compiled for every dtype."""
    return DTYPES[sum(shape) % 2]


@each_case
@pytest.mark.parametrize("form", ["product", "sum", "centred", "uncentred"])
def test_values_are_those_of_the_definition(shape: tuple[int, ...], window: Window, form: Any) -> None:
    x, y = images(shape, dtype_of(shape))
    expected = oracle.squared_map(
        x.double().numpy(), y.double().numpy(), form=form, **definition(window, len(shape) - 2)
    )
    patch = PatchDistance(window, form, 1e-4, 9e-4, 0.0)
    np.testing.assert_allclose(engine.squared_map(x, y, patch).numpy(), expected, rtol=0, atol=1e-6)
    mean = distance(x, y, data_range=1.0, form=form, squared=True, window=window)
    np.testing.assert_allclose(mean.numpy(), expected.reshape(len(x), -1).mean(1), rtol=0, atol=1e-6)
    all_pairs = pairwise.distance(x, y, data_range=1.0, form=form, squared=True, window=window)
    np.testing.assert_allclose(all_pairs.diagonal().numpy(), mean.numpy(), rtol=0, atol=1e-6)


@each_case
def test_gradients_are_those_of_the_definition(
    shape: tuple[int, ...], window: Window, generator: torch.Generator
) -> None:
    """Along random directions, of maps and of means, to both images."""
    x, y = images(shape, dtype_of(shape))
    x, y = x.requires_grad_(), y.requires_grad_()
    numbers = [z.detach().double().numpy() for z in (x, y)]
    options = definition(window, len(shape) - 2)
    squares = 1 - ssim_map(x, y, data_range=1.0, window=window)
    upstream = torch.rand(squares.shape, dtype=x.dtype, generator=generator)
    of_map = torch.autograd.grad(squares, (x, y), upstream)
    of_mean = torch.autograd.grad(
        distance(x, y, data_range=1.0, form="product", squared=True, window=window).sum(), (x, y)
    )
    weights = np.full(squares.shape, len(x) / squares.numel())
    for gradients, factors in ((of_map, upstream.double().numpy()), (of_mean, weights)):
        scale = sum(float(g.abs().sum()) for g in gradients)
        for _ in range(3):
            directions = [torch.randn(x.shape, dtype=torch.float64, generator=generator) for _ in range(2)]
            expected = oracle.directional_slope(*numbers, *(d.numpy() for d in directions), factors, **options)
            found = sum(float((g.double() * d).sum()) for g, d in zip(gradients, directions, strict=True))
            assert abs(found - expected) < 1e-6 * scale


@each_case
def test_both_engines_agree(shape: tuple[int, ...], window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values, gradients, and of all pairs."""
    x, y = (z.requires_grad_() for z in images(shape, dtype_of(shape)))

    def everything() -> list[Tensor]:
        pairs = ssim(x, y, data_range=1.0, window=window)
        matrix = pairwise.ssim(x, y, data_range=1.0, window=window)
        return [pairs, matrix, *torch.autograd.grad(pairs.sum(), (x, y)), *torch.autograd.grad(matrix.sum(), (x, y))]

    first = everything()
    monkeypatch.setattr(engine, "fused_can", lambda *images: False)
    for a, b in zip(first, everything(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-6 * float(b.detach().abs().max()))


def test_a_signal_is_an_image_of_one_row_to_the_engines() -> None:
    """Which have kernels for images."""
    signals = torch.rand(2, 3, 9)
    patch = patch_distance(signals, 1.0, Window.gaussian(3), 0.01, 0.03, "product")
    (z,), request, restored = prepared(patch, signals)
    assert z.shape == (2, 3, 1, 9)
    assert [axis.size for axis in request.window.axes(2)] == [1, 3]
    assert restored(z).shape == (2, 3, 9)


def test_a_volume_of_one_slice_is_its_image_bit_for_bit() -> None:
    """Whichever axis is the short one, values, maps, gradients and scales."""
    x, y = images((2, 2, 24, 25), torch.float32)
    plane = Window.gaussian(5)
    for place in range(3):
        sides = [5, 5, 5]
        sides[place] = 1
        window = Window.gaussian(tuple(sides))
        u, v = (z.unsqueeze(2 + place) for z in (x, y))
        for function in (ssim, ms_ssim, distance, pairwise.ssim, pairwise.distance):
            assert torch.equal(
                function(u, v, data_range=1.0, window=window), function(x, y, data_range=1.0, window=plane)
            )
        maps = ssim_map(u, v, data_range=1.0, window=window), ssim_map(x, y, data_range=1.0, window=plane)
        assert torch.equal(maps[0].squeeze(2 + place), maps[1])
        slopes = []
        for pair, own in (((u, v), window), ((x, y), plane)):
            leaves = [z.clone().requires_grad_() for z in pair]
            slopes.append(torch.autograd.grad(ssim(*leaves, data_range=1.0, window=own).sum(), leaves))
        for a, b in zip(*slopes, strict=True):
            assert torch.equal(a.squeeze(2 + place), b)


def test_slices_that_no_window_joins_are_channels() -> None:
    x, y = images((2, 3, 4, 12, 12))
    window = Window.gaussian((1, 5, 5))
    planes = ssim(x.flatten(1, 2), y.flatten(1, 2), data_range=1.0, window=Window.gaussian(5))
    assert torch.equal(ssim(x, y, data_range=1.0, window=window), planes)


@pytest.mark.parametrize("options", [{}, {"gaussian_weights": True, "sigma": 0.8}, {"use_sample_covariance": False}])
def test_volumes_have_the_figures_of_scikit_image(options: dict[str, Any]) -> None:
    """Its map too, which it mirrors the volume for."""
    x, y = (z[0, 0] for z in images((1, 1, 9, 10, 8)))
    size = 7
    mean, full = structural_similarity(x.numpy(), y.numpy(), data_range=1.0, full=True, **options)
    window = Window.gaussian(size, 0.8) if "sigma" in options else Window.uniform(size)
    if options.get("use_sample_covariance", True):
        window = Window(window.taps, beta=size**3 / (size**3 - 1))
    batch = x[None, None], y[None, None]
    assert ssim(*batch, data_range=1.0, window=window).item() == pytest.approx(mean, rel=1e-12)
    mirrored = ssim_map(*batch, data_range=1.0, window=replace(window, padding="symmetric"))
    np.testing.assert_allclose(mirrored[0, 0].numpy(), full, rtol=1e-10, atol=1e-12)


def test_mirrored_images_have_the_figures_of_torchmetrics() -> None:
    x, y = images((2, 3, 24, 30))
    _, full = structural_similarity_index_measure(x, y, data_range=1.0, return_full_image=True)
    found = ssim_map(x, y, data_range=1.0, window=Window.gaussian(11, padding="reflect"))
    torch.testing.assert_close(found, full, rtol=0, atol=1e-7)


def test_sample_covariance_counts_the_pixels_of_all_axes() -> None:
    window = Window.uniform(3, unbiased=True)
    assert [window.factor(axes) for axes in (1, 2, 3)] == pytest.approx([3 / 2, 9 / 8, 27 / 26], rel=1e-15)
    assert Window.uniform((2, 3, 4), unbiased=True).beta == pytest.approx(24 / 23, rel=1e-15)


@pytest.mark.parametrize("padding", ["reflect", "symmetric"])
@pytest.mark.parametrize("size", [1, 2, 5, 6])
@pytest.mark.parametrize("stride", [1, 3])
def test_mirrored_maps_have_the_size_of_the_image(padding: Any, size: int, stride: int) -> None:
    x, y = images((1, 1, 7, 11))
    window = Window.uniform(size, stride, padding=padding)
    found = ssim_map(x, y, data_range=1.0, window=window)
    assert found.shape[2:] == (-(-7 // stride), -(-11 // stride))
    assert found.shape[2:] == tuple(window.positions(side) for side in (7, 11))


@pytest.mark.parametrize("padding", ["reflect", "symmetric"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 8])
def test_mirrored_windows_see_every_pixel_at_any_stride_up_to_their_size(padding: Any, size: int) -> None:
    """Inside alone, disjoint blocks leave the rest of a side unseen."""
    for stride in range(1, size + 1):
        for length in range(max(size, 2), 3 * size + 2):
            axis = Window.uniform(size, stride, padding=padding).axes(1)[0]
            before, _ = axis.margins(length)
            starts = [k * stride - before for k in range(axis.positions(length))]
            assert {p for start in starts for p in range(start, start + size)} >= set(range(length))


def test_mirrored_windows_see_all_pixels_about_equally() -> None:
    """Inside alone, a corner has 1e-6 of the weight of the middle; of the mirrored image, all have the same to 3 %,
    but for pixels beside the border that "reflect" does not double."""
    y = torch.zeros(1, 1, 40, 40, dtype=torch.float64)

    def weight(padding: Any, row: int, column: int) -> float:
        x = y.clone()
        x[..., row, column] = 1e-4
        window = Window.gaussian(11, padding=padding)
        return distance(x, y, data_range=1.0, form="uncentred", squared=True, window=window, k2=1e3).item()

    middle = weight("valid", 20, 20)
    assert weight("valid", 0, 0) < 2e-6 * middle
    for place in ((0, 0), (0, 20), (3, 1), (39, 39)):
        assert weight("symmetric", *place) == pytest.approx(weight("symmetric", 20, 20), rel=0.03)


class TestPublicFunctions:
    """Each takes volumes and signals, and says what it expects of a window."""

    def test_losses(self) -> None:
        x, y = images((2, 1, 12, 13, 14), torch.float32)
        window = Window.gaussian((3, 5, 5))
        for loss in (SSIMLoss, MSSSIMLoss, StructuralDistanceLoss):
            leaf = x.clone().requires_grad_()
            loss(data_range=1.0, window=window)(leaf, y).backward()
            assert leaf.grad is not None
            assert leaf.grad.abs().min() > 0

    def test_scales_of_volumes_are_halved_along_all_axes(self) -> None:
        x, y = images((1, 1, 12, 13, 14))
        window = Window.gaussian(3)
        halves = [torch.nn.functional.avg_pool3d(z, 2) for z in (x, y)]
        fine = distance(x, y, data_range=1.0, form="centred", squared=True, window=window)
        expected = (1 - fine) ** 0.4 * ssim(*halves, data_range=1.0, window=window) ** 0.6
        torch.testing.assert_close(ms_ssim(x, y, data_range=1.0, window=window, weights=(0.4, 0.6)), expected)

    def test_metrics_and_features(self) -> None:
        x, y = images((3, 1, 5, 6, 7))
        window = Window.uniform(3, 2)
        metric = StructuralDistance(1.0, form="centred", window=window)
        assert torch.equal(
            metric.squared(x, y), pairwise.distance(x, y, data_range=1.0, form="centred", squared=True, window=window)
        )
        features = SSIMFeatures(data_range=1.0, image_shape=(1, 5, 6, 7), form="centred", window=window, tolerance=1e-3)
        phi = features.fit_transform(np.concatenate([x.flatten(1), y.flatten(1)]))
        np.testing.assert_allclose(1 - phi[:3] @ phi[3:].T, metric.squared(x, y).numpy(), rtol=0, atol=1e-3)

    @pytest.mark.parametrize("part", PARTS)
    def test_components(self, part: Any) -> None:
        """Of a volume whose slices are not joined, those of its slices; mirrored, of the mirrored image."""
        x, y = images((2, 1, 4, 8, 9))
        plane = Component(part, data_range=1.0, window=Window.gaussian(3))
        volume = Component(part, data_range=1.0, window=Window.gaussian((1, 3, 3)))
        torch.testing.assert_close(volume(x, y), plane(x.flatten(1, 2), y.flatten(1, 2)))
        mirrored = Component(part, data_range=1.0, window=Window.gaussian(3, padding="symmetric"))
        u, v = (z[:, :, 0] for z in (x, y))
        wide = [torch.from_numpy(np.pad(z.numpy(), [(0, 0), (0, 0), (1, 1), (1, 1)], mode="symmetric")) for z in (u, v)]
        torch.testing.assert_close(mirrored(u, v), plane(*wide))

    def test_second_derivatives_of_mirrored_images(self) -> None:
        x, y = (z.requires_grad_() for z in images((1, 1, 4, 5)))
        window = Window.uniform(3, padding="reflect")
        assert torch.autograd.gradgradcheck(lambda u, v: ssim(u, v, data_range=1.0, window=window), (x, y))


@pytest.mark.usefixtures("no_shape_checks")
class TestRefusals:
    X = torch.rand(2, 1, 16, 16)

    def refused(self, text: str, *shape: int, window: Window | None = None) -> None:
        x, options = torch.rand(shape), {} if window is None else {"window": window}
        with pytest.raises(ValueError, match=re.escape(text)):
            ssim(x, x, data_range=1.0, **options)  # type: ignore[arg-type]

    def test_images_of_other_axes_than_the_window(self) -> None:
        signal, volume = Window.uniform((3,)), Window.uniform((3, 3, 3))
        text = "x must have shape (batch, channels, {}), got {}"
        self.refused(text.format("length", (2, 1, 16, 16)), 2, 1, 16, 16, window=signal)
        self.refused(text.format("depth, height, width", (2, 1, 16, 16)), 2, 1, 16, 16, window=volume)
        self.refused(text.format("height, width", (2, 16, 16)), 2, 16, 16)
        self.refused("fold the leading axes into the batch, x.flatten(0, -4)", 2, 1, 4, 4, 16, 16)

    def test_windows_that_do_not_fit_name_the_axis(self) -> None:
        """And the remedy works."""
        text = "window of 11 x 11 x 11 px does not fit images of {} px along the {}: {}"
        series = "are these series of images? Then pass x.flatten(0, 1)"
        self.refused(text.format("4 x 16 x 16", "depth", series), 2, 1, 4, 16, 16)
        smaller = "pass window=Window.gaussian((11, 9, 11)) or smaller"
        self.refused(text.format("16 x 9 x 16", "height", smaller), 2, 1, 16, 9, 16)
        ssim(*images((2, 1, 16, 9, 16)), data_range=1.0, window=Window.gaussian((11, 9, 11)))
        signal = "window of 11 px does not fit images of 9 px along the length: pass window=Window.gaussian((9,))"
        self.refused(signal, 2, 1, 9, window=Window.gaussian((11,)))
        mirrored = "to be mirrored, the height must be at least 6 px"
        self.refused(mirrored, 1, 1, 5, 16, window=Window.gaussian(11, padding="reflect"))
        ssim(*images((1, 1, 6, 16)), data_range=1.0, window=Window.gaussian(11, padding="reflect"))
        ssim(*images((1, 1, 5, 16)), data_range=1.0, window=Window.gaussian(11, padding="symmetric"))

    def test_a_series_beside_images(self) -> None:
        series, image = torch.rand(2, 2, 1, 16, 16), torch.rand(2, 1, 16, 16)
        text = "x and y must have the same axes, got shapes {} and {}: for a batch of series, fold the leading axes, {}"
        for x, y, remedy in ((series, image, "x.flatten(0, -4)"), (image, series, "y.flatten(0, -4)")):
            with pytest.raises(ValueError, match=re.escape(text.format(tuple(x.shape), tuple(y.shape), remedy))):
                pairwise.ssim(x, y, data_range=1.0)
        pairwise.ssim(series.flatten(0, -4), image, data_range=1.0)

    def test_windows(self) -> None:
        for make, text in (
            (
                lambda: Window.gaussian((3, 3), (1.0, 1.0, 1.0)),
                "got 2 in size and 3 in sigma: pass tuples of equal length",
            ),
            (lambda: Window.uniform((3, 3, 3, 3)), "a window has at most 3 axes, got 4"),
            (lambda: Window.uniform(()), "a window has at most 3 axes, got 0"),
            (
                lambda: Window.uniform(3, padding="same"),
                "padding must be one of 'valid', 'reflect', 'symmetric', got 'same'",
            ),
            (lambda: Window.gaussian((3, 0)), "size must be a whole number of pixels, at least 1, got 0"),
            (lambda: Window(((0.5, 0.5), (1.0,)), stride=(1, 2, 3)), "got 2 in taps and 3 in stride"),
            (lambda: Window.uniform((1, 1), unbiased=True), "unbiased=True divides by q - 1 = 0"),
        ):
            with pytest.raises(ValueError, match=re.escape(text)):
                make()

    def test_presets_are_of_planes(self) -> None:
        x = torch.rand(1, 1, 12, 12, 12)
        with pytest.raises(ValueError, match="x must have shape"):
            presets.wang_2004(x, x, data_range=1.0)
