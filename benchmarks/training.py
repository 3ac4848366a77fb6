"""Training, in images a second, of every model at its defaults: weights as PyTorch lays them out, and channels last.

`python benchmarks/training.py [MODEL ...]` prints a table and writes results/training.json, where models that are not
named keep what they had. One thread, processor time, digits of 28 x 28 px; both layouts in one process, in turn.
`make_model` lays convolutions out channels last.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial

import torch

from _timing import RESULTS, interleaved_medians, save, show
from ssimgen.batches import Batch
from ssimgen.data import Source, load_images
from ssimgen.models import MODELS, make_model, usual_training
from ssimgen.models.options import Hardware
from ssimgen.models.vae import SUGGESTED_TAU
from ssimgen.training.devices import make_fabric
from ssimgen.training.iteration import iterate
from ssimgen.training.state import State

LAYOUTS = {"as PyTorch lays out": torch.contiguous_format, "channels last": torch.channels_last}
RUNS = 3
PACKAGES = ("ssimgen", "torch", "numba", "numpy")


def contender(name: str, layout: torch.memory_format, batch: Batch) -> Callable[[], object]:
    """One iteration of a model at its defaults, with its weights in a layout."""
    make, options = MODELS[name]
    config = options(tau=SUGGESTED_TAU["ssim"]) if name == "vae" else options()
    model = make_model(make, config, tuple(batch.images.shape[1:])).to(memory_format=layout).train()
    training, optimiser = usual_training(name)
    fabric = make_fabric(Hardware(accelerator="cpu"), training.batch)
    return partial(iterate, State(fabric, model, training, optimiser), batch)


def processor_seconds(call: Callable[[], object], calls: int) -> float:
    """Of one call."""
    begin = time.process_time()
    for _ in range(calls):
        call()
    return (time.process_time() - begin) / calls


def measured(name: str) -> dict[str, float]:
    """Images a second in each layout."""
    training, _ = usual_training(name)
    batch = next(load_images(Source("mnist5k")).train.batches(training.batch, 0, 0))
    contenders = {label: contender(name, layout, batch) for label, layout in LAYOUTS.items()}
    seconds = interleaved_medians(contenders, RUNS, clock=processor_seconds)
    return {label: training.batch / value for label, value in seconds.items()}


def main(names: list[str]) -> int:
    """Measure the models named, or all."""
    torch.set_num_threads(1)
    kept = RESULTS / "training.json"
    before_now = json.loads(kept.read_text())["images a second"] if names and kept.exists() else {}
    found = before_now | {name: measured(name) for name in names or MODELS}
    before, after = LAYOUTS
    rows = [[n, *(f"{f[label]:.0f}" for label in LAYOUTS), f"{f[after] / f[before]:.2f}"] for n, f in found.items()]
    show("images a second in training", ["model", *LAYOUTS, "times faster"], rows)
    save("training", {"images a second": found}, PACKAGES)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
