"""Signals at any moment of a command: one line, and exit code 128 + n."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ssimgen._interruption import noted

WITH = """
import os, signal, sys
from ssimgen import _interruption
_interruption.install()
"""
RAISED = (
    WITH
    + """
from ssimgen import cli
def work(_): os.kill(os.getpid(), int(sys.argv[1]))
cli.COMMANDS, cli.command = {"work": "work"}, lambda _: work
sys.exit(cli.main(["work"]))
"""
)
TRANSLATED = (
    WITH
    + """
from ssimgen import cli
def work(_):
    try:
        try:
            os.kill(os.getpid(), int(sys.argv[1]))
        finally:
            [].pop()
    except IndexError as error:
        raise ValueError("no such thing") from error
cli.COMMANDS, cli.command = {"work": "work"}, lambda _: work
sys.exit(cli.main(["work"]))
"""
)
IMPORTING = (
    WITH
    + """
sys.path.insert(0, sys.argv[2])
try:
    import slow_module
except BaseException:  # as C extensions lose exceptions
    pass
print("went on")
"""
)
CALLBACK = (
    WITH
    + """
import ctypes
call = ctypes.CFUNCTYPE(None)(lambda: os.kill(os.getpid(), int(sys.argv[1])))
call()
print("went on")
"""
)
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


CODES = {"anywhere": RAISED, "in a library": TRANSLATED, "importing": IMPORTING, "in a callback from C": CALLBACK}


@pytest.mark.parametrize("code", CODES.values(), ids=CODES)
@pytest.mark.parametrize("signum", SIGNALS)
def test_one_line_and_the_code_of_the_signal(code: str, signum: int, tmp_path: Path) -> None:
    (tmp_path / "slow_module.py").write_text("import os, sys; os.kill(os.getpid(), int(sys.argv[1]))")
    done = subprocess.run(
        [sys.executable, "-c", code, str(int(signum)), tmp_path], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (128 + signum, "")
    assert done.stderr == f"ssimgen: stopped by {signal.Signals(signum).name}\n"


ENDING = """
import os, sys
from ssimgen import __main__, cli

class Late:
    def __del__(self, kill=os.kill, me=os.getpid(), signum=int(sys.argv[1])):  # when Python takes modules apart
        kill(me, signum)

late = Late()
cli.COMMANDS, cli.command = {"work": "work"}, lambda _: lambda _: int(sys.argv[2])
sys.argv[1:] = ["work", *sys.argv[2:]]
sys.exit(__main__.main())
"""


@pytest.mark.parametrize("signum", SIGNALS)
@pytest.mark.parametrize("code", [0, 2])
def test_a_signal_while_python_ends_changes_no_exit_code(signum: int, code: int) -> None:
    words = [sys.executable, "-c", ENDING, str(int(signum)), str(code)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (code, "")


def test_what_a_process_was_told_to_ignore_it_ignores() -> None:
    code = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)" + WITH + "os.kill(os.getpid(), 1); print('on')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "on\n", "")


def test_a_fork_leaves_speaking_to_its_parent() -> None:
    code = WITH + "\nif os.fork() == 0:\n    os.kill(os.getpid(), 15)\nprint(os.waitstatus_to_exitcode(os.wait()[1]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "143\n", "")


TERMINAL = (
    WITH
    + """
from ssimgen import cli
def work(_):
    print("ready", flush=True)
    signal.pause()
cli.COMMANDS, cli.command = {"work": "work"}, lambda _: work
sys.exit(cli.main(["work"]))
"""
)


def test_a_terminal_that_closes_ends_a_command_with_its_code() -> None:
    process, terminal = pty.fork()
    if process == 0:
        os.execv(sys.executable, [sys.executable, "-c", TERMINAL])
    with contextlib.suppress(OSError):
        while b"ready" not in os.read(terminal, 100):
            pass
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 128 + signal.SIGHUP


def test_the_command_is_a_module_too() -> None:
    done = subprocess.run([sys.executable, "-m", "ssimgen", "--version"], check=True, capture_output=True, text=True)
    assert done.stdout.strip()[0].isdigit()


def test_an_ignored_hangup_stays_ignored() -> None:
    """As below nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with noted() as received:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
            assert received == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_second_signal_is_handled_as_before() -> None:
    """And those that no longer count after the first one are back when all is over."""
    came: list[int] = []
    before = {s: signal.signal(s, lambda signum, _: came.append(signum)) for s in (signal.SIGTERM, signal.SIGHUP)}
    try:
        with noted() as received:
            for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGTERM):
                os.kill(os.getpid(), signum)
            assert (received, came) == ([signal.SIGTERM], [signal.SIGTERM])
        os.kill(os.getpid(), signal.SIGHUP)
        assert came == [signal.SIGTERM, signal.SIGHUP]
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
