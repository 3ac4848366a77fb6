"""Machine code of kernels on disk: one file a kernel, named by all that its code depends on.

numba numbers the variants of a kernel and keeps an index of the numbers. Of two processes that compile two variants
at once, one can write its code under the number that the other has entered for its own, and from then on everyone
runs the wrong code. Here no file refers to another, so there is nothing to get out of step:

- The name holds a digest of the sources of all kernels, of the values that this one closes over, of the types of its
  arguments, of the CPU, and of the libraries that compile. Who writes the same name writes the same code; what has
  changed has another name.
- Symbols hold a digest as well: the linker of a process that has loaded two variants cannot take one for the other.
- A file appears whole or not at all, and starts with a checksum of its name and content. What is damaged or belongs
  under another name reaches neither pickle nor LLVM, but is compiled again and overwritten.
- Files of a kernel from earlier sources are removed when one is written: nothing will ask for them again.

A file that can be neither read nor written is no error: the code then lives as long as the process.
"""

from __future__ import annotations

import glob
import logging
import os
import pickle
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding
import numba
import numpy as np
from numba.core.caching import CompileResultCacheImpl, NullCache
from numba.core.serialize import dumps

_CHECKSUM_BYTES = sha256().digest_size

_log = logging.getLogger(__name__)


class CodeCache(NullCache):
    """Where numba looks for the machine code of a kernel, and where it leaves what it has compiled.

    Raises RuntimeError if no folder can be written, and TypeError if the kernel closes over anything but numbers,
    strings and tuples of them.
    """

    def __init__(self, kernel: Callable[..., Any], sources: str) -> None:
        self._numba = CompileResultCacheImpl(kernel)  # chooses the folder
        self._folder = Path(self._numba.locator.get_cache_path())
        values = tuple(cell.cell_contents for cell in kernel.__closure__ or ())
        if not all(_is_plain(value) for value in values):
            raise TypeError(f"{kernel.__qualname__} closes over {values}, of which not all are plain numbers")
        self._digest = _digest(
            sources,
            kernel.__module__,
            kernel.__qualname__,
            kernel.__code__.co_firstlineno,
            values,
            (sys.version, numba.__version__, llvmlite.__version__, np.__version__),
            (llvmlite.binding.get_host_cpu_name(), llvmlite.binding.get_host_cpu_features().flatten()),
            _settings(),
        )
        module = kernel.__module__.rpartition(".")[2]
        self._kernel = f"{module}.{kernel.__qualname__}".replace("<", "").replace(">", "")  # as numba: fit for Windows
        self._fresh = f"{self._kernel}-{sources[:16]}-"
        self._name = f"{self._fresh}{self._digest}-"
        self._since = time.time()
        self.symbol = f"{kernel.__qualname__}.{self._digest}"

    @property
    def cache_path(self) -> str:
        return str(self._folder)

    @property
    def has_files(self) -> bool:
        """Whether code of this kernel is kept, for whatever types of arguments."""
        return any(self._folder.glob(f"{glob.escape(self._name)}*"))

    def load_overload(self, sig: Any, target_context: Any) -> Any | None:
        """The code for arguments of these types, or None if it is to be compiled."""
        target_context.refresh()
        with suppress(Exception):  # whatever the reason, the code can be compiled
            file = self._file(sig, target_context.codegen())
            content = file.read_bytes()
            checksum, code = content[:_CHECKSUM_BYTES], content[_CHECKSUM_BYTES:]
            if checksum == _checksum(file, code):
                return self._numba.rebuild(target_context, pickle.loads(code))
        _announce(self._folder)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what was compiled for arguments of these types, if it can be kept."""
        with suppress(Exception):  # the code has been compiled, and is in use
            if self._numba.check_cachable(data):
                file = self._file(sig, data.codegen)
                code = dumps(self._numba.reduce(data))
                self._folder.mkdir(parents=True, exist_ok=True)
                _write(file, _checksum(file, code) + code)
                self._remove_stale()

    def _file(self, types: Any, codegen: Any) -> Path:
        return self._folder / f"{self._name}{_digest(types, codegen.magic_tuple())}.nbc"

    def _remove_stale(self) -> None:
        """Files of other sources go, but not younger ones: an update may have overtaken this process."""
        for file in self._folder.glob(f"{self._kernel}-*"):
            if not file.name.startswith(self._fresh) and file.stat().st_mtime < self._since:
                file.unlink(missing_ok=True)


@cache
def _announce(folder: Path) -> None:
    """To those who wait: the first kernel is the first of several, of two or three seconds each."""
    _log.info("compiling kernels for this CPU, once; they are kept in %s", folder)


def _is_plain(value: Any) -> bool:
    return type(value) in (bool, int, float, str) or (type(value) is tuple and all(map(_is_plain, value)))


def _settings() -> list[tuple[str, str]]:
    """Environment variables of numba, such as NUMBA_OPT, less those that have no influence on code."""
    return sorted(
        (name, value)
        for name, value in os.environ.items()
        if name.startswith("NUMBA_") and name not in ("NUMBA_CACHE_DIR", "NUMBA_NUM_THREADS")
    )


def _digest(*parts: Any) -> str:
    return sha256(repr(parts).encode()).hexdigest()[:32]


def _checksum(file: Path, code: bytes) -> bytes:
    return sha256(file.name.encode() + b"\n" + code).digest()


def _write(file: Path, content: bytes) -> None:
    """The whole file at once, for readers and for other writers."""
    temporary = file.with_name(f"{file.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(content)
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
