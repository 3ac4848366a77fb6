"""What stands first on a report."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """The conclusion of a study: a heading and some sentences.

    Example:
        >>> from ssimgen.report import Verdict
        >>> Verdict("No conclusion", ("Two seeds are needed.",)).sentences
        ('Two seeds are needed.',)
    """

    heading: str
    sentences: tuple[str, ...] = ()
