"""Maps of similarity as pictures, with matplotlib: where do two images differ?

    from ssimgen.plots import plot_map

    plot_map(ssim_map(x, y, data_range=1.0), x, y)  # in a notebook; elsewhere, figure.savefig("map.png")

Needs `pip install 'ssimgen[plot]'`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ssimgen._extras import extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_map"]

_PANEL = 3.2  # inches


def plot_map(
    values: Tensor | ArrayLike,
    *images: Tensor | ArrayLike,
    channel_axis: int | None = None,
    ax: Axes | None = None,
    limits: tuple[float, float] = (0.0, 1.0),
    label: str = "SSIM",
) -> tuple[Figure, Axes]:
    """Draw a map, of SSIM or of anything else at every position, beside the images that it compares.

    Dark is unlike. Positions without a value, as under a mask, are grey. The title tells the mean.

    Args:
        values: (H, W), or (C, H, W) or (1, C, H, W), of which the mean over channels is drawn.
        images: any number of (H, W), (C, H, W) or (1, C, H, W), grey or in colour, drawn left of the map, from the
            least to the greatest value of all of them.
        channel_axis: of the map and the images that have three axes, -1 for (H, W, C), as of `ssimgen.arrays`.
        ax: where to draw the map, as one of a figure of your own; without images.
        limits: the values of the darkest and of the brightest colour. SSIM below 0 is as dark as 0.
        label: what is drawn.

    Returns:
        The figure, and the axes of the map.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        ValueError: more than one map or image at a time, images of neither one channel nor three, or `ax` with images.

    Example:
        >>> import torch
        >>> from ssimgen import ssim_map
        >>> from ssimgen.plots import plot_map
        >>> x = torch.rand(1, 3, 64, 64)
        >>> y = x.clone()
        >>> y[..., 20:40, 20:40] = 0.5
        >>> figure, ax = plot_map(ssim_map(x, y, data_range=1.0), x, y)
        >>> figure.savefig("map.png")
    """
    if ax is not None and images:
        raise ValueError("ax is where the map alone is drawn: leave ax or the images out")
    drawn = _channels("values", values, channel_axis).mean(0)
    pictures = [_picture(image, channel_axis) for image in images]
    with extra("plot", "plot_map"):
        from matplotlib import colormaps, pyplot

    if ax is None:
        size = (_PANEL * (len(images) + 1.25), _PANEL)
        figure, panels = pyplot.subplots(1, len(images) + 1, figsize=size, squeeze=False, layout="constrained")
        _draw_images(panels[0, :-1], pictures)
        ax = panels[0, -1]
    else:
        figure = ax.figure.figure  # that of a subfigure too
    low, high = limits
    colours = colormaps["inferno"].with_extremes(bad="lightgrey")
    mesh = ax.imshow(np.ma.masked_invalid(drawn), colours, vmin=low, vmax=high)
    known = drawn[np.isfinite(drawn)]
    extend = {(True, False): "min", (False, True): "max", (True, True): "both"}
    beyond = bool((known < low).any()), bool((known > high).any())
    figure.colorbar(mesh, ax=ax, label=label, extend=extend.get(beyond, "neither"))
    ax.set_title(f"mean {known.mean():.3f}" if len(known) else "no value")
    ax.set_axis_off()
    return figure, ax


def _draw_images(panels: NDArray[Any], pictures: list[NDArray[np.float64]]) -> None:
    """In one scale for all of them."""
    low = min((picture.min() for picture in pictures), default=0.0)
    high = max((picture.max() for picture in pictures), default=1.0)
    for panel, picture in zip(panels, pictures, strict=True):
        panel.imshow((picture - low) / (high - low or 1.0), "gray", vmin=0, vmax=1)
        panel.set_axis_off()


def _picture(image: Tensor | ArrayLike, channel_axis: int | None) -> NDArray[np.float64]:
    """(H, W) of a grey image, (H, W, 3) of one in colour."""
    channels = _channels("an image", image, channel_axis)
    if len(channels) not in (1, 3):
        raise ValueError(
            f"an image is drawn in grey or in colour, got {len(channels)} channels: select one or three, or pass "
            "channel_axis=-1 if colours come last"
        )
    return channels[0] if len(channels) == 1 else np.moveaxis(channels, 0, -1)


def _channels(name: str, values: Tensor | ArrayLike, channel_axis: int | None) -> NDArray[np.float64]:
    """(C, H, W)."""
    array = np.asarray(values.detach().cpu().double() if isinstance(values, Tensor) else values, dtype=np.float64)
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim not in (2, 3):
        raise ValueError(
            f"{name} must be (H, W), (C, H, W) or (1, C, H, W), got shape {array.shape}: pass one, as [:1]"
        )
    if array.ndim == 2:
        return array[None]
    if channel_axis is not None:
        return np.moveaxis(array, channel_axis, 0)
    if array.shape[0] > 4 >= array.shape[2]:
        raise ValueError(f"{name} of shape {array.shape} has its channels last: pass channel_axis=-1")
    return array
