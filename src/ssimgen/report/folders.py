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

FORMAT = 1
RATE = "KL, nats"
_PNG = b"\x89PNG\r\n\x1a\n"
_NO_MATTER = ("seed", "log_every", "picture_every", "checkpoint_every", "keep", "tensorboard")


@dataclass(frozen=True)
class Run:
    """One evaluated run.

    Attributes:
        path: its folder.
        config: content of config.json.
        evaluation: content of evaluation.json.
    """

    path: Path
    config: Mapping[str, Any]
    evaluation: Mapping[str, Any]

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
            flat |= _flat(self.config[section], "" if section == "config" else f"{section}.")
        return {key: value for key, value in flat.items() if key.removeprefix("training.") not in _NO_MATTER}

    @cached_property
    def metrics(self) -> list[dict[str, float]]:
        """The lines of metrics.jsonl; a last one that was cut off is left out."""
        path = self.path / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        if lines and not lines[-1].endswith("}"):
            lines.pop()
        return [_line(path, number, line) for number, line in enumerate(lines, 1)]

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
        return any(row["kind"] == "reconstruction" for row in self.evaluation["rows"])


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """The runs in `paths`, each a run folder or a folder with runs somewhere below it.

    Raises:
        ValueError: no run; one that is damaged or not evaluated; runs of different images, or evaluated differently.
    """
    folders = _folders(paths)
    _check_evaluated(folders)
    runs = [_read(folder) for folder in folders]
    first = runs[0]
    for run in runs[1:]:
        if run.config["data"]["hash"] != first.config["data"]["hash"]:
            raise ValueError(
                f"runs of different images cannot stand in one report: {first.path} was trained on {_data(first)}, "
                f"{run.path} on {_data(run)}: write a report of each"
            )
        for what in ("options", "network", "data"):
            if run.evaluation[what] != first.evaluation[what]:
                raise ValueError(
                    f"{first.path} and {run.path} were evaluated differently ({_difference(first, run, what)}), and "
                    "their values do not compare: evaluate them again in one way"
                )
    return runs


def _folders(paths: Sequence[Path]) -> list[Path]:
    if not paths:
        raise ValueError("name one or more folders of runs")
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            raise ValueError(f"{path} is not a folder: name folders of runs")
        inside = [path] if (path / "config.json").exists() else sorted(p.parent for p in path.rglob("config.json"))
        if not inside:
            raise ValueError(f"{path} holds no run: no config.json in it or below it")
        found += inside
    return list(dict.fromkeys(found))


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


def _read(folder: Path) -> Run:
    config, evaluation = (_json(folder / name) for name in ("config.json", "evaluation.json"))
    if evaluation.get("format") != FORMAT:
        raise ValueError(
            f"{folder}/evaluation.json has format {evaluation.get('format')!r}, this version of ssimgen reads "
            f"{FORMAT}: evaluate the run again"
        )
    _check(folder / "config.json", config, _CONFIG, _REMEDIES["config.json"])
    if "study" in config:
        _check(folder / "config.json", config, _PLACE, _REMEDIES["config.json"])
    _check(folder / "evaluation.json", evaluation, _EVALUATION, _AGAIN)
    for number, row in enumerate(evaluation["rows"], 1):
        if not isinstance(row, Mapping):
            raise ValueError(f"{folder / 'evaluation.json'} is damaged: row {number} is {row!r}: {_AGAIN}")
        _check(folder / "evaluation.json", row, _ROW, _AGAIN, f" in row {number}")
    return Run(folder, config, evaluation)


_AGAIN = "evaluate the run again"
_REMEDIES = {"config.json": "train the run again, or leave it out", "evaluation.json": _AGAIN}
_NUMBER = (int, float, type(None))
_CONFIG = {
    "model": str, "shape": list, "config": dict, "training": dict, "training.seed": int, "optimiser": dict,
    "data": dict, "data.source": str, "data.images": int, "data.hash": str,
}  # fmt: skip
_PLACE = {"study": dict, "study.group": str, "study.variant": str, "study.point": dict, "study.arm": str}
_EVALUATION = {
    "iteration": int, "options": dict, "options.images": int, "network": (str, type(None)), "data": dict, "rows": list,
}  # fmt: skip
_ROW = {
    "kind": str, "metric": str, "value": _NUMBER, "low": _NUMBER, "high": _NUMBER, "reference": _NUMBER, "n": int,
    "better": str,
}  # fmt: skip


def _check(path: Path, content: Mapping[str, Any], kinds: Mapping[str, Any], remedy: str, where: str = "") -> None:
    """Refuse content without a key that a report needs, or with a value of another kind."""
    for key, kind in kinds.items():
        *outer, last = key.split(".")
        place: Any = content
        for name in outer:
            place = place[name]  # a table: keys of it stand after it
        if last not in place:
            raise ValueError(f"{path} is damaged: it has no {key!r}{where}: {remedy}")
        if not isinstance(place[last], kind):
            raise ValueError(f"{path} is damaged: {key!r}{where} is {place[last]!r}: {remedy}")


def _line(path: Path, number: int, line: str) -> dict[str, float]:
    try:
        found: dict[str, float] = json.loads(line)
        if isinstance(found, dict) and {"iteration", "seconds"} <= found.keys():
            return found
    except json.JSONDecodeError:
        pass
    raise ValueError(f"{path} is damaged: line {number} is {line[:60]!r}")


def _decodes(png: bytes) -> bool:
    """Whether a picture is whole."""
    try:
        with Image.open(io.BytesIO(png)) as picture:
            picture.load()
    except (OSError, ValueError, SyntaxError):  # what Pillow raises for broken files
        return False
    return True


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}): {_REMEDIES[path.name]}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged (not a JSON object): {_REMEDIES[path.name]}")
    return content


def _data(run: Run) -> str:
    data = run.config["data"]
    return f"{data['images']} images of {data['source']} (content hash {data['hash'][:12]})"


def _difference(a: Run, b: Run, what: str) -> str:
    old, new = a.evaluation[what], b.evaluation[what]
    if isinstance(old, dict) and isinstance(new, dict):
        key = next(key for key in {**old, **new} if old.get(key) != new.get(key))
        what, old, new = key, old.get(key), new.get(key)
    return f"{what}: {old!r} and {new!r}"


def _flat(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat
