"""Files of runs and options, damaged in many ways: an error of one line that names the file, or success.

The mutations are seeded, so that a failure comes again.
"""

import copy
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from report.made_runs import DISTANCE, FRECHET, KL, PSNR, SSIM, place, write_run
from ssimgen._reading import CONFIG, EVALUATION, METRICS, read_config, read_evaluation, read_metrics
from ssimgen.report import write_report
from ssimgen.study import read_plan

VALUES = {KL: 10.0, PSNR: 20.0, SSIM: 0.5, DISTANCE: 1.0, FRECHET: 3.0, "sharpness": 0.5}


def nested(depth: int) -> Any:
    value: Any = {}
    for i in range(depth):
        value = {"a": value} if i % 2 else [value]
    return value


HOSTILE: tuple[Callable[[], Any], ...] = (
    lambda: None,
    lambda: True,
    lambda: 0,
    lambda: -1,
    lambda: 2**63,
    lambda: 10**400,
    lambda: 1e308,
    lambda: -1e308,
    lambda: 1e-320,
    lambda: float("nan"),
    lambda: float("inf"),
    lambda: "gpu",
    lambda: "",
    lambda: "\ud800",
    lambda: "</script>\x00",
    list,
    lambda: [1, "a", None],
    dict,
    lambda: {"a": {"b": [1]}},
    lambda: nested(31),
    lambda: nested(150),
)


def places(content: Any) -> Iterator[tuple[Any, Any]]:
    """Every table or list in it, with each of its keys."""
    for key, value in list(content.items()) if isinstance(content, dict) else list(enumerate(content)):
        yield content, key
        if isinstance(value, (dict, list)):
            yield from places(value)


def mutated(content: Any, chance: random.Random) -> Any:
    """A copy with one to three values deleted, replaced by hostile ones, or by others of the content."""
    content = copy.deepcopy(content)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        found = list(places(content))
        if not found:
            break
        holder, key = chance.choice(found)
        kind = chance.randrange(4)
        if kind == 0:
            del holder[key]
        elif kind == 1:
            other, place = chance.choice(found)
            holder[key] = copy.deepcopy(other[place]) if isinstance(other, list) or place in other else None
        else:
            holder[key] = chance.choice(HOSTILE)()
    return content


def one_line(error: ValueError, path: Path) -> None:
    """The message is short and names the file, or at least its run."""
    message = str(error)
    assert len(message) < 1000
    assert str(path) in message or str(path.parent) in message, message


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_run(tmp_path / "runs" / "b", VALUES, seed=1, study=place("ssim", tau=1.0))
    return write_run(tmp_path / "runs" / "a", VALUES, seed=0, study=place("l2", tau=1.0))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", [CONFIG, EVALUATION])
def test_a_report_of_damaged_json_says_so_or_is_made(run: Path, name: str, seed: int) -> None:
    chance = random.Random(seed)
    sane = json.loads((run / name).read_text())
    refused = 0
    for _ in range(60):
        (run / name).write_text(json.dumps(mutated(sane, chance)))
        try:
            write_report([run.parent], run.parent / "report")
        except ValueError as error:
            one_line(error, run / name)
            refused += 1
    assert 0 < refused < 60


@pytest.mark.parametrize("seed", range(2))
def test_a_report_of_damaged_metrics_says_so_or_is_made(run: Path, seed: int) -> None:
    chance = random.Random(seed)
    sane = [json.loads(line) for line in (run / METRICS).read_text().splitlines()]
    refused = 0
    for _ in range(60):
        lines = [json.dumps(line) for line in mutated(sane, chance)]
        (run / METRICS).write_text("\n".join(lines) + chance.choice(("\n", "", "\n{", "\n\n")))
        try:
            write_report([run.parent], run.parent / "report")
        except ValueError as error:
            one_line(error, run / METRICS)
            refused += 1
    assert 0 < refused < 60


STUDY = {
    "name": "example",
    "seeds": [0, 1],
    "rates": [15.0, 25.0],
    "training": {"iterations": 5, "batch": 16},
    "optimiser": {"lr": 2e-3, "drops": [0.5, 0.75]},
    "evaluation": {"images": 20, "resolution": 32},
    "data": {"digits": {"data": "mnist5k", "limit": 2000, "grey": True}},
    "models": {
        "vae": {
            "model": "vae",
            "data": ["digits"],
            "baseline": "l2",
            "options": {"latent": 8, "network": {"kind": "mlp", "hidden": [8, 8]}},
            "training": {"batch": 8},
            "variants": {
                "l2": {"options": {"objective": "l2"}, "sweep": {"tau": [2e-3, 5e-4]}},
                "ssim": {"options": {"objective": "ssim"}, "sweep": {"tau": [2e-2], "structure.k2": [0.03, 0.3]}},
            },
        }
    },
}


def toml(value: Any) -> str:
    """A value in TOML, tables inline; what TOML does not have becomes a text."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(k))} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, float):
        return repr(value)  # nan and inf as TOML has them
    return json.dumps("null" if value is None else value, ensure_ascii=False)


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_study_file_says_so_or_is_read(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    path = tmp_path / "study.toml"
    refused = 0
    for _ in range(150):
        text = "".join(f"{json.dumps(str(key))} = {toml(value)}\n" for key, value in mutated(STUDY, chance).items())
        path.write_bytes(text.encode(errors="surrogatepass"))
        try:
            read_plan(path)
        except ValueError as error:
            one_line(error, path)
            refused += 1
    assert 0 < refused < 150


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = " + "[" * 100_000, "is not valid TOML: nested too deeply"),
        ("[a" + ".a" * 5000 + "]\nb = 1", "is nested too deeply"),
        ("seeds = [" + "9" * 400 + "]", "is 99999999"),
        ("training = 3\n[data.x]\n[models.vae.variants.x]", "training must be a table, got 3"),
        ("[data.x]\n[models.vae.variants.x]\nsweep = {structure = [1], 'structure.k2' = [1.0]}", "structure"),
        (
            "[data.x]\n[models.vae.variants.x.sweep]\n" + "".join(f"a{i} = [1, 2, 3]\n" for i in range(30)),
            "makes 205,8",
        ),
    ],
    ids=["nested", "nested tables", "too great a number", "no table", "two sweeps of one", "too many runs"],
)
def test_bad_study_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "study.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_plan(path)
    one_line(caught.value, path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (CONFIG, '{"training": null}', "it has no 'model': train the run again"),
        (CONFIG, "[" * 100_000, "nested too deeply"),
        (CONFIG, '{"a": ' * 40 + "1" + "}" * 40, "is nested too deeply"),
        (CONFIG, "9" * 5000, "config.json is damaged: "),
        (
            EVALUATION,
            '{"format": 1, "x": 1e308}',
            r"'x' is 1e\+308, not a number up to 1e\+100: evaluate the run again",
        ),
        (EVALUATION, '{"format": 1, "x": [NaN]}', r"'x\[0\]' is nan, not a number"),
        (EVALUATION, '{"format": 1, "x": 1' + "0" * 400 + "}", "'x' is 1000000"),
        (EVALUATION, "3", "it is 3, not a table"),
        (METRICS, "{}\n", r"line 1 is '\{\}' \(it has no 'iteration'\)"),
        (METRICS, '{"iteration": 1, "seconds": "x"}\n', "'seconds' is 'x', not a number"),
        (METRICS, '{"iteration": 1, "seconds": 1, "a/b": [1]}\n', r"'a/b' is \[1\], not a number or null"),
        (METRICS, '{"iteration": 1, "seconds": 1' + "0" * 400 + "}\n", "too large"),
    ],
)
def test_damage_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    read: Callable[[Path], object] = {CONFIG: read_config, EVALUATION: read_evaluation, METRICS: read_metrics}[name]
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path)
    one_line(caught.value, tmp_path / name)


def test_what_is_no_text_or_no_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / CONFIG
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"config\.json is damaged: .*: train the run again"):
        read_config(tmp_path)
    path.unlink()
    os.mkfifo(path)  # a pipe is not waited for
    with pytest.raises(ValueError, match=r"config\.json is damaged: it is not an ordinary file"):
        read_config(tmp_path)


def test_tables_of_the_wrong_kind_are_named(run: Path) -> None:
    config = json.loads((run / CONFIG).read_text())
    for key, value, message in [("training", None, "null|None"), ("hardware", "gpu", "'gpu'"), ("data", [], r"\[\]")]:
        (run / CONFIG).write_text(json.dumps({**config, key: value}))
        with pytest.raises(ValueError, match=rf"config\.json is damaged: '{key}' is ({message}), not a table: train"):
            read_config(run)


def test_an_evaluation_without_rows_is_refused(run: Path) -> None:
    content = json.loads((run / EVALUATION).read_text())
    (run / EVALUATION).write_text(json.dumps({**content, "rows": []}))
    with pytest.raises(ValueError, match=r"evaluation\.json is damaged: 'rows' is empty: evaluate the run again"):
        read_evaluation(run)


def test_metrics_that_are_not_finite_are_numbers(tmp_path: Path) -> None:
    """PSNR of equal images is infinite."""
    (tmp_path / METRICS).write_text('{"iteration": 1, "seconds": 1.5, "evaluation/psnr": Infinity}\n{"iterat')
    assert read_metrics(tmp_path) == [{"iteration": 1, "seconds": 1.5, "evaluation/psnr": float("inf")}]
