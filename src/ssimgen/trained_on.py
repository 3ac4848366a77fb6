"""Whether a metric judges the very objective that a model was trained on.

A model trained with SSIM wins in SSIM; that proves little. :func:`trained_on` says for a metric of an evaluation and
the configuration of a run

- "yes": the metric is the objective, or rises and falls with it;
- "related": it looks at the same thing, pixels or structure, in another way;
- "no": it is independent of what was trained, and may judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeGuard

Answer = Literal["yes", "related", "no"]

_LOOKS_AT = {
    "l2": {"pixels"},
    "l1": {"pixels"},
    "bce": {"pixels"},
    "ssim": {"structure"},
    "ms_ssim": {"structure"},
    "mix": {"structure", "pixels"},
}

_METRICS = {  # name -> what it looks at, and the objective that it is
    "PSNR, dB": ("pixels", "l2"),
    "SSIM": ("structure", "ssim product"),
    "MS-SSIM": ("structure", "ms_ssim"),
    "Gaussian kernel on pixels": ("pixels", "gaussian l2"),
    "Gaussian kernel on structural distance": ("structure", "gaussian ssim"),
    "SSIM kernel": ("structure", "none is"),
    "structural distance to the nearest training image": ("structure", "none is"),
}


def trained_on(metric: str, config: Mapping[str, Any]) -> Answer:
    """Whether `metric`, a row of an evaluation, is what a model with the options `config` was trained on."""
    name = metric.partition("(")[2].rstrip(")") if metric.startswith(("MMD^2 (", "p-value (")) else metric
    if name not in _METRICS:
        return "no"
    looks_at, itself = _METRICS[name]
    objectives = list(_objectives(config))
    if any(itself == objective for objective, _ in objectives):
        return "yes"
    return "related" if any(looks_at in seen for _, seen in objectives) else "no"


def _objectives(config: Mapping[str, Any]) -> Iterator[tuple[str, set[str]]]:
    """Everything that compares images in the training of a model: its name, and what it looks at."""
    structure = _table(config, "structure")
    for key in ("objective", "energy"):  # errors of reconstructions; of a discriminator that reconstructs
        error = config.get(key)
        if _known(error):
            yield f"ssim {structure.get('form', 'product')}" if error == "ssim" else error, _LOOKS_AT[error]
    perceptual = _table(config, "perceptual")
    if perceptual.get("kind", "none") != "none" and _known(error := perceptual.get("error")):
        yield f"perceptual {error}", _LOOKS_AT[error]
    kernel = _table(config, "kernel")
    if config.get("compare") != "codes" and _known(metric := kernel.get("metric")):  # codes are not images
        yield f"{kernel.get('kind')} {metric}", _LOOKS_AT[metric]


def _table(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The options of that name, none if there are none."""
    value = config.get(key)
    return value if isinstance(value, Mapping) else {}


def _known(error: Any) -> TypeGuard[str]:
    return isinstance(error, str) and error in _LOOKS_AT
