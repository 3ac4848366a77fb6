"""The pictures and the table of docs/gallery, from the runs of a study: `python studies/gallery.py OUTPUT`.

Takes the first seed of every variant on `mnist5k`; of a sweep, its middle point.
"""

import json
import sys
from pathlib import Path

from PIL import Image

from ssimgen.training import RunFolder
from ssimgen.training.runs import read_metrics

GALLERY = Path(__file__).parent.parent / "docs" / "gallery"
COLUMNS, ROWS, GAP = 8, 4, 2  # of the grids in the run folders, the upper half
FRECHET = "Frechet distance"


def variants(output: Path) -> dict[str, Path]:
    """The run of every variant, by model and variant."""
    found: dict[str, list[Path]] = {}
    for run in sorted((output / "runs" / "mnist5k").glob("*/*/seed-0")):
        if (run / "evaluation.json").exists():
            name = f"{run.parts[-3]} {run.parts[-2].split('_tau=')[0]}"
            found.setdefault(name, []).append(run)
    return {name: runs[len(runs) // 2] for name, runs in found.items()}


def crop(run: Path, to: Path) -> None:
    """The first samples of the last grid."""
    with Image.open(sorted((run / "samples").glob("*.png"))[-1]) as picture:
        side = (picture.width - GAP) // COLUMNS
        picture.crop((0, 0, COLUMNS * side + GAP, ROWS * side + GAP)).save(to, optimize=True)


def main(output: Path) -> None:
    """Write the pictures and README.md."""
    GALLERY.mkdir(exist_ok=True)
    lines = [
        "# Gallery",
        "",
        "Samples of every model and objective after the short training of `studies/main.toml` on the 4,000 training",
        "digits of `mnist5k`: the first ones drawn, not chosen. Frechet distance to held-out digits in the features of",
        "EfficientNet-Lite0; seconds on one core of a busy machine. Written by `python studies/gallery.py OUTPUT`.",
        "",
        "| model | objective | iterations | seconds | Frechet distance | samples |",
        "| --- | --- | --: | --: | --: | --- |",
    ]
    for name, run in variants(output).items():
        model, objective = name.split(" ")
        rows = json.loads((run / "evaluation.json").read_text())["rows"]
        frechet = next(row["value"] for row in rows if row["metric"].startswith(FRECHET))
        last = read_metrics(RunFolder(run).path)[-1]
        picture = f"{model}-{objective}.png"
        crop(run, GALLERY / picture)
        cells = (
            model,
            objective,
            last["iteration"],
            f"{last['seconds']:.0f}",
            f"{frechet:.0f}",
            f"![{name}]({picture})",
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    (GALLERY / "README.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
