"""Loggers besides metrics.jsonl: what they are given, also when a run goes on, and what is said where one fails."""

import csv
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from toys import Toy, crash_after, fit

from ssimgen.cli import main
from ssimgen.runs import RunFolder
from ssimgen.training import NotWrittenError, Training, read_metrics

Name = Literal["tensorboard", "csv", "wandb", "mlflow"]


def logging(*names: Name, iterations: int = 4) -> Training:
    """Options of a run with two lines every four iterations."""
    return Training(iterations=iterations, batch=8, log_every=2, checkpoint_every=2, loggers=names)


class WandB:
    """The package wandb, which remembers what it was told."""

    def __init__(self) -> None:
        self.begun: list[dict[str, Any]] = []
        self.lines: list[tuple[int, dict[str, float]]] = []
        self.ends: list[int] = []

    def init(self, *, project: str, name: str, id: str, dir: Path, config: dict[str, Any], resume: str) -> "WandB":
        self.begun.append({"project": project, "name": name, "id": id, "dir": dir, "config": config, "resume": resume})
        return self

    def log(self, data: dict[str, float], *, step: int) -> None:
        self.lines.append((step, data))

    def finish(self, *, exit_code: int) -> None:
        self.ends.append(exit_code)


class MLflow:
    """The package mlflow and its client, which remember what they were told."""

    def __init__(self) -> None:
        self.experiments: list[str] = []
        self.runs: list[str] = []
        self.params: dict[str, Any] = {}
        self.values: list[tuple[str, str, float, int]] = []
        self.ends: list[tuple[str, str]] = []

    def MlflowClient(self) -> "MLflow":  # noqa: N802 - that of the package
        return self

    def set_experiment(self, name: str) -> SimpleNamespace:
        self.experiments.append(name)
        return SimpleNamespace(experiment_id="7")

    def create_run(self, experiment_id: str, *, run_name: str) -> SimpleNamespace:
        assert experiment_id == "7"
        self.runs.append(run_name)
        return SimpleNamespace(info=SimpleNamespace(run_id=f"run-{len(self.runs)}"))

    def log_param(self, run_id: str, key: str, value: Any) -> None:
        self.params[key] = value

    def log_metric(self, run_id: str, key: str, value: float, *, step: int) -> None:
        self.values.append((run_id, key, value, step))

    def set_terminated(self, run_id: str, status: str) -> None:
        self.ends.append((run_id, status))


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> WandB:
    """The package, as if it were installed."""
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    package = WandB()
    monkeypatch.setitem(sys.modules, "wandb", package)
    return package


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> MLflow:
    """The package, as if it were installed."""
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    package = MLflow()
    monkeypatch.setitem(sys.modules, "mlflow", package)
    return package


def interrupted_and_resumed(folder: Path, *names: Name) -> list[dict[str, float]]:
    """The lines of a run that lost what it did after iteration 2, and went on to iteration 6."""
    with pytest.raises(RuntimeError, match="power cut"):
        fit(folder, training=logging(*names), hooks=(crash_after(3),))
    fit(folder, training=logging(*names, iterations=6), resume=True)
    lines = read_metrics(folder)
    assert [line["iteration"] for line in lines] == [2, 4, 6]
    return lines


def test_tensorboard_gets_the_metrics(tmp_path: Path) -> None:
    fit(tmp_path, training=logging("tensorboard"))
    (events,) = (tmp_path / "tensorboard").rglob("events.out.tfevents.*")
    assert b"autoencoder/error" in events.read_bytes()


def test_a_csv_file_has_every_line_once(tmp_path: Path) -> None:
    lines = interrupted_and_resumed(tmp_path, "csv")
    with (tmp_path / "csv" / "metrics.csv").open() as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    assert rows == [
        {**{k: v for k, v in line.items() if k != "iteration"}, "step": line["iteration"]} for line in lines
    ]


def test_wandb_gets_the_metrics_of_a_run_that_goes_on_as_one(tmp_path: Path, wandb: WandB) -> None:
    lines = interrupted_and_resumed(tmp_path, "wandb")
    assert [step for step, _ in wandb.lines] == [2, 4, 6]
    assert {"iteration": 4, **wandb.lines[1][1]} == lines[1]
    assert wandb.ends == [1, 0]
    first, second = wandb.begun
    assert first["id"] == second["id"]
    assert (first["project"], first["name"], first["dir"]) == ("ssimgen", tmp_path.name, tmp_path)
    assert first["config"]["training"]["batch"] == 8


def test_mlflow_gets_the_metrics_of_a_run_that_goes_on_as_one(tmp_path: Path, mlflow: MLflow) -> None:
    lines = interrupted_and_resumed(tmp_path, "mlflow")
    assert (mlflow.experiments, mlflow.runs) == (["ssimgen"], [tmp_path.name])
    errors = [(step, value) for run, key, value, step in mlflow.values if (run, key) == ("run-1", "autoencoder/error")]
    assert errors == [(line["iteration"], line["autoencoder/error"]) for line in lines]
    assert mlflow.params["training.batch"] == 8
    assert mlflow.params["config.latent"] == 3
    assert mlflow.ends == [("run-1", "FAILED"), ("run-1", "FINISHED")]


def test_projects_are_those_of_the_packages_own_variables(
    tmp_path: Path, wandb: WandB, mlflow: MLflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "digits")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "faces")
    fit(tmp_path, training=logging("wandb", "mlflow", iterations=2))
    assert wandb.begun[0]["project"] == "digits"
    assert mlflow.experiments == ["faces"]


def test_a_new_run_in_the_folder_of_an_old_one_is_another(tmp_path: Path, wandb: WandB) -> None:
    """Whose configuration and checkpoints were removed by hand."""
    (tmp_path / "wandb.id").write_text("old")
    fit(tmp_path, training=logging("wandb", iterations=2))
    assert wandb.begun[0]["id"] == (tmp_path / "wandb.id").read_text() != "old"


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_package_that_is_missing_is_named_and_nothing_is_left(
    name: Name, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError, match=rf"^the logger '{name}' needs a package: pip install {name}$"):
        fit(tmp_path / "run", training=logging(name))
    assert not (tmp_path / "run").exists()


def test_the_command_names_the_package_of_a_logger_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And not an extra that does not bring it."""
    monkeypatch.setitem(sys.modules, "wandb", None)
    words = ["train", "vae", "--tau", "0.1", "--loggers", "wandb", "-o", str(tmp_path / "run")]
    assert main(words) == 2
    assert capsys.readouterr().err.endswith("ssimgen: the logger 'wandb' needs a package: pip install wandb\n")


def test_a_logger_that_cannot_begin_says_why_and_nothing_is_left(
    tmp_path: Path, wandb: WandB, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**_: Any) -> None:
        raise RuntimeError("api_key not configured (no-tty)\ncall wandb.login")

    monkeypatch.setattr(wandb, "init", init)
    with pytest.raises(ValueError, match=r"^the logger 'wandb' cannot begin: api_key not configured \(no-tty\)$"):
        fit(tmp_path / "run", training=logging("wandb"))
    assert not (tmp_path / "run").exists()


def test_a_logger_that_fails_ends_the_run_with_its_checkpoint(
    tmp_path: Path, mlflow: MLflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    def log_metric(run_id: str, key: str, value: float, *, step: int) -> None:
        if step > 2:
            raise RuntimeError("no answer from the server")

    monkeypatch.setattr(mlflow, "log_metric", log_metric)
    with pytest.raises(NotWrittenError, match=r"^MLflow: no answer from the server: .* with other loggers or none$"):
        fit(tmp_path, training=logging("mlflow"))
    assert RunFolder(tmp_path).latest_iteration() == 2
    fit(tmp_path, training=logging(), resume=True)
    assert read_metrics(tmp_path)[-1]["iteration"] == 4


@pytest.mark.usefixtures("no_shape_checks")
def test_names_are_those_of_loggers() -> None:
    with pytest.raises(TypeError, match=r"^loggers must be a list of 'tensorboard', 'csv', 'wandb', 'mlflow', got "):
        logging("comet")  # type: ignore[arg-type]


@pytest.mark.parametrize("tensorboard", [False, True])
def test_a_run_of_an_earlier_version_goes_on(tmp_path: Path, tensorboard: bool) -> None:
    """Which said whether TensorBoard gets its lines."""
    fit(tmp_path, Toy(), training=logging())
    config = json.loads((tmp_path / "config.json").read_text())
    del config["sha256"], config["training"]["loggers"]
    (tmp_path / "config.json").write_text(
        json.dumps({**config, "training": {**config["training"], "tensorboard": tensorboard}})
    )
    read = RunFolder(tmp_path).read_config()["training"]
    assert read["loggers"] == (["tensorboard"] if tensorboard else [])
    assert "tensorboard" not in read
    fit(tmp_path, training=logging(iterations=6), resume=True)
