"""Kernels for GPUs, in Triton: asked for with SSIMGEN_ENGINE=triton, until they have been measured on one.

Nothing here is imported before that, and nothing imports Triton before images come that its kernels take.
"""
