"""The three components of SSIM: as maps of image pairs, with exponents, and each as a metric of its own.

:func:`maps` are those of Wang et al. (2004); :func:`ssim_map` and :func:`ssim` raise them to powers before they are
multiplied. :class:`Component` compares all pairs of two sets in one respect. With sigma' = sqrt(var + c2 / 2), the SSIM
of a patch is the product of three similarities,

    luminance    (2 mu_x mu_y + c1) / (mu_x^2 + mu_y^2 + c1)
    contrast     2 sigma'_x sigma'_y / (sigma'_x^2 + sigma'_y^2)
    structure    (cov + c2 / 2) / (sigma'_x sigma'_y).

They are those of Wang et al. (2004, Eqs. 6, 9 and 10 with c3 = c2 / 2) up to the place of c2: theirs add it to
sigma_x sigma_y, here it is inside sigma'. The product is the same. But so, each is a positive definite kernel of unit
diagonal, and 1 - similarity half a squared distance in its Hilbert space: luminance is s1 (docs/kernels.md, F1);
2ab / (a^2 + b^2) is the integral of 2 (a e^(-t a^2)) (b e^(-t b^2)) over t > 0; and structure is the kernel
cov + c2 / 2, an inner product of patches, divided by the root of its diagonal on either side.
"""

from ssimgen.components.metric import PARTS, Component, Part
from ssimgen.components.pairs import Maps, maps, ssim, ssim_map

__all__ = ["PARTS", "Component", "Maps", "Part", "maps", "ssim", "ssim_map"]
