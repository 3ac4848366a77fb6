"""The demonstration: one VAE, trained with l2 and with SSIM on the same digits at the same settings."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ssimgen import pictures
from ssimgen._files import writable_folder, write_atomically
from ssimgen.data import Images, Source, load_images
from ssimgen.evaluation.reconstruction import psnr
from ssimgen.models import VAE, VAEConfig
from ssimgen.models.vae import SUGGESTED_TAU
from ssimgen.networks import Network
from ssimgen.objectives.reconstruction import Objective
from ssimgen.report import write_report
from ssimgen.run_evaluation import EvaluationOptions, evaluate_run
from ssimgen.similarity import ms_ssim, ssim
from ssimgen.training import Optimiser, RunFolder, Training, make_model, train

OBJECTIVES: tuple[Objective, ...] = ("l2", "ssim")
"""Trained at their suggested temperatures, which give about equal KL: models are compared at equal rate."""


EVALUATION = EvaluationOptions(images=300, resolution=64, tested=200, permutations=199)
"""Of the report."""


def run(folder: Path, *, iterations: int, seed: int) -> None:
    """Train, judge on held-out digits, and leave a picture, a table, a report and the runs in `folder`."""
    writable_folder(folder)
    digits = load_images("mnist5k")
    training = Training(iterations=iterations, seed=seed, picture_every=iterations, checkpoint_every=iterations)
    models: dict[str, VAE] = {}
    for objective in OBJECTIVES:
        path = folder / "runs" / objective
        _clear(path)
        tau = SUGGESTED_TAU[objective]
        config = VAEConfig(tau, objective=objective, network=Network("conv", width=16, activation="silu"))
        models[objective] = make_model(VAE, config, digits.train.shape, seed)
        print(f"VAE with {objective}, tau {tau:g}:")
        train(
            models[objective],
            digits.train,
            path,
            training=training,
            optimiser=Optimiser(lr=2e-3, schedule="cosine"),
            held_out=digits.held_out,
            notes={"source": dataclasses.asdict(Source("mnist5k"))},
        )
        models[objective].eval()
    rows = {objective: judge(model, digits.held_out) for objective, model in models.items()}
    _write_table(folder, rows)
    originals = digits.held_out.first(10).images
    _draw(folder / "demo.png", originals, models, seed)
    print("evaluating both for the report")
    paths = [folder / "runs" / objective for objective in OBJECTIVES]
    for path in paths:
        evaluate_run(path, EVALUATION, splits=digits)
    report = write_report(paths, folder / "report", title="VAE on digits, with l2 and with SSIM", baseline="l2")
    print(f"picture, table and runs are in {folder}/, the report is {report}")


@torch.no_grad()
def judge(model: VAE, images: Images) -> dict[str, float]:
    """Means over `images`: quality of reconstructions, and the loss terms."""
    sums: dict[str, float] = {}
    torch.manual_seed(0)  # the noise of the loss terms
    for i in range(0, len(images), 250):
        batch = images.select(slice(i, i + 250))
        x, y = batch.images, model.reconstruct(batch.images)
        values = {
            "PSNR (dB)": psnr(y, x, data_range=1.0).mean(),
            "SSIM": ssim(y, x, data_range=1.0).mean(),
            "MS-SSIM": ms_ssim(y, x, data_range=1.0).mean(),
            **{f"loss term: {name}": term for name, term in model.terms(batch).items()},
        }
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + value.item() * len(x)
    return {name: total / len(images) for name, total in sums.items()}


def _clear(path: Path) -> None:
    """Remove the run of an earlier demonstration, and nothing that is not a run."""
    if RunFolder(path).config.exists():
        shutil.rmtree(path)


def _write_table(folder: Path, rows: Mapping[str, Mapping[str, float]]) -> None:
    table = Table(title="1,000 held-out digits")
    table.add_column("trained with")
    for name in next(iter(rows.values())):
        table.add_column(name, justify="right")
    for objective, row in rows.items():
        table.add_row(objective, *(f"{value:.4g}" for value in row.values()))
    Console().print(table)
    text = io.StringIO()
    Console(file=text, width=120).print(table)
    write_atomically(folder / "table.txt", lambda file: file.write(text.getvalue().encode()))
    content = json.dumps(rows, indent=2) + "\n"
    write_atomically(folder / "table.json", lambda file: file.write(content.encode()))


def _draw(path: Path, originals: Tensor, models: Mapping[str, VAE], seed: int) -> None:
    """Above: originals and reconstructions, a row each; below: samples, side by side."""
    from matplotlib.figure import Figure

    rows = {"originals": originals} | {f"reconstructed, {name}": m.reconstruct(originals) for name, m in models.items()}
    samples = {name: model.sample(50, torch.Generator().manual_seed(seed)) for name, model in models.items()}
    figure = Figure(figsize=(10, 6.3), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(3.5, 2.8))
    upper, lower = parts
    for axis, (name, images) in zip(upper.subplots(len(rows), 1), rows.items(), strict=True):
        _show(axis, pictures.grid(images, len(images)), name)
    for axis, (name, images) in zip(lower.subplots(1, len(samples)), samples.items(), strict=True):
        _show(axis, pictures.grid(images, 10), f"samples, {name}")
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=130))


def _show(axis: Any, image: Tensor, title: str) -> None:
    axis.imshow(image[0].numpy(), cmap="gray", vmin=0, vmax=1)
    axis.set_title(title, loc="left")
    axis.set_axis_off()
