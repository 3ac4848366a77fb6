"""One training loop for every model: `train(model, data, folder)`.

The loop asks a model for its `steps()` and knows nothing else about it. In each iteration it draws a batch and
takes the steps that are due, in order. For each step it

1. lets only the parameters of the step's modules require gradients,
2. evaluates the named terms, and stops the run, naming step and term, if one is not finite,
3. follows the gradient of their weighted sum (averaged over devices, clipped if asked), and moves.

Iteration n is a function of the weights before it, the options and n alone: the batch is the n-th of an order fixed
by the seed, and the random generators are seeded anew from (seed, n). So a run that was interrupted and resumed
ends with the very weights, bit for bit on one machine, of one that was not; and pictures or hooks on the way
change nothing. `train` returns when the run is complete; SIGINT, SIGTERM and SIGHUP let it finish the iteration, write
a checkpoint and pictures, and raise :class:`Interrupted`. A checkpoint is never of weights that are not finite, and is
refused when a byte of it has changed.

loop.py       the run, from its first iteration to its last
iteration.py  one iteration
state.py      what an iteration changes, saved in a checkpoint and taken up again; average.py is part of it
hooks.py      pictures and what a caller adds on the way; monitoring.py: scores
loggers.py    where the lines of the log go besides
devices.py    devices and processes that share a run
bar.py        what a terminal shows
errors.py     what ends a run early

:func:`make_model` makes a model whose weights a seed fixes, :func:`load_model` the trained one from the run folder.
"""

from ssimgen._extras import extra

with extra("train", "ssimgen.training"):
    from ssimgen._reading import read_metrics
    from ssimgen.batches import Data
    from ssimgen.models.making import make_model
    from ssimgen.models.options import Hardware, Optimiser, Training
    from ssimgen.runs.checkpoints import CheckpointError
    from ssimgen.runs.folder import RunFolder, load_model
    from ssimgen.training.errors import Interrupted, NotFiniteError, NotWrittenError, ProcessLostError
    from ssimgen.training.hooks import Hook
    from ssimgen.training.loop import train
    from ssimgen.training.monitoring import evaluation_hook

__all__ = [
    "CheckpointError",
    "Data",
    "Hardware",
    "Hook",
    "Interrupted",
    "NotFiniteError",
    "NotWrittenError",
    "Optimiser",
    "ProcessLostError",
    "RunFolder",
    "Training",
    "evaluation_hook",
    "load_model",
    "make_model",
    "read_metrics",
    "train",
]
