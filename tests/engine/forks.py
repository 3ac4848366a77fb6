"""Actions in forked processes, which take turns at every touch of a folder's files.

A process stops before it opens or renames a file in the folder. So every order in which two processes can read and
write there can be played, whatever it is that reads and writes.
"""

import itertools
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any


class Fork:
    """A child that runs the action. `result` is what that returned, or why there is nothing."""

    def __init__(self, action: Callable[[], Any], folder: Path | None = None) -> None:
        messages, to_parent = os.pipe()
        grants, self._to_child = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            try:
                if folder is not None:
                    _stop_at_touches(folder, to_parent, grants)
                message = json.dumps(action())
            except BaseException:
                message = json.dumps(traceback.format_exc())
            os.write(to_parent, message.encode() + b"\n")
            os._exit(0)
        os.close(to_parent)
        os.close(grants)
        self._messages = os.fdopen(messages)
        self._waits = False
        self.done = False
        self.result: Any = None
        self.touches = 0

    def arrive(self) -> bool:
        """Wait until the child stands before its next touch, or has ended. Whether it stands there."""
        if not self._waits and not self.done:
            message = self._messages.readline()
            self._waits = message == "touch\n"
            if not self._waits:
                _, status = os.waitpid(self._pid, 0)
                self.result = json.loads(message) if message else f"ended by {status}"
                self._messages.close()
                os.close(self._to_child)
                self.done = True
        return self._waits

    def go(self) -> None:
        """Let it touch the file, and wait as before."""
        if self.arrive():
            self._waits = False
            self.touches += 1
            os.write(self._to_child, b".")
            self.arrive()


def _stop_at_touches(folder: Path, to_parent: int, grants: int) -> None:
    def stop(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("open", "os.rename") and isinstance(arguments[0], str):
            directory, name = os.path.split(arguments[0])
            if directory.startswith(str(folder)) and ".nb" in name:
                os.write(to_parent, b"touch\n")
                os.read(grants, 1)

    sys.addaudithook(stop)


def in_turns(actions: Sequence[Callable[[], Any]], order: Iterable[int], folder: Path) -> list[Fork]:
    """All actions at once; turns as `order` says, and what is left when it is at its end one after the other."""
    forks = [Fork(action, folder) for action in actions]
    for fork in forks:
        fork.arrive()
    for number in order:
        forks[number].go()
    for fork in forks:
        while not fork.done:
            fork.go()
    return forks


def alone(action: Callable[[], Any]) -> Any:
    """The result of the action in a process of its own."""
    fork = Fork(action)
    fork.arrive()
    return fork.result


def all_orders(touches: int) -> Iterator[list[int]]:
    """Every order of the turns of two processes with so many touches each."""
    for first in itertools.combinations(range(2 * touches), touches):
        yield [0 if turn in first else 1 for turn in range(2 * touches)]
