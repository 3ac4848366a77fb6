"""Hugging Face data sets, by their id or as Parquet files on this machine, through the package `datasets`.

Images are streamed: each is decoded, made to fit, and kept as bytes of that size. So a set may be larger than memory
as it is stored, and with a limit only so much of it is fetched as is needed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor

from ssimgen import pictures
from ssimgen.data.images import Images

PREFIX = "hf:"

_HELD_OUT = ("test", "validation", "valid", "val")
_BUFFER = 10_000  # images among which the next one is drawn, when only some are taken
_CHUNK = 256  # images decoded at a time


def parquet_files(path: Path) -> list[str]:
    """The Parquet files that a path is or holds."""
    if path.is_dir():
        return sorted(str(file) for file in path.rglob("*.parquet"))
    return [str(path)] if path.suffix == ".parquet" else []


def read(
    name: str,
    fit: Callable[[Tensor], Tensor],
    *,
    held_out: float,
    limit: int | None,
    strict: bool,
    report: Callable[[str], None],
) -> list[Images]:
    """The images of a data set: one set, or training and held-out images where it has both.

    Args:
        name: "hf:ID" or "hf:ID:CONFIGURATION", or a path of Parquet files.
        fit: makes an image fit, (C, H, W) in [0, 1].
        held_out: fraction that will be held out of a set without a split of its own.
        limit: at most so many images of each split, drawn from the stream at random; None: all.
        strict: refuse a damaged picture, instead of leaving it out and saying so.
        report: told of what is left out.

    Raises:
        ModuleNotFoundError: the optional dependency "hf" is not installed.
        OSError: there is no such data set, or it cannot be reached.
        ValueError: it has no images, none that can be read, or images of different sizes.
    """
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"reading {name} needs an optional dependency: pip install 'ssimgen[hf]'") from error
    splits = _opened(datasets, name)
    training = "train" if "train" in splits else next(iter(splits))
    other = next((key for key in _HELD_OUT if key in splits and key != training), None)
    if limit is not None and other is None:
        limit = round(limit / (1 - held_out)) + 1  # some of them will be held out
    chosen = [training] if other is None else [training, other]
    return [_images(datasets, splits[key], f"{name}, {key}", fit, limit, strict, report) for key in chosen]


def _opened(datasets: Any, name: str) -> Mapping[str, Any]:
    """Streams by split."""
    try:
        if name.startswith(PREFIX):
            identifier, _, configuration = name.removeprefix(PREFIX).partition(":")
            found = datasets.load_dataset(identifier, configuration or None, streaming=True)
        else:
            found = datasets.load_dataset("parquet", data_files=parquet_files(Path(name)), streaming=True)
    except Exception as error:  # the package raises its own, of the hub, of HTTP, of file formats
        raise OSError(f"cannot open the data set {name}: {type(error).__name__}: {error}") from error
    return dict(found)


def _images(
    datasets: Any,
    stream: Any,
    source: str,
    fit: Callable[[Tensor], Tensor],
    limit: int | None,
    strict: bool,
    report: Callable[[str], None],
) -> Images:
    features = stream.features or stream._resolve_features().features
    image = _image_column(datasets, features, source)
    label = next((key for key, kind in features.items() if isinstance(kind, datasets.ClassLabel)), None)
    label = label or next((key for key in ("label", "labels") if key in features), None)
    stream = stream.select_columns([image] if label is None else [image, label])
    stream = stream.cast_column(image, datasets.Image(decode=False))  # bytes: decoded here, with every check
    if limit is not None:
        stream = stream.shuffle(seed=0, buffer_size=_BUFFER).take(limit)
    pixels: list[Tensor] = []
    labels: list[Any] = []
    bad: list[str] = []
    number = 0
    for row, decoded in track(_decoded(stream, image, fit, source), f"reading {source}", total=limit, transient=True):
        number += 1
        if isinstance(decoded, Exception):
            if strict:
                raise ValueError(f"{decoded} (strict)")
            bad.append(str(decoded))
            continue
        if pixels and decoded.shape[1:] != pixels[0].shape[1:]:
            (_, h, w), (_, height, width) = pixels[0].shape, decoded.shape
            raise ValueError(
                f"images must have one size, but {source} has {w} x {h} px and {width} x {height} px: "
                "give a size to scale to"
            )
        pixels.append(decoded)
        labels.append(row.get(label) if label else None)
    if bad:
        report(f"left out {len(bad)} of {number} images: {'; '.join(bad[:3])}{'; ...' if len(bad) > 3 else ''}")
    if not pixels:
        raise ValueError(f"{source} holds no images that can be read")
    channels = max(len(x) for x in pixels)
    whole = all(isinstance(value, int) and value >= 0 for value in labels)
    return Images(
        torch.stack([x.expand(channels, -1, -1) for x in pixels]), torch.tensor(labels) if whole else None, source
    )


def _image_column(datasets: Any, features: Mapping[str, Any], source: str) -> str:
    """The column of images: the first that is declared so, or one of a usual name that holds encoded pictures."""
    for key, kind in features.items():
        if isinstance(kind, datasets.Image):
            return key
    for key in ("image", "img", "picture"):
        if isinstance(features.get(key), Mapping) and "bytes" in features[key]:
            return key
        if isinstance(features.get(key), datasets.Value) and features[key].dtype in ("binary", "large_binary"):
            return key
    raise ValueError(f"{source} has no column of images, only {', '.join(features)}")


def _decoded(
    stream: Iterable[Mapping[str, Any]], column: str, fit: Callable[[Tensor], Tensor], source: str
) -> Iterator[tuple[Mapping[str, Any], Tensor | Exception]]:
    """Rows with their images as bytes, or what is wrong with them."""

    def decode(numbered: tuple[int, Mapping[str, Any]]) -> Tensor | Exception:
        number, row = numbered
        try:
            content = row[column]
            raw = content.get("bytes") if isinstance(content, Mapping) else content
            if raw is None:
                raise ValueError(f"image {number} of {source} is empty, or stands in a file of its own")
            return (fit(pictures.decode(raw, f"image {number} of {source}")) * 255).round().byte()
        except ValueError as error:
            return error

    with ThreadPoolExecutor() as pool:  # decoding leaves Python's lock
        rows = enumerate(stream)
        while chunk := list(itertools.islice(rows, _CHUNK)):
            for (_, row), image in zip(chunk, pool.map(decode, chunk), strict=True):
                yield row, image
