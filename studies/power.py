"""How often do two-sample tests notice that images were changed? Kernels, deep features, a classifier side by side.

    python studies/power.py OUTPUT [--budget MINUTES] [--garments FOLDER] [--icons FOLDER]
    cp OUTPUT/power.csv studies/results && python docs/tables.py

A pool of 600 real images of each set is changed in one way, a little, more or much, and each test draws
n images of the pool and n changed ones of others, so that no image is in both: where nothing was changed, all 2 n are
exchangeable and a test of level 0.05 rejects in 5 of 100. There are 200 tests a cell, of 99 relabellings; of the
classifier, which is trained anew for each relabelling, 50 of 19. Kernel matrices are computed once, of the whole pool
and all changed images together, with their medians for bandwidths, and each test takes its rows and columns.

digits     mnist5k, 28 px                        garments   Fashion-MNIST, 28 px, a folder of IDX files
textures   brick, grass, gravel, 32 px, grey     icons      pictures scaled to 32 px, in colour

The changes, and their three severities:

blur            by a Gaussian of 0.4, 0.5 or 0.7 px
noise           Gaussian, of standard deviation 0.01, 0.03 or 0.1
contrast        0.95, 0.9 or 0.8 of the difference from the image's mean are left
brightness      0.01, 0.02 or 0.05 more
shift           a quarter, a half or all of the images moved by 1 px to the right, around the border
colour          0.05, 0.1 or 0.3 of the way to green for red, blue for green, red for blue
texture swap    a quarter, a half or all of the images with the fine detail (what a blur of 1 px takes) of another
mode dropping   three tenths of the classes or clusters lose a third, two thirds or all of their images

A row a cell goes to OUTPUT/power.csv. Stopped at any time, the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import io
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path

import skimage.data
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Generator, Tensor

from ssimgen._files import write_atomically
from ssimgen.components import PARTS, Component
from ssimgen.data import Source, load_images
from ssimgen.evaluation import FeatureNetwork, efficientnet_lite0
from ssimgen.evaluation.classifier_test import bits, cross_fitted, standardised
from ssimgen.evaluation.degradations import k_means
from ssimgen.evaluation.sets import gaussian_gram
from ssimgen.metrics import Euclidean, Metric, StructuralDistance
from ssimgen.windows import Window

POOL = 600
SIZES = (50, 100, 200)
TESTS, PERMUTATIONS = 200, 99
CLASSIFIER_TESTS, CLASSIFIER_PERMUTATIONS, FOLDS = 50, 19, 5
LEVEL = 0.05
RESOLUTION = 64  # px, of the feature network
CLUSTERS = 10
SIDE = 32  # px, of textures and icons

NOTHING, MODES, COLOUR, CLASSIFIER = "nothing", "mode dropping", "colour", "C2ST on features"
SEVERITIES: Mapping[str, tuple[float, ...]] = {
    NOTHING: (0.0,),
    "blur": (0.4, 0.5, 0.7),
    "noise": (0.01, 0.03, 0.1),
    "contrast": (0.95, 0.9, 0.8),
    "brightness": (0.01, 0.02, 0.05),
    "shift": (0.25, 0.5, 1.0),
    COLOUR: (0.05, 0.1, 0.3),
    "texture swap": (0.25, 0.5, 1.0),
    MODES: (1 / 3, 2 / 3, 1.0),
}
BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # times the median
KERNELS: Mapping[str, Sequence[str]] = {
    "components": ["components"],
    "components, mirrored, stride 3": ["components, mirrored, stride 3"],
    "structural distance": ["structural distance"],
    "structural distance, mirrored": ["structural distance, mirrored"],
    "pixels": ["pixels"],
    "pixels, five bandwidths": [f"pixels {factor}" for factor in BANDWIDTHS],
    "components and pixels": [*PARTS, "pixels"],
    "deep features": ["deep features"],
}
"""Test -> the kernels whose greatest statistic it takes, each in standard deviations over all relabellings."""

Row = dict[str, str]
Cell = tuple[str, str, str]  # set, change and severity


@dataclass(frozen=True)
class Pool:
    """Real images, which class or cluster each is of, and what was computed of them alone."""

    images: Tensor
    modes: Tensor
    known: dict[str, Tensor] = field(default_factory=dict)

    @property
    def coloured(self) -> bool:
        """Whether colours can be changed."""
        return self.images.shape[1] == 3

    def once(self, name: str, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """What `compute` makes of the images, computed when first asked for."""
        if name not in self.known:
            self.known[name] = compute(self.images)
        return self.known[name]


def digits() -> Pool:
    """Of mnist5k."""
    return of_source(Source("mnist5k"))


def of_source(source: Source) -> Pool:
    """At most so many images of a source, drawn at random."""
    images = load_images(source).train.some(POOL, seed=0).select(slice(None))
    return Pool(images.images, clusters(images.images) if images.labels is None else images.labels)


def clusters(images: Tensor) -> Tensor:
    """Which images are alike at 8 x 8 px."""
    return k_means(F.adaptive_avg_pool2d(images, 8).flatten(1), CLUSTERS, seed=0)


def textures() -> Pool:
    """Squares of three textures that do not overlap."""
    photographs = [torch.tensor(getattr(skimage.data, name)()) / 255 for name in ("brick", "grass", "gravel")]
    squares = [part.unfold(0, SIDE, SIDE).unfold(1, SIDE, SIDE).reshape(-1, 1, SIDE, SIDE) for part in photographs]
    classes = torch.arange(len(squares)).repeat_interleave(len(squares[0]))
    chosen = torch.randperm(len(classes), generator=Generator().manual_seed(0))[:POOL]
    return Pool(torch.cat(squares)[chosen], classes[chosen])


def blurred(images: Tensor, sigma: float) -> Tensor:
    """By a Gaussian, the border repeated."""
    return torch.from_numpy(gaussian_filter(images.numpy(), (0, 0, sigma, sigma), mode="nearest"))


def swapped(images: Tensor, generator: Generator) -> Tensor:
    """Each with the fine detail of another."""
    coarse = blurred(images, 1.0)
    return coarse + (images - coarse)[torch.randperm(len(images), generator=generator)]


def some(share: float, images: Tensor, changed: Tensor, generator: Generator) -> Tensor:
    """That share of the images changed."""
    chosen = torch.rand(len(images), generator=generator) < share
    return torch.where(chosen[:, None, None, None], changed, images)


CHANGES: Mapping[str, Callable[[Tensor, float, Generator], Tensor]] = {
    NOTHING: lambda x, _, __: x,
    "blur": lambda x, sigma, _: blurred(x, sigma),
    "noise": lambda x, deviation, g: x + deviation * torch.randn(x.shape, generator=g),
    "contrast": lambda x, factor, _: x.mean((1, 2, 3), keepdim=True).lerp(x, factor),
    "brightness": lambda x, more, _: x + more,
    "shift": lambda x, share, g: some(share, x, x.roll(1, 3), g),
    COLOUR: lambda x, way, _: x.lerp(x[:, [1, 2, 0]], way),
    "texture swap": lambda x, share, g: some(share, x, swapped(x, g), g),
    MODES: lambda x, _, __: x,
}


def kept(pool: Pool, change: str, severity: float, generator: Generator) -> Tensor:
    """Which images are there once they are changed: all, unless modes are dropped."""
    there = torch.rand(len(pool.modes), generator=generator) >= severity
    present = pool.modes.unique()
    dropped = torch.isin(pool.modes, present[: max(1, round(0.3 * len(present)))])
    return there | ~dropped | (change != MODES)


METRICS: Mapping[str, Metric] = {
    **{part: Component(part, 1.0) for part in PARTS},
    **{f"{part}, sparse": Component(part, 1.0, Window.gaussian(stride=3, padding="symmetric")) for part in PARTS},
    "structural distance": StructuralDistance(1.0),
    "structural distance, mirrored": StructuralDistance(1.0, window=Window.gaussian(padding="symmetric")),
    "pixels": Euclidean(),
}


def matrices(pool: Pool, changed: Tensor, features: Tensor) -> dict[str, Tensor]:
    """Kernel matrices of the pool and the changed images together, by name."""
    squares = {name: joined(pool.once(name, metric.squared), metric, pool, changed) for name, metric in METRICS.items()}
    pixels = gaussian_gram(squares["pixels"])
    return {
        **{part: gaussian_gram(squares[part]) for part in PARTS},
        "components": gaussian_gram(*(squares[part] for part in PARTS)),
        "components, mirrored, stride 3": gaussian_gram(*(squares[f"{part}, sparse"] for part in PARTS)),
        **{name: gaussian_gram(squares[name]) for name in ("structural distance", "structural distance, mirrored")},
        "pixels": pixels,
        **{f"pixels {factor}": pixels ** (factor**-2) for factor in BANDWIDTHS},
        "deep features": gaussian_gram(Euclidean().squared(features)),
    }


def joined(within: Tensor, metric: Metric, pool: Pool, changed: Tensor) -> Tensor:
    """Squared distances of all images, of which those of the pool are known."""
    across = metric.squared(pool.images, changed)
    return torch.cat([torch.cat([within, across], 1), torch.cat([across.T, metric.squared(changed)], 1)])


def draws(there: Tensor, n: int, tests: int) -> Iterator[tuple[int, Tensor]]:
    """For each test, its number, and where n images and n changed ones of others are."""
    for test in range(tests):
        order = torch.randperm(len(there), generator=Generator().manual_seed(test))
        others = order[n:]
        yield test, torch.cat([order[:n], len(there) + others[there[others]][:n]])


def kernel_tests(grams: Mapping[str, Tensor], there: Tensor, n: int) -> dict[str, int]:
    """How many tests of each kind reject."""
    names, stacked = list(grams), torch.stack(list(grams.values()))
    stacked.diagonal(dim1=1, dim2=2).zero_()
    rejected = dict.fromkeys(KERNELS, 0)
    for test, chosen in draws(there, n, TESTS):
        found = quadratic_forms(stacked[:, chosen[:, None], chosen], relabellings(n, test))
        for kind, of_kind in KERNELS.items():
            rejected[kind] += rejects(found[[names.index(name) for name in of_kind]])
    return rejected


def relabellings(n: int, seed: int) -> Tensor:
    """1 for n of 2 n images and -1 for the others: the first n, then any at random, (1 + B, 2 n)."""
    places = torch.rand(PERMUTATIONS, 2 * n, generator=Generator().manual_seed(seed)).argsort(1)
    return torch.cat([torch.arange(2 * n)[None], places]).lt(n).float().mul_(2).sub_(1)


def quadratic_forms(grams: Tensor, labels: Tensor) -> Tensor:
    """w'Kw for each kernel matrix of zero diagonal and each labelling: (kernels, 1 + B).

    With S the sum of K, the sums of K within the two sets are (S + w'Kw) / 2 together, that between them is
    (S - w'Kw) / 4: the unbiased MMD^2 rises with w'Kw in a straight line, the same for all labellings.
    """
    return ((labels @ grams) * labels).sum(2)


def rejects(found: Tensor) -> bool:
    """Whether the greatest of the statistics, (kernels, 1 + B), is among the greatest of its relabellings.

    Of an order that nothing depends on, the first is as likely in any place as another: the level is exact.
    """
    spread = found.std(1, keepdim=True).clamp_min(1e-12)
    greatest = ((found - found.mean(1, keepdim=True)) / spread).amax(0)
    return (greatest >= greatest[0] - 1e-9).double().mean().item() <= LEVEL


def classifier_tests(features: Tensor, there: Tensor, n: int) -> int:
    """How many tests of C2ST reject, whose statistic is `c2st` of the library."""
    return sum(rejects(classified(features[chosen], test)[None]) for test, chosen in draws(there, n, CLASSIFIER_TESTS))


def classified(features: Tensor, seed: int) -> Tensor:
    """Bits of C2ST of the first half against the second, then under relabellings within folds: (1 + B,).

    Turned into as many coordinates as there are points, they have the same inner products, and the same classifiers.
    """
    generator = Generator().manual_seed(seed)
    n = len(features) // 2
    points = torch.linalg.qr(standardised(features).T).R.T
    folds = torch.cat([torch.randperm(n, generator=generator) % FOLDS for _ in range(2)])
    signs = torch.ones(2 * n).index_fill_(0, torch.arange(n, 2 * n), -1)
    shuffled = (folds + torch.rand(CLASSIFIER_PERMUTATIONS, 2 * n, generator=generator)).argsort(1)
    relabelled = torch.empty(shuffled.shape)
    relabelled[:, folds.argsort()] = signs[shuffled]
    every = torch.cat([signs[None], relabelled])
    return bits(every, cross_fitted(points, every, folds)).double().mean(1)


def rows_of(cell: Cell, pool: Pool, network: FeatureNetwork) -> list[Row]:
    """All tests of a set, a change and a severity."""
    data, change, severity = cell
    generator = Generator().manual_seed(0)
    changed = CHANGES[change](pool.images, float(severity), generator).clamp(0, 1)
    there = kept(pool, change, float(severity), generator)
    features = torch.cat([pool.once("features", network), network(changed)])
    grams = matrices(pool, changed, features)
    rows = []
    for n in SIZES:
        rejected = {**kernel_tests(grams, there, n), CLASSIFIER: classifier_tests(features, there, n)}
        for test, count in rejected.items():
            tests = CLASSIFIER_TESTS if test == CLASSIFIER else TESTS
            values = (data, change, severity, n, test, tests, count)
            rows.append(dict(zip(HEAD, map(str, values), strict=True)))
    return rows


HEAD = ("data", "change", "severity", "images", "test", "tests", "rejected")


def cells(pools: Mapping[str, Callable[[], Pool]]) -> Iterator[Cell]:
    """Those of middle severity first, and no change, so that a part of the table speaks of all changes."""
    for place, data, (change, severities) in product((1, 0, 2), pools, SEVERITIES.items()):
        if change == NOTHING and place != 1:
            continue
        if change != COLOUR or pools[data]().coloured:
            yield data, change, f"{severities[place % len(severities)]:.3g}"


def finished(path: Path) -> list[Row]:
    """The rows of whole cells, which are all that stays in the file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows: list[Row] = [row for row in csv.DictReader(file) if None not in row.values()]
    whole = len(SIZES) * (len(KERNELS) + 1)
    found = [cell_of(row) for row in rows]
    return [row for row, cell in zip(rows, found, strict=True) if found.count(cell) == whole]


def cell_of(row: Row) -> Cell:
    """What a row is of."""
    return row["data"], row["change"], row["severity"]


def lines(rows: Sequence[Row], *, head: bool) -> bytes:
    """Rows as a file has them."""
    text = io.StringIO()
    writer = csv.DictWriter(text, HEAD, lineterminator="\n")
    if head:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def carry_on(output: Path, pools: Mapping[str, Callable[[], Pool]], network: FeatureNetwork, minutes: float) -> None:
    """Carry out the cells that are not finished, until the budget is used."""
    end = time.monotonic() + 60 * minutes
    output.mkdir(parents=True, exist_ok=True)
    path = output / "power.csv"
    before = finished(path)
    write_atomically(path, lambda file: file.write(lines(before, head=True)))
    done = {cell_of(row) for row in before}
    for cell in cells(pools):
        if cell in done:
            continue
        if time.monotonic() >= end:
            print("the budget is used; the same command goes on")
            return
        began = time.monotonic()
        rows = rows_of(cell, pools[cell[0]](), network)
        with path.open("ab") as file:
            file.write(lines(rows, head=False))
        print(f"{' '.join(cell)}: {time.monotonic() - began:.0f} s", flush=True)


def overview(rows: Sequence[Row]) -> str:
    """The share of tests that reject, by their kind and the number of images: over all changes, and without one."""
    head = [f"{what} {n:>4}" for what in ("changed,", "as it is,") for n in SIZES]
    text = [f"{'':<30} " + "  ".join(head)]
    for test in (*KERNELS, CLASSIFIER):
        shares = [
            [int(row["rejected"]) / int(row["tests"]) for row in rows if row["test"] == test and row["images"] == str(n)
             and (row["change"] == NOTHING) == unchanged]
            for unchanged in (False, True)
            for n in SIZES
        ]  # fmt: skip
        cells = [f"{statistics.mean(of_cell):.2f}" if of_cell else "-" for of_cell in shares]
        text.append(f"{test:<30} " + "  ".join(f"{cell:>{len(name)}}" for cell, name in zip(cells, head, strict=True)))
    return "\n".join(text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Carry out the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--budget", type=float, default=float("inf"), metavar="MINUTES")
    parser.add_argument("--garments", type=str, metavar="FOLDER", help="IDX files of Fashion-MNIST")
    parser.add_argument("--icons", type=str, metavar="FOLDER", help="coloured pictures")
    chosen = parser.parse_args(arguments)
    pools: dict[str, Callable[[], Pool]] = {"digits": cache(digits), "textures": cache(textures)}
    if chosen.garments:
        pools["garments"] = cache(lambda: of_source(Source(chosen.garments)))
    if chosen.icons:
        pools["icons"] = cache(lambda: of_source(Source(chosen.icons, size=SIDE)))
    carry_on(chosen.output, pools, efficientnet_lite0(RESOLUTION), chosen.budget)
    print(overview(finished(chosen.output / "power.csv")))


if __name__ == "__main__":
    main()
