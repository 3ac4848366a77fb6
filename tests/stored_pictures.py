"""Picture files written byte by byte, of kinds that no library here writes."""

import struct
import zlib

import numpy as np

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by the type of colour of a PNG
_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def chunk(kind: bytes, data: bytes) -> bytes:
    """A part of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    values: np.ndarray, bits: int, colour: int, *, before: bytes = b"", filtered: int = 0, interlaced: bool = False
) -> bytes:
    """A PNG of values (H, W, channels), each a number of `bits` bits; every row by the same filter, 0 to 4."""
    height, width, channels = values.shape
    assert channels == _CHANNELS[colour]
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    parts = [values[top::down, left::right] for top, left, down, right in passes]
    content = b"".join(_rows(part, bits, filtered) for part in parts if part.size)
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    chunks = chunk(b"IHDR", header) + before + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def _rows(values: np.ndarray, bits: int, filtered: int) -> bytes:
    height, _, channels = values.shape
    if bits == 16:
        rows = values.astype(">u2").reshape(height, -1).view(np.uint8)
    else:
        digits = (values.reshape(height, -1, 1) >> np.arange(bits)[::-1]) & 1
        rows = np.packbits(digits.reshape(height, -1).astype(bool), axis=1)
    step = max(1, bits * channels // 8)
    above = np.concatenate([np.zeros_like(rows[:1]), rows[:-1]])
    return b"".join(bytes([filtered]) + _filtered(r, a, step, filtered) for r, a in zip(rows, above, strict=True))


def _filtered(row: np.ndarray, above: np.ndarray, step: int, kind: int) -> bytes:
    """A row less its prediction (PNG specification, section 9.2)."""
    r, b = row.astype(int), above.astype(int)
    a, c = (np.concatenate([np.zeros(step, int), x[:-step]]) for x in (r, b))
    p = a + b - c
    near = [abs(p - x) for x in (a, b, c)]
    paeth = np.where((near[0] <= near[1]) & (near[0] <= near[2]), a, np.where(near[1] <= near[2], b, c))
    return bytes(((r - [0 * a, a, b, (a + b) // 2, paeth][kind]) % 256).astype(np.uint8))
