"""Calls that might wait for ever, for tests."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def within(call: Callable[[], T], seconds: float = 60) -> T:
    """What `call` returns or raises; TimeoutError if it waits."""
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(call).result(seconds)
    finally:
        pool.shutdown(wait=False)
