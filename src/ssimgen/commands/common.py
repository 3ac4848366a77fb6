"""What commands share: how a function becomes one, and what they check and say."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ssimgen._files import writable_folder
from ssimgen._usage import complain, parse
from ssimgen.commands.wording import of_options

if TYPE_CHECKING:
    from rich.progress import Progress
    from torch import Tensor

    from ssimgen import Window
    from ssimgen.windows import Padding

Form = Literal["product", "sum", "centred", "uncentred"]  # that of ssimgen.engine, which imports PyTorch


def command(function: Callable[..., int | None]) -> Callable[[list[str]], int]:
    """A command whose options are the parameters of `function`, which may return an exit code."""
    function.__doc__ = _unwrapped(function.__doc__ or "")

    @wraps(function)
    def bound(*positional: Any, **options: Any) -> Callable[[], int | None]:
        return partial(function, *positional, **options)

    def run(words: list[str]) -> int:
        name = function.__name__.replace("_", "-")
        parameters = inspect.signature(function).parameters.values()
        with of_options([p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]):
            exit_code: int | None = parse(bound, words, f"ssimgen {name}")()
        return exit_code or 0

    run.__doc__ = function.__doc__
    return run


def _unwrapped(text: str) -> str:
    """A docstring with what it says of an option in one line, which help wraps anew, and without marks of code."""
    return re.sub(r"\n {8,}", " ", inspect.cleandoc(text)).replace("`", "")


def ended(training: Callable[[], None], again: str) -> int:
    """The exit code of something that trains; what ended it early goes on as `again` says."""
    from ssimgen.training import Interrupted, NotFiniteError, NotWrittenError, ProcessLostError

    try:
        training()
    except Interrupted as stop:
        complain(f"{stop}; {again}")
        return 128 + stop.signum
    except (NotFiniteError, NotWrittenError, ProcessLostError) as error:  # the run failed, not its input
        complain(str(error))
        return 1
    return 0


def check_output(path: Path, suffixes: tuple[str, ...]) -> None:
    """Refuse an output that could not be written, before any work is done."""
    if path.suffix not in suffixes:
        raise ValueError(f"output {path} must end in {' or '.join(suffixes)}")
    if path.is_dir():
        raise ValueError(f"output {path} is a folder: name a file")
    writable_folder(path.parent)


def gaussian_window(
    option: str, size: int, sigma: float, images: Tensor, stride: int = 1, padding: Padding = "valid"
) -> Window:
    """The Gaussian window whose side is that of an option, which must fit the images (..., H, W)."""
    from ssimgen import Window

    height, width = images.shape[-2:]
    if size < 1:
        raise ValueError(f"{option} must be at least 1 pixel, got {size}")
    if size > min(height, width):
        raise ValueError(
            f"window of {size} x {size} px does not fit images of {height} x {width} px: "
            f"pass {option} {min(height, width)} or smaller, or larger images"
        )
    return Window.gaussian(size, sigma, stride, padding=padding)


def note(line: str) -> None:
    """Say what is not the result, so that the result can be read by a program."""
    print(line, file=sys.stderr)


def progress_bar() -> Progress:
    """A progress bar on standard error, gone when done; none where no one looks."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=not console.is_terminal)
