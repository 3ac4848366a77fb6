"""How long, and by which optimiser, each model is trained where nothing else is asked for."""

from __future__ import annotations

from dataclasses import replace

from ssimgen.models.options import Optimiser, Training

_MANY = Training(iterations=600, batch=256)  # a discrepancy of samples needs many in a batch
_FALLING = Optimiser(lr=5e-3, schedule="cosine")
_ADVERSARIAL = Training(iterations=3500, ema=0.99), Optimiser(lr=1e-3, momentum=0.5)

DEFAULTS: dict[str, tuple[Training, Optimiser]] = {
    "aae": (Training(iterations=2500), Optimiser()),
    "gan": _ADVERSARIAL,
    "lsgan": _ADVERSARIAL,
    "began": (Training(iterations=1500, ema=0.99), Optimiser(lr=5e-4, momentum=0.5)),
    "gmmn": (_MANY, _FALLING),
    "code-gmmn": (replace(_MANY, iterations=1500), Optimiser()),
    "cgmmn": (_MANY, _FALLING),
}
"""By the names of MODELS, where they are not those of every other."""


def usual_training(model: str) -> tuple[Training, Optimiser]:
    """Length and optimiser of a model, in `ssimgen train` and in studies alike.

    Example:
        >>> from ssimgen.models import usual_training
        >>> training, optimiser = usual_training("gmmn")
        >>> training.batch, optimiser.schedule
        (256, 'cosine')
    """
    return DEFAULTS.get(model, (Training(), Optimiser()))
