"""The tables of the documents, from results that the repository keeps: `python docs/tables.py [OUTPUT]`.

Writes each table between the comments `<!-- table: NAME -->` and `<!-- end of table -->` of its document. From the main
study (studies/results; those of the folder OUTPUT of `ssimgen study` are copied there first):

- `vae DATA`: variational autoencoders at the middle one of the rates in matched.csv;
- `vae points DATA`: the same models as they were trained, at no common rate;
- `samples DATA`: samples of every other model;
- `classical and structural`: time and quality of each model with its classical and one structural objective;

from studies/results/equal-summary.csv, the summary.csv of studies/equal.toml:

- `equal`: two autoencoders at equal rate, processor time and search;

from studies/results/detection.csv:

- `detection`: how well autoencoders find made defects, by texture, objective and residual;

from studies/results/padding.csv, of studies/padding.py:

- `padding`: pixels of the border and inside, of autoencoders trained with windows inside the image, mirrored borders
  and l2;
- `padding endpoint`: mirrored borders against windows inside the image, by set of images, and Holm's correction;

from studies/results/locality.csv, of studies/locality.py:

- `locality`: reconstructions of autoencoders trained by l2, l1, SSIM and SSIM of permuted pixels;
- `locality endpoint`: SSIM against SSIM of permuted pixels, and the mix against l1, with Holm's correction;

from studies/results/distance.csv, a line for each run of studies/distance.toml:

- `distance DATA`: reconstructions at equal rate of autoencoders that were told to reconstruct by nine errors;
- `distance endpoint`: the pyramid against l2, l1 and the mix, with Holm's correction;

from studies/results/drawn.csv, a line for each run of studies/drawn.toml:

- `drawn`: moment matching by all windows, or by some;

from studies/results/power.csv:

- `power`: how often two-sample tests reject, by set of images and number, over all changes, and where nothing changed;
- `power DATA`: the same by change and severity, of 100 images a set;

and from benchmarks/results:

- `two samples`: how often a test finds a change, by kernel;
- `speed`: SSIM and its gradients beside other libraries.
"""

from __future__ import annotations

import csv
import json
import re
import statistics
import sys
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from ssimgen import scores
from ssimgen._holm import holm
from ssimgen.report import statistics as statistics_of_seeds

ROOT = Path(__file__).parent.parent
STUDY = ROOT / "studies" / "results"
MEASURED = ROOT / "benchmarks" / "results"
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

Row = Mapping[str, str]

RECONSTRUCTION = {
    "psnr": 2,
    "ssim": 3,
    "ms_ssim": 3,
    "feature_distance": 3,
    "kernel_distance": 2,
    "frechet_distance": 0,
}
EQUAL = {"kl": 2, "feature_distance": 3, "st_lpips": 4, "kernel_distance": 2, "psnr": 2, "ssim": 3, "ms_ssim": 3}
POINTS = {"kl": 1, "psnr": 2, "ssim": 3, "feature_distance": 3, "kernel_distance": 2, "frechet_distance": 0}
SAMPLES = {"kernel_distance": 2, "frechet_distance": 0, "precision": 2, "recall": 2, "coverage": 2, "class_accuracy": 2}
"""Key of a metric -> decimals."""

JUDGED = ("mnist5k", "fashion")
"""Sets whose judgements are shown: on photographs, the feature network prefers a grey square to all models."""

DETECTED = ("pixel AUROC", "PRO", "image AUROC", "flagged", "false alarms")
"""Columns of the study of detection."""

PADDING = ("kl", "rmse border", "rmse inside", "energy border", "energy inside")
"""Columns of the study of padding."""

LOCALITY = ("kl", "ST-LPIPS", "feature distance", "PSNR", "SSIM")
"""Columns of the study of locality."""

DISTANCE = ("kl", "st_lpips", "feature_distance", "kernel_distance", "colour_error", "psnr", "ssim")
"""Keys of the metrics that are kept of the study of distances."""

COMPARED = "100"
"""Images of either set in the tables of power by change."""

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


SPEED = {"forward": "SSIM", "forward + backward to both": "with gradients to both"}
SPEED_SHAPES = ((64, 3, 64, 64), (1, 3, 1080, 1920))
"""What of benchmarks/pairs.py is shown."""


def read(name: str) -> list[Row]:
    """The rows of a table of the study, which may lie in several files."""
    rows: list[Row] = []
    for path in sorted(STUDY.glob(f"{name}*.csv")):
        with path.open(newline="") as file:
            rows += csv.DictReader(file)
    return rows


def middle_rate(rows: Iterable[Row]) -> list[Row]:
    """The rows of matched.csv at the middle one of the rates of their set of images."""
    chosen: list[Row] = []
    for data in dict.fromkeys(row["data"] for row in rows):
        own = [row for row in rows if row["data"] == data]
        rates = sorted({float(row["rate"]) for row in own})
        chosen += [row for row in own if float(row["rate"]) == rates[len(rates) // 2]]
    return chosen


def find(rows: Iterable[Row], key: str, **wanted: str) -> Row | None:
    """The row of the metric of that key with the wanted values of other columns."""
    for row in rows:
        if scores.read(row["metric"]).key == key and all(row[k] == v for k, v in wanted.items()):
            return row
    return None


def labels(keys: Iterable[str]) -> list[str]:
    """What tables call metrics."""
    return [scores.METRICS[key].label for key in keys]


def cell(row: Row | None, digits: int) -> str:
    """Mean, half the interval over seeds, and a star if trained on this measure or one close to it."""
    if row is None or not row["value"]:
        return ""
    text = f"{float(row['value']):z.{digits}f}"
    if row["low"] and row.get("interval", "seeds") == "seeds":
        text += f" ± {(float(row['high']) - float(row['low'])) / 2:.{digits}f}"
    return text + ("" if row["trained_on"] == "no" else "\\*")


def seconds(results: Iterable[Row], data: str, group: str, variant: str) -> str:
    """Of training: the mean over all runs of a variant, its seeds and the points of its sweep."""
    runs = {
        (row["point"], row["seed"]): float(row["train_seconds"])
        for row in results
        if (row["data"], row["group"], row["variant"]) == (data, group, variant)
    }
    return f"{statistics.mean(runs.values()):.0f}"


def table(head: Sequence[str], lines: Iterable[Sequence[str]], names: int) -> str:
    """A Markdown table whose first `names` columns are names and the others numbers."""
    rule = [" --- "] * names + [" --: "] * (len(head) - names)
    return "\n".join([f"| {' | '.join(head)} |", f"|{'|'.join(rule)}|", *(f"| {' | '.join(line)} |" for line in lines)])


def of_autoencoders(matched: list[Row], data: str) -> str:
    """Variational autoencoders of one set of images at equal rate."""
    rows = [row for row in middle_rate(matched) if row["data"] == data and row["group"] == "vae"]
    return f"At a KL of {float(rows[0]['rate']):.1f} nats:\n\n" + of_objectives(rows, RECONSTRUCTION)


def of_objectives(rows: Sequence[Row], metrics: Mapping[str, int]) -> str:
    """Some metrics of one model with every objective."""
    variants = dict.fromkeys(row["variant"] for row in rows)
    lines = [[v, *(cell(find(rows, m, variant=v), digits) for m, digits in metrics.items())] for v in variants]
    return table(["objective", *labels(metrics)], lines, 1)


def of_points(summary: list[Row], data: str) -> str:
    """Variational autoencoders of one set of images, as they were trained."""
    rows = [row for row in summary if row["data"] == data and row["group"] == "vae"]
    arms = list(dict.fromkeys((row["variant"], row["point"]) for row in rows))
    lines = [
        [variant, f"{json.loads(point)['tau']:g}"]
        + [cell(find(rows, m, variant=variant, point=point), digits) for m, digits in POINTS.items()]
        for variant, point in arms
    ]
    return table(["objective", "tau", *labels(POINTS)], lines, 2)


def of_samples(summary: list[Row], results: list[Row], data: str) -> str:
    """Samples of all models but the variational autoencoders on one set of images, and of real images."""
    rows = [row for row in summary if row["data"] == data and row["group"] != "vae"]
    arms = list(dict.fromkeys((row["group"], row["variant"]) for row in rows))
    lines = []
    for group, variant in arms:
        found = [find(rows, m, group=group, variant=variant) for m in SAMPLES]
        time = seconds(results, data, group, variant)
        lines.append([group, variant, time, *map(cell, found, SAMPLES.values())])
    real = [find((row for row in rows if row["reference"]), m) for m in SAMPLES]
    values = [f"{float(r['reference']):z.{d}f}" if r else "" for r, d in zip(real, SAMPLES.values(), strict=True)]
    lines.append(["*real images*", "", "", *values])
    return table(["model", "objective", "seconds", *labels(SAMPLES)], lines, 2)


def of_pairs(summary: list[Row], matched: list[Row], results: list[Row]) -> str:
    """Time, and kernel distance of samples, with the classical and with the structural objective."""
    rows = {"vae": middle_rate(matched)}
    lines = []
    for model, objectives in PAIRS.items():
        for objective in objectives:
            line = [model, objective]
            for data in JUDGED:
                wanted = {"data": data, "group": model, "variant": objective}
                found = find(rows.get(model, summary), "kernel_distance", **wanted)
                line += [cell(found, 2), seconds(results, **wanted)]
            lines.append(line)
    return table(["model", "objective", *(name for data in JUDGED for name in (data, "seconds"))], lines, 2)


def of_two_samples(kept: Mapping[str, Any]) -> str:
    """The share of tests that reject, by kernel and change."""
    rejected: Mapping[str, Mapping[str, float]] = kept["rejected"]
    kernels = next(iter(rejected.values()))
    lines = [[kernel, *(f"{shares[kernel]:.2f}" for shares in rejected.values())] for kernel in kernels]
    return table(["kernel", *rejected], lines, 1)


def of_speed(pairs: Mapping[str, Any], pairwise: Mapping[str, Any]) -> str:
    """Milliseconds of SSIM, of its gradients and of all pairs, and the largest difference from float64."""
    libraries = [row["library"] for row in pairs["agreement"]]
    lines = []
    for row in pairs["pairs"]:
        operation, shape = row["operation"], tuple(row["shape"])
        if operation in SPEED and shape in SPEED_SHAPES:
            what = f"{SPEED[operation]}, {' x '.join(map(str, shape))}"
            lines.append([what, *(short(row["seconds"].get(name, 0) * 1e3) for name in libraries)])
    of_a_pair = pairwise["microseconds a pair"]
    all_pairs = [of_a_pair.get(f"forward: {name}", 0) for name in libraries]
    lines.append(["all pairs of 500 x 500, 28 x 28", *(short(each * 500**2 / 1e3) for each in all_pairs)])
    for of, name in (("value", "value"), ("gradient", "gradient, relative")):
        lines.append([f"off by, {name}", *(f"{row[of]:.0e}" if of in row else "" for row in pairs["agreement"])])
    return table(["", *libraries], lines, 1)


def short(number: float) -> str:
    """Two digits of a measured number; 0 is none."""
    return f"{number:,.{0 if number >= 10 else 1 if number >= 1 else 2}f}" if number else ""


def rejected(rows: Iterable[Row]) -> str:
    """The share of tests that reject, over cells."""
    shares = [int(row["rejected"]) / int(row["tests"]) for row in rows]
    return f"{statistics.mean(shares):.2f}" if shares else ""


def of_power(rows: Sequence[Row]) -> str:
    """Power over all changes and severities, by test, set of images and their number; and false rejections."""
    columns = list(dict.fromkeys((row["data"], row["images"]) for row in rows))
    lines = []
    for test in dict.fromkeys(row["test"] for row in rows):
        own = [row for row in rows if row["test"] == test]
        changed = [row for row in own if row["change"] != "nothing"]
        by_set = [[r for r in changed if (r["data"], r["images"]) == column] for column in columns]
        unchanged = [row for row in own if row["change"] == "nothing"]
        lines.append([test, *map(rejected, (*by_set, changed, unchanged))])
    return table(["test", *(f"{data}, {n}" for data, n in columns), "all", "nothing changed"], lines, 1)


def of_power_by_change(rows: Sequence[Row], data: str) -> str:
    """Power by test and change, the severities one after the other."""
    own = [row for row in rows if row["data"] == data and row["images"] == COMPARED]
    severities: dict[str, set[str]] = {}
    for row in own:
        severities.setdefault(row["change"], set()).add(row["severity"])
    lines = []
    for test in dict.fromkeys(row["test"] for row in own):
        cells = [
            " / ".join(
                rejected(row for row in own if (row["test"], row["change"], row["severity"]) == (test, change, each))
                for each in sorted(of_change, key=lambda text: abs(float(text) - (change == "contrast")))
            )
            for change, of_change in severities.items()
        ]
        lines.append([test, *cells])
    return table(["test", *severities], lines, 1)


def of_detection(rows: list[Row]) -> str:
    """How well defects of all kinds are found: means over seeds."""
    rows = [row for row in rows if row["defects"] == "all"]
    names = ("texture", "objective", "residual", "iterations")
    lines = []
    for about in dict.fromkeys(tuple(row[name] for name in names) for row in rows):
        own = [row for row in rows if tuple(row[name] for name in names) == about]
        values = {metric: [float(row[metric]) for row in own] for metric in DETECTED}
        lines.append([*about, str(len(own)), *(_over_seeds(numbers) for numbers in values.values())])
    return table([*names, "seeds", *DETECTED], lines, 3)


def of_arms(rows: Sequence[Row], measures: Sequence[str]) -> str:
    """Means over seeds, with half their 95 % intervals, by images and arm."""
    lines = []
    for data, arm in dict.fromkeys((row["data"], row["arm"]) for row in rows):
        own = [row for row in rows if (row["data"], row["arm"]) == (data, arm)]
        cells = (_over_seeds([float(row[measure]) for row in own]) for measure in measures)
        lines.append([data, arm, str(len(own)), *cells])
    return table(["images", "trained with", "seeds", *measures], sorted(lines, key=lambda line: line[0]), 2)


def of_distances(rows: Sequence[Row]) -> str:
    """Means over seeds, with half their 95 % intervals, of what the images of these rows have, by arm."""
    keys = [key for key in DISTANCE if all(row[key] for row in rows)]
    lines = []
    for arm in dict.fromkeys(row["arm"] for row in rows):
        own = [row for row in rows if row["arm"] == arm]
        lines.append([arm, str(len(own)), *(_over_seeds([float(row[key]) for row in own]) for key in keys)])
    return table(["trained with", "seeds", *(scores.METRICS[key].label for key in keys)], lines, 1)


def of_endpoints(rows: Sequence[Row], measure: str, *pairs: tuple[str, str]) -> str:
    """The difference of a measure, of one arm less another, seed by seed, with one correction for all."""
    lines, p_values = [], []
    for data, (arm, other) in product(sorted({row["data"] for row in rows}), pairs):
        values: dict[str, dict[Hashable, float]] = {
            name: {row["seed"]: float(row[measure]) for row in rows if (row["data"], row["arm"]) == (data, name)}
            for name in (arm, other)
        }
        found = statistics_of_seeds.paired(values[arm], values[other])
        if found is not None and found.low is not None:
            interval = f"{found.low:+.4f} to {found.high:+.4f}"
            lines.append([data, f"{arm} less {other}", str(found.n), f"{found.value:+.4f}", interval])
            p_values.append(found.p_value)
    lines = [[*line, f"{p:.2g}"] for line, p in zip(lines, holm(p_values), strict=True)]
    name = scores.METRICS[measure].label if measure in scores.METRICS else measure
    return table(["images", "difference", "seeds", name, "95 % interval", "p, Holm"], lines, 2)


def _over_seeds(numbers: list[float]) -> str:
    """The mean, and half its 95 % interval if there are several."""
    mean = statistics_of_seeds.mean(numbers)
    return f"{mean.value:.3f}" if mean.high is None else f"{mean.value:.3f} ± {mean.high - mean.value:.3f}"


def tables() -> dict[str, str]:
    """All tables, by name."""
    summary, matched, results = read("summary"), read("matched"), read("results")
    padding, locality = read("padding"), read("locality")
    made = {
        "classical and structural": of_pairs(summary, matched, results),
        "vae points photos": of_points(summary, "photos"),
        "speed": of_speed(*(json.loads((MEASURED / f"{name}.json").read_text()) for name in ("pairs", "pairwise"))),
        "two samples": of_two_samples(json.loads((MEASURED / "two_samples.json").read_text())),
        "detection": of_detection(read("detection")),
        "equal": of_objectives(read("equal-summary"), EQUAL),
        "padding": of_arms(padding, PADDING),
        "padding endpoint": of_endpoints(padding, "rmse border", ("reflect", "valid")),
        "locality": of_arms(locality, LOCALITY),
        "locality endpoint": of_endpoints(locality, "ST-LPIPS", ("ssim", "permuted"), ("mix", "l1")),
    }
    if drawn := read("drawn"):
        made["drawn"] = of_distances(drawn)
    if distance := read("distance"):
        sets = dict.fromkeys(row["data"] for row in distance)
        made |= {f"distance {data}": of_distances([row for row in distance if row["data"] == data]) for data in sets}
        ours = [("pyramid", other) for other in ("l2", "l1", "mix")]
        made["distance endpoint"] = of_endpoints(distance, "st_lpips", *ours)
    power = read("power")
    made |= {"power": of_power(power)} if power else {}
    made |= {f"power {data}": of_power_by_change(power, data) for data in dict.fromkeys(row["data"] for row in power)}
    for data in JUDGED:
        made |= {f"vae {data}": of_autoencoders(matched, data), f"samples {data}": of_samples(summary, results, data)}
    return made


def filled(text: str, made: Mapping[str, str]) -> str:
    """A document with its tables made anew."""
    place = re.compile(r"(<!-- table: ([^>]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)
    return place.sub(lambda match: f"{match[1]}\n{made[match[2]]}\n\n{match[3]}", text)


def keep(output: Path) -> None:
    """Copy the tables of a study; the longest in one file for each set of images. Without verdicts: the judge of its
    photographs may give none, and no endpoint was named before it ran."""
    for name in ("summary", "matched"):
        with (output / f"{name}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        columns = [column for column in rows[0] if column != "verdict"]
        with (STUDY / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
    with (output / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for data in dict.fromkeys(row["data"] for row in rows):
        with (STUDY / f"results-{data}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(row for row in rows if row["data"] == data)


def keep_runs(output: Path, name: str) -> None:
    """A line for each run of a study, with the metrics of DISTANCE; beside the lines of other seeds that are kept."""
    with (output / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    runs: dict[tuple[str, str, str], dict[str, str]] = {}
    for row in [*read(name), *rows]:
        run = runs.setdefault((row["data"], row.get("variant") or row["arm"], row["seed"]), {})
        if "metric" not in row:
            run |= {key: row[key] for key in DISTANCE}
        elif (key := scores.read(row["metric"]).key) in DISTANCE:
            run[key] = f"{float(row['value']):.5g}"
    with (STUDY / f"{name}.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["data", "arm", "seed", *DISTANCE])
        writer.writerows([*run, *(values.get(key, "") for key in DISTANCE)] for run, values in runs.items())


def main(arguments: Sequence[str]) -> None:
    """Copy the tables of a study if one is given, and fill those of the documents."""
    for output in arguments:
        with (Path(output) / "results.csv").open(newline="") as file:
            study = next(csv.DictReader(file))["study"]
        keep(Path(output)) if study == "main" else keep_runs(Path(output), study)
    made = tables()
    for path in DOCUMENTS:
        path.write_text(filled(path.read_text(), made))


if __name__ == "__main__":
    main(sys.argv[1:])
