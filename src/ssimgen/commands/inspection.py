"""What `ssimgen detect` leaves: a table of scores, how good they are where masks are given, pictures and maps."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from PIL import Image
from rich.console import Console
from rich.table import Table
from scipy.ndimage import binary_erosion
from torch import Tensor

from ssimgen import pictures
from ssimgen._files import write_atomically
from ssimgen.data import Gallery
from ssimgen.data.folders import picture_files
from ssimgen.detection import AnomalyScores, Detection, Detector
from ssimgen.evaluation import Estimate

_LISTED = 20  # images in the table
_NAMED = 3  # of those left out
_LARGER = 1.5  # times the pixels of good images, from which on the threshold is doubtful
_SHOWN = 160  # pixels that a small picture is enlarged to
_FOUND, _TRUE = (1.0, 0.1, 0.1), (0.1, 0.9, 0.1)  # outlines: above the threshold, of the mask
PRO = "PRO up to FPR 0.3"


@dataclass(frozen=True)
class Calibration:
    """The threshold, and the good images that it is from; the largest has so many pixels."""

    threshold: float
    rate: float
    good: int
    source: str
    pixels: int


@dataclass(frozen=True)
class Searched:
    """An image that was searched; `defect` is what its mask says, None without masks."""

    image: str
    score: float
    flagged: bool
    defect: bool | None
    height: int
    width: int


@dataclass
class Inspection:
    """What was found in all images."""

    run: str
    model: str
    source: str
    calibration: Calibration
    residual: str
    images: list[Searched] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    evaluation: dict[str, Estimate | None] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    regions: int = 0

    def add(self, name: str, size: tuple[int, ...], score: float, mask: Bool[Tensor, "H W"] | None) -> bool:
        """One more image; returns whether it is flagged."""
        flagged, defect = score > self.calibration.threshold, None if mask is None else bool(mask.any())
        self.images.append(Searched(name, score, flagged, defect, *size))
        return flagged

    def evaluate(self, scores: AnomalyScores) -> None:
        """How good scores and maps are; what cannot be computed is None, and `missing` says why."""
        self.regions = scores.regions
        for name, estimate in (
            ("image AUROC", scores.image_auroc),
            ("pixel AUROC", scores.pixel_auroc),
            (PRO, scores.pro),
        ):
            try:
                self.evaluation[name] = estimate()
            except ValueError as error:
                self.evaluation[name] = None
                self.missing.append(f"no {name}: {error}")

    def record(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return dataclasses.asdict(self)

    def write(self, folder: Path) -> None:
        """scores.csv and detection.json."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([column.name for column in dataclasses.fields(Searched)])
        for image in self.images:
            values = dataclasses.astuple(image)
            writer.writerow([int(v) if isinstance(v, bool) else "" if v is None else v for v in values])
        record = json.dumps(self.record(), indent=2, allow_nan=False) + "\n"
        _write(folder / "scores.csv", text.getvalue())
        _write(folder / "detection.json", record)

    def say(self, note: Callable[[str], None], detector: Detector) -> None:
        """What whoever reads the result has to know."""
        if self.left_out:
            listed = "; ".join(self.left_out[:_NAMED]) + ("; ..." if len(self.left_out) > _NAMED else "")
            note(f"left out {len(self.left_out)} of {len(self.left_out) + len(self.images)} images: {listed}")
        most = _LARGER * self.calibration.pixels
        larger = sum(math.prod(detector.seen_size(image.height, image.width)) > most for image in self.images)
        if larger:
            note(
                f"{larger} of {len(self.images)} images are larger than the good ones by which the threshold was set: "
                f"more than {self.calibration.rate:.0%} of good images of this size are flagged; name good ones of the "
                "same size, with --good"
            )
        for sentence in self.missing:
            note(sentence)

    def print_table(self) -> None:
        """Print the images with the highest scores, and how good scores are."""
        console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 150)
        flagged, known = sum(image.flagged for image in self.images), bool(self.evaluation)
        console.print(f"{self.source} by {self.run}, residual {self.residual}", soft_wrap=True)
        table = Table()
        table.add_column("image", overflow="fold")
        for heading in ("score", "flagged", *(["defect"] if known else [])):
            table.add_column(heading, justify="right")
        highest = sorted(self.images, key=lambda image: -image.score)
        for image in highest[:_LISTED]:
            truth = ["yes" if image.defect else "no"] if known else []
            table.add_row(image.image, f"{image.score:.4g}", "yes" if image.flagged else "no", *truth)
        console.print(table)
        if len(highest) > _LISTED:
            console.print(f"the {_LISTED} highest scores; all are in scores.csv")
        c = self.calibration
        console.print(
            f"flagged {flagged} of {len(self.images)}: scores above {c.threshold:.4g}, as at most {c.rate:.3g} of good "
            f"images have, by {c.good} of {c.source}",
            soft_wrap=True,
        )
        if known:
            console.print(_of_estimates(self.evaluation, self.images, self.regions))

    def print_json(self) -> None:
        """Print all of it as one JSON object."""
        print(json.dumps(self.record(), indent=2))


def _write(path: Path, text: str) -> None:
    content = text.encode(errors="surrogateescape")  # names of files need not be text
    write_atomically(path, lambda file: file.write(content))


def _of_estimates(found: Mapping[str, Estimate | None], images: list[Searched], regions: int) -> Table:
    defects = sum(bool(image.defect) for image in images)
    table = Table(title=f"{defects} images with {regions} defects, {len(images) - defects} good ones")
    table.add_column("metric")
    for heading in ("value", "95% interval"):
        table.add_column(heading, justify="right")
    for name, estimate in found.items():
        if estimate is not None:
            table.add_row(name, f"{estimate.value:.4f}", f"{estimate.low:.4f} to {estimate.high:.4f}")
    return table


@dataclass(frozen=True)
class Masks:
    """The masks of images, by the names of these; those of good images are not there."""

    files: Mapping[str, Path]

    @classmethod
    def of_folder(cls, folder: Path, gallery: Gallery) -> Masks:
        """Masks below a folder, called as their images, with any ending, or with "_mask" before it.

        Raises:
            ValueError: no masks, one of no image, or two of one.
        """
        if not folder.is_dir():
            raise ValueError(f"--masks {folder} is not a folder: name one of pictures called as the images")
        images = {str(Path(name).with_suffix("")): name for name in gallery.names}
        files: dict[str, Path] = {}
        for path in picture_files(folder):
            stem = str(path.relative_to(folder).with_suffix(""))
            name = images.get(stem) or images.get(stem.removesuffix("_mask"))
            if name is None:
                raise ValueError(
                    f"mask {path} is of no image of {gallery.source}: masks are called as images, as a/1.png or "
                    "a/1_mask.png"
                )
            if name in files:
                raise ValueError(f"{name} has two masks, {files[name]} and {path}: remove one")
            files[name] = path
        if not files:
            raise ValueError(f"--masks {folder} holds no pictures: leave it out, or name the folder of the masks")
        return cls(files)

    def read(self, name: str, like: Float[Tensor, "H W"]) -> Bool[Tensor, "H W"]:
        """Where the mask of an image is not black; nowhere, if it has none.

        Raises:
            ValueError: a mask of another size, or one that cannot be read.
        """
        if name not in self.files:
            return torch.zeros_like(like, dtype=torch.bool)
        mask = pictures.read(self.files[name], background="black").amax(0) > 0
        if mask.shape != like.shape:
            sizes = [f"{z.shape[1]} x {z.shape[0]} px" for z in (mask, like)]
            raise ValueError(f"mask {self.files[name]} is {sizes[0]}, but its image {name} is {sizes[1]}")
        return mask


def write_picture(
    folder: Path,
    name: str,
    image: Float[Tensor, "C H W"],
    found: Detection,
    threshold: float,
    mask: Bool[Tensor, "H W"] | None,
) -> None:
    """A PNG of the image, its reconstruction, its map (the threshold in the middle of the colours), and outlines."""
    from matplotlib import colormaps

    values = (found.map / (2 * threshold)).clamp(0, 1).numpy() if threshold > 0 else (found.map > 0).float().numpy()
    coloured = torch.from_numpy(colormaps["viridis"](values)[..., :3]).float().movedim(-1, 0)
    panels = [z.expand(3, -1, -1) for z in (image, found.reconstruction, coloured, image)]
    times = max(1, _SHOWN // max(found.map.shape))
    large = F.interpolate(torch.stack(panels), scale_factor=times) if times > 1 else torch.stack(panels)
    for region, colour in ((mask, _TRUE), (found.map > threshold, _FOUND)):
        if region is not None:
            large[3][:, _outline(region, times)] = torch.tensor(colour)[:, None]
    pictures.write(_place(folder, name, ".png"), pictures.grid(large, columns=4))


def write_map(folder: Path, name: str, map: Float[Tensor, "H W"]) -> None:
    """A TIFF of floating-point numbers."""
    content = Image.fromarray(map.float().numpy())
    write_atomically(_place(folder, name, ".tiff"), lambda file: content.save(file, format="TIFF"))


def _outline(region: Bool[Tensor, "H W"], times: int) -> Bool[Tensor, "h w"]:
    """The innermost pixels of the border of a region that is enlarged."""
    large = np.kron(region.numpy(), np.ones((times, times), bool))
    return torch.from_numpy(large & ~binary_erosion(large, border_value=1))


def _place(folder: Path, name: str, suffix: str) -> Path:
    """Where what is made of an image goes: under its name, with an ending of its own if it has another."""
    path = folder / (name if name.lower().endswith(suffix) else name + suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
