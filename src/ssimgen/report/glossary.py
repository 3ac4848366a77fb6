"""What the numbers of a report are, in a sentence each, for those who have not seen them before."""

from __future__ import annotations

from collections.abc import Iterable

_MEANINGS = {  # by how the name of a metric begins
    "KL, nats": "the rate: how much the code says of an image (1 nat is 1.44 bits). Models reconstruct better with "
    "more nats, so they are compared at equal KL.",
    "PSNR, dB": "peak signal-to-noise ratio of a reconstruction: its squared error, pixel by pixel, in decibels.",
    "SSIM": "structural similarity of an image and its reconstruction, 1 if they are equal.",
    "MS-SSIM": "SSIM at several scales.",
    "feature distance": "how far a reconstruction is from its image in the features of a network for photographs, on "
    "which no model was trained.",
    "sharpness": "variance of the Laplacian. Blur lowers it and noise raises it, so it is best as real images have it.",
    "Frechet distance": "between the distributions of samples and of real images, by means and covariances of "
    "features: what FID is with the network Inception.",
    "kernel distance": "between the same, by a kernel on features: what KID is with Inception.",
    "precision": "share of the samples that lie near real images.",
    "recall": "share of the real images that lie near samples.",
    "density": "how densely samples lie around real images, about 1 for real ones.",
    "coverage": "share of the real images with a sample close by.",
    "MMD^2": "squared distance of samples from real images, by the kernel named; 0 if nothing tells them apart.",
    "structural distance to the nearest training image": "far below its value for real images, samples are copies.",
    "Parzen": "log-likelihood of held-out images under blurred samples; known to mislead.",
    "class accuracy": "share of samples that a classifier puts into the class asked for.",
}


def meanings(metrics: Iterable[str]) -> dict[str, str]:
    """The meaning of each metric that has one, by the part of its name that says it."""
    found = {}
    for metric in metrics:
        for name in sorted(_MEANINGS, key=len, reverse=True):
            if metric == name or metric.startswith(f"{name} ") or (metric.startswith(name) and name == "Parzen"):
                found[name] = _MEANINGS[name]
                break
    return found
