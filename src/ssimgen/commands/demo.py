"""The command `ssimgen demo`: one VAE, trained with l2 and with SSIM on the same digits at the same settings."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.console import Console
from rich.table import Table
from tyro.conf import arg

from ssimgen._files import writable_folder, write_atomically
from ssimgen._options import from_mapping
from ssimgen.commands.common import command, ended
from ssimgen.scores import METRICS

if TYPE_CHECKING:
    from torch import Tensor

    from ssimgen.data import Images
    from ssimgen.models import VAE
    from ssimgen.objectives.reconstruction import Objective

OBJECTIVES: tuple[Objective, ...] = ("l2", "ssim")
"""Trained at their suggested temperatures, which give about equal KL: models are compared at equal rate."""

EVALUATION = {"images": 300, "resolution": 64, "tested": 200, "permutations": 199}
"""Of the report."""


@command
def demo(*, output: Annotated[Path, arg(aliases=("-o",))] = Path("demo"), iterations: int = 3000, seed: int = 0) -> int:
    """Train a VAE on digits with l2 and with SSIM, and show the difference.

    Args:
        output: folder for picture, table and runs; an earlier demo in it is replaced.
        iterations: batches of 64 digits, for each of the two.
        seed: fixes weights, batches and noise.
    """
    return ended(partial(run, output, iterations=iterations, seed=seed), "the same command begins anew")


def run(folder: Path, *, iterations: int, seed: int) -> None:
    """Train, judge on held-out digits, and leave a picture, a table, a report and the runs in `folder`."""
    from ssimgen.data import Source, load_images
    from ssimgen.models import VAE, VAEConfig, make_model
    from ssimgen.models.networks import Network
    from ssimgen.models.vae import SUGGESTED_TAU
    from ssimgen.report import write_report
    from ssimgen.runs import EvaluationOptions, evaluate_run
    from ssimgen.training import Optimiser, Training, train

    training = Training(iterations=iterations, seed=seed, picture_every=iterations, checkpoint_every=iterations)
    writable_folder(folder)
    digits = load_images("mnist5k")
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
    _write_picture(folder / "demo.png", originals, models, seed)
    print("evaluating both for the report")
    paths = [folder / "runs" / objective for objective in OBJECTIVES]
    for path in paths:
        evaluate_run(path, from_mapping(EvaluationOptions, EVALUATION), splits=digits)
    report = write_report(paths, folder / "report", title="VAE on digits, with l2 and with SSIM", baseline="l2")
    print(f"picture, table and runs are in {folder}/, the report is {report}")


def judge(model: VAE, images: Images) -> dict[str, float]:
    """Means over `images`: quality of reconstructions, and the loss terms."""
    import torch

    from ssimgen import ms_ssim, ssim
    from ssimgen.evaluation import psnr

    sums: dict[str, float] = {}
    torch.manual_seed(0)  # the noise of the loss terms
    for i in range(0, len(images), 250):
        batch = images.select(slice(i, i + 250))
        with torch.no_grad():
            x, y, terms = batch.images, model.reconstruct(batch.images), model.terms(batch)
        values = {
            METRICS["psnr"].label: psnr(y, x, data_range=1.0).mean(),
            METRICS["ssim"].label: ssim(y, x, data_range=1.0).mean(),
            METRICS["ms_ssim"].label: ms_ssim(y, x, data_range=1.0).mean(),
            **{f"loss term: {name}": term for name, term in terms.items()},
        }
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + value.item() * len(x)
    return {name: total / len(images) for name, total in sums.items()}


def _clear(path: Path) -> None:
    """Remove the run of an earlier demonstration, and nothing that is not a run."""
    from ssimgen.runs import RunFolder

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


def _write_picture(path: Path, originals: Tensor, models: Mapping[str, VAE], seed: int) -> None:
    """Above: originals and reconstructions, a row each; below: samples, side by side."""
    import torch
    from matplotlib.figure import Figure

    from ssimgen import pictures

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
