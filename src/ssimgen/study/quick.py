"""Does structure help on one's own images? A small study of a VAE, cut to a time budget, ends in a recommendation."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ssimgen import scores
from ssimgen._files import writable_folder, write_atomically
from ssimgen._reading import read_options
from ssimgen.data import Source, Splits, load_images
from ssimgen.models import VAE
from ssimgen.models.vae import SUGGESTED_TAU
from ssimgen.report import Verdict, write_report
from ssimgen.report.tables import Result, Summary, matched, reach
from ssimgen.study.execution import Outcome, is_finished
from ssimgen.study.plan import Plan, PlannedRun, make_plan
from ssimgen.study.progress import carry_on, complain
from ssimgen.study.tables import write_tables
from ssimgen.training import make_model

JUDGE = scores.RANKED_BY["reconstruction"]  # no objective is trained on it

_FACTORS = {3: (4.0, 1.0, 0.25), 2: (2.5, 0.4)}  # of the suggested temperatures
_SIZES: tuple[tuple[tuple[str, ...], int], ...] = (  # what to leave out when time is short: objectives, points
    (("l2", "ssim", "ssim_sum", "ms_ssim", "mix"), 3),
    (("l2", "ssim", "ms_ssim", "mix"), 3),
    (("l2", "ssim", "mix"), 3),
    (("l2", "ssim"), 3),
    (("l2", "ssim"), 2),
)
_ENOUGH, _LEAST, _MOST = 400, 60, 4000  # iterations of a run
_FILE = "quick.json"
_SHARE = 0.85  # of the budget, which is planned for
_LEAST_IMAGES = 100
_MOST_SEEDS = 10  # that time which is left is used for


@dataclass(frozen=True)
class Costs:
    """Seconds, measured on this machine with these images."""

    iteration: Mapping[str, float]
    evaluation: float

    def of(self, objectives: Iterable[str], iterations: int) -> float:
        """Seconds of one run of each."""
        return sum(iterations * self.iteration[name] + self.evaluation for name in objectives)

    def corrected(self, runs: Sequence[PlannedRun], seconds: float) -> Costs:
        """The same in proportion, so that these runs cost what they did."""
        factor = seconds / sum(self.of([run.variant], run.training.iterations) for run in runs)
        return Costs({name: factor * cost for name, cost in self.iteration.items()}, factor * self.evaluation)


def quick_study(source: Source, output: Path, *, budget: float, parallel: int = 1, seeds: int = 3) -> Verdict:
    """Train VAEs with l2 and with structural errors on the images of `source`, and say whether structure helps.

    How many objectives, temperatures and iterations there are follows from the budget and from what an iteration
    costs here. It is planned anew after each seed, from what the runs have cost: objectives are left out or come in,
    and seeds are added while there is time. quick.json keeps it, so that the same command goes on with an interrupted
    study.

    Args:
        source: the images.
        output: folder of runs, tables and report.
        budget: minutes.
        parallel: processes that train at the same time.
        seeds: how often each is repeated at least, 2 or more.

    Raises:
        ValueError: fewer than 100 images, images of less than 7 px, a budget too small for them, or a folder that
            holds a study of other images.
    """
    if not budget > 0:
        raise ValueError(f"budget must be a positive number of minutes, got {budget}")
    if seeds < 2:
        raise ValueError(f"seeds must be at least 2, or nothing can be said of chance, got {seeds}")
    if parallel < 1:
        raise ValueError(f"parallel must be at least 1 process, got {parallel}")
    deadline = time.monotonic() + 60 * budget
    splits = load_images(source)
    _check_images(splits)
    content = _kept(output, source)
    print("measuring what an iteration costs")
    costs = measure(splits)
    if content is not None:
        print(f"going on with the study in {output}; for a longer or a shorter one choose another folder")
    else:
        seconds = deadline - time.monotonic()
        content = planned(source, splits, costs, seconds=seconds, parallel=parallel, seeds=seeds)
        _warn_if_short(content, costs, parallel)
        _keep(content, output)
    plan = make_plan(content, "quick")
    print(f"{len(plan.runs)} runs of {plan.runs[0].training.iterations} iterations")
    failed: list[Outcome] = []
    while (todo := _next_seed(plan, output)) and not failed:
        started = time.monotonic()
        left = max(0.05, (deadline - started) / 60)
        outcomes = carry_on(dataclasses.replace(plan, runs=todo), output, budget=left, parallel=parallel)
        failed = [outcome for outcome in outcomes if outcome.status == "failed"]
        if sum(outcome.status == "finished" for outcome in outcomes) < len(todo):
            break
        now = time.monotonic()
        costs = costs.corrected(todo, (now - started) * parallel)
        done = len(_whole_seeds(plan, output))
        content = replanned(content, splits, costs, seconds=deadline - now, parallel=parallel, done=done)
        _keep(content, output)
        plan = make_plan(content, "quick")
        if now >= deadline and _next_seed(plan, output):
            print("budget used up", file=sys.stderr)
            break
    verdict = _concluded(plan, output)
    complain(
        plan, [*(Outcome(run, "finished") for run in plan.runs if is_finished(run, output, plan.evaluation)), *failed]
    )
    return verdict


def _keep(content: Mapping[str, Any], output: Path) -> None:
    text = json.dumps(content, indent=2) + "\n"
    write_atomically(writable_folder(output) / _FILE, lambda file: file.write(text.encode()))


def _next_seed(plan: Plan, output: Path) -> tuple[PlannedRun, ...]:
    """The unfinished runs of the first seed that has some."""
    todo = [run for run in plan.runs if not is_finished(run, output, plan.evaluation)]
    return tuple(run for run in todo if run.seed == todo[0].seed)


def _whole_seeds(plan: Plan, output: Path) -> list[int]:
    """Seeds of which every run is finished."""
    seeds = dict.fromkeys(run.seed for run in plan.runs)
    missing = {run.seed for run in plan.runs if not is_finished(run, output, plan.evaluation)}
    return [seed for seed in seeds if seed not in missing]


def _concluded(plan: Plan, output: Path) -> Verdict:
    """Tables, report and recommendation of what is finished."""
    records = write_tables(plan, output)
    finished = [output / run.folder for run in plan.runs if is_finished(run, output, plan.evaluation)]
    whole = _whole_seeds(plan, output)
    verdict = recommendation(
        [record for record in records if record.seed in whole],
        plan.runs[0].training.iterations,
        finished=(len(finished), len(plan.runs)),
        left_out=[name for name in _SIZES[0][0] if name not in {run.variant for run in plan.runs}],
    )
    print(f"\n{verdict.heading}")
    for sentence in verdict.sentences:
        print(sentence)
    if finished:
        title = f"Does structure help on {plan.runs[0].source.data}?"
        path = write_report(finished, output / "report", title=title, verdict=verdict)
        print(f"report: {path}")
    return verdict


def _check_images(splits: Splits) -> None:
    images = len(splits.train) + len(splits.held_out)
    if images < _LEAST_IMAGES:
        raise ValueError(
            f"{splits.train.source.removesuffix(', training')} holds {images} images: an answer needs at least "
            f"{_LEAST_IMAGES}, and a thousand are better"
        )
    _, height, width = splits.train.shape
    if min(height, width) < 7:
        raise ValueError(f"images are {width} x {height} px: structure needs at least 7 x 7 px")
    (run, *_) = make_plan(_content(Source(), splits, ("l2",), 1, iterations=1, seeds=1), "tried").runs
    with torch.device("meta"):  # at once, and without memory
        VAE(run.config, splits.train.shape)


def _kept(output: Path, source: Source) -> dict[str, Any] | None:
    """The study in the folder, if there is one."""
    path = output / _FILE
    if not path.exists():
        return None
    try:
        content = read_options(path)
        before = content["data"]["images"]
        make_plan(content, "quick")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): remove it or choose another folder") from error
    if before != _given(source):
        raise ValueError(f"{output} holds a study of {before}, not of {_given(source)}: choose another folder")
    return content


def _given(source: Source) -> dict[str, Any]:
    """A source as a study file has it."""
    return {key: value for key, value in dataclasses.asdict(source).items() if value is not None}


# --- planning ---------------------------------------------------------------------------------------------------


def measure(splits: Splits, iterations: int = 8) -> Costs:
    """What an iteration of each objective costs, and about what an evaluation does."""
    content = _content(Source(), splits, _SIZES[0][0], 1, iterations=1, seeds=1)
    seconds = {}
    for run in make_plan(content, "measured").runs:
        model = make_model(VAE, run.config, splits.train.shape)
        optimiser = run.optimiser.make(list(model.parameters()), 1.0)
        (step,) = model.steps()
        batches = splits.train.batches(run.training.batch, 0)
        times = []
        for _ in range(iterations):
            started = time.perf_counter()
            optimiser.zero_grad()
            terms = step.terms(next(batches))
            torch.stack([step.weights.get(key, 1.0) * value for key, value in terms.items()]).sum().backward()
            optimiser.step()
            times.append(time.perf_counter() - started)
        seconds[run.variant] = (
            sorted(times[2:])[len(times[2:]) // 2] + 5e-4
        )  # the first ones compile; the loop's own share
    return Costs(seconds, _evaluation_seconds(splits))


def _evaluation_seconds(splits: Splits) -> float:
    """Features of reconstructions and samples, measured, and about as much again for all the rest."""
    from ssimgen.runs.evaluation import shared_network

    network, images = shared_network(_RESOLUTION), splits.train.first(64).images
    network(images[:8])
    started = time.perf_counter()
    network(1 - images)
    each = (time.perf_counter() - started) / len(images)
    return 2 * each * 2 * min(_IMAGES, len(splits.held_out)) + 3.0


_RESOLUTION, _IMAGES = 64, 300


def planned(
    source: Source, splits: Splits, costs: Costs, *, seconds: float, parallel: int, seeds: int
) -> dict[str, Any]:
    """The largest study that fits into so many seconds, as the content of a study file.

    Raises:
        ValueError: even the smallest does not fit.
    """
    available = _SHARE * seconds * parallel
    best = (0, _SIZES[-1])
    for size in _SIZES:
        objectives, points = size
        runs = len(objectives) * points * seeds
        iteration = sum(costs.iteration[name] for name in objectives) * points * seeds
        possible = int((available - runs * costs.evaluation) / iteration)
        if possible >= _ENOUGH:
            best = (possible, size)
            break
        if possible > best[0]:
            best = (possible, size)
    iterations, (objectives, points) = best
    if iterations < _LEAST:
        needed = _minutes(objectives, points * seeds, _LEAST, costs, parallel)
        raise ValueError(
            f"{max(0.0, seconds) / 60:.1f} minutes of the budget are left for training, too little for these images: "
            f"give a budget of at least {needed} minutes, or scale the images down with --size"
        )
    return _content(source, splits, objectives, points, iterations=min(iterations, _MOST), seeds=seeds)


def replanned(
    content: Mapping[str, Any], splits: Splits, costs: Costs, *, seconds: float, parallel: int, done: int
) -> dict[str, Any]:
    """The study for the seconds that are left once `done` seeds are finished, as the content of a study file.

    If its seeds no longer fit, the objectives that are left out first when time is short go, unless two seeds of them
    are there; if there is time, those that were left out come in, and then further seeds. Iterations and
    temperatures stay, so that what is finished counts.
    """
    variants = content["models"]["vae"]["variants"]
    points, seeds = len(variants["l2"]["sweep"]["tau"]), len(content["seeds"])
    iterations = content["training"]["iterations"]
    available = seconds * parallel

    def needed(objectives: Sequence[str]) -> float:
        todo = [name for name in objectives for _ in range(seeds - (done if name in variants else 0))]
        return costs.of(todo, iterations) * points

    sizes = [objectives for objectives, _ in _SIZES if done < 2 or set(objectives) >= set(variants)]
    fitting = [objectives for objectives in sizes if needed(objectives) <= available]
    chosen = (fitting or sizes[-1:])[0]
    more = int((available - needed(chosen)) / (costs.of(chosen, iterations) * points)) if fitting else 0
    new = _content(
        Source(**content["data"]["images"]),
        splits,
        chosen,
        points,
        iterations=iterations,
        seeds=min(seeds + more, max(seeds, _MOST_SEEDS)),
    )
    _say_what_changes(content, new)
    return new


def _say_what_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    old, new = (content["models"]["vae"]["variants"] for content in (before, now))
    for names, text in (
        ([name for name in old if name not in new], "there is no time for"),
        ([name for name in new if name not in old], "there is time for"),
    ):
        if names:
            print(f"{text} {', '.join(names)}")
    if len(now["seeds"]) > len(before["seeds"]):
        print(f"there is time for {len(now['seeds'])} seeds")


def _minutes(objectives: Sequence[str], repeated: int, iterations: int, costs: Costs, parallel: int) -> int:
    """The budget that so many iterations of each objective need, each run `repeated` times."""
    seconds = costs.of(objectives, iterations) * repeated
    return math.ceil(seconds / _SHARE / parallel / 60)


def _warn_if_short(content: Mapping[str, Any], costs: Costs, parallel: int) -> None:
    """Say so if training is too short to expect an answer, and which budget would do."""
    iterations, variants = content["training"]["iterations"], content["models"]["vae"]["variants"]
    if iterations >= _ENOUGH:
        return
    points = len(variants["l2"]["sweep"]["tau"])
    needed = _minutes(list(variants), points * len(content["seeds"]), _ENOUGH, costs, parallel)
    print(
        f"the budget allows {iterations} iterations a run, which are few: do not expect a clear answer; "
        f"{_ENOUGH} would need about {needed} minutes"
    )


def _content(
    source: Source, splits: Splits, objectives: Sequence[str], points: int, *, iterations: int, seeds: int
) -> dict[str, Any]:
    """The content of a study file."""
    variants = _variants(splits)
    factors = _FACTORS.get(points, (1.0,))
    return {
        "name": "quick",
        "seeds": list(range(seeds)),
        "training": {
            "iterations": iterations,
            "batch": min(64, len(splits.train) // 2),
            "picture_every": iterations,
            "checkpoint_every": max(1, iterations // 2),
            "keep": 1,
        },
        "optimiser": {"lr": 2e-3, "schedule": "cosine"},
        "evaluation": {
            "images": _IMAGES,
            "resolution": _RESOLUTION,
            "tested": 100,
            "permutations": 99,
            "window": _window(splits),
        },
        "data": {"images": _given(source)},
        "models": {
            "vae": {
                "baseline": "l2",
                "options": {"network": {"width": 16, "activation": "silu"}},
                "variants": {
                    name: {
                        "options": variants[name]["options"],
                        "sweep": {"tau": [float(f"{variants[name]['tau'] * factor:.3g}") for factor in factors]},
                    }
                    for name in objectives
                },
            }
        },
    }


def _variants(splits: Splits) -> dict[str, dict[str, Any]]:
    """Options and middle temperature of each objective."""
    structure = {"size": _window(splits)}
    return {
        "l2": {"options": {"objective": "l2"}, "tau": SUGGESTED_TAU["l2"]},
        "ssim": {"options": {"objective": "ssim", "structure": structure}, "tau": SUGGESTED_TAU["ssim"]},
        "ssim_sum": {
            "options": {"objective": "ssim", "structure": {**structure, "form": "sum"}},
            "tau": SUGGESTED_TAU["ssim"],
        },
        "ms_ssim": {"options": {"objective": "ms_ssim", "structure": structure}, "tau": SUGGESTED_TAU["ms_ssim"]},
        "mix": {"options": {"objective": "mix", "structure": structure}, "tau": SUGGESTED_TAU["mix"]},
    }


def _window(splits: Splits) -> int:
    """11 px, or the largest odd side that fits."""
    _, height, width = splits.train.shape
    side = min(11, height, width)
    return side if side % 2 else side - 1


# --- concluding -------------------------------------------------------------------------------------------------


def recommendation(
    records: Sequence[Result],
    iterations: int,
    *,
    finished: tuple[int, int] = (0, 0),
    left_out: Sequence[str] = (),
) -> Verdict:
    """What the study says: whether a structural error brings reconstructions closer than l2 at equal rate.

    It says nothing of fewer than two seeds.

    Judged by the feature distance, on which no objective was trained, at the middle of the rates that all models
    reach (without those that share none with the others): better or worse if the p-value of the paired comparison,
    adjusted for the number of objectives, is at most 0.05.

    Args:
        records: of the seeds of which every run is finished.
        iterations: of a run.
        finished: how many runs are, and of how many.
        left_out: objectives that the study did not have the time for.
    """
    seeds = len({record.seed for record in records})
    gaps = _gaps(seeds, finished, left_out)
    if seeds < 2:
        needed = "At least two seeds with every objective and temperature are needed: go on with the same command."
        return Verdict("No conclusion", (*gaps, needed))
    rows = matched(records)
    rates = sorted({row.rate for row in rows if row.rate is not None})
    rate = rates[len(rates) // 2] if rates else None
    judged = {row.variant: row for row in rows if row.rate == rate and row.score.key == JUDGE}
    baseline = judged.pop("l2", None)
    differences = {name: row.difference for name, row in judged.items() if row.difference is not None}
    compared = {name: judged[name] for name in differences}
    if baseline is None or not compared:
        return _none(records, gaps)
    better = [name for name, row in compared.items() if row.verdict == "better"]
    best = min(better or compared, key=lambda name: differences[name])
    apart = sorted({r.variant for r in records} - {"l2", *compared})
    return Verdict(
        _heading(compared, best),
        (
            f"Compared at a KL of {rate:.3g} nats by the distance of reconstructions from held-out images in a feature "
            f"network, on which none of the models was trained; smaller is better.{_reference(records)}",
            *(_sentence(name, difference, judged[name], baseline) for name, difference in differences.items()),
            *([f"Not compared, as their rates do not reach that far: {', '.join(apart)}."] if apart else []),
            *gaps,
            f"The uncertainty is that of {baseline.seeds} seeds. Each model was trained for {iterations} iterations "
            "with one small network: longer training, another network or other weights can turn the order round.",
        ),
    )


def _heading(compared: Mapping[str, Summary], best: str) -> str:
    verdicts = {row.verdict for row in compared.values()}
    if "better" in verdicts:
        return f"Structure helps on these images: train with {best}"
    if verdicts == {"worse"}:
        return "Structure does not help on these images: train with l2"
    if "worse" in verdicts:
        return "Structure is not shown to help on these images, and some of it does harm: train with l2"
    return "No difference is shown on these images: there is no reason to leave l2"


def _reference(records: Sequence[Result]) -> str:
    """How far the nearest training image is, which tells a good reconstruction from a bad one."""
    values = [r.reference for r in records if r.score.key == JUDGE and r.reference is not None]
    return f" For scale: the nearest training image is at {values[0]:.3g}." if values else ""


def _gaps(seeds: int, finished: tuple[int, int], left_out: Sequence[str]) -> list[str]:
    """What is missing in the study."""
    done, planned_runs = finished
    found = []
    if done < planned_runs:
        found.append(
            f"{done} of {planned_runs} runs are finished, and of {seeds} seeds all: the others do not count here, and "
            "the same command goes on with them."
        )
    if left_out:
        found.append(f"Left out for want of time: {', '.join(left_out)}. A larger budget in another folder tries more.")
    return found


def _none(records: Sequence[Result], gaps: Sequence[str]) -> Verdict:
    """No conclusion, why, and what to do about it."""
    reached = ", ".join(f"{variant} {low:.3g} to {high:.3g}" for (_, variant), (low, high) in reach(records).items())
    return Verdict(
        "No conclusion",
        (
            "The rates of the models do not meet, so that they cannot be compared at equal rate (KL in nats: "
            f"{reached}).",
            "Training was too short, or these images need other temperatures: give a larger budget and another folder, "
            "or write a study file with values of tau of your own.",
            *gaps,
        ),
    )


def _sentence(name: str, difference: float, row: Summary, baseline: Summary) -> str:
    change = 100 * difference / baseline.value
    text = f"{name}: {row.value:.3g} instead of {baseline.value:.3g} ({change:+.0f}%"
    if row.difference_low is not None and row.difference_high is not None:
        ends = sorted(100 * end / baseline.value for end in (row.difference_low, row.difference_high))
        text += f", 95% interval {ends[0]:+.0f}% to {ends[1]:+.0f}%"
    return text + (f"; p = {row.p_adjusted:.2g})" if row.p_adjusted is not None else ")") + f": {row.verdict}."
