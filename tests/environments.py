"""Environments with fewer packages than this one: what an extra brings, and processes that find nothing else."""

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


@cache
def installed() -> Mapping[str, list[str]]:
    """The top-level modules here, and the distributions that they are of; reading it takes a second."""
    return packages_distributions()


@cache
def brought(*extras: str) -> frozenset[str]:
    """The top-level modules, of those installed here, that an installation with these extras has."""
    waiting = [Requirement(text) for text in PROJECT["dependencies"]]
    waiting += [Requirement(text) for extra in extras for text in EXTRAS[extra]]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        key = _plain(requirement.name), frozenset(requirement.extras)
        if key in seen or not _asked_for(requirement, {""}):
            continue
        seen.add(key)
        if key[0] == "ssimgen":
            waiting += [Requirement(text) for extra in requirement.extras for text in EXTRAS[extra]]
            continue
        waiting += [r for r in _requirements(requirement.name) if _asked_for(r, requirement.extras or {""})]
    names = {name for name, _ in seen}
    return frozenset(module for module, of in installed().items() if names & {_plain(name) for name in of})


def without(*modules: str) -> str:
    """The beginning of a script that finds none of these top-level modules."""
    return f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\nimport environments\n" + (
        f"environments.hide({sorted(modules)!r})\n"
    )


def only(*extras: str) -> str:
    """The beginning of a script that finds the standard library, and what an installation with these extras has."""
    return without(*installed().keys() - brought(*extras) - {"ssimgen"})


def hide(modules: Iterable[str]) -> None:
    """Let this process find no modules of these names, imported already or not."""
    hidden = set(modules)
    distributions = {_plain(name) for module in hidden for name in installed().get(module, ())}
    for name in [name for name in sys.modules if name.partition(".")[0] in hidden]:
        del sys.modules[name]
    sys.meta_path[:] = [_Without(hidden, distributions, finder) for finder in sys.meta_path]


class _Without:
    """A finder that does not find some modules, and the distributions that have them."""

    def __init__(self, modules: set[str], distributions: set[str], finder: Any) -> None:
        self._modules, self._distributions, self._finder = modules, distributions, finder

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        return None if name.partition(".")[0] in self._modules else self._finder.find_spec(name, path, target)

    def find_distributions(self, *context: Any) -> Iterator[Distribution]:
        for found in getattr(self._finder, "find_distributions", lambda *_: ())(*context):
            if _plain(found.name) not in self._distributions:
                yield found


@cache
def _requirements(distribution: str) -> list[Requirement]:
    try:
        return [Requirement(text) for text in requires(distribution) or []]
    except PackageNotFoundError:  # of another platform
        return []


def _asked_for(requirement: Requirement, extras: Iterable[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in extras)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
