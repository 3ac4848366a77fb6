"""A short slice of `make faults`."""

import os
import subprocess
import sys
from pathlib import Path


def test_nothing_that_happens_to_a_run_is_lost() -> None:
    """Of the kinds that take no new interpreter, each twice at least."""
    kinds = ("kill", "damage", "full")
    words = ["--kinds", ",".join(kinds), "--seed", "5", "--cases", "6", "--minutes", "4"]
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("faults.py"), *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    cases = {line.split()[0]: int(line.split()[1]) for line in done.stdout.splitlines()[1:]}
    assert min(cases[kind] for kind in kinds) >= 2, done.stdout
