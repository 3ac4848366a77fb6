"""The study file: a grid of models, options, data and seeds, written down in TOML. See docs/study.md."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssimgen._options import from_mapping, merged, short, suggestion
from ssimgen._reading import read_options
from ssimgen.data import Source
from ssimgen.models import MODELS, usual_training
from ssimgen.runs.evaluation import EvaluationOptions
from ssimgen.training import Optimiser, Training

_MOST_POINTS = 10_000


@dataclass(frozen=True)
class PlannedRun:
    """One run of a study.

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
        """Where it is kept, below the folder of the study."""
        return Path("runs", self.data, self.group, self.arm.replace(" ", "_").replace("/", "-"), f"seed-{self.seed}")


@dataclass(frozen=True)
class Plan:
    """A study.

    Attributes:
        name: of the study.
        runs: all of them, the first seed of everything first.
        evaluation: how they are judged.
        rates: nats at which variational models are compared; empty: chosen where their curves overlap.
    """

    name: str
    runs: tuple[PlannedRun, ...]
    evaluation: EvaluationOptions
    rates: tuple[float, ...] = ()


@dataclass(frozen=True)
class _File:
    """The keys at the top."""

    data: Mapping[str, Any]
    models: Mapping[str, Any]
    name: str = ""
    seeds: tuple[int, ...] = (0, 1, 2)
    rates: tuple[float, ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)
    optimiser: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Group:
    """The keys of a table `models.NAME`."""

    variants: Mapping[str, Any]
    model: str = ""
    data: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    baseline: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    sweep: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    optimiser: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Variant:
    """The keys of a table `models.NAME.variants.NAME`."""

    options: Mapping[str, Any] = field(default_factory=dict)
    sweep: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    optimiser: Mapping[str, Any] = field(default_factory=dict)


def read_plan(path: Path) -> Plan:
    """The study in a file.

    Raises:
        ValueError: not TOML, or beyond what options can be; an unknown or missing key, named with a suggestion; a
            value that its option refuses.
        OSError: the file cannot be read.
    """
    content = read_options(path)
    try:
        return make_plan(content, path.stem)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def make_plan(content: Mapping[str, Any], name: str) -> Plan:
    """The study that the content of a file describes; as :func:`read_plan`."""
    file = _table(_File, content, "")
    sources = {
        key: from_mapping(Source, _mapping(value, f"data.{key}"), f"data.{key}.") for key, value in file.data.items()
    }
    for key, values in (("data", file.data), ("models", file.models)):
        if not values:
            raise ValueError(f"{key} is empty: name at least one, as [{key}.NAME]")
    runs = [
        run
        for group_name, table in file.models.items()
        for run in _runs_of_group(
            file,
            group_name,
            _table(_Group, _mapping(table, f"models.{group_name}"), f"models.{group_name}."),
            sources,
        )
    ]
    _check_folders(runs)
    seeds = list(dict.fromkeys(run.seed for run in runs))
    ordered = tuple(
        sorted(runs, key=lambda run: seeds.index(run.seed))
    )  # stable: an early stop leaves whole comparisons
    evaluation = from_mapping(EvaluationOptions, file.evaluation, "evaluation.")
    if not all(0 < rate < math.inf for rate in file.rates):
        raise ValueError(f"rates must be positive numbers of nats, got {list(file.rates)}")
    return Plan(file.name or name, ordered, evaluation, file.rates)


def _runs_of_group(file: _File, name: str, group: _Group, sources: Mapping[str, Source]) -> Iterator[PlannedRun]:
    where = f"models.{name}"
    model = group.model or name
    if model not in MODELS:
        raise ValueError(f"{where}: unknown model {model!r}{suggestion(model, MODELS)}")
    for data in group.data:
        if data not in sources:
            raise ValueError(f"{where}.data: unknown data {data!r}{suggestion(data, sources)}")
    if not group.variants:
        raise ValueError(f"{where}.variants is empty: name at least one, as [{where}.variants.NAME]")
    if group.baseline and group.baseline not in group.variants:
        raise ValueError(
            f"{where}.baseline: unknown variant {group.baseline!r}{suggestion(group.baseline, group.variants)}"
        )
    usual = usual_training(model)
    for seed in group.seeds or file.seeds:
        for data in group.data or tuple(sources):
            for key, table in group.variants.items():
                place = f"{where}.variants.{key}"
                variant = _table(_Variant, _mapping(table, place), f"{place}.")
                training = {**dataclasses.asdict(usual[0]), **file.training, **group.training, **variant.training}
                optimiser = {**dataclasses.asdict(usual[1]), **file.optimiser, **group.optimiser, **variant.optimiser}
                for point in _points({**group.sweep, **variant.sweep}, place):
                    try:
                        options = merged(merged(group.options, variant.options), _nested(point))
                        config: Any = from_mapping(MODELS[model][1], options, "")
                        yield PlannedRun(
                            data,
                            sources[data],
                            name,
                            model,
                            key,
                            point,
                            config,
                            from_mapping(Training, {**training, "seed": seed}, "training."),
                            from_mapping(Optimiser, optimiser, "optimiser."),
                            group.baseline,
                        )
                    except ValueError as error:
                        raise ValueError(f"{place}: {error}") from error


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


def _table(record: type[Any], content: Mapping[str, Any], where: str) -> Any:
    """A record of the file, with every key checked; tables in it stay as they are."""
    fields = {f.name: f for f in dataclasses.fields(record)}
    for key in content:
        if key not in fields:
            raise ValueError(f"unknown key {where}{key}{suggestion(key, fields)}")
    values: dict[str, Any] = {}
    for key, f in fields.items():
        if key not in content:
            if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
                raise ValueError(f"{where}{key} is missing: name at least one, as [{where}{key}.NAME]")
            continue
        value = content[key]
        kind = str(f.type)
        if kind.startswith("Mapping"):
            values[key] = _mapping(value, where + key)
            if key == "training" and "seed" in value:
                raise ValueError(f"{where}training.seed: seeds of a study are listed under seeds")
        elif kind.startswith("tuple"):
            values[key] = _several(
                value, {"tuple[int, ...]": int, "tuple[float, ...]": float}.get(kind, str), where + key
            )
        elif not isinstance(value, str):
            raise ValueError(f"{where}{key} must be a text, got {value!r}")
        else:
            values[key] = value
    return record(**values)


def _several(value: Any, kind: type, where: str) -> tuple[Any, ...]:
    accepted = (int, float) if kind is float else kind
    if (
        not isinstance(value, list)
        or not value
        or not all(isinstance(v, accepted) and type(v) is not bool for v in value)
    ):
        raise ValueError(f"{where} must be a list of {kind.__name__} values, got {value!r}")
    if len(set(value)) < len(value):
        raise ValueError(f"{where} names something twice: {value!r}")
    return tuple(kind(v) for v in value)


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} must be a table, got {value!r}")
    return value


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
