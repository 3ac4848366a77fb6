"""Which kernel makes a moment-matching network draw the best digits? The trials behind docs/gmmn-trials.md.

Every trial trains a GMMN on the 4,000 training digits of `mnist5k`: 256 images a batch, Adam with a learning rate that
falls to 0. The judge is not the objective of any of them: a small classifier, trained on the same digits,
whose class scores of 2,000 samples are compared with those of the 1,000 held-out digits by their Frechet distance.

    python studies/gmmn_trials.py OUTPUT [--seed N] [--iterations N] [--rate R] [NAME ...]

adds to OUTPUT/trials.json and writes a grid of samples for each of the trials named, or all.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssimgen import pictures
from ssimgen.data import load_images
from ssimgen.evaluation import frechet_distance, train_classifier
from ssimgen.models.gmmn import GMMN, GMMNConfig
from ssimgen.models.networks import Network
from ssimgen.objectives.moment_matching import LI_2015, PairKernel

BATCH, SAMPLES = 256, 2000

MLP = Network("mlp", hidden=(1024, 256, 256, 64))  # of Li, Swersky and Zemel (2015)
CONV = GMMNConfig().network
SSIM = PairKernel(kind="gaussian", metric="ssim", bandwidths=(0.2, 0.3, 0.5, 0.7, 1.0), scales=(1.0,))
SCALES = (0.5, 1.0, 1.75)
WIDE = (0.4, 0.6, 1.0, 1.4, 2.0)
L2 = replace(SSIM, metric="l2")


def structured(**options: Any) -> PairKernel:
    """Gaussians on D with other windows or constants."""
    return replace(SSIM, structure=replace(SSIM.structure, **options))


TRIALS: dict[str, tuple[PairKernel, Network]] = {
    "pixels, bandwidths of Li 2015": (LI_2015, MLP),
    "ssim": (SSIM, MLP),
    "pixels, bandwidths of Li 2015, convolutional": (LI_2015, CONV),
    "pixels, convolutional": (L2, CONV),
    "ssim, convolutional": (SSIM, CONV),
    "ssim, energy, convolutional": (replace(SSIM, kind="energy"), CONV),
    "ssim, k2 = 0.1": (structured(k2=0.1), CONV),
    "ssim, k2 = 0.3": (structured(k2=0.3), CONV),
    "ssim, k1 = 0.1, k2 = 0.1": (structured(k1=0.1, k2=0.1), CONV),
    "ssim, windows of 4 px": (structured(size=4, stride=2), CONV),
    "ssim, windows of 14 px": (structured(size=14, stride=7), CONV),
    "ssim, windows of 4, 8 and 14 px": (replace(SSIM, scales=SCALES), CONV),
    "ssim, windows of 4, 8 and 14 px, k2 = 0.1": (replace(structured(k2=0.1), scales=SCALES), CONV),
    "ssim, bandwidths twice as wide": (replace(SSIM, bandwidths=WIDE), CONV),
    "ssim, windows of 4, 8 and 14 px, bandwidths twice as wide": (
        replace(SSIM, scales=SCALES, bandwidths=WIDE),
        CONV,
    ),
    "pixels, bandwidths twice as wide": (replace(L2, bandwidths=WIDE), CONV),
    "pixels, bandwidths half as wide": (replace(L2, bandwidths=(0.1, 0.15, 0.25, 0.35, 0.5)), CONV),
    "pixels, energy, convolutional": (replace(L2, kind="energy"), CONV),
}


def train(kernel: PairKernel, network: Network, images: Tensor, iterations: int, rate: float, seed: int) -> GMMN:
    """The model after its last iteration."""
    torch.manual_seed(seed)
    model = GMMN(GMMNConfig(kernel=kernel, network=network), (1, 28, 28))
    optimiser = torch.optim.Adam(model.generator.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, iterations)
    for _ in range(iterations):
        real = images[torch.randint(len(images), (BATCH,))]
        optimiser.zero_grad()
        model.matching(model.generate(BATCH), real).backward()
        optimiser.step()
        schedule.step()
    return model.eval()


def main() -> None:
    """Run the trials named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {list(TRIALS)}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=5e-3)
    chosen = parser.parse_intermixed_args()
    if unknown := [name for name in chosen.names if name not in TRIALS]:
        parser.error(f"unknown trial {unknown[0]!r}: choose from {list(TRIALS)}")
    chosen.output.mkdir(parents=True, exist_ok=True)
    splits = load_images("mnist5k")
    digits, held_out = splits.train.first(len(splits.train)), splits.held_out.first(len(splits.held_out))
    assert digits.labels is not None
    classifier = train_classifier(digits.images, digits.labels, data_range=1.0)
    expected = classifier(held_out.images)
    print(f"real digits: {frechet_distance(classifier(digits.images[:SAMPLES]), expected).value:.2f}")
    results = chosen.output / "trials.json"
    for name in chosen.names or TRIALS:
        begin = time.perf_counter()
        model = train(*TRIALS[name], digits.images, chosen.iterations, chosen.rate, chosen.seed)
        seconds = time.perf_counter() - begin
        samples = model.sample(SAMPLES, torch.Generator().manual_seed(0))
        distance = frechet_distance(classifier(samples), expected).value
        full = f"{name}, {chosen.iterations} iterations at {chosen.rate:g}, seed {chosen.seed}"
        pictures.write(chosen.output / f"{full}.png", pictures.grid(samples[:64]))
        rows = json.loads(results.read_text()) if results.exists() else {}
        rows[full] = {"Frechet distance of class scores": distance, "seconds": seconds}
        results.write_text(json.dumps(rows, indent=1) + "\n")
        print(f"{full}: {distance:.2f}, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
