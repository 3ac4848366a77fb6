"""A run of several processes and machines."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from toys import SHORT, Toy, fit, images, latest

from ssimgen.training import Hardware, Optimiser, Training, read_metrics, train


def test_more_processes_than_a_machine_bears_are_refused(tmp_path: Path) -> None:
    hardware = Hardware(accelerator="cpu", devices=100_000)
    with pytest.raises(ValueError, match=r"devices must be at most \d+ on this machine, got 100000"):
        train(Toy(), images(), tmp_path / "run", training=Training(batch=100_000), hardware=hardware)


def test_machines_that_cannot_find_one_another_are_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "GROUP_RANK", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    text = r"num_nodes = 2 machines needs MASTER_ADDR, MASTER_PORT, NODE_RANK in the environment of each"
    with pytest.raises(ValueError, match=text):
        train(Toy(), images(), tmp_path / "run", training=SHORT, hardware=Hardware(num_nodes=2))
    assert not (tmp_path / "run").exists()


ALONE = """
import sys
from datetime import timedelta
from pathlib import Path
from toys import Toy, images
from lightning_fabric.strategies import DDPStrategy
from ssimgen.training import Hardware, ProcessLostError, Training, train

patient = DDPStrategy._setup_distributed
def impatient(self):
    self._timeout = timedelta(seconds=3)
    patient(self)
DDPStrategy._setup_distributed = impatient
try:
    train(
        Toy(), images(), Path(sys.argv[1]), training=Training(iterations=6, batch=8),
        hardware=Hardware(accelerator="cpu", num_nodes=2),
    )
except ProcessLostError as error:
    print(error, file=sys.stderr)
    sys.exit(1)
"""


def test_machines_that_do_not_come_are_named(tmp_path: Path) -> None:
    script = tmp_path / "alone.py"
    script.write_text(ALONE)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": "0"}
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, script, tmp_path / "run"],
        env={**os.environ, **place, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        timeout=240,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert f"waiting up to half an hour for 2 machines at 127.0.0.1:{port}" in done.stderr
    assert f"not all 2 machines came to 127.0.0.1:{port} in time" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "run").exists()


PARALLEL = """
import sys
from pathlib import Path
import torch
from toys import Toy, ToyConfig, images
from ssimgen.training import Hardware, Optimiser, Training, train

model = Toy(ToyConfig())
train(
    model, images(), Path(sys.argv[1]), training=Training(iterations=6, batch=8, ema=0.9, log_every=2),
    optimiser=Optimiser("sgd", lr=0.1, clip=1.0), hardware=Hardware(accelerator="cpu", devices=2),
)
Path(sys.argv[1], "modules").write_text(" ".join(sys.modules))
"""


@pytest.fixture(scope="module")
def parallel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two processes, with the names of what they have imported."""
    folder = tmp_path_factory.mktemp("parallel")
    script = folder / "parallel.py"
    script.write_text(PARALLEL)
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, script, folder / "two"], check=True, env=environment, timeout=240, capture_output=True
    )
    return folder / "two"


def test_training_does_not_wait_for_what_it_does_not_use(parallel: Path) -> None:
    """Lightning asks for the version of torchmetrics, which imports the others."""
    imported = (parallel / "modules").read_text().split()
    assert "lightning_fabric" in imported
    assert not {"torchmetrics", "scipy", "matplotlib"} & set(imported)


def test_two_processes_give_the_gradients_of_one(parallel: Path, tmp_path: Path) -> None:
    """With half the batch each; the toy's loss has a term that is no mean over images, and noise."""
    training = Training(iterations=6, batch=8, ema=0.9, log_every=2)
    fit(tmp_path / "one", training=training, optimiser=Optimiser("sgd", lr=0.1, clip=1.0))
    one, two = (safetensors.torch.load_file(latest(run)) for run in (tmp_path / "one", parallel))
    start = Toy().state_dict()
    for part in ("encoder", "decoder"):
        for key in (key for key in start if key.startswith(part)):
            a, b = one[f"model.{key}"], two[f"model.{key}"]
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6, msg=key)
            assert (a - start[key]).abs().max() > 1e-3  # it did move
    for a, b in zip(read_metrics(tmp_path / "one"), read_metrics(parallel), strict=True):
        assert a["autoencoder/moment"] == pytest.approx(b["autoencoder/moment"], rel=1e-4)
