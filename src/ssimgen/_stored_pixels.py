"""Pixels of a picture file at the depth in which it stores them: up to 8 bits, or 16, and never less than it has.

Pillow opens some kinds of files in modes that drop bits, a sign or the range. So the depth is taken from what the file
declares, and a kind that cannot be had in full is refused.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from io import BufferedIOBase
from typing import IO, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from ssimgen._extras import extra

with extra("train", "reading pictures"):
    from PIL import Image, ImageOps

FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "PPM")  # not those whose readers start other programs
LARGEST = 100_000_000  # pixels; refused from the header, before memory is taken

_GREY = ("1", "L", "LA", "La")
_COLOUR = ("P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr")
_DEEP_GREY = ("I", "I;16", "I;16B", "I;16L", "I;16N")  # of the first one, the values are 0 to 65535 too
_DEEP_COLOUR = re.compile(r"(?:RGB|RGBA|RGBX|LA);16[BLN]")  # Pillow's readers of the first or the last of two bytes
_OTHER_BYTE = str.maketrans("BLN", "LBB" if sys.byteorder == "little" else "LBL")
_TIFF_BITS, _TIFF_COLOURS, _TIFF_PLANES, _TIFF_KIND = 258, 262, 284, 339  # tags
_REMEDY = "save it as grey or RGB of 8 bits, or of 16 bits without sign"
_RANGE = "give it as data_range, or "
_WITHOUT_RANGE = {(2, "I"), (3, "F")}  # kinds of TIFF, and the modes in which they are had in full: with sign, real


class UnsuitableError(ValueError):
    """What is wrong with a picture that is not damaged; the name of the file goes before it."""


class Stored(NamedTuple):
    """Grey or red, green and blue, and the opacity if there is one, in [0, 1]; and how many bits each of them had.

    1 is `greatest` in the file; of values without a range, which are as they are in the file, it is 1.
    """

    pixels: NDArray[np.floating[Any]]  # (H, W, 1 or 3)
    opacity: NDArray[np.float32] | None  # (H, W)
    bits: int
    greatest: int


def stored_pixels(file: BufferedIOBase, without_range: bool = False) -> Stored:
    """The first picture of a file, turned as the camera recorded.

    Args:
        file: of a picture.
        without_range: read grey TIFF of real or signed values too.

    Raises:
        UnsuitableError: too large, empty, or of a kind that cannot be read in full.
        Exception: whatever Pillow runs into in damaged files.
    """
    ihdr = file.read(26)[24:]  # of a PNG: bits a channel and type of colour
    with _opened(file) as picture:
        width, height = picture.size
        if width * height > LARGEST:
            raise UnsuitableError(f"is {width} x {height} px, more than {LARGEST:,} pixels: crop or scale it down")
        if not width * height:
            raise UnsuitableError(f"is {width} x {height} px, which is no pixel")
        if without_range and _lacks_range(picture):
            return _real(picture)
        bits = _bits(picture, ihdr)
        if bits <= 8 and picture.mode in (*_GREY, *_COLOUR):
            return _shallow(picture, bits)
        if bits == 16 and (picture.mode in _DEEP_GREY or all(map(_has_two_bytes, picture.tile))):
            return _deep(picture, file)
        raise UnsuitableError(f"has {bits} bits a channel (mode {picture.mode}) and cannot be read in full: {_REMEDY}")


def _opened(file: BufferedIOBase) -> Any:
    """A picture that is not loaded yet; untyped, as each format has attributes of its own."""
    file.seek(0)
    return Image.open(cast("IO[bytes]", file), formats=FORMATS)


def _bits(picture: Any, ihdr: bytes) -> int:
    """Bits a channel in the file."""
    if picture.format == "PNG":
        return ihdr[0]
    if picture.format == "TIFF":
        bits: int = max(picture.tag_v2.get(_TIFF_BITS, (1,)))
        if set(picture.tag_v2.get(_TIFF_KIND, (1,))) != {1}:
            otherwise = _RANGE if _lacks_range(picture) else ""
            raise UnsuitableError(f"has signed or floating-point values, without a fixed range: {otherwise}{_REMEDY}")
        if bits > 8 and (picture.tag_v2.get(_TIFF_COLOURS, 0) == 0 or picture.tag_v2.get(_TIFF_PLANES, 1) == 2):
            raise UnsuitableError(f"has {bits} bits a channel, in separate planes or with 0 for white: {_REMEDY}")
        return bits
    if picture.format == "PPM" and picture.mode != "1":
        if picture.mode == "F":
            return 32
        tile = picture.tile[0]
        return 16 if picture.mode == "I" or (tile.codec_name.startswith("ppm") and tile.args[1] > 255) else 8
    return 8


def _lacks_range(picture: Any) -> bool:
    """Whether a picture is a TIFF of values with a sign or real ones that Pillow reads in full, with 0 for black."""
    if picture.format != "TIFF" or picture.tag_v2.get(_TIFF_COLOURS, 1) == 0:
        return False
    return {(kind, picture.mode) for kind in picture.tag_v2.get(_TIFF_KIND, (1,))} <= _WITHOUT_RANGE


def _real(picture: Any) -> Stored:
    """Values as they are in the file. Those that libtiff unpacks are in the order of this machine, not of the file."""
    if picture.tile[0].codec_name == "libtiff":
        picture = _as_raw_mode(picture, lambda raw: re.sub(r"B?([FS])$", r"N\1", raw))
    values = np.asarray(ImageOps.exif_transpose(picture), np.float64)
    return Stored(values[..., None], None, 32, 1)


def _shallow(picture: Any, bits: int) -> Stored:
    if picture.format == "PNG" and bits < 8 and picture.mode in _GREY and "transparency" in picture.info:
        key = picture.info["transparency"]  # a value of the file, while Pillow scales the pixels
        picture.info["transparency"] = key * (255 // (2**bits - 1)) if key < 2**bits else key
    picture = ImageOps.exif_transpose(picture)
    grey = picture.mode in _GREY
    if picture.has_transparency_data:
        layer = _unit(picture.convert("RGBA"))
        return Stored(layer[..., : 1 if grey else 3], layer[..., 3], bits, 255)
    pixels = _unit(picture.convert("L" if grey else "RGB"))
    return Stored(pixels[..., None] if grey else pixels, None, bits, 255)


def _unit(picture: Any) -> NDArray[np.float32]:
    return np.asarray(picture, np.float32) / np.float32(255)


def _deep(picture: Any, file: BufferedIOBase) -> Stored:
    """16 bits, of which Pillow keeps one byte of each value, save in grey pictures."""
    key = picture.info.get("transparency")  # the value of transparent pixels
    if picture.mode in _DEEP_GREY:
        values = _values(picture)[..., None]
    elif _raw_mode(picture.tile[0]).startswith("LA"):
        four = _values(_as_raw_mode(picture, lambda _: "RGBA"))  # both bytes of grey, both of opacity
        values = four[..., ::2] * 256 + four[..., 1::2]
    else:
        high = _values(picture)
        with _opened(file) as again:
            values = high * 256 + _values(_as_raw_mode(again, lambda raw: raw[:-1] + raw[-1].translate(_OTHER_BYTE)))
    unit = values.astype(np.float32) / np.float32(65535)
    if unit.shape[-1] in (2, 4):
        return Stored(unit[..., :-1], unit[..., -1], 16, 65535)
    opacity = None if key is None else (values != np.array(key)).any(-1).astype(np.float32)
    return Stored(unit, opacity, 16, 65535)


def _values(picture: Any) -> NDArray[np.int32]:
    """(H, W) or (H, W, C), upright."""
    return np.asarray(ImageOps.exif_transpose(picture)).astype(np.int32)


def _raw_mode(tile: Any) -> str:
    """How Pillow reads a part of a picture: by "RGB;16B" it keeps the first of two bytes, by "RGB;16L" the last."""
    return str(tile.args if isinstance(tile.args, str) else tile.args[0])


def _as_raw_mode(picture: Any, change: Callable[[str], str]) -> Any:
    """A picture that has not been loaded, to be read in another way."""

    def changed(arguments: Any) -> Any:
        return change(arguments) if isinstance(arguments, str) else (change(arguments[0]), *arguments[1:])

    picture.tile = [tile._replace(args=changed(tile.args)) for tile in picture.tile]
    return picture


def _has_two_bytes(tile: Any) -> bool:
    """Whether a part of a 16-bit picture in colour, or in grey with opacity, can be read byte by byte."""
    return bool(_DEEP_COLOUR.fullmatch(_raw_mode(tile)))
