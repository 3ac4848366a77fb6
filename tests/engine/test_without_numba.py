"""Without numba, or without names of PyTorch that are not public, everything is computed all the same."""

import json
import re
from pathlib import Path

import pytest

from environments import without
from new_processes import Processes

COMPUTE = """
import json, warnings
import torch
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import ssimgen
    from ssimgen import Window, pairwise
    from ssimgen.losses import EnergyLoss, MSSSIMLoss
    from ssimgen.metrics import StructuralDistance
    x, y = torch.rand(2, 3, 1, 16, 16, generator=torch.Generator().manual_seed(0)).requires_grad_().unbind(0)
    volumes = torch.rand(2, 1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(1))
    with ssimgen.warmup():
        numbers = [ssimgen.ssim(x, y, data_range=1.0), ssimgen.ssim_map(x, y, data_range=1.0)]
    numbers += [ssimgen.ms_ssim(x, y, data_range=1.0), ssimgen.ssim(*volumes, data_range=1.0, window=Window.uniform(3))]
    numbers += [pairwise.ssim(x, y, data_range=1.0), pairwise.distance(x, data_range=1.0, form="product")]
    numbers += [MSSSIMLoss(data_range=1.0)(x, y), EnergyLoss(StructuralDistance(data_range=1.0))(x, y)]
    numbers += [torch.vmap(lambda u, v: ssimgen.distance(u[None], v[None], data_range=1.0))(x, y)]
    numbers += torch.autograd.grad(sum(z.sum() for z in numbers), (x, y))
told = [str(warning.message) for warning in caught if issubclass(warning.category, ssimgen.EngineWarning)]
print(json.dumps([[number for z in numbers for number in z.flatten().tolist()], told]))
"""

HIDE_AT_IMPORT = """
import torch
name = "{name}"
hidden = getattr(torch._C, name)
delattr(torch._C, name)
import ssimgen.engine
setattr(torch._C, name, hidden)
"""


def computed(processes: Processes, before: str) -> tuple[list[float], list[str]]:
    """What is computed after a beginning, and what was warned of."""
    done = processes.run(before + COMPUTE)
    assert done.returncode == 0, done.stderr
    numbers, told = json.loads(done.stdout)
    return numbers, told


@pytest.fixture(scope="module")
def usual(processes: Processes) -> list[float]:
    """What is computed with everything there."""
    numbers, told = computed(processes, "")
    assert told == []
    return numbers


def broken(folder: Path, line: str) -> str:
    """The beginning of a script that finds another numba."""
    (folder / "numba.py").write_text(line)
    return f"import sys\nsys.path.insert(0, {str(folder)!r})\n" + (
        "for name in [name for name in sys.modules if name.split('.')[0] == 'numba']:\n    del sys.modules[name]\n"
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (None, "No module named "),
        ("raise ImportError('Numba needs NumPy 2.2 or less')", "Numba needs NumPy 2.2 or less"),
        ("raise SystemError('initialisation failed')", "initialisation failed"),
        ("njit = None", "No module named 'numba.core'; 'numba' is not a package"),
    ],
    ids=["missing", "refuses", "fails", "is another"],
)
def test_without_numba_numbers_are_the_same_and_one_warning_says_what_is_lost(
    line: str | None, reason: str, processes: Processes, usual: list[float], tmp_path: Path
) -> None:
    before = without("numba", "llvmlite") if line is None else broken(tmp_path, line)
    numbers, told = computed(processes, before)
    assert numbers == pytest.approx(usual, rel=1e-4, abs=2e-6)
    start = "the compiled kernels for CPUs cannot run, PyTorch's operations do their work with the same results, "
    assert len(told) == 1
    assert told[0].startswith(f"{start}several times slower: {reason}")
    assert told[0].endswith("; pip install --upgrade numba (SSIMGEN_ENGINE=eager: without this warning)")


def test_who_asks_for_pytorch_is_told_nothing(processes: Processes) -> None:
    before = without("numba", "llvmlite") + "import os; os.environ['SSIMGEN_ENGINE'] = 'eager'\n"
    assert computed(processes, before)[1] == []


@pytest.mark.parametrize("name", ["_are_functorch_transforms_active", "_len_torch_dispatch_stack"])
def test_without_private_names_of_pytorch(name: str, processes: Processes, usual: list[float]) -> None:
    numbers, told = computed(processes, HIDE_AT_IMPORT.format(name=name))
    assert numbers == pytest.approx(usual, rel=1e-4, abs=2e-6)
    assert len(told) == 1
    assert "does not tell who transforms operations" in told[0]


def test_no_other_private_names_of_pytorch_are_used() -> None:
    """Of each that is, a test above takes it away; but for that which a command does without, and puts another for."""
    import ssimgen

    source = {path: path.read_text() for path in Path(ssimgen.__file__).parent.rglob("*.py")}
    users = {path.name for path, text in source.items() if re.search(r"\btorch\._(?!_)", text)}
    assert users == {"visibility.py", "no_compiler.py"}
