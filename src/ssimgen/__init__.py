"""Structural similarity (SSIM) as a loss, a metric and a kernel, for generative models and autoencoders.

Image pairs: :func:`ssim`, :func:`ssim_map`, :func:`ms_ssim`, :func:`distance`; all pairs: :mod:`ssimgen.pairwise`;
as `torch.nn.Module`: :mod:`ssimgen.losses`; of NumPy arrays and pictures: :mod:`ssimgen.arrays`. :func:`warmup`
compiles ahead what calls need. Modules, as `ssimgen.losses`, are imported when they are first named.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from ssimgen._extras import ExtraNeededError as _ExtraNeededError

if TYPE_CHECKING:
    from ssimgen import (
        arrays,
        batches,
        components,
        discrepancy,
        evaluation,
        kernels,
        losses,
        metrics,
        models,
        objectives,
        pairwise,
        plots,
        presets,
        scores,
        streaming,
    )
    from ssimgen import data as data
    from ssimgen import detection as detection
    from ssimgen import distributed as distributed
    from ssimgen import features as features
    from ssimgen import pictures as pictures
    from ssimgen import report as report
    from ssimgen import runs as runs
    from ssimgen import study as study
    from ssimgen import subspace as subspace
    from ssimgen import torchmetrics as torchmetrics
    from ssimgen import training as training
    from ssimgen._range_check import DataRangeWarning
    from ssimgen._request import DataRange
    from ssimgen._version import __version__ as __version__
    from ssimgen.engine.fused.compilation import warmup
    from ssimgen.engine.trouble import EngineWarning
    from ssimgen.similarity import distance, ms_ssim, ssim, ssim_map
    from ssimgen.windows import Window

__all__ = [  # what every installation has; `dir` shows the modules that need an extra too
    "DataRange",
    "DataRangeWarning",
    "EngineWarning",
    "Window",
    "arrays",
    "batches",
    "components",
    "discrepancy",
    "distance",
    "evaluation",
    "kernels",
    "losses",
    "metrics",
    "models",
    "ms_ssim",
    "objectives",
    "pairwise",
    "plots",
    "presets",
    "scores",
    "ssim",
    "ssim_map",
    "streaming",
    "warmup",
]
if not TYPE_CHECKING:  # import what is asked for when it is asked for: help must not wait for PyTorch
    _HOMES = {"distance": "similarity", "ms_ssim": "similarity", "ssim": "similarity", "ssim_map": "similarity"}
    _HOMES |= {"DataRange": "_request", "DataRangeWarning": "_range_check", "EngineWarning": "engine.trouble"}
    _HOMES |= {"Window": "windows", "__version__": "_version", "warmup": "engine.fused.compilation"}
    _WITH_EXTRAS = ("data", "detection", "distributed", "features", "pictures", "report", "runs", "study", "subspace")
    _MODULES = {*_WITH_EXTRAS, "torchmetrics", "training", *__all__} - _HOMES.keys()

    def __getattr__(name: str) -> object:
        if name in _MODULES:
            try:
                module = import_module(f"{__name__}.{name}")
            except _ExtraNeededError as error:  # Tab, help and hasattr ask for what may not be there
                raise AttributeError(str(error)) from None
            if public := _public(module):
                vars(module).setdefault("__dir__", lambda: public)
            return module
        if name in _HOMES:
            return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def _public(module: ModuleType) -> list[str]:
        """What a module offers: what it says it does, otherwise the functions and classes that are its own."""
        own = (k for k, v in vars(module).items() if k[0] != "_" and getattr(v, "__module__", "") == module.__name__)
        return sorted(getattr(module, "__all__", own))

    def __dir__() -> list[str]:
        return sorted({*_MODULES, *_HOMES})
