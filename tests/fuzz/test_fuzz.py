"""A slice of the fuzzer in the suite, the cases it once found, and the proof that it can fail. See `fuzz.py`."""

import pytest
from checks import check
from draws import SAMPLES, draw
from samples import check_sample

SLICE = 24  # seeds a test


@pytest.mark.parametrize("start", range(0, 10 * SLICE, SLICE))
def test_random_calls_match_the_definitions(start):
    assert failures(range(start, start + SLICE)) == []


def failures(seeds):
    found = []
    for seed in seeds:
        case = draw(seed)
        report = (check_sample if case.what in SAMPLES else check)(case)
        found += [f"{case}: {finding.kind}: {finding.text}" for finding in report.findings]
    return found
