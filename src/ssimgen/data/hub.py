"""Hugging Face data sets, by their id or as Parquet files on this machine, through the package `datasets`.

Images are streamed: each is decoded, made to fit, and kept as bytes of that size, in memory or, where they are more
than it should hold, in a temporary file. So a set may be larger than memory, and with a limit only so much of it is
fetched as is needed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ssimgen._extras import extra
from ssimgen.data.collecting import collect, tracked
from ssimgen.data.decoding import Encoded, decoder
from ssimgen.data.fitting import Fit
from ssimgen.data.images import Images

PREFIX = "hf:"

_HELD_OUT = ("test", "validation", "valid", "val")
_BUFFER = 10_000  # images among which the next one is drawn, when only some are taken
_COLUMNS = ("image", "img", "picture")
_OF_FILES = "imagefolder"  # whose rows name files of the data set itself; `datasets` refuses any other


def parquet_files(path: Path) -> list[str]:
    """The Parquet files that a path is or holds."""
    if path.is_dir():
        return sorted(str(file) for file in path.rglob("*.parquet") if not file.is_dir())
    return [str(path)] if path.suffix == ".parquet" and path.exists() else []


def read(
    name: str,
    fit: Fit,
    *,
    background: str,
    data_range: tuple[float, float] | None = None,
    held_out: float,
    limit: int | None,
    strict: bool,
    memory: float | None,
    report: Callable[[str], None],
) -> list[Images]:
    """The images of a data set: one set, or training and held-out images where it has both.

    Args:
        name: "hf:ID" or "hf:ID:CONFIGURATION", or a path of Parquet files.
        fit: makes an image fit, (C, H, W) in [0, 1].
        background: colour below transparency.
        data_range: the values of pictures that are 0 and 1; None: by their bits.
        held_out: fraction that will be held out of a set without a split of its own.
        limit: at most so many images of each split, drawn from the stream at random; None: all.
        strict: refuse a damaged picture, instead of leaving it out and saying so.
        memory: gigabytes that the images of a split may take, as :func:`collect`.
        report: told of what is left out or changed.

    Raises:
        ModuleNotFoundError: the optional dependency "hf" is not installed.
        OSError: there is no such data set, it cannot be reached, or it is damaged.
        ValueError: it has no images, none that can be read, or images of different sizes.
    """
    with extra("hf", f"reading {name}"):
        import datasets
    splits = _opened(datasets, name)
    training = "train" if "train" in splits else next(iter(splits))
    other = next((key for key in _HELD_OUT if key in splits and key != training), None)
    if limit is not None and other is None:
        limit = round(limit / (1 - held_out)) + 1  # some of them will be held out
    chosen = [training] if other is None else [training, other]
    return [
        _images(datasets, splits[key], f"{name}, {key}", fit, background, data_range, limit, strict, memory, report)
        for key in chosen
    ]


def _opened(datasets: Any, name: str) -> Mapping[str, Any]:
    """Streams by split."""
    try:
        with _quiet():
            if name.startswith(PREFIX):
                identifier, _, configuration = name.removeprefix(PREFIX).partition(":")
                found = datasets.load_dataset(identifier, configuration or None, streaming=True)
            else:
                found = datasets.load_dataset("parquet", data_files=parquet_files(Path(name)), streaming=True)
            return {split: _with_features(stream) for split, stream in found.items()}
    except Exception as error:  # the package raises its own, of the hub, of HTTP, of file formats
        raise OSError(f"cannot open the data set {name}: {type(error).__name__}: {error}") from error


def _with_features(stream: Any) -> Any:
    """The stream with its columns known, for which some formats must be looked into."""
    return stream if stream.features else stream._resolve_features()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the log of the packages: what goes wrong is in the error."""
    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _images(
    datasets: Any,
    stream: Any,
    source: str,
    fit: Fit,
    background: str,
    data_range: tuple[float, float] | None,
    limit: int | None,
    strict: bool,
    memory: float | None,
    report: Callable[[str], None],
) -> Images:
    features = stream.features
    image = _image_column(datasets, features, source)
    label = next((key for key, kind in features.items() if isinstance(kind, datasets.ClassLabel)), None)
    label = label or next((key for key in ("label", "labels") if key in features), None)
    of_files = stream.info.builder_name == _OF_FILES
    stream = stream.select_columns([image] if label is None else [image, label])
    stream = stream.cast_column(image, datasets.Image(decode=False))  # bytes: decoded here, with every check
    if limit is not None:
        stream = stream.shuffle(seed=0, buffer_size=_BUFFER).take(limit)
    labels: list[Any] = []

    def encoded() -> Iterator[Encoded]:
        rows = _rows(stream, source)
        for number, row in enumerate(tracked(rows, source, limit)):
            labels.append(row[label] if label else None)
            yield _encoded(f"image {number} of {source}", row[image], of_files)

    with decoder(fit, limit, background=background, data_range=data_range) as decode:
        pixels, on_disk, kept = collect(decode(encoded()), source, memory=memory, strict=strict, report=report)
    classes = [labels[i] for i in kept]
    whole = all(isinstance(value, int) and value >= 0 for value in classes)
    return Images(pixels, torch.tensor(classes) if whole else None, source, on_disk)


def _rows(stream: Any, source: str) -> Iterator[Mapping[str, Any]]:
    try:
        yield from stream
    except Exception as error:  # as above: a file may be damaged behind its header, a connection may break
        raise OSError(f"cannot read on in {source}: {type(error).__name__}: {error}") from error


def _encoded(name: str, picture: Any, of_files: bool) -> Encoded:
    """What a row holds of a picture: its bytes; or where its file is, which is opened in data sets of files alone."""
    content, path = (picture.get("bytes"), picture.get("path")) if isinstance(picture, Mapping) else (picture, None)
    if isinstance(content, bytes) or not path:
        return Encoded(name, content if isinstance(content, bytes) else None)
    if not of_files:
        return Encoded(
            name, None, f"holds no bytes but names the file {path}, which is not opened: write the pictures themselves"
        )
    if "://" not in str(path):
        return Encoded(name, Path(str(path)))
    with extra("hf", "reading data sets"):
        from datasets.utils.file_utils import xopen

    with xopen(str(path), "rb") as file:
        return Encoded(name, bytes(file.read()))


def _image_column(datasets: Any, features: Mapping[str, Any], source: str) -> str:
    """The column of images: the first that is declared so, or one of a usual name that holds encoded pictures."""
    for key, kind in features.items():
        if isinstance(kind, datasets.Image):
            return key
    for key in _COLUMNS:
        if isinstance(features.get(key), Mapping) and "bytes" in features[key]:
            return key
        if isinstance(features.get(key), datasets.Value) and features[key].dtype in ("binary", "large_binary"):
            return key
    held = ", ".join(f"{key} ({_kind(kind)})" for key, kind in features.items())
    raise ValueError(
        f"{source} has no column of images, only {held}: declare one as datasets.Image, or call a column of encoded "
        f"pictures {' or '.join(_COLUMNS)}"
    )


def _kind(feature: Any) -> str:
    """The type of a column in a word."""
    return str(getattr(feature, "dtype", None) or type(feature).__name__)
