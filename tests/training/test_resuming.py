"""A run that goes on ends with the very bits of one that was never interrupted, and tidies what was left behind."""

import dataclasses
import json
import os
import signal
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn
from toys import SHORT, Toy, ToyConfig, crash_after, fit, same_weights, signal_at

from ssimgen import _files
from ssimgen.training import CheckpointError, Hook, Interrupted, Optimiser, Training, read_metrics

EVERYTHING = {
    "training": Training(iterations=12, batch=8, ema=0.9, log_every=5, checkpoint_every=100),
    "optimiser": Optimiser(lr=0.01, schedule="cosine", warmup=0.2, clip=1.0),
}


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("method", ["adam", "sgd"])
def test_an_interrupted_run_resumes_to_the_same_bits(tmp_path: Path, signum: int, method: str) -> None:
    options = {**EVERYTHING, "optimiser": Optimiser(method, lr=0.01, schedule="cosine", warmup=0.2, clip=1.0)}
    whole = fit(tmp_path / "whole", Toy(ToyConfig(every=2, dropout=0.3)), **options)
    with pytest.raises(Interrupted, match=f"stopped by {signal.Signals(signum).name} after iteration 7") as stop:
        fit(tmp_path / "parts", Toy(ToyConfig(every=2, dropout=0.3)), hooks=(signal_at(7, signum),), **options)
    assert stop.value.signum == signum
    resumed = Toy(ToyConfig(every=2, dropout=0.3))
    with torch.no_grad():
        resumed.decoder[0].weight.zero_()  # everything comes from the checkpoint
    fit(tmp_path / "parts", resumed, resume=True, **options)
    assert same_weights(whole, resumed)
    last = ("checkpoints", "00000012.safetensors")
    a, b = (safetensors.torch.load_file(tmp_path.joinpath(run, *last)) for run in ("whole", "parts"))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    logs = [
        [{k: v for k, v in x.items() if not k.endswith("seconds")} for x in read_metrics(tmp_path / r)]
        for r in ("whole", "parts")
    ]
    assert logs[0] == logs[1]


def test_a_run_that_died_before_its_first_checkpoint_begins_anew(tmp_path: Path) -> None:
    training = Training(iterations=6, batch=8, log_every=1, checkpoint_every=100)
    whole = fit(tmp_path / "whole", training=training)
    with pytest.raises(RuntimeError, match="power cut"):
        fit(tmp_path / "parts", training=training, hooks=(crash_after(4),))
    with (tmp_path / "parts" / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 4, "torn')
    assert same_weights(whole, fit(tmp_path / "parts", training=training, resume=True))
    assert [line["iteration"] for line in read_metrics(tmp_path / "parts")] == list(range(1, 7))


def test_what_killed_writers_left_is_removed_on_resume(tmp_path: Path) -> None:
    fit(tmp_path)
    places = ["checkpoints/.00000014.safetensors.a1b2_c3d.tmp", "samples/.00000014.png.abcdefgh.tmp"]
    for place in (*places, ".config.json.abcdefgh.tmp", ".notes.txt.abcdefgh.tmp"):
        (tmp_path / place).write_bytes(b"half")
    fit(tmp_path, resume=True)
    assert [file.name for file in tmp_path.rglob("*.tmp")] == [".notes.txt.abcdefgh.tmp"]


def test_the_log_is_on_disk_before_a_checkpoint_relies_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    real = os.fsync

    def note(descriptor: int) -> None:
        order.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name.strip("."))
        real(descriptor)

    monkeypatch.setattr(_files.os, "fsync", note)
    fit(tmp_path, training=Training(iterations=3, batch=8, log_every=1))
    first = next(i for i, name in enumerate(order) if name.startswith("00000003.safetensors"))
    assert "metrics.jsonl" in order[:first]


def test_a_finished_run_is_left_alone(tmp_path: Path) -> None:
    fit(tmp_path)
    files = ("metrics.jsonl", "checkpoints/00000012.safetensors")
    before = [(tmp_path / file).read_bytes() for file in files]
    fit(tmp_path, resume=True)
    assert [(tmp_path / file).read_bytes() for file in files] == before
    config = (tmp_path / "config.json").read_bytes()
    with pytest.raises(CheckpointError, match="was trained for 12 iterations, more than 8: set iterations to as many"):
        fit(tmp_path, training=dataclasses.replace(SHORT, iterations=8), resume=True)
    assert (tmp_path / "config.json").read_bytes() == config


def test_metrics_after_the_checkpoint_are_written_anew(tmp_path: Path) -> None:
    training = Training(iterations=12, batch=8, log_every=1, checkpoint_every=5)

    def crash(_: nn.Module, done: int) -> dict[str, float]:
        if done == 8:
            raise RuntimeError("power cut")
        return {}

    with pytest.raises(RuntimeError, match="power cut"):
        fit(tmp_path, training=training, hooks=(Hook(1, crash),))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 9, "torn')
    fit(tmp_path, training=training, resume=True)
    assert [line["iteration"] for line in read_metrics(tmp_path)] == list(range(1, 13))


def test_a_finished_run_can_go_on_longer(tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole", training=Training(iterations=20, batch=8))
    fit(tmp_path / "more", training=Training(iterations=12, batch=8))
    more = fit(tmp_path / "more", training=Training(iterations=20, batch=8), resume=True)
    assert same_weights(whole, more)
    assert json.loads((tmp_path / "more" / "config.json").read_text())["training"]["iterations"] == 20
