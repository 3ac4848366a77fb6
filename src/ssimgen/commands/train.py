"""The command `ssimgen train`, whose options are made from the configuration of the model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from tyro import MISSING
from tyro.conf import OmitArgPrefixes, arg

from ssimgen import scores
from ssimgen._options import check, draft, merged, suggestion
from ssimgen._usage import parse
from ssimgen.commands.common import ended, note
from ssimgen.commands.wording import of_options, option_names

if TYPE_CHECKING:
    from ssimgen.training import Optimiser, Training


def train(words: list[str]) -> int:
    """Train a model; `ssimgen train` lists them."""
    from ssimgen.models import MODELS, usual_training

    if not words or words[0] in ("-h", "--help"):
        lines = [f"  {name:<12}{(model.__doc__ or '').splitlines()[0]}" for name, (model, _) in MODELS.items()]
        print("\n".join(["usage: ssimgen train MODEL [OPTIONS]", "", "models:", *lines]))
        print("\nssimgen train MODEL --help shows the options of a model.")
        return 0
    name, *rest = words
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}{suggestion(name, MODELS)}; ssimgen train lists them")
    options = _train_options(name, *usual_training(name))
    filed = _by_record(options, _filed(name, rest, _hints(options)))
    with of_options(list(option_names(_hints(options)))):
        chosen: Any = parse(options, rest, f"ssimgen train {name}", default=draft(options, filed, missing=MISSING))
        return ended(partial(_train, name, chosen), f"go on with: ssimgen train {name} -o {chosen.output} --resume")


def _train_options(name: str, training: Training, optimiser: Optimiser) -> type:
    """The options of `ssimgen train NAME`: those of the model, and what all models share."""
    from ssimgen.data import Source
    from ssimgen.models import MODELS
    from ssimgen.training import Hardware

    model, config = MODELS[name]
    group = OmitArgPrefixes  # a heading of its own, but --lr, not --optimiser.lr
    record = dataclasses.make_dataclass(
        "TrainOptions",
        [
            ("output", Annotated[Path, arg(aliases=("-o",), help="folder of the run")]),
            ("source", Annotated[Source, group], Source()),
            ("training", Annotated[type(training), group], training),
            ("model", Annotated[config, arg(name="")]),  # beside the output: what is asked most
            ("optimiser", Annotated[type(optimiser), group], optimiser),
            ("hardware", Annotated[Hardware, group], Hardware()),
            ("evaluate_every", Annotated[int, arg(help=_EVALUATE_EVERY)], 0),
            ("resume", Annotated[bool, arg(help="go on with the run in the folder, with its options")], False),
            ("config", Annotated[Path | None, arg(help=_CONFIG)], None),
        ],
        frozen=True,
        kw_only=True,
    )
    record.__doc__ = (model.__doc__ or "").splitlines()[0]  # the rest is for programmers
    return record


_CONFIG = "TOML or JSON file of options, by the names they have here"
_EARLY = 500  # iterations, before which a code need not say anything
_EVALUATE_EVERY = "iterations between scores of held-out images and samples in metrics.jsonl, quick ones; 0: none"


def _train(name: str, chosen: Any) -> None:
    from ssimgen._reading import read_metrics
    from ssimgen.data import load_images
    from ssimgen.models import MODELS
    from ssimgen.training import RunFolder, evaluation_hook, make_model
    from ssimgen.training import train as run
    from ssimgen.training.no_compiler import without_compiler

    if chosen.evaluate_every < 0:
        raise ValueError(f"evaluate_every must be at least 1 iteration, or 0 for never, got {chosen.evaluate_every}")
    splits = load_images(chosen.source, report=note)
    finished = chosen.resume and RunFolder(chosen.output).is_trained(chosen.training)
    with without_compiler():
        run(
            make_model(MODELS[name][0], chosen.model, splits.train.shape, chosen.training.seed),
            splits.train,
            chosen.output,
            training=chosen.training,
            optimiser=chosen.optimiser,
            hardware=chosen.hardware,
            held_out=splits.held_out,
            hooks=[evaluation_hook(chosen.evaluate_every, splits.held_out)] if chosen.evaluate_every else [],
            resume=chosen.resume,
            notes={"source": dataclasses.asdict(chosen.source), "evaluate_every": chosen.evaluate_every},
        )
    last = next(iter(read_metrics(chosen.output)[-1:]), {})
    rate = last.get("vae/kl", math.inf)
    if rate < scores.LEAST_RATE and last["iteration"] >= _EARLY:
        note(
            f"the code of {chosen.output} says {rate:.2g} nats of an image, so that all images come back alike: train "
            "with a smaller --tau, or with --kl-target 25, which finds one"
        )
    if finished:
        length = "iterations" if chosen.training.seconds is None else "seconds"
        more = f"more --{length} than {chosen.training.length} go on with it"
        print(f"{chosen.output} is already finished: {more}")


def _hints(options: type) -> dict[str, Any]:
    """The type of every option that a file may hold, by its name there."""
    hints: dict[str, Any] = {}
    for name, hint in get_type_hints(options).items():
        hints |= get_type_hints(hint) if dataclasses.is_dataclass(hint) else {name: hint}
    del hints["config"]
    return hints


def _by_record(options: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """{"resume": True, "lr": 0.1} as {"resume": True, "optimiser": {"lr": 0.1}}."""
    nested: dict[str, Any] = {}
    for name, hint in get_type_hints(options).items():
        if dataclasses.is_dataclass(hint):
            nested[name] = {
                field.name: values[field.name] for field in dataclasses.fields(hint) if field.name in values
            }
        elif name in values:
            nested[name] = values[name]
    return nested


def _filed(name: str, words: list[str], hints: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `--config FILE` and, below them, of the run to be resumed, by name; all are of their types."""

    @dataclasses.dataclass
    class Early:
        output: Annotated[Path | None, arg(aliases=("-o",))] = None
        config: Path | None = None
        resume: bool = False

    typed = [word for word in words if word not in ("-h", "--help")]
    early, _ = parse(Early, typed, f"ssimgen train {name}", return_unknown_args=True)
    options = _read_options(early.config, hints) if early.config is not None else {}
    output = early.output or options.get("output")
    if output is None or not (early.resume or options.get("resume")):
        return options
    return merged(_options_of_run(Path(output), name, hints), options)


def _read_options(path: Path, hints: Mapping[str, Any]) -> dict[str, Any]:
    from ssimgen._reading import read_options

    return _checked(_by_name(read_options(path)), hints, path)


def _options_of_run(folder: Path, name: str, hints: Mapping[str, Any]) -> dict[str, Any]:
    from ssimgen.runs import RunFolder

    before = RunFolder(folder).read_config()
    if before.get("model") != name:
        raise ValueError(
            f"{folder} holds a run of {before.get('model')}, not of {name}: "
            f"go on with ssimgen train {before.get('model')} -o {folder} --resume"
        )
    options = {"evaluate_every": before.get("evaluate_every", 0)}
    for section in ("config", "source", "training", "optimiser", "hardware"):
        options |= before.get(section, {})
    return _checked(options, hints, RunFolder(folder).config)


def _checked(options: dict[str, Any], hints: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Options, each of which there is, with a value of its type."""
    try:
        check(hints, options)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return options


def _by_name(options: Mapping[str, Any]) -> dict[str, Any]:
    """{"log-every": 5, "network.kind": "mlp"} as {"log_every": 5, "network": {"kind": "mlp"}}."""
    named: dict[str, Any] = {}
    for key, value in options.items():
        first, _, rest = key.replace("-", "_").partition(".")
        value = {rest: value} if rest else value
        named = merged(named, {first: _by_name(value) if isinstance(value, Mapping) else value})
    return named
