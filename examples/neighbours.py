"""Nearest structural neighbours by any Euclidean index: explicit features put SSIM into scikit-learn and faiss.

The queries are digits under another light (a fifth of the contrast, on light grey): near the same digits in
structure, far from them in pixels. Run:

    python examples/neighbours.py [--database 2000] [--queries 500]

faiss is used if it is installed.
"""

from __future__ import annotations

import importlib.util

import torch
import tyro
from sklearn.neighbors import NearestNeighbors

from ssimgen import Window, pairwise
from ssimgen.data import load_images
from ssimgen.features import SSIMFeatures

WINDOW = Window.uniform(7, stride=7)


def main(database: int = 2000, queries: int = 500) -> dict[str, float]:
    """Share of queries whose nearest neighbour is the same digit, printed and returned by method."""
    splits = load_images("mnist5k")
    x, labels = splits.train.first(database)
    y, labels_y = splits.held_out.first(queries)
    y = 0.7 + 0.2 * y
    found = {}

    pixels = NearestNeighbors(n_neighbors=1).fit(x.flatten(1))
    found["pixels"] = pixels.kneighbors(y.flatten(1), return_distance=False)[:, 0]

    features = SSIMFeatures(data_range=1.0, image_shape=(1, 28, 28), form="centred", window=WINDOW)
    phi = features.fit_transform(x.flatten(1))
    phi_y = features.transform(y.flatten(1))
    index = NearestNeighbors(n_neighbors=1).fit(phi)
    found["structure, features in scikit-learn"] = index.kneighbors(phi_y, return_distance=False)[:, 0]

    if importlib.util.find_spec("faiss"):
        import faiss

        flat = faiss.IndexFlatL2(phi.shape[1])
        flat.add(phi)
        found["structure, features in faiss"] = flat.search(phi_y, 1)[1][:, 0]

    exact = pairwise.distance(y, x, data_range=1.0, form="centred", window=WINDOW)
    found["structure, all pairs"] = exact.argmin(1).numpy()

    shares = {name: (labels[torch.as_tensor(i)] == labels_y).double().mean().item() for name, i in found.items()}
    for name, share in shares.items():
        print(f"{share:6.1%}  {name}")
    return shares


if __name__ == "__main__":
    tyro.cli(main)
