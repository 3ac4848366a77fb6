"""Components of SSIM: by their definitions, by their product, and by what each does not see."""

import numpy as np
import pytest
import torch
from torch import Tensor

from oracles import ssim as oracle
from ssimgen import Window
from ssimgen.components import PARTS, Component, Part
from ssimgen.kernels import Gaussian

pytestmark = [
    pytest.mark.usefixtures("eager_engine"),
    pytest.mark.filterwarnings("ignore::ssimgen.DataRangeWarning"),  # some are out of range on purpose
]

WINDOWS = {
    "gaussian": Window.gaussian(5, 1.0, stride=2),
    "blocks": Window.uniform(4, stride=4, unbiased=True),
    "image": Window.uniform(12),
}
each_part = pytest.mark.parametrize("part", PARTS)
each_window = pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)


def images(n: int, generator: torch.Generator) -> Tensor:
    return torch.rand(n, 2, 12, 13, generator=generator, dtype=torch.float64)


def similarity(part: Part, x: np.ndarray, y: np.ndarray, window: Window, c1: float, c2: float) -> float:
    """Mean over patches and channels of the similarity of two images (C, H, W), as the module begins with."""
    weights = np.outer(window.taps, window.taps)
    size, stride = window.size, window.stride
    values = []
    for top in range(0, x.shape[1] - size + 1, stride):
        for left in range(0, x.shape[2] - size + 1, stride):
            u, v = (z[:, top : top + size, left : left + size] for z in (x, y))
            mu_x, mu_y, var_x, var_y, cov = oracle.statistics(u, v, weights, window.beta)
            sigma_x, sigma_y = np.sqrt(var_x + c2 / 2), np.sqrt(var_y + c2 / 2)
            values.append(
                {
                    "luminance": (2 * mu_x * mu_y + c1) / (mu_x**2 + mu_y**2 + c1),
                    "contrast": 2 * sigma_x * sigma_y / (sigma_x**2 + sigma_y**2),
                    "structure": (cov + c2 / 2) / (sigma_x * sigma_y),
                }[part]
            )
    return float(np.mean(values))


@each_window
@each_part
def test_values_are_those_of_the_definition(part: Part, window: Window, generator: torch.Generator) -> None:
    x, y = images(3, generator), images(2, generator)
    metric = Component(part, data_range=(-1.0, 1.0), window=window, k1=0.02, k2=0.05)
    expected = [
        [1 - similarity(part, a + 1, b + 1, window, (0.02 * 2) ** 2, (0.05 * 2) ** 2) for b in y.numpy()]
        for a in x.numpy()
    ]
    np.testing.assert_allclose(metric.squared(x, y), expected, rtol=1e-9)
    np.testing.assert_allclose(metric(x, y), np.sqrt(expected), rtol=1e-9)


def test_their_product_is_ssim(generator: torch.Generator) -> None:
    """Of a patch: here the image is one."""
    x, y = (images(4, generator)[:, :1, :, :12] for _ in range(2))
    window = Window.gaussian(12, 4.0)
    product = torch.ones(4, dtype=torch.float64)
    for part in PARTS:
        product *= 1 - Component(part, data_range=1.0, window=window).squared(x, y).diagonal()
    weights = np.outer(window.taps, window.taps)
    expected = oracle.patch_ssim(x.numpy(), y.numpy(), weights, window.beta, 0.01**2, 0.03**2)[:, 0]
    np.testing.assert_allclose(product, expected, rtol=1e-12)


@each_part
def test_a_sample_against_itself(part: Part, generator: torch.Generator) -> None:
    x = images(5, generator)
    distances = Component(part, data_range=1.0, window=WINDOWS["gaussian"])(x)
    assert (distances == distances.T).all()
    assert (distances.diagonal() == 0).all()


@each_window
@each_part
def test_kernels_are_positive_definite(part: Part, window: Window, generator: torch.Generator) -> None:
    """Also of flat, black and nearly equal images; the component itself, and a Gaussian on it."""
    x = torch.cat([images(12, generator), torch.zeros(1, 2, 12, 13), torch.full((1, 2, 12, 13), 0.7)]).double()
    x = torch.cat([x, x[:3] + 1e-6, x[3:6] * 0.3 + 0.4])
    metric = Component(part, data_range=1.0, window=window)
    for gram in (1 - metric.squared(x), Gaussian(metric, (0.2,))(x)):
        assert torch.linalg.eigvalsh(gram).min() > -1e-12


def test_what_each_does_not_see(generator: torch.Generator) -> None:
    """Brightness is luminance alone; contrast is contrast alone; a pattern of equal mean and variance, structure."""
    window = Window.uniform(4, stride=4)
    x = 0.3 + 0.2 * torch.rand(1, 1, 12, 12, generator=generator, dtype=torch.float64)
    mean = x.unfold(2, 4, 4).unfold(3, 4, 4).mean((-2, -1)).repeat_interleave(4, 2).repeat_interleave(4, 3)
    seen = {
        "luminance": x + 0.2,
        "contrast": mean + 1.7 * (x - mean),
        "structure": 2 * mean - x,  # of each block, the negative
    }
    for part in PARTS:
        metric = Component(part, data_range=1.0, window=window, k2=1e-6)
        for change, y in seen.items():
            value = metric(x, y).item()
            assert (value > 0.1) if change == part else (value < 1e-3), (part, change, value)


@each_part
def test_signals_and_volumes(part: Part, generator: torch.Generator) -> None:
    """A signal is an image with one row, a slice that nothing joins an image."""
    x = torch.rand(4, 2, 17, generator=generator)
    signals = Component(part, 1.0, window=Window.uniform((4,), stride=2))(x)
    rows = Component(part, 1.0, window=Window.uniform((1, 4), stride=(1, 2)))(x[:, :, None])
    torch.testing.assert_close(signals, rows)
    z = torch.rand(4, 2, 3, 8, 9, generator=generator)
    volumes = Component(part, 1.0, window=Window.uniform((1, 4, 4)))(z)
    torch.testing.assert_close(volumes, Component(part, 1.0, window=Window.uniform(4))(z.flatten(1, 2)))


@each_part
def test_single_precision(part: Part, generator: torch.Generator) -> None:
    """Stays, and is accurate on bright, nearly flat images too."""
    x, y = (0.9 + 0.02 * images(4, generator) for _ in range(2))
    metric = Component(part, data_range=1.0)
    value = metric.squared(x.float(), y.float())
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), metric.squared(x, y), rtol=1e-3, atol=1e-6)


@each_part
def test_gradients(part: Part, generator: torch.Generator) -> None:
    x, y = images(2, generator), images(2, generator)
    metric = Component(part, data_range=1.0, window=WINDOWS["blocks"])
    slope = images(2, generator) - 0.5

    def moved(t: Tensor) -> Tensor:
        return metric.squared(x + t[:, None, None, None] * slope, y)

    assert torch.autograd.gradcheck(moved, torch.zeros(2, dtype=torch.float64, requires_grad=True))


@pytest.mark.usefixtures("no_shape_checks")
def test_refusals() -> None:
    with pytest.raises(ValueError, match="part must be one of 'luminance', 'contrast', 'structure', got 'colour'"):
        Component("colour", data_range=1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="window of 11 x 11 px does not fit images of 8 x 8 px"):
        Component("luminance", data_range=1.0)(torch.zeros(2, 1, 8, 8))
    with pytest.raises(ValueError, match="images of x and y must have equal shapes"):
        Component("structure", data_range=1.0)(torch.zeros(2, 1, 12, 12), torch.zeros(2, 1, 12, 13))
