"""Is it structure? A model trained by SSIM beside one trained by SSIM of images whose pixels stand in another order.

    python studies/locality.py OUTPUT [--budget MINUTES] [--seconds N] [--garments FOLDER]
    cp OUTPUT/locality.csv studies/results && python docs/tables.py

1 - SSIM differs from l2 in two ways: it divides by mean and contrast of a patch, and its patches are of neighbouring
pixels. The arm "permuted" keeps the first and gives up the second: the pixels of both images are put into one random
order, another for each seed, before they are compared. What SSIM brings beyond it is due to where pixels are.

Variational autoencoders, brought to 20 nats, are trained by l2, l1, 1 - SSIM ("ssim"), 1 - SSIM of permuted pixels, and
the mix of MS-SSIM and l1; equal seconds of processor time, five seeds. Images: digits and garments of 28 px, and
photographs of 32 px in colour, split by photograph. Held-out images and their reconstructions at sampled codes have

    ST-LPIPS            the distance as people see it; the endpoints: ssim against permuted, and the mix against l1,
    feature distance    in a network for photographs, which is no judge of these photographs (docs/judges.md),
    PSNR and SSIM       which are what arms were trained on.

Stopped at any time, the same command goes on where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch
from torch import Generator, Tensor

from _autoencoders import carry_out, config, held_out, trained
from ssimgen.data import Source, Splits
from ssimgen.evaluation import efficientnet_lite0, evaluate_reconstructions, st_lpips
from ssimgen.models import VAE
from ssimgen.objectives.reconstruction import Objective

SETS = {"digits": Source("mnist5k"), "photos": Source("photos", size=32)}
ARMS = ("l2", "l1", "ssim", "permuted", "mix")
MEASURES = {"st_lpips": "ST-LPIPS", "feature_distance": "feature distance", "psnr": "PSNR", "ssim": "SSIM"}


class Permuted:
    """An error of images whose pixels stand in an order of this seed."""

    def __init__(self, model: VAE, seed: int) -> None:
        self._error = model.reconstruction
        _, height, width = model.shape
        self._order = torch.randperm(height * width, generator=Generator().manual_seed(seed))

    def __call__(self, y: Tensor, x: Tensor) -> Tensor:
        return self._error(*(z.flatten(2)[..., self._order].view_as(z) for z in (y, x)))


def of_run(splits: Splits, arm: str, seed: int, seconds: float) -> dict[str, float]:
    """What is found of one run."""

    def change(model: VAE) -> None:
        if arm == "permuted":
            model.reconstruction = Permuted(model, seed)  # type: ignore[assignment]

    objective: Objective = arm if arm in get_args(Objective) else "ssim"  # type: ignore[assignment]
    model = trained(config(objective), splits, seed, seconds, change)
    images = held_out(splits)
    again = model.reconstruct_from_samples(images, Generator().manual_seed(0))
    rows = evaluate_reconstructions(images, again, data_range=1.0, network=efficientnet_lite0())
    found = {"kl": float(model.rate(images).mean())}
    for row in rows:
        if row.score.key in MEASURES and row.model is not None:
            found[MEASURES[row.score.key]] = row.model.value
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Carry out the study."""
    st_lpips()  # which says at once if it is not installed
    carry_out(__doc__, "locality.csv", ["kl", *MEASURES.values()], SETS, ARMS, of_run, arguments)


if __name__ == "__main__":
    main()
