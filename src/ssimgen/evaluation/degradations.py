"""Images degraded on purpose, so that everyone knows which are better: what judges must rank before they may judge."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ssimgen.metrics import Euclidean

REAL = "real images"
BLUR_3, BLUR_5 = "3 x 3 blur", "5 x 5 blur"
MEAN = "mean image"
LINEAR = "linear reconstruction"
WEAK_NOISE, STRONG_NOISE = "weak noise", "strong noise"
WRONG_COLOURS = "wrong colours"
MORE_MODES, FEWER_MODES = "all modes", "half of the modes"

_WEAK, _STRONG = 0.02, 0.1  # standard deviations of noise, hardly and plainly to be seen
_KEPT = 0.8  # of the variance, by a linear reconstruction: what small autoencoders of small images reach
_CLUSTERS = 10  # where there are no classes
_OF_A_CLUSTER = 10  # images, at least, on average
_OF_HALF = 20  # images at least that half of the modes must have: as many as half of the fewest images that do
_ROUNDS = 20  # of k-means
_COARSE = 8  # side of the images that are clustered


class Order(NamedTuple):
    """Sets of images from the best to the worst.

    Example:
        >>> from ssimgen.evaluation.degradations import COLOURS
        >>> COLOURS.rungs
        ('real images', 'wrong colours')
    """

    name: str
    rungs: tuple[str, ...]


BLUR = Order("blur", (REAL, BLUR_3, BLUR_5, MEAN))
NOISE = Order("noise", (WEAK_NOISE, STRONG_NOISE))
COLOURS = Order("colours", (REAL, WRONG_COLOURS))
MODES = Order("modes", (MORE_MODES, FEWER_MODES))
DETAIL = Order("detail", (LINEAR, MEAN))
SPREAD = Order("spread", (REAL, MEAN))


class Degraded:
    """Real images, and what was made of them.

    ====================================  ==========================================================================
    "3 x 3 blur", "5 x 5 blur"            means of neighbours, the border repeated
    "mean image"                          that of the training images, in the place of each image
    "linear reconstruction"               on as many principal components of the training images as hold four fifths
                                          of the variance, or on all: the best linear autoencoder
    "weak noise", "strong noise"          Gaussian, of standard deviation 0.02 and 0.1, cut to [0, 1]
    "wrong colours"                       red in the place of green, green of blue, blue of red
    "all modes", "half of the modes"      equally many images of all classes, and of half of them; of clusters (k-means
                                          of the coarse image) where there are no classes
    ====================================  ==========================================================================

    Args:
        train: images that the mean and the components are of, in [0, 1].
        real: other images, which are degraded.
        labels: classes of the latter.
        seed: of noise, clusters and choices.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation.degradations import COLOURS, Degraded
        >>> images = Degraded(torch.rand(40, 1, 12, 12), torch.rand(40, 1, 12, 12))
        >>> images["3 x 3 blur"].shape, images.lacks(COLOURS)
        (torch.Size([40, 1, 12, 12]), 'the images are grey')
    """

    def __init__(
        self,
        train: Float[Tensor, "m C H W"],
        real: Float[Tensor, "n C H W"],
        labels: Int[Tensor, " n"] | None = None,
        seed: int = 0,
    ) -> None:
        self.train, self.real, self.seed = train, real, seed
        self.coloured = real.shape[1] == 3 and bool((real.amax(1) - real.amin(1)).mean() > 1 / 255)
        modes = labels if labels is not None and len(labels.unique()) > 1 else self._clusters()
        self.of_half = None if modes is None else _of_half_the_modes(modes)

    def __getitem__(self, name: str) -> Float[Tensor, "n C H W"]:
        """The images of that name."""
        images: Tensor = _MAKERS[name](self)
        return images

    def lacks(self, order: Order) -> str:
        """Why the images of an order cannot be made; "" if they can."""
        if WRONG_COLOURS in order.rungs and not self.coloured:
            return "the images are grey"
        if FEWER_MODES in order.rungs and self.of_half is None:
            return f"clusters need {2 * _OF_A_CLUSTER} different images, and classes are not known"
        if FEWER_MODES in order.rungs and self.of_half is not None and len(self.of_half) < _OF_HALF:
            return f"half of the modes are {len(self.of_half)} of the images, and {_OF_HALF} are needed"
        return ""

    def blurred(self, side: int) -> Tensor:
        """Each pixel the mean of those around it."""
        return F.avg_pool2d(F.pad(self.real, (side // 2,) * 4, mode="replicate"), side, 1)

    def mean(self) -> Tensor:
        """The mean image again and again."""
        return self.train.mean(0).expand_as(self.real).contiguous()

    def linear(self) -> Tensor:
        """The projection on the first principal components of the training images, from their inner products."""
        flat = self.train.flatten(1)
        mean = flat.mean(0)
        centred = (flat - mean).double()
        values, vectors = torch.linalg.eigh(centred @ centred.T)  # ascending
        kept = values.flip(0) > 1e-9 * values[-1]
        values, vectors = values.flip(0)[kept], vectors.flip(1)[:, kept]
        components = (centred.T @ vectors) / values.sqrt()  # (D, k), orthonormal
        apart = (self.real.flatten(1) - mean).double()
        codes = apart @ components  # (n, k)
        shares = codes.square().sum(0).cumsum(0) / apart.square().sum().clamp_min(1e-12)
        enough = int((shares < _KEPT).sum()) + 1
        rebuilt: Tensor = mean + (codes[:, :enough] @ components[:, :enough].T).to(mean)
        return rebuilt.view_as(self.real).clamp(0, 1)

    def noisy(self, deviation: float) -> Tensor:
        """Each pixel changed at random."""
        noise = torch.randn(self.real.shape, generator=torch.Generator().manual_seed(self.seed))
        return (self.real + deviation * noise.to(self.real)).clamp(0, 1)

    def all_modes(self) -> Tensor:
        """As many images, drawn from all, as half of the modes have."""
        assert self.of_half is not None
        order = torch.randperm(len(self.real), generator=torch.Generator().manual_seed(self.seed))
        return self.real[order[: len(self.of_half)].sort().values]

    def half_of_the_modes(self) -> Tensor:
        """The images of half of the classes or clusters."""
        assert self.of_half is not None
        return self.real[self.of_half]

    def _clusters(self) -> Tensor | None:
        """A cluster number an image; None if there are too few images for two."""
        side = min(_COARSE, *self.real.shape[-2:])
        points = F.adaptive_avg_pool2d(self.real, side).flatten(1)
        clusters = min(_CLUSTERS, len(points.unique(dim=0)) // _OF_A_CLUSTER)
        return k_means(points, clusters, self.seed) if clusters > 1 else None


_MAKERS = {
    REAL: lambda images: images.real,
    BLUR_3: lambda images: images.blurred(3),
    BLUR_5: lambda images: images.blurred(5),
    MEAN: Degraded.mean,
    LINEAR: Degraded.linear,
    WEAK_NOISE: lambda images: images.noisy(_WEAK),
    STRONG_NOISE: lambda images: images.noisy(_STRONG),
    WRONG_COLOURS: lambda images: images.real[:, [1, 2, 0]],
    MORE_MODES: Degraded.all_modes,
    FEWER_MODES: Degraded.half_of_the_modes,
}


def _of_half_the_modes(modes: Int[Tensor, " n"]) -> Int[Tensor, " k"]:
    """Places of the images of the first half of the modes."""
    present = modes.unique()
    return torch.isin(modes, present[: (len(present) + 1) // 2]).nonzero()[:, 0]


def k_means(points: Float[Tensor, "n F"], clusters: int, seed: int) -> Int[Tensor, " n"]:
    """The cluster of each point (Lloyd 1982), from centres that are points drawn at random.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation.degradations import k_means
        >>> k_means(torch.tensor([[0.0], [0.1], [9.0], [9.1]]), 2, seed=0).unique().tolist()
        [0, 1]
    """
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))
    centres = points[order[:clusters]]
    for _ in range(_ROUNDS):
        nearest = Euclidean().squared(points, centres).argmin(1)
        ones = F.one_hot(nearest, clusters).to(points)
        counts = ones.sum(0)[:, None]
        centres = torch.where(counts > 0, ones.T @ points / counts.clamp_min(1), centres)
    return nearest
