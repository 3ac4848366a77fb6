"""The pictures and the tables of docs/gallery, from the runs of the main study: `python studies/gallery.py OUTPUT`.

Takes the first seed of every variant on every set of images; of a sweep, its middle point.
"""

import sys
from pathlib import Path

from PIL import Image

from ssimgen.training import RunFolder, read_metrics

GALLERY = Path(__file__).parent.parent / "docs" / "gallery"
COLUMNS, ROWS, GAP = 8, 4, 2  # of the grids in the run folders, the upper half


def variants(output: Path, data: str) -> dict[str, Path]:
    """The run of every variant on a set of images, by model and variant."""
    found: dict[str, list[Path]] = {}
    for run in sorted((output / "runs" / data).glob("*/*/seed-0"), key=tau):
        if (run / "evaluation.json").exists():
            name = f"{run.parts[-3]} {run.parts[-2].split('_tau=')[0]}"
            found.setdefault(name, []).append(run)
    return {name: runs[len(runs) // 2] for name, runs in sorted(found.items())}


def tau(run: Path) -> float:
    """Its place in the sweep of its variant; 0 if there is none."""
    return float(run.parts[-2].partition("_tau=")[2] or 0)


def crop(run: Path, to: Path) -> None:
    """The first samples of the last grid."""
    with Image.open(sorted((run / "samples").glob("*.png"))[-1]) as picture:
        side = (picture.width - GAP) // COLUMNS
        picture.crop((0, 0, COLUMNS * side + GAP, ROWS * side + GAP)).save(to, optimize=True)


def section(output: Path, data: str) -> list[str]:
    """Write the pictures of a set of images; returns its part of README.md."""
    (GALLERY / data).mkdir(parents=True, exist_ok=True)
    lines = [
        f"## {data}",
        "",
        "| model | objective | iterations | seconds | samples |",
        "| --- | --- | --: | --: | --- |",
    ]
    for name, run in variants(output, data).items():
        model, objective = name.split(" ")
        last = read_metrics(RunFolder(run).path)[-1]
        picture = f"{data}/{model}-{objective}.png"
        crop(run, GALLERY / picture)
        cells = (
            model,
            objective,
            last["iteration"],
            f"{last['seconds']:.0f}",
            f"![{name} on {data}]({picture})",
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return [*lines, ""]


def main(output: Path) -> None:
    """Write the pictures and README.md."""
    lines = [
        "# Gallery",
        "",
        "Samples of every model and objective after the short training of `studies/main.toml`: the first ones drawn,",
        "not chosen, of the first seed, and for the VAE of the middle temperature; seconds of training on one core of",
        "a busy machine. [Results](../results.md) has scores. Written by `python studies/gallery.py OUTPUT`.",
        "",
    ]
    sets = sorted(folder.name for folder in (output / "runs").iterdir())
    lines += [line for data in sets for line in section(output, data)]
    (GALLERY / "README.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
