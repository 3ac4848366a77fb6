"""Kernels on vectors and images: made from a metric or from SSIM, composed with + and *.

A kernel never changes: nothing in it depends on the sample it is called with. Bandwidths chosen from data come
from :meth:`Kernel.fit`, which returns another kernel.

kernel.py      what a kernel is; sums, products and multiples of kernels
distance.py    kernels made of a distance, their bandwidths, and the centred matrix of distances
similarity.py  SSIM as a kernel
"""

from ssimgen.kernels.distance import (
    GMMN_BANDWIDTHS,
    DistanceInduced,
    Gaussian,
    Laplacian,
    centred_gram,
    median_distance,
)
from ssimgen.kernels.kernel import Kernel, Product, Scaled, Sum
from ssimgen.kernels.similarity import SSIM

__all__ = [
    "GMMN_BANDWIDTHS",
    "SSIM",
    "DistanceInduced",
    "Gaussian",
    "Kernel",
    "Laplacian",
    "Product",
    "Scaled",
    "Sum",
    "centred_gram",
    "median_distance",
]
