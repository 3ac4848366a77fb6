"""SSIM on a GPU beside the libraries made for it, the ceilings of the card, all pairs, memory, and sizes of tiles.

    python benchmarks/gpu.py
    TRITON_INTERPRET=1 python benchmarks/gpu.py --try

Who is not installed is left out, who computes something else is named. Each section is printed and kept in
results/gpu.json as soon as it is measured: medians of interleaved rounds of whole calls, between events on the device,
and the time of the device's kernels alone, by the profiler: a small image takes the host longer than the device. Tiles
are compared by the latter.
`--try` runs every line on a CPU with small images, in Triton's interpreter, and keeps nothing: its times mean nothing.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import statistics
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from itertools import islice, product
from typing import Any
from unittest import mock

os.environ["SSIMGEN_ENGINE"] = "triton"

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from _timing import RUNS, images, interleaved_medians, milliseconds, save, show
from ssimgen import Window, engine
from ssimgen.engine import eager, eager_all_pairs
from ssimgen.engine.spec import PatchDistance
from ssimgen.engine.triton import all_pairs as triton_all_pairs
from ssimgen.engine.triton import launching, pairs
from ssimgen.losses import SSIMLoss

SHAPES = ((64, 1, 28, 28), (64, 3, 64, 64), (8, 3, 256, 256), (1, 3, 1080, 1920))
SMALL = ((1, 1, 11, 12),)
SETS = (256, 2048)  # all pairs
TARGETS = {"forward": 1.0, "forward + gradient": 1.5}
PATCH = PatchDistance(Window.gaussian(11), "product", 1e-4, 9e-4, 0.0)
LOSS = SSIMLoss(data_range=1.0)
AGREEMENT = 1e-4
ROWS = (4, 8, 16, 32, 64)
TILES = tuple(product(ROWS, (32, 64, 128), (1, 2), (1, 2), (1, 2, 4)))  # as `_Tile` names them

PAIRS_TARGETS = {"times faster": 20, "with gradient": 20, "of TF32 / 3": 0.3, "of its forward": 3.5}
PAIRS_TILES = (
    (64, 64, 64, 4, 3),
    (64, 64, 64, 4, 2),
    (64, 64, 32, 4, 4),
    (64, 64, 128, 4, 2),
    (128, 64, 64, 8, 2),
    (128, 64, 32, 8, 3),
    (64, 128, 64, 8, 2),
    (128, 128, 32, 8, 3),
)
GRADIENT_TILES = ((64, 32, 4, 2), (64, 32, 4, 3), (64, 64, 4, 2), (128, 32, 8, 2), (64, 64, 8, 2), (32, 32, 4, 2))
CHUNKS = (8, 16, 32, 48)  # MiB of patches

Loss = Callable[[Tensor, Tensor], Tensor]
Timings = dict[str, float]


def ours(x: Tensor, y: Tensor) -> Tensor:
    value: Tensor = LOSS(x, y)
    return value


def by_pytorch(x: Tensor, y: Tensor) -> Tensor:
    """The same by the eager engine."""
    return eager.squared_mean(x, y, PATCH).mean()


def peers() -> dict[str, Loss]:
    """Those that are installed: 1 - SSIM, of the mean of the batch, which some have faster ways for."""
    found: dict[str, Loss] = {}
    for name, module, call in (
        ("pytorch-msssim", "pytorch_msssim", lambda m, x, y: m.ssim(x, y, data_range=1.0)),
        ("frame-analytics", "frame_analytics", lambda m, x, y: m.ssim(x, y, data_range=1.0)),
        ("fused-ssim", "fused_ssim", lambda m, x, y: m.fused_ssim(x, y, padding="valid", train=x.requires_grad)),
        ("fussim", "fussim", lambda m, x, y: m.fused_ssim(x, y, padding="valid", train=x.requires_grad)),
        (
            "torchmetrics",
            "torchmetrics.functional.image",
            lambda m, x, y: m.structural_similarity_index_measure(x, y, data_range=1.0, return_full_image=True)[1][
                ..., 5:-5, 5:-5
            ].mean(),
        ),
    ):
        try:
            found[name] = partial(_loss, call, import_module(module))
        except ImportError as error:
            print(f"without {name}: {error}")
    return found


def _loss(call: Callable[[Any, Tensor, Tensor], Tensor], module: Any, x: Tensor, y: Tensor) -> Tensor:
    return 1 - call(module, x, y)


class Bench:
    """What the sections share: the device, and what was measured so far."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.rounds = RUNS if device == "cuda" else 1
        self.shapes = SHAPES if device == "cuda" else SMALL
        self.sets, self.side = (SETS, 28) if device == "cuda" else ((3,), 11)
        self.results: dict[str, Any] = {"card": torch.cuda.get_device_name() if device == "cuda" else "none"}

    def images(self, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        x, y = images(shape)
        return x.to(self.device), y.to(self.device)

    def medians(self, contenders: Mapping[str, Callable[[], object]]) -> Timings:
        """Seconds of a call on the device."""
        return interleaved_medians(contenders, self.rounds, clock=_by_events if self.device == "cuda" else None)

    def alone(self, contenders: Mapping[str, Callable[[], object]]) -> Timings:
        """Seconds of the device's kernels of a call."""
        if self.device != "cuda":
            return self.medians(contenders)
        return {name: on_device(contender) for name, contender in contenders.items()}

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


def on_device(run: Callable[[], object], calls: int = 10) -> float:
    """Seconds of the kernels of a call."""
    run()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(calls):
            run()
        torch.cuda.synchronize()
    return sum(event.device_time for event in _of_device(profiler)) / 1e6 / calls


def _of_device(profiler: profile) -> list[Any]:
    """What the device did, in turn."""
    events = [event for event in profiler.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    return sorted(events, key=lambda event: event.time_range.start)


def gradient(loss: Loss, x: Tensor, y: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(loss(x, y), x)[0]


def agreeing(bench: Bench) -> dict[str, Loss]:
    """Those whose value and gradient are those of float64; what the others are off by is printed."""
    x, y = bench.images((4, 3, 64, 64) if bench.device == "cuda" else SMALL[0])
    value = by_pytorch(x.double(), y.double())
    slope = gradient(by_pytorch, x.double(), y.double())
    rows, right = [], {}
    for name, loss in {"ssimgen": ours, "ssimgen, PyTorch": by_pytorch, **peers()}.items():
        try:
            off = float((loss(x, y) - value).abs())
            of_slope = float((gradient(loss, x, y) - slope).norm() / slope.norm())
        except Exception as error:
            print(f"without {name}: {error}")
            continue
        rows.append((name, off, of_slope))
        if max(off, of_slope) < AGREEMENT:
            right[name] = loss
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


def pairs_of_images(bench: Bench, contenders: Mapping[str, Loss]) -> None:
    of_calls, of_device, kept = [], [], []
    for operation, shape in product(TARGETS, bench.shapes):
        x, y = bench.images(shape)
        runs = {
            name: partial(gradient if operation != "forward" else _value, of, x, y) for name, of in contenders.items()
        }
        seconds = bench.medians(runs)
        alone = bench.alone(runs)
        what, goal = f"{operation}, {'x'.join(map(str, shape))}", f"({TARGETS[operation]:g})"
        for rows, times in ((of_calls, seconds), (of_device, alone)):
            rows.append((what, *map(milliseconds, times.values()), f"{_ratio(times):.2f} {goal}"))
        kept.append({"operation": operation, "shape": shape, "seconds": seconds, "on the device": alone})
        kept[-1] |= {"ratio": _ratio(seconds), "ratio on the device": _ratio(alone)}
    for title, rows in (("A call", of_calls), ("The device alone", of_device)):
        show(
            f"{title}: milliseconds, and times faster than the fastest peer (target)", ["", *contenders, "ratio"], rows
        )
    bench.keep("pairs", kept)


def _value(loss: Loss, x: Tensor, y: Tensor) -> Tensor:
    return loss(x, y)


def _ratio(times: Timings) -> float:
    others = [value for name, value in times.items() if not name.startswith("ssimgen")]
    return min(others, default=times["ssimgen, PyTorch"]) / times["ssimgen"]


def memory(bench: Bench) -> None:
    """Bytes beyond the images at most, in images, with the gradient that is asked for."""
    if bench.device != "cuda":
        return
    x, y = bench.images((8, 3, 256, 256))
    found = {}
    for name, loss in {"ssimgen": ours, "ssimgen, PyTorch": by_pytorch}.items():
        gradient(loss, x, y)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        gradient(loss, x, y)
        found[name] = (torch.cuda.max_memory_allocated() - before) / x.nbytes
    show(
        "Memory with the gradient, in images", ["", "images"], [(name, f"{value:.1f}") for name, value in found.items()]
    )
    bench.keep("memory", found)


def all_pairs(bench: Bench) -> None:
    """Beside PyTorch's operations, and beside products of matrices with as many multiplications."""
    rows, kept = [], []
    for n in bench.sets:
        x, y = bench.images((n, 1, bench.side, bench.side))
        wanted = x.clone().requires_grad_()
        positions = (bench.side - 10) ** 2
        a, b = (torch.rand(n, 121 * positions, device=bench.device) for _ in range(2))
        seconds = bench.medians(
            {
                "forward": partial(all_of, engine, x, y),
                "forward, PyTorch": partial(all_of, eager_all_pairs, x, y),
                "gradient": partial(gradient_of_all, engine, wanted, y),
                "gradient, PyTorch": partial(gradient_of_all, eager_all_pairs, wanted, y),
                "product": partial(matrix_product, a, b, "highest"),
                "product, TF32": partial(matrix_product, a, b, "high"),
            }
        )
        ratios = {
            "times faster": seconds["forward, PyTorch"] / seconds["forward"],
            "with gradient": seconds["gradient, PyTorch"] / seconds["gradient"],
            "of TF32 / 3": 3 * seconds["product, TF32"] / seconds["forward"],
            "of its forward": seconds["gradient"] / seconds["forward"],
        }
        kept.append({"images": n, "seconds": seconds, "ratios": ratios})
        times = (milliseconds(value) for value in seconds.values())
        rows.append((f"{n} x {n}", *times, *(f"{value:.2f}" for value in ratios.values())))
    goals = [f"{name} ({PAIRS_TARGETS[name]})" for name in ratios]
    show("All pairs of 28 x 28 px: milliseconds, and ratios (target)", ["", *seconds, *goals], rows)
    bench.keep("all pairs", kept)


def all_of(module: Any, x: Tensor, y: Tensor) -> Tensor:
    square: Tensor = module.squared_all_pairs(x, y, PATCH)
    return square


def gradient_of_all(module: Any, x: Tensor, y: Tensor) -> Tensor:
    return torch.autograd.grad(all_of(module, x, y).sum(), x)[0]


def matrix_product(a: Tensor, b: Tensor, precision: str) -> Tensor:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    product = a @ b.mT
    torch.set_float32_matmul_precision(before)
    return product


def tiles_of_all_pairs(bench: Bench) -> None:
    """Forward with every tile and size of a chunk of patches, and the gradient with every tile of its own."""
    kept, rows = [], []
    for n in bench.sets:
        x, y = bench.images((n, 1, bench.side, bench.side))
        forward, whole = partial(all_of, engine, x, y), partial(gradient_of_all, engine, x.clone().requires_grad_(), y)
        runs: dict[str, dict[str, Callable[[], object]]] = {
            "forward": {"the library's": forward},
            "gradient": {"the library's": whole},
        }
        for choice in PAIRS_TILES if bench.device == "cuda" else PAIRS_TILES[:1]:
            tile = triton_all_pairs._Tile(*choice)
            runs["forward"][" ".join(map(str, choice))] = partial(_with, triton_all_pairs._Tile, "of", tile, forward)
        for mib in CHUNKS if bench.device == "cuda" else CHUNKS[:1]:
            runs["forward"][f"{mib} MiB"] = partial(_with, triton_all_pairs, "_PATCHES", mib * 2**20, forward)
        for choice in GRADIENT_TILES if bench.device == "cuda" else GRADIENT_TILES[:1]:
            of_slopes = triton_all_pairs._GradientTile(*choice)
            name = " ".join(map(str, choice))
            runs["gradient"][name] = partial(_with, triton_all_pairs._GradientTile, "of", of_slopes, whole)
        for operation, of_operation in runs.items():
            seconds = bench.alone(_that_run(of_operation))
            kept.append({"images": n, "operation": operation, "seconds": seconds})
            rows.extend((f"{operation}, {n} x {n}, {name}", milliseconds(value)) for name, value in seconds.items())
    show("Tiles of all pairs: rows, columns, (places,) warps, stages; milliseconds", ["", "ms"], rows)
    bench.keep("tiles of all pairs", kept)


def _with(owner: Any, name: str, value: Any, run: Callable[[], object]) -> None:
    """Run with another number, or another choice whatever is asked."""
    with mock.patch.object(owner, name, value if isinstance(value, int) else lambda *_: value):
        run()


def tiles(bench: Bench) -> None:
    """Each kernel of pairs with every tile; the quickest of each shape, beside the choice that the library makes."""
    choices = TILES if bench.device == "cuda" else TILES[:1]
    _compile_beside(choices, bench.device)
    rows, kept = [], []
    for shape in bench.shapes:
        x, y = bench.images(shape)
        found = {}
        for kernel in KERNELS:
            names = ["the library's", *(" ".join(map(str, choice)) for choice in choices)]
            seconds = dict(zip(names, _seconds_of(kernel, [None, *choices], x, y), strict=True))
            found[kernel] = seconds
            best = min(seconds, key=seconds.__getitem__)
            times = (milliseconds(seconds[name]) for name in (best, "the library's"))
            rows.append((kernel, "x".join(map(str, shape)), best, *times))
        kept.append({"shape": shape, "seconds": found})
    show(f"Tiles: {', '.join(pairs._Tile._fields)}", ["kernel", "images", "best", "its ms", "ours"], rows)
    bench.keep("tiles", kept)


def _compile_beside(choices: Sequence[tuple[int, ...]], device: str) -> None:
    """In as many processes as there are processors, which leave what they compile where the others find it."""
    if device != "cuda":
        return
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as processes:
        first = [choice for choice in choices if choice[0] == ROWS[0]]  # rows are nothing that a kernel is compiled for
        list(processes.map(_compile, first))


def _compile(tile: tuple[int, ...]) -> None:
    x, y = (z.cuda() for z in images(SHAPES[0]))
    for kernel in KERNELS:
        _seconds_of(kernel, [tile], x, y)


def _seconds_of(
    kernel: str, choices: Sequence[tuple[int, ...] | None], x: Tensor, y: Tensor, calls: int = 6
) -> list[float]:
    """Medians of the device's seconds of a kernel with each tile, None being the library's; infinite if it fails."""
    run = partial(KERNELS[kernel], x, y)
    worked = [_runs(choice, run, 1) for choice in choices]
    if x.device.type != "cuda":
        return [0.0 if works else math.inf for works in worked]
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for choice, works in zip(choices, worked, strict=True):
            if works:
                _runs(choice, run, calls)
        torch.cuda.synchronize()
    name = kernel.split()[0]
    times = iter(event.device_time / 1e6 for event in _of_device(profiler) if event.name.startswith(name))
    return [statistics.median(islice(times, calls)) if works else math.inf for works in worked]


def _runs(tile: tuple[int, ...] | None, run: Callable[[], object], calls: int) -> bool:
    """Whether so many calls work with a tile, (rows, lanes, columns, loads ahead, rows at once)."""
    pairs._plan.cache_clear()
    try:
        with ExitStack() as stack:
            if tile is not None:
                stack.enter_context(mock.patch.object(pairs._Tile, "of", return_value=pairs._Tile(*tile)))
                stack.enter_context(mock.patch.object(pairs, "_columns", return_value=tile[2]))
            for _ in range(calls):
                run()
    except launching.LaunchError as error:
        print(f"tile {tile}: {str(error).splitlines()[0]}")
        return False
    finally:
        pairs._plan.cache_clear()
    return True


def _forward(x: Tensor, y: Tensor) -> None:
    pairs._means(x, y, PATCH, "batch", 0)


def _forward_with_maps(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return pairs._means(x, y, PATCH, "batch", 3)


def _backward(x: Tensor, y: Tensor) -> None:
    mean, kept = _forward_with_maps(x, y)
    pairs._gradients(x, y, mean, kept, torch.ones_like(mean), PATCH)


KERNELS = {"forward": _forward, "forward with maps": _forward_with_maps, "backward": _backward}


def _that_run(runs: Mapping[str, Callable[[], object]]) -> dict[str, Callable[[], object]]:
    """Without the tiles that do not compile, or take too many registers."""
    right = {}
    for name, run in runs.items():
        with warnings.catch_warnings():
            warnings.simplefilter("error", launching.EngineWarning)
            launching._said = False
            try:
                run()
                right[name] = run
            except Exception as error:
                print(f"tile {name}: {str(error).splitlines()[0]}")
        launching._trouble = ""  # that of a tile alone
    return right


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--try", action="store_true", help="small images on a CPU, in Triton's interpreter")
    device = "cpu" if vars(parser.parse_args(arguments))["try"] else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch finds no GPU here; --try runs every line on a CPU")
    if not engine._triton_pairs_can(PATCH, *torch.rand(2, 1, 1, 16, 16, device=device)):
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
    tiles_of_all_pairs(bench)
    return 0


if __name__ == "__main__":
    sys.exit(main())
