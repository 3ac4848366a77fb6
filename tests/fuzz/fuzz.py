"""`python tests/fuzz/fuzz.py`: random calls of the library against its definitions, each drawn from one integer.

    make fuzz
    python tests/fuzz/fuzz.py --seed 1000000 --calls 100000 --jobs 2
    python tests/fuzz/fuzz.py --seed 1000017 --calls 1            one case again

`draws` says what a case is, `checks` what is demanded of it. The first seed of a million chooses the windows that
compiled kernels are made for. Exit status 1 if anything failed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # for `oracles`

import torch
from checks import Report, check
from draws import SAMPLES, draw
from samples import check_sample

CHUNK = 100
PROGRESS = 1000  # seeds between two lines that say how far it is


def run(seeds: range) -> tuple[int, dict, list, int, int]:
    """Calls, worst ratios, failures (seed, kind, text, case), ill-conditioned and refused ones."""
    torch.set_num_threads(1)
    calls, worst, failures, ill, refused = 0, {}, [], 0, 0
    for seed in seeds:
        case = draw(seed)
        report: Report = (check_sample if case.what in SAMPLES else check)(case)
        calls, ill, refused = calls + report.calls, ill + report.ill, refused + report.refused
        for kind, ratio in report.worst.items():
            worst[kind] = max(worst.get(kind, 0.0), ratio)
        failures += [(seed, finding.kind, finding.text, str(case)) for finding in report.findings]
    return calls, worst, failures, ill, refused


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1_000_000, help="of the first call")
    parser.add_argument("--calls", type=int, default=1000, help="seeds to draw, each a call in every engine")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--show", type=int, default=3, help="failures to print of a kind")
    options = parser.parse_args()
    seeds = range(options.seed, options.seed + options.calls)
    parts = [seeds[i : i + CHUNK] for i in range(0, len(seeds), CHUNK)]
    start, shown, worst = time.monotonic(), Counter(), {}
    calls = ill = refused = 0
    if options.calls == 1:
        print(draw(options.seed))
    for count, part in enumerate(_results(parts, options.jobs), 1):
        calls, ill, refused = calls + part[0], ill + part[3], refused + part[4]
        for kind, ratio in part[1].items():
            worst[kind] = max(worst.get(kind, 0.0), ratio)
        for seed, kind, text, case in part[2]:
            shown[kind] += 1
            if shown[kind] <= options.show:
                print(f"FAILED {kind}: {text}\n    --seed {seed} --calls 1    {case}", flush=True)
        if count % (PROGRESS // CHUNK) == 0:
            print(f"{count * CHUNK} of {len(seeds)} cases, {calls} calls", file=sys.stderr, flush=True)
    print(f"\n{'largest accepted error, as a part of what is allowed':60}")
    for kind in sorted(worst):
        print(f"  {kind:40} {worst[kind]:8.3g}")
    print(
        f"{len(seeds)} cases, {calls} calls, {ill} ill-conditioned, {refused} refused, {sum(shown.values())} failures, "
        f"{time.monotonic() - start:.0f} s"
    )
    for kind, count in shown.most_common():
        print(f"  {count:6} {kind}")
    return 1 if shown else 0


def _results(parts, jobs):
    if jobs == 1:
        yield from map(run, parts)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for future in as_completed([pool.submit(run, part) for part in parts]):
            yield future.result()


if __name__ == "__main__":
    sys.exit(main())
