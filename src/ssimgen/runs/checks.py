"""Which metrics may judge models of a set of images, found out once: what was found is kept on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from ssimgen._files import parse_json, write_atomically
from ssimgen._judged import JudgeCheck
from ssimgen._options import from_mapping
from ssimgen._version import __version__
from ssimgen.data import Splits
from ssimgen.evaluation import Bootstrap, FeatureNetwork, check_judges
from ssimgen.evaluation.estimates import DEFAULT_BOOTSTRAP
from ssimgen.evaluation.judges import JUDGES, room
from ssimgen.evaluation.perceptual import weights_file

_FORMAT = 1  # raised when a check of the same images finds something else than before
_PROBES = 4  # images whose features tell networks of one name apart


def checked_judges(
    splits: Splits,
    network: FeatureNetwork,
    *,
    images: int = 1000,
    judges: Sequence[str] = tuple(JUDGES),
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    track: Callable[[Iterable[str]], Iterable[str]] = iter,
) -> list[JudgeCheck]:
    """Have judges rank degraded images, as :func:`ssimgen.evaluation.check_judges`, or recall what they did.

    What was found is kept in ~/.cache/ssimgen, or where the variable SSIMGEN_CACHE says, by images, network and judge.

    Args:
        splits: the images.
        network: of the features.
        images: at most so many of each set, as an evaluation takes.
        judges: keys of metrics.
        bootstrap: of all intervals; its seed fixes every random choice.
        track: passes on the names of the sets as they are made, for a progress bar.

    Example:
        >>> import torch
        >>> from ssimgen.data import Images, Splits
        >>> from ssimgen.evaluation import FeatureNetwork
        >>> from ssimgen.runs import checked_judges
        >>> splits = Splits(Images(torch.rand(60, 1, 12, 12), None, "a"), Images(torch.rand(30, 1, 12, 12), None, "b"))
        >>> pixels = FeatureNetwork("pixels", lambda z: z.flatten(1))
        >>> checked_judges(splits, pixels, judges=["recall"])[0].reason
        'it needs 40 images of each set, and there are 30'
    """
    kept = _file(splits, network, images, bootstrap)
    known = _read(kept)
    if missing := [key for key in judges if key not in known]:
        fitting = room(math.prod(splits.train.shape))
        most = min(images, fitting + 1)  # one too many, so that it is said why there are no more
        train, held_out = (part.some(most, bootstrap.seed) for part in splits)
        labels = (train.labels, held_out.labels)
        found = check_judges(
            train.select(slice(None)).images,
            held_out.select(slice(None)).images,
            data_range=1.0,
            labels=None if labels[0] is None or labels[1] is None else (labels[0], labels[1]),
            network=network,
            judges=missing,
            bootstrap=bootstrap,
            track=track,
        )
        known |= dict(zip(missing, found, strict=True))
        _write(kept, known)
    return [known[key] for key in judges]


def _file(splits: Splits, network: FeatureNetwork, images: int, bootstrap: Bootstrap) -> Path:
    """Where the checks of these images and this network are kept."""
    probes = network(splits.held_out.first(_PROBES).images)
    depends_on = (
        _FORMAT,
        __version__,
        splits.train.digest,
        splits.held_out.digest,
        images,
        dataclasses.astuple(bootstrap),
        network.name,
        [f"{value:.4g}" for value in probes.mean(1).tolist()],
        weights_file() is not None,
    )
    name = hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()[:32]
    folder = Path(os.environ.get("SSIMGEN_CACHE") or Path.home() / ".cache" / "ssimgen")
    return folder / "judges" / f"{name}.json"


def _read(path: Path) -> dict[str, JudgeCheck]:
    """By key of the metric; nothing from a file that is not there or not whole."""
    with suppress(OSError, ValueError, TypeError, AttributeError):
        return {key: from_mapping(JudgeCheck, check) for key, check in parse_json(path.read_bytes()).items()}
    return {}


def _write(path: Path, checks: dict[str, JudgeCheck]) -> None:
    """Where no file can be written, they are made again the next time."""
    text = json.dumps({key: dataclasses.asdict(check) for key, check in checks.items()})
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(text.encode()))
