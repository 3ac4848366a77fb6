"""Run folders as a report sees them: configuration, evaluation, loss terms, pictures. Reads files only."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from ssimgen import _options
from ssimgen._reading import Evaluation, read_config, read_evaluation, read_metrics

_PNG = b"\x89PNG\r\n\x1a\n"
# The last is of runs of 0.1.
_NO_MATTER = ("seed", "log_every", "picture_every", "checkpoint_every", "keep", "loggers", "tensorboard")


@dataclass(frozen=True)
class Run:
    """One evaluated run.

    Attributes:
        path: its folder.
        config: content of config.json.
        evaluation: its scores, as evaluation.json has them.
    """

    path: Path
    config: Mapping[str, Any]
    evaluation: Evaluation

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return int(self.config["training"]["seed"])

    @property
    def study(self) -> Mapping[str, Any]:
        """The place of the run in a study; empty if it is of none."""
        place: Mapping[str, Any] = self.config.get("study", {})
        return place

    @cached_property
    def options(self) -> dict[str, Any]:
        """Everything that can make runs differ, but for the seed: dotted name -> value."""
        flat = {"model": self.config["model"]}
        for section in ("config", "training", "optimiser"):
            flat |= _options.flat(self.config[section], "" if section == "config" else f"{section}.")
        return {key: value for key, value in flat.items() if key.removeprefix("training.") not in _NO_MATTER}

    @cached_property
    def metrics(self) -> list[dict[str, float]]:
        """The lines of metrics.jsonl; a last one that was cut off is left out."""
        return read_metrics(self.path)

    def picture(self, name: str) -> bytes | None:
        """A PNG: "samples" and "reconstructions" are the latest of their folders; None where there is none, or where it
        cannot be decoded."""
        inside = sorted((self.path / name).glob("*.png"))
        path = inside[-1] if inside else self.path / f"{name}.png"
        content = path.read_bytes() if path.is_file() else b""
        return content if content.startswith(_PNG) and _decodes(content) else None

    def expects(self, name: str) -> bool:
        """Whether an evaluation of this run leaves such a picture: reconstructions are of models that reconstruct."""
        if name not in ("reconstructions", "worst"):
            return True
        return any(row.kind == "reconstruction" for row in self.evaluation.rows)


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """The runs in `paths`, each a run folder or a folder with runs somewhere below it.

    Raises:
        ValueError: no run; one that is damaged or not evaluated; runs of different images, or evaluated differently;
            two that do not differ even by their seed.
    """
    folders = run_folders(paths)
    _check_evaluated(folders)
    runs = [Run(folder, read_config(folder), read_evaluation(folder)) for folder in folders]
    first = runs[0]
    for run in runs[1:]:
        if run.config["data"]["hash"] != first.config["data"]["hash"]:
            raise ValueError(
                f"runs of different images cannot stand in one report: {first.path} was trained on {_data(first)}, "
                f"{run.path} on {_data(run)}: write a report of each"
            )
        for what in ("options", "network", "data"):
            if getattr(run.evaluation, what) != getattr(first.evaluation, what):
                raise ValueError(
                    f"{first.path} and {run.path} were evaluated differently ({_difference(first, run, what)}), and "
                    "their values do not compare: evaluate them again in one way"
                )
    _check_different(runs)
    return runs


def _check_different(runs: Sequence[Run]) -> None:
    """Refuse the same model twice, which would count as one more seed, or not at all."""
    known: dict[str, Run] = {}
    for run in runs:
        place = {key: value for key, value in run.study.items() if key in ("group", "variant", "point")}
        before = known.setdefault(json.dumps([run.options, run.seed, place], sort_keys=True), run)
        if before is not run:
            raise ValueError(
                f"{before.path} and {run.path} have the same options and the same seed: name one of them, or train the "
                "other with another seed"
            )


def run_folders(paths: Sequence[Path]) -> list[Path]:
    """The folders of runs in `paths`, each a run folder or a folder with runs somewhere below it.

    Of a study that searched its options, the runs, and not the trials of the search, which saw other images.

    Raises:
        ValueError: no run.
    """
    if not paths:
        raise ValueError("name one or more folders of runs")
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            raise ValueError(f"{path} is not a folder: name folders of runs")
        inside = [path] if (path / "config.json").exists() else _below(path)
        if not inside:
            raise ValueError(f"{path} holds no run: no config.json in it or below it")
        found += inside
    return list(dict.fromkeys(found))


def _below(path: Path) -> list[Path]:
    """The runs in a folder, which may be that of a study."""
    of_study = (path / "runs").is_dir() and (path / "search").is_dir()
    return sorted(config.parent for config in (path / "runs" if of_study else path).rglob("config.json"))


def _check_evaluated(folders: Sequence[Path]) -> None:
    missing = [folder for folder in folders if not (folder / "evaluation.json").exists()]
    if not missing:
        return
    if len(missing) == 1:
        raise ValueError(f"{missing[0]} has not been evaluated: ssimgen evaluate {missing[0]}")
    raise ValueError(
        f"{len(missing)} of {len(folders)} runs have not been evaluated: ssimgen evaluate {missing[0]} and so on, or "
        "name only runs that are"
    )


def _decodes(png: bytes) -> bool:
    """Whether a picture is whole."""
    try:
        with Image.open(io.BytesIO(png)) as picture:
            picture.load()
    except (OSError, ValueError, SyntaxError):  # what Pillow raises for broken files
        return False
    return True


def _data(run: Run) -> str:
    data = run.config["data"]
    return f"{data['images']} images of {data['source']} (content hash {data['hash'][:12]})"


def _difference(a: Run, b: Run, what: str) -> str:
    old, new = getattr(a.evaluation, what), getattr(b.evaluation, what)
    if isinstance(old, dict) and isinstance(new, dict):
        key = next(key for key in {**old, **new} if old.get(key) != new.get(key))
        what, old, new = key, old.get(key), new.get(key)
    return f"{what}: {old!r} and {new!r}"
