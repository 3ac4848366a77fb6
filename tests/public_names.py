"""Everything public, and the examples in its docstrings."""

import doctest
import inspect
from importlib import import_module
from typing import Any

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
    "ssimgen.plots",
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


def examples(name: str, value: Any) -> doctest.DocTest:
    """Those of the docstring of something public."""
    return doctest.DocTestParser().get_doctest(inspect.getdoc(value) or "", {}, name, None, None)
