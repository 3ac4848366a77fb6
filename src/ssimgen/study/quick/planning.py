"""How much of a quick study fits into its budget, from what an iteration costs here; and the study as a file."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ssimgen import scores
from ssimgen.data import Source, Splits
from ssimgen.evaluation.perceptual import st_lpips, weights_file
from ssimgen.models import VAE
from ssimgen.models.vae import SUGGESTED_TAU
from ssimgen.objectives.reconstruction import Objective
from ssimgen.runs import checked_judges
from ssimgen.runs.evaluation import shared_network
from ssimgen.study.plan import Plan, PlannedRun, make_plan
from ssimgen.training import make_model

PIXELS: tuple[Objective, ...] = ("l2", "l1")  # what structure must do better than; the mix holds l1
OBJECTIVES = (*PIXELS, "ssim", "ssim_sum", "ms_ssim", "mix", "pyramid")

_FACTORS = {3: (4.0, 1.0, 0.25), 2: (2.5, 0.4)}  # of the suggested temperatures
_SIZES: tuple[tuple[tuple[str, ...], int], ...] = (  # what to leave out when time is short: objectives, points
    (OBJECTIVES, 3),
    ((*PIXELS, "ssim", "ms_ssim", "mix", "pyramid"), 3),
    ((*PIXELS, "ssim", "mix", "pyramid"), 3),
    ((*PIXELS, "ssim", "mix"), 3),
    ((*PIXELS, "mix"), 3),
    ((*PIXELS, "mix"), 2),
)
_ENOUGH, _LEAST, _MOST = 400, 60, 4000  # iterations of a run
_SHARE = 0.85  # of the budget, which is planned for
_MOST_SEEDS = 10  # that time which is left is used for
_RESOLUTION, _IMAGES = 64, 300  # of an evaluation


@dataclass(frozen=True)
class Extent:
    """How much a quick study tries.

    Attributes:
        objectives: of the models, l2 and l1 among them.
        points: temperatures of each.
        iterations: of a run.
        seeds: how often each is repeated.

    Example:
        >>> from ssimgen.study.quick import Extent
        >>> extent = Extent(objectives=("l2", "l1", "ssim"), points=3, iterations=400, seeds=2)
        >>> len(extent.objectives) * extent.points * extent.seeds  # runs
        18
    """

    objectives: tuple[str, ...]
    points: int
    iterations: int
    seeds: int


def extent_of(plan: Plan) -> Extent:
    """How much a study tries that :func:`study_file` made."""
    arms = dict.fromkeys((run.variant, run.arm) for run in plan.runs)
    objectives = tuple(dict.fromkeys(variant for variant, _ in arms))
    seeds = len({run.seed for run in plan.runs})
    return Extent(objectives, len(arms) // len(objectives), plan.runs[0].training.iterations, seeds)


@dataclass(frozen=True)
class Costs:
    """What training and evaluation cost: seconds on this machine with these images.

    Example:
        >>> from ssimgen.study.quick import Costs
        >>> Costs({"l2": 0.01, "ssim": 0.02}, evaluation=5.0).of(["l2", "ssim"], iterations=100)
        13.0
    """

    iteration: Mapping[str, float]
    evaluation: float

    def of(self, objectives: Iterable[str], iterations: int) -> float:
        """Seconds of one run of each."""
        return sum(iterations * self.iteration[name] + self.evaluation for name in objectives)

    def corrected(self, runs: Sequence[PlannedRun], seconds: float) -> Costs:
        """Costs in the same proportion, such that these runs cost what they did."""
        factor = seconds / sum(self.of([run.variant], run.training.iterations) for run in runs)
        return Costs({name: factor * cost for name, cost in self.iteration.items()}, factor * self.evaluation)


def measure(splits: Splits, iterations: int = 8) -> Costs:
    """What an iteration of each objective costs, and about what an evaluation does.

    Example:
        >>> import torch
        >>> from ssimgen.data import Images, Splits
        >>> from ssimgen.study.quick import measure
        >>> splits = Splits(*(Images(torch.rand(64, 1, 12, 12), None, "noise") for _ in range(2)))
        >>> list(measure(splits, iterations=3).iteration)
        ['l2', 'l1', 'ssim', 'ssim_sum', 'ms_ssim', 'mix', 'pyramid']
    """
    content = study_file(Source(), splits, Extent(OBJECTIVES, 1, 1, 1))
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
        later = sorted(times[2:])  # the first ones compile
        seconds[run.variant] = later[len(later) // 2] + 5e-4  # the loop's own share
    return Costs(seconds, _evaluation_seconds(splits))


def _evaluation_seconds(splits: Splits) -> float:
    """Features of reconstructions and samples, measured, and about as much again for all the rest; ST-LPIPS of
    reconstructions and of what copying reaches, where it is there."""
    network, images = shared_network(_RESOLUTION), splits.train.first(64).images
    each = _seconds_of_an_image(network, images)
    if weights_file() is not None and splits.train.shape[0] in (1, 3):
        each += _seconds_of_an_image(lambda part: st_lpips()(part, part), images[:16]) / 2
    return 2 * each * 2 * min(_IMAGES, len(splits.held_out)) + 3.0


def _seconds_of_an_image(look: Callable[[Tensor], Tensor], images: Tensor) -> float:
    look(images[:8])  # the first time is longer
    started = time.perf_counter()
    look(1 - images)
    return (time.perf_counter() - started) / len(images)


def check_judges(splits: Splits) -> None:
    """Have the judges of the evaluations checked, so that runs only recall what was found.

    Example:
        >>> import torch
        >>> from ssimgen.data import Images, Splits
        >>> from ssimgen.study.quick.planning import check_judges
        >>> check_judges(Splits(*(Images(torch.rand(20, 1, 12, 12), None, "noise") for _ in range(2))))
    """
    judges = sorted(scores.JUDGES - {"class_accuracy"})
    checked_judges(splits, shared_network(_RESOLUTION), images=_IMAGES, judges=judges)


def planned(costs: Costs, *, seconds: float, parallel: int, seeds: int) -> Extent:
    """The largest study that fits into so many seconds.

    Raises:
        ValueError: even the smallest does not fit.

    Example:
        >>> from ssimgen.study.quick import Costs, planned
        >>> names = ["l2", "l1", "ssim", "ssim_sum", "ms_ssim", "mix", "pyramid"]
        >>> costs = Costs(dict.fromkeys(names, 0.01), evaluation=5.0)
        >>> planned(costs, seconds=420, parallel=1, seeds=3)
        Extent(objectives=('l2', 'l1', 'ssim', 'mix'), points=3, iterations=491, seeds=3)
    """
    available = _SHARE * seconds * parallel
    best = Extent(*_SIZES[-1], 0, seeds)
    for objectives, points in _SIZES:
        runs = len(objectives) * points * seeds
        iteration = sum(costs.iteration[name] for name in objectives) * points * seeds
        possible = int((available - runs * costs.evaluation) / iteration)
        if possible > best.iterations:
            best = Extent(objectives, points, possible, seeds)
        if possible >= _ENOUGH:
            break
    if best.iterations < _LEAST:
        needed = _minutes(replace(best, iterations=_LEAST), costs, parallel)
        raise ValueError(
            f"{max(0.0, seconds) / 60:.1f} minutes of the budget are left for training, too little for these images: "
            f"give a budget of at least {needed} minutes, or scale the images down with --size"
        )
    return replace(best, iterations=min(best.iterations, _MOST))


def replanned(extent: Extent, costs: Costs, *, seconds: float, parallel: int, done: int) -> Extent:
    """The study for the seconds that are left once `done` seeds are finished.

    If its seeds no longer fit, the objectives that are left out first when time is short go, unless two seeds of them
    are there; if there is time, those that were left out come in, and then further seeds. Iterations and
    temperatures stay, so that what is finished counts.

    Example:
        >>> from ssimgen.study.quick import Costs, Extent, replanned
        >>> names = ["l2", "l1", "ssim", "ssim_sum", "ms_ssim", "mix", "pyramid"]
        >>> costs = Costs(dict.fromkeys(names, 0.01), evaluation=5.0)
        >>> extent = Extent(("l2", "l1", "ssim", "mix"), points=3, iterations=400, seeds=3)
        >>> replanned(extent, costs, seconds=180, parallel=1, done=1)
        there is no time for ssim
        Extent(objectives=('l2', 'l1', 'mix'), points=3, iterations=400, seeds=3)
    """
    points, seeds, iterations = extent.points, extent.seeds, extent.iterations
    available = seconds * parallel

    def needed(objectives: Sequence[str]) -> float:
        todo = [name for name in objectives for _ in range(seeds - (done if name in extent.objectives else 0))]
        return costs.of(todo, iterations) * points

    sizes = [objectives for objectives, _ in _SIZES if done < 2 or set(objectives) >= set(extent.objectives)]
    fitting = [objectives for objectives in sizes if needed(objectives) <= available]
    chosen = (fitting or sizes[-1:])[0]
    more = int((available - needed(chosen)) / (costs.of(chosen, iterations) * points)) if fitting else 0
    new = replace(extent, objectives=chosen, seeds=min(seeds + more, max(seeds, _MOST_SEEDS)))
    _say_what_changes(extent, new)
    return new


def _say_what_changes(old: Extent, new: Extent) -> None:
    for names, text in (
        ([name for name in old.objectives if name not in new.objectives], "there is no time for"),
        ([name for name in new.objectives if name not in old.objectives], "there is time for"),
    ):
        if names:
            print(f"{text} {', '.join(names)}")
    if new.seeds > old.seeds:
        print(f"there is time for {new.seeds} seeds")


def _minutes(extent: Extent, costs: Costs, parallel: int) -> int:
    """The budget that a study needs."""
    seconds = costs.of(extent.objectives, extent.iterations) * extent.points * extent.seeds
    return math.ceil(seconds / _SHARE / parallel / 60)


def warn_if_short(extent: Extent, costs: Costs, parallel: int) -> None:
    """Say so if training is too short to expect an answer, and which budget would do."""
    if extent.iterations >= _ENOUGH:
        return
    needed = _minutes(replace(extent, iterations=_ENOUGH), costs, parallel)
    print(
        f"the budget allows {extent.iterations} iterations a run, which are few: do not expect a clear answer; "
        f"{_ENOUGH} would need about {needed} minutes"
    )


def study_file(source: Source, splits: Splits, extent: Extent) -> dict[str, Any]:
    """The content of a study file."""
    variants = _variants(splits)
    factors = _FACTORS.get(extent.points, (1.0,))
    return {
        "name": "quick",
        "seeds": list(range(extent.seeds)),
        "training": {
            "iterations": extent.iterations,
            "batch": min(64, len(splits.train) // 2),
            "picture_every": extent.iterations,
            "checkpoint_every": max(1, extent.iterations // 2),
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
        "data": {"images": given(source)},
        "models": {
            "vae": {
                "baseline": "l2",
                "options": {"network": {"width": 16, "activation": "silu"}},
                "variants": {
                    name: {
                        "options": variants[name]["options"],
                        "sweep": {"tau": [float(f"{variants[name]['tau'] * factor:.3g}") for factor in factors]},
                    }
                    for name in extent.objectives
                },
            }
        },
    }


def given(source: Source) -> dict[str, Any]:
    """A source as a study file has it."""
    return {key: value for key, value in dataclasses.asdict(source).items() if value is not None}


def _variants(splits: Splits) -> dict[str, dict[str, Any]]:
    """Options and middle temperature of each objective."""
    structure = {"size": _window(splits)}
    return {
        **{name: {"options": {"objective": name}, "tau": SUGGESTED_TAU[name]} for name in PIXELS},
        "ssim": {"options": {"objective": "ssim", "structure": structure}, "tau": SUGGESTED_TAU["ssim"]},
        "ssim_sum": {
            "options": {"objective": "ssim", "structure": {**structure, "form": "sum"}},
            "tau": SUGGESTED_TAU["ssim"],
        },
        "ms_ssim": {"options": {"objective": "ms_ssim", "structure": structure}, "tau": SUGGESTED_TAU["ms_ssim"]},
        "mix": {"options": {"objective": "mix", "structure": structure}, "tau": SUGGESTED_TAU["mix"]},
        "pyramid": {"options": {"objective": "pyramid"}, "tau": SUGGESTED_TAU["pyramid"]},
    }


def _window(splits: Splits) -> int:
    """11 px, or the largest odd side that fits."""
    _, height, width = splits.train.shape
    side = min(11, height, width)
    return side if side % 2 else side - 1
