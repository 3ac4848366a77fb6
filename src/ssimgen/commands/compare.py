"""The command `ssimgen compare`: two pictures side by side, the map of their similarity, the table of indices."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from jaxtyping import Float
from rich.console import Console
from rich.table import Table
from rich.text import Text
from tyro.conf import Positional, arg

from ssimgen.commands.common import check_output, command, gaussian_window, note
from ssimgen.scores import METRICS

if TYPE_CHECKING:
    from torch import Tensor

    from ssimgen import Window
    from ssimgen.data import Source


@command
def compare(
    a: Annotated[Positional[Path], arg(metavar="A")],
    b: Annotated[Positional[Path], arg(metavar="B")],
    /,
    *,
    grey: bool = False,
    background: str = "white",
    map: Path | None = None,
    figures: bool = False,
    json: bool = False,
    data_range: tuple[float, ...] | None = None,
    size: int = 11,
    sigma: float = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
) -> None:
    """Compare two pictures: every similarity index and distance.

    Pixels are taken as [0, 1], of the greatest value that their bits can hold or of a data range.

    Args:
        a: a picture.
        b: another one of the same size.
        grey: turn colours into grey first.
        background: colour on which transparent pictures are laid: a name such as black, or as #a0c0ff.
        map: write a picture of A, B and the map of SSIM to this PNG file.
        figures: print the figures of scikit-image, FFmpeg, MATLAB and TensorFlow too, by their own windows and borders,
            where the pictures are large enough for them.
        json: print JSON instead of a table.
        data_range: values of the files from 0 to this number, as 4095 for 12 bits in 16, or between two numbers; with
            it, grey TIFF of floating-point or signed values is read too.
        size: side of the Gaussian window in pixels.
        sigma: its standard deviation in pixels.
        k1: stability constant of luminance.
        k2: stability constant of contrast and structure.
    """
    from ssimgen import DataRangeWarning
    from ssimgen.data import Source

    x, y = read_pair(a, b, Source("", grey=grey, background=background, data_range=data_range), note)
    if map is not None:
        check_output(map, (".png",))
    window = gaussian_window("--size", size, sigma, x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataRangeWarning)  # `read_pair` says it in units of the files
        values = {key: v.item() for key, v in similarity_indices(x, y, window=window, k1=k1, k2=k2).items()}
        others = {key: v.item() for key, v in figures_of_others(x, y).items()} if figures else {}
    if map is not None:
        write_map(map, x, y, (a.name, b.name), window=window, k1=k1, k2=k2)
    table(values, others, (str(a), str(b)), as_json=json)


def read_pair(
    a: Path, b: Path, source: Source, report: Callable[[str], None] = print
) -> tuple[Float[Tensor, "1 C H W"], Float[Tensor, "1 C H W"]]:
    """Two pictures of equal size and kind, in [0, 1], read as those of the source; as `ssimgen.data.read_picture`."""
    from ssimgen.data import read_picture
    from ssimgen.pictures import ends

    x, y = (read_picture(path, source, report) for path in (a, b))
    lo, hi = (0.0, 1.0) if source.data_range is None else ends(source.data_range)
    for path, z in ((a, x), (b, y)):
        low, high = (lo + (hi - lo) * end.item() for end in z.aminmax())
        if low < lo or high > hi:
            report(f"{path} has values beyond the data range {lo:g} to {hi:g}, from {low:.6g} to {high:.6g}")
    if x.shape[1:] != y.shape[1:]:
        sizes = [f"{path} is {z.shape[2]} x {z.shape[1]} px" for path, z in ((a, x), (b, y))]
        raise ValueError(f"{sizes[0]}, but {sizes[1]}: crop or scale one of them")
    if len(x) != len(y):
        kinds = [f"{path} is {'grey' if len(z) == 1 else 'coloured'}" for path, z in ((a, x), (b, y))]
        raise ValueError(f"{kinds[0]}, but {kinds[1]}: convert one of them, or pass --grey")
    return x[None], y[None]


def similarity_indices(
    x: Float[Tensor, "B C H W"],
    y: Float[Tensor, "B C H W"],
    *,
    window: Window,
    k1: float,
    k2: float,
) -> dict[str, Float[Tensor, " B"]]:
    """Every index and distance of image pairs in [0, 1], by name: first similarities, then distances (rms norm)."""
    from ssimgen import distance, ms_ssim, ssim
    from ssimgen._request import FORMS
    from ssimgen.evaluation import psnr

    values = {
        METRICS["psnr"].label: psnr(x, y, data_range=1.0),
        METRICS["ssim"].label: ssim(x, y, data_range=1.0, window=window, k1=k1, k2=k2),
        METRICS["ms_ssim"].label: ms_ssim(x, y, data_range=1.0, window=window, k1=k1, k2=k2),
    }
    for form in FORMS:
        values[f"distance, {form}"] = distance(x, y, data_range=1.0, form=form, window=window, k1=k1, k2=k2)
    values["l1 (mean)"] = (x - y).abs().mean((1, 2, 3))
    values["l2 (root mean square)"] = (x - y).square().mean((1, 2, 3)).sqrt()
    return values


def figures_of_others(x: Float[Tensor, "B C H W"], y: Float[Tensor, "B C H W"]) -> dict[str, Float[Tensor, " B"]]:
    """What other programs print for image pairs in [0, 1], by name; of those alone that take images of this size."""
    from ssimgen import presets

    programs = {
        "SSIM of scikit-image": presets.scikit_image,
        "SSIM of FFmpeg": presets.ffmpeg,
        "SSIM of MATLAB's toolbox": presets.matlab_toolbox,
        "SSIM of ssim.m (Wang)": presets.wang_2004,
        "MS-SSIM of TensorFlow": presets.tensorflow_ms_ssim,
    }
    found = {}
    for name, program in programs.items():
        with suppress(ValueError):  # smaller than its window: it gives no figure either
            found[name] = program(x, y, data_range=1.0)
    return found


def write_map(
    path: Path, x: Tensor, y: Tensor, names: tuple[str, str], *, window: Window, k1: float, k2: float
) -> None:
    """A PNG of both pictures and, between -1 and 1, the mean over channels of their SSIM at every position."""
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    from ssimgen import pictures, ssim_map

    values = ssim_map(x, y, data_range=1.0, window=window, k1=k1, k2=k2)[0].mean(0)
    height, width = x.shape[-2:]
    figure = Figure(figsize=(13, 0.8 + 4 * min(2.0, max(0.5, height / width))), layout="constrained")
    axes = figure.subplots(1, 3)
    for axis, image, name in zip(axes, (x, y), names, strict=False):
        axis.imshow(image[0].movedim(0, -1).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1)
        axis.set_title(pictures.caption(name), parse_math=False)
    shown = axes[2].imshow(values.numpy(), cmap="viridis", vmin=min(0.0, math.floor(values.min().item())), vmax=1)
    axes[2].set_title(f"SSIM, mean {values.mean().item():.4f}")
    figure.colorbar(shown, ax=axes[2], shrink=0.8)
    for axis in axes:
        axis.set_axis_off()
    pictures.write_figure(path, figure)


def table(values: Mapping[str, float], others: Mapping[str, float], names: tuple[str, str], *, as_json: bool) -> None:
    """Print the indices and distances of two pictures, and the figures of others, as a table or as JSON."""
    if as_json:
        both = {**values, **others}
        print(json.dumps({key: value if math.isfinite(value) else None for key, value in both.items()}, indent=2))
        return
    shown = Table(title=Text(f"{names[0]} and {names[1]}"))
    shown.add_column("index")
    shown.add_column("value", justify="right")
    for part in (values, others):
        for key, value in part.items():
            shown.add_row(key, f"{value:.6g}")
        shown.add_section()
    Console().print(shown)
