"""What stands on the page of a report, and writing it."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, Template
from markupsafe import Markup

from ssimgen import scores
from ssimgen._files import writable_folder, write_atomically
from ssimgen.report.arms import Arm, Group, arms_of, groups_of
from ssimgen.report.charts import Point, Series, line_chart
from ssimgen.report.comparison import Comparison, comparisons
from ssimgen.report.embedding import embed
from ssimgen.report.endpoints import Endpoint, conclusion, endpoints, faults, unequal, unnamed
from ssimgen.report.folders import Run, read_runs
from ssimgen.report.galleries import galleries, pictured, pictures_of
from ssimgen.report.options import options_between, options_of
from ssimgen.report.ranking import ranking
from ssimgen.report.results import Result, checks_of, fault_of, records_of
from ssimgen.report.summary import Summary, matched, reach, summary
from ssimgen.report.verdict import Verdict
from ssimgen.scores import RANKED_BY, RATE, Score

_PART = "these may be some of the runs of their study, whose own report has the verdict"


def write_report(
    paths: Sequence[Path],
    output: Path,
    *,
    title: str = "",
    baseline: str = "",
    verdict: Verdict | None = None,
    rates: Sequence[float] = (),
    primary: Sequence[Endpoint] | None = None,
) -> Path:
    """Write index.html, which holds all that it shows, to `output`; returns its path.

    Args:
        paths: run folders, or folders with runs below them.
        output: folder.
        title: of the page.
        baseline: name of a variant, or part of it, with which others are compared; otherwise that of the study.
        verdict: what stands first.
        rates: nats at which variational models are compared; empty: chosen where their curves overlap.
        primary: primary endpoints of these images, adjusted for all of a study; None: those of these runs alone.

    Raises:
        ValueError: no runs; runs that are damaged, not evaluated, evaluated differently, or of different images.
        OSError: the folder cannot be written.

    Example:
        >>> import torch
        >>> from pathlib import Path
        >>> from ssimgen.data import Images, Splits
        >>> from ssimgen.evaluation import FeatureNetwork
        >>> from ssimgen.models import VAE, VAEConfig, make_model
        >>> from ssimgen.models.networks import Network
        >>> from ssimgen.report import write_report
        >>> from ssimgen.runs import EvaluationOptions, evaluate_run
        >>> from ssimgen.training import Training, train
        >>> images = Images(torch.rand(40, 1, 12, 12), None, "noise")
        >>> config = VAEConfig(0.1, objective="l2", network=Network("mlp", hidden=(8,)))
        >>> model = make_model(VAE, config, images.shape, seed=0)
        >>> train(model, images, Path("run"), training=Training(iterations=1, batch=8))
        vae 1/1 ...
        >>> splits = Splits(images, Images(torch.rand(20, 1, 12, 12), None, "more noise"))
        >>> pixels = FeatureNetwork("pixels", lambda z: z.flatten(1))
        >>> options = EvaluationOptions(images=20, permutations=19, resamples=20)
        >>> _ = evaluate_run(Path("run"), options, splits=splits, network=pixels)
        >>> print(write_report([Path("run")], Path("report"), title="One model"))
        report/index.html
    """
    runs = read_runs(paths)
    html = page(runs, title=title, baseline=baseline, verdict=verdict, rates=rates, primary=primary)
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
    primary: Sequence[Endpoint] | None = None,
) -> str:
    """The HTML of a report."""
    records = records_of(runs, baseline)
    rows_at_rates = matched(records, rates)
    primary = endpoints(records, rates, missing=_PART) if primary is None else primary
    if verdict is None and all(run.study for run in runs):
        without = [*unnamed(records, rates), *faults(records), *unequal(records)]
        verdict = conclusion(primary, without) if primary or without else None
    arms = arms_of(runs, records)
    means = summary(records)
    first = runs[0]
    shown = pictured(arms, records, rows_at_rates)
    groups = groups_of(arms)
    pictures = {(str(run.path), name): png for run, name, png in pictures_of(shown)}
    real = next((png for png in (run.picture("real") for run in runs) if png), None)
    embedded = embed(pictures | ({("", "real"): real} if real else {}))
    at_rate, steered = comparisons(rows_at_rates, lambda row: row.variant), _steered(records)
    network, checks = first.evaluation.network, checks_of(runs)
    unfit = {r.score: r.unfit for r in records if r.unfit}
    source = first.config["data"]["source"].removesuffix(", training")
    return _template().render(
        title=title or f"Runs on {source}",
        verdict=verdict,
        primary=primary,
        data=first.config["data"],
        source=source,
        shape=first.config["shape"],
        evaluation=first.evaluation,
        runs=runs,
        seeds=sorted({run.seed for run in runs}),
        arms=arms,
        many_groups=len(groups) > 1,
        rankings=[r for r in (ranking(kind, means, arms) for kind in RANKED_BY) if r],
        withheld=_withheld(records),
        failed=[(r.path.name, why) for r in runs if not r.study and (why := fault_of(r.evaluation, r.config))],
        judges=[(scores.read(name).short(network), check) for name, check in checks.items()],
        unfit=[score.short(network) for score in unfit],
        unchecked={score.short(network): why for score, why in unfit.items() if score.label not in checks},
        meanings=scores.meanings(r.score for r in sorted(means, key=lambda r: r.kind != "rate")),
        matched=_by_group(at_rate),
        steered=steered,
        apart=_apart(records, at_rate, steered),
        compared=comparisons(means, lambda row: row.arm),
        rates=[c for c in (_rate_charts(group, means, first) for group in groups) if c.charts],
        unlogged=[arm.label for arm in shown if not arm.runs[0].metrics],
        losses=[c for c in (_loss_charts(group, shown) for group in groups) if c.charts],
        galleries=galleries(shown, embedded.uris),
        real=embedded.uris.get(("", "real")),
        compressed=embedded.note,
        left_out=len(arms) - len(shown),
        options=[options_of(group) for group in groups],
        between=options_between(groups),
        versions=first.config.get("versions", {}),
        style=Markup(_resource("report.css")),
        script=Markup(_resource("report.js")),
    )


def _withheld(records: Sequence[Result]) -> list[tuple[str, str]]:
    """Metrics without a score, and why; each reason once."""
    return list(dict.fromkeys((r.metric, r.note) for r in records if r.value is None and r.note))


# --- comparisons ------------------------------------------------------------------------------------------------


def _by_group(found: Sequence[Comparison]) -> dict[str, list[tuple[Comparison, bool]]]:
    """Comparisons at equal rate by their group; the middle one of its rates is that to show first."""
    groups: dict[str, list[Comparison]] = {}
    for comparison in found:
        groups.setdefault(comparison.group, []).append(comparison)
    return {
        group: [(comparison, i == len(of_group) // 2) for i, comparison in enumerate(of_group)]
        for group, of_group in groups.items()
    }


def _steered(records: Sequence[Result]) -> dict[str, float]:
    """Groups of which every run was brought to one rate, and that rate in nats."""
    targets: dict[str, set[float | None]] = {}
    for record in records:
        if record.score.key == scores.RATE and record.baseline:
            targets.setdefault(record.group, set()).add(None if record.fault else record.kl_target)
    return {group: target for group, of_runs in targets.items() for target in of_runs if len(of_runs) == 1 and target}


def _apart(
    records: Sequence[Result], found: Sequence[Comparison], steered: Collection[str]
) -> dict[str, list[tuple[str, float, float]]]:
    """Groups whose variants have rates and yet cannot be compared at any, with the ends of each variant's rates."""
    compared = {*steered, *(comparison.group for comparison in found)}
    groups: dict[str, list[tuple[str, float, float]]] = {}
    for (group, variant), (low, high) in reach(records).items():
        if group not in compared:
            groups.setdefault(group, []).append((variant, low, high))
    baselines = {record.group: record.baseline for record in records}
    return {group: ends for group, ends in groups.items() if len(ends) > 1 and baselines[group]}


# --- charts -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chart:
    """A chart as SVG, with its heading."""

    title: str
    svg: Markup


@dataclass(frozen=True)
class Charts:
    """The charts of a group of models, which share a legend."""

    group: str
    legend: list[tuple[Markup, str]]
    charts: list[Chart]


def _rate_charts(group: Group, means: Sequence[Summary], first: Run) -> Charts:
    """Quality against KL, a chart a metric: means over seeds, with their intervals."""
    rows = [r for r in means if r.group == group.name]
    rate = {(r.variant, r.point): r.value for r in rows if r.score.key == RATE}
    charts = []
    for metric in dict.fromkeys(r.score for r in rows if r.kind == "reconstruction" and r.better != "reference"):
        points: dict[str, list[Point]] = {}
        for r in rows:
            key = (r.variant, r.point)
            if r.score == metric and key in rate:
                points.setdefault(r.variant, []).append(Point(rate[key], r.value, r.low, r.high))
        series = [Series(variant, tuple(ps), group.styles[variant]) for variant, ps in points.items()]
        if series:
            label = metric.short(first.evaluation.network)
            better = {"higher": ", higher is better", "lower": ", lower is better"}
            title = label + next(better.get(r.better, "") for r in rows if r.score == metric)
            charts.append(Chart(title, Markup(line_chart(series, x_label=Score(RATE).label, y_label=label))))
    return Charts(group.name, group.legend(variant for variant, _ in rate), charts)


def _loss_charts(group: Group, shown: Sequence[Arm]) -> Charts:
    """Loss terms during training, a chart a term, of the first seed of each arm that is shown."""
    series: dict[str, list[Series]] = {}
    arms = [arm for arm in group.arms if arm in shown]
    for arm in arms:
        terms: dict[str, list[Point]] = {}
        for line in arm.runs[0].metrics:
            for key, value in line.items():
                if "/" in key and not key.endswith("/lr") and value is not None and math.isfinite(value):
                    terms.setdefault(key, []).append(Point(line["iteration"], value))
        for key, points in terms.items():
            lone = len(points) == 1  # a line of one point is none
            drawn = Series(arm.name, tuple(points), group.styles[arm.variant], marks=lone)
            series.setdefault(key, []).append(drawn)
    model = group.arms[0].runs[0].config["model"]
    charts = []
    for key, lines in series.items():
        values = [p.y for s in lines for p in s.points]
        log = min(values) > 0 and max(values) > 30 * min(values)
        title = key.removeprefix(f"{model}/").replace("/", ": ").replace("_", " ") + (", logarithmic" if log else "")
        svg = line_chart(lines, x_label="iteration", y_label=title, log=log)
        charts.append(Chart(title, Markup(svg)))
    return Charts(group.name, group.legend(arm.variant for arm in arms), charts)


# --- rendering --------------------------------------------------------------------------------------------------


@cache
def _template() -> Template:
    return _environment().from_string(_resource("report.html"))


def _environment() -> Environment:
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["short"] = lambda score, network: score.short(network)
    environment.filters["number"] = lambda value: "-" if value is None else _plain(f"{value:.4g}")
    environment.filters["end"] = lambda value: "-" if value is None else _plain(f"{value:.3g}")
    environment.filters["signed"] = lambda value: "-" if value is None else _plain(f"{value:+.3g}")
    environment.filters["p"] = lambda value: "p < 0.0001" if value < 1e-4 else f"p = {value:.2g}"
    return environment


def _plain(text: str) -> str:
    """A number with a true minus, and without an exponent where that is short."""
    if re.fullmatch(r"[+-]?[\d.]+e\+0[3-5]", text):
        text = f"{float(text):{'+' if text.startswith('+') else ''}.0f}"
    return text.replace("-", "\N{MINUS SIGN}")


def _resource(name: str) -> str:
    return (files("ssimgen.report") / name).read_text()
