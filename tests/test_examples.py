"""The examples run, at small size, and show what they say."""

import runpy
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name: str, **options: Any) -> dict[str, float]:
    result: dict[str, float] = runpy.run_path(str(EXAMPLES / name))["main"](**options)
    return result


def test_kernel_machines() -> None:
    accuracy = run("kernel_machines.py", training=60, test=60)
    assert min(accuracy.values()) > 0.5  # of ten classes


def test_neighbours() -> None:
    share = run("neighbours.py", database=200, queries=60)
    assert share["structure, all pairs"] > share["pixels"] + 0.2
    assert abs(share["structure, features in scikit-learn"] - share["structure, all pairs"]) < 0.05


def test_structure_components(tmp_path: Path) -> None:
    spread = run("structure_components.py", output=tmp_path / "picture.png", size=48)
    assert spread["structure, brightness"] < 0.1 * spread["structure, blur"]
    assert spread["pixels, brightness"] > 0.5 * spread["pixels, blur"]
    assert (tmp_path / "picture.png").stat().st_size > 10_000


def test_every_example_is_tested() -> None:
    tested = Path(__file__).read_text()
    assert all(f'"{path.name}"' in tested for path in EXAMPLES.glob("*.py"))
