"""How often a two-sample test finds a change in digits, by kernel: what the default kernel of test-samples rests on.

    python benchmarks/two_samples.py
    python docs/tables.py

Each test compares 100 MNIST digits with 100 others that have been changed in one way. All are drawn anew from one pool
for each test, so that the two sets are exchangeable where nothing was changed, and the share of tests that reject at
level 0.05 is 0.05 there but for chance. It is printed, and kept in results/two_samples.json; the second command puts
it into docs/two-sets.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from _timing import save, show
from ssimgen._request import DEFAULT_WINDOW, FORMS
from ssimgen.components import PARTS, Component
from ssimgen.data import load_images
from ssimgen.discrepancy import permutation_test
from ssimgen.evaluation.sets import gaussian_gram
from ssimgen.metrics import Euclidean, StructuralDistance
from ssimgen.windows import Window

POOL = 1000  # digits from which the tests draw
SIZE = 100  # digits of either kind in a test
TESTS = 200
PERMUTATIONS = 199
SPARSE = Window.gaussian(stride=3)
MIRRORED = Window.gaussian(stride=3, padding="symmetric")
UNIFORM = Window.uniform(8, stride=4)


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    splits = load_images("mnist5k")
    digits = torch.cat([part.select(slice(None)).images for part in splits])
    labels = torch.cat([part.select(slice(None)).labels for part in splits])
    order = torch.randperm(len(digits), generator=generator)
    digits, labels = digits[order], labels[order]
    pool, others = digits[:POOL], digits[POOL:]
    one = labels[POOL:] == 1
    more_ones = torch.cat([others[one][: POOL // 4], others[~one][: 3 * POOL // 4]])
    changes: dict[str, Callable[[Tensor], Tensor]] = {
        "nothing": lambda z: z,
        "blur 0.5 px": lambda z: blurred(z, 0.5),
        "blur 0.7 px": lambda z: blurred(z, 0.7),
        "noise 0.01": lambda z: (z + 0.01 * torch.randn(z.shape, generator=generator)).clamp(0, 1),
        "brighter by 0.02": lambda z: (z + 0.02).clamp(0, 1),
        "contrast x 0.9": lambda z: 0.9 * z,
        "turned by 5 degrees": lambda z: turned(z, 5),
        "moved by 1 px": lambda z: z.roll(1, 3),
        "25 % ones": lambda z: more_ones,
        "border of noise": lambda z: z.where(inside(z), torch.rand(z.shape, generator=generator)),
    }
    results: dict[str, dict[str, float]] = {}
    for change, apply in changes.items():
        grams = kernels(torch.cat([pool, apply(pool)]))
        results[change] = {name: rejections(gram) for name, gram in grams.items()}
        print(change, results[change], flush=True)
    names = list(results["nothing"])
    rows = [[name, *(f"{shares[name]:.2f}" for shares in results.values())] for name in names]
    show(f"share of rejections, {SIZE} digits against {SIZE}", ["Gaussian on", *results], rows)
    options = {"pool": POOL, "images": SIZE, "tests": TESTS, "permutations": PERMUTATIONS}
    print(save("two_samples", {**options, "rejected": results}, ("ssimgen", "torch", "mlxtend")))


def kernels(pooled: Tensor) -> dict[str, Callable[[Tensor], Tensor]]:
    """By name, the kernel matrix of some of the images, its bandwidths their medians."""
    components, sparse, mirrored, uniform = (
        [Component(part, 1.0, window).squared(pooled) for part in PARTS]
        for window in (DEFAULT_WINDOW, SPARSE, MIRRORED, UNIFORM)
    )
    structural = {form: StructuralDistance(1.0, form).squared(pooled) for form in FORMS}
    structural["sum, uniform 8/4"] = StructuralDistance(1.0, "sum", window=UNIFORM).squared(pooled)
    pixels = Euclidean().squared(pooled)

    def gaussian(*squares: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda chosen: gaussian_gram(*(square[chosen][:, chosen] for square in squares))

    return {
        "components": gaussian(*components),
        "components, stride 3": gaussian(*sparse),
        "components, mirrored, stride 3": gaussian(*mirrored),
        "components, uniform 8/4": gaussian(*uniform),
        **{part: gaussian(square) for part, square in zip(PARTS, components, strict=True)},
        **{f"distance, {form}": gaussian(square) for form, square in structural.items()},
        "pixels": gaussian(pixels),
        "(SSIM itself)": lambda chosen: 1 - structural["product"][chosen][:, chosen],
        "(energy, sum)": lambda chosen: -structural["sum"][chosen][:, chosen].sqrt(),
    }


def rejections(gram: Callable[[Tensor], Tensor]) -> float:
    """The share of tests that reject."""
    rejected = 0
    for seed in range(TESTS):
        generator = torch.Generator().manual_seed(seed)
        first, second = torch.randperm(POOL, generator=generator)[: 2 * SIZE].split(SIZE)  # no digit in both
        matrix = gram(torch.cat([first, POOL + second]))
        rejected += permutation_test(matrix, SIZE, permutations=PERMUTATIONS, seed=seed).rejected
    return rejected / TESTS


def blurred(images: Tensor, sigma: float) -> Tensor:
    taps = torch.exp(-(torch.arange(-4.0, 5.0) ** 2) / (2 * sigma**2))
    return F.conv2d(images, torch.outer(taps, taps)[None, None] / taps.sum() ** 2, padding=4)


def inside(images: Tensor) -> Tensor:
    """Where a pixel is none of the outermost ones."""
    return F.pad(torch.ones_like(images[..., 1:-1, 1:-1]), (1, 1, 1, 1)) > 0


def turned(images: Tensor, degrees: float) -> Tensor:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    grid = F.affine_grid(torch.tensor([[c, -s, 0.0], [s, c, 0.0]]).expand(len(images), 2, 3), list(images.shape), False)
    return F.grid_sample(images, grid, align_corners=False)


if __name__ == "__main__":
    main()
