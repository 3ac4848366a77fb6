"""NumPy files: .npy with images, .npz with images and labels, perhaps of two sets."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssimgen.data.images import Images

_NAMES = (("images", "labels"), ("x", "y"), ("x_train", "y_train"))


def read(path: Path) -> list[Images]:
    """The images of a file.

    An .npz names them `images` and `labels`, or `x` and `y`; `x_train`, `y_train`, `x_test`, `y_test` are two sets.
    Images have shape (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3 (if both could be, the latter); bytes,
    or floating-point numbers in [0, 1].
    """
    if path.suffix not in (".npy", ".npz"):
        raise ValueError(f"{path} is neither a folder nor an .npz, .npy, IDX or Parquet file")
    try:
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            held = {"images": content} if isinstance(content, np.ndarray) else dict(content)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged, or holds Python objects, which are not loaded: {error}") from error
    for images, labels in _NAMES:
        if images in held:
            sets = [_images(held[images], held.get(labels), f"{path}, {images}")]
            if "x_test" in held:
                sets.append(_images(held["x_test"], held.get("y_test"), f"{path}, x_test"))
            return sets
    raise ValueError(f"{path} holds arrays {', '.join(held)}, but none called images, x or x_train")


def _images(array: NDArray[np.generic], labels: NDArray[np.generic] | None, name: str) -> Images:
    pixels = _channels_first(array, name)
    if labels is None:
        return Images(pixels, None, name)
    if labels.shape != array.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels of {name} must be {len(array)} whole numbers, got {labels.dtype} of {labels.shape}")
    if labels.min() < 0:
        raise ValueError(f"labels of {name} must be class numbers from 0, got {labels.min()}: leave out what has none")
    return Images(pixels, torch.from_numpy(labels.astype(np.int64)), name)


def _channels_first(array: NDArray[np.generic], name: str) -> Tensor:
    """(N, C, H, W), as bytes or float32 in [0, 1]."""
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[1] not in (1, 3) and array.shape[3] in (1, 3):
        array = np.moveaxis(array, 3, 1)
    if array.ndim != 4 or array.shape[1] not in (1, 3) or 0 in array.shape:
        raise ValueError(f"{name} must be images (N, H, W), (N, H, W, C) or (N, C, H, W), got shape {array.shape}")
    if array.dtype == np.uint8:
        return torch.from_numpy(np.ascontiguousarray(array))
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"{name} must hold bytes or floating-point numbers in [0, 1], got {array.dtype}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinite values: remove those images")
    if array.min() < 0 or array.max() > 1:
        raise ValueError(f"{name} must be in [0, 1], got [{array.min():g}, {array.max():g}]: rescale, or save as bytes")
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
