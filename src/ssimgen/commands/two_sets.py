"""The command `ssimgen test-samples`: which sets were compared, the table, pictures of witnesses."""

# ruff: noqa: PT028 - test_samples is a command, not a test

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from jaxtyping import Float
from rich.console import Console
from rich.table import Table
from tyro.conf import Positional, arg

from ssimgen.commands.common import Form, check_output, command, gaussian_window, note, progress_bar

if TYPE_CHECKING:
    from torch import Tensor

    from ssimgen.data import Gallery
    from ssimgen.discrepancy import TwoSampleResult
    from ssimgen.evaluation.sets import Respect, SetComparison

_PICTURED, _COLUMNS = 24, 12  # witnesses of a set in the picture
_NAMED = 5  # of them named in the table


@command
def test_samples(
    a: Annotated[Positional[str], arg(metavar="A")],
    b: Annotated[Positional[str], arg(metavar="B")],
    /,
    *,
    kernel: Literal["components", "structural", "energy", "ssim", "pixels"] = "components",
    form: Form = "sum",
    images: int = 500,
    permutations: int = 1000,
    level: float = 0.05,
    seed: int = 0,
    picture: Path | None = None,
    json: bool = False,
    size: int | None = None,
    grey: bool = False,
    background: str = "white",
    data_range: tuple[float, ...] | None = None,
    window: int = 11,
    sigma: float = 1.5,
    stride: int = 3,
    k1: float = 0.01,
    k2: float = 0.03,
) -> None:
    """Test whether two sets of images differ, and in which respect.

    The sets are folders of pictures, IDX files, .npz or .npy files, or mnist5k. Prints statistic and p-value of a
    kernel two-sample test, the same in luminance, contrast, structure and pixels, and the most telling images.

    Args:
        a: a set of images.
        b: another one, of images of the same size.
        kernel: what is compared; only structural and energy look at the form.
        form: of the structural distance.
        images: at most so many of each set, drawn at random; time and memory grow with the square.
        permutations: random relabellings; p-values are not below 1 / (1 + permutations).
        level: of the test.
        seed: of the drawing and the relabellings; the same seed gives the same result.
        picture: write a picture of the most telling images to this PNG file.
        json: print JSON instead of a table.
        size: scale and crop all images to this side in pixels.
        grey: turn colours into grey first.
        background: colour on which transparent pictures are laid: a name such as black, or as #a0c0ff.
        data_range: values of the files from 0 to this number, as 4095 for 12 bits in 16, or between two numbers; with
            it, grey TIFF of floating-point or signed values is read too, and arrays of any numbers.
        window: side of the Gaussian window in pixels.
        sigma: its standard deviation in pixels.
        stride: distance in pixels between windows, of images mirrored at their borders; larger is faster.
        k1: stability constant of luminance.
        k2: stability constant of contrast and structure.
    """
    from ssimgen.data import Source, open_gallery
    from ssimgen.evaluation.sets import compare_sets

    if picture is not None:
        check_output(picture, (".png",))
    first, second = (open_gallery(Source(z, size, grey, background, data_range), note) for z in (a, b))
    x, y = random_subsets(first, second, images, seed)
    patches = gaussian_window("--window", window, sigma, x.images, stride, "symmetric")
    with progress_bar() as progress:
        found = compare_sets(
            x.images,
            y.images,
            kernel=kernel,
            form=form,
            window=patches,
            k1=k1,
            k2=k2,
            permutations=permutations,
            seed=seed,
            level=level,
            track=partial(progress.track, description="comparing all pairs"),
        )
    if picture is not None:
        write_witnesses(picture, found, x, y)
    (print_json if json else print_table)(found, x, y)


@dataclass(frozen=True, eq=False)
class Subset:
    """Images drawn from a gallery, with their places in it."""

    gallery: Gallery
    places: list[int]
    images: Float[Tensor, "n C H W"]

    def names(self, order: list[int]) -> list[str]:
        """The names of some of the images, in the order given."""
        return [self.gallery.names[self.places[i]] for i in order]


def random_subsets(a: Gallery, b: Gallery, most: int, seed: int) -> tuple[Subset, Subset]:
    """At most `most` random images of each set, all of one size and kind.

    Raises ValueError for sets of fewer than two images, and for sets that do not fit each other.
    """
    import torch

    if most < 2:
        raise ValueError(f"images must be at least 2, got {most}: a few hundred of each set show most differences")
    for gallery in (a, b):
        if len(gallery) < 2:
            raise ValueError(f"{gallery.source} holds one image, and a test needs two or more: a few hundred are usual")
    generator = torch.Generator().manual_seed(seed)
    places = [sorted(torch.randperm(len(gallery), generator=generator)[:most].tolist()) for gallery in (a, b)]
    x, y = (Subset(gallery, chosen, gallery.images(chosen)) for gallery, chosen in zip((a, b), places, strict=True))
    if x.images.shape[2:] != y.images.shape[2:]:
        sizes = [f"{z.gallery.source} are {z.images.shape[3]} x {z.images.shape[2]} px" for z in (x, y)]
        raise ValueError(f"images of {sizes[0]}, but those of {sizes[1]}: give a size to scale to, with --size")
    if x.images.shape[1] != y.images.shape[1]:
        kinds = [f"{z.gallery.source} are {'grey' if z.images.shape[1] == 1 else 'coloured'}" for z in (x, y)]
        raise ValueError(f"images of {kinds[0]}, but those of {kinds[1]}: turn all grey, with --grey")
    return x, y


def witnesses(found: TwoSampleResult) -> tuple[list[int], list[int]]:
    """The images of x by how much rarer their like is in y, and those of y by how much rarer in x: rarest first.

    That is the order of the witness function, whose mean over x less its mean over y is MMD^2.
    """
    return found.witness_x.argsort(descending=True).tolist(), found.witness_y.argsort().tolist()


def doubts(test: TwoSampleResult) -> list[str]:
    """What speaks against the sets being independent draws, without which p says nothing."""
    found = []
    if test.shared:
        found.append(f"{test.shared:,} images of B are also in A: the sets are not independent, as the test needs")
    if test.paired:
        found.append(
            f"{test.across:,} of {len(test.witness_x) + len(test.witness_y):,} images have their nearest one in the "
            f"other set, by chance {test.across_by_chance[0]:.0f}: are the same pictures, changed, in both? p is for "
            "independent draws, and too large for pairs"
        )
    return found


def print_table(found: SetComparison, a: Subset, b: Subset) -> None:
    """Print the comparison of a and b."""
    console = Console(highlight=False, markup=False)
    for letter, z in (("A", a), ("B", b)):
        taken, everything = len(z.places), len(z.gallery)
        part = "" if taken == everything else f" (drawn at random) of the {everything:,}"
        console.print(f"{letter}: {taken:,}{part} images of {z.gallery.source}")
    test = found.test
    verdict = "the sets differ" if test.rejected else "no difference found, which does not prove that there is none"
    console.print(f"\n{verdict}: p = {test.p_value:.4g}, level {test.level:g}, {len(test.null):,} permutations")
    console.print(f"MMD² = {test.statistic:.4g}, kernel: {found.kernel}")
    for doubt in doubts(test):
        console.print(doubt)
    console.print()
    table = Table(title="in which respect")
    table.add_column()
    for heading in ("MMD²", f"{1 - test.level:.0%} by chance", "p", "p adjusted", "mean A", "mean B"):
        table.add_column(heading, justify="right")
    for respect in found.respects:
        table.add_row(respect.name, *_cells(respect))
    console.print(table)
    console.print(
        f"p adjusted is for {len(found.respects)} tests at once (Holm); it counts only if the sets differ at all.\n"
    )
    if test.rejected:
        for letter, other, z, order in zip("AB", "BA", (a, b), witnesses(test), strict=True):
            console.print(f"images of {letter} whose like is rarest in {other}: {', '.join(z.names(order[:_NAMED]))}")


def _cells(respect: Respect) -> list[str]:
    tested = ["equal", "", "", ""]
    if respect.result is not None:
        chance = respect.result.null.quantile(1 - respect.result.level).item()
        tested = [f"{v:.4g}" for v in (respect.result.statistic, chance, respect.result.p_value, respect.adjusted)]
    return tested + (["", ""] if respect.means is None else [f"{mean:.4f}" for mean in respect.means])


def print_json(found: SetComparison, a: Subset, b: Subset) -> None:
    """Print the comparison as one JSON object."""
    print(
        json.dumps(
            {
                "a": {"source": a.gallery.source, "images": len(a.places), "of": len(a.gallery)},
                "b": {"source": b.gallery.source, "images": len(b.places), "of": len(b.gallery)},
                "kernel": found.kernel,
                "differ": found.test.rejected,
                **_numbers(found.test),
                "level": found.test.level,
                "shared": found.test.shared,
                "across": found.test.across,
                "across_by_chance": found.test.across_by_chance[0],
                "paired": found.test.paired,
                "permutations": len(found.test.null),
                "respects": {
                    respect.name: None
                    if respect.result is None
                    else {**_numbers(respect.result), "p_adjusted": respect.adjusted, "means": respect.means}
                    for respect in found.respects
                },
                "witnesses": {
                    letter: z.names(order[:_PICTURED])
                    for letter, z, order in zip("ab", (a, b), witnesses(found.test), strict=True)
                },
            },
            indent=2,
        )
    )


def _numbers(result: TwoSampleResult) -> dict[str, float]:
    return {"mmd2": result.statistic, "p_value": result.p_value}


def write_witnesses(path: Path, found: SetComparison, a: Subset, b: Subset) -> None:
    """A PNG of the images of each set whose like is rarest in the other, rarest first."""
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    from ssimgen import pictures

    grids = [
        pictures.grid(z.images[order[:_PICTURED]], columns=_COLUMNS)
        for z, order in zip((a, b), witnesses(found.test), strict=True)
    ]
    shape = max(grid.shape[1] / grid.shape[2] for grid in grids)
    figure = Figure(figsize=(12, 2 * (12 * shape + 0.5)), layout="constrained")
    for axis, grid, letter, other, z in zip(figure.subplots(2, 1), grids, "AB", "BA", (a, b), strict=True):
        axis.imshow(grid.movedim(0, -1).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1)
        source = pictures.caption(z.gallery.source)
        mark = "" if found.test.rejected else "\nno difference was found: what they show may be chance"
        axis.set_title(f"images of {letter} ({source}) whose like is rarest in {other}{mark}", parse_math=False)
        axis.set_axis_off()
    pictures.write_figure(path, figure)
