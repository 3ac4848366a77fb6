"""The command line: what it prints and leaves, and one line and exit code 2 for bad input."""

import contextlib
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from skimage.metrics import structural_similarity

from command_line import run
from ssimgen import ms_ssim, presets, ssim, training
from ssimgen.cli import COMMANDS
from ssimgen.commands import demo
from ssimgen.data import Splits, load_images
from ssimgen.models import MODELS
from ssimgen.training import Interrupted, load_model, read_metrics
from stored_pictures import png
from waiting import within

SMALL = ["--network.kind", "mlp", "--network.hidden", "8", "--iterations", "6", "--batch", "16", "--latent", "2"]


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error."""
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("ssimgen: ")
    return lines[0].removeprefix("ssimgen: ")


def everything_in(folder: Path) -> dict[Path, bytes]:
    """Files and their content, below a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 40 small pictures in two classes."""
    folder = tmp_path_factory.mktemp("tiny")
    values = np.random.default_rng(0).integers(0, 256, (40, 12, 12), dtype=np.uint8)
    for i, pixels in enumerate(values):
        path = folder / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture(scope="module")
def trained(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("runs") / "vae"
    assert run("train", "vae", "-o", folder, "--data", tiny, "--tau", "0.1", *SMALL) == 0
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> tuple[Path, Path]:
    """Two pictures, the second a noisy copy of the first."""
    generator = np.random.default_rng(0)
    a = generator.integers(40, 215, (32, 40, 3), dtype=np.uint8)
    b = (a + generator.integers(-30, 30, a.shape)).astype(np.uint8)
    for name, pixels in (("a.png", a), ("b.png", b)):
        Image.fromarray(pixels).save(tmp_path / name)
    return tmp_path / "a.png", tmp_path / "b.png"


def test_the_remedy_for_small_images_is_that_of_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "images.npy", np.random.default_rng(0).random((20, 8, 8), dtype=np.float32))
    words = ["train", "vae", "-o", tmp_path / "run", "--tau", "0.1", "--data", tmp_path / "images.npy", "--batch", "4"]
    assert run(*words, "--iterations", "1") == 2
    assert "does not fit images of 8 x 8 px: take a window (see --help) of size 8 or smaller" in capsys.readouterr().err
    assert run(*words, "--iterations", "1", "--structure.size", "8") == 0


# --- help ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "train"])
def test_help_has_no_marks_and_no_lines_of_the_source(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(name, "--help") == 0
    text = capsys.readouterr().out
    assert "`" not in text
    inside = re.findall(r"^│ +(.*?) *│$", text, re.MULTILINE)
    for line, following in pairwise(inside):  # a line ends where the next word has no room
        if line and following and not following.startswith(("-", "(default", "{")) and not line.startswith("-"):
            assert len(line) + len(following.split()[0]) > 50, (line, following)


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == run() == 0
    text = capsys.readouterr().out
    for name in COMMANDS:
        assert f"\n  {name} " in text


@pytest.mark.parametrize("words", [["train", "vae"], ["sample"], ["compare"], ["demo"]])
def test_help_of_a_command_states_defaults(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words, "--help") == 0
    text = capsys.readouterr().out
    assert "(default:" in text
    assert f"usage: ssimgen {' '.join(words)}" in text


@pytest.mark.parametrize("words", [[name] for name in COMMANDS if name != "train"] + [["train", m] for m in MODELS])
def test_help_has_no_marks_of_docstrings(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words, "--help") == 0
    text = capsys.readouterr().out
    assert "`" not in text
    assert ">>>" not in text


def test_help_of_a_model_has_a_heading_for_each_kind_of_option(capsys: pytest.CaptureFixture[str]) -> None:
    """What everybody asks first: where it goes, and what the model is; then its images."""
    assert run("train", "vae", "--help") == 0
    headings = re.findall(r"^\W+(?:(\w+) )?options \W+$", capsys.readouterr().out, re.MULTILINE)
    assert headings == ["", "source", "training", "structure", "network", "optimiser", "hardware"]


@pytest.mark.parametrize("model", MODELS)
def test_help_describes_a_model_in_one_paragraph(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", model, "--help") == 0
    usage, _, options = capsys.readouterr().out.split("-h, --help")[0].split("\n\n")
    assert usage.startswith("usage: ")
    assert "options" in options


def test_help_does_not_wait_for_pytorch() -> None:
    """Nor does that of a command: --help of all imports all of them."""
    code = "import sys; from ssimgen.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_installed_command_runs() -> None:
    command = Path(sys.executable).with_name("ssimgen")
    done = subprocess.run([command, "--version"], check=True, capture_output=True, text=True)
    assert done.stdout.strip()[0].isdigit()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "unknown command 'trian': did you mean 'train'?; see ssimgen --help"),
        (["train", "vea"], "unknown model 'vea': did you mean 'vae'?; ssimgen train lists them"),
    ],
)
def test_unknown_names_get_a_suggestion(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words) == 2
    assert complaint(capsys) == message


def test_unknown_options_get_a_suggestion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "vae", "-o", tmp_path / "x", "--tau", "1", "--network.wdth", "3") == 2
    message = "unknown option --network.wdth: did you mean '--network.width'?; see ssimgen train vae --help"
    assert complaint(capsys) == message
    assert not (tmp_path / "x").exists()


# --- train and sample ---------------------------------------------------------------------------------------------


def test_tau_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "vae", "-o", tmp_path / "x") == 2
    assert complaint(capsys) == "missing: --tau FLOAT; see ssimgen train vae --help"
    assert not (tmp_path / "x").exists()


def test_a_run_can_be_sampled(trained: Path, tiny: Path, tmp_path: Path) -> None:
    config = json.loads((trained / "config.json").read_text())
    assert config["config"]["tau"] == 0.1
    assert config["shape"] == [1, 12, 12]
    assert config["source"]["data"] == str(tiny)
    assert run("sample", trained, "-n", 9, "-o", tmp_path / "grid.png") == 0
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.size == (3 * 14 + 2, 3 * 14 + 2)
    assert run("sample", trained, "-n", 5, "-o", tmp_path / "a.npy", "--seed", 4) == 0
    drawn = np.load(tmp_path / "a.npy")
    expected = load_model(trained).sample(5, torch.Generator().manual_seed(4))
    np.testing.assert_array_equal(drawn, expected.numpy())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "samples.jpg"], "output samples.jpg must end in .png or .npy"),
        (["-n", "0"], "number must be at least 1, got 0"),
        (["--class", "3"], "this model was trained without classes: leave out --class"),
        (["-o", "/dev/null/x.png"], "cannot write to the folder /dev/null"),
    ],
)
def test_bad_requests_for_samples(
    trained: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("sample", trained, *words) == 2
    assert message in complaint(capsys)


def test_samples_need_a_sound_run(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("sample", tmp_path) == 2
    assert "holds no checkpoint: is it the folder of a run?" in complaint(capsys)
    cut = tmp_path / "cut.safetensors"
    (source,) = (trained / "checkpoints").iterdir()
    cut.write_bytes(source.read_bytes()[:-10])
    assert run("sample", cut) == 2
    assert "is not a checkpoint, or is truncated or damaged" in complaint(capsys)


def test_options_come_from_a_file_and_the_command_line_wins(tiny: Path, tmp_path: Path) -> None:
    file = tmp_path / "options.toml"
    file.write_text(f'tau = 0.5\nlatent = 3\niterations = 2\nbatch = 16\ndata = "{tiny}"\n[network]\nkind = "mlp"\n'
                    'hidden = [6, 5]\n[structure]\nk2 = 0.1\nunbiased = false\n')  # fmt: skip
    assert run("train", "vae", "-o", tmp_path / "run", "--config", file, "--latent", "4") == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["config"]["tau"] == 0.5
    assert config["config"]["latent"] == 4
    assert config["config"]["network"]["hidden"] == [6, 5]
    assert config["config"]["structure"]["k2"] == 0.1


def test_a_file_and_the_command_line_make_one_set_of_options(tiny: Path, tmp_path: Path) -> None:
    """Each alone may lack what is asked for or be no good; with --resume the run's own options are below both."""
    file, folder = tmp_path / "options.toml", tmp_path / "run"
    file.write_text(f'data = "{tiny}"\nlatent = 0\nstructure.unbiased = true\nnetwork.norm = "group"\n')
    words = ["train", "vae", "-o", folder, "--config", file, "--structure.window", "uniform"]
    assert run(*words, "--tau", "0.1", "--structure.size", "7", *SMALL) == 0
    file.write_text('log-every = 1\n[network]\nnorm = "group"\n')
    assert run("train", "vae", "-o", folder, "--config", file, "--resume", "--iterations", "8") == 0
    config = json.loads((folder / "config.json").read_text())
    assert config["config"]["structure"]["unbiased"] is True
    assert (config["config"]["structure"]["window"], config["config"]["structure"]["size"]) == ("uniform", 7)
    assert (config["config"]["network"]["norm"], config["config"]["network"]["hidden"]) == ("group", [8])
    assert (config["training"]["log_every"], config["training"]["iterations"]) == (1, 8)


def test_help_shows_what_a_file_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "options.toml"
    file.write_text("lr = 0.123\n[network]\nwidth = 77\n")
    assert run("train", "vae", "--config", file, "--help") == 0
    text = capsys.readouterr().out
    assert "0.123)" in text
    assert "77)" in text


def test_bad_option_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "options.toml"
    file.write_text("tau 0.5")
    assert run("train", "vae", "-o", tmp_path / "x", "--config", file) == 2
    assert "options.toml is not valid TOML" in complaint(capsys)
    file.write_text("tau = 0.5\nlatnet = 3")
    assert run("train", "vae", "-o", tmp_path / "x", "--config", file) == 2
    assert "options.toml: unknown option latnet: did you mean 'latent'?" in complaint(capsys)
    file.write_text("lr = 'fast'")
    assert run("train", "vae", "-o", tmp_path / "x", "--config", file) == 2
    assert "options.toml: option lr must be a number, got 'fast'" in complaint(capsys)
    assert run("train", "vae", "-o", tmp_path / "x", "--config", tmp_path / "no.toml") == 2
    assert "no.toml" in complaint(capsys)
    assert not (tmp_path / "x").exists()


def test_a_run_is_not_overwritten_but_resumed_with_its_own_options(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert run("train", "vae", "-o", folder, "--data", tiny, "--tau", "0.1", "--network.dropout", "0.1", *SMALL) == 0
    before = everything_in(folder)
    capsys.readouterr()
    assert run("train", "vae", "-o", folder, "--data", tiny, "--tau", "0.1", *SMALL) == 2
    assert "already holds a run: resume it, or choose another folder" in complaint(capsys)
    assert everything_in(folder) == before
    assert run("train", "vae", "-o", folder, "--resume", "--iterations", "9", "--log-every", "1") == 0
    assert [line["iteration"] for line in read_metrics(folder)] == [6, 7, 8, 9]
    capsys.readouterr()
    assert run("train", "vae", "-o", folder, "--resume", "--tau", "0.2") == 2
    assert "was trained with --tau = 0.1, it cannot go on with 0.2" in complaint(capsys)
    assert run("train", "vae", "-o", tmp_path / "none", "--resume") == 2
    assert "holds no run" in complaint(capsys)
    assert not (tmp_path / "none").exists()


def test_a_finished_run_says_so(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run("train", "vae", "-o", trained, "--resume") == 0
    assert "is already finished: more --iterations than 6 go on with it" in " ".join(capsys.readouterr().out.split())
    assert run("train", "vae", "-o", trained, "--resume", "--iterations", "5") == 2
    assert "was trained for 6 iterations, more than 5: set --iterations to as many or more" in complaint(capsys)


def test_a_demonstration_that_is_stopped_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise Interrupted(signal.SIGINT, 3)

    monkeypatch.setattr(training, "train", stop)
    assert run("demo", "-o", tmp_path) == 128 + signal.SIGINT
    assert complaint(capsys) == "stopped by SIGINT after iteration 3, checkpoint written; the same command begins anew"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tau", "-1"], "tau must be a positive number, got -1.0"),
        (["--data", "/no/such"], "'/no/such' is neither a path nor one of mnist5k"),
        (["--weight-decay", "-1"], "--weight-decay must be a positive number, or 0 for none"),
        (["--held-out", "2"], "--held-out must be a fraction between 0 and 1, got 2.0"),
        (["--batch", "99"], "fewer than a batch of 99: take a smaller batch"),
        (["--size", "1000000"], "size must be from 1 to 10000 pixels, got 1000000"),
        (["--memory", "inf"], "memory must be a number of gigabytes, at least 0, got inf"),
        (["--background", "whit"], "background must be a colour such as white, black or '#a0c0ff', got 'whit'"),
        (["--structure.size", "40"], "window of 40 x 40 px does not fit images of 12 x 12 px"),
        (["-o", "/dev/null/run"], "cannot write to the folder /dev/null/run"),
    ],
)
def test_bad_training_input(
    tiny: Path, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", "vae", "-o", tmp_path / "x", "--data", tiny, "--tau", "0.1", *SMALL, *words) == 2
    assert message in complaint(capsys)
    assert not (tmp_path / "x").exists()


def test_nan_ends_in_one_line(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(
        "train",
        "vae",
        "-o",
        tmp_path / "x",
        "--data",
        tiny,
        "--tau",
        "1e-30",
        "--method",
        "sgd",
        "--lr",
        "1e30",
        *SMALL,
    )
    assert code == 1
    assert "of step 'vae' is" in complaint(capsys)


def test_a_terminated_command_leaves_a_run_that_resumes_to_the_same_bits(tiny: Path, tmp_path: Path) -> None:
    """The real command and the real signal, in a process of its own."""
    options = [
        "--data",
        tiny,
        "--tau",
        "0.1",
        *SMALL,
        "--objective",
        "l2",
        "--iterations",
        "4000",
        "--ema",
        "0.9",
        "--log-every",
        "1",
    ]
    command = [Path(sys.executable).with_name("ssimgen"), "train", "vae"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    folder = tmp_path / "stopped"
    with subprocess.Popen(
        [*command, "-o", folder, *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(FileNotFoundError):
                if (folder / "metrics.jsonl").read_text().count("\n") >= 5:
                    break
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM after iteration" in error
    assert "--resume" in error
    done = len(read_metrics(folder))
    assert 5 <= done < 4000
    length = str(done + 20)
    assert run("train", "vae", "-o", folder, "--resume", "--iterations", length) == 0
    assert run("train", "vae", "-o", tmp_path / "whole", *options, "--iterations", length) == 0
    a, b = load_model(folder).state_dict(), load_model(tmp_path / "whole").state_dict()
    assert all(torch.equal(a[key], b[key]) for key in a)
    logs = [
        [{k: v for k, v in line.items() if not k.endswith("seconds")} for line in read_metrics(run_folder)]
        for run_folder in (folder, tmp_path / "whole")
    ]
    assert logs[0] == logs[1]


# --- compare ------------------------------------------------------------------------------------------------------


def test_compare_prints_the_indices_of_the_library(
    pictures: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("compare", *pictures, "--json", "--map", tmp_path / "map.png") == 0
    values = json.loads(capsys.readouterr().out)
    x, y = (torch.tensor(np.array(Image.open(p))).movedim(2, 0)[None] / 255 for p in pictures)
    assert values["SSIM"] == pytest.approx(ssim(x, y, data_range=1.0).item(), abs=1e-6)
    assert values["MS-SSIM"] == pytest.approx(ms_ssim(x, y, data_range=1.0).item(), abs=1e-6)
    assert values["PSNR, dB"] == pytest.approx(-10 * np.log10(((x - y) ** 2).mean().item()), rel=1e-5)
    assert values["distance, product"] == pytest.approx((1 - values["SSIM"]) ** 0.5, rel=1e-5)
    with Image.open(tmp_path / "map.png") as drawn:
        assert drawn.width > 500
    assert run("compare", *pictures) == 0
    table = capsys.readouterr().out
    assert f"{values['SSIM']:.6g}" in table


def test_compare_prints_the_figures_of_other_programs(
    pictures: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of those that take pictures of this size: TensorFlow's five scales need more pixels, FFmpeg 8 px a side."""
    assert run("compare", *pictures, "--json", "--figures") == 0
    values = json.loads(capsys.readouterr().out)
    a, b = (np.array(Image.open(path)) for path in pictures)
    figure = structural_similarity(a, b, channel_axis=-1)
    assert values["SSIM of scikit-image"] == pytest.approx(figure, abs=1e-6)
    programs = [key for key in values if " of " in key]
    assert programs == [
        "SSIM of scikit-image", "SSIM of FFmpeg", "SSIM of MATLAB's toolbox", "SSIM of ssim.m (Wang)"
    ]  # fmt: skip
    assert run("compare", *pictures, "--figures") == 0
    assert f"{values['SSIM of scikit-image']:.6g}" in capsys.readouterr().out
    for path, pixels in zip(pictures, (a, b), strict=True):
        Image.fromarray(np.tile(pixels, (6, 5, 1))).save(tmp_path / f"large {path.name}")
    large = [tmp_path / f"large {path.name}" for path in pictures]
    assert run("compare", *large, "--json", "--figures") == 0
    values = json.loads(capsys.readouterr().out)
    x, y = (torch.tensor(np.array(Image.open(path))).movedim(2, 0)[None] / 255 for path in large)
    for name, program in {
        "SSIM of scikit-image": presets.scikit_image,
        "SSIM of FFmpeg": presets.ffmpeg,
        "SSIM of MATLAB's toolbox": presets.matlab_toolbox,
        "SSIM of ssim.m (Wang)": presets.wang_2004,
        "MS-SSIM of TensorFlow": presets.tensorflow_ms_ssim,
    }.items():
        assert values[name] == pytest.approx(program(x, y, data_range=1.0).item(), abs=1e-6), name
    for path in pictures:
        with Image.open(path) as picture:
            picture.crop((0, 0, 7, 7)).save(tmp_path / path.name)
    small = (tmp_path / path.name for path in pictures)
    assert run("compare", *small, "--json", "--figures", "--size", "5") == 0
    assert [key for key in json.loads(capsys.readouterr().out) if " of " in key] == [
        "SSIM of scikit-image", "SSIM of MATLAB's toolbox"
    ]  # fmt: skip


def test_compare_takes_grey_when_told(pictures: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    a, b = pictures
    Image.open(b).convert("L").save(b)
    assert run("compare", a, b) == 2
    message = complaint(capsys)
    assert message == f"{a} is coloured, but {b} is grey: convert one of them, or pass --grey"
    assert run("compare", a, b, "--grey") == 0


def png_header(width: int, height: int) -> bytes:
    """A PNG that declares a size and then holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_compare_refuses_bad_pictures(
    pictures: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = pictures
    bad, out = tmp_path / "bad.png", tmp_path / "out"
    small = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
    cases = [
        (None, "no such file"),
        (b"just some text", "is not a picture in a known format"),
        (b"", "is not a picture in a known format"),
        (a.read_bytes()[:-900], "is damaged or incomplete"),
        (png_header(50_000, 50_000), "declares too many pixels"),
        (png_header(12_000, 10_000), "is 12000 x 10000 px, more than 100,000,000 pixels"),
        (small, f"{a} is 40 x 32 px, but {bad} is 8 x 8 px: crop or scale one of them"),
    ]
    for content, message in cases:
        bad.unlink(missing_ok=True)
        if isinstance(content, bytes):
            bad.write_bytes(content)
        elif content is not None:
            content.save(bad)
        assert run("compare", a, bad, "--map", out / "map.png") == 2
        assert message in complaint(capsys)
        assert not out.exists()
    assert run("compare", tmp_path, b) == 2
    assert f"{tmp_path} is a folder, not a file" in complaint(capsys)
    small.save(bad)
    assert run("compare", bad, bad) == 2
    assert "window of 11 x 11 px does not fit images of 8 x 8 px: pass --size 8 or smaller, or" in complaint(capsys)
    assert run("compare", bad, bad, "--size", "8") == 0
    capsys.readouterr()
    assert run("compare", a, b, "--map", "/dev/null/map.png") == 2
    assert "cannot write to the folder /dev/null" in complaint(capsys)
    assert run("compare", a, b, "--map", "map.jpg") == 2
    assert "map.jpg must end in .png" in complaint(capsys)


def test_compare_sees_all_16_bits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two noises within ten grey levels of 8 bits: no copies of each other."""
    noises = np.random.default_rng(0).integers(2560, 2816, (2, 24, 24, 3))
    for name, noise in zip("ab", noises, strict=True):
        (tmp_path / f"{name}.png").write_bytes(png(noise, 16, 2))
    assert run("compare", tmp_path / "a.png", tmp_path / "b.png", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    error = ((noises[0] - noises[1]) / 65535) ** 2
    assert found["PSNR, dB"] == pytest.approx(-10 * np.log10(error.mean()), rel=1e-4)
    assert found["SSIM"] < 1


def test_compare_says_that_transparency_is_laid_on_something(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clear = np.zeros((24, 24, 4), np.uint8)
    Image.fromarray(clear).save(tmp_path / "a.png")
    Image.fromarray(np.full((24, 24, 3), 255, np.uint8)).save(tmp_path / "b.png")
    for options, l2, on in (([], 0, "white"), (["--background", "black"], 1, "black")):
        assert run("compare", tmp_path / "a.png", tmp_path / "b.png", "--json", *options) == 0
        out, err = capsys.readouterr()
        assert json.loads(out)["l1 (mean)"] == l2
        assert err == f"transparent pictures such as {tmp_path / 'a.png'} are laid on {on} (option background)\n"


@pytest.mark.parametrize(
    ("dtype", "words", "ends"),
    [
        (np.uint16, ["4095"], (0, 4095)),
        (np.float32, ["-1", "1.5"], (-1, 1.5)),
        (np.int16, ["-1024", "3071"], (-1024, 3071)),
    ],
)
def test_compare_takes_a_data_range(
    dtype: type[np.generic],
    words: list[str],
    ends: tuple[float, float],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """12 bits in 16, and TIFF without a range of its own."""
    lo, hi = ends
    noises = np.random.default_rng(0).uniform(lo, hi, (2, 24, 24)).astype(dtype)
    for name, noise in zip("ab", noises, strict=True):
        tifffile.imwrite(tmp_path / f"{name}.tif", noise)
    assert run("compare", tmp_path / "a.tif", tmp_path / "b.tif", "--json", "--data-range", *words) == 0
    out, err = capsys.readouterr()
    x, y = torch.tensor(noises.astype(float))[:, None, None]
    expected = ssim(x, y, data_range=ends).item()
    assert json.loads(out)["SSIM"] == pytest.approx(expected, abs=1e-6)
    assert err == ""


def test_compare_says_what_is_beyond_the_data_range(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In units of the file."""
    noise = np.random.default_rng(0).uniform(100, 300, (24, 24)).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", noise)
    same = [tmp_path / "a.tif"] * 2
    assert run("compare", *same, "--json", "--data-range", "100", "250") == 0
    extent = f"from {noise.min():.6g} to {noise.max():.6g}"
    assert capsys.readouterr().err == 2 * f"{same[0]} has values beyond the data range 100 to 250, {extent}\n"
    for words, message in (
        (["0"], "--data-range must be a positive number l"),
        (["1", "0"], "--data-range must be a positive number l"),
        (["0", "1", "2"], "--data-range must be a positive number l"),
    ):
        assert run("compare", *same, "--data-range", *words) == 2
        assert message in complaint(capsys)


ONE_BY_ONE = """
import sys
from ssimgen.cli import main

words = sys.argv[1:]
while words:
    end = words.index("then")
    assert main(words[1:end]) == int(words[0]), words[:end]
    words = words[end + 1:]
"""


def test_names_that_cannot_be_written(tmp_path: Path) -> None:
    """No output, picture or error fails because of a name; nothing else is said."""
    names = ["日本.png", "red].png", "$_$.png", os.fsdecode(b"\xff.png")]
    folder = tmp_path / "set["  # with a name as above, [/red] as in rich's markup
    folder.mkdir()
    for i, name in enumerate((*names, "other.png")):
        noise = np.random.default_rng(i).integers(0, 256, (24, 24), dtype=np.uint8)
        Image.fromarray(noise).save(folder / name)
    commands = [
        "0",
        "neighbours",
        str(folder / "other.png"),
        str(folder),
        "--picture",
        str(tmp_path / "near.png"),
        "then",
    ]
    for name in names:
        here = str(folder / name)
        commands += ["0", "compare", here, here, "--map", str(tmp_path / "map.png"), "then"]
        commands += ["2", "compare", here, str(tmp_path / name), "then"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONWARNINGS": "error"}
    command = [sys.executable, "-W", "ignore", "-c", ONE_BY_ONE, *commands]
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(b"\n") == len(names)
    assert (done.stdout + done.stderr).isascii()


@pytest.mark.parametrize("command", ["compare", "neighbours", "test-samples"])
def test_pipes_are_refused_at_once(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "x.npz")
    assert within(lambda: run(command, tmp_path / "x.npz", tmp_path / "x.npz")) == 2
    assert "x.npz is not an ordinary file but a pipe, a socket or a device" in complaint(capsys)


def test_large_pictures_are_refused_before_they_are_decoded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(_: Image.Image) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    huge = tmp_path / "huge.png"
    for size in ((50_000, 50_000), (12_000, 10_000)):
        huge.write_bytes(png_header(*size))
        assert run("compare", huge, huge) == 2
        assert "pixels" in complaint(capsys)


# --- demo ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("without_st_lpips")
def test_demo_leaves_picture_table_and_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    least = {"images": 20, "resolution": 32, "tested": 20, "permutations": 19}
    monkeypatch.setattr(demo, "EVALUATION", least)
    digits = Splits(*(part.subset(torch.arange(200), part.source) for part in load_images("mnist5k")))
    monkeypatch.setattr("ssimgen.data.load_images", {"mnist5k": digits}.get)
    for _ in range(2):  # a second demonstration replaces the first
        assert run("demo", "-o", tmp_path / "demo", "--iterations", "3") == 0
    rows = json.loads((tmp_path / "demo" / "table.json").read_text())
    assert list(rows) == ["l2", "ssim"]
    for row in rows.values():
        assert list(row)[:3] == ["PSNR, dB", "SSIM", "MS-SSIM"]
        assert all(np.isfinite(value) for value in row.values())
    text = (tmp_path / "demo" / "table.txt").read_text()
    assert "PSNR" in text
    assert f"{rows['l2']['SSIM']:.4g}" in text
    assert "held-out digits" in capsys.readouterr().out
    report = (tmp_path / "demo" / "report" / "index.html").read_text()
    assert "objective=l2" in report
    assert "objective=ssim" in report
    with Image.open(tmp_path / "demo" / "demo.png") as picture:
        assert picture.width >= 1000
    configs = [json.loads((tmp_path / "demo" / "runs" / name / "config.json").read_text()) for name in rows]
    for section in ("training", "optimiser", "data"):
        assert configs[0][section] == configs[1][section]
    differing = {key for key in configs[0]["config"] if configs[0]["config"][key] != configs[1]["config"][key]}
    assert differing == {"objective", "tau"}


def test_a_demo_that_cannot_begin_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("demo", "--iterations", "0", "-o", tmp_path / "demo") == 2
    assert "--iterations must be at least 1, got 0" in complaint(capsys)
    assert not (tmp_path / "demo").exists()


def test_demo_needs_a_folder_it_can_write(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("demo", "-o", "/dev/null/demo") == 2
    assert "cannot write to the folder /dev/null/demo" in complaint(capsys)
