"""The command `ssimgen judges`: which metrics may judge models of a set of images, as a table."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from rich.table import Table
from tyro.conf import arg

from ssimgen import scores
from ssimgen._files import write_atomically
from ssimgen._judged import left_out
from ssimgen.commands.common import check_output, command, note, progress_bar

if TYPE_CHECKING:
    from ssimgen.evaluation import JudgeCheck, Ranking


@command
def judges(
    *,
    data: str = "mnist5k",
    size: int | None = None,
    grey: bool = False,
    background: str = "white",
    data_range: tuple[float, ...] | None = None,
    held_out: float = 0.2,
    images: int = 1000,
    resolution: int = 96,
    seed: int = 0,
    output: Annotated[Path | None, arg(aliases=("-o",))] = None,
) -> None:
    """Check which metrics may judge models of your images.

    Each must rank real images, blurred, noisy and wrongly coloured ones, and half of the classes, as everyone would.
    One that does not is left out of every verdict. Prints what was ranked and how; docs/judges.md says more.

    Args:
        data: the images, as for ssimgen train: mnist5k, photos, a path, or hf: and an id.
        size: scale and crop all images to this side in pixels.
        grey: turn colours into grey first.
        background: colour on which transparent pictures are laid: a name such as black, or as #a0c0ff.
        data_range: values of the files from 0 to this number, as 4095 for 12 bits in 16, or between two numbers.
        held_out: fraction that is held out, where the images have no split of their own.
        images: at most so many training and held-out images, as for ssimgen evaluate; 500 of them are looked at.
        resolution: side in pixels at which the feature network sees the images, a multiple of 32.
        seed: of every random choice.
        output: write all numbers, with their intervals, to this JSON file.
    """
    from ssimgen.data import Source, load_images
    from ssimgen.evaluation import Bootstrap, efficientnet_lite0
    from ssimgen.runs import checked_judges

    if output is not None:
        check_output(output, (".json",))
    source = Source(data, size, grey, background, data_range, held_out=held_out)
    if images < 1:
        raise ValueError(f"--images must be at least 1, got {images}")
    network = efficientnet_lite0(resolution)
    splits = load_images(source, note)
    with progress_bar() as progress:
        track = partial(progress.track, description="ranking")
        found = checked_judges(splits, network, images=images, bootstrap=Bootstrap(seed=seed), track=track)
    if output is not None:
        records = [{**asdict(check), "valid": check.valid, "reason": check.reason} for check in found]
        text = json.dumps({"source": splits.train.source, "judges": records}, indent=2) + "\n"
        write_atomically(output, lambda file: file.write(text.encode()))
    print_table(splits.train.source.removesuffix(", training"), network.name, found)


def print_table(source: str, network: str, checks: Sequence[JudgeCheck]) -> None:
    """Print what each judge ranked, the scores behind it, and why some may not judge."""
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 150)
    rankings = list(dict.fromkeys(ranking.name for check in checks for ranking in check.rankings))
    console.print(f"{source}; features: {network}", soft_wrap=True)
    passes = Table("judge", *rankings, "may judge", title="what is ranked as it must be")
    for check in checks:
        cells = {ranking.name: _passed(ranking) for ranking in check.rankings}
        may = "yes" if check.valid else "no"
        passes.add_row(_short(check, network), *(cells.get(name, "") for name in rankings), may)
    console.print(passes)
    names = list(dict.fromkeys(name for check in checks for name in check.scores()))
    if names:
        numbers = Table("judge", *names, title="the score that each judge gives each set of images")
        for check in checks:
            if found := check.scores():
                values = (f"{found[name]:.3g}" if name in found else "" for name in names)
                numbers.add_row(_short(check, network), *values)
        console.print(numbers)
    for sentence in left_out(checks):
        console.print(sentence, soft_wrap=True)


def _short(check: JudgeCheck, network: str) -> str:
    return scores.read(check.metric).short(network)


def _passed(ranking: Ranking) -> str:
    return "-" if ranking.passed is None else "yes" if ranking.passed else "NO"
