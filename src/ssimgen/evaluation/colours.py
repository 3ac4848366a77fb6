"""Errors of colour: of reconstructions, image by image, and between two sets, of the distributions of mean colours."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen.evaluation.estimates import DEFAULT_BOOTSTRAP, Bootstrap, Estimate


def mean_colours(images: Float[Tensor, "n C H W"]) -> Float[Tensor, "n C"]:
    """The mean colour of each image.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation import mean_colours
        >>> mean_colours(torch.ones(2, 3, 16, 16))
        tensor([[1., 1., 1.],
                [1., 1., 1.]])
    """
    return arguments.image_batch("images", images).mean((2, 3))


def colour_error(x: Float[Tensor, "n C"], y: Float[Tensor, "n C"]) -> Float[Tensor, " n"]:
    """Distance |x - y| of the mean colours of image pairs, in the units of the images.

    Args:
        x, y: from :func:`mean_colours`.

    Raises:
        TypeError, ValueError: colours that are not finite, or of unequal shapes or dtypes.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation import colour_error, mean_colours
        >>> black, grey = torch.zeros(1, 3, 16, 16), torch.full((1, 3, 16, 16), 0.5)
        >>> round(colour_error(mean_colours(black), mean_colours(grey)).item(), 3)
        0.866
    """
    x, y = arguments.feature_sets(x, y, ("x", "y"), 1, "a colour")
    if len(x) != len(y):
        raise ValueError(f"colours are compared pair by pair, but x has {len(x)} rows and y {len(y)}")
    distances: Tensor = (x - y).norm(dim=1)
    return distances


def colour_distance(
    x: Float[Tensor, "n C"], y: Float[Tensor, "m C"], *, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP
) -> Estimate:
    """Energy distance 2 E|x - y| - E|x - x'| - E|y - y'| of the distributions of mean colours of two sets of images.

    Unbiased: of mean zero, and so negative about half of the time, where the distributions are equal (Szekely, Rizzo
    2013). In the units of the images.

    Args:
        x, y: from :func:`mean_colours`, at least two images each.
        bootstrap: of the interval (:meth:`Bootstrap.mmd2`).

    Raises:
        TypeError, ValueError: colours that are not finite, of unequal dtypes or widths, or of fewer than two images.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation import colour_distance
        >>> red, blue = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 1.0]])
        >>> round(colour_distance(red.expand(9, 3), blue.expand(9, 3)).value, 3)
        2.828
    """
    x, y = arguments.feature_sets(x, y, ("x", "y"), 2, "an unbiased estimate")
    x, y = x.double(), y.double()
    return bootstrap.mmd2(-torch.cdist(x, x), -torch.cdist(x, y), -torch.cdist(y, y))
