"""Compiles kernels for a GPU that need not be there: `python compiled.py pairs cuda:90` prints what they take.

The interpreter runs more than the compiler takes, so both are asked.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from ssimgen import Window
from ssimgen.engine.triton import all_pairs, all_pairs_gradient_kernels, all_pairs_kernels, pair_kernels

TAPS = Window.gaussian(11, 1.5).taps
NUMBERS = dict.fromkeys(("c1", "c2", "lo", "rest_of_lo", "beta", "limit"), "fp32")
SIZES = dict.fromkeys(("height", "vectors", "down", "across", "rows"), "i32")
TILE = {"BW": 128, "C": 2}
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


def forward(images: str, form: str, maps: int) -> ASTSource:
    pointers = {"x": f"*{images}", "y": f"*{images}", "sums": "*fp32", "maps": "*fp32"}
    constants = {"DOWN": TAPS, "ACROSS": TAPS, "FORM": form, "MAPS": maps, **TILE, "STAGES": 1, "R": 4}
    return _source(pair_kernels.forward, {**pointers, **SIZES, **NUMBERS}, constants)


def backward(images: str, maps: int) -> ASTSource:
    pointers = {"x": f"*{images}", "y": f"*{images}", "maps": "*fp32", "upstream": "*fp32"}
    numbers = {"planes_of_mean": "i32", "step": "i64"}
    results = {"means": "*fp32", "g_x": f"*{images}", "g_y": f"*{images}"}
    constants = {"DOWN": TAPS, "ACROSS": TAPS, "MAPS": maps, **TILE, "STAGES": 2}
    return _source(pair_kernels.backward, {**pointers, **results, **numbers, **SIZES}, constants)


def finish() -> ASTSource:
    types = {"sums": "*fp32", "means": "*fp32", "sums_of_mean": "i32", "places": "i64"}
    return _source(pair_kernels.finish, types, {"BLOCK": 1024})


IMAGES, NUMBER = 2048, 128  # in a set, and of numbers of a patch
GEOMETRY = dict.fromkeys(("of_image", "height", "width", "down", "across", "stride_v", "stride_h"), "i32")
CONSTANTS = {"beta": "fp32", "c1": "fp32", "c2": "fp32"}
WINDOW = {"DOWN": TAPS, "ACROSS": TAPS}


def _integers(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "i32")


def _pointers(numbers: str, *names: str) -> dict[str, str]:
    return dict.fromkeys(names, f"*{numbers}")


def patches() -> ASTSource:
    types = {"images": "*fp32", "vectors": "*fp16", "statistics": "*fp32", **_integers("first", "n"), **GEOMETRY}
    numbers = dict.fromkeys(("unit", "lo", "rest_of_lo", "beta", "most"), "fp32")
    return _source(all_pairs_kernels.patches, types | numbers, {**WINDOW, "K": NUMBER, "IMAGES": 16})


def values(tile: all_pairs._Tile) -> ASTSource:
    types = _pointers("fp16", "x", "y") | _pointers("fp32", "statistics_x", "statistics_y") | {"sums": "*fp64"}
    sizes = _integers("n", "m", "count", "per", "fresh")
    constants = {"FORM": "sum", "ITSELF": True, "K": NUMBER, "BM": tile.rows, "BN": tile.columns, "BK": tile.depth}
    return _source(all_pairs_kernels.values, types | sizes | CONSTANTS, constants)


def finished() -> ASTSource:
    types = {"sums": "*fp64", "square": "*fp32", **_integers("slots", "n", "m", "positions")}
    return _source(all_pairs_kernels.finished, types, {"ITSELF": True, "AGAIN": True, "BLOCK": 1024})


def compared_again() -> ASTSource:
    types = _pointers("fp32", "x", "y", "square") | {"sums": "*fp64", **_integers("n", "m"), **GEOMETRY}
    numbers = _integers("positions", "per") | dict.fromkeys(("unit", "lo", "rest_of_lo"), "fp32") | CONSTANTS
    constants = {**WINDOW, "FORM": "sum", "ITSELF": True, "K": NUMBER, "BLOCK": 1024, "PATCHES": 8}
    return _source(all_pairs_kernels.compared_again, types | numbers, constants)


def slopes_to_patches(tile: all_pairs._GradientTile) -> ASTSource:
    pointers = "statistics_x", "statistics_y", "upstream", "scales", "slopes", "own"
    types = _pointers("fp16", "x", "y") | _pointers("fp32", *pointers) | _integers("n", "m")
    constants = {"FORM": "product", "K": NUMBER, "BM": tile.rows, "BN": tile.columns}
    return _source(all_pairs_gradient_kernels.slopes_to_patches, types | {"factor": "fp32", **CONSTANTS}, constants)


def slopes_to_pixels() -> ASTSource:
    types = {"slopes": "*fp32", "own": "*fp32", "vectors": "*fp16", "n": "i32", "beta": "fp32"}
    return _source(all_pairs_gradient_kernels.slopes_to_pixels, types, {**WINDOW, "K": NUMBER, "PATCHES": 16})


def added_up() -> ASTSource:
    types = {"slopes": "*fp32", "gradient": "*fp32", **_integers("first", "count", "line", "n"), **GEOMETRY}
    constants = {"KV": len(TAPS), "KH": len(TAPS), "K": NUMBER, "IMAGES": 4, "COLUMNS": 32}
    return _source(all_pairs_gradient_kernels.added_up, types, constants)


class Kernel(NamedTuple):
    """What is compiled, and how."""

    source: ASTSource
    warps: int = 4
    stages: int = 3


def of_pairs(target: GPUTarget) -> dict[str, Kernel]:
    warps = TILE["BW"] // 32
    return {
        "forward": Kernel(forward("fp32", "product", 0), warps),
        "forward with maps": Kernel(forward("fp32", "sum", 3), warps),
        "forward of halves": Kernel(forward("bf16", "uncentred", 4), warps),
        "backward": Kernel(backward("fp32", 3), warps),
        "backward of halves": Kernel(backward("fp16", 4), warps),
        "finish": Kernel(finish(), 1),
    }


def of_all_pairs(target: GPUTarget) -> dict[str, Kernel]:
    tile = all_pairs._Tile.of(IMAGES, IMAGES, NUMBER)
    of_gradient = all_pairs._GradientTile.of(IMAGES, IMAGES, NUMBER, target.arch == 90)
    return {
        "patches": Kernel(patches()),
        "values": Kernel(values(tile), tile.warps, tile.stages),
        "finished": Kernel(finished()),
        "compared again": Kernel(compared_again()),
        "slopes to patches": Kernel(slopes_to_patches(of_gradient), of_gradient.warps, of_gradient.stages),
        "slopes to pixels": Kernel(slopes_to_pixels()),
        "added up": Kernel(added_up()),
    }


KERNELS = {"pairs": of_pairs, "all pairs": of_all_pairs}


def _source(kernel: Any, types: dict[str, str], constants: dict[str, Any]) -> ASTSource:
    """Pointers are to 16 bytes, as those of tensors are."""
    aligned = {(place,): [["tt.divisibility", 16]] for place, of in enumerate(types.values()) if of.startswith("*")}
    return ASTSource(kernel, types | dict.fromkeys(constants, "constexpr"), constants, aligned)


def main(part: str, target: str) -> None:
    backend, architecture = target.split(":")
    of_nvidia = backend == "cuda"
    device = GPUTarget(backend, int(architecture) if of_nvidia else architecture, 32 if of_nvidia else 64)
    for name, (source, warps, stages) in KERNELS[part](device).items():
        compiled = triton.compile(source, target=device, options={"num_warps": warps, "num_stages": stages})
        print(json.dumps({"kernel": name, **_taken(compiled)}), flush=True)


def _taken(compiled: Any) -> dict[str, int]:
    """Registers of a thread, bytes of the stack, where what they cannot hold is spilled, and those of a multiprocessor
    that a program takes."""
    return _registers(compiled) | {"shared": compiled.metadata.shared}


def _registers(compiled: Any) -> dict[str, int]:
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
    main(*sys.argv[1:])
