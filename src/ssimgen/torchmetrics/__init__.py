"""Metrics in the manner of torchmetrics: SSIM, MS-SSIM and distance of pairs, MMD and energy distance of two sets.

They take batch after batch, of any sizes, and gather over processes. In a `MetricCollection`, in Lightning, with
`reset`, `state_dict`, `to` and the rest, they are metrics like any other. Needs `pip install 'ssimgen[torchmetrics]'`.

base.py    what both kinds share
pairs.py   means over image pairs
sets.py    how far two sets are apart
"""

from ssimgen._extras import extra

with extra("torchmetrics", "ssimgen.torchmetrics"):
    from ssimgen.torchmetrics.pairs import MSSSIMMetric, SSIMMetric, StructuralDistanceMetric
    from ssimgen.torchmetrics.sets import EnergyDistanceMetric, MMDMetric

__all__ = ["EnergyDistanceMetric", "MMDMetric", "MSSSIMMetric", "SSIMMetric", "StructuralDistanceMetric"]
