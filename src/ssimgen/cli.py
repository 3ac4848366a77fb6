"""The command `ssimgen`.

Each command is a function of a module of :mod:`ssimgen.commands`, whose signature and docstring make its options and
help (tyro). A module is imported when its command is called, and what the command needs when it runs, so that help is
quick. Bad input ends in one line and exit code 2, with nothing half-written.
"""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
from collections.abc import Callable
from importlib import import_module

import ssimgen
from ssimgen._extras import extra
from ssimgen._interruption import interruption
from ssimgen._options import suggestion
from ssimgen._usage import complain

COMMANDS = {
    "train": "train",
    "sample": "sample",
    "interpolate": "sample",
    "evaluate": "evaluate",
    "judges": "judges",
    "compare": "compare",
    "test-samples": "two_sets",
    "neighbours": "neighbours",
    "detect": "detect",
    "study": "study",
    "report": "report",
    "demo": "demo",
}
"""Name -> the module of `ssimgen.commands` that has a function of this name."""


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 for bad input, 1 for a failed run, 128 + n if signal n stopped it."""
    for stream in (sys.stdout, sys.stderr):  # no name of a file that the terminal cannot show ends a command
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    words = sys.argv[1:] if argv is None else argv
    _say_why_it_takes_time()
    try:
        return _run(*words)
    except BrokenPipeError:  # whoever read our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing left to fail at exit
        return 128 + signal.SIGPIPE
    except (Exception, KeyboardInterrupt) as error:
        if (stop := interruption(error)) is not None:
            complain(str(stop) or "stopped by SIGINT")
            return 128 + int(getattr(stop, "signum", signal.SIGINT))
        expected = isinstance(error, (ValueError, OSError, ModuleNotFoundError))  # the last for optional dependencies
        if not expected or os.environ.get("SSIMGEN_TRACEBACK"):
            raise
        return complain(str(error))


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


def _say_why_it_takes_time() -> None:
    """What the library tells a log of its slow steps, at a terminal."""
    log = logging.getLogger("ssimgen")
    if sys.stderr.isatty() and not any(isinstance(handler, _Notes) for handler in log.handlers):
        log.addHandler(_Notes())
        log.setLevel(logging.INFO)


def _run(name: str = "--help", *words: str) -> int:
    """The exit code of a command, or of a question about all of them."""
    if name in ("-h", "--help"):
        print(_overview())
    elif name == "--version":
        print(ssimgen.__version__)
    elif name not in COMMANDS:
        return complain(f"unknown command {name!r}{suggestion(name, COMMANDS)}; see ssimgen --help")
    else:
        with extra("train", f"ssimgen {name}"):
            run = command(name)
            if words and not {"-h", "--help"} & set(words) and "torch" not in sys.modules:
                logging.getLogger("ssimgen").info("loading PyTorch")
            return run(list(words))
    return 0


def command(name: str) -> Callable[[list[str]], int]:
    """The command of this name, which takes the words that follow it and returns an exit code."""
    module = import_module(f"ssimgen.commands.{COMMANDS[name]}")
    run: Callable[[list[str]], int] = getattr(module, name.replace("-", "_"))
    return run


def _overview() -> str:
    lines = ["usage: ssimgen COMMAND [OPTIONS]", "", (ssimgen.__doc__ or "").splitlines()[0], "", "commands:"]
    lines += [f"  {name:<14}{(command(name).__doc__ or '').splitlines()[0]}" for name in COMMANDS]
    return "\n".join([*lines, "", "ssimgen COMMAND --help shows the options of a command."])


if __name__ == "__main__":
    sys.exit(main())
