"""Folders of pictures; subfolders are classes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor

from ssimgen import pictures
from ssimgen.data.images import Images


def read(folder: Path, fit: Callable[[Tensor], Tensor], *, strict: bool, report: Callable[[str], None]) -> Images:
    """Every picture below `folder`, each made to fit, as bytes; colour if any is coloured.

    If all pictures are in subfolders, these are the classes, numbered in the order of their names. A picture that
    cannot be read is named in an error (`strict`), or left out, which is reported with a count.
    """
    paths = picture_files(folder)
    if not paths:
        raise ValueError(f"{folder} holds no pictures (PNG, JPEG, TIFF, WebP ...)")
    with ThreadPoolExecutor() as pool:  # decoding leaves Python's lock
        tasks = pool.map(lambda path: _read(path, fit), paths)
        results = list(track(tasks, f"reading {folder}", total=len(paths), transient=True))
    bad = [result for result in results if isinstance(result, Exception)]
    if bad and strict:
        raise ValueError(f"{bad[0]} (strict: {len(bad)} of {len(paths)} pictures cannot be read)")
    good = [(path, image) for path, image in zip(paths, results, strict=True) if isinstance(image, Tensor)]
    if bad:
        listed = "; ".join(map(str, bad[:3])) + ("; ..." if len(bad) > 3 else "")
        report(f"left out {len(bad)} of {len(paths)} pictures: {listed}")
    if not good:
        raise ValueError(f"none of the {len(paths)} pictures in {folder} can be read")
    return Images(_stack(good), _labels(folder, [path for path, _ in good]), str(folder))


def picture_files(folder: Path) -> list[Path]:
    """Files below `folder` whose names end as pictures do, hidden ones left out, sorted."""
    files = (path for path in folder.rglob("*") if path.suffix.lower() in pictures.SUFFIXES and path.is_file())
    return sorted(path for path in files if not any(p.startswith(".") for p in path.relative_to(folder).parts))


def _read(path: Path, fit: Callable[[Tensor], Tensor]) -> Tensor | Exception:
    """A picture as bytes, or what is wrong with it."""
    try:
        return (fit(pictures.read(path)) * 255).round().byte()
    except (ValueError, OSError) as error:
        return error


def _stack(images: list[tuple[Path, Tensor]]) -> Tensor:
    channels = max(len(image) for _, image in images)
    first_path, first = images[0]
    for path, image in images:
        if image.shape[1:] != first.shape[1:]:
            sizes = [f"{p.name} is {i.shape[2]} x {i.shape[1]} px" for p, i in ((first_path, first), (path, image))]
            raise ValueError(f"pictures must have one size, but {sizes[0]} and {sizes[1]}: give a size to scale to")
    return torch.stack([image.expand(channels, -1, -1) for _, image in images])


def _labels(folder: Path, paths: list[Path]) -> Tensor | None:
    parents = [path.relative_to(folder).parts[:-1] for path in paths]
    if not all(parents):
        return None
    names = sorted({parts[0] for parts in parents})
    return torch.tensor([names.index(parts[0]) for parts in parents])
