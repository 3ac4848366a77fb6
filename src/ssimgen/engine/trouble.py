"""What is said where the engine that is to run cannot."""


class EngineWarning(UserWarning):
    """The engine that was to run cannot, and another one does, with the same results.

    Given once a process; off with `warnings.simplefilter("ignore", ssimgen.EngineWarning)`, or without reason where
    the environment variable SSIMGEN_ENGINE is "eager", which asks for PyTorch's operations.

    Example:
        >>> import warnings, ssimgen
        >>> warnings.simplefilter("ignore", ssimgen.EngineWarning)
    """
