"""Statistics over seeds against textbook values and closed forms."""

import math

import pytest

from ssimgen.report.statistics import (
    Difference,
    Mean,
    at_rate,
    common_rates,
    detectable,
    effect,
    mean,
    paired,
    pairs_needed,
    power,
    sign_flip,
)


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


def test_effects_and_their_intervals() -> None:
    """With 2 pairs t has the Cauchy distribution; the noncentrality interval covers 0 just if p > 0.05."""
    found = effect([1.0, 2.0, 3.0, 4.0])
    assert found is not None
    assert (found.value, found.spread) == pytest.approx((2.5 / math.sqrt(5 / 3), math.sqrt(5 / 3)))
    # Student's paired test of these: t = 3.873 with 3 degrees of freedom, p = 0.0305
    assert 0 < found.low < found.value < found.high
    border = effect([1 + x for x in (-1.6, 0.0, 1.6)])  # t = 1.08: far from significant
    assert border is not None
    assert border.low < 0 < border.high
    assert effect([1.0]) is None
    assert effect([1.0, 1.0]) is None
    mirrored = effect([-1.0, -2.0, -3.0, -4.0])
    assert mirrored is not None
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low), abs=1e-4)
    huge = effect([1e6, 1e6 + 1, 1e6 - 1])
    assert huge is None or huge.low < huge.value < huge.high


def test_signs_are_flipped_exactly() -> None:
    assert sign_flip([1.0, 2.0, 3.0]) == 2 / 8
    assert sign_flip([1.0, 2.0, -3.0]) == 1.0
    assert sign_flip([3.0, 2.0, -1.0]) == 4 / 8  # |sum| = 4: of 6, 4, 2, 0 and their negatives, 6 and 4 are as far
    assert sign_flip([0.1] * 6) == 2 / 64
    assert sign_flip([]) is None
    assert sign_flip([1.0] * 17) is None


def test_power_is_that_of_tables() -> None:
    """Cohen 1988: 34 pairs find an effect of 0.5 with 0.8. Simulated: 3 pairs find one of 2 with 0.48."""
    assert power(0.0, 7) == pytest.approx(0.05, abs=1e-4)
    assert power(0.5, 34) == pytest.approx(0.80, abs=0.01)
    assert power(2.0, 3) == pytest.approx(0.48, abs=0.02)
    assert power(2.0, 5, 0.05 / 3) == pytest.approx(0.68, abs=0.02)
    assert power(5.0, 1) == 0.0
    assert pairs_needed(0.5) == 34
    assert pairs_needed(9.0) == 5
    assert pairs_needed(1e-3) is None
    least = detectable(34)
    assert least is not None
    assert power(least, 34) == pytest.approx(0.8, abs=1e-3)
    assert detectable(1) is None
