"""What stands on the page of a report, and writing it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from ssimgen._files import writable_folder, write_atomically
from ssimgen.report import tables
from ssimgen.report.charts import Point, Series, line_chart, swatch
from ssimgen.report.folders import RATE, Run, read_runs
from ssimgen.report.tables import Record

RANKED_BY = {"reconstruction": "feature distance", "samples": "Frechet distance"}
_NONE = "-"
_MOST_PICTURES = 40  # variants with pictures
_CURVES = ("PSNR, dB", "SSIM", "MS-SSIM", "feature distance")


@dataclass(frozen=True)
class Verdict:
    """What a study concludes, in a heading and some sentences."""

    heading: str
    sentences: tuple[str, ...] = ()


def write_report(
    paths: Sequence[Path],
    output: Path,
    *,
    title: str = "",
    baseline: str = "",
    verdict: Verdict | None = None,
    rates: Sequence[float] = (),
) -> Path:
    """Write index.html, which holds all that it shows, to `output`; returns its path.

    Args:
        paths: run folders, or folders with runs below them.
        output: folder.
        title: of the page.
        baseline: name of a variant, or part of it, with which others are compared; otherwise that of the study.
        verdict: what stands first.
        rates: nats at which variational models are compared; empty: chosen where their curves overlap.

    Raises:
        ValueError: no runs; runs that are damaged, not evaluated, evaluated differently, or of different images.
        OSError: the folder cannot be written.
    """
    runs = read_runs(paths)
    html = page(runs, title=title, baseline=baseline, verdict=verdict, rates=rates)
    target = writable_folder(output) / "index.html"
    write_atomically(target, lambda file: file.write(html.encode()))
    return target


def page(
    runs: Sequence[Run],
    *,
    title: str = "",
    baseline: str = "",
    verdict: Verdict | None = None,
    rates: Sequence[float] = (),
) -> str:
    """The HTML of a report."""
    records = tables.records_of(runs, baseline)
    matched = tables.matched(records, rates)
    arms = _arms(runs, records)
    summary = tables.summary(records)
    styles = {key: i for i, key in enumerate(dict.fromkeys((arm.group, arm.variant) for arm in arms))}
    first = runs[0]
    shown = _pictured(arms, records, matched)
    return (
        _environment()
        .from_string(_resource("report.html"))
        .render(
            title=title or f"Runs on {first.config['data']['source']}",
            verdict=verdict,
            data=first.config["data"],
            shape=first.config["shape"],
            evaluation=first.evaluation,
            runs=runs,
            arms=arms,
            many_groups=len({arm.group for arm in arms}) > 1,
            rankings=[r for r in (_ranking(kind, summary, arms, first) for kind in RANKED_BY) if r],
            compared=[
                row for row in summary if row["difference"] is not None and not row["metric"].startswith("p-value")
            ],
            matched=[row for row in matched if not row["metric"].startswith("p-value")],
            legend=[(swatch_of(i), _name(*key, arms)) for key, i in styles.items()],
            rated=[(swatch_of(i), _name(*key, arms)) for key, i in styles.items() if key in _rated(summary)],
            rates=_rate_charts(summary, styles, first),
            losses=_loss_charts(shown, styles),
            pictures=[_pictures(arm) for arm in shown],
            left_out=len(arms) - len(shown),
            real=_data_uri(first.picture("real")),
            differences=_differences(arms),
            versions=first.config.get("versions", {}),
            style=Markup(_resource("report.css")),
            script=Markup(_resource("report.js")),
        )
    )


@dataclass(frozen=True)
class Arm:
    """Runs that differ only by their seed."""

    group: str
    variant: str
    point: str
    label: str
    runs: tuple[Run, ...]


def _arms(runs: Sequence[Run], records: Sequence[Record]) -> list[Arm]:
    by_folder = {record["folder"]: record for record in records}
    found: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        record = by_folder[str(run.path)]
        found.setdefault((record["group"], record["variant"], record["point"]), []).append(run)
    groups = {group for group, _, _ in found}
    arms = []
    for (group, variant, point), of_arm in found.items():
        arm = by_folder[str(of_arm[0].path)]["arm"]
        label = arm if len(groups) == 1 or arm == group else f"{group} {arm}"
        arms.append(Arm(group, variant, point, label, tuple(sorted(of_arm, key=lambda run: run.seed))))
    return arms


def _name(group: str, variant: str, arms: Sequence[Arm]) -> str:
    return variant if len({arm.group for arm in arms}) == 1 or variant == group else f"{group} {variant}"


# --- ranked tables ----------------------------------------------------------------------------------------------


def _ranking(kind: str, summary: Sequence[Record], arms: Sequence[Arm], first: Run) -> dict[str, Any] | None:
    """A table of one kind of metrics: arms by rows, best first, and a row of real images."""
    rows = [row for row in summary if row["kind"] in (kind, "rate") and not row["metric"].startswith("p-value")]
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    if not any(row["kind"] == kind for row in rows):
        return None
    if kind == "samples" and RATE in metrics:
        metrics.remove(RATE)
    cells = {(row["group"], row["variant"], row["point"], row["metric"]): row for row in rows}
    columns = []
    for metric in metrics:
        of_metric = [row for row in rows if row["metric"] == metric]
        columns.append(
            {
                "metric": metric,
                "short": metric.replace(f" ({first.evaluation['network']})", "").replace("^2", "²"),
                "better": of_metric[0]["better"] if metric != RATE else "",
                "best": _best(of_metric) if metric != RATE else None,
                "reference": next((row["reference"] for row in of_metric if row["reference"] is not None), None),
            }
        )
    by = next((m for m in metrics if m.startswith(RANKED_BY[kind])), metrics[-1])
    lines: list[dict[str, Any]] = []
    for arm in arms:
        line = [cells.get((arm.group, arm.variant, arm.point, metric)) for metric in metrics]
        if any(cell is not None for cell in line):
            lines.append({"label": arm.label, "seeds": len(arm.runs), "cells": line, "baseline": _is_baseline(arm)})
    place = metrics.index(by)
    lines.sort(key=lambda line: _rank_key(line["cells"][place]))
    return {"kind": kind, "columns": columns, "lines": lines, "by": place, "rated": RATE in metrics}


def _is_baseline(arm: Arm) -> bool:
    return bool(arm.runs[0].study.get("baseline")) and arm.runs[0].study["baseline"] == arm.variant


def _rank_key(cell: Record | None) -> tuple[bool, float]:
    if cell is None or cell["value"] is None:
        return True, 0.0
    return False, _goodness(cell)


def _goodness(cell: Record) -> float:
    """Smaller is better."""
    value = float(cell["value"])
    if cell["better"] == "reference":
        return abs(value - (cell["reference"] or 0.0))
    return -value if cell["better"] == "higher" else value


def _best(rows: Sequence[Record]) -> float | None:
    known = [row for row in rows if row["value"] is not None]
    if len({row["value"] for row in known}) < 2:  # nothing to choose from
        return None
    best: float = min(known, key=_goodness)["value"]
    return best


# --- charts -----------------------------------------------------------------------------------------------------


def swatch_of(style: int) -> Markup:
    """The mark of a style."""
    return Markup(swatch(style))


def _rated(summary: Sequence[Record]) -> set[tuple[str, str]]:
    """Groups and variants that have a rate."""
    return {(r["group"], r["variant"]) for r in summary if r["metric"] == RATE}


def _rate_charts(summary: Sequence[Record], styles: Mapping[tuple[str, str], int], first: Run) -> list[dict[str, Any]]:
    """Quality against KL, a chart a metric: means over seeds, with their intervals."""
    rate = {(r["group"], r["variant"], r["point"]): r["value"] for r in summary if r["metric"] == RATE}
    if len(rate) < 2:
        return []
    charts = []
    for row in dict.fromkeys(
        r["metric"] for r in summary if r["metric"].startswith(_CURVES) and r["kind"] == "reconstruction"
    ):
        points: dict[tuple[str, str], list[Point]] = {}
        for r in summary:
            key = (r["group"], r["variant"], r["point"])
            if r["metric"] == row and key in rate and r["value"] is not None:
                points.setdefault(key[:2], []).append(Point(rate[key], r["value"], r["low"], r["high"]))
        series = [Series(" ".join(key), tuple(ps), styles[key]) for key, ps in points.items()]
        if series:
            label = row.replace(f" ({first.evaluation['network']})", "")
            charts.append({"title": label, "svg": Markup(line_chart(series, x_label=RATE, y_label=label))})
    return charts


def _loss_charts(arms: Sequence[Arm], styles: Mapping[tuple[str, str], int]) -> list[dict[str, Any]]:
    """Loss terms during training, a chart a term, of the first seed of each arm."""
    series: dict[tuple[str, str], list[Series]] = {}
    for arm in arms:
        terms: dict[str, list[Point]] = {}
        for line in arm.runs[0].metrics:
            for key, value in line.items():
                if "/" in key and not key.endswith("/lr"):
                    terms.setdefault(key, []).append(Point(line["iteration"], value))
        for key, points in terms.items():
            lone = len(points) == 1  # a line of one point is none
            drawn = Series(arm.label, tuple(points), styles[arm.group, arm.variant], marks=lone)
            series.setdefault((arm.group, key), []).append(drawn)
    many_groups = len({arm.group for arm in arms}) > 1
    charts = []
    for (group, key), lines in series.items():
        values = [p.y for s in lines for p in s.points]
        log = min(values) > 0 and max(values) > 30 * min(values)
        title = (f"{group}: {key}" if many_groups else key) + (", logarithmic" if log else "")
        svg = line_chart(lines, x_label="iteration", y_label=title, log=log)
        charts.append({"title": title, "svg": Markup(svg)})
    return charts


# --- pictures and options ---------------------------------------------------------------------------------------


def _pictured(arms: Sequence[Arm], records: Sequence[Record], matched: Sequence[Record]) -> list[Arm]:
    """One arm a variant: of a sweep, that whose rate is nearest to the middle of the common rates."""
    rate = {r["folder"]: r["value"] for r in records if r["metric"] == RATE}
    middle: dict[str, list[float]] = {}
    for row in matched:
        middle.setdefault(row["group"], []).append(row["rate"])
    chosen: dict[tuple[str, str], Arm] = {}
    for arm in arms:
        key = (arm.group, arm.variant)
        rates = sorted(set(middle.get(arm.group, [])))
        wanted = rates[len(rates) // 2 :][:1]

        def off(candidate: Arm, wanted: list[float] = wanted) -> float:
            value = rate.get(str(candidate.runs[0].path))
            return abs(value - wanted[0]) if wanted and value is not None else 0.0

        if key not in chosen or off(arm) < off(chosen[key]):
            chosen[key] = arm
    return list(chosen.values())[:_MOST_PICTURES]


def _pictures(arm: Arm) -> dict[str, Any]:
    run = arm.runs[0]
    names = ("samples", "reconstructions", "worst", "nearest")
    return {
        "label": arm.label,
        "seed": run.seed,
        **{name: _data_uri(run.picture(name)) for name in names},
    }


def _data_uri(content: bytes | None) -> str | None:
    return None if content is None else f"data:image/png;base64,{base64.b64encode(content).decode()}"


def _differences(arms: Sequence[Arm]) -> dict[str, Any]:
    """Options in which arms differ, and those that all share."""
    runs = [arm.runs[0] for arm in arms]
    keys = tables.differing_options(runs)
    rows = []
    for key in keys:
        values = [_shown(run.options.get(key)) for run in runs]
        given = [value for value in values if value != _NONE] or values
        usual = max(dict.fromkeys(given), key=given.count)
        rows.append({"option": key, "cells": [(value, value not in (usual, _NONE)) for value in values]})
    shared = {key: _shown(value) for key, value in runs[0].options.items() if key not in keys}
    return {"rows": rows, "shared": shared, "labels": [arm.label for arm in arms]}


def _shown(value: Any) -> str:
    if value is None:
        return _NONE
    return value if isinstance(value, str) else json.dumps(value)


# --- rendering --------------------------------------------------------------------------------------------------


@cache
def _environment() -> Environment:
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = lambda value: "-" if value is None else f"{value:.4g}"
    environment.filters["signed"] = lambda value: "-" if value is None else f"{value:+.3g}"
    return environment


def _resource(name: str) -> str:
    return (files("ssimgen.report") / name).read_text()
