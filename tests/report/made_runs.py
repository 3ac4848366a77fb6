"""Run folders made by hand, small and quick to write, whose every number is known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

NETWORK = "coarse pixels"
KL, PSNR, SSIM = "KL, nats", "PSNR, dB", "SSIM"
DISTANCE, FRECHET = f"feature distance ({NETWORK})", f"Frechet distance ({NETWORK})"
KERNEL = f"kernel distance ({NETWORK})"

_BETTER = {
    KL: "lower", PSNR: "higher", SSIM: "higher", DISTANCE: "lower", FRECHET: "lower", KERNEL: "lower",
    "sharpness": "reference", "feature distance (EfficientNet-Lite0, 64 px)": "lower", "MS-SSIM": "higher",
    "Parzen log-likelihood, nats": "higher",
}  # fmt: skip


def row(metric: str, value: float | None) -> dict[str, Any]:
    """A row of evaluation.json with an interval of +- 10% and a reference of 0.5."""
    kind = "rate" if metric == KL else "samples" if metric in (FRECHET, KERNEL) else "reconstruction"
    reference = None if metric == KL else 0.5
    return {
        "kind": kind,
        "metric": metric,
        "value": value,
        "low": None if value is None else 0.9 * value,
        "high": None if value is None else 1.1 * value,
        "reference": reference,
        "reference_low": reference,
        "reference_high": reference,
        "n": 100,
        "better": _BETTER[metric],
        "note": "",
    }


def judge(metric: str, *, passed: bool = True, mean_image: float = 50.0) -> dict[str, Any]:
    """A check of a judge that ranked real images and the mean image, as it must or not."""
    rungs = [{"name": "real images", "value": 0.0, "low": 0.0, "high": 0.0}]
    rungs += [{"name": "mean image", "value": mean_image, "low": mean_image, "high": mean_image}]
    note = "" if passed else "it does not rank real images (0) before mean image (0)"
    return {
        "kind": "reconstruction" if metric == DISTANCE else "samples",
        "metric": metric,
        "better": "lower",
        "n": 100,
        "rankings": [{"name": "spread", "rungs": rungs, "passed": passed, "note": note}],
        "note": "",
    }


JUDGES = (judge(DISTANCE), judge(FRECHET, mean_image=1e6))


def write_run(
    path: Path,
    values: Mapping[str, float | None],
    *,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    study: Mapping[str, Any] | None = None,
    data_hash: str = "f" * 64,
    images: int = 100,
    judges: Sequence[Mapping[str, Any]] = JUDGES,
    collapsed: str = "",
    processor_seconds: float | None = None,
) -> Path:
    """A run folder with these values in its evaluation."""
    path.mkdir(parents=True)
    config = {
        "model": "vae",
        "shape": [1, 8, 8],
        "config": {"tau": 0.1, "objective": "l2", "structure": {"form": "product", "k2": 0.03}, **(options or {})},
        "training": {"iterations": 20, "batch": 10, "seed": seed, "ema": 0.0, "log_every": 10},
        "optimiser": {"method": "adam", "lr": 0.001},
        "data": {"source": "noise", "images": 200, "classes": 0, "hash": data_hash},
        "versions": {"ssimgen": "0.1.0"},
        **({"study": study} if study else {}),
    }
    evaluation = {
        "format": 1,
        "iteration": 20,
        "options": {"images": images, "seed": 0},
        "network": NETWORK,
        "data": {"train": data_hash, "held_out": data_hash},
        "rows": [row(metric, value) for metric, value in values.items()],
        "judges": list(judges),
        "seconds": 1.5,
        "collapsed": collapsed,
    }
    (path / "config.json").write_text(json.dumps(config))
    (path / "evaluation.json").write_text(json.dumps(evaluation))
    lines = [
        {"iteration": i, "seconds": i / 10, "vae/lr": 0.1, "vae/kl": 1.0 + i, "vae/error": 100.0 / i} for i in (10, 20)
    ]
    if processor_seconds is not None:
        lines = [line | {"processor_seconds": processor_seconds * line["iteration"] / 20} for line in lines]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    generator = np.random.default_rng(seed)
    for name in ("real.png", "worst.png", "nearest.png", "samples/00000020.png", "reconstructions/00000020.png"):
        target = path / name
        target.parent.mkdir(exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (34, 34), dtype=np.uint8)).save(target)
    return path


def place(variant: str, baseline: str = "l2", **point: float) -> dict[str, Any]:
    """What a study notes in a run's configuration."""
    arm = " ".join([variant, *(f"{key}={value:g}" for key, value in point.items())])
    return {"data": "noise", "group": "vae", "variant": variant, "point": point, "arm": arm, "baseline": baseline}


def sweep(folder: Path) -> list[Path]:
    """A study of l2 and ssim at two temperatures and three seeds.

    With l2 the feature distance is 10 - kl / 10 + seed; with ssim it is lower by 2, 2.1, 2.2 for the seeds 0, 1, 2. KL
    is 10 and 30 with l2, 20 and 40 with ssim.
    """
    paths = []
    for seed in range(3):
        for variant, rates, less in (("l2", (10.0, 30.0), 0.0), ("ssim", (20.0, 40.0), 2.0 + 0.1 * seed)):
            for rate in rates:
                values = {
                    KL: rate,
                    PSNR: 10 + rate / 10 - less,
                    SSIM: 0.5 + 0.01 * rate + 0.1 * less,
                    DISTANCE: 10 - rate / 10 + seed - less,
                    FRECHET: 50 - rate / 10 - less,
                }
                paths.append(
                    write_run(
                        folder / f"{variant}-{rate:g}-{seed}",
                        values,
                        seed=seed,
                        options={"objective": variant, "tau": rate},
                        study=place(variant, tau=rate),
                    )
                )
    return paths
