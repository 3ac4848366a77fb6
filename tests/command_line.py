"""The command `ssimgen` for tests, in this process."""

import pytest

from ssimgen.cli import main


def run(*words: object) -> int:
    """The exit code of `ssimgen WORDS`."""
    try:
        return main([str(word) for word in words])
    except SystemExit as stop:  # how the parser of options leaves
        return int(stop.code or 0)


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error; nothing else was printed."""
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("ssimgen: ")
    return line.removeprefix("ssimgen: ")
