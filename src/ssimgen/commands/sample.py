"""The commands `ssimgen sample` and `ssimgen interpolate`: images of a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from ssimgen.commands.common import check_output, command, note

if TYPE_CHECKING:
    from torch import Tensor

    from ssimgen.models import Model


@command
def sample(
    run: Annotated[Positional[Path], arg(metavar="RUN")],
    /,
    *,
    output: Annotated[Path, arg(aliases=("-o",))] = Path("samples.png"),
    number: Annotated[int, arg(aliases=("-n",))] = 64,
    seed: int = 0,
    classes: Annotated[tuple[int, ...], arg(name="class")] = (),
) -> None:
    """Draw images from a trained model.

    Args:
        run: folder of a run, or one of its checkpoints.
        output: .png for a grid, .npy for an array (n, C, H, W) in [0, 1].
        number: how many images.
        seed: the same seed gives the same images.
        classes: for a conditional model, the class to draw, or several, in turn; all if not given.
    """
    import torch

    from ssimgen import pictures
    from ssimgen.models import LatentModel
    from ssimgen.training import load_model

    if number < 1:
        raise ValueError(f"number must be at least 1, got {number}")
    model = load_model(run)
    check_output(output, (".png", ".npy"))
    generator = torch.Generator().manual_seed(seed)
    labels = _labels(model, classes, number)
    if isinstance(model, LatentModel):
        images = model.sample(number, generator, labels)
    else:
        images = model.sample(number, generator)
    if output.suffix == ".npy":
        pictures.write_array(output, images)
    else:
        pictures.write(output, pictures.grid(images))
    print(f"{number} images of {run} in {output}")


@command
def interpolate(
    run: Annotated[Positional[Path], arg(metavar="RUN")],
    /,
    *,
    output: Annotated[Path, arg(aliases=("-o",))] = Path("interpolation.png"),
    rows: int = 8,
    columns: int = 10,
    path: Literal["spherical", "linear"] = "spherical",
    ends: Literal["noise", "images"] = "noise",
    seed: int = 0,
    classes: Annotated[tuple[int, ...], arg(name="class")] = (),
) -> None:
    """Draw a picture of a model's images on the way between codes.

    Args:
        run: folder of a run, or one of its checkpoints.
        output: the picture, .png; each row goes from one code to another.
        rows: how many pairs of codes.
        columns: images a row, with both ends.
        path: along a great circle, as far from 0 as noise is, or a straight line.
        ends: codes of noise or, for a vae, aae or autoencoder, of held-out images; those are shown left and right.
        seed: the same seed gives the same codes.
        classes: for a conditional model, the class of each row, in turn; all if not given.
    """
    import torch

    from ssimgen import pictures
    from ssimgen.models import LatentModel
    from ssimgen.models.interpolation import between
    from ssimgen.training import load_model

    if rows < 1 or columns < 2:
        raise ValueError(f"rows must be at least 1 and columns at least 2, got {rows} and {columns}")
    model = load_model(run)
    if not isinstance(model, LatentModel):
        raise ValueError(f"the model in {run} does not draw images from codes: it has nothing to interpolate")
    check_output(output, (".png",))
    labels = model.chosen(rows, _labels(model, classes, rows))
    with torch.no_grad():
        if ends == "noise":
            shown = None
            codes = model.noise(2 * rows, model.latent, torch.Generator().manual_seed(seed))
        else:
            shown, codes = _held_out_codes(model, run, 2 * rows, seed)
        codes = between(codes[:rows], codes[rows:], columns, path)  # (rows, columns, d)
        images = model.draw(codes.flatten(0, 1), None if labels is None else labels.repeat_interleave(columns))
    if shown is not None:
        images = images.cpu().unflatten(0, (rows, columns))
        images = torch.cat([shown[:rows, None], images, shown[rows:, None]], 1).flatten(0, 1)
        columns += 2
    pictures.write(output, pictures.grid(images, columns))
    print(f"{rows} interpolations of {run} in {output}")


def _labels(model: Model, classes: tuple[int, ...], number: int) -> Tensor | None:
    """The classes in turn, as many as asked for; None if none are named."""
    import torch

    if not classes:
        return None
    if not model.num_classes:
        raise ValueError("this model was trained without classes: leave out --class")
    for label in classes:
        if not 0 <= label < model.num_classes:
            raise ValueError(f"--class must be from 0 to {model.num_classes - 1}, got {label}")
    return torch.tensor([classes[i % len(classes)] for i in range(number)])


def _held_out_codes(model: Model, run: Path, number: int, seed: int) -> tuple[Tensor, Tensor]:
    """Held-out images of a run, drawn at random, and their codes."""
    import torch

    from ssimgen.data import load_images
    from ssimgen.models import LatentAutoencoder
    from ssimgen.runs.evaluation import source_of
    from ssimgen.training import RunFolder

    if not isinstance(model, LatentAutoencoder):
        raise ValueError(f"the model in {run} does not encode images: leave out --ends images")
    if model.num_classes:
        raise ValueError(f"the codes of {run} do not hold the class of an image: leave out --ends images")
    folder = RunFolder(run if run.is_dir() else run.parent.parent)
    splits = load_images(source_of(folder.read_config(), folder.path), report=note)
    if len(splits.held_out) < number:
        raise ValueError(f"{splits.held_out.source} has {len(splits.held_out)} images, fewer than {number}: fewer rows")
    order = torch.randperm(len(splits.held_out), generator=torch.Generator().manual_seed(seed))
    images = splits.held_out.select(order[:number]).images
    return images, model.code(images.to(model.device))
