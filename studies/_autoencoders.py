"""What studies of autoencoders share: one network, brought to one rate, trained for equal seconds, and a table that
goes on where it was."""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache
from itertools import product
from pathlib import Path

from torch import Tensor

from ssimgen.data import Source, Splits, load_images
from ssimgen.models import VAE, VAEConfig, make_model
from ssimgen.models.networks import Network
from ssimgen.models.vae import SUGGESTED_TAU
from ssimgen.objectives.reconstruction import Objective
from ssimgen.training import Optimiser, Training, train

SEEDS = range(5)
IMAGES = 500

Row = dict[str, str]
Measured = Callable[[Splits, str, int, float], dict[str, float]]
"""(images, arm, seed, seconds) -> what was found."""


def config(objective: Objective) -> VAEConfig:
    """A variational autoencoder of 20 nats."""
    network = Network(width=16, activation="silu")
    return VAEConfig(SUGGESTED_TAU[objective], latent=32, objective=objective, kl_target=20.0, network=network)


def trained(
    config: VAEConfig, splits: Splits, seed: int, seconds: float, change: Callable[[VAE], None] = lambda _: None
) -> VAE:
    """The model, changed before it is trained for so many seconds of processor time."""
    model = make_model(VAE, config, splits.train.shape, seed=seed)
    change(model)
    training = Training(seed=seed, seconds=seconds, picture_every=10**6, checkpoint_every=10**6)
    with tempfile.TemporaryDirectory() as folder:
        schedule = Optimiser(lr=2e-3, schedule="cosine")
        train(model, splits.train, Path(folder) / "run", training=training, optimiser=schedule)
    return model.eval()


def held_out(splits: Splits) -> Tensor:
    """Images to measure by."""
    return splits.held_out.first(min(IMAGES, len(splits.held_out))).images


def carry_out(
    description: str | None,
    file: str,
    columns: Sequence[str],
    sets: dict[str, Source],
    arms: Sequence[str],
    measured: Measured,
    arguments: Sequence[str] | None,
) -> None:
    """The command of a study: OUTPUT/file, with a line for each set of images, arm and seed.

    Seed by seed, so that a study that is broken off has as many of all.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--budget", type=float, default=float("inf"), metavar="MINUTES")
    parser.add_argument("--seconds", type=float, default=45.0, help="of processor time, of every run")
    parser.add_argument("--garments", type=str, metavar="FOLDER", help="IDX files of Fashion-MNIST")
    chosen = parser.parse_args(arguments)
    sets |= {"garments": Source(chosen.garments, limit=10_000)} if chosen.garments else {}
    load = cache(lambda data: load_images(sets[data]))
    end = time.monotonic() + 60 * chosen.budget
    chosen.output.mkdir(parents=True, exist_ok=True)
    path = chosen.output / file
    rows = finished(path)
    with path.open("w", newline="") as opened:
        table = csv.DictWriter(opened, ["data", "arm", "seed", "seconds", *columns], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        opened.flush()  # at once: whoever is killed in the first run keeps what was there
        done = {(row["data"], row["arm"], row["seed"]) for row in rows}
        for seed, data, arm in product(SEEDS, sets, arms):
            if (data, arm, str(seed)) in done:
                continue
            if time.monotonic() >= end:
                print("the budget is used; the same command goes on")
                return
            found = measured(load(data), arm, seed, chosen.seconds)
            numbers = {key: f"{value:.5g}" for key, value in {"seconds": chosen.seconds, **found}.items()}
            table.writerow({"data": data, "arm": arm, "seed": str(seed), **numbers})
            opened.flush()


def finished(path: Path) -> list[Row]:
    """The runs of a file, less one that was torn."""
    text = path.read_text() if path.exists() else ""
    return list(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()))
