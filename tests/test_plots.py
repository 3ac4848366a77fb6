"""Maps as pictures."""

import re
from collections.abc import Iterator

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot

from new_processes import Processes
from ssimgen import ssim_map
from ssimgen.plots import plot_map
from ssimgen.torchmetrics import SSIMMetric

pytestmark = pytest.mark.usefixtures("eager_engine", "no_shape_checks")


@pytest.fixture(autouse=True)
def _no_screen() -> Iterator[None]:
    before = matplotlib.get_backend()
    matplotlib.use("agg")
    yield
    pyplot.close("all")
    matplotlib.use(before)


def drawn(ax: pyplot.Axes) -> np.ma.MaskedArray:  # type: ignore[type-arg]
    """The numbers of the picture in some axes."""
    return ax.images[0].get_array()


def test_a_map_is_drawn_beside_its_images() -> None:
    x, y = torch.rand(2, 1, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    values = ssim_map(x, y, data_range=1.0)
    figure, ax = plot_map(values, x, y)
    first, second, shown, colours = figure.axes
    assert shown is ax
    assert colours.get_ylabel() == "SSIM"
    assert drawn(ax).shape == values.shape[2:]
    np.testing.assert_allclose(drawn(ax), values[0].mean(0), rtol=1e-6)
    assert ax.get_title() == f"mean {values.mean():.3f}"
    assert ax.images[0].get_clim() == (0, 1)
    low, high = torch.stack([x, y]).aminmax()
    for panel, image in ((first, x), (second, y)):
        np.testing.assert_allclose(drawn(panel), (image[0].movedim(0, -1) - low) / (high - low), atol=1e-6)


def test_grey_images_and_maps_of_arrays_in_axes_of_ones_own() -> None:
    figure, axes = pyplot.subplots(1, 2)
    values = np.array([[0.5, -0.25], [np.nan, 2.0]])
    assert plot_map(values, ax=axes[1], limits=(0, 1), label="D") == (figure, axes[1])
    assert drawn(axes[1]).mask.tolist() == [[False, False], [True, False]]
    assert axes[1].get_title() == "mean 0.750"
    assert figure.axes[2].get_ylabel() == "D"
    assert axes[1].images[0].colorbar.extend == "both"
    assert drawn(plot_map(values, np.array([[3, 5]]))[0].axes[0]).tolist() == [[0, 1]]
    assert plot_map(np.full((2, 2), np.nan), np.ones((2, 2)))[1].get_title() == "no value"


def test_maps_of_arrays_have_their_channels_last() -> None:
    """What `ssimgen.arrays.ssim_map` returns, and the photographs that it compares."""
    values, image = np.random.default_rng(0).random((6, 7, 3)), np.random.default_rng(1).random((8, 9, 3))
    figure, ax = plot_map(values, image, channel_axis=-1)
    np.testing.assert_allclose(ax.images[0].get_array(), values.mean(-1))
    assert figure.axes[0].images[0].get_array().shape == (8, 9, 3)


def test_what_cannot_be_drawn_is_refused() -> None:
    one = torch.rand(8, 8)
    for arguments, message in (
        (
            (torch.rand(2, 1, 8, 8),),
            "values must be (H, W), (C, H, W) or (1, C, H, W), got shape (2, 1, 8, 8): pass one,",
        ),
        ((one, torch.rand(2, 8, 8)), "an image is drawn in grey or in colour, got 2 channels: select one or three"),
        ((torch.rand(8, 9, 3),), "values of shape (8, 9, 3) has its channels last: pass channel_axis=-1"),
        ((one, torch.rand(8, 8, 3)), "an image of shape (8, 8, 3) has its channels last: pass channel_axis=-1"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            plot_map(*arguments)
    with pytest.raises(ValueError, match="ax is where the map alone is drawn: leave ax or the images out"):
        plot_map(one, one, ax=pyplot.figure().add_subplot())


def test_without_matplotlib(processes: Processes) -> None:
    from environments import without

    script = "import torch\nfrom ssimgen.plots import plot_map\nplot_map(torch.zeros(4, 4))"
    done = processes.run(without("matplotlib") + script)
    assert done.stderr.endswith("ExtraNeededError: plot_map needs matplotlib: pip install 'ssimgen[plot]'\n")


def test_metrics_draw_themselves_as_torchmetrics_does() -> None:
    metric = SSIMMetric(data_range=1.0)
    values = [metric(*torch.rand(2, 2, 1, 16, 16)) for _ in range(3)]
    figure, _ = metric.plot(values)
    assert len(figure.axes) == 1
