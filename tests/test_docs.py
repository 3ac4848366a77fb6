"""Every command and every example that the documentation shows is run, and its tables are those of the results."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import torch.nn.functional as F

from ssimgen import Window, cli, distance, pictures

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page that are written in `language`."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.usefixtures("eager_engine")
@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: p.name)
def test_python_examples_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And print what the comments beside `print` say."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "example"}
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), names)
        printed, said = capsys.readouterr().out.splitlines(), re.findall(r"^print\(.*\) +# (.*)$", block, re.MULTILINE)
        assert not said or printed == said, block


SHORTER = {
    "train": ["--iterations", "2", "--batch", "16"],
    "demo": ["--iterations", "2"],
    "detect": ["--rate", "0.5", "--resamples", "5"],
    "evaluate": ["--images", "20", "--resolution", "32", "--tested", "20", "--permutations", "19"],
}
"""What is added to a command so that it ends soon."""


def commands(page: Path) -> list[list[str]]:
    """The words of every `ssimgen` command of a page, without comments."""
    lines = "".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("ssimgen ")]


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=lambda p: p.name)
def test_commands_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """In a folder with the files that the pages speak of; a command finds what those before it have written."""
    if page.name == "models.md":
        request.getfixturevalue("eager_engine")
    monkeypatch.chdir(tmp_path)
    images = torch.rand(40, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    for name, image in zip(("a.png", "b.png", "query.png"), images, strict=False):
        pictures.write(tmp_path / name, image)
    for folder, part in (("real", images[:20]), ("generated", images[20:]), ("masks", (images[20:30] > 0.9).float())):
        (tmp_path / folder).mkdir()
        for i, image in enumerate(part):
            pictures.write(tmp_path / folder / f"{i}.png", image)
    for name, image in zip(("a.tif", "b.tif"), images, strict=False):
        tifffile.imwrite(tmp_path / name, (4095 * image[0] - 1024).short().numpy())
    np.save(tmp_path / "generated.npy", images[20:].numpy())
    for words in commands(page):
        assert cli.main([*words, *SHORTER.get(words[0], [])]) == 0, words


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in (*PAGES, ROOT / "CONTRIBUTING.md"):
        shown = {t for block in blocks(page, "bash") for t in re.findall(r"^make (\w+)", block, re.MULTILINE)}
        assert shown <= targets, f"{page.name} shows make targets that do not exist"


def test_tables_are_those_of_the_results() -> None:
    """Each document is what `python docs/tables.py` makes of it, and each table is in one of them."""
    script = runpy.run_path(str(ROOT / "docs" / "tables.py"))
    made: dict[str, str] = script["tables"]()
    text = {page: page.read_text() for page in script["DOCUMENTS"]}
    assert sorted(re.findall(r"<!-- table: (.+?) -->", "".join(text.values()))) == sorted(made)
    for page, old in text.items():
        assert script["filled"](old, made) == old, f"{page.name} is not up to date: python docs/tables.py"


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_to_files_and_headings() -> None:
    for page in (*PAGES, *ROOT.glob("*.md"), *ROOT.glob("*/*/README.md"), *ROOT.glob("*/README.md")):
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if not link.startswith(("https://", "http://")):
                path, _, anchor = link.partition("#")
                target = page.parent / path if path else page
                assert target.exists(), f"{page.relative_to(ROOT)} links to {link}"
                assert not anchor or anchor in anchors(target), f"{page.relative_to(ROOT)}: no heading for {link}"


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_no_tracked_file_exceeds_a_megabyte() -> None:
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    sizes = {name: (ROOT / name).stat().st_size for name in names.split("\0") if (ROOT / name).is_file()}
    assert "README.md" in sizes
    assert {name: size for name, size in sizes.items() if size > 1_000_000} == {}


@pytest.mark.parametrize(
    ("window", "margin", "middle", "edge", "corner", "ratio"),
    [
        (Window.gaussian(), 0, 0.13, 8.4e-4, 9.1e-7, 145_000),
        (Window.uniform(7), 0, 0.086, 0.012, 0.0018, 49),
        (Window.uniform(8, stride=4), 0, 0.090, 0.045, 0.023, 4),
        (Window.gaussian(), 5, 0.054, 0.032, 0.018, 3),
    ],
    ids=["default", "uniform 7", "uniform 8/4", "mirrored"],
)
def test_weight_of_the_border(
    window: Window, margin: int, middle: float, edge: float, corner: float, ratio: float
) -> None:
    """The table of docs/kernels.md, after F4: a pixel of a grey image that goes from 0.5 to 1."""
    grey = torch.full((1, 1, 28, 28), 0.5, dtype=torch.float64)
    squares = []
    for row, column in (14, 14), (0, 14), (0, 0):
        other = grey.clone()
        other[..., row, column] = 1
        x, y = (F.pad(z, (margin,) * 4, mode="reflect") for z in (grey, other))
        squares.append(distance(x, y, data_range=1.0, window=window, squared=True).item())
    assert squares == pytest.approx([middle, edge, corner], rel=0.03)
    assert squares[0] / squares[2] == pytest.approx(ratio, rel=0.02)


def test_mirrored_borders_show_every_pixel() -> None:
    """Sides of all lengths, in windows of 7 px at all strides: what docs/kernels.md says after F4."""

    def images(side: int) -> tuple[torch.Tensor, torch.Tensor]:
        """A grey image, and it with one pixel that differs, in each row once."""
        grey = torch.full((side, 1, side, side), 0.5, dtype=torch.float64)
        other = grey.clone()
        other[torch.arange(side), 0, torch.arange(side), side // 2] = 1
        return grey, other

    for side in range(7, 21):
        for stride in (1, 2, 3, 5, 7):
            window = Window.uniform(7, stride, padding="reflect")
            assert (distance(*images(side), data_range=1.0, window=window) > 0.01).all()
    x, y = (F.pad(z, (3,) * 4, mode="reflect") for z in images(14))
    unseen = distance(x, y, data_range=1.0, window=Window.uniform(7, 7)) == 0
    assert unseen.tolist() == [False] * 11 + [True] * 3


def test_the_drawing_of_the_rooms_is_that_of_the_code() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "rooms.py"))
    rooms, row, imports = script["rooms"], script["row"], script["imports"]
    assert script["DRAWING"].read_text() == script["drawing"](), (
        "docs/rooms.svg is not up to date: python docs/rooms.py"
    )
    assert all(row(room) > row(below) for room in rooms() for below in imports(room))


def test_the_walks_name_files_that_exist() -> None:
    named = re.findall(r"`([\w/]+\.py)`", (ROOT / "docs" / "architecture.md").read_text())
    paths = {name for name in named if not name.startswith(("docs/", "tests/"))}
    assert len(paths) > 30
    assert sorted(path for path in paths if not (ROOT / "src" / "ssimgen" / path).is_file()) == []
