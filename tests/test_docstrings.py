"""Everything public says in its docstring what it is, and shows an example that runs."""

import doctest
import inspect
from pathlib import Path

import pytest
import torch

from public_names import MODULES, examples, public

pytestmark = pytest.mark.usefixtures("eager_engine")

PUBLIC = {name: value for module in MODULES for name, value in public(module).items()}


def test_everything_public_has_an_example() -> None:
    assert [name for name, value in PUBLIC.items() if not examples(name, value).examples] == []


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
    torch.manual_seed(0)  # examples of tests would fail once in some thousand draws
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(examples(name, PUBLIC[name]), out=said.append)
    assert not said, "".join(said)
