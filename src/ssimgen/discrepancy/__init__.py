"""How far apart two distributions are, from samples: MMD, energy distance, conditional MMD, two-sample test.

Everything but the test works on Gram or distance matrices, so that any kernel serves and hand-made matrices can be
checked by hand.

matrices.py    MMD, energy distance and conditional MMD, from matrices
embedding.py   MMD in linear time, from features
two_sample.py  are two samples from one distribution?
"""

from ssimgen.discrepancy.embedding import MeanEmbedding, embedded_mmd2
from ssimgen.discrepancy.matrices import cmmd2, energy_distance, mmd2
from ssimgen.discrepancy.two_sample import TwoSampleResult, permutation_test, two_sample_test

__all__ = [
    "MeanEmbedding",
    "TwoSampleResult",
    "cmmd2",
    "embedded_mmd2",
    "energy_distance",
    "mmd2",
    "permutation_test",
    "two_sample_test",
]
