"""Image structure component analysis: which distortions of an image are alike, though equally far in pixels.

Copies of one photograph are distorted in five ways, in steps of equal mean squared error. In pixels every way leads off
in a direction of its own. In structure the two kinds of noise go together, blur goes elsewhere, and brightness and
contrast hardly leave the photograph. After Ghojogh, Karray, Crowley (2019, arXiv 1908.09287). Run:

    python examples/structure_components.py [--output structure_components.png]
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import scipy.ndimage
import skimage.data
import tyro

from ssimgen import Window
from ssimgen.metrics import Euclidean, StructuralDistance
from ssimgen.subspace import KernelISCA

Image = np.ndarray
LEVELS = np.linspace(0.0, 0.006, 9)[1:]  # mean squared errors


def directions(image: Image, random: np.random.Generator) -> dict[str, Image]:
    """What is added to the image by each way of distorting it, before scaling."""
    salt_and_pepper = random.choice([-1.0, 0.0, 1.0], image.shape, p=[0.05, 0.9, 0.05])
    return {
        "brightness": np.ones_like(image),
        "contrast": image - image.mean(),
        "noise": random.standard_normal(image.shape),
        "salt and pepper": salt_and_pepper,
        "blur": scipy.ndimage.gaussian_filter(image, 4) - image,
    }


def main(output: Path = Path("structure_components.png"), size: int = 96) -> dict[str, float]:
    """The greatest distance from the photograph along the first two components, by distortion and metric."""
    photograph = skimage.data.camera()[100 : 100 + 3 * size : 3, 160 : 160 + 3 * size : 3] / 255
    photograph = 0.25 + 0.5 * photograph  # room for brighter and darker
    distorted = {
        name: photograph + np.sqrt(LEVELS)[:, None, None] * d / np.sqrt((d**2).mean())
        for name, d in directions(photograph, np.random.default_rng(0)).items()
    }
    rows = np.concatenate([photograph[None], *distorted.values()]).reshape(-1, size * size)

    metrics = {"pixels": Euclidean(), "structure": StructuralDistance(1.0, "sum", window=Window.uniform(8, stride=4))}
    figure, axes = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
    spread = {}
    for (title, metric), ax in zip(metrics.items(), axes, strict=True):
        model = KernelISCA(metric, n_components=2, image_shape=(1, size, size))
        coordinates = model.fit_transform(rows) - model.transform(rows[:1])
        for i, name in enumerate(distorted):
            path = np.concatenate([coordinates[:1], coordinates[1 + i * len(LEVELS) : 1 + (i + 1) * len(LEVELS)]])
            ax.plot(*path.T, "o-", label=name, markersize=4)
            spread[f"{title}, {name}"] = float(np.linalg.norm(path, axis=1).max())
        ax.plot(0, 0, "k*", markersize=14, label="photograph")
        ax.set(title=f"Two components of {title}", aspect="equal")
    axes[0].legend()
    figure.savefig(output, dpi=110)
    plt.close(figure)
    for name, value in spread.items():
        print(f"{value:7.3f}  {name}")
    print(f"picture in {output}")
    return spread


if __name__ == "__main__":
    tyro.cli(main)
