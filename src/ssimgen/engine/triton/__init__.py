"""Kernels for GPUs, in Triton, which is not imported before images come that they take."""
