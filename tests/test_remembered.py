"""Options that came before are looked up: what is found is what would be computed, and errors are said each time."""

import numpy as np
import pytest
import torch

from ssimgen import Window, ssim
from ssimgen._remembered import remembered
from ssimgen._request import checked_options

WINDOW = Window.uniform(4)
IMAGES = torch.rand(2, 1, 1, 8, 8, generator=torch.Generator().manual_seed(0)).unbind()


def test_a_function_is_called_once_for_the_same_words() -> None:
    calls = []

    @remembered
    def checked(*options: object) -> int:
        """What is remembered."""
        calls.append(options)
        return len(calls)

    assert checked.__doc__ == "What is remembered."
    assert [checked(1.0, (0.0, 1.0), None, WINDOW) for _ in range(2)] == [1, 1]
    assert checked(1.0, (0.0, 1.0), None, Window.uniform(4)) == 1  # an equal window
    assert [checked(1, (0.0, 1.0), None, WINDOW), checked(True, (0.0, 1.0), None, WINDOW)] == [2, 3]
    assert [checked(other) for other in (np.float64(1.0), np.float64(1.0), (True, False), (True, False))] == [
        4,
        5,
        6,
        7,
    ]


def test_what_may_change_is_not_remembered() -> None:
    """An array or tensor is a number today."""
    for length in (torch.tensor(1.0), np.array(1.0)):
        first = checked_options(length, WINDOW, 0.01, 0.03, "sum")
        length += 1.0
        assert checked_options(length, WINDOW, 0.01, 0.03, "sum").c1 == 4 * first.c1


@pytest.mark.parametrize("wrong", [{"data_range": True}, {"data_range": (False, True)}, {"k1": True}])
def test_true_is_not_one(wrong: dict[str, object]) -> None:
    options = {"data_range": 1.0, "k1": 1.0, "window": WINDOW}
    for right in (options, options | {"data_range": (0, 1)}, options | {"data_range": 1}):
        ssim(*IMAGES, **right)
    for _ in range(2):
        with pytest.raises(ValueError, match="must be a positive number"):
            ssim(*IMAGES, **options | wrong)
