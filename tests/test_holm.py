"""P-values adjusted for several tests at once."""

import pytest

from ssimgen._holm import holm


def test_holm_by_hand() -> None:
    # sorted 0.01, 0.02, 0.04, times 3, 2, 1: 0.03, 0.04, 0.04
    assert holm([0.04, None, 0.01, 0.02]) == [pytest.approx(0.04), None, pytest.approx(0.03), pytest.approx(0.04)]
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_adjusts_step_by_step() -> None:
    """4 x 0.01, 3 x 0.02 = 0.06, then 2 x 0.025 = 0.05 is raised to 0.06 to keep the order; never above 1."""
    assert holm([0.02, 0.01, 0.6, 0.025]) == pytest.approx([0.06, 0.04, 0.6, 0.06])
    assert holm([0.7, 0.8]) == [1.0, 1.0]
