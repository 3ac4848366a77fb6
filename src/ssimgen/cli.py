"""The command `ssimgen`.

Each command is a function of this module, whose signature and docstring make its options and help (tyro), listed
in `COMMANDS`; `train` makes its options from the configuration of the model. What a command needs is imported when it
runs, so that help is quick. Bad input ends in one line and exit code 2, with nothing half-written.
"""

from __future__ import annotations

import dataclasses
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

from tyro.conf import Positional, arg

import ssimgen
from ssimgen._interruption import interruption
from ssimgen._options import check, suggestion
from ssimgen._usage import parse

if TYPE_CHECKING:
    from rich.progress import Progress
    from torch import Tensor

    from ssimgen import Window
    from ssimgen.models import Model
    from ssimgen.training import Optimiser, Training

Form = Literal["product", "sum", "centred", "uncentred"]  # that of ssimgen.engine, which imports PyTorch


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 for bad input, 1 for a failed run, 128 + n if signal n stopped it."""
    for stream in (sys.stdout, sys.stderr):  # no name of a file that the terminal cannot show ends a command
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if words[0] == "--version":
        print(ssimgen.__version__)
        return 0
    name, *rest = words
    if name not in COMMANDS:
        return _complain(f"unknown command {name!r}{suggestion(name, COMMANDS)}; see ssimgen --help")
    try:
        return COMMANDS[name](rest) or 0
    except BrokenPipeError:  # whoever read our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing left to fail at exit
        return 128 + signal.SIGPIPE
    except (Exception, KeyboardInterrupt) as error:
        if (stop := interruption(error)) is not None:
            _complain(str(stop) or "stopped by SIGINT")
            return 128 + int(getattr(stop, "signum", signal.SIGINT))
        expected = isinstance(error, (ValueError, OSError, ModuleNotFoundError))  # the last for optional dependencies
        if not expected or os.environ.get("SSIMGEN_TRACEBACK"):
            raise
        return _complain(str(error))


def _complain(message: str) -> int:
    """One line; the library's remedies, as in "pass size=32", become options, whose names for windows help tells."""
    line = re.sub(r"\bpass ([a-z][a-z0-9_]*)=(-?\d[\w.+-]*\b)", _as_option, " ".join(message.split()))
    line = re.sub(r"\bpass window=Window\.gaussian\((\d+)\)", r"take a window (see --help) of size \1", line)
    print(f"ssimgen: {line}", file=sys.stderr)
    return 2


def _as_option(remedy: re.Match[str]) -> str:
    name, value = remedy.groups()
    return f"pass --{name.replace('_', '-')} {value}"


def _overview() -> str:
    lines = ["usage: ssimgen COMMAND [OPTIONS]", "", (ssimgen.__doc__ or "").splitlines()[0], "", "commands:"]
    lines += [f"  {name:<14}{(command.__doc__ or '').splitlines()[0]}" for name, command in COMMANDS.items()]
    return "\n".join([*lines, "", "ssimgen COMMAND --help shows the options of a command."])


def _command(function: Callable[..., int | None]) -> Callable[[list[str]], int]:
    """A command whose options are the parameters of `function`, which may return an exit code."""

    @wraps(function)
    def bound(*positional: Any, **options: Any) -> Callable[[], int | None]:
        return partial(function, *positional, **options)

    def run(words: list[str]) -> int:
        name = function.__name__.strip("_").replace("_", "-")
        exit_code: int | None = parse(bound, words, f"ssimgen {name}")()
        return exit_code or 0

    run.__doc__ = function.__doc__
    return run


# --- train ------------------------------------------------------------------------------------------------------


def _defaults() -> dict[str, tuple[Training, Optimiser]]:
    """Length and optimiser of each model, where they are not those of every other."""
    from ssimgen.training import Optimiser, Training

    many = Training(iterations=600, batch=256)  # a discrepancy of samples needs many in a batch
    falling = Optimiser(lr=5e-3, schedule="cosine")
    adversarial = Training(iterations=3500, ema=0.99), Optimiser(lr=1e-3, momentum=0.5)
    return {
        "aae": (Training(iterations=2500), Optimiser()),
        "gan": adversarial,
        "lsgan": adversarial,
        "began": (Training(iterations=1500, ema=0.99), Optimiser(lr=5e-4, momentum=0.5)),
        "gmmn": (many, falling),
        "code-gmmn": (dataclasses.replace(many, iterations=1500), Optimiser()),
        "cgmmn": (many, falling),
    }


def train(words: list[str]) -> int:
    """Train a model; `ssimgen train` lists them."""
    from ssimgen.models import MODELS
    from ssimgen.training import Optimiser, Training

    if not words or words[0] in ("-h", "--help"):
        lines = [f"  {name:<12}{(model.__doc__ or '').splitlines()[0]}" for name, (model, _) in MODELS.items()]
        print("\n".join(["usage: ssimgen train MODEL [OPTIONS]", "", "models:", *lines]))
        print("\nssimgen train MODEL --help shows the options of a model.")
        return 0
    name, *rest = words
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}{suggestion(name, MODELS)}; ssimgen train lists them")
    options = _train_options(name, *_defaults().get(name, (Training(), Optimiser())))
    filed = _filed_words(name, rest)
    chosen: Any = parse(options, [*filed, *rest], f"ssimgen train {name}")
    return _ended(partial(_train, name, chosen), f"go on with: ssimgen train {name} -o {chosen.output} --resume")


def _ended(training: Callable[[], None], again: str) -> int:
    """The exit code of something that trains; what ended it early goes on as `again` says."""
    from ssimgen.training import Interrupted, NotFiniteError, NotWrittenError, ProcessLostError

    try:
        training()
    except Interrupted as stop:
        _complain(f"{stop}; {again}")
        return 128 + stop.signum
    except (NotFiniteError, NotWrittenError, ProcessLostError) as error:  # the run failed, not its input
        _complain(str(error))
        return 1
    return 0


def _train_options(name: str, training: Training, optimiser: Optimiser) -> type:
    """The options of `ssimgen train NAME`: those of the model, and what all models share."""
    from ssimgen.data import Source
    from ssimgen.models import MODELS
    from ssimgen.training import Hardware

    model, config = MODELS[name]
    flat = arg(name="")  # --lr, not --optimiser.lr
    fields: list[tuple[str, Any, Any]] = [
        ("output", Annotated[Path, arg(aliases=("-o",), help="folder of the run")], dataclasses.MISSING),
        ("model", Annotated[config, flat], dataclasses.MISSING),
        ("source", Annotated[Source, flat], Source()),
        ("training", Annotated[type(training), flat], training),
        ("optimiser", Annotated[type(optimiser), flat], optimiser),
        ("hardware", Annotated[Hardware, flat], Hardware()),
        ("evaluate_every", Annotated[int, arg(help=_EVALUATE_EVERY)], 0),
        ("resume", Annotated[bool, arg(help="go on with the run in the folder, with its options")], False),
        ("config", Annotated[Path | None, arg(help="TOML or JSON file of options, by the names they have here")], None),
    ]
    record = dataclasses.make_dataclass(
        "TrainOptions",
        [(n, hint) if default is dataclasses.MISSING else (n, hint, default) for n, hint, default in fields],
        frozen=True,
    )
    record.__doc__ = model.__doc__
    return record


_EVALUATE_EVERY = "iterations between scores of held-out images and samples in metrics.jsonl, quick ones; 0: none"


def _train(name: str, chosen: Any) -> None:
    from ssimgen.data import load_images
    from ssimgen.models import MODELS
    from ssimgen.training import RunFolder, evaluation_hook, make_model
    from ssimgen.training import train as run

    if chosen.evaluate_every < 0:
        raise ValueError(f"evaluate_every must be at least 1 iteration, or 0 for never, got {chosen.evaluate_every}")
    splits = load_images(chosen.source, report=_note)
    finished = chosen.resume and RunFolder(chosen.output).latest_iteration() == chosen.training.iterations
    run(
        make_model(MODELS[name][0], chosen.model, splits.train.shape, chosen.training.seed),
        splits.train,
        chosen.output,
        training=chosen.training,
        optimiser=chosen.optimiser,
        hardware=chosen.hardware,
        held_out=splits.held_out,
        hooks=[evaluation_hook(chosen.evaluate_every, splits.held_out)] if chosen.evaluate_every else [],
        resume=chosen.resume,
        notes={"source": dataclasses.asdict(chosen.source), "evaluate_every": chosen.evaluate_every},
    )
    if finished:
        print(f"{chosen.output} is already finished: more --iterations than {chosen.training.iterations} go on with it")


def _filed_words(name: str, words: list[str]) -> list[str]:
    """The options of `--config FILE`, or of the run to be resumed, as words for the command line.

    They come before those that were typed, which therefore win; names and values are checked as if typed.
    """
    from ssimgen.training import RunFolder

    @dataclasses.dataclass
    class Early:
        output: Annotated[Path | None, arg(aliases=("-o",))] = None
        config: Path | None = None
        resume: bool = False

    typed = [word for word in words if word not in ("-h", "--help")]
    early, _ = parse(Early, typed, f"ssimgen train {name}", return_unknown_args=True)
    options = _read_options(name, early.config) if early.config is not None else {}
    output = early.output or options.get("output")
    filed: list[str] = []
    if output is not None and (early.resume or options.get("resume")):
        before = RunFolder(Path(output)).read_config()
        if before.get("model") != name:
            raise ValueError(
                f"{output} holds a run of {before.get('model')}, not of {name}: "
                f"go on with ssimgen train {before.get('model')} -o {output} --resume"
            )
        for section in ("config", "source", "training", "optimiser", "hardware"):
            filed += _as_words(before.get(section, {}))
        filed += _as_words({"evaluate_every": before.get("evaluate_every", 0)})
    return filed + _as_words(options)


def _read_options(name: str, path: Path) -> dict[str, Any]:
    """The options in a file for `ssimgen train NAME`, each name and type checked."""
    from ssimgen._reading import read_options
    from ssimgen.data import Source
    from ssimgen.models import MODELS
    from ssimgen.training import Hardware, Optimiser, Training

    hints: dict[str, Any] = {"output": Path, "resume": bool, "evaluate_every": int}
    for record in (MODELS[name][1], Source, Training, Optimiser, Hardware):
        hints |= get_type_hints(record)
    options = _by_name(read_options(path))
    try:
        check(hints, options)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return options


def _by_name(options: Mapping[str, Any]) -> dict[str, Any]:
    """{"log-every": 5, "network.kind": "mlp"} as {"log_every": 5, "network": {"kind": "mlp"}}."""
    named: dict[str, Any] = {}
    for key, value in options.items():
        first, _, rest = key.replace("-", "_").partition(".")
        value = {rest: value} if rest else value
        before = named.get(first, {})
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        named[first] = {**before, **_by_name(value)} if both else value
    return named


def _as_words(options: Mapping[str, Any], prefix: str = "") -> list[str]:
    """{"lr": 0.1, "network": {"hidden": [5, 5]}} as --lr 0.1 --network.hidden 5 5."""
    words: list[str] = []
    for key, value in options.items():
        name = prefix + key
        if isinstance(value, Mapping):
            words += _as_words(value, f"{name}.")
        elif isinstance(value, bool):
            words.append(f"--{name}" if value else f"--{prefix}no-{key}")
        else:
            words += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    return words


# --- other commands ---------------------------------------------------------------------------------------------


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
    _check_output(output, (".png", ".npy"))
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
        ends: codes of noise or, for a vae or aae, of held-out images; those are shown left and right.
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
    _check_output(output, (".png",))
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


def evaluate(
    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUNS")],
    /,
    *,
    images: int = 1000,
    resolution: int = 96,
    tested: int = 500,
    permutations: int = 500,
    window: int = 11,
    parzen: bool = False,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Score trained models beside real images: samples and reconstructions.

    Writes evaluation.json, and pictures of real images, of samples beside the nearest training images and of the worst
    reconstructions, into the folder of each run, and prints a table. docs/evaluation.md says what the metrics are.

    Args:
        runs: folders of runs, whose images must still be where they were.
        images: at most so many held-out images, training images and samples; Frechet distances of different numbers
            do not compare.
        resolution: side in pixels at which the feature network sees the images, a multiple of 32; 64 costs half of 96.
        tested: at most so many images of each set enter the two-sample tests.
        permutations: of the two-sample tests.
        window: side of the Gaussian window of SSIM in pixels; smaller for images smaller than 11 px.
        parzen: Parzen-window log-likelihood too.
        seed: of samples and intervals; the same seed gives the same result.
        json: print JSON instead of a table.
    """
    from ssimgen._reading import read_config
    from ssimgen.run_evaluation import EvaluationOptions, evaluate_run, print_json, print_table

    if not runs:
        raise ValueError("name one or more folders of runs to evaluate")
    options = EvaluationOptions(images, resolution, tested, permutations, window, parzen, seed=seed)
    for run in runs:
        read_config(run)  # all of them, before any work is done
    with _progress() as progress:
        task = progress.add_task("evaluating", total=len(runs))
        found = []
        for run in runs:
            progress.update(task, description=f"evaluating {run}")
            found.append(evaluate_run(run, options))
            progress.advance(task)
    for run, result in zip(runs, found, strict=True):
        (print_json if json else print_table)(run, result)


def compare(
    a: Annotated[Positional[Path], arg(metavar="A")],
    b: Annotated[Positional[Path], arg(metavar="B")],
    /,
    *,
    grey: bool = False,
    background: str = "white",
    map: Path | None = None,
    json: bool = False,
    size: int = 11,
    sigma: float = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
) -> None:
    """Compare two pictures: every similarity index and distance.

    Pixels are taken as [0, 1].

    Args:
        a: a picture.
        b: another one of the same size.
        grey: turn colours into grey first.
        background: colour on which transparent pictures are laid: a name such as black, or as #a0c0ff.
        map: write a picture of A, B and the map of SSIM to this PNG file.
        json: print JSON instead of a table.
        size: side of the Gaussian window in pixels.
        sigma: its standard deviation in pixels.
        k1: stability constant of luminance.
        k2: stability constant of contrast and structure.
    """
    from ssimgen.data import Source
    from ssimgen.evaluation.comparison import draw_map, read_pair, similarity_indices, table

    x, y = read_pair(a, b, Source(grey=grey, background=background), _note)
    if map is not None:
        _check_output(map, (".png",))
    window = _window("--size", size, sigma, x)
    values = {key: v.item() for key, v in similarity_indices(x, y, window=window, k1=k1, k2=k2).items()}
    if map is not None:
        draw_map(map, x, y, (a.name, b.name), window=window, k1=k1, k2=k2)
    table(values, (str(a), str(b)), as_json=json)


def _test_samples(
    a: Annotated[Positional[str], arg(metavar="A")],
    b: Annotated[Positional[str], arg(metavar="B")],
    /,
    *,
    kernel: Literal["components", "structural", "energy", "ssim", "pixels"] = "components",
    form: Form = "sum",
    images: int = 500,
    permutations: int = 1000,
    level: float = 0.05,
    seed: int = 0,
    picture: Path | None = None,
    json: bool = False,
    size: int | None = None,
    grey: bool = False,
    background: str = "white",
    window: int = 11,
    sigma: float = 1.5,
    stride: int = 1,
    k1: float = 0.01,
    k2: float = 0.03,
) -> None:
    """Test whether two sets of images differ, and in which respect.

    The sets are folders of pictures, IDX files, .npz or .npy files, or mnist5k. Prints statistic and p-value of a
    kernel two-sample test, the same in luminance, contrast, structure and pixels, and the most telling images.

    Args:
        a: a set of images.
        b: another one, of images of the same size.
        kernel: what is compared; only structural and energy look at the form.
        form: of the structural distance.
        images: at most so many of each set, drawn at random; time and memory grow with the square.
        permutations: random relabellings; p-values are not below 1 / (1 + permutations).
        level: of the test.
        seed: of the drawing and the relabellings; the same seed gives the same result.
        picture: write a picture of the most telling images to this PNG file.
        json: print JSON instead of a table.
        size: scale and crop all images to this side in pixels.
        grey: turn colours into grey first.
        background: colour on which transparent pictures are laid: a name such as black, or as #a0c0ff.
        window: side of the Gaussian window in pixels.
        sigma: its standard deviation in pixels.
        stride: distance in pixels between windows; larger is faster.
        k1: stability constant of luminance.
        k2: stability constant of contrast and structure.
    """
    from ssimgen.data import Source, open_gallery
    from ssimgen.evaluation.set_tables import draw, draw_witnesses, print_json, print_table
    from ssimgen.evaluation.sets import compare_sets

    if picture is not None:
        _check_output(picture, (".png",))
    first, second = (open_gallery(Source(z, size, grey, background), _note) for z in (a, b))
    x, y = draw(first, second, images, seed)
    patches = _window("--window", window, sigma, x.images, stride)
    with _progress() as progress:
        found = compare_sets(
            x.images,
            y.images,
            kernel=kernel,
            form=form,
            window=patches,
            k1=k1,
            k2=k2,
            permutations=permutations,
            seed=seed,
            level=level,
            track=partial(progress.track, description="comparing all pairs"),
        )
    if picture is not None:
        draw_witnesses(picture, found, x, y)
    (print_json if json else print_table)(found, x, y)


def neighbours(
    query: Annotated[Positional[Path], arg(metavar="QUERY")],
    images: Annotated[Positional[str], arg(metavar="IMAGES")],
    /,
    *,
    number: Annotated[int, arg(aliases=("-n",))] = 10,
    form: Form = "sum",
    picture: Path | None = None,
    json: bool = False,
    size: int | None = None,
    grey: bool = False,
    background: str = "white",
    window: int = 11,
    sigma: float = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
) -> None:
    """Find the images that are structurally nearest to one.

    Args:
        query: a picture. If it is one of the images, it is not found itself.
        images: where to look: a folder of pictures, an IDX, .npz or .npy file, or mnist5k; of any size, they are read
            a few at a time.
        number: how many neighbours.
        form: of the structural distance.
        picture: write a picture of the neighbours to this PNG file.
        json: print JSON instead of a table.
        size: scale and crop all images to this side in pixels.
        grey: turn colours into grey first.
        background: colour on which transparent pictures are laid: a name such as black, or as #a0c0ff.
        window: side of the Gaussian window in pixels.
        sigma: its standard deviation in pixels.
        k1: stability constant of luminance.
        k2: stability constant of contrast and structure.
    """
    from ssimgen.data import Source, open_gallery, read_picture
    from ssimgen.evaluation import neighbours as nearest
    from ssimgen.metrics import StructuralDistance

    if picture is not None:
        _check_output(picture, (".png",))
    source = Source(images, size, grey, background)
    image, gallery = read_picture(query, source, _note), open_gallery(source, _note)
    patches = _window("--window", window, sigma, image)
    metric = StructuralDistance(1.0, form, window=patches, k1=k1, k2=k2)
    with _progress() as progress:
        track = partial(progress.track, description="comparing")
        found = nearest.neighbours(image, gallery, metric, number=number, leave_out=gallery.place(query), track=track)
    if picture is not None:
        nearest.draw_neighbours(picture, image, found)
    (nearest.print_json if json else nearest.print_table)(str(query), found, gallery.source)


def _study(
    file: Annotated[Positional[Path | None], arg(metavar="FILE")] = None,
    /,
    *,
    output: Annotated[Path, arg(aliases=("-o",))] = Path("study"),
    budget: float | None = None,
    parallel: int = 1,
    list: bool = False,
    quick: bool = False,
    data: str | None = None,
    size: int | None = None,
    grey: bool = False,
    seeds: int = 3,
) -> None:
    """Carry out a study: many runs from one file, their tables and a report.

    Runs that are finished are skipped and interrupted ones go on, so that the same command continues a study.
    docs/study.md describes the file. With --quick there is no file: an autoencoder is trained on your images with l2
    and with structural errors, as long as the budget allows, and the report says whether structure helps.

    Args:
        file: the study file (TOML).
        output: folder of runs, tables (results.csv, summary.csv, matched.csv) and reports.
        budget: minutes; then running ones write a checkpoint and stop. None: no limit, with --quick 20.
        parallel: processes that train at the same time.
        list: only list the runs and whether they are finished.
        quick: does structure help on the images of --data?
        data: with --quick: the images, as for ssimgen train.
        size: with --quick: scale and crop all images to this side in pixels.
        grey: with --quick: turn colours into grey first.
        seeds: with --quick: how often each is repeated.
    """
    from ssimgen.data import Source
    from ssimgen.study import read_plan
    from ssimgen.study.command import list_runs, run_and_report
    from ssimgen.study.quick import quick_study

    if quick:
        if data is None or file is not None:
            raise ValueError(
                "--quick takes its images from --data, and no study file: ssimgen study --quick --data FOLDER"
            )
        quick_study(
            Source(data, size=size, grey=grey),
            output,
            budget=20.0 if budget is None else budget,
            parallel=parallel,
            seeds=seeds,
        )
        return
    if file is None:
        raise ValueError("name a study file, or ask for --quick --data FOLDER; docs/study.md describes the file")
    if data is not None or size is not None or grey:
        raise ValueError("--data, --size and --grey belong to --quick: a study file names its images itself")
    plan = read_plan(file, _defaults())
    if list:
        list_runs(plan, output)
    else:
        run_and_report(plan, output, budget=budget, parallel=parallel)


def report(
    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUNS")],
    /,
    *,
    output: Annotated[Path, arg(aliases=("-o",))] = Path("report"),
    title: str = "",
    baseline: str = "",
) -> None:
    """Write a report of runs on the same images: one HTML file, which needs no network.

    Runs must have been evaluated (ssimgen evaluate). Those that differ only by their seed are taken together.

    Args:
        runs: folders of runs, or folders with runs somewhere below them.
        output: folder; the report is index.html in it.
        title: of the report.
        baseline: name, or part of it, of the runs with which others are compared.
    """
    from ssimgen.report import write_report

    path = write_report(runs, output, title=title, baseline=baseline)
    print(f"the report is {path}")


def demo(*, output: Annotated[Path, arg(aliases=("-o",))] = Path("demo"), iterations: int = 3000, seed: int = 0) -> int:
    """Train a VAE on digits with l2 and with SSIM, and show the difference.

    Args:
        output: folder for picture, table and runs; an earlier demo in it is replaced.
        iterations: batches of 64 digits, for each of the two.
        seed: fixes weights, batches and noise.
    """
    from ssimgen.demo import run

    return _ended(partial(run, output, iterations=iterations, seed=seed), "the same command begins anew")


def _labels(model: Model, classes: tuple[int, ...], number: int) -> Tensor | None:
    """The classes in turn, as many as asked for; None if none are named."""
    import torch

    if not classes:
        return None
    if not getattr(model, "num_classes", 0):
        raise ValueError("this model was trained without classes: leave out --class")
    return torch.tensor([classes[i % len(classes)] for i in range(number)])


def _held_out_codes(model: Model, run: Path, number: int, seed: int) -> tuple[Tensor, Tensor]:
    """Held-out images of a run, drawn at random, and their codes."""
    import torch

    from ssimgen.data import load_images
    from ssimgen.models import LatentAutoencoder
    from ssimgen.run_evaluation import source_of
    from ssimgen.training import RunFolder

    if not isinstance(model, LatentAutoencoder):
        raise ValueError(f"the model in {run} does not encode images: leave out --ends images")
    if model.num_classes:
        raise ValueError(f"the codes of {run} do not hold the class of an image: leave out --ends images")
    folder = RunFolder(run if run.is_dir() else run.parent.parent)
    splits = load_images(source_of(folder.read_config(), folder.path), report=_note)
    if len(splits.held_out) < number:
        raise ValueError(f"{splits.held_out.source} has {len(splits.held_out)} images, fewer than {number}: fewer rows")
    order = torch.randperm(len(splits.held_out), generator=torch.Generator().manual_seed(seed))
    images = splits.held_out.select(order[:number]).images
    return images, model.code(images.to(model.device))


def _check_output(path: Path, suffixes: tuple[str, ...]) -> None:
    """Refuse an output that could not be written, before any work is done."""
    from ssimgen._files import writable_folder

    if path.suffix not in suffixes:
        raise ValueError(f"output {path} must end in {' or '.join(suffixes)}")
    if path.is_dir():
        raise ValueError(f"output {path} is a folder: name a file")
    writable_folder(path.parent)


def _window(option: str, size: int, sigma: float, images: Tensor, stride: int = 1) -> Window:
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
    return Window.gaussian(size, sigma, stride)


def _note(line: str) -> None:
    """Say what is not the result, so that the result can be read by a program."""
    print(line, file=sys.stderr)


def _progress() -> Progress:
    """A progress bar on standard error, gone when done; none where no one looks."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=not console.is_terminal)


COMMANDS: Mapping[str, Callable[[list[str]], int]] = {
    "train": train,
    "sample": _command(sample),
    "interpolate": _command(interpolate),
    "evaluate": _command(evaluate),
    "compare": _command(compare),
    "test-samples": _command(_test_samples),
    "neighbours": _command(neighbours),
    "study": _command(_study),
    "report": _command(report),
    "demo": _command(demo),
}


if __name__ == "__main__":
    sys.exit(main())
