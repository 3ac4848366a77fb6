"""Scores of reconstructions: PSNR and feature distance of image pairs, and all of them in one table."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ssimgen import _arguments as arguments
from ssimgen._request import DEFAULT_WINDOW, DataRange, lo_and_length, window_fits, with_one_range
from ssimgen.evaluation.colours import colour_error, mean_colours
from ssimgen.evaluation.estimates import DEFAULT_BOOTSTRAP, Bootstrap
from ssimgen.evaluation.feature_networks import FeatureNetwork
from ssimgen.evaluation.images import nearest, sharpness
from ssimgen.evaluation.perceptual import st_lpips, weights_file
from ssimgen.evaluation.rows import Row, network_or_default, prepared, reported, row_of, score_of
from ssimgen.similarity import ms_ssim, ssim
from ssimgen.windows import Window


def psnr(x: Float[Tensor, "B C H W"], y: Float[Tensor, "B C H W"], *, data_range: DataRange) -> Float[Tensor, " B"]:
    """Peak signal-to-noise ratio of image pairs, 10 log10(l^2 / mean (x - y)^2), in decibels (ITU-T J.340).

    Infinite for equal images. The mean over a set is that of decibels, as is usual, and not the PSNR of the mean error.

    Args:
        x, y: images of equal shape, dtype and device.
        data_range: l, for values in [0, l], or (lo, hi) with l = hi - lo; or one value an image.

    Raises:
        TypeError, ValueError: as :func:`ssimgen.ssim`.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation import psnr
        >>> x = torch.zeros(1, 1, 16, 16)
        >>> round(psnr(x, x + 0.1, data_range=1.0).item(), 3)
        20.0
    """
    x, y = arguments.image_pairs(x, y)
    dtype = x.dtype
    x, y, data_range = with_one_range(x, y, data_range)
    _, length = lo_and_length(data_range)
    error = (x - y).square().flatten(1).mean(1)
    return (10 * torch.log10(length**2 / error)).to(dtype)


def feature_distance(x: Float[Tensor, "B F"], y: Float[Tensor, "B F"]) -> Float[Tensor, " B"]:
    """Mean squared difference of the features of image pairs, |x - y|^2 / F (Johnson, Alahi, Fei-Fei 2016, Eq. 2).

    In [0, inf), in squared units of the features; 0 for images that the network does not tell apart.

    Raises:
        TypeError, ValueError: features that are not finite, of unequal shapes or dtypes.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation import feature_distance
        >>> feature_distance(torch.zeros(1, 4), torch.ones(1, 4))
        tensor([1.])
    """
    x, y = arguments.feature_sets(x, y, ("x", "y"), 1, "a distance")
    if len(x) != len(y):
        raise ValueError(f"features are compared pair by pair, but x has {len(x)} rows and y {len(y)}")
    return (x - y).square().mean(1)


class Pairs(NamedTuple):
    """What a metric of reconstructions compares, in [0, 1]: guesses, one an image, with the images.

    Attributes:
        guesses: reconstructions, or what stands for them.
        images: in the same order.
        window: of structural metrics.
        network: of the features.
        features: of the images, made once.
    """

    guesses: Tensor
    images: Tensor
    window: Window
    network: FeatureNetwork
    features: Callable[[], Tensor]


OF_RECONSTRUCTIONS: dict[str, Callable[[Pairs], Tensor]] = {
    "psnr": lambda pairs: psnr(pairs.guesses, pairs.images, data_range=1.0),
    "ssim": lambda pairs: ssim(pairs.guesses, pairs.images, data_range=1.0, window=pairs.window),
    "ms_ssim": lambda pairs: ms_ssim(pairs.guesses, pairs.images, data_range=1.0, window=pairs.window),
    "feature_distance": lambda pairs: feature_distance(pairs.network(pairs.guesses), pairs.features()),
    "st_lpips": lambda pairs: st_lpips()(pairs.guesses, pairs.images),
    "colour_error": lambda pairs: colour_error(mean_colours(pairs.guesses), mean_colours(pairs.images)),
    "sharpness": lambda pairs: sharpness(pairs.guesses, data_range=1.0),
}
"""Key of a metric of reconstructions -> the function that computes it, one value an image."""

_APPLIES: dict[str, Callable[[Tensor], bool]] = {
    "st_lpips": lambda images: weights_file() is not None and images.shape[1] in (1, 3),
    "colour_error": lambda images: images.shape[1] == 3,
}
"""Key -> whether there is such a score of these images, where there is not always one."""


def evaluate_reconstructions(
    images: Float[Tensor, "n C H W"],
    reconstructions: Float[Tensor, "n C H W"],
    *,
    data_range: DataRange,
    train: Float[Tensor, "m C H W"] | None = None,
    network: FeatureNetwork | None = None,
    window: Window = DEFAULT_WINDOW,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    report: Callable[[Row], object] | None = None,
) -> list[Row]:
    """How close reconstructions are to their images: PSNR, SSIM, MS-SSIM, feature distance, and sharpness; ST-LPIPS
    where the optional dependencies "judges" are installed, and of coloured images the error of colour.

    The reference of all but sharpness is what copying would reach: for each image the training image nearest to it in
    the structural distance, in the place of its reconstruction. That of sharpness is the sharpness of the images.

    Args:
        images: held-out images.
        reconstructions: of each of them, in the same order.
        data_range: of all images.
        train: what the model was trained on; None leaves the reference out.
        network: of the feature distance; EfficientNet-Lite0 where None (needs the optional dependencies "eval").
        report: called with each row as soon as it is there.
        window: of SSIM, MS-SSIM and the structural distance.
        bootstrap: of all intervals.

    Raises:
        TypeError, ValueError: before anything is computed, for images that are not finite, beyond their data_range, of
            unequal shapes, smaller than the window or fewer than 20, and for unequally many reconstructions.
        ModuleNotFoundError: EfficientNet-Lite0 is wanted but not installed.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation import FeatureNetwork, evaluate_reconstructions
        >>> images, network = torch.rand(20, 1, 16, 16), FeatureNetwork("pixels", lambda z: z.flatten(1))
        >>> rows = evaluate_reconstructions(images, images / 2, data_range=1.0, network=network)
        >>> [row.better for row in rows[:4]]
        ['higher', 'higher', 'higher', 'lower']
    """
    arguments.samples(images, reconstructions, ("images", "reconstructions"))
    unit, rebuilt = prepared("images", images, data_range), prepared("reconstructions", reconstructions, data_range)
    if len(unit) != len(rebuilt):
        raise ValueError(
            f"images and reconstructions are compared pair by pair, got {len(unit)} and {len(rebuilt)}: "
            "pass one reconstruction an image"
        )
    window_fits(window, images)
    copies = []
    if train is not None:
        arguments.samples(images, train, ("images", "train"))
        candidates = prepared("train", train, data_range)
        copies = [candidates[nearest(unit, candidates, data_range=1.0, window=window).index]]
    network = network_or_default(network)
    features = cache(lambda: network(unit))  # once, for reconstructions and copies

    def row(key: str, metric: Callable[[Pairs], Tensor]) -> Row:
        score = score_of(key, network)
        references = [unit] if score.metric.better == "reference" else copies
        guesses = [rebuilt, *references]
        values = (metric(Pairs(guess, unit, window, network, features)) for guess in guesses)
        return row_of(score, map(bootstrap.mean, values), len(unit))

    metrics = [(key, f) for key, f in OF_RECONSTRUCTIONS.items() if key not in _APPLIES or _APPLIES[key](unit)]
    return reported((row(key, metric) for key, metric in metrics), report)
