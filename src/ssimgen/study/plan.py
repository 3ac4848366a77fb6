"""The study file: a grid of models, options, data and seeds, written down in TOML. See docs/study.md."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ssimgen import scores
from ssimgen._options import from_mapping, merged, short, suggestion
from ssimgen._reading import read_options
from ssimgen.data import Source
from ssimgen.evaluation.reconstruction import OF_RECONSTRUCTIONS
from ssimgen.models import MODELS, Autoencoder, usual_training
from ssimgen.runs import EvaluationOptions
from ssimgen.study.ranges import drawn
from ssimgen.training import Optimiser, Training

_MOST_POINTS = 10_000


@dataclass(frozen=True)
class PlannedRun:
    """One run of a study: a model, its options, its images and its seed.

    Attributes:
        data: name of its images in the study file.
        source: where they come from.
        group: name of the table `models.GROUP`, within which variants are compared.
        model: its kind, as `ssimgen train` calls it.
        variant: name of its options.
        point: where it stands in the sweep of the variant, option -> value.
        config: options of the model.
        training, optimiser: those of the run, its seed included.
        baseline: the variant that others of the group are compared with; "" for none.
        primary: key of the metric in which they are, named before anything runs; "" for none.
        drawn: options that were drawn at random, by name; those of the first trial stand for those of the best one
            until :func:`ssimgen.study.search.chosen` knows it.
        trial: number of the trial, if it is one.

    Example:
        >>> from ssimgen.study import make_plan
        >>> models = {"vae": {"variants": {"l2": {"options": {"objective": "l2"}, "sweep": {"tau": [0.01, 0.1]}}}}}
        >>> plan = make_plan({"data": {"digits": {"data": "mnist5k"}}, "models": models}, "taus")
        >>> run = plan.runs[0]
        >>> run.arm, run.seed, str(run.folder)
        ('l2 tau=0.01', 0, 'runs/digits/vae/l2_tau=0.01/seed-0')
    """

    data: str
    source: Source
    group: str
    model: str
    variant: str
    point: Mapping[str, Any]
    config: Any
    training: Training
    optimiser: Optimiser
    baseline: str
    primary: str = ""
    drawn: Mapping[str, Any] = field(default_factory=dict)
    trial: int | None = None

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return self.training.seed

    @property
    def arm(self) -> str:
        """Variant and point: what runs that differ only by their seed share."""
        return " ".join([self.variant, *(f"{key}={short(value)}" for key, value in self.point.items())])

    @property
    def folder(self) -> Path:
        """The folder of the run, below that of the study."""
        place = Path(self.data, self.group, self.arm.replace(" ", "_").replace("/", "-"))
        return "runs" / place / f"seed-{self.seed}" if self.trial is None else "search" / place / f"trial-{self.trial}"


@dataclass(frozen=True)
class Plan:
    """A study: its runs, and how they are judged and compared.

    Attributes:
        name: of the study.
        runs: all of them, the first seed of everything first.
        evaluation: how they are judged.
        rates: nats at which variational models are compared; empty: chosen where their curves overlap.
        trials: of options that are searched, before the runs.

    Example:
        >>> from ssimgen.study import make_plan
        >>> models = {"vae": {"variants": {"l2": {"options": {"objective": "l2"}, "sweep": {"tau": [0.01, 0.1]}}}}}
        >>> plan = make_plan({"data": {"digits": {"data": "mnist5k"}}, "models": models}, "taus")
        >>> plan.name, len(plan.runs), plan.evaluation.images
        ('taus', 6, 1000)
    """

    name: str
    runs: tuple[PlannedRun, ...]
    evaluation: EvaluationOptions
    rates: tuple[float, ...] = ()
    trials: tuple[PlannedRun, ...] = ()


_Table = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class _File:
    """The keys at the top."""

    data: Mapping[str, _Table]
    models: Mapping[str, _Table]
    name: str = ""
    seeds: tuple[int, ...] = (0, 1, 2)
    rates: tuple[float, ...] = ()
    training: _Table = field(default_factory=dict)
    optimiser: _Table = field(default_factory=dict)
    evaluation: _Table = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Variant:
    """The keys of a table `models.NAME.variants.NAME`."""

    options: _Table = field(default_factory=dict)
    sweep: _Table = field(default_factory=dict)
    training: _Table = field(default_factory=dict)
    optimiser: _Table = field(default_factory=dict)
    search: _Table = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Search:
    """The keys of a table `search`."""

    trials: int = 0
    options: _Table = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Group(_Variant):
    """The keys of a table `models.NAME`, of which some hold for all its variants."""

    variants: Mapping[str, _Table]
    model: str = ""
    data: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    baseline: str = ""
    primary: str = ""


Keys = TypeVar("Keys", _File, _Group, _Variant)


def read_plan(path: Path) -> Plan:
    """Read a study from a TOML file, and check every key and value of it.

    Raises:
        ValueError: not TOML, or beyond what options can be; an unknown or missing key, named with a suggestion; a
            value that its option refuses.
        OSError: the file cannot be read.

    Example:
        >>> from pathlib import Path
        >>> from ssimgen.study import read_plan
        >>> _ = Path("tau.toml").write_text('''
        ... [data.digits]
        ... data = "mnist5k"
        ... [models.vae.variants.l2]
        ... options = { objective = "l2" }
        ... sweep = { tau = [0.01, 0.1] }
        ... ''')
        >>> [run.arm for run in read_plan(Path("tau.toml")).runs if run.seed == 0]
        ['l2 tau=0.01', 'l2 tau=0.1']
    """
    content = read_options(path)
    try:
        return make_plan(content, path.stem)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def make_plan(content: Mapping[str, Any], name: str) -> Plan:
    """The study that the content of a study file describes; errors as :func:`read_plan`.

    Example:
        >>> from ssimgen.study import make_plan
        >>> models = {"vae": {"variants": {"l2": {"options": {"objective": "l2"}, "sweep": {"tau": [0.01, 0.1]}}}}}
        >>> plan = make_plan({"data": {"digits": {"data": "mnist5k"}}, "models": models}, "taus")
        >>> [run.arm for run in plan.runs]
        ['l2 tau=0.01', 'l2 tau=0.1', 'l2 tau=0.01', 'l2 tau=0.1', 'l2 tau=0.01', 'l2 tau=0.1']
    """
    file = _table(_File, content, "")
    sources = {key: from_mapping(Source, table, f"data.{key}.") for key, table in file.data.items()}
    groups = {key: _table(_Group, table, f"models.{key}.") for key, table in file.models.items()}
    planned = [run for key, group in groups.items() for run in _runs_of_group(file, key, group, sources)]
    _check_folders(planned)
    runs = [run for run in planned if run.trial is None]
    trials = tuple(run for run in planned if run.trial is not None)
    seeds = list(dict.fromkeys(run.seed for run in runs))
    runs.sort(key=lambda run: seeds.index(run.seed))  # stable: an early stop leaves whole comparisons
    evaluation = from_mapping(EvaluationOptions, file.evaluation, "evaluation.")
    if not all(0 < rate < math.inf for rate in file.rates):
        raise ValueError(f"rates must be positive numbers of nats, got {list(file.rates)}")
    return Plan(file.name or name, tuple(runs), evaluation, file.rates, trials)


def _runs_of_group(file: _File, name: str, group: _Group, sources: Mapping[str, Source]) -> Iterator[PlannedRun]:
    where = f"models.{name}"
    model = group.model or name
    _check_known(where, "model", model, MODELS)
    for data in group.data:
        _check_known(f"{where}.data", "data", data, sources)
    if group.baseline:
        _check_known(f"{where}.baseline", "variant", group.baseline, group.variants)
    primary = _primary(where, group, model)
    variants = {key: _table(_Variant, table, f"{where}.variants.{key}.") for key, table in group.variants.items()}
    for key, variant in variants.items() if primary else ():
        if unequal := sorted({"iterations", "seconds", "batch"} & variant.training.keys()):
            raise ValueError(
                f"{where}.variants.{key}.training.{unequal[0]}: models with a primary endpoint are compared at equal "
                f"cost: set it for all of them, under {where}.training"
            )
    usual = usual_training(model)
    seeds = group.seeds or file.seeds
    trials = _trials(where, group, primary)
    for seed, data, (key, variant) in itertools.product(seeds, group.data or sources, variants.items()):
        place = f"{where}.variants.{key}"
        training = {**dataclasses.asdict(usual[0]), **file.training, **group.training, **variant.training, "seed": seed}
        optimiser = {**dataclasses.asdict(usual[1]), **file.optimiser, **group.optimiser, **variant.optimiser}
        for point in _points({**group.sweep, **variant.sweep}, place):
            try:
                options = merged(merged(group.options, variant.options), _nested(point))
                searched = _drawn(group, variant, trials, f"{data} {name} {key} {point}")
                found = [_with_drawn(MODELS[model][1], options, optimiser, each) for each in searched or [{}]]
                config, moved = found[0]
                run = PlannedRun(
                    data,
                    sources[data],
                    name,
                    model,
                    key,
                    point,
                    config,
                    from_mapping(Training, training, "training."),
                    moved,
                    group.baseline,
                    primary,
                    searched[0] if searched else {},
                )
                yield run
                if seed == seeds[0]:
                    for number, (each, (config, moved)) in enumerate(zip(searched, found, strict=False)):
                        yield dataclasses.replace(run, config=config, optimiser=moved, drawn=each, trial=number)
            except ValueError as error:
                raise ValueError(f"{place}: {error}") from error


def _trials(where: str, group: _Group, primary: str) -> int:
    """How many trials each variant of a group has; 0 without a search."""
    if not group.search:
        return 0
    search = from_mapping(_Search, group.search, f"{where}.search.")
    if search.trials < 1:
        raise ValueError(f"{where}.search.trials must be at least 1, as many for each variant, got {search.trials}")
    if not primary:
        raise ValueError(f"{where}.search needs a primary endpoint, by which trials are judged: primary = NAME")
    return search.trials


def _drawn(group: _Group, variant: _Variant, trials: int, place: str) -> list[dict[str, Any]]:
    """The options of the trials of a variant; none without a search."""
    own = from_mapping(_Search, variant.search, "search.")
    if own.trials or (variant.search and not trials):
        raise ValueError("search.trials belongs to the group: every variant has as many")
    if not trials:
        return []
    return drawn({**group.search.get("options", {}), **own.options}, trials, place)


def _with_drawn(
    record: type, options: Mapping[str, Any], optimiser: Mapping[str, Any], chosen: Mapping[str, Any]
) -> tuple[Any, Optimiser]:
    """Options of a model and of its optimiser with what was drawn; "optimiser.lr" is one of the latter."""
    prefix = "optimiser."
    moved = {key.removeprefix(prefix): value for key, value in chosen.items() if key.startswith(prefix)}
    own = _nested({key: value for key, value in chosen.items() if not key.startswith(prefix)})
    config: Any = from_mapping(record, merged(options, own))
    if chosen and "kl_target" in vars(config) and config.kl_target is None:
        raise ValueError("a search needs models of one rate: set kl_target, or more nats win every trial")
    return config, from_mapping(Optimiser, {**optimiser, **moved}, prefix)


def _primary(where: str, group: _Group, model: str) -> str:
    """The key of the primary endpoint of a group, which must be one that its models have; "" for none."""
    if not group.primary:
        return ""
    try:
        primary = scores.endpoint(group.primary)
    except ValueError as error:
        raise ValueError(f"{where}.primary: {error}") from error
    if primary in OF_RECONSTRUCTIONS and not issubclass(MODELS[model][0], Autoencoder):
        raise ValueError(f"{where}.primary: {group.primary} is of reconstructions, and {model} makes none")
    if not group.baseline:
        raise ValueError(f"{where}.primary needs a baseline, the variant that others are compared with")
    return primary


def _check_known(where: str, kind: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        raise ValueError(f"{where}: unknown {kind} {name!r}{suggestion(name, known)}")


def _check_folders(runs: Sequence[PlannedRun]) -> None:
    """Names become folders: they must be able to, and no two runs may share one."""
    for run in runs:
        for name in (run.data, run.group, run.variant):
            if not re.fullmatch(r"[\w.+-]*\w[\w.+-]*", name):
                raise ValueError(f"name {name!r} must be of letters, digits and . _ + -, as it names a folder")
    for folder, count in Counter(run.folder for run in runs).items():
        if count > 1:
            raise ValueError(f"two runs would share the folder {folder}: a sweep names a value twice")


def _points(sweep: Mapping[str, Any], where: str) -> Iterator[dict[str, Any]]:
    """Every combination of the values of a sweep."""
    for key, values in sweep.items():
        if not isinstance(values, list) or not values:
            raise ValueError(f"{where}.sweep.{key} must be a list of values, got {values!r}")
    if (points := math.prod(map(len, sweep.values()))) > _MOST_POINTS:
        raise ValueError(f"{where}.sweep makes {points:,} runs a seed: shorten it to {_MOST_POINTS:,} or fewer")
    for values in itertools.product(*sweep.values()):
        yield dict(zip(sweep, values, strict=True))


def _table(record: type[Keys], content: _Table, where: str) -> Keys:
    """A record of the file, with every key checked; tables in it stay as they are."""
    fields = {f.name: f for f in dataclasses.fields(record)}
    for key in content:
        if key not in fields:
            raise ValueError(f"unknown key {where}{key}{suggestion(key, fields)}")
    for key, f in fields.items():
        if not content.get(key) and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            lack = "empty" if key in content else "missing"
            raise ValueError(f"{where}{key} is {lack}: name at least one, as [{where}{key}.NAME]")
    made = from_mapping(record, content, where)
    for key in content:
        value = getattr(made, key)
        if isinstance(value, tuple):
            if not value:
                raise ValueError(f"{where}{key} is empty: list at least one")
            if len(set(value)) < len(value):
                raise ValueError(f"{where}{key} names something twice: {list(value)}")
    if "seed" in made.training:
        raise ValueError(f"{where}training.seed: seeds of a study are listed under seeds")
    return made


def _nested(point: Mapping[str, Any]) -> dict[str, Any]:
    """{"structure.k2": 0.1} as {"structure": {"k2": 0.1}}."""
    nested: dict[str, Any] = {}
    for key, value in point.items():
        *tables, last = key.split(".")
        place = nested
        for table in tables:
            place = place.setdefault(table, {})
            if not isinstance(place, dict):
                raise ValueError(f"a sweep has {table} and, within it, {key}: name one of them")
        if last in place:
            raise ValueError(f"a sweep has {key} and what is within it: name one of them")
        place[last] = value
    return nested
