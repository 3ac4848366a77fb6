"""What `ssimgen train` does not import until its run begins, and who wants it all the same gets it."""

import json
from pathlib import Path

from new_processes import Processes

SCRIPT = """
import json, sys
import torch
from ssimgen.cli import main
from ssimgen.training.no_compiler import without_compiler
code = main("train vae --tau 0.01 --objective l2 --network.kind mlp --iterations 1 -o run".split())
modules = ("torch._dynamo", "sympy", "matplotlib", "tensorboard", "skimage", "sklearn", "torchmetrics")
imported = [name for name in modules if name in sys.modules]
with without_compiler():
    import torch._dynamo.config
    inside = torch._dynamo.disable(abs) is abs, callable(torch._dynamo.list_backends)
bound = torch._dynamo.config is sys.modules["torch._dynamo.config"]
print(json.dumps([code, imported, inside, bound, torch.compile(torch.neg, backend="eager")(torch.ones(1)).item()]))
"""


def test_a_run_begins_without_the_compiler(processes: Processes, tmp_path: Path) -> None:
    done = processes.run(f"import os; os.chdir({str(tmp_path)!r})\n{SCRIPT}")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [0, [], [True, True], True, -1.0]
