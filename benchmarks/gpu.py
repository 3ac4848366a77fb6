"""SSIM on a GPU beside the libraries made for it, the ceilings of the card, all pairs, memory, and sizes of tiles.

    python benchmarks/gpu.py
    TRITON_INTERPRET=1 python benchmarks/gpu.py --try

Who is not installed is left out, who computes something else is named. Each section is printed and kept in
results/gpu.json as soon as it is measured: medians of interleaved rounds, timed by events on the device. `--try` runs
every line on a CPU with small images, in Triton's interpreter, and keeps nothing: its times mean nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib import import_module
from itertools import product
from typing import Any
from unittest import mock

os.environ["SSIMGEN_ENGINE"] = "triton"

import torch
from torch import Tensor

import ssimgen
from _timing import RUNS, images, interleaved_medians, milliseconds, save, show
from ssimgen import Window, engine, pairwise
from ssimgen.engine import eager
from ssimgen.engine.spec import PatchDistance
from ssimgen.engine.triton import pairs

SHAPES = ((64, 1, 28, 28), (64, 3, 64, 64), (8, 3, 256, 256), (1, 3, 1080, 1920))
SMALL = ((1, 1, 11, 12),)
SETS = (256, 2048)  # of 28 x 28 px, all pairs
TARGETS = {"forward": 1.0, "forward + gradient": 1.5}
PATCH = PatchDistance(Window.gaussian(11), "product", 1e-4, 9e-4, 0.0)
AGREEMENT = 1e-4
TILES = {"rows": (16, 32, 64), "lanes": (32, 64, 128), "columns": (1, 2, 4)}

Similarity = Callable[[Tensor, Tensor], Tensor]
Timings = dict[str, float]


def ours(x: Tensor, y: Tensor) -> Tensor:
    return ssimgen.ssim(x, y, data_range=1.0)


def by_pytorch(x: Tensor, y: Tensor) -> Tensor:
    """The same by the eager engine, what a GPU gets by default."""
    return 1 - eager.squared_mean(x, y, PATCH).mean(1)


def peers() -> dict[str, Similarity]:
    """Those that are installed; each gives one value a pair, or one of all."""
    found: dict[str, Similarity] = {}
    for name, module, call in (
        ("pytorch-msssim", "pytorch_msssim", lambda m, x, y: m.ssim(x, y, data_range=1.0, size_average=False)),
        ("frame-analytics", "frame_analytics", lambda m, x, y: m.ssim(x, y, data_range=1.0, reduction="none")),
        ("fused-ssim", "fused_ssim", lambda m, x, y: m.fused_ssim(x, y, padding="valid")),
        ("fussim", "fussim", lambda m, x, y: m.fused_ssim(x, y, padding="valid")),
        (
            "torchmetrics",
            "torchmetrics.functional.image",
            lambda m, x, y: m.structural_similarity_index_measure(x, y, data_range=1.0, return_full_image=True)[1][
                ..., 5:-5, 5:-5
            ].mean((1, 2, 3)),
        ),
    ):
        try:
            found[name] = partial(call, import_module(module))
        except ImportError as error:
            print(f"without {name}: {error}")
    return found


class Bench:
    """What the sections share: the device, and what was measured so far."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.rounds = RUNS if device == "cuda" else 1
        self.shapes = SHAPES if device == "cuda" else SMALL
        self.results: dict[str, Any] = {"card": torch.cuda.get_device_name() if device == "cuda" else "none"}

    def images(self, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        x, y = images(shape)
        return x.to(self.device), y.to(self.device)

    def medians(self, contenders: Mapping[str, Callable[[], object]]) -> Timings:
        """Seconds of a call on the device."""
        return interleaved_medians(contenders, self.rounds, clock=_by_events if self.device == "cuda" else None)

    def keep(self, section: str, result: Any) -> None:
        self.results[section] = result
        if self.device == "cuda":
            save("gpu", self.results, ("ssimgen", "torch", "triton"))


def _by_events(contender: Callable[[], object], calls: int) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    for _ in range(calls):
        contender()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000 / calls


def gradient(similarity: Similarity, x: Tensor, y: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(similarity(x, y).mean(), x)[0]


def agreeing(bench: Bench) -> dict[str, Similarity]:
    """Those whose value and gradient are those of float64; what the others are off by is printed."""
    x, y = bench.images((4, 3, 64, 64) if bench.device == "cuda" else SMALL[0])
    value = by_pytorch(x.double(), y.double()).mean()
    slope = gradient(by_pytorch, x.double(), y.double())
    rows, right = [], {}
    for name, similarity in {"ssimgen": ours, "ssimgen, PyTorch": by_pytorch, **peers()}.items():
        try:
            off = float((similarity(x, y).mean() - value).abs())
            of_slope = float((gradient(similarity, x, y) - slope).norm() / slope.norm())
        except Exception as error:
            print(f"without {name}: {error}")
            continue
        rows.append((name, off, of_slope))
        if max(off, of_slope) < AGREEMENT:
            right[name] = similarity
    show("Difference from float64", ["library", "value", "gradient"], [(n, f"{v:.1e}", f"{g:.1e}") for n, v, g in rows])
    bench.keep("difference from float64", rows)
    return right


def ceilings(bench: Bench) -> None:
    """Bytes a second of a copy, and multiplications a second of a matrix product in float32, of this card now."""
    n, side = (2**26, 4096) if bench.device == "cuda" else (2**10, 32)
    z, matrix = torch.rand(n, device=bench.device), torch.rand(side, side, device=bench.device)
    into = torch.empty_like(z)
    seconds = bench.medians({"copy": lambda: into.copy_(z), "product": lambda: matrix @ matrix})
    found = {"GB/s": 2 * z.nbytes / seconds["copy"] / 1e9, "GFMA/s": side**3 / seconds["product"] / 1e9}
    show("Ceilings", ["what", "measured"], [(what, f"{value:.0f}") for what, value in found.items()])
    bench.keep("ceilings", found)


def pairs_of_images(bench: Bench, contenders: Mapping[str, Similarity]) -> None:
    rows, kept = [], []
    for operation, shape in product(TARGETS, bench.shapes):
        x, y = bench.images(shape)
        run = gradient if operation != "forward" else (lambda similarity, x, y: similarity(x, y))
        seconds = bench.medians({name: partial(run, similarity, x, y) for name, similarity in contenders.items()})
        others = {name: value for name, value in seconds.items() if not name.startswith("ssimgen")}
        fastest = min(others, key=others.__getitem__) if others else "ssimgen, PyTorch"
        ratio = seconds[fastest] / seconds["ssimgen"]
        kept.append({"operation": operation, "shape": shape, "seconds": seconds, "fastest": fastest, "ratio": ratio})
        times = (milliseconds(seconds[name]) for name in contenders)
        rows.append((f"{operation}, {'x'.join(map(str, shape))}", *times, f"{ratio:.2f} ({TARGETS[operation]:g})"))
    show("Milliseconds, and how many times faster than the fastest peer (target)", ["", *contenders, "ratio"], rows)
    bench.keep("pairs", kept)


def memory(bench: Bench) -> None:
    """Bytes beyond the images at most, in images, with the gradient that is asked for."""
    if bench.device != "cuda":
        return
    x, y = bench.images((8, 3, 256, 256))
    found = {}
    for name, similarity in {"ssimgen": ours, "ssimgen, PyTorch": by_pytorch}.items():
        gradient(similarity, x, y)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        gradient(similarity, x, y)
        found[name] = (torch.cuda.max_memory_allocated() - before) / x.nbytes
    show(
        "Memory with the gradient, in images", ["", "images"], [(name, f"{value:.1f}") for name, value in found.items()]
    )
    bench.keep("memory", found)


def all_pairs(bench: Bench) -> None:
    rows, kept = [], {}
    for n in SETS if bench.device == "cuda" else (3,):
        x, y = bench.images((n, 1, 28, 28))
        wanted = x.clone().requires_grad_()
        seconds = bench.medians(
            {
                "forward": lambda x=x, y=y: pairwise.ssim(x, y, data_range=1.0),
                "with gradient": lambda z=wanted, y=y: torch.autograd.grad(
                    pairwise.ssim(z, y, data_range=1.0).sum(), z
                ),
            }
        )
        kept[n] = seconds
        rows.append((f"{n} x {n} of 28 x 28", *(milliseconds(value) for value in seconds.values())))
    show("All pairs, by PyTorch: milliseconds", ["", "forward", "with gradient"], rows)
    bench.keep("all pairs", kept)


def tiles(bench: Bench) -> None:
    """Forward and gradient with every tile; the quickest of each shape, beside the choice that the library makes."""
    rows, kept = [], []
    for shape in bench.shapes:
        x, y = bench.images(shape)
        runs: dict[str, Callable[[], object]] = {"the library's": partial(gradient, ours, x, y)}
        for choice in product(*TILES.values()) if bench.device == "cuda" else [(16, 32, 1)]:
            if shape[3] % choice[2] == 0:
                runs[" ".join(map(str, choice))] = partial(_with_tile, choice, partial(gradient, ours, x, y))
        seconds = bench.medians(_that_run(runs))
        best = min(seconds, key=seconds.__getitem__)
        kept.append({"shape": shape, "seconds": seconds, "best": best})
        rows.append(
            ("x".join(map(str, shape)), best, *(milliseconds(seconds[name]) for name in (best, "the library's")))
        )
    show("Tiles: rows, lanes, columns a lane; ms, forward + gradient", ["images", "best", "its ms", "ours"], rows)
    bench.keep("tiles", kept)


def _that_run(runs: Mapping[str, Callable[[], object]]) -> dict[str, Callable[[], object]]:
    """Without the tiles that do not compile, or take too many registers."""
    right = {}
    for name, run in runs.items():
        try:
            run()
            right[name] = run
        except Exception as error:
            print(f"tile {name}: {str(error).splitlines()[0]}")
    return right


def _with_tile(choice: tuple[int, int, int], run: Callable[[], object]) -> None:
    rows, lanes, columns = choice

    def of(planes: int, height: int, width: int, together: int) -> pairs._Tile:
        return pairs._Tile(rows, lanes, columns, (planes, -(-height // rows), -(-width // (lanes * columns))))

    with mock.patch.object(pairs._Tile, "of", of), mock.patch.object(pairs, "_columns", return_value=columns):
        run()


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--try", action="store_true", help="small images on a CPU, in Triton's interpreter")
    device = "cpu" if vars(parser.parse_args(arguments))["try"] else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch finds no GPU here; --try runs every line on a CPU")
    if not engine._triton_can(*torch.rand(2, 1, 1, 16, 16, device=device), Window.gaussian(11)):
        parser.error(
            "the Triton kernels cannot run here: they need triton 3.6 or newer, and with --try TRITON_INTERPRET=1"
        )
    bench = Bench(device)
    contenders = agreeing(bench)
    ceilings(bench)
    pairs_of_images(bench, contenders)
    memory(bench)
    all_pairs(bench)
    tiles(bench)
    return 0


if __name__ == "__main__":
    sys.exit(main())
