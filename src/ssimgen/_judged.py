"""What the check of a judge found, as files, tables and reports have it. No PyTorch.

A judge is a metric that is to say which of two models is better. Before it may, it must rank real images, and images
degraded on purpose, as they are ranked by construction: :mod:`ssimgen.evaluation.judges` makes it do so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ssimgen import _shown as shown
from ssimgen.scores import Better, Kind


@dataclass(frozen=True, kw_only=True)
class Rung:
    """A set of images that a judge has scored.

    Attributes:
        name: of the set, such as "3 x 3 blur".
        value, low, high: its score, with the interval.

    Example:
        >>> from ssimgen.evaluation import Rung
        >>> Rung(name="real images", value=0.1, low=0.0, high=0.2).value
        0.1
    """

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Sets of images that a judge had to rank.

    Attributes:
        name: of the ranking: "blur", "noise", "colours", "modes" and so on.
        rungs: the sets, from that which must be best to that which must be worst; empty where nothing was ranked.
        passed: whether they were ranked so, in all images and in either half of them; None where nothing was ranked.
        note: what was ranked wrongly, or why nothing was ranked.

    Example:
        >>> from ssimgen.evaluation import Ranking
        >>> Ranking(name="colours", rungs=(), passed=None, note="the images are grey").passed is None
        True
    """

    name: str
    rungs: tuple[Rung, ...]
    passed: bool | None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class JudgeCheck:
    """Whether a metric may judge models of these images.

    Attributes:
        kind: what it scores: "reconstruction" or "samples".
        metric: its label.
        better: "higher" or "lower".
        n: images of each set that it was checked on.
        rankings: what it had to rank; empty where it cannot judge these images at all.
        note: why it cannot.

    Example:
        >>> from ssimgen.evaluation import JudgeCheck
        >>> check = JudgeCheck(kind="samples", metric="recall", better="higher", n=30, rankings=(), note="too few")
        >>> check.valid, check.reason
        (False, 'too few')
    """

    kind: Kind
    metric: str
    better: Better
    n: int
    rankings: tuple[Ranking, ...]
    note: str = ""

    def _repr_html_(self) -> str:
        """A table, for notebooks."""
        rows = [
            (ranking.name, rung.name, rung.value, rung.low, rung.high)
            for ranking in self.rankings
            for rung in ranking.rungs
        ]
        verdict = "may judge these images" if self.valid else f"may not judge these images: {self.reason}"
        return shown.html_table(f"{self.metric} {verdict}", rows, ("ranking", "images", "score", "low", "high"))

    @property
    def valid(self) -> bool:
        """Whether it ranked everything as it must."""
        return any(ranking.passed for ranking in self.rankings) and not self.reason

    @property
    def reason(self) -> str:
        """Why it may not judge; "" if it may."""
        failed = (ranking.note for ranking in self.rankings if ranking.passed is False)
        return self.note or next(failed, "")

    def scores(self) -> dict[str, float]:
        """Name of a set of images -> its score."""
        return {rung.name: rung.value for ranking in self.rankings for rung in ranking.rungs}


def left_out(checks: Iterable[JudgeCheck]) -> list[str]:
    """Which judges may not judge, and why: a sentence a reason.

    Example:
        >>> from ssimgen._judged import left_out
        >>> from ssimgen.evaluation import JudgeCheck
        >>> few = JudgeCheck(kind="samples", metric="recall", better="higher", n=30, rankings=(), note="there are 30")
        >>> left_out([few])
        ['Left out of every verdict: recall, as there are 30.']
    """
    by_reason: dict[str, list[str]] = {}
    for check in checks:
        if not check.valid:
            by_reason.setdefault(check.reason, []).append(check.metric)
    return [f"Left out of every verdict: {', '.join(metrics)}, as {reason}." for reason, metrics in by_reason.items()]
