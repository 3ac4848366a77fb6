"""Folders of pictures; subfolders are classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ssimgen import pictures
from ssimgen.data.collecting import collect, tracked
from ssimgen.data.decoding import Encoded, decoder
from ssimgen.data.fitting import Fit
from ssimgen.data.images import Images


def read(
    folder: Path,
    fit: Fit,
    *,
    background: str,
    data_range: tuple[float, float] | None = None,
    strict: bool,
    memory: float | None,
    report: Callable[[str], None],
) -> Images:
    """Every picture below `folder`, each over `background` and made to fit, as bytes; colour if any is coloured.

    Values of files are 0 and 1 at the ends of `data_range`.

    If all pictures are in subfolders, these are the classes, numbered in the order of their names. A picture that
    cannot be read is named in an error (`strict`), or left out, which is reported with a count.

    Raises:
        ValueError: a folder without pictures, or with none that can be read; and as :func:`collect`.
        OSError: as :func:`collect` and :func:`decoder`.
    """
    paths = picture_files(folder)
    if not paths:
        raise ValueError(nothing_in(folder))
    with decoder(fit, len(paths), background=background, data_range=data_range) as decode:
        decoded = decode(Encoded(str(path), path) for path in paths)
        shown = tracked(decoded, str(folder), len(paths))
        pixels, on_disk, kept = collect(shown, str(folder), memory=memory, strict=strict, report=report)
    return Images(pixels, _labels(folder, [paths[i] for i in kept]), str(folder), on_disk)


def nothing_in(folder: Path) -> str:
    """What to say of a folder in which no images are found."""
    return f"{folder} holds no pictures (PNG, JPEG, TIFF, WebP ...), no IDX files of images and no Parquet files"


def picture_files(folder: Path) -> list[Path]:
    """All below `folder`, save folders, that have names ending as those of pictures; hidden ones left out, sorted."""
    files = (path for path in folder.rglob("*") if path.suffix.lower() in pictures.SUFFIXES and not path.is_dir())
    return sorted(path for path in files if not any(p.startswith(".") for p in path.relative_to(folder).parts))


def _labels(folder: Path, paths: list[Path]) -> Tensor | None:
    parents = [path.relative_to(folder).parts[:-1] for path in paths]
    if not all(parents):
        return None
    numbers = {name: number for number, name in enumerate(sorted({parts[0] for parts in parents}))}
    return torch.tensor([numbers[parts[0]] for parts in parents])
