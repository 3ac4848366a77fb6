"""Pictures inside the page: as they are, or compressed where all of them would be too much for one file."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field

from PIL import Image

LIMIT = 8 << 20  # bytes of all pictures of a page; a third more as text
_STEPS = ((90, 0), (80, 800), (70, 560), (50, 400))  # quality, and longest side in pixels; 0: as it is


@dataclass(frozen=True)
class Embedded:
    """Pictures as data URIs, by the key of each, and what was done to them: "" for nothing."""

    uris: Mapping[tuple[str, str], str] = field(default_factory=dict)
    note: str = ""


def embed(pictures: Mapping[tuple[str, str], bytes]) -> Embedded:
    """PNGs as data URIs, if need be compressed with a loss until all of them have `LIMIT` bytes or no more helps."""
    note, kind, content = "", "png", dict(pictures)
    for quality, side in _STEPS:
        if sum(map(len, content.values())) <= LIMIT:
            break
        kind, content = "webp", {key: _compressed(png, quality, side) for key, png in pictures.items()}
        note = f"Pictures are compressed (WebP, quality {quality}" + (f", at most {side} px" if side else "") + ")"
    uris = {key: f"data:image/{kind};base64,{base64.b64encode(each).decode()}" for key, each in content.items()}
    return Embedded(uris, f"{note}, as they are many; the run folders hold them as they were." if note else "")


def _compressed(png: bytes, quality: int, side: int) -> bytes:
    with Image.open(io.BytesIO(png)) as opened:
        picture = opened.convert("RGB")
    if side:
        picture.thumbnail((side, side))
    target = io.BytesIO()
    picture.save(target, "webp", quality=quality, method=4)
    return target.getvalue()
