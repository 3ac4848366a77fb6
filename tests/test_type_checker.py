"""Under pytest, calls with values of other types than a function says, or of other shapes, are errors."""

from collections.abc import Callable

import pytest
import torch
from beartype.roar import BeartypeCallHintParamViolation
from jaxtyping import TypeCheckError

import type_checker
from ssimgen import scores
from ssimgen.discrepancy import mmd2
from ssimgen.engine import eager
from ssimgen.windows import Window


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: scores.read(3), BeartypeCallHintParamViolation),
        (lambda: scores.Metric(3, "lower"), TypeCheckError),
        (lambda: eager.filtered(torch.rand(8), Window.uniform(2)), TypeCheckError),
        (lambda: mmd2(torch.rand(3, 2), torch.rand(3, 2), torch.rand(2, 2)), TypeCheckError),
    ],
    ids=["type", "field", "axes", "sizes that differ"],
)
def test_wrong_arguments_are_errors(call: Callable[[], object], error: type[Exception]) -> None:
    with pytest.raises(error):
        call()


def test_the_first_calls_of_a_test_are_looked_at() -> None:
    for _ in range(type_checker.CALLS):
        scores.read("psnr")
    with pytest.raises(AttributeError, match="'int' object has no attribute"):
        scores.read(3)  # type: ignore[arg-type]
    type_checker.another_test()
    with pytest.raises(BeartypeCallHintParamViolation):
        scores.read(3)  # type: ignore[arg-type]


def test_users_have_no_such_checks(no_shape_checks: None) -> None:
    with pytest.raises(AttributeError, match="'int' object has no attribute"):
        scores.read(3)
