"""Whether a metric judges the very objective that a model was trained on.

A model trained with SSIM wins in SSIM; that proves little. :func:`trained_on` says for a metric of an evaluation and
the configuration of a run

- "yes": the metric is the objective, or rises and falls with it;
- "related": it looks at the same thing, pixels or structure, in another way;
- "no": it is independent of what was trained, and may judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

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
    for key in ("objective", "energy"):  # errors of reconstructions; of a discriminator that reconstructs
        error = config.get(key)
        if isinstance(error, str) and error in _LOOKS_AT:
            yield _of_pairs(error, config.get("structure", {})), _LOOKS_AT[error]
    perceptual = config.get("perceptual")
    if isinstance(perceptual, Mapping) and perceptual.get("kind", "none") != "none":
        yield f"perceptual {perceptual['error']}", _LOOKS_AT[perceptual["error"]]
    kernel = config.get("kernel")
    if isinstance(kernel, Mapping) and config.get("compare") != "codes":  # codes are not images
        yield f"{kernel['kind']} {kernel['metric']}", _LOOKS_AT[kernel["metric"]]


def _of_pairs(error: str, structure: Mapping[str, Any]) -> str:
    return f"ssim {structure.get('form', 'product')}" if error == "ssim" else error
