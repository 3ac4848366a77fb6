"""From which score on an image is flagged: at a false positive rate that good images vouch for."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from ssimgen import _arguments as arguments


def conformal_threshold(scores: Float[Tensor, " n"], rate: float = 0.05) -> float:
    """The threshold that a new good image exceeds with a probability of at most `rate`.

    It is the ceil((n + 1)(1 - rate))-th smallest of the scores of n good images that the model was not trained on. A
    new good image from where they came is as likely to have any rank among them, so that it is above the k-th smallest
    with a probability of at most 1 - k / (n + 1), whatever the distribution (split conformal prediction: Vovk,
    Gammerman, Shafer 2005; Lei et al. 2018). The probability is over the draw of the n images too: of one draw, the
    rate is a random number with a standard deviation of about sqrt(rate / n).

    Args:
        scores: of good images, one each.
        rate: of false positives, between 0 and 1.

    Raises:
        ValueError: a rate out of range, or fewer images than it takes, 1 / rate - 1.

    Example:
        >>> import torch
        >>> from ssimgen.detection import conformal_threshold
        >>> conformal_threshold(torch.arange(100.0), rate=0.05)
        95.0
    """
    number = arguments.as_number(rate)
    if number is None or not 0 < number < 1:
        raise ValueError(f"rate must be a false positive rate between 0 and 1, got {rate!r}")
    n = len(scores)
    place = math.ceil(round((n + 1) * (1 - number), 9))  # 20 x 0.95 is 19, not a little more
    if place > n:
        least = math.ceil(round(1 / number - 1, 9))
        possible = f", or a rate of at least {math.ceil(1000 / (n + 1)) / 1000:g}" if n else ""
        raise ValueError(
            f"a false positive rate of {number:g} needs at least {least} good images that the model was not trained "
            f"on, got {n}: give more{possible}"
        )
    return scores.sort().values[place - 1].item()
