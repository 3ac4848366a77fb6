"""Scripts in processes of their own, as `python -c` starts them, but that need not import PyTorch and numba again.

Each is a fork of one process that has imported them, and nothing of the library. That reads scripts from its standard
input and answers with their exit code and what they said, one line of JSON each.
"""

import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from typing import IO


class Processes:
    """Where scripts run, one after the other."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, script: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """What became of a script in this environment with changes."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        print(json.dumps([script, {**os.environ, **environment}]), file=self._server.stdin, flush=True)
        code, said, complained = json.loads(self._server.stdout.readline())
        return subprocess.CompletedProcess(script, code, said, complained)

    def end(self) -> None:
        """Nothing comes any more."""
        self._server.communicate()


def serve() -> None:
    """Run what comes until nothing comes."""
    import numba
    import torch  # noqa: F401

    numba.njit(lambda x: x)(1.0)  # what numba imports and sets up for the first function
    for line in sys.stdin:
        script, environment = json.loads(line)
        with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complained:
            process = os.fork()
            if process == 0:
                _become(script, environment, said, complained)
            code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            print(json.dumps([code, _content(said), _content(complained)]), flush=True)


def _become(script: str, environment: Mapping[str, str], said: IO[bytes], complained: IO[bytes]) -> None:
    """Run a script as if it were all that this process is, and end."""
    import numba

    for number, file in enumerate((os.open(os.devnull, os.O_RDONLY), said.fileno(), complained.fileno())):
        os.dup2(file, number)
    os.environ.clear()
    os.environ.update(environment)
    numba.config.reload_config()
    code = 1
    try:
        exec(compile(script, "<string>", "exec"), {"__name__": "__main__"})
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _content(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


if __name__ == "__main__":
    serve()
