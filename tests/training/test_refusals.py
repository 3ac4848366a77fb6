"""What a run refuses before it begins."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from toys import SHORT, Toy, ToyConfig, fit, images

from ssimgen.batches import Batch
from ssimgen.models.steps import Step
from ssimgen.training import Hardware, Optimiser, RunFolder, Training, train


def test_a_folder_with_a_run_is_not_overwritten(tmp_path: Path) -> None:
    fit(tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(ValueError, match="already holds a run: resume it, or choose another folder"):
        fit(tmp_path)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_two_runs_on_one_folder_are_refused(tmp_path: Path) -> None:
    with RunFolder(tmp_path).locked(), pytest.raises(ValueError, match="another process is training in"):
        fit(tmp_path)


def test_resuming_needs_a_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no run: config.json is missing"):
        fit(tmp_path, resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": images(seed=1)}, r"was trained with data.hash = '\w+', it cannot go on with"),
        ({"model": Toy(ToyConfig(latent=4))}, r"config.latent = 3, it cannot go on with 4"),
        ({"optimiser": Optimiser(lr=0.1)}, r"optimiser.lr = 0.001, it cannot go on with 0.1"),
        ({"training": Training(iterations=12, batch=4)}, r"training.batch = 8, it cannot go on with 4"),
    ],
)
def test_resuming_with_other_options_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    fit(tmp_path)
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, resume=True, **change)


def test_fewer_images_than_a_batch_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="noise has 5 images, fewer than a batch of 8: take a smaller batch"):
        fit(tmp_path / "run", data=images(5))
    assert not (tmp_path / "run").exists()


def test_a_run_that_cannot_begin_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")

    def refuse(_: Batch) -> dict[str, Tensor]:
        raise ValueError("the window does not fit")

    for folder in (tmp_path, tmp_path / "new"):
        model = Toy()
        model.fit = refuse  # type: ignore[method-assign]
        with pytest.raises(ValueError, match="the window does not fit"):
            fit(folder, model)
        assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    fit(tmp_path)


def test_weights_of_terms_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    model = Toy()
    model.judge = lambda _: {"scores": model.critic[2].weight.sum()}  # type: ignore[method-assign]
    step = Step("critic", (model.critic,), model.judge, {"score": 2.0})
    model.steps = lambda: [step]  # type: ignore[method-assign]
    with pytest.raises(ValueError, match=r"step 'critic' weighs \['score'\], but its terms are \['scores'\]"):
        fit(tmp_path, model)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_an_accelerator_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="accelerator is not available"):
        train(Toy(), images(), tmp_path, training=SHORT, hardware=Hardware(accelerator="cuda"))
    assert not list(tmp_path.iterdir())
