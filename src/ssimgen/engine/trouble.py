"""What is said where the engine that is to run cannot."""

import sys


class EngineWarning(UserWarning):
    """The engine that was to run cannot, and another one does, with the same results.

    Given once a process; off with `warnings.simplefilter("ignore", ssimgen.EngineWarning)`, or without reason where
    the environment variable SSIMGEN_ENGINE is "eager", which asks for PyTorch's operations.

    Example:
        >>> import warnings, ssimgen
        >>> warnings.simplefilter("ignore", ssimgen.EngineWarning)
    """


def level_of_caller() -> int:
    """Which caller of the function that asks is the first beyond this library, and PyTorch, which calls modules."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] in ("ssimgen", "torch"):
        level, frame = level + 1, frame.f_back
    return level
