"""Usage errors: one line that names the option as it is typed, and where to look."""

import pytest

from command_line import run
from ssimgen import _usage
from ssimgen.cli import COMMANDS


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("sample", "missing: RUN; see ssimgen sample --help"),
        ("sample x --numbr 3", "unknown option --numbr: did you mean '--number'?; see ssimgen sample --help"),
        ("sample x --qqq", "unknown option --qqq; see ssimgen sample --help"),
        ("compare a b --data-range x", "--data-range must be numbers, got 'x'; see ssimgen compare --help"),
        ("sample x -n abc", "--number must be a whole number, got 'abc'; see ssimgen sample --help"),
        ("sample x --number", "--number needs a value; see ssimgen sample --help"),
        ("interpolate x y", "one word too many: 'y'; see ssimgen interpolate --help"),
        (
            "interpolate x --path liner",
            "--path must be one of 'spherical', 'linear', got 'liner': did you mean",
        ),
        ("study a --budget soon", "--budget must be a number, got 'soon'; see ssimgen study --help"),
        ("compare a", "missing: B; see ssimgen compare --help"),
        ("compare", "missing: A, B; see ssimgen compare --help"),
        ("neighbours q", "missing: IMAGES; see ssimgen neighbours --help"),
        ("test-samples a b --form sun", "--form must be one of 'product', 'sum', 'centred', 'uncentred', got 'sun'"),
        ("demo --itertions 3 --sed 4", "unknown option --itertions: did you mean '--iterations'?; see ssimgen demo"),
        ("train vae -o x", "missing: --tau FLOAT; see ssimgen train vae --help"),
        ("train vae --tau 1", "missing: --output PATH; see ssimgen train vae --help"),
        ("train vae -o", "--output needs a value; see ssimgen train vae --help"),
        (
            "train vae -o x --tau 1 --drops a",
            "--drops must be [FLOAT [FLOAT ...]], got 'a'; see ssimgen train",
        ),
    ],
)
@pytest.mark.parametrize("columns", ["40", "200"])
def test_a_usage_error_is_one_line(
    words: str, message: str, columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert run(*words.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"ssimgen: {message}")
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "train"])
def test_every_command_refuses_an_unknown_option_in_one_line(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, "--no-such-option") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.endswith(f"; see ssimgen {command} --help\n")


def test_a_complaint_of_another_form_is_its_first_part() -> None:
    assert _usage._in_one_line(" new\n ---------\n  what is\n  wrong\n  -------\n  help\n") == "what is wrong"
    assert _usage._in_one_line("") == "bad options"


def test_help_keeps_the_width_of_the_screen(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run("sample", "--help") == 0
    options = capsys.readouterr().out.split("how many images")[1]
    assert all(len(line) <= 80 for line in options.splitlines())
