"""Which kernel makes a moment-matching network draw the best digits? The trials behind docs/gmmn-trials.md.

Every trial trains a GMMN on the 4,000 training digits of `mnist5k`: 256 images a batch, Adam with a learning rate that
falls from 1e-3 (or as named) to 0. The judge is not the objective of any of them: a small classifier, trained on the
same digits, whose class scores of 2,000 samples are compared with those of the 1,000 held-out digits by their Frechet
distance. `python studies/gmmn_trials.py OUTPUT SEED [NAME ...]` adds to OUTPUT/trials.json and writes OUTPUT/NAME.png.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ssimgen import pictures
from ssimgen.data import load_images
from ssimgen.evaluation import frechet_distance, train_classifier
from ssimgen.models.gmmn import GMMN, GMMNConfig
from ssimgen.networks import Network
from ssimgen.objectives.moment_matching import LI_2015, PairKernel

ITERATIONS, BATCH, SAMPLES = 1000, 256, 2000

MLP = Network("mlp", hidden=(1024, 256, 256, 64))  # of Li, Swersky and Zemel (2015)
CONV = GMMNConfig().network
SSIM = PairKernel(kind="gaussian", metric="ssim", bandwidths=(0.2, 0.3, 0.5, 0.7, 1.0))
L2 = replace(SSIM, metric="l2")


TRIALS: dict[str, tuple[PairKernel, Network, float]] = {
    "pixels, bandwidths of Li 2015": (LI_2015, MLP, 1e-3),
    "ssim": (SSIM, MLP, 1e-3),
    "pixels, bandwidths of Li 2015, convolutional": (LI_2015, CONV, 1e-3),
    "pixels, convolutional": (L2, CONV, 1e-3),
    "ssim, convolutional": (SSIM, CONV, 1e-3),
    "ssim, energy, convolutional": (replace(SSIM, kind="energy"), CONV, 1e-3),
}


def train(kernel: PairKernel, network: Network, lr: float, images: Tensor, seed: int) -> GMMN:
    """The model after its last iteration."""
    torch.manual_seed(seed)
    model = GMMN(GMMNConfig(kernel=kernel, network=network), (1, 28, 28))
    optimiser = torch.optim.Adam(model.generator.parameters(), lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, ITERATIONS)
    for _ in range(ITERATIONS):
        real = images[torch.randint(len(images), (BATCH,))]
        optimiser.zero_grad()
        model.matching(model.generate(BATCH), real).backward()
        optimiser.step()
        schedule.step()
    return model.eval()


def main() -> None:
    """Run the trials named, or all."""
    output, seed = Path(sys.argv[1]), int(sys.argv[2])
    output.mkdir(parents=True, exist_ok=True)
    splits = load_images("mnist5k")
    digits, held_out = splits.train.first(len(splits.train)), splits.held_out.first(len(splits.held_out))
    assert digits.labels is not None
    classifier = train_classifier(digits.images, digits.labels, data_range=1.0)
    expected = classifier(held_out.images)
    for name in sys.argv[3:] or TRIALS:
        begin = time.perf_counter()
        model = train(*TRIALS[name], digits.images, seed)
        seconds = time.perf_counter() - begin
        samples = model.sample(SAMPLES, torch.Generator().manual_seed(0))
        distance = frechet_distance(classifier(samples), expected).value
        pictures.write(output / f"{name}, seed {seed}.png", pictures.grid(samples[:64]))
        results = output / "trials.json"
        rows = json.loads(results.read_text()) if results.exists() else {}
        rows[f"{name}, seed {seed}"] = {"Frechet distance of class scores": distance, "seconds": seconds}
        results.write_text(json.dumps(rows, indent=1) + "\n")
        print(f"{name}: {distance:.2f}, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
