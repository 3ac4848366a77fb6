"""Machine code on disk: never that of another kernel, of other sources, or of a damaged file.

Most of it is tested with small kernels beside a copy of the sources, which need no PyTorch and compile in no time.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ssimgen
from new_processes import Processes
from oracles import ssim as oracle
from ssimgen import Window
from ssimgen.engine import fused

TOY = """
import numpy as np
from ssimgen.engine.fused.compilation import compiled
from ssimgen.engine.fused.filters import filters_factor
from ssimgen.engine.fused.vectors import vectors_factor

def toy_kernel(size):
    SIZE = size
    def toy(x):
        total = 0.0
        for i in range(x.size):
            total += x[i] * SIZE
        return total * filters_factor() * vectors_factor()
    return compiled(toy)

def run(size):
    kernel = toy_kernel(size)
    return kernel(np.array([1.0, 2.0, 3.0])), sum(kernel.stats.cache_hits.values()) == 1
"""
HELPER = """
from numba import njit
@njit
def {name}_factor():
    return 1.0
"""
SCRIPT = """
import os, json, sys, numba
from pathlib import Path
sys.path[:0] = {path!r}
from forks import Fork, all_orders, alone, in_turns

cache, package = Path({cache!r}), Path({package!r})

def run(size):
    "The toy's value for 1, 2, 3 and whether its code came from disk."
    from ssimgen.engine.fused import toy
    return toy.run(size)

{code}
print(json.dumps(result))
"""

Script = Callable[..., Any]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The kernels, with a toy that calls functions of two other modules, in an otherwise empty package."""
    folder = tmp_path / "ssimgen" / "engine" / "fused"
    shutil.copytree(Path(fused.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (folder.parent, folder.parent.parent):
        (path / "__init__.py").touch()
    (folder / "toy.py").write_text(TOY)
    for name in ("filters", "vectors"):
        with (folder / f"{name}.py").open("a") as source:
            source.write(HELPER.format(name=name))
    return folder


@pytest.fixture
def script(package: Path, tmp_path: Path, processes: Processes) -> Script:
    """What code in a new process leaves in `result`. See SCRIPT for what it has at hand."""

    def run(code: str, **environment: str) -> Any:
        cache = tmp_path / "cache"
        path = [str(tmp_path), str(Path(ssimgen.__file__).parent.parent), str(Path(__file__).parent)]
        written = SCRIPT.format(path=path, cache=str(cache), package=str(package), code=code)
        paths = {"PYTHONPATH": os.pathsep.join(path)}  # of processes that it starts
        done = processes.run(written, **{"NUMBA_CACHE_DIR": str(cache), **paths, **environment})
        assert not done.stderr
        assert done.returncode == 0
        return json.loads(done.stdout)

    return run


def kept(folder: Path) -> list[Path]:
    """All files of compiled code, whole or not."""
    return sorted(path for path in folder.rglob("*.nb*") if path.is_file())


# --- several processes ------------------------------------------------------------------------------------------


def test_a_log_says_once_why_it_takes_time(script: Script) -> None:
    """In the process that compiles, not in the next."""
    code = """
import logging
lines = []
log = logging.getLogger("ssimgen")
log.addHandler(type("Lines", (logging.Handler,), {"emit": lambda self, record: lines.append(record.getMessage())})())
log.setLevel(logging.INFO)
run(2.0), run(3.0)
result = lines
"""
    (said,) = script(code)
    assert said.startswith("compiling kernels for this CPU, once; they are kept in ")
    assert script(code) == []


def test_two_processes_in_every_order(script: Script) -> None:
    """They compile two variants of one kernel into an empty cache; a third finds the code of both, and the right one.

    They stop before each file that they open or rename. How often that is, one process alone shows.
    """
    outcomes = script("""
run(2)  # what follows finds numba ready
[fork] = in_turns([lambda: run(3)], [], cache)
result = []
for number, order in enumerate(all_orders(fork.touches)):
    folder = cache / str(number)
    numba.config.CACHE_DIR = str(folder)
    forks = in_turns([lambda: run(3), lambda: run(5)], order, folder)
    result.append([order, [fork.result for fork in forks], alone(lambda: [run(3), run(5)])])
""")
    assert len(outcomes) > 1
    for order, both, afterwards in outcomes:
        assert both == [[18.0, False], [30.0, False]], order
        assert afterwards == [[18.0, True], [30.0, True]], order


def test_eight_processes_at_once(script: Script) -> None:
    """All stand before the same file, go on in another order each time, and a ninth finds the code of each."""
    compiled, found = script("""
run(1)
orders = [(turn + fork) % 8 for turn in range(12) for fork in range(8)]
forks = in_turns([lambda size=size: run(size) for size in range(2, 10)], orders, cache)
result = [fork.result for fork in forks], alone(lambda: [run(size) for size in range(2, 10)])
""")
    assert compiled == [[6.0 * size, False] for size in range(2, 10)]
    assert found == [[6.0 * size, True] for size in range(2, 10)]


def test_ssim_of_windows_compiled_at_once(tmp_path: Path, processes: Processes) -> None:
    """Two windows' own kernels; the processes reach each file together, and neither is always the first."""
    code = f"""
import json, sys
from pathlib import Path
import torch
sys.path.insert(0, {str(Path(__file__).parent)!r})
from forks import alone, in_turns
from ssimgen import Window, ssim
from ssimgen.engine.fused import compilation
from ssimgen.engine.fused.pair_kernels import VALUES
compilation.MUCH_WORK = 0
x, y = torch.rand(2, 1, 1, 9, 9, generator=torch.Generator().manual_seed(0))

def run(size):
    value = ssim(x, y, data_range=1.0, window=Window.uniform(size)).item()
    kernel = VALUES.fit((size, size, 1, 1), 0, True, 2).func
    return value, sum(kernel.stats.cache_hits.values()) == 1

forks = in_turns([lambda: run(2), lambda: run(3)], [0, 1, 0, 1, 1, 0, 1, 0] * 2, Path({str(tmp_path)!r}))
print(json.dumps([[fork.result for fork in forks], alone(lambda: [run(2), run(3)])]))
"""
    done = processes.run(code, NUMBA_CACHE_DIR=str(tmp_path))
    assert not done.stderr
    compiled, found = json.loads(done.stdout)
    x, y = torch.rand(2, 1, 1, 9, 9, generator=torch.Generator().manual_seed(0)).double().numpy()
    for size, (value, hit), (again, hit_again) in zip((2, 3), compiled, found, strict=True):
        squared = oracle.squared_map(x, y, form="product", data_range=1.0, window=Window.uniform(size))
        np.testing.assert_allclose([value, again], 1 - squared.mean(), rtol=0, atol=1e-6)
        assert (hit, hit_again) == (False, True)


# --- files that are not what they were --------------------------------------------------------------------------


def test_a_damaged_file_is_compiled_again(script: Script) -> None:
    """Empty, cut off, with any of its bits turned over, the file of another kernel, a folder: the value is right.

    Each case in a process of its own, as LLVM ends the process where it does not understand its input.
    """
    cases = script("""
import random
run(5)
[other] = cache.rglob("*.nbc")
numba.config.CACHE_DIR = str(cache / "3")
run(3)
[file] = (cache / "3").rglob("*.nbc")
whole = file.read_bytes()
choose = random.Random(0)
contents = {"empty": b"", "zeros": bytes(len(whole)), "longer": whole + b".", "of another kernel": other.read_bytes()}
for length in (1, 31, 32, 33, len(whole) // 2, len(whole) - 1):
    contents[f"cut at {length}"] = whole[:length]
for place in (0, 31, 32, 33, *(choose.randrange(len(whole)) for _ in range(8))):
    turned = bytes([whole[place] ^ 1 << choose.randrange(8)])
    contents[f"turned at {place}"] = whole[:place] + turned + whole[place + 1 :]
result = {}
for name, content in contents.items():
    file.write_bytes(content)
    result[name] = [alone(lambda: run(3)), alone(lambda: run(3))]
file.unlink()
file.mkdir()
result["a folder"] = [alone(lambda: run(3)), [18.0, True]]
""")
    assert len(cases) > 20
    assert cases == {name: [[18.0, False], [18.0, True]] for name in cases}


def test_a_change_of_what_a_kernel_calls_is_compiled(script: Script) -> None:
    """The file of the former sources goes, those of other kernels stay."""
    *values, files = script("""
result = [alone(lambda: run(2)), alone(lambda: run(2))]
[former] = cache.rglob("*.nbc")
former.with_name("toy.toy_kernel.locals.other-0-0.nbc").touch()
for name in ("filters", "vectors"):
    source = package / f"{name}.py"
    source.write_text(source.read_text().replace("return 1.0", "return 10.0"))
    result += [alone(lambda: run(2)), alone(lambda: run(2))]
result.append([file.name for file in cache.rglob("*.nbc") if file != former])
""")
    assert values == [[value, hit] for value in (12.0, 120.0, 1200.0) for hit in (False, True)]
    assert len(files) == 2
    assert "toy.toy_kernel.locals.other-0-0.nbc" in files


def test_sources_replaced_after_they_were_imported(script: Script, tmp_path: Path) -> None:
    """The old code works on where it is running, and is not kept under the name of the new."""
    code = """
from ssimgen.engine.fused import toy
source = package / "filters.py"
source.write_text(source.read_text().replace("return 1.0", "return 10.0"))
result = run(2)
"""
    assert script(code) == [12.0, False]
    assert not kept(tmp_path)
    assert script("result = run(2)") == [120.0, False]


def test_a_process_overtaken_by_new_sources_leaves_their_files(script: Script, tmp_path: Path) -> None:
    """What it compiles with the old sources is kept under their name, beside that of the new ones."""
    code = """
import subprocess, sys
from ssimgen.engine.fused import toy
kernel = toy.toy_kernel(2)
source = package / "filters.py"
source.write_text(source.read_text().replace("return 1.0", "return 10.0"))
subprocess.run([sys.executable, "-c", "from ssimgen.engine.fused import toy; toy.run(2)"], check=True)
[new] = cache.rglob("*.nbc")
result = kernel(toy.np.array([1.0, 2.0, 3.0])), new.exists()
"""
    assert script(code) == [12.0, True]
    assert len(kept(tmp_path)) == 2
    assert script("result = run(2)") == [120.0, True]


# --- folders that cannot be written -----------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written_is_no_error(script: Script, package: Path, tmp_path: Path) -> None:
    """Neither where the user says, nor beside the sources, nor in the user's cache folder can code be kept."""
    (package / "__pycache__").touch()  # a file in the place of the folder stops even the superuser
    (tmp_path / "cache").touch()
    assert script("result = run(2)", HOME=os.devnull, XDG_CACHE_HOME=os.devnull) == [12.0, False]
    assert not kept(tmp_path)


def test_code_is_kept_beside_the_sources(script: Script, package: Path) -> None:
    assert script("result = alone(lambda: run(2)), alone(lambda: run(2))", NUMBA_CACHE_DIR="") == [
        [12.0, False],
        [12.0, True],
    ]
    assert len(kept(package / "__pycache__")) == 1


def test_a_full_disk_leaves_no_half_of_a_file(script: Script, tmp_path: Path) -> None:
    """The disk takes the first bytes of the file and no more."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"
    assert script(f"from ssimgen.engine.fused import toy; {limit}; result = run(2)") == [12.0, False]
    assert not kept(tmp_path)


def test_a_numba_with_another_cache_compiles_in_each_process(script: Script, tmp_path: Path) -> None:
    missing = "import numba.core.caching; del numba.core.caching.CompileResultCacheImpl"
    assert script(f"{missing}; result = run(2)") == [12.0, False]
    assert not kept(tmp_path)


def test_a_kernel_that_closes_over_more_than_numbers_is_not_kept(script: Script, tmp_path: Path) -> None:
    """There is no telling from outside whether two such values are the same."""
    code = """
from ssimgen.engine.fused.compilation import compiled
def kernel(sizes):
    def toy(x):
        return x * sizes[0]
    return compiled(toy)
result = kernel((2.0,))(3.0), kernel((4.0,))(3.0)
"""
    assert script(code) == [6.0, 12.0]
    assert not kept(tmp_path)
