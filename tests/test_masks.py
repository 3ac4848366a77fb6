"""Masked images: normalised convolution by its definition, one window position at a time, and what must not be seen."""

import math
import re
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssimgen import Window, components, distance, ms_ssim, pairwise, ssim, ssim_map
from ssimgen.kernels import SSIM
from ssimgen.losses import MSSSIMLoss, SSIMLoss, StructuralDistanceLoss
from ssimgen.metrics import StructuralDistance

FORMS = ["product", "sum", "centred", "uncentred"]
WINDOWS = [
    Window.gaussian(5, 1.5),
    Window.uniform(4, 3, unbiased=True),
    Window((0.2, 0.3, 0.5), beta=1.7),
    Window.gaussian((3, 5), 1.0, (2, 1), padding="symmetric"),
    Window.uniform(4, 3, unbiased=True, padding="reflect"),
]
NAMES = ["gaussian", "unbiased", "beta", "mirrored", "unbiased and mirrored"]
each_window = pytest.mark.parametrize("window", WINDOWS, ids=NAMES)
Array = NDArray[Any]


def by_definition(
    x: Array, y: Array, mask: Array, window: Window, value: str, c1: float, c2: float
) -> tuple[Array, Array]:
    """d^2 of a form, or a component of SSIM, and weight of every position, (H, W) images."""
    down, across = window.axes(2)
    if window.padding != "valid":
        margins = [axis.margins(side) for axis, side in zip((down, across), x.shape, strict=True)]
        x, y, mask = (np.pad(z, margins, mode=window.padding) for z in (x, y, mask))
    rows = range(0, x.shape[0] - down.size + 1, down.stride)
    columns = range(0, x.shape[1] - across.size + 1, across.stride)
    values, weights = np.full((len(rows), len(columns)), np.nan), np.zeros((len(rows), len(columns)))
    taps = np.outer(down.taps, across.taps)
    for (i, row), (j, column) in product(enumerate(rows), enumerate(columns)):
        place = slice(row, row + down.size), slice(column, column + across.size)
        seen = mask[place] > 0
        w, u, v = (taps * mask[place])[seen], x[place][seen], y[place][seen]
        if len(w) < 1 + window.unbiased:
            continue
        weights[i, j], w = w.sum(), w / w.sum()
        beta = 1 / (1 - (w**2).sum()) if window.unbiased else window.beta
        m_x, m_y = (w * u).sum(), (w * v).sum()
        v_x, v_y, cov = (
            beta * (w * a * b).sum() for a, b in ((u - m_x, u - m_x), (v - m_y, v - m_y), (u - m_x, v - m_y))
        )
        s1, s2 = (2 * m_x * m_y + c1) / (m_x**2 + m_y**2 + c1), (2 * cov + c2) / (v_x + v_y + c2)
        norms = [beta * (w * z**2).sum() for z in (u, v, u - v)]
        uncentred = norms[2] / (norms[0] + norms[1] + c2)
        forms = {"product": 1 - s1 * s2, "sum": 2 - s1 - s2, "centred": 1 - s2, "uncentred": uncentred}
        sigmas = np.sqrt(v_x * v_y)
        contrast, structure = (2 * sigmas + c2) / (v_x + v_y + c2), (cov + c2 / 2) / (sigmas + c2 / 2)
        values[i, j] = {**forms, "luminance": s1, "contrast": contrast, "structure": structure}[value]
    return values, weights


def images(*shape: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """A pair, and weights of which a third are 0, a third 1 and the rest between."""
    generator = torch.Generator().manual_seed(0)
    x, y, chance = torch.rand(3, *shape, dtype=torch.float64, generator=generator)
    mask = (3 * chance - 1).clamp(0, 1)
    mask[..., :4, :4] = 0  # a corner that whole windows do not see
    return x.to(dtype), ((x + y) / 2).to(dtype), mask


@each_window
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scale", [1.0, 1e6], ids=["", "far outside of the range"])
@pytest.mark.filterwarnings("ignore::ssimgen.DataRangeWarning")
def test_values_are_those_of_the_definition(window: Window, form: Any, scale: float) -> None:
    """Maps and means, of pixels that fit the range and of some that do not."""
    x, y, mask = images(2, 3, 12, 13)
    x, y = scale * x, scale * y
    options: dict[str, Any] = {"data_range": 1.0, "window": window, "mask": mask}
    means = distance(x, y, form=form, squared=True, **options)
    sums = distance(x, y, form=form, squared=True, norm="frobenius", **options)
    maps = 1 - ssim_map(x, y, **options)
    for b in range(2):
        total = weight = 0.0
        for c in range(3):
            squares, weights = by_definition(*(z[b, c].numpy() for z in (x, y, mask)), window, form, 1e-4, 9e-4)
            total += np.nansum(squares * weights)
            weight += weights.sum()
            if form == "product":
                np.testing.assert_allclose(maps[b, c].numpy(), squares, rtol=0, atol=1e-9)
        assert means[b].item() == pytest.approx(total / weight, rel=1e-9)
        assert sums[b].item() == pytest.approx(total, rel=1e-9)


@each_window
def test_components_are_those_of_the_definition(window: Window) -> None:
    """Maps, products of powers, whose mean is weighted, and what is there where nothing is seen."""
    x, y, mask = images(2, 3, 12, 13)
    options: dict[str, Any] = {"data_range": 1.0, "window": window, "mask": mask}
    parts = components.maps(x, y, **options)
    found = components.ssim(x, y, alpha=0.5, beta=2.0, gamma=1.0, **options)
    for b in range(2):
        total = weight = 0.0
        for c in range(3):
            planes = [z[b, c].numpy() for z in (x, y, mask)]
            exact = [by_definition(*planes, window, part, 1e-4, 9e-4) for part in components.PARTS]
            for part, (values, _) in zip(parts, exact, strict=True):
                np.testing.assert_allclose(part[b, c].numpy(), values, rtol=0, atol=1e-9)
            (luminance, weights), (contrast, _), (structure, _) = exact
            total += np.nansum(luminance**0.5 * contrast**2 * structure * weights)
            weight += weights.sum()
        assert found[b].item() == pytest.approx(total / weight, rel=1e-9)
    filled = components.ssim_map(x, y, fill=0.5, **options)
    torch.testing.assert_close(filled, ssim_map(x, y, fill=0.5, **options), rtol=0, atol=1e-9)
    assert components.maps(x, y, fill=0.5, **options).structure[ssim_map(x, y, **options).isnan()].eq(0.5).all()


@pytest.mark.parametrize("exponent", [0.05, 3.0])
def test_powers_of_components_are_bounded(exponent: float) -> None:
    """Of sample covariances of few pixels too, whose factor is large; gradients are finite."""
    x, y, mask = images(1, 2, 12, 13)
    x = (x > 0.5).double().requires_grad_()
    options: dict[str, Any] = {"alpha": exponent, "beta": exponent, "gamma": exponent}
    window = Window.uniform(3, unbiased=True)
    values = components.ssim_map(x, y.round(), data_range=1.0, window=window, mask=mask, fill=0.0, **options)
    assert values.abs().max() <= 1
    assert torch.autograd.grad(values.sum(), x)[0].isfinite().all()
    edge, flat = torch.eye(2, dtype=torch.float64)[None, None], torch.zeros(1, 1, 2, 2, dtype=torch.float64)
    options = {"alpha": 0, "beta": exponent, "gamma": 0, "window": Window.uniform(2, unbiased=True)}
    value = components.ssim_map(edge, flat, data_range=1.0, mask=torch.tensor([[1], [0]]), **options)
    assert value.item() == pytest.approx((9e-4 / (0.5 + 9e-4)) ** exponent)  # of two pixels, 0 and 1


@pytest.mark.parametrize("scale", [1e-300, 1e-45, 1e39, 1e300])
def test_weights_of_float64_keep_their_digits(scale: float) -> None:
    """A common factor of the weights changes nothing."""
    x, y, mask = images(2, 3, 12, 13, dtype=torch.float32)
    mask = mask.double()
    for function in (ssim, distance, ms_ssim):
        options = {"data_range": 1.0, "window": Window.gaussian(3)}
        expected = function(x, y, mask=mask, **options)
        torch.testing.assert_close(function(x, y, mask=scale * mask, **options), expected, rtol=1e-5, atol=1e-6)


@each_window
@pytest.mark.filterwarnings("ignore::ssimgen.DataRangeWarning")
def test_large_offsets_cost_no_digits(window: Window) -> None:
    """Pixels of 2^43 and some 64ths, hidden ones in the middle of windows: d^2 of patches without their mean."""
    x, y, mask = images(2, 3, 12, 13)
    x, y = ((64 * z).round() / 64 for z in (x, y))
    options: dict[str, Any] = {"data_range": 1.0, "form": "centred", "window": window, "mask": mask}
    torch.testing.assert_close(distance(x + 2**43, y + 2**43, **options), distance(x, y, **options), rtol=1e-9, atol=0)


@each_window
def test_the_faintest_noise_is_seen_beside_a_flat_image(window: Window) -> None:
    """x - y leaves nothing of y, which is all of D."""
    x, y, mask = images(2, 3, 12, 13)
    options: dict[str, Any] = {"data_range": 1.0, "form": "centred", "window": window, "mask": mask}
    found = distance(0 * x + 0.3, 1e-40 * y, **options)
    torch.testing.assert_close(found, distance(0 * x, 1e-40 * y, **options), rtol=1e-9, atol=0)
    assert (found > 0).all()


@each_window
@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_those_of_values(window: Window, form: Any) -> None:
    x, y, mask = (z[:, :, 2:9, 2:9] for z in images(1, 1, 12, 13))
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()

    def value(u: Tensor, v: Tensor) -> Tensor:
        return distance(u, v, data_range=1.0, form=form, squared=True, window=window, mask=mask)

    assert torch.autograd.gradcheck(value, (x, y), atol=1e-7, fast_mode=True)
    assert torch.autograd.gradgradcheck(value, (x, y), atol=1e-6, fast_mode=True)


@each_window
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_mask_of_ones_is_no_mask_bit_for_bit(window: Window, dtype: torch.dtype) -> None:
    x, y, _ = images(2, 3, 16, 17, dtype=dtype)
    for mask in (torch.ones(16, 17), torch.ones(2, 1, 16, 17, dtype=torch.bool), torch.ones((), dtype=torch.int64)):
        for function in (ssim, ssim_map, distance, ms_ssim, components.ssim):
            plain = function(x, y, data_range=1.0, window=window)
            assert torch.equal(function(x, y, data_range=1.0, window=window, mask=mask), plain)


def test_values_are_continuous_in_the_mask() -> None:
    """Towards no mask, and towards a hidden pixel."""
    x, y, mask = images(1, 1, 16, 16)
    options: dict[str, Any] = {"data_range": 1.0, "window": Window.gaussian(5)}
    nearly = ssim(x, y, mask=torch.ones(16, 16) - 1e-6 * mask[0, 0].float(), **options)
    assert nearly.item() == pytest.approx(ssim(x, y, **options).item(), abs=1e-5)
    faint = torch.where(mask > 0, mask, 1e-9)
    assert ssim(x, y, mask=faint, **options).item() == pytest.approx(ssim(x, y, mask=mask, **options).item(), abs=1e-6)


@pytest.mark.parametrize("hidden", [math.nan, math.inf, -1e300, 1e30])
def test_hidden_pixels_touch_nothing(hidden: float) -> None:
    """Neither values nor first or second derivatives, of any function."""
    window = Window.gaussian(3)
    x, y, mask = images(2, 1, 14, 15)
    bad = mask == 0
    spoilt = [torch.where(bad, hidden, z) for z in (x, y)]

    def everything(u: Tensor, v: Tensor) -> list[Tensor]:
        u, v = u.clone().requires_grad_(), v.clone().requires_grad_()
        options: dict[str, Any] = {"data_range": 1.0, "window": window, "mask": mask}
        values = [ssim(u, v, **options), ms_ssim(u, v, **options), ssim_map(u, v, fill=0.5, **options)]
        values += [distance(u, v, form=form, **options) for form in FORMS]  # type: ignore[arg-type]
        values += [components.ssim(u, v, gamma=0.5, **options), *components.maps(u, v, fill=0.5, **options)]
        values += [
            loss(data_range=1.0, window=window)(u, v, mask) for loss in (SSIMLoss, MSSSIMLoss, StructuralDistanceLoss)
        ]
        first = torch.autograd.grad(sum(value.sum() for value in values), (u, v), create_graph=True)
        second = torch.autograd.grad(sum((g**2).sum() for g in first), (u, v))
        return [*values, *first, *second]

    for clean, found in zip(everything(x, y), everything(*spoilt), strict=True):
        assert clean.isfinite().all()
        assert torch.equal(clean, found)
    assert all(g[bad.expand_as(g)].abs().max() == 0 for g in everything(*spoilt)[-4:])


def test_a_mask_crops() -> None:
    """Windows that reach into what is hidden see less; a mask of a stripe wider than the windows is not the crop, but
    its inner windows are."""
    x, y, _ = images(1, 2, 20, 20)
    mask = torch.zeros(20, 20, dtype=torch.bool)
    mask[4:16, 4:16] = True
    window = Window.gaussian(5)
    full = ssim_map(x, y, data_range=1.0, window=window, mask=mask)
    inner = ssim_map(x[..., 4:16, 4:16], y[..., 4:16, 4:16], data_range=1.0, window=window)
    torch.testing.assert_close(full[..., 4:12, 4:12], inner, rtol=0, atol=1e-12)
    corner = full[..., :1, :1]  # one pixel seen: means alone can differ
    luminance = (2 * x * y + 1e-4) / (x**2 + y**2 + 1e-4)
    torch.testing.assert_close(corner, luminance[..., 4:5, 4:5], rtol=0, atol=1e-12)
    assert full[..., 12:, 12:].shape[-1] == 4
    assert ssim_map(x, y, data_range=1.0, window=Window.gaussian(3), mask=mask).isnan()[..., :2, :].all()


def test_scales_halve_mask_and_image_together() -> None:
    x, y, mask = images(1, 1, 16, 16)
    window = Window.gaussian(3)
    fine = 1 - distance(x, y, data_range=1.0, form="centred", squared=True, window=window, mask=mask)
    halves = torch.nn.functional.avg_pool2d(mask, 2)
    u, v = (torch.nn.functional.avg_pool2d(mask * z, 2) / halves.clamp_min(1e-300) for z in (x, y))
    coarse = ssim(u, v, data_range=1.0, window=window, mask=halves)
    found = ms_ssim(x, y, data_range=1.0, window=window, weights=(0.4, 0.6), mask=mask)
    torch.testing.assert_close(found, fine**0.4 * coarse**0.6)


def test_scales_under_masks_are_those_of_each_image_and_channel() -> None:
    x, y, mask = images(3, 2, 16, 16)
    mask = mask[:, :1].expand_as(x)
    options = {"data_range": 1.0, "window": Window.gaussian(3), "weights": (0.4, 0.6)}
    alone = [
        [ms_ssim(*(z[i : i + 1, c : c + 1] for z in (x, y)), mask=mask[i : i + 1, :1], **options) for c in range(2)]
        for i in range(3)
    ]
    expected = torch.tensor(alone, dtype=x.dtype).mean(1)
    torch.testing.assert_close(ms_ssim(x, y, mask=mask, **options), expected)


def test_masks_of_volumes_and_of_ranges_an_image() -> None:
    """Slices that no window joins are those of the images, under the mask of each; a range an image is that of it."""
    x, y, mask = images(2, 3, 4, 9, 10)
    volume = ssim(x, y, data_range=1.0, window=Window.gaussian((1, 3, 3)), mask=mask)
    planes = [z.flatten(1, 2) for z in (x, y, mask)]
    torch.testing.assert_close(volume, ssim(*planes[:2], data_range=1.0, window=Window.gaussian(3), mask=planes[2]))
    samples = Window.uniform((1, 3, 3), unbiased=True), Window.uniform(3, unbiased=True)
    volume = ssim(x, y, data_range=1.0, window=samples[0], mask=mask)
    torch.testing.assert_close(volume, ssim(*planes[:2], data_range=1.0, window=samples[1], mask=planes[2]))
    joined = ssim(x, y, data_range=1.0, window=Window.gaussian(3), mask=mask)
    assert joined.isfinite().all()
    ranges = torch.tensor([1.0, 2.0])
    both = ssim(x, y, data_range=ranges, window=Window.gaussian(3), mask=mask)
    second = ssim(x[1:], y[1:], data_range=2.0, window=Window.gaussian(3), mask=mask[1:])
    torch.testing.assert_close(both, torch.cat([joined[:1], second]))


def test_no_warning_of_a_range_that_is_left_by_hidden_pixels_alone() -> None:
    x, y, mask = images(1, 1, 16, 16)
    ssim(torch.where(mask > 0, x, -9999.0), y, data_range=1.0, window=Window.gaussian(3), mask=mask)


class TestAllPairs:
    """One mask for all images."""

    @each_window
    @pytest.mark.parametrize("form", FORMS)
    def test_entries_are_those_of_pairs(self, window: Window, form: Any) -> None:
        x, y, mask = images(3, 2, 12, 13)
        mask = mask[:1]
        options: dict[str, Any] = {"data_range": 1.0, "window": window, "form": form, "mask": mask}
        for norm in ("rms", "frobenius"):
            matrix = pairwise.distance(x, y, norm=norm, squared=True, **options)
            for i, j in product(range(3), range(3)):
                pair = distance(x[i : i + 1], y[j : j + 1], norm=norm, squared=True, **options)
                assert matrix[i, j].item() == pytest.approx(pair.item(), rel=1e-9)
        own = pairwise.distance(x, **options)
        assert torch.equal(own, own.T)
        assert own.diagonal().tolist() == [0, 0, 0]

    def test_hidden_pixels_touch_nothing(self) -> None:
        x, y, mask = images(3, 1, 12, 12)
        mask = mask[0]
        found = []
        for value in (0.5, math.nan):
            u, v = (torch.where(mask == 0, value, z).requires_grad_() for z in (x, y))
            options: dict[str, Any] = {"data_range": 1.0, "window": Window.gaussian(5), "mask": mask}
            matrices = [pairwise.ssim(u, v, **options), pairwise.distance(u, v, scales=2, pixels=0.1, **options)]
            total = sum((matrix**2).sum() for matrix in matrices)
            found.append([*matrices, *torch.autograd.grad(total, (u, v))])
        for clean, spoilt in zip(*found, strict=True):
            assert clean.isfinite().all()
            assert torch.equal(clean, spoilt)

    def test_metrics_and_kernels(self) -> None:
        """A metric, a positive definite kernel; equal if their masks are."""
        x, y, mask = images(6, 1, 12, 12)
        mask = mask[0, 0]
        metric = StructuralDistance(1.0, window=Window.gaussian(5), mask=mask)
        square = metric.squared(torch.cat([x, y]))
        torch.testing.assert_close(metric.squared(x, y), square[:6, 6:], rtol=0, atol=1e-12)
        assert torch.linalg.eigvalsh((-square).exp()).min() > 0
        kernel = SSIM(1.0, Window.gaussian(5), mask=mask)
        assert torch.linalg.eigvalsh(kernel(torch.cat([x, y]))).min() > 0
        assert metric == StructuralDistance(1.0, window=Window.gaussian(5), mask=mask.clone())
        assert metric != StructuralDistance(1.0, window=Window.gaussian(5))
        assert len({kernel, SSIM(1.0, Window.gaussian(5), mask=mask.clone()), SSIM(1.0, Window.gaussian(5))}) == 2

    @pytest.mark.parametrize("window", [WINDOWS[0], WINDOWS[3], Window.uniform(12, unbiased=True)], ids=str)
    def test_components_are_metrics(self, window: Window) -> None:
        """Equal if their masks are; of one patch, their product is SSIM; luminance is that of pairs."""
        x, y, mask = images(6, 2, 12, 12)
        mask = mask[:1]
        similarities = {}
        for part in components.PARTS:
            metric = components.Component(part, 1.0, window=window, mask=mask)
            square = metric.squared(torch.cat([x, y]))
            spoilt = (torch.where(mask == 0, math.nan, z) for z in (x, y))
            torch.testing.assert_close(metric.squared(*spoilt), square[:6, 6:], rtol=0, atol=1e-12)
            assert torch.equal(square, square.T)
            assert not square.diagonal().any()
            assert torch.linalg.eigvalsh((-square).exp()).min() > 0
            assert metric == components.Component(part, 1.0, window=window, mask=mask.clone())
            assert metric != components.Component(part, 1.0, window=window)
            similarities[part] = 1 - square[:6, 6:].diagonal()
        options: dict[str, Any] = {"data_range": 1.0, "window": window, "mask": mask}
        luminance = components.ssim(x, y, beta=0, gamma=0, **options)
        torch.testing.assert_close(similarities["luminance"], luminance, rtol=0, atol=1e-12)
        if window.size == 12:
            x, y = x[:, :1], y[:, :1]
            options["mask"] = mask[:, :1]
            product = torch.ones(6, dtype=torch.float64)
            for part in components.PARTS:
                product *= 1 - components.Component(part, **options).squared(x, y).diagonal()
            torch.testing.assert_close(product, ssim(x, y, **options), rtol=0, atol=1e-12)

    def test_masks_of_each_image_make_no_metric(self) -> None:
        """The counter-example of the docs: pairs are seen where both images are."""
        point = Window((1.0,))
        x, y, z = (torch.tensor(pixels, dtype=torch.float64).view(1, 1, 1, 2) for pixels in ([0, 0], [0, 0], [1, 0]))
        seen = {"x": torch.tensor([1, 1]), "y": torch.tensor([0, 1]), "z": torch.tensor([1, 1])}

        def d(a: Tensor, b: Tensor, mask: Tensor) -> float:
            return distance(a, b, data_range=1.0, window=point, mask=mask).item()

        d_xy, d_yz, d_xz = (
            d(x, y, seen["x"] * seen["y"]), d(y, z, seen["y"] * seen["z"]), d(x, z, seen["x"] * seen["z"])
        )  # fmt: skip
        assert d_xy == d_yz == 0 < d_xz
        square = torch.tensor([[0, d_xy, d_xz], [d_xy, 0, d_yz], [d_xz, d_yz, 0]]) ** 2
        assert torch.linalg.eigvalsh((-square).exp()).min() < -0.1

    def test_masks_of_each_image_are_refused(self) -> None:
        x, y, mask = images(3, 1, 12, 12)
        with pytest.raises(ValueError, match="mask must be one for all images here, of shape"):
            pairwise.distance(x, y, data_range=1.0, window=Window.gaussian(5), mask=mask)
        for part in components.PARTS:
            with pytest.raises(ValueError, match="mask must be one for all images here, of shape"):
                components.Component(part, 1.0, window=Window.gaussian(5), mask=mask)(x, y)
            with pytest.raises(ValueError, match="mask leaves no window that sees a pixel of image 0"):
                components.Component(part, 1.0, window=Window.gaussian(5), mask=torch.zeros(12, 12))(x, y)


@pytest.mark.usefixtures("no_shape_checks")
class TestRefusals:
    X = torch.rand(2, 3, 16, 16)

    def refused(self, kind: type[Exception], text: str, mask: Any) -> None:
        for function in (ssim, ssim_map, ms_ssim, distance, components.maps, components.ssim):
            with pytest.raises(kind, match=re.escape(text)):
                function(self.X, self.X, data_range=1.0, mask=mask)  # type: ignore[operator]

    def test_what_is_no_mask(self) -> None:
        self.refused(
            TypeError, "mask must be a torch.Tensor of bool or of weights >= 0, got ndarray", np.ones((16, 16))
        )
        self.refused(TypeError, "mask must be bool or weights >= 0, got torch.complex64", torch.ones(16, 16) * 1j)

    @pytest.mark.parametrize("shape", [(15, 16), (3, 1, 16, 16), (2, 2, 16, 16), (1, 2, 3, 16, 16)])
    def test_other_shapes(self, shape: tuple[int, ...]) -> None:
        text = f"mask must have the shape of the images, (2, 3, 16, 16), or one that broadcasts, got {shape}"
        self.refused(ValueError, text, torch.ones(shape))

    @pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
    def test_weights_that_are_none(self, value: float) -> None:
        mask = torch.ones(16, 16)
        mask[3, 3] = value
        wanted = "finite weights >= 0" if value == math.inf else "weights >= 0"
        self.refused(ValueError, f"mask must be {wanted}, got values from", mask)

    @pytest.mark.parametrize(("unbiased", "seen"), [(False, "a pixel"), (True, "two pixels")])
    def test_what_windows_must_see(self, unbiased: bool, seen: str) -> None:
        """A sample covariance is of two pixels at least."""
        x, mask = torch.rand(1, 1, 8, 8), torch.zeros(8, 8)
        with pytest.raises(ValueError, match=f"mask leaves no window that sees {seen} of image 0"):
            ssim(x, x, data_range=1.0, mask=mask, window=Window.uniform(4, unbiased=unbiased))
        mask[0, 0] = 1
        window = Window.uniform(4, unbiased=unbiased)
        if unbiased:
            with pytest.raises(ValueError, match="mask leaves no window that sees two pixels of image 0"):
                ssim(x, x, data_range=1.0, mask=mask, window=window)
            mask[0, 1] = 1
        assert ssim(x, x, data_range=1.0, mask=mask, window=window).item() == 1

    def test_an_image_of_which_nothing_is_left(self) -> None:
        mask = torch.ones(2, 1, 16, 16)
        mask[1] = 0
        self.refused(ValueError, "of image 1: leave that image out, or widen its mask", mask)
