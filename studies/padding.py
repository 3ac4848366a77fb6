"""What do mirrored borders do to a model that is trained by SSIM? The table in docs/borders-and-colour.md.

    python studies/padding.py OUTPUT [--budget MINUTES] [--seconds N] [--garments FOLDER]
    cp OUTPUT/padding.csv studies/results && python docs/tables.py

Variational autoencoders, brought to 20 nats, are trained by 1 - SSIM with windows inside the image ("valid"), with
mirrored borders ("reflect", "symmetric"), and by l2, which sees all pixels alike; equal seconds of processor time, five
seeds. Images: digits and garments of 28 px, and photographs of 32 and 64 px in colour, split by photograph.

The border is the outermost five pixels, where windows of 11 px that lie inside have no middle. Of the border and of
what is inside, held-out images and their reconstructions at sampled codes have

    rmse      the root mean square difference of their pixels; of the border, the endpoint: reflect against valid,

and samples of the model and held-out images

    energy    the energy distance of their pixels under the Euclidean distance over the root of the number of pixels.

Stopped at any time, the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import cast, get_args

import torch
from torch import Generator, Tensor

from ssimgen.data import Source, Splits, load_images
from ssimgen.discrepancy import energy_distance
from ssimgen.metrics import Euclidean
from ssimgen.models import VAE, VAEConfig, make_model
from ssimgen.models.networks import Network
from ssimgen.models.vae import SUGGESTED_TAU
from ssimgen.objectives.structure import Structure
from ssimgen.training import Optimiser, Training, train
from ssimgen.windows import Padding

SEEDS = range(5)
ARMS = (*get_args(Padding), "l2")
SETS = {
    "digits": Source("mnist5k"),
    "photos 32": Source("photos", size=32),
    "photos 64": Source("photos", size=64),
}
BORDER = 5  # px
IMAGES = 500
HEAD = ["data", "arm", "seed", "seconds", "kl", "rmse border", "rmse inside", "energy border", "energy inside"]

Row = dict[str, str]


def config(arm: str) -> VAEConfig:
    """A variational autoencoder of 20 nats."""
    network = Network(width=16, activation="silu")
    by_l2 = VAEConfig(SUGGESTED_TAU["l2"], latent=32, objective="l2", kl_target=20.0, network=network)
    if arm == "l2":
        return by_l2
    structure = Structure(padding=cast(Padding, arm))
    return replace(by_l2, tau=SUGGESTED_TAU["ssim"], objective="ssim", structure=structure)


def parts(images: Tensor) -> dict[str, Tensor]:
    """Pixels of the border and inside, (B, n)."""
    inside = torch.zeros(images.shape[-2:], dtype=torch.bool)
    inside[BORDER:-BORDER, BORDER:-BORDER] = True
    return {"border": images[..., ~inside].flatten(1), "inside": images[..., inside].flatten(1)}


def energy(x: Tensor, y: Tensor) -> float:
    """Energy distance of two sets of pixels."""
    x, y = (z.double() / z.shape[1] ** 0.5 for z in (x, y))
    metric = Euclidean()
    return energy_distance(metric(x), metric(x, y), metric(y)).item()


def measured(model: VAE, images: Tensor) -> dict[str, float]:
    """The endpoints, and the KL."""
    found = {"kl": float(model.rate(images).mean())}
    again = parts(model.reconstruct_from_samples(images, Generator().manual_seed(0)))
    drawn = parts(model.sample(len(images), Generator().manual_seed(1)))
    for part, real in parts(images).items():
        found[f"rmse {part}"] = float((again[part] - real).square().mean().sqrt())
        found[f"energy {part}"] = energy(drawn[part], real)
    return found


def row_of(data: str, splits: Splits, arm: str, seed: int, seconds: float) -> Row:
    """Of one run."""
    model = make_model(VAE, config(arm), splits.train.shape, seed=seed)
    training = Training(seed=seed, seconds=seconds, picture_every=10**6, checkpoint_every=10**6)
    with tempfile.TemporaryDirectory() as folder:
        schedule = Optimiser(lr=2e-3, schedule="cosine")
        train(model, splits.train, Path(folder) / "run", training=training, optimiser=schedule)
    images = splits.held_out.first(min(IMAGES, len(splits.held_out))).images
    found = {"seconds": seconds, **measured(model.eval(), images)}
    return {"data": data, "arm": arm, "seed": str(seed), **{key: f"{value:.5g}" for key, value in found.items()}}


def finished(path: Path) -> list[Row]:
    """The runs of a file, less one that was torn."""
    text = path.read_text() if path.exists() else ""
    return list(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()))


def runs(sets: Sequence[str]) -> Iterator[tuple[str, str, int]]:
    """Seed by seed, so that a study that is broken off has as many of all."""
    return ((data, arm, seed) for seed, data, arm in product(SEEDS, sets, ARMS))


def main(arguments: Sequence[str] | None = None) -> None:
    """Carry out the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--budget", type=float, default=float("inf"), metavar="MINUTES")
    parser.add_argument("--seconds", type=float, default=45.0, help="of processor time, of every run")
    parser.add_argument("--garments", type=str, metavar="FOLDER", help="IDX files of Fashion-MNIST")
    chosen = parser.parse_args(arguments)
    sets = SETS | ({"garments": Source(chosen.garments, limit=10_000)} if chosen.garments else {})
    load = cache(lambda data: load_images(sets[data]))
    end = time.monotonic() + 60 * chosen.budget
    chosen.output.mkdir(parents=True, exist_ok=True)
    path = chosen.output / "padding.csv"
    rows = finished(path)
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, HEAD, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        done = {(row["data"], row["arm"], row["seed"]) for row in rows}
        for data, arm, seed in runs(list(sets)):
            if (data, arm, str(seed)) in done:
                continue
            if time.monotonic() >= end:
                print("the budget is used; the same command goes on")
                return
            table.writerow(row_of(data, load(data), arm, seed, chosen.seconds))
            file.flush()


if __name__ == "__main__":
    main()
