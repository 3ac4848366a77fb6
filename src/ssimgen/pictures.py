"""Pictures on disk and images in memory: reading with every check, writing whole or not at all, grids."""

from __future__ import annotations

import logging
import math
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ssimgen._extras import extra
from ssimgen._files import ordinary_file, write_atomically
from ssimgen._numbers import as_number
from ssimgen._stored_pixels import FORMATS, Stored, UnsuitableError, stored_pixels

with extra("train", "ssimgen.pictures"):
    from PIL import Image, ImageColor, UnidentifiedImageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["beside", "grid", "read", "write", "write_array"]

Range = float | tuple[float, ...]
"""l or (l,), for values in [0, l], or (lo, hi)."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".ppm", ".pgm", ".pnm")

logging.getLogger("PIL").addHandler(logging.NullHandler())  # what it logs is in its errors too


class Picture(NamedTuple):
    """An image in [0, 1], and what its file has: whether it is transparent anywhere, its bits a channel, and whether
    values lie beyond the data range, and so beyond [0, 1]."""

    image: Float[Tensor, "C H W"]
    transparent: bool
    bits: int
    beyond: bool


def read(path: Path, background: str = "white", data_range: Range | None = None) -> Float[Tensor, "C H W"]:
    """A picture as float32 in [0, 1]: one channel if the file is grey, three if it is coloured.

    16 bits a channel keep their precision, palettes become colours, transparency is laid over `background` (a name
    such as "black", or as "#a0c0ff"), and the orientation that a camera recorded is applied. CMYK becomes RGB without
    a colour profile. Of an animation or a file of several pictures, the first one.

    Args:
        path: of the file.
        background: below transparent pixels.
        data_range: which values of the file are 0 and 1, as l or (lo, hi): 4095 for 12 bits in 16. Values beyond
            become numbers below 0 or above 1. With it, grey TIFF of floating-point (32 bits) and of signed values is
            read too.
            None: 0 and the greatest value that so many bits can hold; fewer than 8 bits count as spread over 0 to 255.

    Raises:
        ValueError: not a picture, damaged, of more than 100 million pixels (checked before decoding), or of a kind
            whose values would be cut or have no fixed range (more than 16 bits, floating point, CMYK of 16 bits ...).
        OSError: the file is missing, no ordinary file, or cannot be read.

    Example:
        >>> from pathlib import Path
        >>> import torch
        >>> from ssimgen import pictures
        >>> pictures.write(Path("grey.png"), torch.full((1, 2, 3), 0.2))
        >>> image = pictures.read(Path("grey.png"))
        >>> image.shape, round(image.max().item(), 3)
        (torch.Size([1, 2, 3]), 0.2)
    """
    return decode(path, str(path), background, data_range).image


def decode(content: bytes | Path, name: str, background: str = "white", data_range: Range | None = None) -> Picture:
    """A picture from a file, or from the content of one, as :func:`read`; `name` is what errors call it."""
    below = colour(background)
    between = None if data_range is None else ends(data_range)
    with _opened(content) as file:
        try:
            with _quiet():
                stored = stored_pixels(file, without_range=between is not None)
        except UnsuitableError as error:
            raise ValueError(f"{name} {error}") from error
        except Image.DecompressionBombError as error:
            raise ValueError(f"{name} declares too many pixels ({error}): crop or scale it down") from error
        except UnidentifiedImageError as error:
            raise ValueError(f"{name} is not a picture in a known format ({', '.join(FORMATS)})") from error
        except MemoryError as error:
            raise ValueError(f"{name} takes more memory than there is: scale it down") from error
        except Exception as error:  # of damaged files, readers of pictures raise whatever they run into
            raise ValueError(f"{name} is damaged or incomplete: {error or type(error).__name__}") from error
    return _over(stored if between is None else _rescaled(stored, *between, name), below)


def ends(data_range: Range) -> tuple[float, float]:
    """(lo, hi) as numbers.

    Raises:
        ValueError: no numbers, or not in this order.
    """
    numbers = data_range if isinstance(data_range, (tuple, list)) else (data_range,)
    pair = (0.0, *numbers) if len(numbers) == 1 else numbers
    lo, hi = (as_number(end) for end in pair) if len(pair) == 2 else (None, None)
    if lo is None or hi is None or not hi > lo:
        raise ValueError(
            f"data_range must be a positive number l (values in [0, l]) or lo and hi with lo < hi, got {data_range!r}: "
            "4095 for 12 bits in 16"
        )
    return lo, hi


def _rescaled(stored: Stored, lo: float, hi: float, name: str) -> Stored:
    """Values of the file, so that lo is 0 and hi is 1."""
    values = stored.pixels.astype(np.float64) * stored.greatest
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds NaN or infinite values: repair it")
    return stored._replace(pixels=((values - lo) / (hi - lo)).astype(np.float32))


def colour(name: str) -> tuple[float, float, float]:
    """Red, green and blue of a colour, in [0, 1].

    Raises:
        ValueError: not an opaque colour.
    """
    try:
        red, green, blue, opacity = (*ImageColor.getrgb(name), 255)[:4]
    except (ValueError, AttributeError):  # not a colour, or not even a word
        opacity = 0
    if opacity < 255:
        raise ValueError(f"background must be a colour such as white, black or '#a0c0ff', got {name!r}")
    return red / 255, green / 255, blue / 255


@contextmanager
def _opened(content: bytes | Path) -> Iterator[BufferedIOBase]:
    if isinstance(content, bytes):
        yield BytesIO(content)
        return
    try:
        file = ordinary_file(content).open("rb")
    except PermissionError as error:
        raise OSError(f"cannot read {content}: {error.strerror}") from error
    with file:
        yield file


class _Quiet:
    """Without Pillow's warnings, in as many threads as are reading: filters are those of the whole process."""

    def __init__(self) -> None:
        self._lock, self._readers = threading.Lock(), 0
        self._filters = warnings.catch_warnings()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if not self._readers:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._readers += 1
        try:
            yield
        finally:
            with self._lock:
                self._readers -= 1
                if not self._readers:
                    self._filters.__exit__(None, None, None)


_quiet = _Quiet()


def _over(stored: Stored, background: tuple[float, float, float]) -> Picture:
    """What is seen of a picture; coloured if a coloured background shows through."""
    image = torch.from_numpy(stored.pixels).movedim(-1, 0).contiguous()  # (C, H, W)
    beyond = bool(stored.pixels.min() < 0 or stored.pixels.max() > 1)
    if stored.opacity is None or stored.opacity.min() == 1:
        return Picture(image, False, stored.bits, beyond)
    coloured = len(image) == 3 or len(set(background)) > 1
    below = torch.tensor(background if coloured else background[:1])[:, None, None]
    opacity = torch.from_numpy(stored.opacity)  # (H, W)
    return Picture(opacity * image + (1 - opacity) * below, True, stored.bits, beyond)


def write(path: Path, image: Float[Tensor, "C H W"]) -> None:
    """An image in [0, 1] as PNG of 8 bits, grey or colour; values outside are clipped.

    Example:
        >>> from pathlib import Path
        >>> import torch
        >>> from ssimgen import pictures
        >>> pictures.write(Path("colour.png"), torch.rand(3, 16, 16))
        >>> pictures.read(Path("colour.png")).shape
        torch.Size([3, 16, 16])
    """
    pixels = (image.detach().float().cpu().clamp(0, 1) * 255).round().byte()
    array = pixels.movedim(0, -1).squeeze(-1).numpy()  # (H, W) or (H, W, 3)
    write_atomically(path, lambda file: Image.fromarray(array).save(file, format="PNG"))


def caption(name: str) -> str:
    """The name of a file as fonts can have it: bytes that are no text are written as numbers."""
    return name.encode(errors="backslashreplace").decode()


def write_figure(path: Path, figure: Figure) -> None:
    """A figure of matplotlib as PNG; what its font cannot write becomes boxes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=110))


def grid(images: Float[Tensor, "n C H W"], columns: int | None = None, gap: int = 2) -> Float[Tensor, "C h w"]:
    """Images side by side, row after row, on white; as square as possible unless `columns` is given.

    Example:
        >>> import torch
        >>> from ssimgen import pictures
        >>> pictures.grid(torch.rand(8, 3, 16, 16), columns=4).shape
        torch.Size([3, 38, 74])
    """
    n, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    canvas = torch.ones(channels, rows * (height + gap) + gap, columns * (width + gap) + gap)
    for i, image in enumerate(images.detach().float().cpu()):
        top, left = gap + i // columns * (height + gap), gap + i % columns * (width + gap)
        canvas[:, top : top + height, left : left + width] = image
    return canvas


def beside(above: Float[Tensor, "n C H W"], below: Float[Tensor, "n C H W"], columns: int) -> Float[Tensor, "C h w"]:
    """Two sets compared: each row of `above` is followed by the row of its partners in `below`.

    Example:
        >>> import torch
        >>> from ssimgen import pictures
        >>> images = torch.rand(8, 1, 16, 16)
        >>> pictures.beside(images, images.round(), columns=4).shape
        torch.Size([1, 74, 74])
    """
    rows = [part for pair in zip(above.cpu().split(columns), below.cpu().split(columns), strict=True) for part in pair]
    return grid(torch.cat(rows), columns)


def write_array(path: Path, images: Float[Tensor, "n C H W"]) -> None:
    """Images as a NumPy file of float32.

    Example:
        >>> from pathlib import Path
        >>> import numpy as np, torch
        >>> from ssimgen import pictures
        >>> pictures.write_array(Path("images.npy"), torch.rand(8, 1, 16, 16))
        >>> np.load("images.npy").shape
        (8, 1, 16, 16)
    """
    array = images.detach().float().cpu().numpy()
    write_atomically(path, lambda file: np.save(file, array))
