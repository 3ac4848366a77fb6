"""Checkpoints, configurations and logs that are damaged, or of other runs, are refused by name."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from toys import Toy, ToyConfig, crash_after, fit, latest, same_weights

from ssimgen.models import MODELS
from ssimgen.runs import checkpoints
from ssimgen.runs.checkpoints import Checkpoint
from ssimgen.training import CheckpointError, Training, load_model, read_metrics


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    fit(tmp_path)
    path = latest(tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"00000012.safetensors is not a checkpoint, or is truncated or damaged"):
        fit(tmp_path, resume=True)


def written_again(path: Path, sign: bool = True, **changes: Any) -> Path:
    """A checkpoint with other entries in its header, with the right checksum or, as of old, without."""
    checkpoint = checkpoints.load(path)
    changed = Checkpoint(checkpoint.tensors, {**checkpoint.about, **changes})
    if sign:
        checkpoints.save(path, changed)
    else:
        about = json.dumps({"format": checkpoints.FORMAT, **changed.about})
        safetensors.torch.save_file(dict(changed.tensors), path, metadata={"ssimgen": about})
    return path


def test_every_byte_of_a_checkpoint_counts(tmp_path: Path) -> None:
    fit(tmp_path)
    path = latest(tmp_path)
    sound = path.read_bytes()
    header = int.from_bytes(sound[:8], "little") + 8
    for at in [*range(0, header, 7), *range(header, len(sound), 23), len(sound) - 1]:
        for bit in (0, 5):
            content = bytearray(sound)
            content[at] ^= 1 << bit
            path.write_bytes(content)
            with pytest.raises(CheckpointError, match=r"00000012\.safetensors .*: remove it to go on from 00000010"):
                checkpoints.load(path)
    path.unlink()
    assert same_weights(fit(tmp_path, resume=True), fit(tmp_path / "whole"))


def test_checkpoints_of_earlier_versions_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "toy", (Toy, ToyConfig))
    model = fit(tmp_path)
    written_again(latest(tmp_path), sign=False, log=None)
    assert same_weights(model, load_model(tmp_path))
    fit(tmp_path, resume=True)


@pytest.mark.parametrize("sign", [True, False])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, sign: bool) -> None:
    fit(tmp_path)
    path = latest(tmp_path)
    checkpoints.load(path).tensors["model.critic.2.weight"][0, 3] = float("nan")  # not the file's
    tensors = {**checkpoints.load(path).tensors}
    tensors["model.critic.2.weight"] = torch.full((1, 16), float("nan"))
    checkpoints.save(path, Checkpoint(tensors, checkpoints.load(path).about))
    with pytest.raises(CheckpointError, match=r"12\.safetensors is of no use: model\.critic\.2\.weight is not finite"):
        fit(tmp_path, resume=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"iteration": "12"}, "option iteration must be a whole number, got '12'"),
        ({"iteration": 12.0}, r"option iteration must be a whole number, got 12\.0"),
        ({"iteration": True}, "option iteration must be a whole number, got True"),
        ({"iteration": 10**9}, "is not the checkpoint that it is called: its header says iteration 1000000000"),
        ({"iteration": -1}, "iteration is -1"),
        ({"seconds": None}, "option seconds must be a number, got None"),
        ({"seconds": float("nan")}, "seconds is nan"),
        ({"seconds": 10**400}, "option seconds must be a number"),
        ({"shape": "abc"}, "option shape must be"),
        ({"shape": [1, 4, 0]}, r"shape is \[1, 4, 0\]"),
        ({"config": []}, "option config must be"),
        ({"sums": {"totals": 1, "counts": {}}}, r"option sums\.totals must be"),
        ({"sums": {"totals": {"a": 1.0}, "counts": {"a": 0}}}, "sums do not have a count for each total"),
        ({"precision": "x"}, "option precision must be"),
        ({"model": 3}, "option model must be a text, got 3"),
        ({"more": 3}, "unknown option more"),
    ],
)
@pytest.mark.parametrize("sign", [True, False])
def test_headers_that_cannot_be_are_refused(tmp_path: Path, changes: dict[str, Any], message: str, sign: bool) -> None:
    fit(tmp_path, training=Training(iterations=12, batch=8, checkpoint_every=10))
    written_again(latest(tmp_path), sign, **changes)
    for read in (load_model, lambda folder: fit(folder, resume=True)):
        with pytest.raises(CheckpointError, match=message) as refused:
            read(tmp_path)
        assert "00000012.safetensors" in str(refused.value)
        assert "remove it to go on from 00000010.safetensors" in str(refused.value)


def test_stray_checkpoints_are_refused_and_other_files_no_matter(tmp_path: Path) -> None:
    fit(tmp_path)
    for name in ("1.safetensors", "9-mine.safetensors", "123456789.safetensors"):
        (tmp_path / "checkpoints" / name).write_bytes(b"")
    fit(tmp_path, resume=True)
    stray = tmp_path / "checkpoints" / "99999999.safetensors"
    stray.write_bytes((tmp_path / "checkpoints" / "00000012.safetensors").read_bytes())
    with pytest.raises(
        CheckpointError, match=r"99999999\.safetensors is not the checkpoint .*: remove it to go on from"
    ):
        fit(tmp_path, resume=True)
    stray.unlink()
    fit(tmp_path, resume=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": None}, "'training' is None, not a table: train the run again"),
        ({"hardware": "gpu"}, "'hardware' is 'gpu', not a table: train the run again"),
        ({"optimiser": {"lr": "fast"}}, r"option optimiser\.lr must be a number, got 'fast'"),
        ({"training": {"iteration": 3}}, r"it has no 'training\.seed'"),
        ({"shape": [1, 4]}, "option shape must be"),
        (
            {"training": {"seed": 1, "iterations": 2, "iteration": 3}},
            r"unknown option training\.iteration: did you mean",
        ),
        ({"data": {"source": "noise"}}, r"it has no 'data\.images'"),
        ({"config": {"latent": 4, "every": 1}}, "its content does not have its checksum: restore it"),
    ],
)
def test_a_damaged_configuration_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    fit(tmp_path)
    path = tmp_path / "config.json"
    sound = path.read_text()
    path.write_text(json.dumps({**json.loads(sound), **changes}))
    with pytest.raises(ValueError, match=f"config.json is damaged: {message}"):
        fit(tmp_path, resume=True)
    path.write_text(sound)
    fit(tmp_path, resume=True)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda lines: [*lines[:2], "{}", *lines[2:]],
            r"metrics.jsonl is damaged: line 3 is '\{\}' \(it has no 'iteration'\): restore it, or remove",
        ),
        (
            lambda lines: [*lines[:2], "[" * 99999, *lines[2:]],
            r"metrics.jsonl is damaged: line 3 is '\[.*\(nested too deep",
        ),
        (
            lambda lines: [*lines[:2], '{"iteration": "3"}'],
            r"metrics.jsonl is damaged: line 3 is .*'iteration' is '3', not a whole number",
        ),
        (
            lambda lines: [*lines[:2], *lines[3:]],
            "metrics.jsonl is damaged: its lines up to iteration 10 are not those",
        ),
        (
            lambda lines: [*lines[:2], *lines[1:]],
            "metrics.jsonl is damaged: its lines up to iteration 10 are not those",
        ),
        (lambda lines: [], "metrics.jsonl is damaged: its lines up to iteration 10 are not those"),
    ],
    ids=["empty object", "nested", "type", "lost", "doubled", "emptied"],
)
def test_a_damaged_log_is_named(tmp_path: Path, damage: Any, message: str) -> None:
    training = Training(iterations=12, batch=8, log_every=1, checkpoint_every=5)
    with pytest.raises(RuntimeError, match="power cut"):
        fit(tmp_path, training=training, hooks=(crash_after(12),))
    log = tmp_path / "metrics.jsonl"
    lines = log.read_text().splitlines()
    log.write_text("".join(f"{line}\n" for line in damage(lines)))
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, training=training, resume=True)
    log.unlink()  # the remedy
    fit(tmp_path, training=training, resume=True)
    assert [line["iteration"] for line in read_metrics(tmp_path)] == [11, 12]
    fit(tmp_path, training=dataclasses.replace(training, iterations=13), resume=True)


def test_a_pickle_is_not_executed(tmp_path: Path) -> None:
    fit(tmp_path)
    torch.save({"model": torch.zeros(1)}, latest(tmp_path))
    with pytest.raises(CheckpointError, match="is not a checkpoint, or is truncated or damaged"):
        load_model(tmp_path)


def test_checkpoints_of_other_models_and_formats_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit(tmp_path / "a")
    fit(tmp_path / "b", Toy(ToyConfig(latent=5)))
    latest(tmp_path / "a").write_bytes(latest(tmp_path / "b").read_bytes())
    with pytest.raises(CheckpointError, match=r"is of another run: it has config.latent = 5, not 3"):
        fit(tmp_path / "a", resume=True)
    with pytest.raises(CheckpointError, match="is of a model 'toy'"):
        load_model(tmp_path / "b")
    safetensors.torch.save_file({"a": torch.zeros(1)}, latest(tmp_path / "a"))
    with pytest.raises(CheckpointError, match="is a safetensors file, but not a checkpoint of ssimgen"):
        load_model(tmp_path / "a")
    monkeypatch.setattr("ssimgen.runs.checkpoints.FORMAT", 2)
    with pytest.raises(CheckpointError, match=r"has checkpoint format 1, this version of ssimgen reads 2"):
        load_model(tmp_path / "b")


def test_loaded_models_are_the_trained_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "toy", (Toy, ToyConfig))
    model = fit(tmp_path / "plain")
    loaded = load_model(tmp_path / "plain")
    assert same_weights(model, loaded)
    assert not loaded.training
    assert same_weights(loaded, load_model(latest(tmp_path / "plain")))
    averaged = fit(tmp_path / "averaged", training=Training(iterations=12, batch=8, ema=0.9))
    loaded = load_model(tmp_path / "averaged")
    assert torch.equal(loaded.encoder[1].weight, averaged.encoder[1].weight)
    assert not torch.equal(loaded.decoder[0].weight, averaged.decoder[0].weight)
