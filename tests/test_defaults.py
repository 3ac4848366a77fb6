"""What is computed where nothing is said: numbers and choices that the documentation and the papers promise."""

import inspect
import math
from importlib import import_module
from typing import Any

import pytest

CONSTANTS = {"k1": 0.01, "k2": 0.03}  # Wang, Bovik, Sheikh, Simoncelli 2004
SCALES = {"scales": 1, "pixels": 0.0}
DISTANCE = {"form": "sum", "norm": "rms", "squared": False, **CONSTANTS, **SCALES}
TEST = {"permutations": 1000, "seed": 0, "level": 0.05}

DEFAULTS: dict[str, dict[str, dict[str, Any]]] = {
    "windows": {
        "AxisWindow": {"stride": 1, "padding": "valid"},
        "Window": {"stride": 1, "beta": 1.0, "unbiased": False, "padding": "valid"},
        "Window.gaussian": {"size": 11, "sigma": 1.5, "stride": 1, "padding": "valid"},
        "Window.uniform": {"stride": 1, "unbiased": False, "padding": "valid"},
        "Window.positions": {"axis": 0},
    },
    "similarity": {
        "ssim": CONSTANTS,
        "ssim_map": {**CONSTANTS, "fill": math.nan},
        "distance": DISTANCE,
        "ms_ssim": CONSTANTS,
    },
    "pairwise": {
        "ssim": {**CONSTANTS, "progress": False},
        "distance": {**DISTANCE, "progress": False},
    },
    "metrics": {"StructuralDistance": {"form": "sum", "norm": "rms", **CONSTANTS, **SCALES}},
    "kernels": {"SSIM": CONSTANTS},
    "discrepancy": {
        "mmd2": {"unbiased": True},
        "energy_distance": {"unbiased": True},
        "embedded_mmd2": {"unbiased": True},
        "TwoSampleResult": {"shared": 0},
        "two_sample_test": TEST,
        "permutation_test": TEST,
    },
    "losses": {
        "SSIMLoss": {**CONSTANTS, "reduction": "mean"},
        "MSSSIMLoss": {**CONSTANTS, "reduction": "mean"},
        "StructuralDistanceLoss": {**DISTANCE, "squared": True, "reduction": "mean"},
        "MMDLoss": {"unbiased": False, "root": False, "gather": False},
        "EnergyLoss": {"unbiased": True, "gather": False},
    },
    "torchmetrics": {
        "SSIMMetric": CONSTANTS,
        "MSSSIMMetric": CONSTANTS,
        "StructuralDistanceMetric": DISTANCE,
        "MMDMetric": {"unbiased": True},
        "EnergyDistanceMetric": {"unbiased": True},
    },
    "report.statistics": {
        "mean": {"level": 0.95},
        "paired": {"level": 0.95},
        "effect": {"level": 0.95},
        "power": {"level": 0.05},
        "detectable": {"level": 0.05, "wanted": 0.8},
        "pairs_needed": {"level": 0.05, "wanted": 0.8},
    },
    "streaming": {
        "mmd2": {"unbiased": True},
        "energy_distance": {"unbiased": True},
        "block_sum": {"diagonal": True},
    },
    "models.networks": {
        "Network": {
            "kind": "conv",
            "width": 32,
            "activation": "relu",
            "norm": "none",
            "dropout": 0.0,
            "input_dropout": 0.0,
            "marginals": False,
        },
        "score_map": {"outputs": 1},
    },
    "objectives.structure": {
        "Structure": {
            "form": "product",
            "norm": "rms",
            "window": "gaussian",
            "size": 11,
            "sigma": 1.5,
            "stride": 1,
            "unbiased": False,
            "padding": "valid",
            **CONSTANTS,
            **SCALES,
        }
    },
    "objectives.reconstruction": {"Reconstruction": {"name": "ssim", "alpha": 0.84}},  # Zhao et al. 2017
    "objectives.adversarial": {
        "Perceptual": {"kind": "none", "weight": 1.0, "error": "ssim"},
        "LabelDistance": {"kind": "l2"},
        "discriminator_losses": {"game": "non-saturating"},
    },
    "objectives.lipschitz": {"Penalty": {"kind": "none", "weight": 10.0, "slope_weight": 1.0, "error": "ssim"}},
    "objectives.moment_matching": {
        "PairKernel": {"kind": "gaussian", "metric": "ssim", "relative": True, "thinning": 1, "drawn": 0},
    },
    "objectives.distances": {"BlockDistance": {"form": "sum", **CONSTANTS}},
    "detection.maps": {"anomaly_map": {"residual": "ssim", "smoothing": 0.0, **CONSTANTS}},
    "detection.detector": {"Detector": {"residual": "ssim", "smoothing": 2.0, "overlap": 0.5, **CONSTANTS}},
    "detection.tiles": {"reconstruct_in_tiles": {"overlap": 0.5}},
    "detection.thresholds": {"conformal_threshold": {"rate": 0.05}},
    "detection.scores": {"pro": {"limit": 0.3}, "AnomalyScores.pro": {"limit": 0.3}},  # Bergmann et al. 2019
    "evaluation.estimates": {"Bootstrap": {"resamples": 1000, "level": 0.95, "seed": 0}},
    "evaluation.manifolds": {
        "precision": {"neighbours": 3},  # Kynkaanniemi et al. 2019
        "recall": {"neighbours": 3},
        "density": {"neighbours": 5},  # Naeem et al. 2020
        "coverage": {"neighbours": 5},
    },
    "evaluation.classification": {"train_classifier": {"epochs": 8, "seed": 0}, "at_chance": {"level": 0.01}},
    "evaluation.sets": {"compare_sets": {"kernel": "components", "form": "sum", **CONSTANTS, **TEST}},
}


def found(module: str) -> dict[str, dict[str, Any]]:
    """Numbers and words that stand in for what is not said, of everything public that a module or package defines."""
    home = import_module(f"ssimgen.{module}")
    public = {name: value for name, value in vars(home).items() if not name.startswith("_")}
    public = {n: v for n, v in public.items() if f"{getattr(v, '__module__', '')}.".startswith(f"{home.__name__}.")}
    for name, value in list(public.items()):
        if inspect.isclass(value):
            methods = (method for method in vars(value) if not method.startswith("_"))
            public |= {f"{name}.{method}": getattr(value, method) for method in methods}
    defaults = {name: _defaults(value) for name, value in public.items() if callable(value)}
    return {name: some for name, some in defaults.items() if some}


def _defaults(function: Any) -> dict[str, Any]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return {}  # a name for a type
    return {each.name: each.default for each in parameters if isinstance(each.default, bool | int | float | str)}


@pytest.mark.parametrize("module", DEFAULTS)
def test_defaults(module: str) -> None:
    defaults = found(module)
    if module == "pairwise":
        del defaults["check_room"]  # no part of the interface
    assert defaults == DEFAULTS[module]
