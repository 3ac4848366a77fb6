"""Statistics over seeds against textbook values and closed forms."""

import math

import pytest

from ssimgen.report.statistics import Difference, Mean, at_rate, common_rates, mean, paired


def test_the_interval_is_students() -> None:
    found = mean([1.0, 2.0, 3.0])
    half = 4.302653 / math.sqrt(3)  # t of 2 degrees of freedom at 0.975, from tables; s = 1
    assert (found.value, found.n) == (2.0, 3)
    assert found.low == pytest.approx(2 - half, rel=1e-6)
    assert found.high == pytest.approx(2 + half, rel=1e-6)


def test_one_seed_has_no_interval() -> None:
    assert mean([2.5]) == Mean(2.5, None, None, 1)
    with pytest.raises(ValueError, match="one value or more, got none"):
        mean([])


def test_pairs_are_compared_seed_by_seed() -> None:
    baseline = {0: 10.0, 1: 20.0, 2: 30.0, 7: 1e9}
    values = {0: 11.0, 1: 22.0, 2: 33.0, 8: -1e9}
    found = paired(values, baseline)
    assert found is not None
    assert (found.value, found.n) == (2.0, 3)
    # t = 2 / (1 / sqrt 3) = 3.4641; with 2 degrees of freedom P(|T| > t) = 1 - t / sqrt(t^2 + 2)
    assert found.p_value == pytest.approx(1 - math.sqrt(12 / 14), rel=1e-9)
    assert found.low == pytest.approx(2 - 4.302653 / math.sqrt(3), rel=1e-6)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({0: 3.0}, Difference(2.0, None, None, None, 1)),
        ({0: 3.0, 1: 4.0}, Difference(2.0, 2.0, 2.0, 0.0, 2)),
        ({0: 1.0, 1: 2.0}, Difference(0.0, 0.0, 0.0, 1.0, 2)),
        ({5: 3.0}, None),
    ],
    ids=["one pair", "always the same difference", "no difference", "no seed in common"],
)
def test_borders_of_pairs(values: dict[int, float], expected: Difference | None) -> None:
    assert paired(values, {0: 1.0, 1: 2.0}) == expected


def test_values_at_a_rate_lie_on_the_line() -> None:
    curve = [(30.0, 7.0), (10.0, 3.0), (20.0, 5.0)]  # value = 1 + rate / 5
    for rate in (10.0, 12.5, 20.0, 29.0, 30.0):
        assert at_rate(curve, rate) == pytest.approx(1 + rate / 5)
    assert at_rate(curve, 9.9) is None
    assert at_rate(curve, 30.1) is None
    assert at_rate([], 1.0) is None
    assert at_rate([(1.0, 2.0), (1.0, 4.0), (2.0, 5.0)], 1.0) == 3.0


def test_common_rates_are_within_every_curve() -> None:
    a, b = [(10.0, 0.0), (30.0, 0.0)], [(20.0, 0.0), (40.0, 0.0), (25.0, 0.0)]
    assert common_rates([a, b]) == [22.5, 25.0, 27.5]
    assert common_rates([a, b], (0.0, 1.0)) == [20.0, 30.0]
    assert common_rates([a, [(31.0, 0.0), (32.0, 0.0)]]) == []
    assert common_rates([a, []]) == common_rates([]) == []
