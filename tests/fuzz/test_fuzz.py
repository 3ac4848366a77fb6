"""A slice of the fuzzer in the suite, the cases it once found, and the proof that it can fail. See `fuzz.py`."""

import pytest
import torch
from checks import check
from draws import SAMPLES, Case, draw
from named_cases import GAUSSIAN, cases, rand, with_pixels
from samples import check_sample

from ssimgen.engine import eager

SLICE = 24  # seeds a test

pytestmark = pytest.mark.filterwarnings("ignore::ssimgen.DataRangeWarning")  # many are out of range on purpose


def failures(case: Case) -> list[str]:
    report = (check_sample if case.what in SAMPLES else check)(case)
    return [f"{case}: {finding.kind}: {finding.text}" for finding in report.findings]


@pytest.mark.parametrize("start", range(0, 10 * SLICE, SLICE))
def test_random_calls_match_the_definitions(start: int) -> None:
    assert [text for seed in range(start, start + SLICE) for text in failures(draw(seed))] == []


@pytest.mark.parametrize("case", cases().values(), ids=cases())
def test_what_was_wrong_once_matches_the_definitions(case: Case) -> None:
    assert failures(case) == []


WRONG = {
    "ssim eager float32 value off": lambda square, x: square * (1 - 1e-5),
    "ssim eager float32 value finite": lambda square, x: square.nan_to_num(0.5),
    "ssim eager float32 value nan": lambda square, x: square * torch.tensor([torch.nan, 1, 1])[:, None],
    "ssim eager float32 gradient off": lambda square, x: square + 1e-3 * (square - square.detach()),
    "ssim eager float32 gradient nan": lambda square, x: square + 0 * (x - x.detach()).abs().sqrt().sum((-2, -1)),
    "ssim eager float32 bits": lambda square, x: square + 1e-7 * x.requires_grad,
    "ssim eager float32 value bounds": lambda square, x: square * torch.tensor([-1, 1, 1])[:, None],
}


@pytest.mark.parametrize(("kind", "change"), WRONG.items(), ids=WRONG)
def test_a_wrong_engine_is_found_out(kind, change, monkeypatch: pytest.MonkeyPatch) -> None:
    right = eager.squared_mean
    monkeypatch.setattr(eager, "squared_mean", lambda x, y, patch: change(right(x, y, patch), x))
    images = with_pixels(rand(3, 1, 12, 12), ((2, 0, 5, 5), torch.nan))
    case = Case("ssim", images, rand(3, 1, 12, 12, seed=1), GAUSSIAN, 1.0, engines=("eager",))
    assert kind in {finding.kind for finding in check(case).findings}
