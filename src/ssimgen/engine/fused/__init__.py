"""SSIM compiled for CPUs with numba: each kernel reads its images once and derives value and gradient together."""
