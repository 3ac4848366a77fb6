"""`python tests/mutation/mutation.py`: whether the tests notice one wrong operator, number, bound or missing call.

    make mutants
    python tests/mutation/mutation.py --modules report/statistics engine/eager --sample 20 --seed 1 --bar 0.9
    python tests/mutation/mutation.py --modules pairwise --list

`mutants` says what is changed, `TESTS` which tests must go red. A mutant lives in a copy of the sources, with machine
code of its own where it changes kernels; the tests run against it until the first failure. Results are appended to a
file, a line each, and taken from there the next time, so that a run may be broken off: a killed mutant until its
module changes, a survivor until its module or its tests change. A larger sample of the same seed contains the smaller.
Exit status 1 if a module scores under the bar.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from queue import SimpleQueue
from threading import Lock

from equivalent import EQUIVALENT
from mutants import Mutant, mutants

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "ssimgen"

_SIMILARITY = ("test_similarity.py", "test_similarity_properties.py")
_PAIRS, _ALL_PAIRS = "engine/test_fused_pairs.py", "engine/test_all_pairs.py"
_VOLUMES = "engine/test_fused_volumes.py"
# Of each module, stages of arguments of pytest: the later stages are for what survives the earlier ones.
TESTS: dict[str, list[list[str]]] = {
    "similarity": [
        [*_SIMILARITY, "test_range_check.py"],
        ["test_scales.py", "test_losses.py", "test_pairwise.py", "test_masks.py", "test_ranges.py"],
    ],
    "_request": [[*_SIMILARITY], ["test_arguments.py", "test_pairwise.py"]],
    "_scales": [["test_scales.py"], ["test_losses.py", "test_presets.py", "test_masks.py"]],
    "_masks": [["test_masks.py"]],
    "components/pairs": [["test_component_maps.py"], ["test_masks.py"]],
    "components/metric": [["test_components.py"], ["test_masks.py"]],
    "pairwise": [["test_pairwise.py"], ["test_masks.py"]],
    **{
        f"kernels/{name}": [["test_kernels.py"], ["test_discrepancy.py", "test_features.py"]]
        for name in ("kernel", "distance", "similarity")
    },
    "discrepancy/matrices": [
        ["test_discrepancy.py"],
        ["test_losses_of_samples.py", "test_streaming.py", "test_kernels.py"],
    ],
    "discrepancy/embedding": [["test_discrepancy.py"], ["test_features.py"]],
    "discrepancy/two_sample": [["test_discrepancy.py"], ["evaluation/test_sets.py"]],
    "report/statistics": [["report/test_statistics.py"]],
    "_holm": [["test_holm.py"]],
    "objectives/structure": [["objectives"]],
    "objectives/reconstruction": [["objectives/test_reconstruction.py"]],
    "objectives/adversarial": [["objectives/test_adversarial.py"]],
    "objectives/moment_matching": [
        ["objectives/test_moment_matching.py", "objectives/test_thinning.py"],
        ["models/test_gmmn.py"],
    ],
    "objectives/distances": [["objectives/test_moment_matching.py"]],
    "objectives/thinning": [["objectives/test_thinning.py"]],
    "objectives/lipschitz": [["objectives/test_lipschitz.py"], ["models/test_gan.py"]],
    "objectives/deep": [["objectives/test_deep.py"]],
    "evaluation/estimates": [["evaluation/test_estimates.py"], ["evaluation/test_distributions.py"]],
    "evaluation/distributions": [["evaluation/test_distributions.py"]],
    "evaluation/manifolds": [["evaluation/test_manifolds.py"]],
    "evaluation/classification": [["evaluation/test_classification.py"]],
    "commands/compare": [["test_cli.py", "-k", "compare"]],
    "engine/eager": [
        [*_SIMILARITY],
        ["engine/test_dispatch.py", "fuzz/test_fuzz.py", "-k", "dispatch or random_calls or wrong_once"],
    ],
    "engine/eager_all_pairs": [[_ALL_PAIRS], ["test_pairwise.py", "test_masks.py"]],
    "engine/axes": [["test_axes.py", "-k", "values or gradients"], ["test_axes.py", "test_masks.py"]],
    "engine/masked": [["test_masks.py"]],
    "engine/fused/filters": [["engine/test_own_kernels.py", "-k", "all_pairs"], [_ALL_PAIRS]],
    "engine/fused/pairs": [[_PAIRS], ["fuzz/test_fuzz.py", "-k", "random_calls or wrong_once"]],
    "engine/fused/volumes": [[_VOLUMES], ["test_axes.py"]],
    "engine/fused/volume_kernels": [[_VOLUMES, "-k", "cube or parts"], [_VOLUMES]],
    "engine/fused/all_pairs": [[_ALL_PAIRS], ["fuzz/test_fuzz.py", "-k", "random_calls or wrong_once"]],
    "engine/fused/pair_kernels": [
        [_PAIRS, "-k", "(agreement or cut) and (two or lopsided)"],
        [_PAIRS, "fuzz/test_fuzz.py", "-k", "(not_a_number and pixel) or wrong_once"],
    ],
    "engine/fused/all_pairs_kernels": [
        [_ALL_PAIRS, "-k", "fills_the_lanes or against_itself"],
        [_ALL_PAIRS, "-k", "(definition and fused) or flat_parts"],
    ],
}
_NO_INTERFACE = ("engine/", "commands/", "report/", "_holm", "evaluation/distributions")
for _module in TESTS:  # what a caller may say, and what is taken if nothing is said
    if not _module.startswith(_NO_INTERFACE):
        TESTS[_module].append(["test_defaults.py", "test_arguments.py"])

KERNELS = tuple(  # of engine/fused, what is compiled
    f"engine/fused/{name}" for name in ("filters", "pair_kernels", "volume_kernels", "all_pairs_kernels")
)

KILLED, SURVIVED, TIMEOUT = "killed", "survived", "timeout"
PATIENCE, LEAST_LIMIT = 5, 120  # limits: so many times what the unchanged sources take, seconds of processor time
WAITING = 10  # times that long by the clock, for mutants that wait for ever; a loaded machine is no endless mutant


class Worker:
    """A folder with a copy of the sources, in which one mutant at a time is tested."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.limits: dict[str, float] = {}
        self.process: subprocess.Popen[str] | None = None
        self.stopped = False

    def result(self, module: str, mutant: Mutant) -> tuple[str, str]:
        """What became of the mutant, and the test that killed it."""
        for stage in TESTS[module]:
            limit = self._limit(module, stage)
            status, output = self._run(module, mutant.text, stage, limit)
            if status is None:
                return TIMEOUT, f"{limit:.0f} s"
            if status:
                lines = (line for line in output.splitlines() if line.startswith(("FAILED", "ERROR")))
                return KILLED, next(lines, f"exit status {status}")
        return SURVIVED, ""

    def stop(self) -> None:
        self.stopped = True
        if self.process is not None:
            _kill(self.process)

    def _limit(self, module: str, stage: list[str]) -> float:
        """The processor time that a process of the tests of a mutant has, from the time by the clock of a run without
        one, which is no less, as there is one thread; that run must pass, and need the module."""
        name = repr((module, stage))
        if name not in self.limits:
            begin = time.monotonic()
            status, output = self._run(module, _file(module).read_bytes(), stage, None)
            if status:
                raise RuntimeError(f"pytest {' '.join(stage)} fails without a mutant:\n{output}")
            self.limits[name] = max(LEAST_LIMIT, PATIENCE * (time.monotonic() - begin))
            if self._run(module, b"raise RuntimeError", stage, None)[0] == 0:
                raise RuntimeError(f"pytest {' '.join(stage)} does without {module}")
        return self.limits[name]

    def _run(self, module: str, text: bytes, stage: list[str], limit: float | None) -> tuple[int | None, str]:
        """Exit status of the tests, None if they took too long, and what they wrote."""
        source, kept = self.folder / "src", self.folder / "kernels"
        shutil.rmtree(source, ignore_errors=True)
        shutil.copytree(PACKAGE, source / "ssimgen", ignore=shutil.ignore_patterns("__pycache__"))
        (source / "ssimgen" / f"{module}.py").write_bytes(text)
        with tempfile.TemporaryDirectory(dir=self.folder) as own:
            environment = {
                **os.environ,
                "PYTHONPATH": f"{source}{os.pathsep}{Path(__file__).parent}",
                "NUMBA_CACHE_DIR": own if module in KERNELS else str(kept),
                "OMP_NUM_THREADS": "1",
                "KERNEL_SOURCES": _kernel_sources(),
            }
            plugins = ["-p", "no:cacheprovider"] + ["-p", "same_kernels"] * (module not in KERNELS)
            words = [f"tests/{word}" if (ROOT / "tests" / word.split("::")[0]).exists() else word for word in stage]
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pytest", "-x", "-q", "--tb=short", *plugins, *words],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
                preexec_fn=None if limit is None else partial(_limit_processor_time, limit),
            )
            with self.process:
                try:
                    wait = None if limit is None else WAITING * limit
                    output = "" if self.stopped else self.process.communicate(timeout=wait)[0]
                except subprocess.TimeoutExpired:
                    return None, ""
                finally:
                    _kill(self.process)
        if self.process.returncode == -signal.SIGXCPU:
            return None, ""
        if self.stopped or self.process.returncode in (-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP):
            raise InterruptedError("the tests were stopped from outside, which says nothing of the mutant")
        return self.process.returncode, output


def _limit_processor_time(seconds: float) -> None:
    """Of this process, and of each that it starts: more of it ends them by SIGXCPU."""
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds), resource.RLIM_INFINITY))


def _kill(process: subprocess.Popen[str]) -> None:
    """It, and what it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@cache
def _kernel_sources() -> str:
    """As `ssimgen.engine.fused.compilation` names the unchanged kernels."""
    modules = sorted((PACKAGE / "engine" / "fused").glob("*.py"))
    return sha256(repr([(module.name, module.read_bytes()) for module in modules]).encode()).hexdigest()


def _file(module: str) -> Path:
    return PACKAGE / f"{module}.py"


def _tests(module: str) -> str:
    """A digest of the tests of a module."""
    parts: list[object] = [TESTS[module]]
    for word in (word for stage in TESTS[module] for word in stage):
        path = ROOT / "tests" / word.split("::")[0]
        files = sorted(path.glob("test_*.py")) if path.is_dir() else [path] if path.exists() else []
        parts += [file.read_bytes() for file in files]
    return sha256(repr(parts).encode()).hexdigest()[:16]


def _reason(module: str, mutant: Mutant) -> str | None:
    """Why no test can tell the mutant from the program, if none can."""
    return EQUIVALENT.get((module, mutant.line), {}).get(mutant.change)


def drawn(module: str, seed: int, sample: int | None) -> list[Mutant]:
    """The first so many mutants of a module that are none in disguise, in an order that the seed says."""
    found = [mutant for mutant in mutants(_file(module).read_bytes()) if _reason(module, mutant) is None]
    random.Random(f"{seed} {module}").shuffle(found)
    return found[:sample]


class Results:
    """What became of mutants, on disk and in memory."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, Lock()
        lines = path.read_text().splitlines() if path.exists() else []
        self._found = {entry["key"]: entry for entry in map(json.loads, lines)}

    def of(self, module: str, mutant: Mutant) -> dict | None:
        entry = self._found.get(mutant.key)
        return None if entry and entry["result"] == SURVIVED and entry["tests"] != _tests(module) else entry

    def add(self, module: str, mutant: Mutant, result: str, by: str, seconds: float) -> None:
        entry = {
            "key": mutant.key,
            "module": module,
            "number": mutant.number,
            "line": mutant.line,
            "change": mutant.change,
            "result": result,
            "by": by,
            "seconds": round(seconds, 1),
            "tests": _tests(module),
        }
        with self._lock:
            self._found[mutant.key] = entry
            with self._path.open("a") as file:
                file.write(json.dumps(entry) + "\n")


def try_all(todo: list[tuple[str, Mutant]], jobs: int, results: Results) -> None:
    """Try mutants that have no result yet."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(jobs) as pool:
        workers = [Worker(Path(folder) / str(i)) for i in range(jobs)]
        free: SimpleQueue[Worker] = SimpleQueue()
        for worker in workers:
            worker.folder.mkdir()
            free.put(worker)

        def test(module: str, mutant: Mutant) -> None:
            worker, begin = free.get(), time.monotonic()
            try:
                result, by = worker.result(module, mutant)
            finally:
                free.put(worker)
            seconds = time.monotonic() - begin
            results.add(module, mutant, result, by, seconds)
            print(f"{result:8} {seconds:4.0f} s  {where(module, mutant)}  {by}", flush=True)

        futures = [pool.submit(test, *each) for each in todo]
        try:
            for future in as_completed(futures):
                future.result()
        finally:
            for future in futures:
                future.cancel()
            for worker in workers:
                worker.stop()


def where(module: str, mutant: Mutant) -> str:
    return f"src/ssimgen/{module}.py:{mutant.number}: {mutant.change}"


def report(chosen: dict[str, list[Mutant]], results: Results, path: Path | None) -> float:
    """Print the score of each module and its survivors; the least score."""
    scores, survivors = {}, []
    for module, some in chosen.items():
        entries = [(mutant, results.of(module, mutant)) for mutant in some]
        counts = Counter(entry["result"] for _, entry in entries if entry)
        tried = sum(counts.values())
        every = mutants(_file(module).read_bytes())
        scores[module] = {
            "score": 1 - counts[SURVIVED] / tried if tried else 1.0,
            **{result: counts[result] for result in (KILLED, TIMEOUT, SURVIVED)},
            "tried": tried,
            "mutants": len(every),
            "equivalent": sum(_reason(module, mutant) is not None for mutant in every),
        }
        survivors += [where(module, mutant) for mutant, entry in entries if entry and entry["result"] == SURVIVED]
    print(
        f"\n{'module':34} {'score':>6} {'killed':>7} {'timeout':>8} {'survived':>9} {'tried':>6} {'of':>5} equivalent"
    )
    for module, row in scores.items():
        print(
            f"{module:34} {row['score']:6.1%} {row['killed']:7} {row['timeout']:8} {row['survived']:9} "
            f"{row['tried']:6} {row['mutants']:5} {row['equivalent']:4}"
        )
    tried, survived = (sum(row[name] for row in scores.values()) for name in ("tried", "survived"))
    print(f"{'all':34} {1 - survived / max(1, tried):6.1%} {tried} tried, {survived} survived\n")
    print("\n".join(survivors))
    if path is not None:
        path.write_text(json.dumps({"modules": scores, "survivors": survivors}, indent=2) + "\n")
    return min(row["score"] for row in scores.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--modules", nargs="+", choices=TESTS, default=list(TESTS), metavar="MODULE", help=", ".join(TESTS)
    )
    parser.add_argument("--sample", type=int, help="so many mutants of each module, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the order in which mutants are drawn")
    parser.add_argument("--jobs", type=int, default=1, help="mutants tested at once")
    parser.add_argument("--bar", type=float, default=0.0, help="least score of each module, 0 to 1")
    parser.add_argument("--results", type=Path, default=ROOT / "build" / "mutants.jsonl", help="appended to and read")
    parser.add_argument("--json", type=Path, help="where scores and survivors are written")
    parser.add_argument("--list", action="store_true", help="name the mutants, test none")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    chosen = {module: drawn(module, options.seed, options.sample) for module in options.modules}
    if options.list:
        print("\n".join(where(module, mutant) for module, some in chosen.items() for mutant in some))
        return 0
    options.results.parent.mkdir(parents=True, exist_ok=True)
    results = Results(options.results)
    todo = [(module, mutant) for module, some in chosen.items() for mutant in some if not results.of(module, mutant)]
    try_all(todo, options.jobs, results)
    return 1 if report(chosen, results, options.json) < options.bar else 0


if __name__ == "__main__":
    sys.exit(main())
