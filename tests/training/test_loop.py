"""The training loop on a toy model: what it logs, draws and leaves in the run folder."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from toys import Toy, fit, images, same_weights

from ssimgen import pictures
from ssimgen.training import Hardware, Hook, Optimiser, Training, read_metrics, train


def test_a_run_folder_holds_configuration_metrics_pictures_and_the_latest_checkpoints(tmp_path: Path) -> None:
    data = images()
    fit(tmp_path, data=data)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model"] == "toy"
    assert config["shape"] == [1, 4, 4]
    assert config["config"]["latent"] == 3
    assert config["training"]["iterations"] == 12
    assert config["data"] == {"source": "noise", "images": 40, "classes": 4, "hash": data.digest}
    assert config["versions"]["torch"] == torch.__version__
    assert [line["iteration"] for line in read_metrics(tmp_path)] == [4, 8, 12]
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [
        "00000010.safetensors",
        "00000012.safetensors",
    ]
    for kind, size in (("samples", (8 * 6 + 2, 8 * 6 + 2)), ("reconstructions", (8 * 6 + 2, 8 * 6 + 2))):
        files = sorted((tmp_path / kind).iterdir())
        assert [p.name for p in files] == ["00000006.png", "00000012.png"]
        assert pictures.read(files[0]).shape == (1, *size)


def test_lines_of_the_log_are_means_since_the_last(tmp_path: Path) -> None:
    every = Training(iterations=8, batch=8, log_every=1)
    fit(tmp_path / "every", training=every)
    fit(tmp_path / "fourth", training=Training(iterations=8, batch=8, log_every=4))
    each = [line["autoencoder/error"] for line in read_metrics(tmp_path / "every")]
    means = [line["autoencoder/error"] for line in read_metrics(tmp_path / "fourth")]
    assert means == pytest.approx([np.mean(each[:4]), np.mean(each[4:])])


def test_terms_fall(tmp_path: Path) -> None:
    fit(tmp_path, training=Training(iterations=200, batch=8), optimiser=Optimiser(lr=0.01))
    lines = read_metrics(tmp_path)
    assert lines[-1]["autoencoder/error"] < 0.9 * lines[0]["autoencoder/error"]


def test_hooks_are_logged_and_change_nothing(tmp_path: Path) -> None:
    plain = fit(tmp_path / "plain")

    def meddle(model: nn.Module, iteration: int) -> dict[str, float]:
        assert not model.training
        assert not torch.is_grad_enabled()
        torch.rand(100)
        return {"score": float(iteration)}

    hooked = fit(tmp_path / "hooked", hooks=(Hook(5, meddle),))
    assert same_weights(plain, hooked)
    scores = [(line["iteration"], line["score"]) for line in read_metrics(tmp_path / "hooked") if "score" in line]
    assert scores == [(5, 5.0), (10, 10.0), (12, 12.0)]


def test_the_callers_random_numbers_are_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    model = Toy()
    torch.manual_seed(5)
    fit(tmp_path, model)
    assert torch.equal(torch.rand(3), expected)


def test_mixed_precision_trains_and_resumes(tmp_path: Path) -> None:
    hardware = Hardware(accelerator="cpu", precision="bf16-mixed")
    for iterations, resume in ((4, False), (8, True)):
        model, training = Toy(), Training(iterations=iterations, batch=8, log_every=1)
        train(model, images(), tmp_path, training=training, hardware=hardware, resume=resume)
    assert model.decoder[0].weight.dtype == torch.float32
    assert all(np.isfinite(line["autoencoder/error"]) for line in read_metrics(tmp_path))
    whole = Toy()
    train(whole, images(), tmp_path / "whole", training=Training(iterations=8, batch=8), hardware=hardware)
    assert same_weights(whole, model)


def test_seeds_give_different_runs(tmp_path: Path) -> None:
    a = fit(tmp_path / "a", training=Training(iterations=2, batch=8, seed=0))
    b = fit(tmp_path / "b", training=Training(iterations=2, batch=8, seed=1))
    c = fit(tmp_path / "c", training=Training(iterations=2, batch=8, seed=1))
    assert not same_weights(a, b)
    assert same_weights(b, c)
