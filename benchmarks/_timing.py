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
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
RUNS = 9


def interleaved_medians(
    contenders: Mapping[str, Callable[[], object]], runs: int = RUNS, at_least: float = 0.02
) -> dict[str, float]:
    """Seconds per call of each contender: the median over `runs` rounds, in each of which every one runs once.

    Whatever slows the machine for a while so falls on all of them. The order within a round is random. A run
    repeats its call until it has lasted about `at_least` seconds.
    """
    calls = {name: _calls_per_run(contender, at_least) for name, contender in contenders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    order = random.Random(0)
    for _ in range(runs):
        for name in order.sample(list(contenders), len(contenders)):
            seconds[name].append(_time(contenders[name], calls[name]))
    return {name: statistics.median(values) for name, values in seconds.items()}


def _calls_per_run(contender: Callable[[], object], at_least: float) -> int:
    contender()  # compile, and fill caches
    once = min(_time(contender, 1) for _ in range(2))
    return max(1, round(at_least / once))


def _time(contender: Callable[[], object], calls: int) -> float:
    begin = time.perf_counter()
    for _ in range(calls):
        contender()
    return (time.perf_counter() - begin) / calls


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
