"""SSIM compiled for CPUs with numba: each kernel reads its images once and derives value and gradient together."""

from ssimgen.engine.fused import compilation as compilation  # reads the sources before any of them is imported
