"""Whether the library works with the oldest and the newest releases that pyproject.toml allows.

    python tests/matrix.py lowest                             # torch 2.4, numpy 1.26, numba 0.60, jaxtyping 0.3
    python tests/matrix.py newest --python python3.13         # what pip takes without constraints
    python tests/matrix.py pinned --wheel dist/*.whl          # a wheel, with constraints.txt

It makes a virtual environment (--folder; one that is there is used again), installs the library with the extra `train`
and what tests need, and runs those of pairs, all pairs, losses and windows. Where PyTorch's wheels for CPUs are wanted,
pip is told so in the environment, as by PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu. Continuous
integration calls it.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
TOOLS = ("beartype", "hypothesis", "pytest", "pytest-timeout", "tifffile")
TESTS = (
    "test_windows.py",
    "test_similarity.py",
    "test_scales.py",
    "test_losses.py",
    "test_pairwise.py",
    "test_metrics.py",
)


def lowest() -> list[str]:
    """The oldest releases that the library itself states, as constraints."""
    stated: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    return [re.sub(r">=(\S+)", r"==\1.*", requirement) for requirement in stated]


def main() -> int:
    """The exit status of the tests."""
    parser = argparse.ArgumentParser(description="The library with the oldest and the newest releases that it allows.")
    parser.add_argument("releases", choices=("lowest", "newest", "pinned"))
    parser.add_argument("--python", default=sys.executable, help="which one the environment is of")
    parser.add_argument("--folder", type=Path, help="of the environment; without it, one that is removed at the end")
    parser.add_argument("--wheel", type=Path, help="what is installed instead of the sources")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary) / "environment").resolve()
        constraints = ROOT / "constraints.txt"
        if options.releases != "pinned":
            constraints = Path(temporary) / "constraints.txt"
            constraints.write_text("\n".join(lowest()) if options.releases == "lowest" else "")
        if not folder.exists():
            subprocess.run([options.python, "-m", "venv", str(folder)], check=True)
        python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
        library = f"{(options.wheel or ROOT).resolve()}[train]"
        install = [python, "-m", "pip", "install", "--quiet", "--constraint", constraints, library, *TOOLS]
        subprocess.run(install, check=True)
        show = "import ssimgen, torch, numpy, numba, sys; print(sys.version.split()[0], ssimgen.__version__, *("
        show += "f'{m.__name__} {m.__version__}' for m in (torch, numpy, numba)), ssimgen.__file__, flush=True)"
        subprocess.run([python, "-c", show], check=True, cwd=temporary)
        tests = [str(ROOT / "tests" / name) for name in TESTS]
        own = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}  # no other sources than those
        return subprocess.run(
            [python, "-m", "pytest", "-x", "--rootdir", str(ROOT), *tests], cwd=ROOT, env=own
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
