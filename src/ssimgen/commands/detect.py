"""The command `ssimgen detect`: which images are searched, with what, and from which score on they are flagged."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from jaxtyping import Float
from tyro.conf import Positional, arg

from ssimgen._files import writable_folder
from ssimgen.commands.common import command, note, progress_bar

if TYPE_CHECKING:
    from rich.progress import Progress
    from torch import Tensor

    from ssimgen.commands.inspection import Calibration
    from ssimgen.data import Gallery, Source
    from ssimgen.detection import Detection, Detector


@command
def detect(
    run: Annotated[Positional[Path], arg(metavar="RUN")],
    images: Annotated[Positional[str], arg(metavar="FOLDER")],
    /,
    *,
    output: Annotated[Path, arg(aliases=("-o",))],
    masks: Path | None = None,
    good: str | None = None,
    rate: float = 0.05,
    residual: Literal["l2", "ssim", "ms_ssim", "distance"] = "ssim",
    window: int = 11,
    sigma: float = 1.5,
    smoothing: float = 2.0,
    k1: float = 0.01,
    k2: float = 0.03,
    overlap: float = 0.5,
    size: int | None = None,
    grey: bool = False,
    strict: bool = False,
    pictures: Literal["all", "flagged", "none"] = "all",
    maps: bool = False,
    resamples: int = 1000,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Find defects: what an autoencoder that was trained on good images does not give back.

    Writes tables, and of each image a picture: the image, its reconstruction, the map of their difference and what of
    it is above the threshold. Images may have any size from that of the model on. docs/detection.md says more.

    Args:
        run: folder of a run of an autoencoder, vae or aae, or one of its checkpoints.
        images: where to look: a folder of pictures, or an IDX, .npz or .npy file; pictures are read one at a time.
        output: folder for the results, new or empty.
        masks: folder of pictures, black but for defects, called as their images, as a/1.png or a/1_mask.png; images
            without one are good. With masks, AUROC and PRO are computed.
        good: good images by which the threshold is set, of the size of those to be searched, and not trained on; those
            that were held out of the training if not given.
        rate: share of good images that may be flagged.
        residual: how an image and its reconstruction are compared.
        window: side in pixels of the Gaussian window of all residuals but l2.
        sigma: its standard deviation in pixels.
        smoothing: standard deviation in pixels of the Gaussian that maps are filtered with; 0: none.
        k1: stability constant of luminance.
        k2: stability constant of contrast and structure.
        overlap: share of a tile of the model's size that its neighbour covers too.
        size: scale images until their shorter side has so many pixels, and maps back; 0: as they are. If not given, as
            in the training.
        grey: turn colours into grey first, as it is done anyway if the training did.
        strict: end with an error if an image cannot be searched, instead of leaving it out and saying so.
        pictures: which images have a picture.
        maps: write the maps too, as TIFF of floating-point numbers.
        resamples: bootstrap draws of the intervals.
        seed: of the intervals.
        json: print JSON instead of tables.
    """
    from ssimgen import Window
    from ssimgen.commands.inspection import Inspection, Masks, write_map, write_picture
    from ssimgen.data import open_gallery
    from ssimgen.detection import AnomalyScores, Detector
    from ssimgen.evaluation import Bootstrap
    from ssimgen.training import load_model

    if window < 1:
        raise ValueError(f"--window must be at least 1 pixel, got {window}")
    model, source = load_model(run), _source(run, images, grey)
    scaled = source.size if size is None else size
    patches = Window.gaussian(window, sigma, padding="symmetric")
    detector = Detector(model, residual, patches, smoothing, k1, k2, overlap, scaled or None)
    scores = AnomalyScores(Bootstrap(resamples, seed=seed))
    gallery = open_gallery(dataclasses.replace(source, size=None), note)
    truth = None if masks is None else Masks.of_folder(masks, gallery)
    with _new_folder(output) as folder, progress_bar() as progress:
        calibration = _calibrated(detector, _good_images(run, good, source), rate, progress)
        found = Inspection(str(run), model.name, gallery.source, calibration, residual)
        for name, image, seen in _searched(detector, gallery, found.left_out, progress, strict=strict):
            mask = None if truth is None else truth.read(name, seen.map)
            if mask is not None:
                scores.add(seen.map, mask, seen.score)
            flagged = found.add(name, image.shape[1:], seen.score, mask)
            if pictures == "all" or (pictures == "flagged" and flagged):
                write_picture(folder / "pictures", name, image, seen, calibration.threshold, mask)
            if maps:
                write_map(folder / "maps", name, seen.map)
        if truth is not None:
            found.evaluate(scores)
        found.write(folder)
    found.say(note, detector)
    (found.print_json if json else found.print_table)()


def _source(run: Path, images: str, grey: bool) -> Source:
    """The images to be searched, read as those of the training were."""
    from ssimgen.data import Source
    from ssimgen.runs.evaluation import source_of

    about = _config(run)
    before = source_of(about, _folder(run)) if "source" in about else Source()
    return Source(images, before.size, grey or before.grey, before.background, before.data_range)


def _folder(run: Path) -> Path:
    """The folder of a run, of which a checkpoint may be given."""
    return run if run.is_dir() else run.parent.parent


def _config(run: Path) -> dict[str, object]:
    from ssimgen.training import RunFolder

    return RunFolder(_folder(run)).read_config()


def _good_images(run: Path, good: str | None, source: Source) -> Gallery:
    """Good images that the model was not trained on."""
    from ssimgen.data import open_gallery
    from ssimgen.data.gallery import of_sets
    from ssimgen.runs.evaluation import images_of_run

    if good is not None:
        return open_gallery(dataclasses.replace(source, data=good, size=None), note)
    if "source" not in _config(run):
        raise ValueError(
            f"{run} does not say where its images came from, as it was started from Python: name good images that it "
            "was not trained on, with --good"
        )
    return of_sets([images_of_run(_folder(run)).held_out])


def _calibrated(detector: Detector, gallery: Gallery, rate: float, progress: Progress) -> Calibration:
    """The threshold, by good images; an error if one of them cannot be read."""
    import torch

    from ssimgen.commands.inspection import Calibration
    from ssimgen.detection import conformal_threshold

    conformal_threshold(torch.zeros(len(gallery)), rate)  # are they enough?
    scores, pixels = [], 0
    for i in progress.track(range(len(gallery)), description="setting the threshold"):
        try:
            image = gallery.read(i)
            scores.append(detector(image).score)
        except ValueError as error:
            raise ValueError(f"good image {_of(gallery.names[i], error)}") from error
        pixels = max(pixels, math.prod(detector.seen_size(*image.shape[1:])))
    return Calibration(conformal_threshold(torch.tensor(scores), rate), rate, len(scores), gallery.source, pixels)


def _searched(
    detector: Detector, gallery: Gallery, left_out: list[str], progress: Progress, *, strict: bool
) -> Iterator[tuple[str, Float[Tensor, "C H W"], Detection]]:
    """Each image that can be searched, its name and what is found in it; why others cannot goes to `left_out`."""
    for i in progress.track(range(len(gallery)), description="searching"):
        try:
            image = gallery.read(i)
            found = detector(image)
        except (ValueError, OSError) as error:
            problem = _of(gallery.names[i], error)
            if strict:
                raise ValueError(f"{problem} (--strict: no image may be left out)") from error
            left_out.append(problem)
            continue
        yield gallery.names[i], image, found
    if len(left_out) == len(gallery):
        raise ValueError(f"none of the {len(gallery)} images of {gallery.source} can be searched: {left_out[0]}")


def _of(name: str, error: Exception) -> str:
    """An error that says of which image it is."""
    return str(error) if name in str(error) else f"{name} {error}"


@contextmanager
def _new_folder(output: Path) -> Iterator[Path]:
    """A folder that gets its name when all is in it: without an error, or not at all."""
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise ValueError(f"output {output} is there already: choose a new or empty folder, or remove it")
    parent = writable_folder(output.absolute().parent)
    with tempfile.TemporaryDirectory(dir=parent, prefix=f".{output.name}.", suffix=".tmp") as temporary:
        place = Path(temporary) / output.name
        place.mkdir()
        yield place
        if output.exists():
            output.rmdir()
        place.rename(output)
