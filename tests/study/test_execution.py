"""Carrying out a study: what is left on disk, what is skipped, resumed, refused, and how it stops."""

import contextlib
import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import filelock
import numpy as np
import pytest

from new_processes import Processes
from ssimgen.cli import main
from ssimgen.data import load_images
from ssimgen.study import Outcome, execution, make_plan, results, run_study, workers
from ssimgen.study.execution import is_finished
from ssimgen.study.plan import PlannedRun
from ssimgen.study.run import _wait_for_leftovers, carry_out
from ssimgen.training import RunFolder, read_metrics

EVALUATION = {"images": 20, "tested": 20, "permutations": 19, "resolution": 32, "resamples": 20}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 small noise images in a file."""
    path = tmp_path_factory.mktemp("images") / "noise.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (120, 12, 12), dtype=np.uint8))
    return path


def content(images: Path, iterations: int = 4, **changes: Any) -> dict[str, Any]:
    """A study of two tiny VAEs with two seeds."""
    network = {"kind": "mlp", "hidden": [8]}
    return {
        "seeds": [0, 1],
        "training": {"iterations": iterations, "batch": 16, "log_every": 1},
        "evaluation": EVALUATION,
        "data": {"noise": {"data": str(images)}},
        "models": {
            "vae": {
                "baseline": "l2",
                "primary": "feature distance",
                "options": {"tau": 0.1, "latent": 2, "network": network, "kl_target": 3.0},
                "variants": {"l2": {"options": {"objective": "l2"}}, "ssim": {}},
            }
        },
        **changes,
    }


def toml(path: Path, images: Path, iterations: int) -> Path:
    """The same as a file."""
    evaluation = "\n".join(f"{key} = {value}" for key, value in EVALUATION.items())
    path.write_text(
        f'''seeds = [0, 1]
[training]
iterations = {iterations}
batch = 16
log_every = 1
[evaluation]
{evaluation}
[data.noise]
data = "{images}"
[models.vae]
baseline = "l2"
primary = "feature distance"
options = {{ tau = 0.1, kl_target = 3.0, latent = 2, network = {{ kind = "mlp", hidden = [8] }} }}
[models.vae.variants.l2]
options = {{ objective = "l2" }}
[models.vae.variants.ssim]
'''
    )
    return path


BROKEN = """
[models.broken]
model = "vae"
seeds = [0]
options = { tau = 0.1, network = { kind = "mlp", hidden = [8] } }
variants = { wide = { options = { structure = { size = 13 } } } }
"""


@pytest.fixture(scope="module")
def carried_out(images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a study that two processes carried out, one run of which must fail, and what it complained."""
    folder = tmp_path_factory.mktemp("finished")
    file = toml(folder / "tiny.toml", images, 4)
    file.write_text(file.read_text() + BROKEN)
    complaints = io.StringIO()
    with contextlib.redirect_stderr(complaints):
        assert main(["study", str(file), "-o", str(folder / "out"), "--parallel", "2"]) == 2
    return folder / "out", complaints.getvalue()


@pytest.fixture(scope="module")
def finished(carried_out: tuple[Path, str]) -> Path:
    return carried_out[0]


def test_a_failure_does_not_stop_the_others(carried_out: tuple[Path, str]) -> None:
    output, complaints = carried_out
    last = complaints.splitlines()[-1]
    assert last.startswith("ssimgen: 1 runs failed, the first, runs/noise/broken/wide/seed-0, because ")
    assert "window of 13 x 13 px does not fit images of 12 x 12" in last
    assert not (output / "runs/noise/broken/wide/seed-0/config.json").exists()


def test_runs_are_trained_and_evaluated(finished: Path, images: Path) -> None:
    plan = make_plan(content(images), "tiny")
    for run in plan.runs:
        folder = RunFolder(finished / run.folder)
        assert folder.latest_iteration() == 4
        config = folder.read_config()
        assert config["study"]["variant"] == run.variant
        assert config["study"]["primary"] == "feature_distance"
        assert config["data"]["hash"] == load_images(str(images)).train.digest
        assert json.loads((folder.path / "evaluation.json").read_text())["iteration"] == 4
        assert is_finished(run, finished, plan.evaluation)


def test_finished_runs_are_skipped(finished: Path, images: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    # the same study, written down in another way
    outcomes = run_study(make_plan(content(images), "tiny"), finished)
    assert {outcome.status for outcome in outcomes} == {"skipped"}
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before


def test_tables_hold_every_run(finished: Path, images: Path) -> None:
    plan = make_plan(content(images), "tiny")
    records = results(plan, finished)
    for run in plan.runs:
        rows = json.loads((finished / run.folder / "evaluation.json").read_text())["rows"]
        mine = [r for r in records if r.folder == str(run.folder)]
        assert [(r.metric, r.value) for r in mine] == [(r["metric"], r["value"]) for r in rows]
        assert {(r.study, r.variant, r.seed) for r in mine} == {("tiny", run.variant, run.seed)}
    with (finished / "results.csv").open() as file:
        written = list(csv.DictReader(file))
    assert [float(r["value"]) for r in written] == [r.value for r in records]
    assert {r["trained_on"] for r in written if r["metric"] == "SSIM"} == {"no", "yes"}
    with (finished / "summary.csv").open() as file:
        compared = [r for r in csv.DictReader(file) if r["variant"] == "ssim" and r["metric"] == "SSIM"]
    values = {(r.variant, r.seed): r.value for r in records if r.metric == "SSIM"}
    expected = sum(values["ssim", seed] - values["l2", seed] for seed in (0, 1)) / 2
    assert float(compared[0]["difference"]) == pytest.approx(expected)


def test_primary_endpoints_have_a_table_of_their_own(finished: Path) -> None:
    with (finished / "primaries.csv").open() as file:
        (line,) = csv.DictReader(file)
    assert (line["variant"], line["baseline"], line["seeds"], line["verdict"]) == ("ssim", "l2", "2", "no verdict")
    assert line["why"] == "runs of the study are missing"  # that which failed


def test_tables_are_parquet_too(finished: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    for name in ("results", "summary", "matched"):
        with (finished / f"{name}.csv").open() as file:
            written = csv.DictReader(file)
            columns, rows = written.fieldnames, list(written)
        frame = pandas.read_parquet(finished / f"{name}.parquet")
        assert (list(frame.columns), len(frame)) == (columns, len(rows))
        if rows:
            assert list(frame["value"]) == [float(row["value"]) for row in rows]


def test_other_options_in_the_folder_are_refused(finished: Path, images: Path) -> None:
    other = content(images)
    other["models"]["vae"]["options"]["tau"] = 0.2
    with pytest.raises(ValueError, match=r"holds a run with config\.tau = 0\.1, but the study says 0\.2"):
        run_study(make_plan(other, "tiny"), finished)
    with pytest.raises(ValueError, match="holds a run of 4 iterations, more than the 2 of the study"):
        run_study(make_plan(content(images, 2), "tiny"), finished)
    fewer = content(images, data={"noise": {"data": str(images), "limit": 50}})
    with pytest.raises(ValueError, match="holds a run of other images than those that the study calls noise"):
        run_study(make_plan(fewer, "tiny"), finished)


def test_runs_of_seconds_end_by_them(finished: Path, images: Path, tmp_path: Path) -> None:
    plan = make_plan(content(images, training={"seconds": 0.05, "batch": 16}, seeds=[0]), "tiny")
    run = plan.runs[0]
    with pytest.raises(ValueError, match=r"holds a run of 4 iterations, not the 0\.05 seconds of the study"):
        run_study(plan, finished)
    carry_out(run, tmp_path, plan.evaluation, load_images(str(images)))
    assert is_finished(run, tmp_path, plan.evaluation)
    assert read_metrics(tmp_path / run.folder)[-1]["processor_seconds"] >= 0.05
    with pytest.raises(ValueError, match=r"holds a run of 0\.05 seconds, more than the 0\.01 of the study"):
        run_study(make_plan(content(images, training={"seconds": 0.01, "batch": 16}, seeds=[0]), "tiny"), tmp_path)


@pytest.mark.parametrize("damage", ["{", "{}", "[]", '{"iteration": 4}'])
def test_a_damaged_evaluation_is_made_again(finished: Path, images: Path, damage: str) -> None:
    plan = make_plan(content(images), "tiny")
    path = finished / plan.runs[0].folder / "evaluation.json"
    before = path.read_text()
    try:
        path.write_text(damage)
        assert not is_finished(plan.runs[0], finished, plan.evaluation)
    finally:
        path.write_text(before)
    assert is_finished(plan.runs[0], finished, plan.evaluation)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"noise": {"data": "nowhere"}}}, "no such data: 'nowhere'"),
        ({"training": {"batch": 1000}}, "fewer than a batch of 1000"),
        (
            {
                "models": {
                    "vae": {"options": {"tau": 0.1}, "variants": {"few": {}, "many": {"training": {"batch": 999}}}}
                }
            },
            "fewer than a batch of 999",
        ),
    ],
    ids=["missing images", "fewer images than a batch", "fewer than that of another variant"],
)
def test_data_are_checked_before_anything_is_written(
    images: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises((ValueError, OSError), match=message):
        run_study(make_plan(content(images, **changes), "tiny"), tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_budget_and_processes_are_checked(images: Path, tmp_path: Path) -> None:
    plan = make_plan(content(images), "tiny")
    with pytest.raises(ValueError, match="budget must be a positive number of minutes, got 0"):
        run_study(plan, tmp_path, budget=0)
    with pytest.raises(ValueError, match="parallel must be at least 1 process, got 0"):
        run_study(plan, tmp_path, parallel=0)


# --- the command --------------------------------------------------------------------------------------------------


def test_nothing_begins_when_the_budget_is_used_up(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = toml(tmp_path / "study.toml", images, 3)
    assert main(["study", str(file), "-o", str(tmp_path / "out"), "--budget", "1e-9"]) == 0
    assert "0 of 4 runs are finished; the same command goes on with the others" in capsys.readouterr().err
    assert not (tmp_path / "out" / "runs").exists()


def test_the_command_leaves_a_report_and_lists_runs(
    finished: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "tiny: noise" in (finished / "report" / "noise" / "index.html").read_text()
    file = toml(tmp_path / "tiny.toml", images, 4)
    assert main(["study", str(file), "-o", str(finished), "--list"]) == 0
    assert "finished  runs/noise/vae/l2/seed-0\n" in capsys.readouterr().out
    assert main(["study", str(file), "-o", str(tmp_path), "--list"]) == 0
    assert "0 of 4 runs are finished" in capsys.readouterr().out


def of_one_run(folder: Path, images: Path) -> Path:
    """The file of a study of one run, of 30,000 iterations."""
    file = toml(folder / "study.toml", images, 30_000)
    file.write_text(file.read_text().replace("[0, 1]", "[0]").replace("[models.vae.variants.ssim]\n", ""))
    return file


def only_run(folder: Path) -> RunFolder:
    return RunFolder(folder / "out" / "runs" / "noise" / "vae" / "l2" / "seed-0")


def real_command(file: Path, *words: str) -> "subprocess.Popen[str]":
    """A study, as in a terminal of its own."""
    command = [sys.executable, "-m", "ssimgen.cli", "study", str(file), "-o", str(file.parent / "out"), *words]
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True
    )


def begun(images: Path, folder: Path, *words: str) -> tuple["subprocess.Popen[str]", RunFolder]:
    """The real command, once its only run writes its log."""
    process = real_command(of_one_run(folder, images), *words)
    run = only_run(folder)
    until = time.monotonic() + 60
    while not run.metrics.exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert run.metrics.exists()
    return process, run


def go_on(run: RunFolder, images: Path) -> None:
    """Train the only run of the study a little further: no iteration is missing, none is done twice."""
    total = run.latest_iteration() + 20
    study = make_plan(content(images, total, seeds=[0]), "study")
    carry_out(study.runs[0], run.path.parents[4], study.evaluation, load_images(str(images)))
    assert run.latest_iteration() == total
    assert [line["iteration"] for line in read_metrics(run.path)] == list(range(1, total + 1))


def said_of_a_stop(run: RunFolder, done: int, signum: int) -> list[str]:
    """The lines of a study of one run that a signal has stopped."""
    return [
        f"stopped   runs/{run.path.relative_to(run.path.parents[3])}: after iteration {done}, checkpoint written",
        "0 of 1 runs are finished; the same command goes on with the others",
        f"ssimgen: stopped by {signal.Signals(signum).name}",
    ]


def test_a_stopped_study_says_what_stopped_it_and_goes_on(images: Path, tmp_path: Path) -> None:
    process, run = begun(images, tmp_path)
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
    _, error = process.communicate(timeout=60)
    done = run.latest_iteration()
    assert 0 < done < 30_000
    assert error.splitlines() == said_of_a_stop(run, done, signal.SIGINT)
    assert process.returncode == 130
    assert (tmp_path / "out" / "results.csv").exists()
    go_on(run, images)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_every_signal_that_stops_a_study_is_named(
    images: Path,
    tmp_path: Path,
    signum: signal.Signals,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Workers know nothing of which it was, and need not run."""

    def carried_out(runs: list[PlannedRun], *_: object) -> Iterator[Outcome]:
        for run in runs:
            os.kill(os.getpid(), signum)
            yield Outcome(run, "stopped", "after iteration 7, checkpoint written")

    monkeypatch.setattr(execution, "carried_out", carried_out)
    file = of_one_run(tmp_path, images)
    assert main(["study", str(file), "-o", str(tmp_path / "out")]) == code
    assert capsys.readouterr().err.splitlines() == said_of_a_stop(only_run(tmp_path), 7, signum)
    assert (tmp_path / "out" / "results.csv").exists()


def test_a_budget_that_is_used_up_says_so(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = only_run(tmp_path)
    later = SimpleNamespace(monotonic=lambda: time.monotonic() + 3600 * run.metrics.exists())
    monkeypatch.setattr(workers, "time", later)  # an hour passes as soon as training has begun
    file = toml(tmp_path / "study.toml", images, 30_000)
    assert main(["study", str(file), "-o", str(tmp_path / "out"), "--budget", "30"]) == 0
    done = run.latest_iteration()
    assert 0 < done < 30_000
    assert capsys.readouterr().err.splitlines() == [
        f"stopped   runs/noise/vae/l2/seed-0: after iteration {done}, checkpoint written",
        "budget used up",
        "0 of 4 runs are finished; the same command goes on with the others",
    ]


def test_a_killed_study_leaves_no_worker_and_goes_on(images: Path, tmp_path: Path) -> None:
    process, run = begun(images, tmp_path)
    process.kill()
    with filelock.FileLock(run.path / ".lock").acquire(timeout=8):
        assert run.latest_iteration() > 0  # it wrote a checkpoint before
    assert process.communicate(timeout=8) == (None, "")  # which ends when no process holds it
    go_on(run, images)


SIGNALLED = """
import os, signal
from types import SimpleNamespace
from ssimgen.study import workers

def told(*arguments, **named):
    os.kill(os.getpid(), signal.SIGTERM)
    return SimpleNamespace(start=lambda: None)

class Connection:
    def recv(self):
        if moment == "waiting":
            told()
        if moment == "the end" or said:
            raise EOFError
        return SimpleNamespace(source=None)

    def send(self, outcome):
        said.append(outcome)
        os.write(1, repr(outcome).encode())

moment, said = os.environ["MOMENT"], []
workers._end_with_parent = lambda: None
workers.load_images = lambda *arguments, **named: None
workers.carry_out = told if moment == "at work" else lambda *arguments: None
if moment == "the thread":
    workers.threading.Thread = told
if moment == "the number of threads":
    workers.torch.set_num_threads = told
workers._work(Connection(), ".", None, 1)
told()
"""


@pytest.mark.parametrize(
    ("moment", "said"),
    [
        ("the thread", ""),
        ("the number of threads", ""),
        ("waiting", ""),
        ("at work", "('stopped', '')"),
        ("the end", ""),
        ("never", "('finished', '')"),
    ],
)
def test_a_worker_that_is_told_to_stop_does_so_in_silence(moment: str, said: str, processes: Processes) -> None:
    """Wherever the signal meets it."""
    done = processes.run(SIGNALLED, MOMENT=moment)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", said)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="sees workers begin by /proc")
def test_ctrl_c_while_workers_begin_is_for_the_study_alone(images: Path, tmp_path: Path) -> None:
    """A terminal tells all processes, workers too that are still importing."""
    process = real_command(toml(tmp_path / "study.toml", images, 30_000), "--parallel", "2")
    until = time.monotonic() + 60
    while "spawn_main" not in children_of(process.pid) and time.monotonic() < until:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert "Traceback" not in said
    assert "failed" not in said
    assert said.splitlines()[-1] == "ssimgen: stopped by SIGINT"


def children_of(process: int) -> str:
    """What began its children."""
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        return " ".join(Path(f"/proc/{child}/cmdline").read_text() for child in children)
    return ""


def test_the_workers_of_a_killed_study_are_waited_for(tmp_path: Path) -> None:
    lock = filelock.FileLock(tmp_path / ".lock", thread_local=False)
    lock.acquire()
    threading.Timer(0.5, lock.release).start()
    started = time.monotonic()
    _wait_for_leftovers(tmp_path)
    assert 0.4 < time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a study file, or ask for --quick --data FOLDER"),
        (["--quick"], "--quick takes its images from --data"),
        (["nowhere.toml"], "cannot read options from nowhere.toml: No such file or directory"),
        (["a.toml", "--data", "x"], "--data, --size and --grey belong to --quick"),
    ],
    ids=["nothing", "quick without data", "no file", "data with a file"],
)
def test_bad_words(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", *words]) == 2
    assert message in capsys.readouterr().err
