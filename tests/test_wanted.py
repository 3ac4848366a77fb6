"""What users of other libraries asked for or were hurt by, each with the public thread that says so."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from image_pairs import random_images, tensors
from ssimgen import Window, arrays, distance, ms_ssim, ssim, ssim_map
from ssimgen.losses import SSIMLoss


@pytest.mark.usefixtures("eager_engine")
def test_a_mask_neither_leaks_nor_draws_edges() -> None:
    """pytorch-msssim #50 and PR53: a map that is averaged where pixels are seen lets hidden ones in, and images that
    are set to 0 beforehand have edges of their own. Flat tones have the luminance term alone."""
    mask = torch.zeros(32, 32, dtype=torch.bool)
    mask[8:24, 8:24] = True
    noise = tensors(*random_images(1, 1, 32, 32))
    x, y = (torch.where(mask, tone, z) for tone, z in zip((0.5, 0.6), noise, strict=True))
    luminance = (2 * 0.5 * 0.6 + 1e-4) / (0.5**2 + 0.6**2 + 1e-4)

    def naive(u: Tensor, v: Tensor) -> Tensor:
        return ssim_map(u, v, data_range=1.0, window=Window.gaussian(11, padding="reflect"))[..., mask].mean()

    assert ssim(x, y, data_range=1.0, mask=mask).item() == pytest.approx(luminance, abs=1e-12)
    assert naive(x, y) < luminance - 0.1
    assert naive(x * mask, y * mask) < luminance - 0.005


@pytest.mark.usefixtures("each_engine")
@pytest.mark.parametrize("place", [(0, 0), (12, 13), (23, 25)], ids=str)
def test_a_missing_pixel_spoils_the_windows_that_see_it_alone(place: tuple[int, int]) -> None:
    """cloudcasting #11 and PR52: running sums carry NaN from the first pixel to all others."""
    x, y = tensors(*random_images(1, 1, 24, 26))
    expected = ssim_map(x, y, data_range=1.0)
    x[0, 0][place] = torch.nan
    found = ssim_map(x, y, data_range=1.0)
    spoilt = F.max_pool2d(x.isnan().double(), 11, stride=1) > 0
    assert torch.equal(found.isnan(), spoilt)
    torch.testing.assert_close(found[~spoilt], expected[~spoilt], rtol=0, atol=1e-12)


def test_one_mask_of_land_serves_all_frames_of_a_series() -> None:
    """ldcpy #225, cloudcasting #11, WeatherGenerator #2723: seas or skies over time, with NaN elsewhere."""
    x, y = tensors(*random_images(2, 3, 4, 16, 17))  # (B, C, time, H, W)
    land = torch.rand(16, 17, generator=torch.Generator().manual_seed(0)) < 0.3
    options: dict[str, Any] = {"data_range": 1.0, "mask": ~land}
    series = ssim(torch.where(land, torch.nan, x), y, window=Window.gaussian((1, 5, 5)), **options)
    frames = [ssim(x[:, :, t], y[:, :, t], window=Window.gaussian(5), **options) for t in range(4)]
    torch.testing.assert_close(series, torch.stack(frames).mean(0))


@pytest.mark.usefixtures("eager_engine")
@pytest.mark.parametrize("padding", ["valid", "reflect"])
def test_a_volume_of_equal_slices_has_the_figures_of_its_slice(padding: Any) -> None:
    """torchmetrics #1656: MS-SSIM of volumes kept margins along the depth in its term of contrast."""
    x, y = tensors(*random_images(2, 1, 24, 26))
    volumes = [z[:, :, None].expand(-1, -1, 12, -1, -1) for z in (x, y)]
    thick = Window.gaussian((3, 5, 5), (0.8, 1.5, 1.5), padding=padding)
    options: dict[str, Any] = {"data_range": 1.0, "window": Window.gaussian(5, 1.5, padding=padding)}
    for function in (ssim, distance):
        torch.testing.assert_close(function(*volumes, data_range=1.0, window=thick), function(x, y, **options))
    found = ms_ssim(*volumes, data_range=1.0, window=thick, weights=(0.4, 0.6))
    torch.testing.assert_close(found, ms_ssim(x, y, weights=(0.4, 0.6), **options))


def test_a_batch_in_colour_has_a_loss_in_the_range_of_its_greatest_value() -> None:
    """MONAI #6267: of more than one image and more than one channel, under a range that is a tensor."""
    x, y = (torch.tensor(3.7 * z) for z in random_images(5, 3, 16, 16))
    loss = SSIMLoss(data_range=x.max(), reduction="none")(x, y)
    alone = [1 - ssim(x[[i]], y[[i]], data_range=x.max().item()) for i in range(5)]
    torch.testing.assert_close(loss, torch.cat(alone), rtol=1e-12, atol=0)


@pytest.mark.usefixtures("eager_engine")
def test_an_image_smaller_than_the_window_is_no_other_index() -> None:
    """pytorch-msssim #23: of 7 x 7 px, filters that are left out in silence give 0.98 where scikit-image gives 0.4858
    (in floating-point numbers, of which it took the range for 2)."""
    corner, edge = np.ones((2, 7, 7), np.float32)
    corner[4:, :3] = edge[4:, 0] = 0
    assert arrays.structural_similarity(edge, corner, data_range=2) == pytest.approx(0.4858374093651142, abs=1e-6)
    with pytest.raises(ValueError, match="window of 11 x 11 px does not fit images of 7 x 7 px"):
        arrays.ssim(edge, corner, data_range=1)
