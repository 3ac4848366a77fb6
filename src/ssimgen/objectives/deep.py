"""Images compared in the middle layers of a network that was trained to classify photographs: the rival of structure.

"Perceptual similarity" has been measured there before (Dosovitskiy, Brox 2016; reference 25 of Ghojogh, Karray, Crowley
2020), and what is gained by structure is to be compared with what is gained by such a network, which has seen a million
photographs. With u_l(x) the unit vector of all features of layer l at one position,

    D^2(x, y) = mean over layers l and positions of |u_l(x) - u_l(y)|^2,    in [0, 4],

which is that of Zhang et al. (2018, Eq. 1) without the weights that they fit to people's choices. It is a squared
Euclidean distance, of all these vectors together: Hilbertian, so that kernels made from it are positive definite, as
those of structure are. But images that the network does not tell apart have D = 0: no such kernel is characteristic.

Layers: the last ones of EfficientNet-Lite0 at a half, a quarter and an eighth of the side. A judge by features of the
same network knows what was trained with it; ST-LPIPS has another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen._precision import no_autocast
from ssimgen.metrics import Euclidean, Metric

_TOTAL_STRIDE = 32  # of the network, in pixels


@final
@dataclass(frozen=True)
class DeepFeatures(Metric):
    """D of all pairs of images in [0, 1], grey or coloured, in middle layers of EfficientNet-Lite0.

    Images are enlarged to the next multiple of 32 px. Everything is computed in float32.

    Example:
        >>> import torch
        >>> from ssimgen.objectives.deep import DeepFeatures
        >>> images = torch.rand(3, 1, 28, 28)
        >>> DeepFeatures()(images, images / 2).shape
        torch.Size([3, 3])
    """

    @property
    def hilbertian(self) -> bool:
        return True

    def squared(self, x: Float[Tensor, "n C H W"], y: Float[Tensor, "m C H W"] | None = None) -> Float[Tensor, "n m"]:
        """D^2 of all pairs, in [0, 4]."""
        x = arguments.image_batch("x", x)
        if y is not None:
            y = arguments.image_batch("y", y)
        square = Euclidean().squared(features(x), None if y is None else features(y))
        return arguments.cast(square, x.dtype)


def squared_distance(y: Float[Tensor, "B C H W"], x: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"]:
    """D^2 of image pairs in [0, 1], in the dtype of x.

    Raises:
        ModuleNotFoundError: the optional dependencies "eval" are not installed.
        ValueError: images of other than one or three channels.

    Example:
        >>> import torch
        >>> from ssimgen.objectives.deep import squared_distance
        >>> images = torch.rand(2, 3, 32, 32)
        >>> squared_distance(images, images)
        tensor([0., 0.])
    """
    return (features(y) - features(x)).square().sum(1).to(x.dtype)


def features(images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B F"]:
    """The vectors u_l of all layers and positions, so scaled that D is the Euclidean distance of what is returned."""
    with no_autocast(images.device):
        maps = _network(-(-max(images.shape[2:]) // _TOTAL_STRIDE) * _TOTAL_STRIDE, images.device).maps(images.float())
        return torch.cat([F.normalize(z, dim=1).flatten(1) / (len(maps) * z[0, 0].numel()) ** 0.5 for z in maps], 1)


@cache
def _network(resolution: int, device: torch.device) -> Any:
    from ssimgen.evaluation.feature_networks import EfficientNetLite0  # which takes a moment that others do not need

    return EfficientNetLite0(resolution).to(device)
