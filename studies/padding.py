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

from collections.abc import Sequence
from dataclasses import replace
from typing import cast, get_args

import torch
from torch import Generator, Tensor

from _autoencoders import carry_out, config, held_out, trained
from ssimgen.data import Source, Splits
from ssimgen.discrepancy import energy_distance
from ssimgen.metrics import Euclidean
from ssimgen.models import VAE, VAEConfig
from ssimgen.objectives.structure import Structure
from ssimgen.windows import Padding

ARMS = (*get_args(Padding), "l2")
SETS = {
    "digits": Source("mnist5k"),
    "photos 32": Source("photos", size=32),
    "photos 64": Source("photos", size=64),
}
BORDER = 5  # px
COLUMNS = ["kl", "rmse border", "rmse inside", "energy border", "energy inside"]


def config_of(arm: str) -> VAEConfig:
    """What an arm is trained by."""
    return config("l2") if arm == "l2" else replace(config("ssim"), structure=Structure(padding=cast(Padding, arm)))


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


def of_run(splits: Splits, arm: str, seed: int, seconds: float) -> dict[str, float]:
    """What is found of one run."""
    return measured(trained(config_of(arm), splits, seed, seconds), held_out(splits))


def main(arguments: Sequence[str] | None = None) -> None:
    """Carry out the study."""
    carry_out(__doc__, "padding.csv", COLUMNS, SETS, ARMS, of_run, arguments)


if __name__ == "__main__":
    main()
