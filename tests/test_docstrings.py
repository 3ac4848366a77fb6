"""Everything public says in its docstring what it is, and shows an example that runs."""

import doctest
import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("eager_engine")

MODULES = [
    "ssimgen",
    "ssimgen.windows",
    "ssimgen.pairwise",
    "ssimgen.presets",
    "ssimgen.arrays",
    "ssimgen.metrics",
    "ssimgen.components",
    "ssimgen.kernels",
    "ssimgen.discrepancy",
    "ssimgen.losses",
    "ssimgen.torchmetrics",
    "ssimgen.features",
    "ssimgen.subspace",
    "ssimgen.streaming",
    "ssimgen.distributed",
    "ssimgen.pictures",
    "ssimgen.objectives.structure",
    "ssimgen.objectives.reconstruction",
    "ssimgen.objectives.adversarial",
    "ssimgen.objectives.moment_matching",
    "ssimgen.evaluation",
    "ssimgen.evaluation.sets",
    "ssimgen.evaluation.neighbours",
    "ssimgen.models",
    "ssimgen.models.networks",
    "ssimgen.models.interpolation",
    "ssimgen.data",
    "ssimgen.detection",
    "ssimgen.batches",
    "ssimgen.training",
    "ssimgen.runs",
    "ssimgen.report",
    "ssimgen.study",
    "ssimgen.study.quick",
]


def public(module: str) -> dict[str, Any]:
    """The functions and classes that `__all__` names or, without it, that the module defines without an underscore."""
    home = import_module(module)
    own = [n for n, value in vars(home).items() if getattr(value, "__module__", "") == module and not n.startswith("_")]
    named = {f"{module}.{name}": getattr(home, name) for name in getattr(home, "__all__", own)}
    return {name: value for name, value in named.items() if inspect.isfunction(value) or inspect.isclass(value)}


PUBLIC = {name: value for module in MODULES for name, value in public(module).items()}


def examples(name: str) -> doctest.DocTest:
    text = inspect.getdoc(PUBLIC[name]) or ""
    return doctest.DocTestParser().get_doctest(text, {}, name, None, None)


def test_everything_public_has_an_example() -> None:
    assert [name for name in PUBLIC if not examples(name).examples] == []


def test_public_methods_are_documented() -> None:
    methods = {f"{name}.{key}": getattr(value, key) for name, value in PUBLIC.items() for key in vars(value)}
    methods = {name: method for name, method in methods.items() if callable(method) or isinstance(method, property)}
    assert [n for n, method in methods.items() if n.split(".")[-1][0] != "_" and not inspect.getdoc(method)] == []


@pytest.mark.usefixtures("eager_engine")
@pytest.mark.parametrize("name", PUBLIC)
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each by itself: an example imports what it needs."""
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(examples(name), out=said.append)
    assert not said, "".join(said)
