"""A stand-in for PyTorch's compiler, the import of which is a third of the time until a run begins.

PyTorch's optimisers and Lightning Fabric import it for three names that do nothing where nothing is compiled, as in a
command and the processes of a study. Whoever asks the stand-in for another one, such as DistributedDataParallel, gets
it of the compiler itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

_NAME = "torch._dynamo"


class _StandIn(ModuleType):
    OptimizedModule = type("OptimizedModule", (), {})  # nothing is one

    @staticmethod
    def disable(function: Callable[..., Any], *_: Any, **__: Any) -> Callable[..., Any]:
        """The function itself: there is no compiler to keep away from it."""
        return function

    @staticmethod
    def graph_break() -> None:
        """There is no graph."""

    def __init__(self) -> None:
        import torch

        super().__init__(_NAME)
        self.__path__ = [str(Path(torch.__file__).parent / "_dynamo")]  # whoever imports a part of it gets that part

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what importing asks of any module
            raise AttributeError(name)
        self.leave()
        return getattr(import_module(_NAME), name)

    def leave(self) -> None:
        """Make room for the compiler."""
        import torch

        if sys.modules.get(_NAME) is not self:
            return
        del sys.modules[_NAME]
        del torch._dynamo
        if parts := [name for name in vars(self) if f"{_NAME}.{name}" in sys.modules]:
            whole = import_module(_NAME)
            for name in parts:  # which their import has bound to the stand-in
                setattr(whole, name, sys.modules[f"{_NAME}.{name}"])


@contextmanager
def without_compiler() -> Iterator[None]:
    """Within it, PyTorch's compiler is imported only if more is asked of it than not to compile."""
    import torch

    if _NAME in sys.modules:
        yield
        return
    stand_in = _StandIn()
    sys.modules[_NAME] = torch._dynamo = stand_in
    try:
        yield
    finally:
        stand_in.leave()
