"""Imports inside the library go only downward, and modules of one layer do not import each other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import ssimgen

SOURCE = Path(ssimgen.__file__).parent

# From the bottom to the top. A subpackage is one name: its own files may import each other. "ssimgen" stands for
# ssimgen/__init__.py, which names what the modules below it offer.
LAYERS = [
    ["_precision", "_version"],
    [
        "_files",
        "_array_memory",
        "_extras",
        "_holm",
        "_interruption",
        "_memory",
        "_numbers",
        "_options",
        "_shown",
        "batches",
        "streaming",
    ],
    ["_stored_pixels", "scores", "plots"],
    ["_judged"],
    ["_reading", "_usage", "windows", "distributed", "pictures"],
    ["data", "report"],
    ["_arguments", "_remembered", "engine"],
    ["_masks", "_request"],
    ["_array_axes", "_range_check", "_scales"],
    ["_pyramid"],
    ["similarity"],
    ["pairwise", "presets", "features"],
    ["arrays", "metrics"],
    ["kernels", "components", "subspace"],
    ["discrepancy"],
    ["losses", "evaluation", "torchmetrics"],
    ["objectives"],
    ["models"],
    ["runs", "detection"],
    ["training"],
    ["study"],
    ["ssimgen"],
    ["commands"],
    ["cli"],
    ["__main__"],
]
LEVEL = {name: level for level, layer in enumerate(LAYERS) for name in layer}


def unit(path: Path) -> str:
    """The module or subpackage that a file belongs to."""
    name = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    return "ssimgen" if name == "__init__" else name


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module or subpackage) of everything that a file imports from the library, inside functions too."""
    units = {unit(file) for file in SOURCE.rglob("*.py")}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            targets = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for first, *rest in (target.split(".") for target in targets):
            if first == "ssimgen":
                yield node.lineno, rest[0] if rest and rest[0] in units else "ssimgen"


def test_every_module_has_its_layer() -> None:
    assert {unit(path) for path in SOURCE.rglob("*.py")} == set(LEVEL)


def test_imports_go_downward() -> None:
    wrong = [
        f"{path.relative_to(SOURCE)}:{line} imports {imported}"
        for path in sorted(SOURCE.rglob("*.py"))
        for line, imported in imports(path)
        if imported != unit(path) and LEVEL[imported] >= LEVEL[unit(path)]
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("room", ["scores", "report"])
def test_what_reads_runs_needs_no_torch(room: str) -> None:
    """Nor does anything that it imports."""
    seen, waiting = set(), {room}
    while waiting:
        seen |= waiting
        files = [path for path in SOURCE.rglob("*.py") if unit(path) in waiting]
        assert not [path.name for path in files if re.search(r"^\s*(import|from) torch\b", path.read_text(), re.M)]
        waiting = {imported for path in files for _, imported in imports(path)} - seen


def test_the_loop_knows_no_model() -> None:
    """A model gives steps; the loop takes steps. The package's front alone offers what makes a model."""
    known = {
        node.module
        for path in (SOURCE / "training").glob("*.py")
        if path.name != "__init__.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ssimgen.models")
    }
    assert known == {"ssimgen.models.steps", "ssimgen.models.options"}


def test_evaluation_computes_and_shows_nothing() -> None:
    """Tables, pictures and options are of the command that shows them."""
    shown = {"argparse", "matplotlib", "rich", "tyro"}
    wrong = [
        f"{path.relative_to(SOURCE)}:{node.lineno} imports {name}"
        for path in sorted((SOURCE / "evaluation").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        if name.split(".")[0] in shown
    ]
    assert not wrong, "\n".join(wrong)
