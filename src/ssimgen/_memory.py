"""Memory of the machine."""

from __future__ import annotations

import os
from pathlib import Path


def total_memory() -> int | None:
    """Bytes, or None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def available_memory() -> int | None:
    """Bytes that a process can still get, or all there are, or None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return total_memory()


class NoRoomError(ValueError):
    """Something takes more memory than there is."""


def check_fits(needed: int, what: str, remedy: str) -> None:
    """Raise NoRoomError if `what` takes more bytes than there are."""
    room = available_memory()
    if room is not None and needed > room:
        raise NoRoomError(f"{what} takes {needed / 1e9:.3g} GB, but {room / 1e9:.3g} GB of memory are free: {remedy}")
