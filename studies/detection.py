"""Does structure find defects? Autoencoders of textures, trained with four objectives, judged by two residuals.

    python studies/detection.py OUTPUT [--budget MINUTES] [--textures brick ...] [--seeds 0 ...] [--objectives l2 ...]

Textures are those of scikit-image (brick, grass, gravel; 512 x 512 px, grey). Of each, a plain autoencoder learns 2,000
crops of 64 px from the left side, 192 px wide; 100 crops of 128 px from the middle set the threshold. The right side,
192 px wide, has the test images: 40 crops of 128 px as they are, and 40 with a made defect each, ten of a kind, whose
masks are known. Half of all crops are mirrored: on the left side bricks lean to the right, on the right to the left.

scar       a dark or bright curve, 2 to 4 px wide
blob       a grey ellipse with soft edges, darker or brighter than what it lies on
blur       a disc in which the texture is blurred
stripes    a disc in which fine stripes are added

Runs differ by objective, texture and seed, which fixes crops, defects, weights and batches: all objectives of a seed
see the same images. Each run is searched with both residuals, smoothed by the same Gaussian. A row a run, residual and
kind goes to OUTPUT/detection.csv, a picture of one defect of each kind to OUTPUT/pictures. Stopped at any time, by its
budget or by a signal, the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter
from torch import Tensor

from ssimgen import pictures
from ssimgen._files import write_atomically
from ssimgen.data import Images
from ssimgen.detection import AnomalyScores, Detector, conformal_threshold
from ssimgen.evaluation import Bootstrap
from ssimgen.models import PlainAutoencoder, PlainAutoencoderConfig
from ssimgen.models.networks import Network
from ssimgen.training import Interrupted, Optimiser, RunFolder, Training, load_model, make_model, train

TEXTURES = ("brick", "grass", "gravel")
OBJECTIVES = ("l2", "l1", "ssim", "mix")
RESIDUALS = ("l2", "ssim")
KINDS = ("scar", "blob", "blur", "stripes")
SEEDS = (0, 1, 2, 3, 4)
SIDE, TESTED = 64, 128  # of a tile and of a test image, px
TRAINED, GOOD, DEFECTS = 2000, 100, 10  # crops to train on, to set the threshold, and with a defect of each kind
LEFT, MIDDLE, RIGHT = slice(0, 192), slice(192, 320), slice(320, 512)  # columns: of training, threshold and test
RATE = 0.05

Grey = NDArray[np.float64]


@dataclass(frozen=True)
class Defective:
    """An image with a defect of a kind, or of none, and where it is."""

    kind: str
    image: Grey
    mask: NDArray[np.bool_]


def crops(part: Grey, n: int, side: int, rng: np.random.Generator) -> Grey:
    """So many squares from random places of a part of a texture, half of them mirrored: (n, side, side)."""
    tops, lefts = (rng.integers(0, length - side + 1, n) for length in part.shape)
    squares = (part[t : t + side, left : left + side] for t, left in zip(tops, lefts, strict=True))
    return np.stack([square[:, :: rng.choice([-1, 1])] for square in squares])


def scar(image: Grey, rng: np.random.Generator) -> tuple[Grey, NDArray[np.bool_]]:
    """A curve of even brightness."""
    side = len(image)
    at = rng.uniform(0.3, 0.7, 2) * side
    angle, bend, length = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.02), rng.uniform(30, 60)
    line = np.zeros(image.shape, bool)
    for step in np.arange(-length / 2, length / 2, 0.25):
        direction = angle + bend * step / 2
        row, column = np.round(at + step * np.array([np.sin(direction), np.cos(direction)])).astype(int)
        if 0 <= row < side and 0 <= column < side:
            line[row, column] = True
    mask = distance_transform_edt(~line) < rng.choice([1.0, 1.5, 2.1])
    return np.where(mask, np.clip(image.mean() + rng.choice([-0.3, 0.3]), 0, 1), image), mask


def blob(image: Grey, rng: np.random.Generator) -> tuple[Grey, NDArray[np.bool_]]:
    """A soft ellipse that covers what is below it by seven tenths."""
    distance = ellipse(image, rng, 6, 12)
    cover = 0.7 * np.clip((1.3 - distance) / 0.3, 0, 1)
    grey = np.clip(image.mean() + rng.choice([-0.25, 0.25]), 0, 1)
    return (1 - cover) * image + cover * grey, distance < 1.15  # half of the cover


def blur(image: Grey, rng: np.random.Generator) -> tuple[Grey, NDArray[np.bool_]]:
    """An ellipse out of focus."""
    mask = ellipse(image, rng, 12, 18) < 1
    return np.where(mask, gaussian_filter(image, 3), image), mask


def stripes(image: Grey, rng: np.random.Generator) -> tuple[Grey, NDArray[np.bool_]]:
    """An ellipse with stripes of 4 px over the texture, as bright and as dark as each other."""
    mask = ellipse(image, rng, 12, 18) < 1
    rows, columns = np.indices(image.shape)
    angle = rng.uniform(0, np.pi)
    wave = np.sin(2 * np.pi * (np.cos(angle) * rows + np.sin(angle) * columns) / 4)
    return np.where(mask, np.clip(image + 0.12 * wave, 0, 1), image), mask


def ellipse(image: Grey, rng: np.random.Generator, least: float, most: float) -> Grey:
    """How far a pixel is from the middle of a random ellipse, in its half axes, which have `least` to `most` px."""
    rows, columns = np.indices(image.shape)
    row, column = rng.uniform(0.25, 0.75, 2) * image.shape
    a, b = rng.uniform(least, most, 2)
    angle = rng.uniform(0, np.pi)
    u = np.cos(angle) * (rows - row) + np.sin(angle) * (columns - column)
    v = -np.sin(angle) * (rows - row) + np.cos(angle) * (columns - column)
    return np.hypot(u / a, v / b)


MADE = {"scar": scar, "blob": blob, "blur": blur, "stripes": stripes}


def images_of(texture: str, seed: int) -> tuple[Images, Grey, list[Defective]]:
    """Crops to train on, good ones to set the threshold, and test images."""
    whole = getattr(skimage.data, texture)() / 255
    rng = np.random.default_rng([seed, TEXTURES.index(texture)])
    training = crops(whole[:, LEFT], TRAINED, SIDE, rng)
    good = crops(whole[:, MIDDLE], GOOD, TESTED, rng)
    made = []
    for kind in KINDS:
        for image in crops(whole[:, RIGHT], 2 * DEFECTS, TESTED, rng):
            if len(made) % 2:
                made.append(Defective(kind, *MADE[kind](image, rng)))
            else:
                made.append(Defective("", image, np.zeros(image.shape, bool)))
    pixels = torch.from_numpy((255 * training[:, None]).round().astype(np.uint8))
    return Images(pixels, None, f"{texture}, crops of seed {seed}"), good, made


def trained(folder: Path, objective: str, images: Images, iterations: int, seed: int) -> Detector:
    """The autoencoder of a run, which goes on where it was."""
    network = Network("conv", width=16, activation="leaky_relu")
    config = PlainAutoencoderConfig(latent=64, objective=objective, network=network)  # type: ignore[arg-type]
    training = Training(iterations, seed=seed, log_every=100, picture_every=iterations, checkpoint_every=250, keep=1)
    optimiser = Optimiser(lr=2e-3, schedule="cosine")
    model = make_model(PlainAutoencoder, config, images.shape, seed)
    resume = RunFolder(folder).config.exists()
    train(model, images, folder, training=training, optimiser=optimiser, resume=resume)
    return Detector(load_model(folder))


def searched(detector: Detector, good: Grey, made: list[Defective], shown: Path) -> dict[str, dict[str, float]]:
    """By kind of defect, and for all: the numbers of a detector."""
    threshold = conformal_threshold(torch.tensor([detector(tensor(image)).score for image in good]), RATE)
    found = [detector(tensor(case.image)) for case in made]
    rows = {}
    for kind in ("all", *KINDS):
        scores = AnomalyScores(Bootstrap(resamples=1))  # seeds give the intervals
        flagged: dict[bool, list[bool]] = {True: [], False: []}
        for case, seen in zip(made, found, strict=True):
            if kind in ("all", case.kind) or not case.kind:
                scores.add(seen.map, torch.from_numpy(case.mask), seen.score)
                flagged[bool(case.kind)].append(seen.score > threshold)
        rows[kind] = {
            "pixel AUROC": scores.pixel_auroc().value,
            "PRO": scores.pro().value,
            "image AUROC": scores.image_auroc().value,
            "flagged": float(np.mean(flagged[True])),
            "false alarms": float(np.mean(flagged[False])),
        }
    firsts = [next(i for i, case in enumerate(made) if case.kind == kind) for kind in KINDS]
    panels = []
    for i in firsts:
        seen = found[i]
        panels += [tensor(made[i].image), seen.reconstruction, (seen.map / (2 * threshold)).clamp(0, 1)[None]]
        panels += [torch.from_numpy(made[i].mask)[None].float(), (seen.map > threshold)[None].float()]
    shown.parent.mkdir(parents=True, exist_ok=True)
    pictures.write(shown, pictures.grid(torch.stack(panels), columns=5))
    return rows


def tensor(image: Grey) -> Tensor:
    """(1, H, W) in float32."""
    return torch.from_numpy(image).float()[None]


def one_run(output: Path, texture: str, objective: str, seed: int, iterations: int) -> None:
    """Train and search, and leave a file of numbers."""
    begin = time.perf_counter()
    images, good, made = images_of(texture, seed)
    name = f"{texture}-{objective}-{seed}"
    detector = trained(output / "runs" / name, objective, images, iterations, seed)
    rows = []
    for residual in RESIDUALS:
        searching = Detector(detector.model, residual)  # type: ignore[arg-type]
        for kind, numbers in searched(searching, good, made, output / "pictures" / f"{name}-{residual}.png").items():
            about = {"texture": texture, "objective": objective, "residual": residual, "seed": seed, "defects": kind}
            rows.append({**about, "iterations": iterations, **{key: round(v, 5) for key, v in numbers.items()}})
    text = json.dumps(rows, indent=1) + "\n"
    write_atomically(numbers_of(output, texture, objective, seed), lambda file: file.write(text.encode()))
    print(f"{name}: {time.perf_counter() - begin:.0f} s", flush=True)


def numbers_of(output: Path, texture: str, objective: str, seed: int) -> Path:
    """The file of a finished run."""
    return output / "numbers" / f"{texture}-{objective}-{seed}.json"


def table(output: Path) -> None:
    """Gather the numbers of all finished runs in one table."""
    rows: list[dict[str, Any]] = [
        row for path in sorted((output / "numbers").glob("*.json")) for row in json.loads(path.read_text())
    ]
    with (output / "detection.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def runs(chosen: argparse.Namespace) -> Iterator[tuple[str, str, int]]:
    """Seed by seed, so that whatever is finished compares objectives."""
    for seed, texture, objective in product(chosen.seeds, chosen.textures, chosen.objectives):
        if not numbers_of(chosen.output, texture, objective, seed).exists():
            yield texture, objective, seed


def main() -> None:
    """Carry out the runs that are not finished, until the budget is used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--budget", type=float, default=float("inf"), metavar="MINUTES")
    parser.add_argument("--textures", nargs="+", choices=TEXTURES, default=TEXTURES)
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, default=OBJECTIVES)
    parser.add_argument("--seeds", nargs="+", type=int, choices=SEEDS, default=SEEDS)
    parser.add_argument("--iterations", type=int, default=1500)
    chosen = parser.parse_args()
    end = time.monotonic() + 60 * chosen.budget
    (chosen.output / "numbers").mkdir(parents=True, exist_ok=True)
    for run in runs(chosen):
        if time.monotonic() > end:
            print("the budget is used; the same command goes on")
            break
        try:
            one_run(chosen.output, *run, chosen.iterations)
        except Interrupted as stop:
            print(f"{stop}; the same command goes on")
            break
        table(chosen.output)


if __name__ == "__main__":
    main()
