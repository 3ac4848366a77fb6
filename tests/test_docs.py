"""Every command and every example that the documentation shows is run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

from ssimgen import cli, pictures

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page that are written in `language`."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: p.name)
def test_python_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "example"}
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), names)


SHORTER = {
    "train": ["--iterations", "2", "--batch", "16"],
    "demo": ["--iterations", "2"],
    "evaluate": ["--images", "20", "--resolution", "32", "--tested", "20", "--permutations", "19"],
}
"""What is added to a command so that it ends soon."""


def commands(page: Path) -> list[list[str]]:
    """The words of every `ssimgen` command of a page, without comments."""
    lines = "".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("ssimgen ")]


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=lambda p: p.name)
def test_commands_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder with the files that the pages speak of; a command finds what those before it have written."""
    monkeypatch.chdir(tmp_path)
    images = torch.rand(40, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    for name, image in zip(("a.png", "b.png", "query.png"), images, strict=False):
        pictures.write(tmp_path / name, image)
    for folder, part in (("real", images[:20]), ("generated", images[20:])):
        (tmp_path / folder).mkdir()
        for i, image in enumerate(part):
            pictures.write(tmp_path / folder / f"{i}.png", image)
    np.save(tmp_path / "generated.npy", images[20:].numpy())
    for words in commands(page):
        assert cli.main([*words, *SHORTER.get(words[0], [])]) == 0, words


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in (*PAGES, ROOT / "CONTRIBUTING.md"):
        shown = {t for block in blocks(page, "bash") for t in re.findall(r"^make (\w+)", block, re.MULTILINE)}
        assert shown <= targets, f"{page.name} shows make targets that do not exist"
