"""SSIM of all pairs, forward and backward: beside other libraries used pair by pair, patch GEMM and bare matmul.

No library computes all pairs, so each gets batches of one image repeated beside the others. `python
benchmarks/pairwise.py` prints tables and writes results/pairwise.json; `--fit` fits the costs by which
`ssimgen.engine` chooses between compiled kernels and matrix products.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from _timing import RUNS, interleaved_medians, save, show
from pairs import AGREEMENT, SIMILARITIES
from ssimgen import Window, pairwise
from ssimgen.engine import PatchDistance, eager_all_pairs
from ssimgen.engine.fused import all_pairs
from ssimgen.models.gmmn import GMMN, GMMNConfig
from ssimgen.objectives.moment_matching import PairKernel

N = 256
PACKAGES = ("ssimgen", "torch", "numba", "numpy", "pytorch-msssim", "kornia", "torchmetrics", "frame-analytics")
MULTIPLICATIONS = 28 * 18 * 11 + 18 * 18 * 11  # of the separable filter of one pair of 28 x 28, Gaussian 11
ROWS = 8  # images of x that peers compare with all of y; the time of a pair does not depend on it
MATMUL = 1024

Contender = Callable[[], object]
Timings = dict[str, float]

ssim = partial(pairwise.ssim, data_range=1.0)
PEERS = {name: peer for name, peer in SIMILARITIES.items() if name not in ("ssimgen", "scikit-image")}


def images(n: int, seed: int, side: int = 28, channels: int = 1) -> Tensor:
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(seed))


def flat_images(n: int) -> Tensor:
    """Two squares on a ground, each of one tone: most of them are compared in float64."""
    tones, rows, columns = torch.rand(3, n, 3, 1, 1, generator=torch.Generator().manual_seed(3))
    down, across = torch.arange(28)[:, None] / 28, torch.arange(28) / 28
    image = tones[:, :1].expand(n, 1, 28, 28)
    for k in (1, 2):
        inside = (down - rows[:, k : k + 1]).abs().maximum((across - columns[:, k : k + 1]).abs()) < 0.3
        image = torch.where(inside, tones[:, k : k + 1], image)
    return image.contiguous()


def pair_by_pair(peer: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    return torch.stack([peer(image.expand_as(y), y) for image in x])


def patch_gemm(x: Tensor, y: Tensor) -> Tensor:
    """SSIM of all pairs as one would write it in PyTorch: unfolded patches and one matrix product a position."""
    taps = torch.tensor(Window.gaussian(11, 1.5).taps)
    weights = torch.outer(taps, taps).flatten()
    (p_x, mu_x, v_x), (p_y, mu_y, v_y) = (_patches(z, weights) for z in (x, y))
    total = torch.zeros(len(x), len(y))
    for at in range(len(p_x)):
        m = mu_x[at, :, None] * mu_y[at]
        cov = (p_x[at] * weights) @ p_y[at].T - m
        e = (mu_x[at] ** 2)[:, None] + mu_y[at] ** 2
        total += (2 * m + 1e-4) * (2 * cov + 9e-4) / ((e + 1e-4) * (v_x[at, :, None] + v_y[at] + 9e-4))
    return total / len(p_x)


def _patches(z: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    patches = z.unfold(2, 11, 1).unfold(3, 11, 1).flatten(-2).flatten(1, 3).transpose(0, 1).contiguous()  # (P, n, q)
    mu = patches @ weights
    return patches, mu, patches**2 @ weights - mu**2


def stepped(function: Callable[..., Tensor], x: Tensor, y: Tensor | None, to_y: bool = True) -> Contender:
    """Forward and backward, with gradients that begin at None."""

    def call() -> None:
        leaves = [x.detach().requires_grad_()]
        if y is not None:
            leaves.append(y.detach().requires_grad_(to_y))
        function(*leaves).sum().backward()

    return call


def forward(x: Tensor, y: Tensor) -> Timings:
    """Seconds a pair, of matmul a multiplication; the values are checked first."""
    expected = ssim(x[:ROWS], y)
    for name, peer in PEERS.items():
        difference = (pair_by_pair(peer, x[:2], y) - expected[:2]).abs().max().item()
        assert difference < AGREEMENT, f"{name} computes something else: {difference}"
    assert (patch_gemm(x[:ROWS], y) - expected).abs().max() < AGREEMENT
    patch = PatchDistance(Window.gaussian(11, 1.5), "product", 1e-4, 9e-4, 0.0)
    a, b = torch.rand(2, MATMUL, MATMUL)
    flat, other_flat = flat_images(2 * N).split(N)
    contenders: dict[str, tuple[Contender, float]] = {
        "ssimgen": (lambda: ssim(x, y), len(x) * len(y)),
        "ssimgen, one set": (lambda: ssim(x), len(x) ** 2),
        "ssimgen, a set and its copy": (lambda: ssim(x, x.flip(0)), len(x) ** 2),
        "ssimgen, wide flat areas": (lambda: ssim(flat, other_flat), len(flat) ** 2),
        "patch GEMM": (lambda: patch_gemm(x, y), len(x) * len(y)),
        "patch GEMM, blocks": (lambda: eager_all_pairs.squared_all_pairs(x, y, patch), len(x) * len(y)),
        "matmul": (lambda: a @ b, MATMUL**3),
        **{
            name: (partial(pair_by_pair, peer, x[:ROWS], y), ROWS * len(y))
            for name, peer in PEERS.items()
        },
    }  # fmt: skip
    seconds = interleaved_medians({name: call for name, (call, _) in contenders.items()})
    return {name: seconds[name] / count for name, (_, count) in contenders.items()}


def backward(x: Tensor, y: Tensor) -> Timings:
    """Seconds a pair, forward and backward."""
    seconds = interleaved_medians(
        {
            "forward": lambda: ssim(x, y),
            "to both sets": stepped(ssim, x, y),
            "to one set": stepped(ssim, x, y, to_y=False),
            "of one set": stepped(ssim, x, None),
        }
    )
    return {name: value / len(x) / len(y) for name, value in seconds.items()}


def by_size() -> dict[int, float]:
    """Seconds a pair for n x n distances."""
    sets = {n: (images(n, 0), images(n, 1)) for n in (250, 500, 1000, 2000)}
    distance = partial(pairwise.distance, data_range=1.0)
    seconds = interleaved_medians({str(n): partial(distance, x, y) for n, (x, y) in sets.items()})
    return {n: seconds[str(n)] / n**2 for n in sets}


def training_steps() -> Timings:
    """Seconds of a GMMN step of 256 images, by kernel."""
    kernels = {
        "Euclidean, 6 bandwidths": PairKernel(metric="l2", bandwidths=(1.4, 2.2, 3.2, 4.5, 6.3, 8.9), relative=False),
        "SSIM, windows of 4, 8 and 14 px (default)": PairKernel(relative=False),
        "SSIM, 8 x 8 window, stride 4": (blocks := PairKernel(bandwidths=(0.3,), relative=False, scales=(1.0,))),
        "SSIM, Gaussian 11, stride 1": replace(
            blocks, structure=replace(blocks.structure, window="gaussian", size=11, stride=1)
        ),
    }
    return interleaved_medians({name: _training_step(kernel) for name, kernel in kernels.items()})


def _training_step(kernel: PairKernel) -> Contender:
    torch.manual_seed(0)
    model = GMMN(GMMNConfig(kernel=kernel), (1, 28, 28))
    generator: nn.Module = model.generator
    optimiser = torch.optim.Adam(generator.parameters())
    real = images(N, 2)

    def step() -> None:
        optimiser.zero_grad()
        model.matching(model.generate(N), real).backward()
        optimiser.step()

    return step


MEMORY_SCRIPT = """
import sys, torch
from ssimgen import pairwise

def status(name):
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(lines[name].split()[0]) * 1024

def extra(n):
    x, y = (torch.rand(n, 1, 28, 28, requires_grad=True) for _ in range(2))
    before = status("VmRSS")
    open("/proc/self/clear_refs", "w").write("5")
    square = pairwise.distance(x, y, data_range=1.0, squared=True)
    upstream = torch.ones_like(square)
    square.backward(upstream)
    return status("VmHWM") - before - 2 * square.numel() * 4 - 2 * x.numel() * 4

extra(20)
print(extra(int(sys.argv[1])))
"""


def extra_memory(sizes: Iterable[int]) -> dict[int, int]:
    """Peak bytes beyond images, matrix and their gradients, forward and backward, n x n, each in its own process."""
    return {
        n: int(subprocess.run([sys.executable, "-c", MEMORY_SCRIPT, str(n)], capture_output=True, check=True).stdout)
        for n in sizes
    }


TEN_THOUSAND_SCRIPT = """
import time, torch
from ssimgen import pairwise

def status(name):
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(lines[name].split()[0]) * 1024

x, y = (torch.rand(10_000, 1, 28, 28) for _ in range(2))
pairwise.distance(x[:20], y[:20], data_range=1.0)
before, begin = status("VmRSS"), time.perf_counter()
d = pairwise.distance(x, y, data_range=1.0, progress=True)
print((time.perf_counter() - begin) / d.numel(), status("VmHWM") - before - 4 * d.numel())
"""


def ten_thousand() -> tuple[float, int]:
    """Seconds a pair and peak bytes beyond the matrix, of 10,000 x 10,000 distances with a progress bar."""
    done = subprocess.run([sys.executable, "-c", TEN_THOUSAND_SCRIPT], stdout=subprocess.PIPE, text=True, check=True)
    seconds, extra = done.stdout.split()
    return float(seconds), int(extra)


def fit() -> None:
    """Print the constants of `ssimgen.engine._matrix_products_win`, nanoseconds a pair and channel on one thread."""
    torch.set_num_threads(1)
    windows = [Window.gaussian(11), *(Window.uniform(k, stride=k) for k in (4, 7, 8, 14)), Window.uniform(28)]
    windows += [Window.uniform(8, stride=4), Window.uniform(16, stride=16), Window.uniform(32, stride=32)]
    rows_fused, rows_eager, fused, eager = [], [], [], []
    for window in windows:
        side = 64 if window.size in (16, 32) else 28
        x, y = images(N, 0, side), images(N, 1, side)
        patch = PatchDistance(window, "product", 1e-4, 9e-4, 0.0)
        engines = {"fused": all_pairs.squared_all_pairs, "eager": eager_all_pairs.squared_all_pairs}
        seconds = interleaved_medians({name: partial(run, x, y, patch) for name, run in engines.items()})
        places = window.positions(side)
        rows_fused.append((side * side, window.size * places * (side + places), places * places))
        rows_eager.append((places * places, places * places * window.size**2))
        fused.append(seconds["fused"] / N**2 * 1e9)
        eager.append(seconds["eager"] / N**2 * 1e9)
        print(window.size, window.stride, side, f"fused {fused[-1]:.3g} ns, eager {eager[-1]:.3g} ns a pair")
    for name, rows, values in (("fused", rows_fused, fused), ("eager", rows_eager, eager)):
        weights = 1 / np.array(values)  # relative errors count
        constants = np.linalg.lstsq(np.array(rows) * weights[:, None], np.ones(len(values)), rcond=None)[0]
        print(name, constants)


def main() -> None:
    """Measure, print, save."""
    begin = time.perf_counter()
    x, y = images(N, 0), images(N, 1)
    ahead, back, sizes, steps = forward(x, y), backward(x, y), by_size(), training_steps()
    memory = extra_memory((500, 1000, 2000))
    of_many, extra_of_many = ten_thousand()

    own = ahead["ssimgen"]
    fastest_peer = min(ahead[name] for name in PEERS)
    fastest_gemm = min(ahead["patch GEMM"], ahead["patch GEMM, blocks"])
    euclidean, *structural = steps.values()
    targets = {
        "fastest library pair by pair / ssimgen": (fastest_peer / own, 50.0),
        "patch GEMM / ssimgen": (fastest_gemm / own, 12.0),
        "share of the multiplications of matmul": (MULTIPLICATIONS * ahead["matmul"] / own, 0.4),
        "forward + backward / forward": (back["to both sets"] / back["forward"], 3.5),
        "GMMN step, SSIM / Euclidean": (structural[0] / euclidean, 3.0),
        "cost a pair, n = 2000 / n = 500": (sizes[2000] / sizes[500], 1.1),
        "cost a pair, n = 10000 / n = 500": (of_many / sizes[500], 1.1),
        "extra memory, MiB": (max(*memory.values(), extra_of_many) / 2**20, 64.0),
    }
    at_least = set(list(targets)[:3])
    microseconds = {f"forward: {name}": 1e6 * value for name, value in ahead.items() if name != "matmul"}
    microseconds |= {f"forward + backward: {name}": 1e6 * value for name, value in back.items() if name != "forward"}
    microseconds |= {f"distances, n = {n}": 1e6 * value for n, value in {**sizes, 10_000: of_many}.items()}
    show(f"{N} x {N} pairs of 28 x 28", ("", "us a pair"), [(k, f"{v:.3g}") for k, v in microseconds.items()])
    show("GMMN step of 256 images", ("", "ms"), [(name, f"{1e3 * value:.3g}") for name, value in steps.items()])
    rows = [
        (name, f"{value:.3g}", f"{'>=' if name in at_least else '<='} {bar:g}", _met(name in at_least, value, bar))
        for name, (value, bar) in targets.items()
    ]
    show("Targets", ("", "measured", "target", ""), rows)
    results = {
        "runs": RUNS,
        "microseconds a pair": microseconds,
        "milliseconds a GMMN step": {name: 1e3 * value for name, value in steps.items()},
        "matmul, 1e9 multiplications a second": 1e-9 / ahead["matmul"],
        "extra bytes": {**memory, 10_000: extra_of_many},
        "targets": {name: {"measured": value, "target": bar} for name, (value, bar) in targets.items()},
    }
    path = save("pairwise", json.loads(json.dumps(results)), PACKAGES)
    print(f"{time.perf_counter() - begin:.0f} s, written to {path}")


def _met(at_least: bool, value: float, bar: float) -> str:
    return "met" if (value >= bar) == at_least or value == bar else "missed"


if __name__ == "__main__":
    fit() if "--fit" in sys.argv else main()
