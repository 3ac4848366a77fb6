"""Signals stop a run after a checkpoint, and are handled as before when it is over."""

import contextlib
import os
import pty
import signal
import sys
from pathlib import Path

import pytest
from torch import nn
from toys import fit, latest, signal_at

from ssimgen.training import Hook, Interrupted, read_metrics


def test_signal_handlers_are_put_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted):
        fit(tmp_path, hooks=(signal_at(2, signal.SIGTERM),))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_signals_that_are_ignored_stay_so(tmp_path: Path) -> None:
    """As below nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        fit(tmp_path, hooks=(signal_at(2, signal.SIGHUP),))
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_terminal_that_hangs_up_twice_does_not_cost_the_checkpoint(tmp_path: Path) -> None:
    hooks = (signal_at(2, signal.SIGHUP), signal_at(2, signal.SIGHUP))
    with pytest.raises(Interrupted, match="stopped by SIGHUP after iteration 2"):
        fit(tmp_path, hooks=hooks)
    assert latest(tmp_path).name == "00000002.safetensors"


CLOSED = """
import signal
import sys
import time
from pathlib import Path
from toys import Toy, images
from ssimgen.training import Hook, Interrupted, Training, train

def closed(_, done):
    if done == 5:
        print("ready", flush=True)
        while signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # until the end of the terminal was noticed
            time.sleep(0.01)
    return {}

try:
    training = Training(iterations=9, batch=8)
    train(Toy(), images(), Path(sys.argv[1]), training=training, hooks=(Hook(1, closed),))
except Interrupted as stop:
    print(stop)
    sys.exit(128 + stop.signum)
"""


def test_a_terminal_that_closes_below_the_bar_is_told_as_such(tmp_path: Path) -> None:
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    process, terminal = pty.fork()
    if process == 0:
        environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        os.execve(sys.executable, [sys.executable, "-c", CLOSED, str(tmp_path / "run")], environment)
    seen = b""
    with contextlib.suppress(OSError):
        while b"ready" not in seen:
            seen += os.read(terminal, 10_000)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 128 + signal.SIGHUP
    assert latest(tmp_path / "run").name == "00000005.safetensors"


def test_a_stopped_run_leaves_pictures_and_its_log_is_that_of_any_other(tmp_path: Path) -> None:
    def score(_: nn.Module, done: int) -> dict[str, float]:
        return {"score": done}

    for name, stop in (("whole", ()), ("parts", (signal_at(5, signal.SIGTERM),))):
        with contextlib.suppress(Interrupted):
            fit(tmp_path / name, hooks=(Hook(4, score), *stop))
    for kind in ("samples", "reconstructions"):
        assert [file.name for file in (tmp_path / "parts" / kind).iterdir()] == ["00000005.png"]
    fit(tmp_path / "parts", hooks=(Hook(4, score),), resume=True)
    logs = [[x["iteration"] for x in read_metrics(tmp_path / name)] for name in ("whole", "parts")]
    assert logs[0] == logs[1]
