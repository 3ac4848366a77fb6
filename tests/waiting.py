"""Calls that might wait for ever, for tests."""

import threading
from collections.abc import Callable


def within(call: Callable[[], object], seconds: float = 20) -> None:
    """Raise what `call` raises; fail if it waits."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive()
    if errors:
        raise errors[0]
