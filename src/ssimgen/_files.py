"""Files that are written whole or not at all, read only where they are ordinary ones, and JSON with every check."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a temporary file in the folder of `path`, force it to disk, and give it its name.

    Whoever reads `path` sees the old content or the new one, whenever the machine stops. If writing fails (a full
    disk), the old content stays and the temporary file is removed.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes files private
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, name):
            error.filename = str(path)
        raise
    synchronise(path.parent)


def remove_temporaries(folder: Path, name: str = "*") -> None:
    """Remove what writers of `name`, a pattern, left in `folder` when they were killed; none may be at work."""
    for file in folder.glob(f".{name}.????????.tmp"):
        file.unlink(missing_ok=True)


def parse_json(text: str | bytes) -> Any:
    """The value that JSON text stands for; ValueError if it is none, or is nested too deeply to be read."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def writable_folder(folder: Path) -> Path:
    """`folder`, made if need be; raises OSError, in plain words, if files cannot be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # without a name, which could stay if we are killed
            pass
    except OSError as error:
        raise OSError(f"cannot write to the folder {folder}: {error.strerror}; choose another one") from error
    return folder


def ordinary_file(path: Path) -> Path:
    """`path`, which must be a file that can be read to its end: nothing that would be waited for.

    Raises:
        FileNotFoundError: there is none.
        OSError: it is something else, or out of reach.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, ValueError):  # the latter of a name that cannot be one
        raise FileNotFoundError(f"no such file: {path}") from None
    except OSError as error:
        raise OSError(f"cannot read {path}: {error.strerror}") from error
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{path} is a folder, not a file")
    if not stat.S_ISREG(mode):
        raise OSError(f"{path} is not an ordinary file but a pipe, a socket or a device: copy its content to a file")
    return path


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def synchronise(path: Path) -> None:
    """Force what was written to a file, or the names in a folder, to disk, where the platform can."""
    try:
        descriptor = os.open(path, os.O_RDONLY)  # Windows cannot open folders
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # some network file systems refuse; the file's own content is safe
    finally:
        os.close(descriptor)
