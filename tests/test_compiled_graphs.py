"""What is written with the library compiles in one graph."""

import json
import subprocess
import sys

import pytest

import compiled_graphs


@pytest.fixture(scope="module")
def wrong() -> dict[str, str]:
    """What went wrong in each check, in one process for all."""
    done = subprocess.run([sys.executable, compiled_graphs.__file__], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("name", [check.__name__ for check in compiled_graphs.CHECKS])
def test_compiles_in_one_graph(name: str, wrong: dict[str, str]) -> None:
    assert name not in wrong, wrong[name]
