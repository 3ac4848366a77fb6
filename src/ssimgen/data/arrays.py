"""NumPy files: .npy with images, .npz with images and labels, perhaps of two sets."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssimgen._files import ordinary_file
from ssimgen._memory import NoRoomError, check_fits
from ssimgen.data.images import Images

_MOST_CLASSES = 2**31
_MAGIC = b"\x93NUMPY"
_LONG_HEADER = np.lib.format.read_array_header_2_0  # also of version 3, of which only names of fields differ
_NAMES = (("images", "labels"), ("x", "y"), ("x_train", "y_train"))


def read(path: Path, data_range: tuple[float, float] | None = None) -> list[Images]:
    """The images of an .npz or .npy file.

    An .npz names them `images` and `labels`, or `x` and `y`; `x_train`, `y_train`, `x_test`, `y_test` are two sets. If
    it has one array alone, its name does not matter. Images have shape (N, H, W), (N, H, W, C) or (N, C, H, W) with
    C = 1 or 3 (if both could be, the latter); bytes, or floating-point numbers in [0, 1]. With `data_range` they are
    numbers of any kind between its ends, which become 0 and 1.

    Raises:
        ValueError: damaged, not such arrays, or too large for memory.
        OSError: the file is missing, no ordinary file, or cannot be read.
    """
    ordinary_file(path).open("rb").close()  # a file that may not be read is not damaged
    if path.suffix not in (".npy", ".npz"):
        raise ValueError(f"{path} is neither a folder nor an .npz, .npy, IDX or Parquet file")
    try:
        held = _arrays(path)
    except NoRoomError:
        raise
    except MemoryError as error:
        raise ValueError(f"{path} declares arrays of more memory than there is: {error}") from error
    except Exception as error:  # of damaged files, NumPy and zipfile raise whatever they run into
        problem = error or type(error).__name__
        raise ValueError(f"{path} is damaged, or holds Python objects, which are not loaded: {problem}") from error
    for images, labels in _NAMES:
        if images in held:
            sets = [_images(held[images], held.get(labels), f"{path}, {images}", data_range)]
            if "x_test" in held:
                sets.append(_images(held["x_test"], held.get("y_test"), f"{path}, x_test", data_range))
            return sets
    if len(held) == 1:
        return [_images(array, None, f"{path}, {name}", data_range) for name, array in held.items()]
    names = ", ".join(held) or "none"
    raise ValueError(
        f"{path} holds the arrays {names}, but none called images, x or x_train: "
        "name them, as in np.savez(path, images=..., labels=...)"
    )


def _arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    """Arrays by name. No memory is taken for what a header says before it is known to be there."""
    with path.open("rb") as file:
        single = file.read(len(_MAGIC)) == _MAGIC
    if single:
        return {"images": np.load(path, mmap_mode="r", allow_pickle=False)}  # mapped: fails if the file is shorter
    with zipfile.ZipFile(path) as archive:
        check_fits(sum(member.file_size for member in archive.infolist()), f"the content of {path}", "split the file")
        for member in archive.infolist():
            with archive.open(member) as file:
                if _declared(file) > member.file_size:
                    raise ValueError(f"{member.filename} is shorter than its header says")
    with np.load(path, allow_pickle=False) as content:
        return {name: array for name, array in content.items() if isinstance(array, np.ndarray)}


def _declared(file: Any) -> int:
    """Bytes of the array in a .npy file by its header; 0 for another file."""
    if file.read(len(_MAGIC)) != _MAGIC:
        return 0
    file.seek(0)
    header = np.lib.format.read_array_header_1_0 if np.lib.format.read_magic(file) == (1, 0) else _LONG_HEADER
    shape, _, kind = header(file)
    return math.prod(shape) * kind.itemsize


def _images(
    array: NDArray[np.generic],
    labels: NDArray[np.generic] | None,
    name: str,
    data_range: tuple[float, float] | None,
) -> Images:
    pixels = _channels_first(array, name, data_range)
    if labels is None:
        return Images(pixels, None, name)
    if labels.shape != array.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels of {name} must be {len(array)} whole numbers, got {labels.dtype} of {labels.shape}")
    if labels.min() < 0:
        raise ValueError(f"labels of {name} must be class numbers from 0, got {labels.min()}: leave out what has none")
    if labels.max() >= _MOST_CLASSES:
        raise ValueError(f"labels of {name} must be class numbers from 0, got {labels.max()}: number the classes")
    return Images(pixels, torch.from_numpy(labels.astype(np.int64)), name)


def _channels_first(array: NDArray[np.generic], name: str, data_range: tuple[float, float] | None) -> Tensor:
    """(N, C, H, W), as bytes or float32 in [0, 1]."""
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[1] not in (1, 3) and array.shape[3] in (1, 3):
        array = np.moveaxis(array, 3, 1)
    if array.ndim != 4 or array.shape[1] not in (1, 3) or 0 in array.shape:
        raise ValueError(f"{name} must be images (N, H, W), (N, H, W, C) or (N, C, H, W), got shape {array.shape}")
    if array.dtype == np.uint8 and data_range is None:
        return torch.from_numpy(np.array(array, order="C"))
    if not np.issubdtype(array.dtype, np.floating if data_range is None else np.number) or array.dtype.kind == "c":
        raise ValueError(
            f"{name} must hold bytes or floating-point numbers in [0, 1], got {array.dtype}: rescale them, or give "
            "data_range"
        )
    if not np.isfinite(array).all():
        first = int(np.flatnonzero(~np.isfinite(array).all((1, 2, 3)))[0])
        raise ValueError(f"{name} holds NaN or infinite values, first in image {first}: remove those images")
    lo, hi = (0.0, 1.0) if data_range is None else data_range
    if array.min() < lo or array.max() > hi:
        remedy = "rescale, save as bytes, or give data_range" if data_range is None else "give a wider data_range"
        raise ValueError(f"{name} must be in [{lo:g}, {hi:g}], got [{array.min():g}, {array.max():g}]: {remedy}")
    if data_range is not None:
        array = (array.astype(np.float64) - lo) / (hi - lo)
    return torch.from_numpy(np.array(array, np.float32, order="C"))
