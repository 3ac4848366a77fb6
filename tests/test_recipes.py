"""Every recipe says what it repeats, at what cost, and what to expect; and it runs, at small size."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from ssimgen import cli

RECIPES = Path(__file__).parent.parent / "recipes"
MODELS = {path: path.stem.replace("_", "-") for path in sorted(RECIPES.glob("*.toml"))}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "noise.npy"
    np.save(path, np.random.default_rng(0).random((80, 1, 28, 28), dtype=np.float32))
    return path


@pytest.mark.parametrize("recipe", MODELS, ids=lambda path: path.stem)
def test_recipes_run_and_are_scored(
    recipe: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for word in ("Source", "Differs", "Cost", "Expected", r"Measured: \d+\.\d \+- \d\.\d nats"):
        assert re.search(rf"\n# {word}", recipe.read_text())
    run = tmp_path / "run"
    words = ["--config", str(recipe), "--data", str(images), "-o", str(run), "--iterations", "2", "--batch", "16"]
    assert cli.main(["train", MODELS[recipe], *words]) == 0
    script = runpy.run_path(str(RECIPES / "score.py"))
    script["main"].__globals__.update(SAMPLES=20, VALIDATION=10)
    script["main"](str(run), str(images))
    assert capsys.readouterr().out.count(" nats, sigma 0.") == 2
