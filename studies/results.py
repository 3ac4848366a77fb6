"""The tables of docs/results.md and README.md from those of the study: `python studies/results.py OUTPUT`.

Copies results.csv, summary.csv, matched.csv and the reports to studies/results/ and writes each table between the
comments `<!-- table: NAME -->` and `<!-- end of table -->` of the two documents:

- `vae DATA`: variational autoencoders at the middle one of the rates in matched.csv;
- `samples DATA`: samples of every other model;
- `classical and structural`: the Frechet distance of each model's samples, all sets of images.
"""

from __future__ import annotations

import csv
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "studies" / "results"
DOCUMENTS = (ROOT / "docs" / "results.md", ROOT / "README.md")

Row = Mapping[str, str]

RECONSTRUCTION = {"PSNR, dB": 2, "SSIM": 3, "MS-SSIM": 3, "feature distance": 3, "Frechet distance": 0}
SAMPLES = {"Frechet distance": 0, "precision": 2, "recall": 2, "coverage": 2, "class accuracy": 2}
"""Metric, by the beginning of its name -> decimals."""

PAIRS = {
    "vae": ("l2", "ssim"),
    "aae": ("l2", "ssim"),
    "gan": ("none", "energy"),
    "lsgan": ("l2", "ssim"),
    "began": ("l1", "ssim"),
    "gmmn": ("rbf", "gaussian_on_D"),
    "code-gmmn": ("rbf", "gaussian_on_D"),
    "cgmmn": ("rbf", "ssim"),
}
"""Model -> its classical and one structural objective, fixed before sets other than mnist5k were seen."""


def read(name: str) -> list[Row]:
    """The rows of a table of the study."""
    with (RESULTS / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def middle_rate(rows: Iterable[Row]) -> list[Row]:
    """The rows of matched.csv at the middle one of the rates of their set of images."""
    chosen: list[Row] = []
    for data in dict.fromkeys(row["data"] for row in rows):
        own = [row for row in rows if row["data"] == data]
        rates = sorted({float(row["rate"]) for row in own})
        chosen += [row for row in own if float(row["rate"]) == rates[len(rates) // 2]]
    return chosen


def find(rows: Iterable[Row], metric: str, **wanted: str) -> Row | None:
    """The row of a metric, given by the beginning of its name, with the wanted values of other columns."""
    for row in rows:
        if re.match(rf"{re.escape(metric)}( \(|$)", row["metric"]) and all(row[k] == v for k, v in wanted.items()):
            return row
    return None


def cell(row: Row | None, digits: int) -> str:
    """Mean, half the interval over seeds, a star if trained on this measure or one close to it, and the verdict."""
    if row is None or not row["value"]:
        return ""
    text = f"{float(row['value']):.{digits}f}"
    if row["low"] and row.get("interval", "seeds") == "seeds":
        text += f" ± {(float(row['high']) - float(row['low'])) / 2:.{digits}f}"
    star = "" if row["trained_on"] == "no" else "\\*"
    return text + star + {"better": " ▲", "worse": " ▼"}.get(row["verdict"], "")


def table(head: list[str], lines: Iterable[list[str]], names: int) -> str:
    """A Markdown table whose first `names` columns are names and the others numbers."""
    rule = [" --- "] * names + [" --: "] * (len(head) - names)
    return "\n".join([f"| {' | '.join(head)} |", f"|{'|'.join(rule)}|", *(f"| {' | '.join(line)} |" for line in lines)])


def of_autoencoders(matched: list[Row], data: str) -> str:
    """Variational autoencoders of one set of images at equal rate."""
    rows = [row for row in middle_rate(matched) if row["data"] == data and row["group"] == "vae"]
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    lines = [[v, *(cell(find(rows, m, variant=v), digits) for m, digits in RECONSTRUCTION.items())] for v in variants]
    rate = f"At a KL of {float(rows[0]['rate']):.1f} nats:\n\n" if rows else ""
    return rate + table(["objective", *RECONSTRUCTION], lines, 1)


def of_samples(summary: list[Row], data: str) -> str:
    """Samples of all models but the variational autoencoders on one set of images, and of real images."""
    rows = [row for row in summary if row["data"] == data and row["group"] != "vae"]
    arms = list(dict.fromkeys((row["group"], row["variant"]) for row in rows))
    lines = []
    for group, variant in arms:
        found = [find(rows, m, group=group, variant=variant) for m in SAMPLES]
        lines.append([group, variant, *map(cell, found, SAMPLES.values())])
    real = [find((row for row in rows if row["reference"]), m) for m in SAMPLES]
    values = [f"{float(r['reference']):.{d}f}" if r else "" for r, d in zip(real, SAMPLES.values(), strict=True)]
    lines.append(["*real images*", "", *values])
    return table(["model", "objective", *SAMPLES], lines, 2)


def of_pairs(summary: list[Row], matched: list[Row], sets: list[str]) -> str:
    """The Frechet distance of samples with the classical and with the structural objective."""
    rows = {"vae": middle_rate(matched)}
    lines = []
    for model, objectives in PAIRS.items():
        for objective in objectives:
            found = [
                find(rows.get(model, summary), "Frechet distance", data=data, group=model, variant=objective)
                for data in sets
            ]
            lines.append([model, objective, *(cell(row, 0) for row in found)])
    return table(["model", "objective", *sets], lines, 2)


def main(output: Path) -> None:
    """Copy the tables and the reports of the study, and fill those of the documents."""
    RESULTS.mkdir(exist_ok=True)
    for name in ("results", "summary", "matched"):
        shutil.copy(output / f"{name}.csv", RESULTS / f"{name}.csv")
    summary, matched = read("summary"), read("matched")
    sets = list(dict.fromkeys(row["data"] for row in summary))
    for data in sets:
        shutil.copy(output / "report" / data / "index.html", RESULTS / f"{data}.html")
    tables = {"classical and structural": of_pairs(summary, matched, sets)}
    for data in sets:
        tables |= {f"vae {data}": of_autoencoders(matched, data), f"samples {data}": of_samples(summary, data)}
    for path in DOCUMENTS:
        text = path.read_text()
        for name, content in tables.items():
            place = rf"(<!-- table: {re.escape(name)} -->\n).*?(<!-- end of table -->)"
            text = re.sub(place, lambda m, c=content: f"{m[1]}\n{c}\n\n{m[2]}", text, flags=re.DOTALL)
        path.write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
