"""Kernels for GPUs without one: what they compute, in the interpreter, and that they compile, for four architectures.

Both in processes of their own, where Triton is installed: it comes with PyTorch for GPUs, and for that of CPUs as the
extra `triton`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from new_processes import Processes

HERE = Path(__file__).parent

with_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="needs triton: pip install 'ssimgen[triton]'"
)

# Registers of a thread at most: NVIDIA's, of 255, and AMD's, of 512.
REGISTERS = {
    "pairs": {
        "forward": (176, 304),
        "forward with maps": (184, 304),
        "forward of halves": (168, 304),
        "backward": (128, 168),
        "backward of halves": (168, 216),
        "finish": (128, 128),
    },
    "all pairs": {
        "patches": (64, 64),
        "values": (255, 255),
        "finished": (80, 80),
        "compared again": (128, 128),
        "slopes to patches": (255, 352),
        "slopes to pixels": (128, 128),
        "added up": (40, 40),
    },
}
# Bytes that a program shares at most; with those of sm_80 it runs on all of NVIDIA's since.
SHARED = {"cuda:80": 99 * 2**10, "cuda:90": 227 * 2**10, "cuda:100": 227 * 2**10, "hip:gfx942": 64 * 2**10}


def run(script: str, *arguments: str, **environment: str) -> str:
    command = [sys.executable, HERE / script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@with_triton
@pytest.mark.parametrize("part", ["numbers", "wiring"])
@pytest.mark.parametrize("script", ["interpreted.py", "interpreted_all_pairs.py"])
def test_in_the_interpreter(script: str, part: str) -> None:
    checks = [json.loads(line) for line in run(script, part).splitlines()]
    assert len(checks) > 5
    assert not any(check["wrong"] for check in checks), "\n".join(check["wrong"] for check in checks)


@with_triton
@pytest.mark.parametrize("target", SHARED)
@pytest.mark.parametrize("part", REGISTERS)
def test_compiles_without_spilling_registers(part: str, target: str, tmp_path: Path) -> None:
    taken = [json.loads(line) for line in run("compiled.py", part, target, TRITON_CACHE_DIR=str(tmp_path)).splitlines()]
    assert [kernel["kernel"] for kernel in taken] == list(REGISTERS[part])
    for kernel in taken:
        assert kernel["stack"] == 0, kernel
        of_nvidia, of_amd = REGISTERS[part][kernel["kernel"]]
        assert kernel["registers"] <= (of_nvidia if "cuda" in target else of_amd), kernel
        assert kernel["shared"] <= SHARED[target], kernel


# --- which engine is chosen -------------------------------------------------------------------------------------

CHOICE = """
import sys, warnings
sys.modules["triton"] = None  # as if it were not installed
import torch
from ssimgen import engine, ssim
from ssimgen.engine import eager
from ssimgen.engine.fused import pairs

x, y = torch.rand(2, 1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
expected = ssim(x.double(), y.double(), data_range=1.0)
ran = []
for module in (eager, pairs):
    run = module.squared_mean
    module.squared_mean = lambda *of, run=run, name=module.__name__: (ran.append(name), run(*of))[1]
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    values = [ssim(x, y, data_range=1.0) for _ in range(2)]
assert all((value - expected).abs().max() < 1e-6 for value in values)
print(ran[0].split(".")[2], *(f"{warning.category.__name__}: {warning.message}" for warning in said))
"""


@pytest.mark.parametrize(("chosen", "engine"), [("eager", "eager"), ("fused", "fused"), ("triton", "fused")])
def test_the_engine_is_chosen_by_name(chosen: str, engine: str, processes: Processes) -> None:
    """Kernels for GPUs leave a CPU to its own."""
    done = processes.run(CHOICE, SSIMGEN_ENGINE=chosen, TRITON_INTERPRET="0")
    assert (done.stdout.split(), done.stderr) == ([engine], "")


def test_where_triton_is_missing_one_warning_says_so(processes: Processes) -> None:
    said = processes.run(CHOICE, SSIMGEN_ENGINE="triton", TRITON_INTERPRET="1").stdout.strip()
    assert said.startswith("fused EngineWarning: the kernels for GPUs cannot run")
    assert said.count("there is no package triton") == 1


def test_an_engine_that_does_not_exist(processes: Processes) -> None:
    done = processes.run("from ssimgen import engine", SSIMGEN_ENGINE="cuda")
    assert done.returncode == 1
    assert "SSIMGEN_ENGINE must be one of eager, fused, triton, got 'cuda'" in done.stderr


def test_nothing_of_triton_is_imported_unasked(processes: Processes) -> None:
    imported = "import sys, torch, ssimgen; ssimgen.ssim(*torch.rand(2, 1, 1, 16, 16), data_range=1.0)"
    done = processes.run(f"{imported}; print([name for name in sys.modules if 'engine.triton' in name])")
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
