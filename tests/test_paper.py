"""docs/paper.md: each claim has a status, links and tests that exist, and the numbers of the pages it links to.

And each fact of docs/kernels.md has tests that exist.
"""

import ast
import re
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from ssimgen import Window, distance
from ssimgen.engine import Form, eager

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "paper.md"
STATUSES = {"proved", "corrected", "refuted", "measured", "open"}


class Claim(NamedTuple):
    number: str
    where: str
    says: str
    stands: str
    holds: str
    page: str
    test: str


def claims() -> list[Claim]:
    rows = [line for line in PAGE.read_text().splitlines() if re.match(r"\| \d+ \|", line)]
    return [Claim(*(cell.strip() for cell in row.strip("|").split("|"))) for row in rows]


def pages(claim: Claim) -> list[Path]:
    return [PAGE.parent / link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", claim.page)]


def functions_of(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


def test_every_claim_has_one_row_and_one_status() -> None:
    assert [claim.number for claim in claims()] == [str(n) for n in range(1, 25)]
    for claim in claims():
        assert claim.stands.strip("*") in STATUSES, claim
        assert claim.where, claim
        assert claim.says, claim
        assert claim.holds, claim


@pytest.mark.parametrize("claim", claims(), ids=lambda claim: claim.number)
def test_a_claim_is_shown_on_a_page_and_by_a_test(claim: Claim) -> None:
    """Only what is open may do without a test."""
    assert pages(claim)
    assert all(page.is_file() for page in pages(claim))
    named = re.findall(r"`([^`]+)`", claim.test)
    assert named or claim.stands == "**open**"
    for name in named:
        path, _, function = name.partition("::")
        assert function in functions_of(ROOT / path), f"there is no {name}"


@pytest.mark.parametrize("claim", [c for c in claims() if c.stands == "**measured**"], ids=lambda claim: claim.number)
def test_a_measured_claim_has_its_number_and_command(claim: Claim) -> None:
    assert re.search(r"\d ± \d", claim.holds)
    command = re.search(r"`ssimgen study (\S+) ", claim.holds)
    assert command
    assert (ROOT / command[1]).is_file()


def test_numbers_are_those_of_the_pages() -> None:
    for claim in claims():
        numbers = re.findall(r"\d[\d.]* ± [\d.]*\d", claim.holds)
        text = "".join(page.read_text() for page in [*pages(claim), ROOT / "README.md"])
        assert [number for number in numbers if number not in text] == [], claim.number


@pytest.mark.parametrize(("form", "averages"), [("product", 4), ("sum", 4), ("centred", 4), ("uncentred", 2)])
def test_equation_2_takes_no_more_averages_than_equation_1(
    form: Form, averages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Claim 10: Eq. (1) is "product", and "centred" for patches of mean zero; Eq. (2) is "sum"."""
    calls = []
    filtered = eager.filtered
    monkeypatch.setattr(eager, "filtered", lambda z, window: calls.append(window) or filtered(z, window))
    monkeypatch.setattr(
        "ssimgen.engine.squared_mean", lambda x, y, patch, over: eager.averaged(eager.squared_mean(x, y, patch), over)
    )
    x, y = torch.rand(2, 1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    distance(x, y, data_range=1.0, form=form, window=Window.uniform(4))
    assert len(calls) == averages


def facts() -> dict[str, str]:
    """The sections of docs/kernels.md that state something and prove it, by their headings."""
    parts = re.split(r"^## (.+)$", (ROOT / "docs" / "kernels.md").read_text(), flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    return {name: text for name, text in sections.items() if re.match(r"F\d+\. |The two-sample test is exact", name)}


def test_every_fact_names_tests_that_exist() -> None:
    assert len(facts()) == 12 + 1
    for fact, text in facts().items():
        shown, path = 0, Path()
        for file, function in re.findall(r"`(tests/[\w/]+\.py)?(?:::)?(test_\w+)?`", text):
            path = ROOT / file if file else path
            assert path.is_file(), (fact, file)
            assert not function or function in functions_of(path), (fact, function)
            shown += bool(file or function)
        assert shown, fact
