"""The table of docs/results.md from that of a study: `python studies/results.py OUTPUT` copies and prints.

Variational autoencoders at equal rate: `matched.csv` at the middle one of its rates, on `mnist5k`. The study's tables
go to studies/results/, the VAE's part of the table to standard output, in Markdown.
"""

import csv
import shutil
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
METRICS = {"PSNR, dB": 2, "SSIM": 3, "MS-SSIM": 3, "feature distance": 3, "Frechet distance": 0}
MARKS = {"yes": "*", "related": "*", "no": ""}


def main(output: Path) -> None:
    """Copy the tables and print the comparison."""
    RESULTS.mkdir(exist_ok=True)
    for name in ("results", "summary", "matched"):
        shutil.copy(output / f"{name}.csv", RESULTS / f"{name}.csv")
    rows = [row for row in csv.DictReader((RESULTS / "matched.csv").open()) if row["data"] == "mnist5k"]
    rates = sorted({float(row["rate"]) for row in rows})
    rate = rates[len(rates) // 2]
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        metric = next((m for m in METRICS if row["metric"].startswith(m)), None)
        if metric and float(row["rate"]) == rate:
            digits = METRICS[metric]
            half = (float(row["high"]) - float(row["low"])) / 2
            text = f"{float(row['value']):.{digits}f} ± {half:.{digits}f}{MARKS[row['trained_on']]}"
            verdict = {"better": " ▲", "worse": " ▼"}.get(row["verdict"], "")
            cells.setdefault(row["variant"], {})[metric] = text + verdict
    print(f"Rate {rate:.1f} nats\n\n| objective | {' | '.join(METRICS)} |\n| --- |{' --: |' * len(METRICS)}")
    for variant, found in cells.items():
        print(f"| {variant} | {' | '.join(found.get(metric, '') for metric in METRICS)} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
