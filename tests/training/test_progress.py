"""What training shows: in a log one whole line, on a narrow terminal every term."""

import io

import pytest
from rich.console import Console

from ssimgen.training import bar

TERMS = {f"step/{name}": 0.123456 for name in ("reconstruction", "real", "fake", "fooling", "convergence")}


def test_in_a_log_there_is_one_line_and_nothing_is_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    with bar.progress_bar("aae", 7, 5, visible=True) as advance:
        advance(6, TERMS)
        advance(7, TERMS)
    terms = "reconstruction 0.1235  real 0.1235  fake 0.1235  fooling 0.1235  convergence 0.1235"
    assert capsys.readouterr().out == f"aae 7/7  {terms}\n"
    with bar.progress_bar("aae", 7, 5, visible=False) as advance:
        advance(6, TERMS)
    assert capsys.readouterr().out == ""


def test_a_narrow_terminal_shows_every_term_and_keeps_its_last_column(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80, color_system=None)
    monkeypatch.setattr(bar, "Console", lambda: console)
    with bar.progress_bar("aae", 100_000, 0, visible=True) as advance:
        advance(1, TERMS)
    last = screen.getvalue().split("aae")[-1]
    for name in TERMS:
        assert name.split("/")[-1] in last
    assert "\N{HORIZONTAL ELLIPSIS}" not in last
    assert all(len(line) <= 79 for line in ("aae" + last).split("\n")[:-1] if "\x1b" not in line)
