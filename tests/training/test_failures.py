"""What stops a run on the way, and what it leaves."""

import errno
import os
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor
from toys import Toy, ToyConfig, fit, latest, same_weights

from ssimgen import _files
from ssimgen.batches import Batch
from ssimgen.discrepancy import mmd2
from ssimgen.training import NotFiniteError, Optimiser, Training


@pytest.mark.parametrize("term", ["error", "watched"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_term_that_is_not_finite_stops_the_run(tmp_path: Path, term: str, value: float) -> None:
    model = Toy()
    model.poison = lambda name, t: t * value if name == term and len(model.calls) > 2 * 7 else t
    with pytest.raises(NotFiniteError, match=rf"term '{term}' of step 'autoencoder' is {value} in iteration 8"):
        fit(tmp_path, model)
    assert latest(tmp_path).name == "00000005.safetensors"
    state = safetensors.torch.load_file(latest(tmp_path))
    assert all(torch.isfinite(t).all() for t in state.values())
    assert all(torch.isfinite(t).all() for t in model.state_dict().values())


def test_a_gradient_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    model = Toy()
    model.poison = lambda name, t: t + ((t - t) ** 2).sqrt() if name == "error" else t  # value 0, gradient NaN
    with pytest.raises(NotFiniteError, match="the gradient of step 'autoencoder' is nan in iteration 1"):
        fit(tmp_path, model)
    assert same_weights(model.decoder, Toy().decoder)


def test_weights_that_are_not_finite_are_never_kept(tmp_path: Path) -> None:
    """Though term and gradient were: the move went too far, in the last iteration."""
    options = {"optimiser": Optimiser("adamw", weight_decay=1e12), "training": Training(1, batch=8)}
    text = r"model\.critic\.2\.weight is not finite after iteration 1: .*less weight decay"
    with pytest.raises(NotFiniteError, match=text):
        fit(tmp_path, Toy(ToyConfig(lr_scale=1e30)), **options)
    assert not list((tmp_path / "checkpoints").iterdir())
    assert not list((tmp_path / "samples").iterdir())


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_want_of_memory_is_said_before_there_is_a_run(tmp_path: Path, error: Exception) -> None:
    model = Toy()

    def refuse(_: Batch) -> dict[str, Tensor]:
        raise error

    model.fit = refuse  # type: ignore[method-assign]
    with pytest.raises(ValueError, match=r"a batch does not fit into memory .*: take a smaller batch"):
        fit(tmp_path / "run", model)
    assert not (tmp_path / "run").exists()


def test_a_discrepancy_that_refuses_to_be_nan_stops_the_run(tmp_path: Path) -> None:
    """It raises before there is a term to look at."""
    model = Toy()
    k = torch.eye(3)
    model.poison = lambda name, t: mmd2(k / (len(model.calls) <= 2 * 7), k, k) if name == "error" else t
    text = r"a term of step 'autoencoder' is not finite \(mmd2 is nan: .* in iteration 8: the last checkpoint is kept"
    with pytest.raises(NotFiniteError, match=text):
        fit(tmp_path, model)
    assert latest(tmp_path).name == "00000005.safetensors"


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fit(tmp_path / "whole")
    real, room = os.fsync, {"left": True}

    def full(descriptor: int) -> None:
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        if "00000010" in name and room["left"]:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(_files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        fit(tmp_path / "full")
    assert [p.name for p in (tmp_path / "full" / "checkpoints").iterdir()] == ["00000005.safetensors"]
    room["left"] = False
    resumed = fit(tmp_path / "full", resume=True)
    assert same_weights(whole, resumed)
