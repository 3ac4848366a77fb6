"""Pictures on disk and images in memory: reading with every check, writing whole or not at all, grids."""

from __future__ import annotations

import io
import math
import warnings
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ssimgen._files import write_atomically

FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "PPM")  # not those whose readers start other programs
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".ppm", ".pgm", ".pnm")
LARGEST = 100_000_000  # pixels; refused from the header, before memory is taken


def read(path: Path) -> Float[Tensor, "C H W"]:
    """A picture as float32 in [0, 1]: one channel if the file is grey, three if it is coloured.

    16-bit grey keeps its precision, palettes become colours, transparency is laid over white, and the
    orientation that a camera recorded is applied. Of an animation, the first picture.

    Raises:
        ValueError: not a picture, damaged, or of more than 100 million pixels (checked before decoding).
        OSError: the file is missing or cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    return _read(path, str(path))


def decode(content: bytes, name: str) -> Float[Tensor, "C H W"]:
    """A picture from the content of its file, as :func:`read`; `name` is what errors call it."""
    return _read(io.BytesIO(content), name)


def _read(file: Path | io.BytesIO, name: str) -> Float[Tensor, "C H W"]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit follows
            picture = Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ValueError(f"{name} declares too many pixels ({error}): crop or scale it down") from error
    except UnidentifiedImageError as error:
        raise ValueError(f"{name} is not a picture in a known format ({', '.join(FORMATS)})") from error
    with picture:
        width, height = picture.size
        if width * height > LARGEST:
            raise ValueError(f"{name} is {width} x {height} px, more than {LARGEST:,} pixels: crop or scale it down")
        try:
            picture.load()
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise ValueError(f"{name} is damaged or incomplete: {error}") from error
        return _as_tensor(ImageOps.exif_transpose(picture))


def _as_tensor(picture: Image.Image) -> Tensor:
    if picture.mode.startswith("I;16"):
        return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 65535)[None]
    if picture.mode in ("I", "F"):
        raise ValueError(
            f"pictures of 32 bits a channel have no fixed range (mode {picture.mode}): save as 8 or 16 bits"
        )
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        opaque = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
        picture = opaque.convert("L" if picture.mode in ("LA", "La", "L", "1") else "RGB")
    picture = picture.convert("L" if picture.mode in ("1", "L") else "RGB")
    pixels = torch.from_numpy(np.array(picture, dtype=np.float32) / 255)  # (H, W) or (H, W, 3)
    return pixels[None] if pixels.ndim == 2 else pixels.movedim(-1, 0).contiguous()


def write(path: Path, image: Float[Tensor, "C H W"]) -> None:
    """An image in [0, 1] as PNG of 8 bits, grey or colour; values outside are clipped."""
    pixels = (image.detach().float().cpu().clamp(0, 1) * 255).round().byte()
    array = pixels.movedim(0, -1).squeeze(-1).numpy()  # (H, W) or (H, W, 3)
    write_atomically(path, lambda file: Image.fromarray(array).save(file, format="PNG"))


def grid(images: Float[Tensor, "n C H W"], columns: int | None = None, gap: int = 2) -> Float[Tensor, "C h w"]:
    """Images side by side, row after row, on white; as square as possible unless `columns` is given."""
    n, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    canvas = torch.ones(channels, rows * (height + gap) + gap, columns * (width + gap) + gap)
    for i, image in enumerate(images.detach().float().cpu()):
        top, left = gap + i // columns * (height + gap), gap + i % columns * (width + gap)
        canvas[:, top : top + height, left : left + width] = image
    return canvas


def beside(above: Float[Tensor, "n C H W"], below: Float[Tensor, "n C H W"], columns: int) -> Float[Tensor, "C h w"]:
    """Two sets compared: each row of `above` is followed by the row of its partners in `below`."""
    rows = [part for pair in zip(above.cpu().split(columns), below.cpu().split(columns), strict=True) for part in pair]
    return grid(torch.cat(rows), columns)


def write_array(path: Path, images: Float[Tensor, "n C H W"]) -> None:
    """Images as a NumPy file of float32."""
    array = images.detach().float().cpu().numpy()
    write_atomically(path, lambda file: np.save(file, array))
