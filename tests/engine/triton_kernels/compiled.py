"""Compiles the kernels for a GPU that need not be there: `python compiled.py cuda:90` prints what they take.

The interpreter runs more than the compiler takes, so both are asked.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from itertools import accumulate
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from ssimgen import Window
from ssimgen.engine.triton import pair_kernels

TAPS = Window.gaussian(11, 1.5).taps
SUMS = tuple(accumulate(TAPS))
NUMBERS = {"c1": "fp32", "c2": "fp32", "lo": "fp32", "beta": "fp32"}
SIZES = dict.fromkeys(("height", "width", "down", "across"), "i32")
TILE = {"BH": 32, "BW": 128, "C": 2}
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


def forward(images: str, form: str, maps: int) -> ASTSource:
    pointers = {"x": f"*{images}", "y": f"*{images}", "sums": "*fp32", "maps": "*fp32", "of_map": "i64"}
    constants = {"DOWN": TAPS, "ACROSS": TAPS, "SUMS": SUMS, "FORM": form, "MAPS": maps, **TILE}
    return _source(pair_kernels.forward, {**pointers, **SIZES, **NUMBERS}, constants)


def backward(images: str, maps: int) -> ASTSource:
    pointers = {"x": f"*{images}", "y": f"*{images}", "maps": "*fp32", "of_map": "i64", "upstream": "*fp32"}
    gradients = {"g_x": f"*{images}", "g_y": f"*{images}"}
    constants = {"DOWN": TAPS, "ACROSS": TAPS, "MAPS": maps, **TILE}
    return _source(pair_kernels.backward, {**pointers, **gradients, **SIZES}, constants)


KERNELS = {
    "forward": lambda: forward("fp32", "product", 0),
    "forward with maps": lambda: forward("fp32", "sum", 3),
    "forward of halves": lambda: forward("bf16", "uncentred", 4),
    "backward": lambda: backward("fp32", 3),
    "backward of halves": lambda: backward("fp16", 4),
}


def _source(kernel: Any, types: dict[str, str], constants: dict[str, Any]) -> ASTSource:
    """Pointers are to 16 bytes, as those of tensors are."""
    aligned = {(place,): [["tt.divisibility", 16]] for place, of in enumerate(types.values()) if of.startswith("*")}
    return ASTSource(kernel, types | dict.fromkeys(constants, "constexpr"), constants, aligned)


def main(backend: str, architecture: str) -> None:
    of_nvidia = backend == "cuda"
    target = GPUTarget(backend, int(architecture) if of_nvidia else architecture, 32 if of_nvidia else 64)
    for name, source in KERNELS.items():
        compiled = triton.compile(source(), target=target, options={"num_warps": TILE["BW"] // 32})
        print(json.dumps({"kernel": name, **_taken(compiled)}), flush=True)


def _taken(compiled: Any) -> dict[str, int]:
    """Registers of a thread, and bytes of the stack, where what they cannot hold is spilled."""
    if "cubin" not in compiled.asm:
        found = re.search(r"\.private_segment_fixed_size: (\d+).*?\.vgpr_count: +(\d+)", compiled.asm["amdgcn"], re.S)
        assert found, compiled.asm["amdgcn"][-2000:]
        return {"registers": int(found[2]), "stack": int(found[1])}
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        command = [TOOLS / "cuobjdump", "-res-usage", file.name]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", said)
    assert found, said
    return {"registers": int(found[1]), "stack": int(found[2])}


if __name__ == "__main__":
    main(*sys.argv[1].split(":"))
