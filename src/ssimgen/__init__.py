"""Structural similarity (SSIM) as a loss, a metric and a kernel, for generative models and autoencoders.

Image pairs: :func:`ssim`, :func:`ssim_map`, :func:`ms_ssim`, :func:`distance`; all pairs: :mod:`ssimgen.pairwise`;
as `torch.nn.Module`: :mod:`ssimgen.losses`; of NumPy arrays and pictures: :mod:`ssimgen.arrays`. :func:`warmup`
compiles ahead what calls need.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssimgen import arrays, pairwise, presets
    from ssimgen._range_check import DataRangeWarning
    from ssimgen._request import DataRange
    from ssimgen.engine.fused.compilation import warmup
    from ssimgen.similarity import distance, ms_ssim, ssim, ssim_map
    from ssimgen.windows import Window

    __version__: str

__all__ = [
    "DataRange",
    "DataRangeWarning",
    "Window",
    "arrays",
    "distance",
    "ms_ssim",
    "pairwise",
    "presets",
    "ssim",
    "ssim_map",
    "warmup",
]

if not TYPE_CHECKING:  # import what is asked for when it is asked for: help must not wait for PyTorch
    _HOMES = {"distance": "similarity", "ms_ssim": "similarity", "ssim": "similarity", "ssim_map": "similarity"}
    _HOMES |= {"Window": "windows", "pairwise": "pairwise", "presets": "presets", "arrays": "arrays"}
    _HOMES |= {"DataRange": "_request", "DataRangeWarning": "_range_check", "warmup": "engine.fused.compilation"}

    def __getattr__(name: str) -> object:
        if name == "__version__":
            return _version()
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = import_module(f"{__name__}.{_HOMES[name]}")
        return home if _HOMES[name] == name else getattr(home, name)

    def _version() -> str:
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("ssimgen")
        except PackageNotFoundError:  # imported from a folder of sources that nobody has installed
            return "0+unknown"
