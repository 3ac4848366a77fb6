"""Faults: what a training run must survive, tried at random for as long as one likes.

    python tests/faults/faults.py --minutes 10 --seed 0
    python tests/faults/faults.py --seed 1234 --cases 1        # that case again

A case trains a tiny model, lets something happen to it, and goes on as the messages say. In the end the weights, their
averages and the state of the optimisers must be, bit for bit, those of a run to which nothing happened, the log must
have the same lines, no process and no temporary file may be left, and every command must have ended with the exit code
that it promises and at most one line of text. The number of a case is its seed; it fixes everything but time.

Most runs are forks of this process, which has everything imported and compiled; "start" and "cache" begin anew.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from ssimgen import _interruption
from ssimgen.cli import main as ssimgen
from ssimgen.models import MODELS
from ssimgen.training import read_metrics

ITERATIONS, HALF = 30, 14
OPTIONS = [
    *("--batch", "16", "--latent", "2", "--ema", "0.9", "--log-every", "1"),
    *(
        "--checkpoint-every",
        "7",
        "--keep",
        "5",
        "--picture-every",
        "10",
        "--network.kind",
        "mlp",
        "--network.hidden",
        "8",
    ),
]
OF_MODEL = {"vae": ["--tau", "0.1"], "cgmmn": ["--num-classes", "2"]}
TOLD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE = 180.0  # seconds, after which a command counts as hanging

STUDY = """
seeds = [0]
[training]
iterations = {iterations}
batch = 16
log_every = 1
checkpoint_every = 7
[evaluation]
images = 20
tested = 20
permutations = 19
resolution = 32
resamples = 20
[data]
noise = {{ data = "{data}" }}
[models.vae]
baseline = "l2"
options = {{ tau = 0.1, latent = 2, network = {{ kind = "mlp", hidden = [8] }} }}
variants = {{ l2 = {{ options = {{ objective = "l2" }} }}, ssim = {{}} }}
"""


class Wrong(Exception):  # noqa: N818 - a finding
    """Something that may not be."""


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, or minus the number of the signal that killed it, and what it said."""

    code: int
    said: str
    seconds: float

    def __str__(self) -> str:
        return f"exit code {self.code}, {self.said.strip()[-600:]!r}"


@dataclass(frozen=True)
class Result:
    """What a run left."""

    tensors: dict[str, Tensor]
    lines: list[dict[str, float]]

    @classmethod
    def of(cls, run: Path) -> Result:
        """The last checkpoint of a run, and its log without the time that it took."""
        last = max((run / "checkpoints").glob("*.safetensors"))
        lines = [{k: v for k, v in line.items() if not k.endswith("seconds")} for line in read_metrics(run)]
        return cls(safetensors.torch.load_file(last), lines)


# --- commands -------------------------------------------------------------------------------------------------------


def forked(
    words: Sequence[object],
    *,
    after: float | None = None,
    signum: int = 0,
    group: bool = False,
    limit: int | None = None,
) -> Ended:
    """`ssimgen WORDS` in a fork of this process; a signal `after` so many seconds, to all its processes as a terminal
    does if they are told as a `group`; or no file longer than `limit`."""
    said, ready = os.pipe(), os.pipe()
    process = os.fork()
    if process == 0:
        code = 70
        try:
            os.setsid()
            os.dup2(said[1], 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
            signal.signal(signal.SIGINT, signal.default_int_handler)
            _interruption.install()
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            os.write(ready[1], b".")
            code = ssimgen([str(word) for word in words])
        except SystemExit as stop:
            code = int(stop.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(said[1])
    os.read(ready[0], 1)
    for end in ready:
        os.close(end)
    started = time.monotonic()
    code = _waited(process, after, signum, group)
    os.set_blocking(said[0], False)
    text = b""
    with suppress(BlockingIOError):
        text = os.read(said[0], 2**16)
    os.close(said[0])
    return Ended(code, text.decode(), time.monotonic() - started)


def fresh(words: Sequence[object], *, after: float | None = None, signum: int = 0, cache: Path | None = None) -> Ended:
    """`ssimgen WORDS` in a new interpreter; the time runs from when it first can answer a signal."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if cache is not None:
        environment["NUMBA_CACHE_DIR"] = str(cache)
    with tempfile.TemporaryFile() as said:
        command = [sys.executable, "-m", "ssimgen", *map(str, words)]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True, env=environment
        )
        started = time.monotonic()
        while after is not None and process.poll() is None and not _answers(process.pid):
            time.sleep(0.002)
        code = _waited(process.pid, after, signum)
        process.returncode = code
        said.seek(0)
        return Ended(code, said.read().decode(), time.monotonic() - started)


def _answers(process: int) -> bool:
    """Whether a process has a handler for SIGTERM."""
    caught = next(x for x in Path(f"/proc/{process}/status").read_text().splitlines() if x.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def _waited(process: int, after: float | None, signum: int, group: bool = False) -> int:
    """The exit code of a process, which must not leave others behind; the signal may be to its group."""
    deadline = time.monotonic() + PATIENCE
    if after is not None:
        time.sleep(after)
        with suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(process, signum)
    while (found := os.waitpid(process, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            raise Wrong(f"did not end within {PATIENCE:g} s")
        time.sleep(0.005)
    deadline = time.monotonic() + 20
    while left := [*_children(process)]:
        if time.monotonic() > deadline:
            for other in left:
                os.kill(other, signal.SIGKILL)
            raise Wrong(f"left {len(left)} processes behind")
        time.sleep(0.1)
    return os.waitstatus_to_exitcode(found[1])


def _children(parent: int) -> Iterator[int]:
    """Processes that are alive, and whose environment or session tells that they come from `parent`."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError, ValueError, IndexError):
                state, above, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
                if state != "Z" and parent in (int(session), _started_by(int(above), folder)):
                    yield int(folder.name)


def _started_by(above: int, folder: Path) -> int:
    """The process that spawned this worker, by what multiprocessing told it; `above` is 1 once that is gone."""
    words = (folder / "cmdline").read_bytes().split(b"\0")
    spawned = [word for word in words if b"parent_pid=" in word]
    return int(spawned[0].split(b"parent_pid=")[1].split(b",")[0].split(b")")[0]) if spawned else above


# --- what must hold -------------------------------------------------------------------------------------------------


def expect(ended: Ended, *codes: int, says: str = "") -> None:
    """Raise unless a command ended so, saying nothing if all is well and one line otherwise."""
    lines = ended.said.splitlines()
    if ended.code not in codes:
        raise Wrong(f"{ended}, expected {' or '.join(map(str, codes))}")
    silent = ended.code in (0, -signal.SIGKILL)
    if len(lines) != (0 if silent else 1) or not all(line.startswith("ssimgen: ") for line in lines):
        raise Wrong(f"{ended}, expected {'nothing' if silent else 'one line'}")
    if not silent and says not in ended.said:
        raise Wrong(f"{ended}, expected {says!r} in it")


def expect_stopped(ended: Ended, signum: int) -> None:
    """Raise unless a signal stopped a command as promised, or came too late."""
    if signum == signal.SIGKILL:
        expect(ended, -signal.SIGKILL, 0)
    else:
        expect(ended, 128 + signum, 0, says=f"stopped by {signal.Signals(signum).name}")


def expect_same(run: Path, whole: Result) -> None:
    """Raise unless a run has the weights and the log of one to which nothing happened, and no litter."""
    found = Result.of(run)
    if found.tensors.keys() != whole.tensors.keys():
        raise Wrong("the last checkpoint has other tensors")
    if different := [key for key, x in whole.tensors.items() if not torch.equal(x, found.tensors[key])]:
        raise Wrong(f"{len(different)} tensors differ, such as {different[0]}")
    if found.lines != whole.lines:
        raise Wrong(f"the log differs: {len(found.lines)} lines of {len(whole.lines)}")
    if litter := [file.name for file in run.rglob("*") if file.name.endswith(".tmp") or file.name.startswith("tmp")]:
        raise Wrong(f"litter: {', '.join(litter)}")


# --- cases ----------------------------------------------------------------------------------------------------------


class Place:
    """A folder with images, and the runs to which nothing happened, each made when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        values = np.random.default_rng(0).integers(0, 256, (40, 12, 12), dtype=np.uint8)
        for i, pixels in enumerate(values):
            path = self.data / "ab"[i % 2] / f"{i}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_png(path.with_suffix(".png"), pixels)
        self._made: dict[str, tuple[Any, float]] = {}
        self._count = 0

    def words(self, model: str, run: Path) -> list[object]:
        """The command that trains a model, or goes on with what is there."""
        if (run / "config.json").exists():
            return ["train", model, "-o", run, "--resume"]
        needed = OF_MODEL.get(model, [])
        return ["train", model, "-o", run, "--data", self.data, *OPTIONS, *needed, "--iterations", ITERATIONS]

    def new(self) -> Path:
        """A folder that does not exist yet."""
        self._count += 1
        return self.folder / f"{self._count}" / "run"

    def whole(self, model: str) -> tuple[Result, float]:
        """What the model comes to, and the seconds that it takes."""
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            warm = [*self.words(model, self.new()), "--iterations", 2]  # imports and kernels, for all forks
            self._once(f"warm {model}", lambda _: ssimgen([str(word) for word in warm]))
        return self._once(f"whole {model}", lambda run: self._trained(model, run))

    def half(self, model: str) -> Path:
        """A run as it is when it is killed some iterations after the checkpoint of HALF, to be copied."""

        def cut(run: Path) -> Path:
            self._trained(model, run)
            for file in (run / "checkpoints").iterdir():
                if int(file.stem) > HALF:
                    file.unlink()
            log = run / "metrics.jsonl"
            log.write_text("".join(log.read_text().splitlines(keepends=True)[: HALF + 5]))
            return run

        return self._once(f"half {model}", cut)[0]

    def study(self) -> tuple[Path, dict[str, Result], float]:
        """A study file, what its runs come to, and the seconds that it takes."""
        (file, results), seconds = self._once("study", self._studied)
        return file, results, seconds

    def cache(self) -> tuple[Path, float]:
        """A folder of compiled kernels."""

        def fill(run: Path) -> Path:
            folder = run.parent / "cache"
            expect(fresh(self.words("vae", run), cache=folder), 0)
            return folder

        return self._once("cache", fill)

    def _once(self, name: str, make: Callable[[Path], Any]) -> tuple[Any, float]:
        if name not in self._made:
            started = time.monotonic()
            self._made[name] = make(self.new()), time.monotonic() - started
        return self._made[name]

    def _trained(self, model: str, run: Path) -> Result:
        expect(forked(self.words(model, run)), 0)
        return Result.of(run)

    def _studied(self, run: Path) -> tuple[Path, dict[str, Result]]:
        run.mkdir(parents=True)
        images, file = run / "noise.npy", run / "study.toml"
        np.save(images, np.random.default_rng(0).integers(0, 256, (120, 12, 12), dtype=np.uint8))
        file.write_text(STUDY.format(iterations=ITERATIONS, data=images))
        ended = forked(["study", file, "-o", run / "out"])  # which tells of each run
        if ended.code != 0:
            raise Wrong(f"a study to which nothing happened: {ended}")
        return file, self.studied(run / "out")

    def studied(self, folder: Path) -> dict[str, Result]:
        """What the runs of a study came to, by their folders in it."""
        runs = [config.parent for config in sorted(folder.rglob("config.json"))]
        return {str(run.relative_to(folder)): Result.of(run) for run in runs}


def _write_png(path: Path, pixels: Any) -> None:
    from PIL import Image

    Image.fromarray(pixels).save(path)


def kill(place: Place, dice: random.Random) -> str:
    """Signals at random moments, up to three times, before the first checkpoint too."""
    model = dice.choice(list(MODELS))
    whole, seconds = place.whole(model)
    run, told = place.new(), []
    for _ in range(dice.randint(1, 3)):
        signum = dice.choice([*TOLD, signal.SIGKILL])
        told.append(signal.Signals(signum).name)
        after = dice.uniform(0, seconds) * dice.choice([0.3, 1.0])
        expect_stopped(forked(place.words(model, run), after=after, signum=signum), signum)
    expect(forked(place.words(model, run)), 0)
    expect_same(run, whole)
    return f"{model}, {', '.join(told)}"


def full(place: Place, dice: random.Random) -> str:
    """No file can grow beyond a length, and then it can."""
    model = dice.choice(list(MODELS))
    whole, _ = place.whole(model)
    largest = max(file.stat().st_size for file in place.half(model).rglob("*") if file.is_file())
    run, limit = place.new(), int(dice.uniform(0, 1.2) * dice.choice([largest, 4000]))
    expect(forked(place.words(model, run), limit=limit), 0, 1, 2)
    expect(forked(place.words(model, run)), 0)
    expect_same(run, whole)
    return f"{model}, files of at most {limit} bytes"


def small_disk(place: Place, dice: random.Random) -> str:
    """The file system is full, and then it is not; where this process may mount one."""
    model = dice.choice(list(MODELS))
    whole, _ = place.whole(model)
    run = place.new()
    run.parent.mkdir(parents=True)
    size = dice.randint(4, 200) * 1024
    with _mounted(run.parent, size) as grow:
        if grow is None:
            return "not allowed to mount here: file lengths are limited instead, see full"
        expect(forked(place.words(model, run)), 0, 1, 2)
        grow()
        expect(forked(place.words(model, run)), 0)
        expect_same(run, whole)
    return f"{model}, disk of {size} bytes"


@contextmanager
def _mounted(folder: Path, size: int) -> Iterator[Callable[[], None] | None]:
    """A file system in memory of so many bytes; yields what makes it large, or None if it cannot be had."""
    libc, name = ctypes.CDLL(None, use_errno=True), os.fsencode(folder)
    remount = 32
    if libc.mount(b"tmpfs", name, b"tmpfs", 0, f"size={size}".encode()) != 0:
        yield None
        return
    try:
        yield lambda: libc.mount(b"tmpfs", name, b"tmpfs", remount, b"size=100m")
    finally:
        libc.umount2(name, 2)


def damage(place: Place, dice: random.Random) -> str:
    """A file of a run is damaged: refused by its name, with a remedy that works, or without consequence."""
    model = dice.choice(list(MODELS))
    whole, _ = place.whole(model)
    run = place.new()
    shutil.copytree(place.half(model), run)
    latest = max((run / "checkpoints").iterdir())
    file = dice.choice([latest, latest, run / "config.json", run / "metrics.jsonl"])
    sound = file.read_bytes()
    how = _damaged(file, dice)
    told = forked(place.words(model, run))
    expect(told, 0, 2, says=file.name)
    what = f"{model}, {file.name} {how}"
    if file == latest:
        if told.code == 0:
            raise Wrong(f"a damaged checkpoint was taken up ({what})")
        for words in (
            ["sample", run, "-o", run / "x.png"],
            ["interpolate", run, "-o", run / "x.png"],
            ["evaluate", run],
        ):
            expect(forked(words), 2, says=file.name)
        if f"remove it to go on from {HALF // 2:08d}" not in told.said:
            raise Wrong(f"no remedy: {told}")
        file.unlink()
    elif told.code == 2:
        file.write_bytes(sound)
    expect(forked(place.words(model, run)), 0)
    expect_same(run, whole)
    return what


def _damaged(file: Path, dice: random.Random) -> str:
    """Damage a file; returns how."""
    content = bytearray(file.read_bytes())
    how = dice.choice(["flipped", "flipped", "flipped", "cut", "emptied", "garbled", "zeroed"])
    at = dice.randrange(len(content))
    if how == "flipped":
        content[at] ^= 1 << dice.randrange(8)
    elif how == "cut":
        del content[at:]
    elif how == "emptied":
        content.clear()
    elif how == "garbled":
        content[at : at + 16] = dice.randbytes(len(content[at : at + 16]))
    else:
        content[at:] = bytes(len(content) - at)
    file.write_bytes(content)
    return f"{how} at {at}"


def start(place: Place, dice: random.Random) -> str:
    """A signal at a random moment of a new interpreter: while it imports, loads, compiles, trains or ends."""
    model = dice.choice(list(MODELS))
    whole, _ = place.whole(model)
    run, signum = place.new(), dice.choice(TOLD)
    _, seconds = place._once("start", lambda run: expect(fresh(place.words("gan", run)), 0))
    expect_stopped(fresh(place.words(model, run), after=dice.uniform(0, 1.05 * seconds), signum=signum), signum)
    expect(forked(place.words(model, run)), 0)
    expect_same(run, whole)
    return f"{model}, {signal.Signals(signum).name}"


def cache(place: Place, dice: random.Random) -> str:
    """Files of compiled kernels are damaged: they are compiled again."""
    whole, _ = place.whole("vae")
    sound, _ = place.cache()
    run = place.new()
    folder = run.parent / "cache"
    shutil.copytree(sound, folder)
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    hit = dice.sample(files, dice.randint(1, len(files)))
    how = {_damaged(file, dice).split()[0] for file in hit}
    for _ in range(2):  # the second finds what the first has mended
        expect(fresh(place.words("vae", run), cache=folder), 0)
        expect_same(run, whole)
        shutil.rmtree(run)
    return f"{len(hit)} of {len(files)} files {', '.join(sorted(how))}"


def study(place: Place, dice: random.Random) -> str:
    """A signal at a random moment of a study, whose workers end too, and which then goes on."""
    file, whole, seconds = place.study()
    output, signum = place.new(), dice.choice([*TOLD, signal.SIGKILL])
    words = ["study", file, "-o", output, "--parallel", dice.randint(1, 2)]
    group = dice.random() < 0.5
    ended = forked(words, after=dice.uniform(0, seconds), signum=signum, group=group)
    codes = (-signal.SIGKILL, 0) if signum == signal.SIGKILL else (128 + signum, 0)
    if ended.code not in codes or "Traceback" in ended.said or "Exception ignored" in ended.said:
        raise Wrong(f"{ended}, expected {' or '.join(map(str, codes))} and no traceback")
    again = forked(words)
    if again.code != 0:
        raise Wrong(f"the same command does not go on: {again}")
    for name, result in whole.items():
        expect_same(output / name, result)
    return f"{signal.Signals(signum).name}{' to all' if group else ''}, {words[-1]} workers"


KINDS: dict[str, tuple[Callable[[Place, random.Random], str], int]] = {
    "kill": (kill, 10),
    "damage": (damage, 6),
    "full": (full, 3),
    "small disk": (small_disk, 1),
    "start": (start, 3),
    "study": (study, 1),
    "cache": (cache, 1),
}
"""Every kind of case, and how often it is drawn."""


@dataclass
class Tally:
    """Cases of a kind so far."""

    tried: int = 0
    notes: list[str] = dataclasses.field(default_factory=list)
    wrong: list[tuple[int, str]] = dataclasses.field(default_factory=list)


def main() -> int:
    """Try cases until the time is over; returns 1 if one went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--cases", type=int, default=10**9, help="at most so many")
    parser.add_argument("--seed", type=int, default=0, help="number of the first case")
    parser.add_argument("--kinds", default=",".join(KINDS), help="with commas between them")
    parser.add_argument("--verbose", action="store_true", help="a line for every case")
    chosen = parser.parse_args()
    kinds = [kind for kind in chosen.kinds.split(",") for _ in range(KINDS[kind][1])]
    torch.set_num_threads(1)
    tallies: dict[str, Tally] = defaultdict(Tally)
    deadline, number = time.monotonic() + 60 * chosen.minutes, chosen.seed
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        place = Place(Path(folder))
        while time.monotonic() < deadline and number < chosen.seed + chosen.cases:
            dice = random.Random(number)
            kind = dice.choice(kinds)
            tally = tallies[kind]
            tally.tried += 1
            try:
                note = KINDS[kind][0](place, dice)
                tally.notes.append(note)
            except Wrong as wrong:
                tally.wrong.append((number, str(wrong)))
                note = f"WRONG: {wrong}"
            if chosen.verbose or note.startswith("WRONG"):
                print(f"{number:>8}  {kind:<11}{note}", flush=True)
            number += 1
    print(f"{'kind':<12}{'cases':>6}{'wrong':>6}  seeds that went wrong, or remarks")
    for kind in chosen.kinds.split(","):
        tally = tallies[kind]
        remarks = [f"{seed}: {text}" for seed, text in tally.wrong] or sorted(
            {note for note in tally.notes if note.startswith("not ")}
        )
        print(f"{kind:<12}{tally.tried:>6}{len(tally.wrong):>6}  {'; '.join(remarks)}")
    return 1 if any(tally.wrong for tally in tallies.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
