"""What every benchmark shares: interleaved timing, tables of ratios, and results kept with machine and versions."""

from __future__ import annotations

import datetime
import json
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

import ssimgen

RESULTS = Path(__file__).parent / "results"
RUNS = 9
PATIENCE = 2.0  # seconds: what takes longer is timed once, by its first call


def interleaved_medians(
    contenders: Mapping[str, Callable[[], object]],
    runs: int = RUNS,
    at_least: float = 0.02,
    clock: Callable[[Callable[[], object], int], float] | None = None,
) -> dict[str, float]:
    """Seconds per call of each contender: the median over `runs` rounds, in each of which every one runs once.

    Whatever slows the machine for a while so falls on all of them. The order within a round is random. A run
    repeats its call until it has lasted about `at_least` seconds. What is slower than `PATIENCE` has no rounds. `clock`
    says how long one of so many calls takes, on the processor where it is None.
    """
    clock = clock or _time
    with ssimgen.warmup():  # compiles, and fills caches
        seconds = {name: [clock(contender, 1)] for name, contender in contenders.items()}
    quick = [name for name, first in seconds.items() if first[0] < PATIENCE or clock(contenders[name], 1) < PATIENCE]
    seconds |= {name: [] for name in quick}
    calls = {name: _calls_per_run(contenders[name], at_least, clock) for name in quick}
    order = random.Random(0)
    for _ in range(runs):
        for name in order.sample(quick, len(quick)):
            seconds[name].append(clock(contenders[name], calls[name]))
    return {name: statistics.median(values) for name, values in seconds.items()}


def _calls_per_run(
    contender: Callable[[], object], at_least: float, clock: Callable[[Callable[[], object], int], float]
) -> int:
    once = min(clock(contender, 1) for _ in range(2))
    return max(1, round(at_least / once))


def _time(contender: Callable[[], object], calls: int) -> float:
    begin = time.perf_counter()
    for _ in range(calls):
        contender()
    return (time.perf_counter() - begin) / calls


def images(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """A batch in [0, 1] and a noisy copy."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(shape, generator=generator)
    return x, (x + 0.1 * torch.randn(shape, generator=generator)).clamp(0, 1)


def gradients(
    similarity: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor, both: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Forward and backward; gradients begin at None, as after `optimizer.zero_grad()`."""
    x, y = x.detach().requires_grad_(), y.detach().requires_grad_(both)
    similarity(x, y).sum().backward()
    return x.grad, y.grad


def contest(
    contenders: Callable[[str, Tensor, Tensor], Mapping[str, Callable[[], object]]],
    shapes: Sequence[tuple[int, ...]],
    targets: Mapping[str, float],
) -> list[dict[str, Any]]:
    """Medians of every operation and shape, and how many times faster ssimgen is than its fastest peer."""
    rows = []
    for shape, operation in track([(s, o) for s in shapes for o in targets], description="timing", transient=True):
        seconds = interleaved_medians(contenders(operation, *images(shape)))
        peers = {name: value for name, value in seconds.items() if name != "ssimgen"}
        fastest = min(peers, key=peers.__getitem__)
        ratio, target = peers[fastest] / seconds["ssimgen"], targets[operation]
        result = {"fastest peer": fastest, "ratio": ratio, "target": target}
        rows.append({"operation": operation, "shape": shape, "seconds": seconds, **result})
    return rows


def show_contest(rows: Sequence[Mapping[str, Any]], names: Iterable[str], targets: Mapping[str, float]) -> None:
    """A table for each operation."""
    for operation, target in targets.items():
        show(
            f"{operation}: milliseconds, and how many times faster than the fastest peer (target {target:g})",
            ["images", *names, "times faster"],
            [
                ["x".join(map(str, row["shape"]))]
                + [milliseconds(row["seconds"][name]) if name in row["seconds"] else "-" for name in names]
                + [f"{row['ratio']:.2f}"]
                for row in rows
                if row["operation"] == operation
            ],
        )


def milliseconds(seconds: float) -> str:
    """Three significant digits, without an exponent."""
    value = 1000 * seconds
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def show(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on the terminal: text in the first column, numbers in the others."""
    table = Table(title=title, title_justify="left")
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if index else "left")
    for row in rows:
        table.add_row(*row)
    Console(width=None if os.isatty(1) else 140).print(table)


def save(name: str, results: Mapping[str, Any], packages: Sequence[str]) -> Path:
    """Write benchmarks/results/<name>.json: the results, with machine, versions and date."""
    record = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {
            "processor": _processor(),
            "logical processors": os.cpu_count(),
            "threads used by torch": torch.get_num_threads(),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "versions": {"python": platform.python_version()} | {package: version(package) for package in packages},
        **results,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    return path


def _processor() -> str:
    """The processor's name and the widest vectors it has, where Linux tells."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return platform.processor()
    fields = dict(line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    flags = fields.get("flags", "").split()
    vectors = next((name for name in ("avx512f", "avx2", "avx") if name in flags), "no AVX")
    return f"{fields.get('model name', platform.processor())}, {vectors}"
