"""What ends a run before its time."""

from __future__ import annotations

import signal

TAMER = "the last checkpoint is kept; try a lower learning rate, less weight decay or gradient clipping"


class NotFiniteError(RuntimeError):
    """A loss term, gradient or weight became NaN or infinite."""


class NotWrittenError(OSError):
    """A file of the run could not be written, as on a full disk."""


class ProcessLostError(RuntimeError):
    """Another process of the run is gone."""


class Interrupted(Exception):  # noqa: N818 - not an error: the run can go on
    """A signal stopped the run after a checkpoint was written."""

    def __init__(self, signum: int, iteration: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name} after iteration {iteration}, checkpoint written")
        self.signum, self.iteration = signum, iteration
