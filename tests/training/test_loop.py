"""The training loop on a toy model: what moves, what is logged, what stops it, and that resuming is exact."""

import contextlib
import dataclasses
import errno
import json
import os
import pty
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from toys import Toy, ToyConfig, images

from ssimgen import _files, pictures
from ssimgen.batches import Batch
from ssimgen.data import Images
from ssimgen.discrepancy import mmd2
from ssimgen.models import MODELS
from ssimgen.models.steps import Step
from ssimgen.runs import checkpoints
from ssimgen.runs.checkpoints import Checkpoint
from ssimgen.training import (
    CheckpointError,
    Hardware,
    Hook,
    Interrupted,
    NotFiniteError,
    Optimiser,
    RunFolder,
    Training,
    iteration,
    load_model,
    read_metrics,
    train,
)

SHORT = Training(iterations=12, batch=8, log_every=4, picture_every=6, checkpoint_every=5, keep=2)


def fit(
    folder: Path,
    model: Toy | None = None,
    *,
    data: Images | None = None,
    training: Training = SHORT,
    optimiser: Optimiser = Optimiser(),  # noqa: B008
    hooks: tuple[Hook, ...] = (),
    resume: bool = False,
) -> Toy:
    """Train the toy; returns it."""
    model = model or Toy()
    train(
        model, data or images(), folder, training=training, optimiser=optimiser, hooks=hooks, resume=resume,
        hardware=Hardware(accelerator="cpu"),
    )  # fmt: skip
    return model


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    """Whether two models agree bit for bit, buffers included."""
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def signal_at(iteration: int, signum: int) -> Hook:
    """A hook that sends this process a signal after some iteration."""

    def run(_: nn.Module, done: int) -> dict[str, float]:
        if done == iteration:
            os.kill(os.getpid(), signum)
        return {}

    return Hook(1, run)


# --- what moves ---------------------------------------------------------------------------------------------------


def test_only_the_modules_of_a_step_require_gradients(tmp_path: Path) -> None:
    model = fit(tmp_path)
    assert [name for name, _ in model.calls] == ["autoencoder", "critic"] * 12
    for name, required in model.calls:
        others = name == "autoencoder"
        assert required == {"encoder": others, "decoder": others, "critic": not others}


def test_an_iteration_is_plain_gradient_descent_on_the_weighted_terms(tmp_path: Path) -> None:
    model, reference = Toy(), Toy()
    data, training = images(), Training(iterations=1, batch=8, seed=3)
    fit(tmp_path, model, data=data, training=training, optimiser=Optimiser("sgd", lr=0.5, momentum=0.0))

    torch.manual_seed(iteration.seed_of(3, 0))
    batch = next(data.batches(8, 3))
    terms = reference.fit(batch)
    moving = [*reference.encoder.parameters(), *reference.decoder.parameters()]
    gradients = torch.autograd.grad(2 * terms["error"] + 0.5 * terms["moment"], moving)
    with torch.no_grad():
        for p, g in zip(moving, gradients, strict=True):
            p -= 0.5 * g
    critic = list(reference.critic.parameters())
    gradients = torch.autograd.grad(reference.judge(batch)["score"], critic)
    with torch.no_grad():
        for p, g in zip(critic, gradients, strict=True):
            p -= 0.5 * g
    for key, value in reference.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], value, msg=key)


def test_steps_are_taken_as_often_and_as_long_as_they_ask(tmp_path: Path) -> None:
    model = fit(tmp_path, Toy(ToyConfig(every=3, span=(0.25, 0.75))))  # iterations 3 ... 8, of which 3 and 6
    order = [name for name, _ in model.calls]
    assert order.count("critic") == 2
    assert order[4] == order[8] == "critic"


def test_learning_rates_follow_the_schedule_over_the_span_of_the_step(tmp_path: Path) -> None:
    training = Training(iterations=8, batch=8, log_every=1)
    model = Toy(ToyConfig(span=(0.0, 0.5), lr_scale=0.1))
    fit(tmp_path, model, training=training, optimiser=Optimiser("sgd", lr=0.8, schedule="linear"))
    lines = read_metrics(tmp_path)
    assert [line["autoencoder/lr"] for line in lines] == pytest.approx([0.8 * (1 - i / 8) for i in range(8)])
    assert [line["critic/lr"] for line in lines[:4]] == pytest.approx([0.08 * (1 - i / 4) for i in range(4)])


def test_clipping_bounds_the_move(tmp_path: Path) -> None:
    model, before = Toy(), Toy()
    optimiser = Optimiser("sgd", lr=1.0, momentum=0.0, clip=1e-3)
    fit(tmp_path, model, training=Training(iterations=1, batch=8), optimiser=optimiser)
    parts = ("encoder", "decoder")
    moved = torch.cat(
        [
            (p - q).flatten()
            for part in parts
            for p, q in zip(getattr(model, part).parameters(), getattr(before, part).parameters(), strict=True)
        ]
    )
    assert moved.norm().item() == pytest.approx(1e-3, rel=1e-3)


def test_the_average_is_the_recursion_of_its_definition(tmp_path: Path) -> None:
    history: list[Tensor] = []
    training = Training(iterations=6, batch=8, ema=0.5, checkpoint_every=6)
    model = Toy()
    first = model.decoder[0].weight.detach().clone()
    live = model.decoder[0].weight

    original = model.judge

    def spy(batch: Batch) -> dict[str, Tensor]:
        history.append(live.detach().clone())  # the critic's step comes after the weights have moved
        return original(batch)

    model.judge = spy  # type: ignore[method-assign]
    seen: list[Tensor] = []
    fit(
        tmp_path,
        model,
        training=training,
        hooks=(Hook(6, lambda m, _: seen.append(m.decoder[0].weight.clone()) or {}),),
    )
    average = first
    for t, weight in enumerate(history[1:], start=1):  # the first was the rehearsal, before training
        decay = min(0.5, (1 + t) / (10 + t))
        average = decay * average + (1 - decay) * weight
    torch.testing.assert_close(seen[0], average)
    assert torch.equal(model.decoder[0].weight, history[-1])  # and the live weights are back
    stored = safetensors.torch.load_file(tmp_path / "checkpoints" / "00000006.safetensors")
    torch.testing.assert_close(stored["average.decoder.0.weight"], average)
    assert "average.encoder.1.weight" not in stored


# --- what is left behind ------------------------------------------------------------------------------------------


def test_a_run_folder_holds_configuration_metrics_pictures_and_the_latest_checkpoints(tmp_path: Path) -> None:
    data = images()
    fit(tmp_path, data=data)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model"] == "toy"
    assert config["shape"] == [1, 4, 4]
    assert config["config"]["latent"] == 3
    assert config["training"]["iterations"] == 12
    assert config["data"] == {"source": "noise", "images": 40, "classes": 4, "hash": data.digest}
    assert config["versions"]["torch"] == torch.__version__
    assert [line["iteration"] for line in read_metrics(tmp_path)] == [4, 8, 12]
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [
        "00000010.safetensors",
        "00000012.safetensors",
    ]
    for kind, size in (("samples", (8 * 6 + 2, 8 * 6 + 2)), ("reconstructions", (8 * 6 + 2, 8 * 6 + 2))):
        files = sorted((tmp_path / kind).iterdir())
        assert [p.name for p in files] == ["00000006.png", "00000012.png"]
        assert pictures.read(files[0]).shape == (1, *size)


def test_lines_of_the_log_are_means_since_the_last(tmp_path: Path) -> None:
    every = Training(iterations=8, batch=8, log_every=1)
    fit(tmp_path / "every", training=every)
    fit(tmp_path / "fourth", training=Training(iterations=8, batch=8, log_every=4))
    each = [line["autoencoder/error"] for line in read_metrics(tmp_path / "every")]
    means = [line["autoencoder/error"] for line in read_metrics(tmp_path / "fourth")]
    assert means == pytest.approx([np.mean(each[:4]), np.mean(each[4:])])


def test_terms_fall(tmp_path: Path) -> None:
    fit(tmp_path, training=Training(iterations=200, batch=8), optimiser=Optimiser(lr=0.01))
    lines = read_metrics(tmp_path)
    assert lines[-1]["autoencoder/error"] < 0.9 * lines[0]["autoencoder/error"]


def test_hooks_are_logged_and_change_nothing(tmp_path: Path) -> None:
    plain = fit(tmp_path / "plain")

    def meddle(model: nn.Module, iteration: int) -> dict[str, float]:
        assert not model.training
        assert not torch.is_grad_enabled()
        torch.rand(100)
        return {"score": float(iteration)}

    hooked = fit(tmp_path / "hooked", hooks=(Hook(5, meddle),))
    assert same_weights(plain, hooked)
    scores = [(line["iteration"], line["score"]) for line in read_metrics(tmp_path / "hooked") if "score" in line]
    assert scores == [(5, 5.0), (10, 10.0), (12, 12.0)]


def test_the_callers_random_numbers_are_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    model = Toy()
    torch.manual_seed(5)
    fit(tmp_path, model)
    assert torch.equal(torch.rand(3), expected)


def test_tensorboard_gets_the_metrics(tmp_path: Path) -> None:
    fit(tmp_path, training=Training(iterations=4, batch=8, log_every=2, tensorboard=True))
    (events,) = (tmp_path / "tensorboard").rglob("events.out.tfevents.*")
    assert b"autoencoder/error" in events.read_bytes()


def test_mixed_precision_trains_and_resumes(tmp_path: Path) -> None:
    hardware = Hardware(accelerator="cpu", precision="bf16-mixed")
    for iterations, resume in ((4, False), (8, True)):
        model, training = Toy(), Training(iterations=iterations, batch=8, log_every=1)
        train(model, images(), tmp_path, training=training, hardware=hardware, resume=resume)
    assert model.decoder[0].weight.dtype == torch.float32
    assert all(np.isfinite(line["autoencoder/error"]) for line in read_metrics(tmp_path))
    whole = Toy()
    train(whole, images(), tmp_path / "whole", training=Training(iterations=8, batch=8), hardware=hardware)
    assert same_weights(whole, model)


def test_seeds_give_different_runs(tmp_path: Path) -> None:
    a = fit(tmp_path / "a", training=Training(iterations=2, batch=8, seed=0))
    b = fit(tmp_path / "b", training=Training(iterations=2, batch=8, seed=1))
    c = fit(tmp_path / "c", training=Training(iterations=2, batch=8, seed=1))
    assert not same_weights(a, b)
    assert same_weights(b, c)


# --- resuming -----------------------------------------------------------------------------------------------------

EVERYTHING = {
    "training": Training(iterations=12, batch=8, ema=0.9, log_every=5, checkpoint_every=100),
    "optimiser": Optimiser(lr=0.01, schedule="cosine", warmup=0.2, clip=1.0),
}


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("method", ["adam", "sgd"])
def test_an_interrupted_run_resumes_to_the_same_bits(tmp_path: Path, signum: int, method: str) -> None:
    options = {**EVERYTHING, "optimiser": Optimiser(method, lr=0.01, schedule="cosine", warmup=0.2, clip=1.0)}
    whole = fit(tmp_path / "whole", Toy(ToyConfig(every=2, dropout=0.3)), **options)
    with pytest.raises(Interrupted, match=f"stopped by {signal.Signals(signum).name} after iteration 7") as stop:
        fit(tmp_path / "parts", Toy(ToyConfig(every=2, dropout=0.3)), hooks=(signal_at(7, signum),), **options)
    assert stop.value.signum == signum
    resumed = Toy(ToyConfig(every=2, dropout=0.3))
    with torch.no_grad():
        resumed.decoder[0].weight.zero_()  # everything comes from the checkpoint
    fit(tmp_path / "parts", resumed, resume=True, **options)
    assert same_weights(whole, resumed)
    last = ("checkpoints", "00000012.safetensors")
    a, b = (safetensors.torch.load_file(tmp_path.joinpath(run, *last)) for run in ("whole", "parts"))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    logs = [
        [{k: v for k, v in x.items() if k != "seconds"} for x in read_metrics(tmp_path / r)] for r in ("whole", "parts")
    ]
    assert logs[0] == logs[1]


def test_signal_handlers_are_put_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted):
        fit(tmp_path, hooks=(signal_at(2, signal.SIGTERM),))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_signals_that_are_ignored_stay_so(tmp_path: Path) -> None:
    """As below nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        fit(tmp_path, hooks=(signal_at(2, signal.SIGHUP),))
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_terminal_that_hangs_up_twice_does_not_cost_the_checkpoint(tmp_path: Path) -> None:
    hooks = (signal_at(2, signal.SIGHUP), signal_at(2, signal.SIGHUP))
    with pytest.raises(Interrupted, match="stopped by SIGHUP after iteration 2"):
        fit(tmp_path, hooks=hooks)
    assert latest(tmp_path).name == "00000002.safetensors"


CLOSED = """
import signal
import sys
import time
from pathlib import Path
from toys import Toy, images
from ssimgen.training import Hook, Interrupted, Training, train

def closed(_, done):
    if done == 5:
        print("ready", flush=True)
        while signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # until the end of the terminal was noticed
            time.sleep(0.01)
    return {}

try:
    training = Training(iterations=9, batch=8)
    train(Toy(), images(), Path(sys.argv[1]), training=training, hooks=(Hook(1, closed),))
except Interrupted as stop:
    print(stop)
    sys.exit(128 + stop.signum)
"""


def test_a_terminal_that_closes_below_the_bar_is_told_as_such(tmp_path: Path) -> None:
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    process, terminal = pty.fork()
    if process == 0:
        environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        os.execve(sys.executable, [sys.executable, "-c", CLOSED, str(tmp_path / "run")], environment)
    seen = b""
    with contextlib.suppress(OSError):
        while b"ready" not in seen:
            seen += os.read(terminal, 10_000)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 128 + signal.SIGHUP
    assert latest(tmp_path / "run").name == "00000005.safetensors"


def test_a_stopped_run_leaves_pictures_and_its_log_is_that_of_any_other(tmp_path: Path) -> None:
    def score(_: nn.Module, done: int) -> dict[str, float]:
        return {"score": done}

    for name, stop in (("whole", ()), ("parts", (signal_at(5, signal.SIGTERM),))):
        with contextlib.suppress(Interrupted):
            fit(tmp_path / name, hooks=(Hook(4, score), *stop))
    for kind in ("samples", "reconstructions"):
        assert [file.name for file in (tmp_path / "parts" / kind).iterdir()] == ["00000005.png"]
    fit(tmp_path / "parts", hooks=(Hook(4, score),), resume=True)
    logs = [[x["iteration"] for x in read_metrics(tmp_path / name)] for name in ("whole", "parts")]
    assert logs[0] == logs[1]


def crash_after(iteration: int) -> Hook:
    """A hook in which the machine loses power."""

    def run(_: nn.Module, done: int) -> dict[str, float]:
        if done == iteration:
            raise RuntimeError("power cut")
        return {}

    return Hook(1, run)


def test_a_run_that_died_before_its_first_checkpoint_begins_anew(tmp_path: Path) -> None:
    training = Training(iterations=6, batch=8, log_every=1, checkpoint_every=100)
    whole = fit(tmp_path / "whole", training=training)
    with pytest.raises(RuntimeError, match="power cut"):
        fit(tmp_path / "parts", training=training, hooks=(crash_after(4),))
    with (tmp_path / "parts" / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 4, "torn')
    assert same_weights(whole, fit(tmp_path / "parts", training=training, resume=True))
    assert [line["iteration"] for line in read_metrics(tmp_path / "parts")] == list(range(1, 7))


def test_what_killed_writers_left_is_removed_on_resume(tmp_path: Path) -> None:
    fit(tmp_path)
    places = ["checkpoints/.00000014.safetensors.a1b2_c3d.tmp", "samples/.00000014.png.abcdefgh.tmp"]
    for place in (*places, ".config.json.abcdefgh.tmp", ".notes.txt.abcdefgh.tmp"):
        (tmp_path / place).write_bytes(b"half")
    fit(tmp_path, resume=True)
    assert [file.name for file in tmp_path.rglob("*.tmp")] == [".notes.txt.abcdefgh.tmp"]


def test_the_log_is_on_disk_before_a_checkpoint_relies_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    real = os.fsync

    def note(descriptor: int) -> None:
        order.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name.strip("."))
        real(descriptor)

    monkeypatch.setattr(_files.os, "fsync", note)
    fit(tmp_path, training=Training(iterations=3, batch=8, log_every=1))
    first = next(i for i, name in enumerate(order) if name.startswith("00000003.safetensors"))
    assert "metrics.jsonl" in order[:first]


def test_a_finished_run_is_left_alone(tmp_path: Path) -> None:
    fit(tmp_path)
    files = ("metrics.jsonl", "checkpoints/00000012.safetensors")
    before = [(tmp_path / file).read_bytes() for file in files]
    fit(tmp_path, resume=True)
    assert [(tmp_path / file).read_bytes() for file in files] == before
    config = (tmp_path / "config.json").read_bytes()
    with pytest.raises(CheckpointError, match="was trained for 12 iterations, more than 8: set iterations to as many"):
        fit(tmp_path, training=dataclasses.replace(SHORT, iterations=8), resume=True)
    assert (tmp_path / "config.json").read_bytes() == config


def test_metrics_after_the_checkpoint_are_written_anew(tmp_path: Path) -> None:
    training = Training(iterations=12, batch=8, log_every=1, checkpoint_every=5)

    def crash(_: nn.Module, done: int) -> dict[str, float]:
        if done == 8:
            raise RuntimeError("power cut")
        return {}

    with pytest.raises(RuntimeError, match="power cut"):
        fit(tmp_path, training=training, hooks=(Hook(1, crash),))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 9, "torn')
    fit(tmp_path, training=training, resume=True)
    assert [line["iteration"] for line in read_metrics(tmp_path)] == list(range(1, 13))


def test_a_finished_run_can_go_on_longer(tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole", training=Training(iterations=20, batch=8))
    fit(tmp_path / "more", training=Training(iterations=12, batch=8))
    more = fit(tmp_path / "more", training=Training(iterations=20, batch=8), resume=True)
    assert same_weights(whole, more)
    assert json.loads((tmp_path / "more" / "config.json").read_text())["training"]["iterations"] == 20


# --- refusals -----------------------------------------------------------------------------------------------------


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


def latest(folder: Path) -> Path:
    """The file of the latest checkpoint."""
    return max((folder / "checkpoints").iterdir())


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    fit(tmp_path)
    path = latest(tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"00000012.safetensors is not a checkpoint, or is truncated or damaged"):
        fit(tmp_path, resume=True)


def written_again(path: Path, sign: bool = True, **changes: Any) -> Path:
    """A checkpoint with other entries in its header, with the right checksum or, as of old, without."""
    checkpoint = checkpoints.load(path)
    changed = Checkpoint(checkpoint.tensors, {**checkpoint.about, **changes})
    if sign:
        checkpoints.save(path, changed)
    else:
        about = json.dumps({"format": checkpoints.FORMAT, **changed.about})
        safetensors.torch.save_file(dict(changed.tensors), path, metadata={"ssimgen": about})
    return path


def test_every_byte_of_a_checkpoint_counts(tmp_path: Path) -> None:
    fit(tmp_path)
    path = latest(tmp_path)
    sound = path.read_bytes()
    header = int.from_bytes(sound[:8], "little") + 8
    for at in [*range(0, header, 7), *range(header, len(sound), 23), len(sound) - 1]:
        for bit in (0, 5):
            content = bytearray(sound)
            content[at] ^= 1 << bit
            path.write_bytes(content)
            with pytest.raises(CheckpointError, match=r"00000012\.safetensors .*: remove it to go on from 00000010"):
                checkpoints.load(path)
    path.unlink()
    assert same_weights(fit(tmp_path, resume=True), fit(tmp_path / "whole"))


def test_checkpoints_of_earlier_versions_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "toy", (Toy, ToyConfig))
    model = fit(tmp_path)
    written_again(latest(tmp_path), sign=False, log=None)
    assert same_weights(model, load_model(tmp_path))
    fit(tmp_path, resume=True)


@pytest.mark.parametrize("sign", [True, False])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, sign: bool) -> None:
    fit(tmp_path)
    path = latest(tmp_path)
    checkpoints.load(path).tensors["model.critic.2.weight"][0, 3] = float("nan")  # not the file's
    tensors = {**checkpoints.load(path).tensors}
    tensors["model.critic.2.weight"] = torch.full((1, 16), float("nan"))
    checkpoints.save(path, Checkpoint(tensors, checkpoints.load(path).about))
    with pytest.raises(CheckpointError, match=r"12\.safetensors is of no use: model\.critic\.2\.weight is not finite"):
        fit(tmp_path, resume=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"iteration": "12"}, "option iteration must be int, got '12'"),
        ({"iteration": 12.0}, r"option iteration must be int, got 12\.0"),
        ({"iteration": True}, "option iteration must be int, got True"),
        ({"iteration": 10**9}, "is not the checkpoint that it is called: its header says iteration 1000000000"),
        ({"iteration": -1}, "iteration is -1"),
        ({"seconds": None}, "option seconds must be float, got None"),
        ({"seconds": float("nan")}, "seconds is nan"),
        ({"seconds": 10**400}, "option seconds must be float"),
        ({"shape": "abc"}, "option shape must be"),
        ({"shape": [1, 4, 0]}, r"shape is \[1, 4, 0\]"),
        ({"config": []}, "option config must be"),
        ({"sums": {"totals": 1, "counts": {}}}, r"option sums\.totals must be"),
        ({"sums": {"totals": {"a": 1.0}, "counts": {"a": 0}}}, "sums do not have a count for each total"),
        ({"precision": "x"}, "option precision must be"),
        ({"model": 3}, "option model must be a text, got 3"),
        ({"more": 3}, "unknown option more"),
    ],
)
@pytest.mark.parametrize("sign", [True, False])
def test_headers_that_cannot_be_are_refused(tmp_path: Path, changes: dict[str, Any], message: str, sign: bool) -> None:
    fit(tmp_path, training=Training(iterations=12, batch=8, checkpoint_every=10))
    written_again(latest(tmp_path), sign, **changes)
    for read in (load_model, lambda folder: fit(folder, resume=True)):
        with pytest.raises(CheckpointError, match=message) as refused:
            read(tmp_path)
        assert "00000012.safetensors" in str(refused.value)
        assert "remove it to go on from 00000010.safetensors" in str(refused.value)


def test_stray_checkpoints_are_refused_and_other_files_no_matter(tmp_path: Path) -> None:
    fit(tmp_path)
    for name in ("1.safetensors", "9-mine.safetensors", "123456789.safetensors"):
        (tmp_path / "checkpoints" / name).write_bytes(b"")
    fit(tmp_path, resume=True)
    stray = tmp_path / "checkpoints" / "99999999.safetensors"
    stray.write_bytes((tmp_path / "checkpoints" / "00000012.safetensors").read_bytes())
    with pytest.raises(
        CheckpointError, match=r"99999999\.safetensors is not the checkpoint .*: remove it to go on from"
    ):
        fit(tmp_path, resume=True)
    stray.unlink()
    fit(tmp_path, resume=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": None}, "'training' is None, not a table: train the run again"),
        ({"hardware": "gpu"}, "'hardware' is 'gpu', not a table: train the run again"),
        ({"optimiser": {"lr": "fast"}}, r"option optimiser\.lr must be float, got 'fast'"),
        ({"training": {"iteration": 3}}, r"it has no 'training\.seed'"),
        ({"shape": [1, 4]}, "option shape must be"),
        (
            {"training": {"seed": 1, "iterations": 2, "iteration": 3}},
            r"unknown option training\.iteration: did you mean",
        ),
        ({"data": {"source": "noise"}}, r"it has no 'data\.images'"),
        ({"config": {"latent": 4, "every": 1}}, "its content does not have its checksum: restore it"),
    ],
)
def test_a_damaged_configuration_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    fit(tmp_path)
    path = tmp_path / "config.json"
    sound = path.read_text()
    path.write_text(json.dumps({**json.loads(sound), **changes}))
    with pytest.raises(ValueError, match=f"config.json is damaged: {message}"):
        fit(tmp_path, resume=True)
    path.write_text(sound)
    fit(tmp_path, resume=True)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda lines: [*lines[:2], "{}", *lines[2:]],
            r"metrics.jsonl is damaged: line 3 is '\{\}' \(it has no 'iteration'\): restore it, or remove",
        ),
        (
            lambda lines: [*lines[:2], "[" * 99999, *lines[2:]],
            r"metrics.jsonl is damaged: line 3 is '\[.*\(nested too deep",
        ),
        (
            lambda lines: [*lines[:2], '{"iteration": "3"}'],
            r"metrics.jsonl is damaged: line 3 is .*'iteration' is '3', not a whole number",
        ),
        (
            lambda lines: [*lines[:2], *lines[3:]],
            "metrics.jsonl is damaged: its lines up to iteration 10 are not those",
        ),
        (
            lambda lines: [*lines[:2], *lines[1:]],
            "metrics.jsonl is damaged: its lines up to iteration 10 are not those",
        ),
        (lambda lines: [], "metrics.jsonl is damaged: its lines up to iteration 10 are not those"),
    ],
    ids=["empty object", "nested", "type", "lost", "doubled", "emptied"],
)
def test_a_damaged_log_is_named(tmp_path: Path, damage: Any, message: str) -> None:
    training = Training(iterations=12, batch=8, log_every=1, checkpoint_every=5)
    with pytest.raises(RuntimeError, match="power cut"):
        fit(tmp_path, training=training, hooks=(crash_after(12),))
    log = tmp_path / "metrics.jsonl"
    lines = log.read_text().splitlines()
    log.write_text("".join(f"{line}\n" for line in damage(lines)))
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, training=training, resume=True)
    log.unlink()  # the remedy
    fit(tmp_path, training=training, resume=True)
    assert [line["iteration"] for line in read_metrics(tmp_path)] == [11, 12]
    fit(tmp_path, training=dataclasses.replace(training, iterations=13), resume=True)


def test_a_pickle_is_not_executed(tmp_path: Path) -> None:
    fit(tmp_path)
    torch.save({"model": torch.zeros(1)}, latest(tmp_path))
    with pytest.raises(CheckpointError, match="is not a checkpoint, or is truncated or damaged"):
        load_model(tmp_path)


def test_checkpoints_of_other_models_and_formats_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit(tmp_path / "a")
    fit(tmp_path / "b", Toy(ToyConfig(latent=5)))
    latest(tmp_path / "a").write_bytes(latest(tmp_path / "b").read_bytes())
    with pytest.raises(CheckpointError, match=r"is of another run: it has config.latent = 5, not 3"):
        fit(tmp_path / "a", resume=True)
    with pytest.raises(CheckpointError, match="is of a model 'toy'"):
        load_model(tmp_path / "b")
    safetensors.torch.save_file({"a": torch.zeros(1)}, latest(tmp_path / "a"))
    with pytest.raises(CheckpointError, match="is a safetensors file, but not a checkpoint of ssimgen"):
        load_model(tmp_path / "a")
    monkeypatch.setattr("ssimgen.runs.checkpoints.FORMAT", 2)
    with pytest.raises(CheckpointError, match=r"has checkpoint format 1, this version of ssimgen reads 2"):
        load_model(tmp_path / "b")


def test_loaded_models_are_the_trained_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "toy", (Toy, ToyConfig))
    model = fit(tmp_path / "plain")
    loaded = load_model(tmp_path / "plain")
    assert same_weights(model, loaded)
    assert not loaded.training
    assert same_weights(loaded, load_model(latest(tmp_path / "plain")))
    averaged = fit(tmp_path / "averaged", training=Training(iterations=12, batch=8, ema=0.9))
    loaded = load_model(tmp_path / "averaged")
    assert torch.equal(loaded.encoder[1].weight, averaged.encoder[1].weight)
    assert not torch.equal(loaded.decoder[0].weight, averaged.decoder[0].weight)


# --- failures -----------------------------------------------------------------------------------------------------


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


# --- several processes --------------------------------------------------------------------------------------------


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
"""


def test_two_processes_give_the_gradients_of_one(tmp_path: Path) -> None:
    """With half the batch each; the toy's loss has a term that is no mean over images, and noise."""
    script = tmp_path / "parallel.py"
    script.write_text(PARALLEL)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, script, tmp_path / "two"], check=True, env=environment, timeout=240, capture_output=True
    )
    training = Training(iterations=6, batch=8, ema=0.9, log_every=2)
    fit(tmp_path / "one", training=training, optimiser=Optimiser("sgd", lr=0.1, clip=1.0))
    one, two = (safetensors.torch.load_file(latest(tmp_path / name)) for name in ("one", "two"))
    start = Toy().state_dict()
    for part in ("encoder", "decoder"):
        for key in (key for key in start if key.startswith(part)):
            a, b = one[f"model.{key}"], two[f"model.{key}"]
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6, msg=key)
            assert (a - start[key]).abs().max() > 1e-3  # it did move
    for a, b in zip(read_metrics(tmp_path / "one"), read_metrics(tmp_path / "two"), strict=True):
        assert a["autoencoder/moment"] == pytest.approx(b["autoencoder/moment"], rel=1e-4)
