"""Runs of so many seconds of processor time: what counts, how they end, and how they go on."""

import dataclasses
import signal
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch import nn
from toys import Toy, ToyConfig, fit, same_weights, signal_at

from ssimgen.runs import RunFolder
from ssimgen.training import CheckpointError, Hook, Interrupted, Optimiser, Training, read_metrics, state

TRAINING = Training(seconds=7.5, batch=8, log_every=1)
FALLING = Optimiser(lr=1.0, method="sgd", schedule="linear")


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Every look at it, it is a second later: an iteration, between two of them, takes one."""
    ticks = count()
    looked_at = SimpleNamespace(perf_counter=time.perf_counter, process_time=lambda: float(next(ticks)))
    monkeypatch.setattr(state, "time", looked_at)
    return ticks


def test_a_run_ends_in_the_iteration_in_which_its_seconds_are_used_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tmp_path, training=TRAINING)
    assert [(line["iteration"], line["processor_seconds"]) for line in read_metrics(tmp_path)][-2:] == [(7, 7), (8, 8)]
    assert capsys.readouterr().out.startswith("toy 8/7.5")
    assert RunFolder(tmp_path).is_trained(TRAINING)
    assert RunFolder(tmp_path).is_trained(dataclasses.replace(TRAINING, seconds=8.0))
    assert not RunFolder(tmp_path).is_trained(dataclasses.replace(TRAINING, seconds=8.01))
    assert not RunFolder(tmp_path / "none").is_trained(TRAINING)


def test_schedules_and_spans_run_over_the_seconds(tmp_path: Path) -> None:
    model = Toy(ToyConfig(span=(0.5, 1.0)))
    fit(tmp_path, model, training=Training(seconds=8.0, batch=8, log_every=1), optimiser=FALLING)
    lines = read_metrics(tmp_path)
    assert [line["autoencoder/lr"] for line in lines] == [1 - i / 8 for i in range(8)]
    assert ["critic/score" in line for line in lines] == [False] * 4 + [True] * 4
    assert [line["critic/lr"] for line in lines[4:]] == [1, 0.75, 0.5, 0.25]


def test_hooks_do_not_count(tmp_path: Path, clock: Iterator[int]) -> None:
    def slow(_: nn.Module, __: int) -> dict[str, float]:
        return {"waited": float(sum(next(clock) >= 0 for _ in range(100)))}

    fit(tmp_path, training=TRAINING, hooks=(Hook(2, slow),))
    assert RunFolder(tmp_path).latest_iteration() == 8


def test_the_seconds_of_a_resumed_run_add_up(tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole", training=TRAINING, optimiser=FALLING)
    with pytest.raises(Interrupted):
        fit(tmp_path / "parts", training=TRAINING, optimiser=FALLING, hooks=(signal_at(3, signal.SIGTERM),))
    assert same_weights(whole, fit(tmp_path / "parts", training=TRAINING, optimiser=FALLING, resume=True))
    longer = dataclasses.replace(TRAINING, seconds=9.0)
    fit(tmp_path / "parts", training=longer, optimiser=FALLING, resume=True)
    assert RunFolder(tmp_path / "parts").latest_iteration() == 9
    fit(tmp_path / "parts", training=TRAINING, optimiser=FALLING, resume=True)  # it has them already
    assert RunFolder(tmp_path / "parts").latest_iteration() == 9


def test_a_run_of_iterations_goes_on_in_seconds(tmp_path: Path) -> None:
    fit(tmp_path, training=Training(iterations=3, batch=8))
    fit(tmp_path, training=TRAINING, resume=True)
    assert RunFolder(tmp_path).latest_iteration() == 8
    with pytest.raises(CheckpointError, match="was trained for 8 iterations, more than 3"):
        fit(tmp_path, training=Training(iterations=3, batch=8), resume=True)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_seconds_are_positive(seconds: float) -> None:
    with pytest.raises(ValueError, match=f"seconds must be a positive number of .*, got {seconds}"):
        Training(seconds=seconds)
