"""The command `ssimgen neighbours`: the images nearest to one, as a table and a picture."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from jaxtyping import Float
from rich.console import Console
from rich.table import Table
from tyro.conf import Positional, arg

from ssimgen.commands.common import Form, check_output, command, gaussian_window, note, progress_bar

if TYPE_CHECKING:
    from torch import Tensor

    from ssimgen.evaluation.neighbours import Neighbour


@command
def neighbours(
    query: Annotated[Positional[Path], arg(metavar="QUERY")],
    images: Annotated[Positional[str], arg(metavar="IMAGES")],
    /,
    *,
    number: Annotated[int, arg(aliases=("-n",))] = 10,
    form: Form = "sum",
    picture: Path | None = None,
    json: bool = False,
    size: int | None = None,
    grey: bool = False,
    background: str = "white",
    data_range: tuple[float, ...] | None = None,
    window: int = 11,
    sigma: float = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
) -> None:
    """Find the images that are structurally nearest to one.

    Args:
        query: a picture. If it is one of the images, it is not found itself.
        images: where to look: a folder of pictures, an IDX, .npz or .npy file, or mnist5k; of any size, they are read
            a few at a time.
        number: how many neighbours.
        form: of the structural distance.
        picture: write a picture of the neighbours to this PNG file.
        json: print JSON instead of a table.
        size: scale and crop all images to this side in pixels.
        grey: turn colours into grey first.
        background: colour on which transparent pictures are laid: a name such as black, or as #a0c0ff.
        data_range: values of the files from 0 to this number, as 4095 for 12 bits in 16, or between two numbers; with
            it, grey TIFF of floating-point or signed values is read too, and arrays of any numbers.
        window: side of the Gaussian window in pixels.
        sigma: its standard deviation in pixels.
        k1: stability constant of luminance.
        k2: stability constant of contrast and structure.
    """
    from ssimgen.data import Source, open_gallery, read_picture
    from ssimgen.evaluation import neighbours as search
    from ssimgen.metrics import StructuralDistance

    if picture is not None:
        check_output(picture, (".png",))
    source = Source(images, size, grey, background, data_range)
    image, gallery = read_picture(query, source, note), open_gallery(source, note)
    patches = gaussian_window("--window", window, sigma, image)
    metric = StructuralDistance(1.0, form, window=patches, k1=k1, k2=k2)
    with progress_bar() as progress:
        track = partial(progress.track, description="comparing")
        found = search.neighbours(image, gallery, metric, number=number, leave_out=gallery.place(query), track=track)
    if picture is not None:
        write_picture(picture, image, found)
    (print_json if json else print_table)(str(query), found, gallery.source)


def print_table(query: str, found: list[Neighbour], source: str) -> None:
    """Print the neighbours, nearest first."""
    table = Table(title=f"nearest to {query} in {source}")
    for heading in ("", "distance", "SSIM"):
        table.add_column(heading, justify="right")
    table.add_column("image", overflow="fold")
    for rank, neighbour in enumerate(found, 1):
        table.add_row(str(rank), f"{neighbour.distance:.4f}", f"{neighbour.ssim:.4f}", neighbour.name)
    Console(markup=False).print(table)


def print_json(query: str, found: list[Neighbour], source: str) -> None:
    """Print the neighbours as one JSON object."""
    listed = [{"image": z.name, "distance": z.distance, "ssim": z.ssim} for z in found]
    print(json.dumps({"query": query, "source": source, "neighbours": listed}, indent=2))


def write_picture(path: Path, query: Float[Tensor, "C H W"], found: list[Neighbour]) -> None:
    """A PNG of the query and its neighbours, with their distances."""
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    from ssimgen import pictures

    shown = [("query", query), *((f"{z.distance:.3f}", z.image) for z in found)]
    columns = min(len(shown), 8)
    rows = -(-len(shown) // columns)
    height, width = query.shape[1:]
    figure = Figure(figsize=(1.6 * columns, rows * (0.3 + 1.6 * height / width)), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, (title, image) in zip(axes, shown, strict=False):
        axis.imshow(image.movedim(0, -1).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1)
        axis.set_title(title)
    pictures.write_figure(path, figure)
