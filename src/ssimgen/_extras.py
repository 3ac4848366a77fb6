"""Optional dependencies: where one is missing, one line says who needs it and which extra brings it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class ExtraNeededError(ModuleNotFoundError):
    """A package is missing that an extra of this one brings."""


@contextmanager
def extra(name: str, user: str, otherwise: str = "") -> Iterator[None]:
    """Within it, what `user` needs of the packages that the extra `name` brings is imported.

    Raises:
        ExtraNeededError: a package is missing; `otherwise` is what helps besides installing it.
    """
    try:
        yield
    except ExtraNeededError:
        raise
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", __package__):
            raise
        text = f"{user} needs {package}: pip install 'ssimgen[{name}]'{otherwise}"
        raise ExtraNeededError(text, name=error.name) from None
