"""The pictures of a report: which arms are shown, and their pictures of one kind beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ssimgen.report.arms import Arm
from ssimgen.report.folders import Run
from ssimgen.report.results import Result
from ssimgen.report.summary import Summary
from ssimgen.scores import RATE

_MOST_PICTURES = 40  # variants with pictures
_GALLERIES = {  # pictures of a run folder: heading, what they show, and for those who do not see them
    "samples": ("Samples", "Images drawn from the models.", "samples of"),
    "reconstructions": (
        "Reconstructions",
        "Rows of held-out images, each followed by the row of their reconstructions.",
        "held-out images and their reconstructions by",
    ),
    "worst": (
        "Failures: worst reconstructions",
        "The held-out images that come back with the lowest SSIM, worst first, each row followed by the row of their "
        "reconstructions.",
        "worst reconstructions by",
    ),
    "nearest": (
        "Nearest training images",
        "Rows of samples, each followed by the row of the training images nearest to them in the structural distance.",
        "samples and nearest training images of",
    ),
}


@dataclass(frozen=True)
class Figure:
    """A picture as a data URI, None where a run folder should have one and does not; and what it is of."""

    label: str
    alt: str
    uri: str | None


@dataclass(frozen=True)
class Gallery:
    """Pictures of one kind, under a heading."""

    name: str
    heading: str
    text: str
    figures: tuple[Figure, ...]


def pictured(arms: Sequence[Arm], records: Sequence[Result], at_rates: Sequence[Summary]) -> list[Arm]:
    """One arm a variant: of a sweep, that whose rate is nearest to the middle of the common rates."""
    rate = {r.folder: r.value for r in records if r.score.key == RATE}
    middle: dict[str, list[float]] = {}
    for row in at_rates:
        if row.rate is not None:
            middle.setdefault(row.group, []).append(row.rate)
    chosen: dict[tuple[str, str], Arm] = {}
    for arm in arms:
        key = (arm.group, arm.variant)
        rates = sorted(set(middle.get(arm.group, [])))
        wanted = rates[len(rates) // 2 :][:1]

        def off(candidate: Arm, wanted: list[float] = wanted) -> float:
            value = rate.get(str(candidate.runs[0].path))
            return abs(value - wanted[0]) if wanted and value is not None else 0.0

        if key not in chosen or off(arm) < off(chosen[key]):
            chosen[key] = arm
    return list(chosen.values())[:_MOST_PICTURES]


def pictures_of(arms: Sequence[Arm]) -> Iterator[tuple[Run, str, bytes]]:
    """The pictures of the first run of each arm, by name."""
    for arm in arms:
        for name in _GALLERIES:
            content = arm.runs[0].picture(name)
            if content is not None:
                yield arm.runs[0], name, content


def galleries(arms: Sequence[Arm], uris: Mapping[tuple[str, str], str]) -> list[Gallery]:
    """Pictures of one kind beside each other."""
    found = []
    for name, (heading, text, alt) in _GALLERIES.items():
        figures = tuple(
            Figure(arm.label, f"{alt} {arm.label}", uris.get((str(arm.runs[0].path), name)))
            for arm in arms
            if arm.runs[0].expects(name)
        )
        if figures:
            found.append(Gallery(name, heading, text, figures))
    return found
