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

# Registers of a thread at most, of 255; above 168 a multiprocessor of NVIDIA's holds fewer than three programs.
REGISTERS = {
    "forward": 160,
    "forward with maps": 168,
    "forward of halves": 168,
    "backward": 128,
    "backward of halves": 168,
}


def run(script: str, *arguments: str, **environment: str) -> str:
    command = [sys.executable, HERE / script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@with_triton
@pytest.mark.parametrize("part", ["numbers", "wiring"])
def test_in_the_interpreter(part: str) -> None:
    checks = [json.loads(line) for line in run("interpreted.py", part).splitlines()]
    assert len(checks) > 5
    assert not any(check["wrong"] for check in checks), "\n".join(check["wrong"] for check in checks)


@with_triton
@pytest.mark.parametrize("target", ["cuda:80", "cuda:90", "cuda:100", "hip:gfx942"])
def test_compiles_without_spilling_registers(target: str, tmp_path: Path) -> None:
    taken = [json.loads(line) for line in run("compiled.py", target, TRITON_CACHE_DIR=str(tmp_path)).splitlines()]
    assert [kernel["kernel"] for kernel in taken] == list(REGISTERS)
    for kernel in taken:
        assert kernel["stack"] == 0, kernel
        assert kernel["registers"] <= REGISTERS[kernel["kernel"]], kernel


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
