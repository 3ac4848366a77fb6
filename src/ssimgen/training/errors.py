"""What ends a run before its time."""

from __future__ import annotations

import signal

TAMER = "the last checkpoint is kept; try a lower learning rate, less weight decay or gradient clipping"


class NotFiniteError(RuntimeError):
    """Training stopped because a loss term, gradient or weight became NaN or infinite.

    Example:
        >>> import torch
        >>> from pathlib import Path
        >>> from ssimgen.data import Images
        >>> from ssimgen.models import VAE, VAEConfig, make_model
        >>> from ssimgen.models.networks import Network
        >>> from ssimgen.training import NotFiniteError, Optimiser, Training, train
        >>> images = Images(torch.rand(40, 1, 12, 12), None, "noise")
        >>> config = VAEConfig(0.1, objective="l2", network=Network("mlp", hidden=(8,)))
        >>> model = make_model(VAE, config, images.shape, seed=0)
        >>> try:
        ...     train(model, images, Path("run"), training=Training(batch=8), optimiser=Optimiser("sgd", lr=1e30))
        ... except NotFiniteError as error:
        ...     print(error)
        vae ...
        ...of step 'vae' is ... in iteration 2: the last checkpoint is kept; try a lower learning rate...
    """


class NotWrittenError(OSError):
    """Training stopped because a file of the run could not be written, as on a full disk.

    Example:
        >>> from ssimgen.training import NotWrittenError
        >>> issubclass(NotWrittenError, OSError)
        True
    """


class ProcessLostError(RuntimeError):
    """Training stopped because another process of the run is gone.

    Example:
        >>> from ssimgen.training import ProcessLostError
        >>> issubclass(ProcessLostError, RuntimeError)
        True
    """


class Interrupted(Exception):  # noqa: N818 - not an error: the run can go on
    """A signal stopped the run after a checkpoint was written.

    Example:
        >>> import signal
        >>> from ssimgen.training import Interrupted
        >>> print(Interrupted(signal.SIGTERM, 500))
        stopped by SIGTERM after iteration 500, checkpoint written
    """

    def __init__(self, signum: int, iteration: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name} after iteration {iteration}, checkpoint written")
        self.signum, self.iteration = signum, iteration
