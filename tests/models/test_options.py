"""Learning-rate schedules, optimisers, and errors in options."""

import math

import numpy as np
import pytest
import torch

from ssimgen.data import Source
from ssimgen.training import Hardware, Optimiser, Training


def test_schedules() -> None:
    assert [Optimiser().lr_factor(p) for p in (0, 0.5, 0.99)] == [1, 1, 1]
    assert Optimiser(schedule="linear").lr_factor(0.25) == 0.75
    assert Optimiser(schedule="cosine").lr_factor(0.25) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    drops = Optimiser(schedule="drops", drops=(0.5, 0.75))
    assert [drops.lr_factor(p) for p in (0.49, 0.5, 0.75)] == pytest.approx([1, 0.1, 0.01])
    assert [Optimiser(warmup=0.2).lr_factor(p) for p in (0.0, 0.1, 0.2, 0.9)] == pytest.approx([0, 0.5, 1, 1])


@pytest.mark.parametrize(
    ("method", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)]
)
def test_optimisers_have_the_options_asked_for(method: str, kind: type) -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    made = Optimiser(method=method, lr=0.1, momentum=0.5, beta2=0.9, weight_decay=0.01).make([parameter], 0.5)
    group = made.param_groups[0]
    assert type(made) is kind
    assert group["lr"] == 0.05
    assert group["weight_decay"] == 0.01
    assert group["momentum" if method == "sgd" else "betas"] == (0.5 if method == "sgd" else (0.5, 0.9))


@pytest.mark.parametrize(
    ("record", "options", "message"),
    [
        (Training, {"iterations": 0}, "iterations must be at least 1, got 0"),
        (Training, {"ema": 1.0}, r"ema must be a decay in \[0, 1\)"),
        (Training, {"seed": -1}, r"seed must be in \[0, 2\^63\)"),
        (Optimiser, {"method": "adan"}, "did you mean 'adam"),
        (Optimiser, {"lr": 0.0}, "lr must be a positive number"),
        (Optimiser, {"lr": float("nan")}, "lr must be a positive number"),
        (Optimiser, {"momentum": 1.0}, r"momentum must be in \[0, 1\)"),
        (Optimiser, {"lr": 1e300}, r"lr must be a positive number, between 1e-30 and 1e\+30, got 1e\+300"),
        (Optimiser, {"clip": -1.0}, "clip must be a positive number, or 0 for none"),
        (Optimiser, {"weight_decay": math.inf}, "weight_decay must be a positive number, or 0 for none"),
        (Optimiser, {"momentum": 1 - 1e-16}, r"momentum must be in \[0, 1\), at most 1 - 1e-7"),
        (Training, {"iterations": 10**8}, "iterations must be at most 99999999"),
        (Optimiser, {"schedule": "cosin"}, "did you mean 'cosine'"),
        (Hardware, {"precision": "64"}, "precision must be one of"),
        (Hardware, {"devices": 0}, "devices and num_nodes must be at least 1"),
    ],
)
@pytest.mark.usefixtures("no_shape_checks")
def test_bad_options_are_named(record: type, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        record(**options)


@pytest.mark.parametrize(
    ("record", "options", "message"),
    [
        (Source, {"size": "a"}, r"size must be a whole number or None, got 'a'"),
        (Source, {"size": 2.5}, r"size must be a whole number or None, got 2.5"),
        (Source, {"held_out": "a"}, "held_out must be a number, got 'a'"),
        (Source, {"data": 3}, "data must be a text, got 3"),
        (Source, {"grey": "no"}, "grey must be true or false, got 'no'"),
        (Training, {"iterations": "many"}, "iterations must be a whole number, got 'many'"),
        (Optimiser, {"lr": "fast"}, "lr must be a number, got 'fast'"),
        (Optimiser, {"drops": 0.5}, "drops must be a list of numbers, got 0.5"),
        (Hardware, {"devices": "auto"}, "devices must be a whole number, got 'auto'"),
    ],
)
@pytest.mark.usefixtures("no_shape_checks")
def test_options_of_another_type_are_named(record: type, options: dict[str, object], message: str) -> None:
    with pytest.raises(TypeError, match=f"^{message}$"):
        record(**options)


@pytest.mark.usefixtures("no_shape_checks")
def test_numbers_of_numpy_are_numbers() -> None:
    source = Source(size=np.int64(8), held_out=np.float32(0.5))
    assert source == Source(size=8, held_out=0.5)
    assert (type(source.size), type(source.held_out)) == (int, float)
