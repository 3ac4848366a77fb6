"""Kernel PCA and support vector machines with SSIM kernels, on handwritten digits.

Pixels and structure see the same few hundred digits; whoever needs fewer of them knows more about images. Run:

    python examples/kernel_machines.py [--training 300] [--test 1000]
"""

from __future__ import annotations

import tyro
from sklearn.decomposition import KernelPCA
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC, LinearSVC

from ssimgen import Window
from ssimgen.data import load_images
from ssimgen.features import SSIMFeatures
from ssimgen.kernels import SSIM, Gaussian, Kernel, median_distance
from ssimgen.metrics import Euclidean, StructuralDistance

WINDOW = Window.uniform(8, stride=4)
K2 = 0.3  # a wide bandwidth: strokes that nearly meet count as similar


def main(training: int = 300, test: int = 1000) -> dict[str, float]:
    """Accuracies on `test` held-out digits after `training` digits, printed and returned by name."""
    splits = load_images("mnist5k")
    x, labels = splits.train.first(training)
    x_test, labels_test = splits.held_out.first(test)

    distance = StructuralDistance(data_range=1.0, window=WINDOW, k2=K2)
    kernels: dict[str, Kernel] = {
        "pixels, Gaussian kernel": Gaussian(Euclidean(), (median_distance(Euclidean(), x),)),
        "SSIM itself": SSIM(data_range=1.0, window=WINDOW, k2=K2),
        "structural distance, Gaussian kernel": Gaussian(distance, (median_distance(distance, x),)),
    }
    accuracy = {}
    for name, kernel in kernels.items():
        gram, gram_test = kernel(x).numpy(), kernel(x_test, x).numpy()
        machine = SVC(C=10, kernel="precomputed").fit(gram, labels)
        accuracy[f"SVM, {name}"] = machine.score(gram_test, labels_test)
        components = KernelPCA(20, kernel="precomputed").fit(gram)
        nearest = SVC(C=10).fit(components.transform(gram), labels)
        accuracy[f"SVM on 20 kernel principal components, {name}"] = nearest.score(
            components.transform(gram_test), labels_test
        )

    features = SSIMFeatures(data_range=1.0, image_shape=(1, 28, 28), form="sum", window=WINDOW, k2=K2)
    linear = make_pipeline(features, LinearSVC(C=10)).fit(x.flatten(1), labels)
    accuracy["linear SVM on explicit SSIM features"] = linear.score(x_test.flatten(1), labels_test)

    for name, value in accuracy.items():
        print(f"{value:6.1%}  {name}")
    return accuracy


if __name__ == "__main__":
    tyro.cli(main)
