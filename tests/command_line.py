"""The command `ssimgen` for tests, in this process."""

from ssimgen.cli import main


def run(*words: object) -> int:
    """The exit code of `ssimgen WORDS`."""
    try:
        return main([str(word) for word in words])
    except SystemExit as stop:  # how the parser of options leaves
        return int(stop.code or 0)
