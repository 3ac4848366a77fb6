"""A short slice of `make faults`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(("kinds", "seed", "cases"), [("kill", 0, 4), ("damage", 0, 6), ("full", 0, 3)])
def test_nothing_that_happens_to_a_run_is_lost(kinds: str, seed: int, cases: int) -> None:
    words = ["--kinds", kinds, "--seed", str(seed), "--cases", str(cases), "--minutes", "4"]
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("faults.py"), *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
