"""The evaluation of a trained run: scores beside those of real images, and pictures of successes and failures.

    from ssimgen.runs.evaluation import evaluate_run
    evaluate_run(Path("runs/vae"))

writes into the folder of the run

evaluation.json      options, data, one row a metric (:class:`ssimgen.evaluation.Row`), and which of them may judge
real.png             held-out images, laid out as the run's samples
worst.png            held-out images and below each its reconstruction, worst SSIM first (autoencoders)
nearest.png          samples and below each the training image nearest to it
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from torch import Tensor

from ssimgen import _options
from ssimgen._files import parse_json, write_atomically
from ssimgen._judged import JudgeCheck
from ssimgen._reading import EVALUATION, Evaluation, ScoreRow, read_config, read_evaluation
from ssimgen.data import Source, Splits, load_images
from ssimgen.evaluation import FeatureNetwork, Row, efficientnet_lite0
from ssimgen.evaluation.rows import LEAST
from ssimgen.runs.checks import checked_judges
from ssimgen.runs.folder import RunFolder, load_model, versions
from ssimgen.runs.judge import EvaluationOptions, Judge
from ssimgen.scores import JUDGES, Kind, read

_REMEMBERED = 256  # batches whose features are kept, about 80 MB


def evaluate_run(
    path: Path,
    options: EvaluationOptions = EvaluationOptions(),  # noqa: B008 - frozen
    *,
    splits: Splits | None = None,
    network: FeatureNetwork | None = None,
    report: Callable[[Kind, Row], object] | None = None,
    check_judges: bool = True,
) -> Evaluation:
    """Score the latest checkpoint of the run in `path`; write evaluation.json and pictures, and return the former.

    Args:
        path: folder of the run.
        options: numbers of images and the like.
        splits: the data of the run, if they are in memory already; otherwise they are read again from the source that
            the run's configuration names.
        network: of the features; EfficientNet-Lite0 at the resolution of `options` where None.
        report: called with each row as soon as it is there.
        check_judges: find out which metrics may judge models of these images.

    Raises:
        ValueError: no run in the folder, one without a checkpoint, images that are not those of the run, too few
            images, images smaller than the window.
        OSError: the data are gone.
        ModuleNotFoundError: EfficientNet-Lite0 is wanted but not installed.

    Example:
        >>> import torch
        >>> from pathlib import Path
        >>> from ssimgen.data import Images, Splits
        >>> from ssimgen.evaluation import FeatureNetwork
        >>> from ssimgen.models import VAE, VAEConfig, make_model
        >>> from ssimgen.models.networks import Network
        >>> from ssimgen.runs import EvaluationOptions, evaluate_run
        >>> from ssimgen.training import Training, train
        >>> images = Images(torch.rand(40, 1, 12, 12), None, "noise")
        >>> config = VAEConfig(0.1, objective="l2", network=Network("mlp", hidden=(8,)))
        >>> model = make_model(VAE, config, images.shape, seed=0)
        >>> train(model, images, Path("run"), training=Training(iterations=1, batch=8))
        vae 1/1 ...
        >>> splits = Splits(images, Images(torch.rand(20, 1, 12, 12), None, "more noise"))
        >>> pixels = FeatureNetwork("pixels", lambda z: z.flatten(1))
        >>> options = EvaluationOptions(images=20, permutations=19, resamples=20)
        >>> found = evaluate_run(Path("run"), options, splits=splits, network=pixels)
        >>> [row.metric for row in found.rows[:3]]
        ['KL, nats', 'PSNR, dB', 'SSIM']
    """
    began = time.monotonic()
    about = read_config(path)
    run = RunFolder(path)
    iteration = run.latest_iteration()
    model = load_model(path)
    splits = images_of_run(path) if splits is None else _of_run(splits, about, path)
    _check_enough(splits)
    network = network or shared_network(options.resolution)
    judge = Judge(model, splits, options, network)
    rows = []
    for kind, row in judge.rows():
        rows.append(_record(kind, row))
        if report is not None:
            report(kind, row)
    worst = judge.write_pictures(path)
    result = Evaluation(
        iteration=iteration,
        options=dataclasses.asdict(options),
        network=network.name,
        data={"train": splits.train.digest, "held_out": splits.held_out.digest},
        rows=tuple(rows),
        judges=_judges(rows, splits, network, options) if check_judges else (),
        worst=tuple(worst),
        collapsed=judge.collapse(),
        seconds=round(time.monotonic() - began, 1),
        versions=versions(),
    )
    _write(path, dataclasses.asdict(result))
    return result


def add_checks(folders: Iterable[Path], report: Callable[[str], object] = lambda _: None) -> None:
    """Have judges checked that were not, as the runs were evaluated by an earlier version; evaluation.json has it then.

    What cannot be checked, as images are gone or a network is not known here, `report` is told in one line.

    Example:
        >>> from ssimgen.runs.evaluation import add_checks
        >>> add_checks([])
    """
    load = cache(partial(load_images, report=lambda _: None))
    told = set()
    for folder in folders:
        try:
            done, about = read_evaluation(folder), read_config(folder)
        except ValueError:  # whoever reads it next will say so
            continue
        if done.judges or not any(read(row.metric).key in JUDGES for row in done.rows):
            continue
        try:
            _add_checks(folder, done, _of_run(load(source_of(about, folder)), about, folder))
        except (ValueError, OSError, ModuleNotFoundError) as error:
            if str(error) not in told:
                report(f"judges are not checked, and give no verdict: {error}")
            told.add(str(error))


def _add_checks(folder: Path, done: Evaluation, splits: Splits) -> None:
    options = _options.from_mapping(EvaluationOptions, done.options, "options.")
    network = shared_network(options.resolution)
    if network.name != done.network:
        raise ValueError(f"{folder} was evaluated with the feature network {done.network}, not with {network.name}")
    judges = _judges(done.rows, splits, network, options)
    content = parse_json((folder / EVALUATION).read_bytes())
    _write(folder, {**content, "judges": [dataclasses.asdict(check) for check in judges]})


def _judges(
    rows: Sequence[ScoreRow], splits: Splits, network: FeatureNetwork, options: EvaluationOptions
) -> tuple[JudgeCheck, ...]:
    """Whether the metrics of these rows may judge; and of reconstructions, how to have the judge that is not there."""
    keys = dict.fromkeys(read(row.metric).key for row in rows)
    if any(row.kind == "reconstruction" for row in rows):
        keys["st_lpips"] = None
    judges = [key for key in keys if key in JUDGES]
    found = checked_judges(splits, network, images=options.images, judges=judges, bootstrap=options.bootstrap())
    return tuple(found)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_atomically(path / EVALUATION, lambda file: file.write(text.encode()))


def images_of_run(path: Path, report: Callable[[str], None] = lambda _: None) -> Splits:
    """The images that the run in `path` was trained on, and those that were held out, read again from their source.

    Raises:
        ValueError: no run, one that does not say where its images came from, or images that are not those of the run.
        OSError: the data are gone.
    """
    about = read_config(path)
    return _of_run(load_images(source_of(about, path), report), about, path)


def _of_run(splits: Splits, about: dict[str, Any], path: Path) -> Splits:
    """The images, which must be those that the run was trained on."""
    if splits.train.digest != about["data"]["hash"]:
        raise ValueError(
            f"the images of {splits.train.source} are not those that the run in {path} was trained on "
            f"(content hash {splits.train.digest[:12]}, of the run {about['data']['hash'][:12]}): "
            "restore them, or train again"
        )
    return splits


def _record(kind: Kind, row: Row) -> ScoreRow:
    """A row as evaluation.json holds it."""
    ours, real = (
        (None, None, None) if found is None else map(_finite, (found.value, found.low, found.high))
        for found in (row.model, row.reference)
    )
    value, low, high = ours
    reference, reference_low, reference_high = real
    return ScoreRow(
        kind=kind,
        metric=row.metric,
        value=value,
        low=low,
        high=high,
        reference=reference,
        reference_low=reference_low,
        reference_high=reference_high,
        n=row.n,
        better=row.better,
        note=row.note,
    )


def _finite(value: float | None) -> float | None:
    """None in the place of NaN and infinite numbers, which JSON does not have."""
    return value if value is not None and math.isfinite(value) else None


def _check_enough(splits: Splits) -> None:
    for images in splits:
        if len(images) < LEAST:
            raise ValueError(
                f"an evaluation needs at least {LEAST} training and {LEAST} held-out images, but {images.source} has "
                f"{len(images)}: add images, or hold out a larger fraction"
            )


def source_of(about: dict[str, Any], path: Path) -> Source:
    """Where the images of a run came from, from its configuration."""
    if "source" not in about:
        raise ValueError(
            f"config.json of {path} does not say where its images came from: the run was started from Python; "
            "evaluate it there, with evaluate_run(path, splits=...)"
        )
    try:
        return _options.from_mapping(Source, about["source"], "source.")
    except ValueError as error:
        raise ValueError(f"config.json of {path} is damaged: {error}: train the run again") from error


_NETWORKS: dict[int, FeatureNetwork] = {}


def shared_network(resolution: int) -> FeatureNetwork:
    """EfficientNet-Lite0, which remembers features of real images from one evaluation to the next."""
    if resolution not in _NETWORKS:
        _NETWORKS[resolution] = remembering(efficientnet_lite0(resolution))
    return _NETWORKS[resolution]


def remembering(network: FeatureNetwork, batches: int = _REMEMBERED) -> FeatureNetwork:
    """A feature network that keeps the features of the latest batches that it saw."""
    known: OrderedDict[bytes, Tensor] = OrderedDict()

    def embed(images: Tensor) -> Tensor:
        key = hashlib.sha256(images.contiguous().numpy().data).digest() + bytes(str(tuple(images.shape)), "ascii")
        if key not in known:
            known[key] = network.embed(images)
        known.move_to_end(key)
        while len(known) > batches:
            known.popitem(last=False)
        return known[key]

    return FeatureNetwork(network.name, embed, network.batch)
