"""Class numbers of conditional models."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ssimgen.batches import Batch


def one_hot(labels: Int[Tensor, " n"], num_classes: int) -> Float[Tensor, "n {num_classes}"]:
    """1 in the column of an image's class, 0 elsewhere.

    Raises:
        ValueError: a label that is not a class number from 0 to num_classes - 1.
    """
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise ValueError(
            f"labels must be class numbers from 0 to {num_classes - 1}, got {int(labels.min())} to "
            f"{int(labels.max())}: set num_classes to the number of classes"
        )
    return F.one_hot(labels.long(), num_classes).float()


def with_class(
    z: Float[Tensor, "n d"], labels: Int[Tensor, " n"] | None, num_classes: int
) -> Float[Tensor, "n d+{num_classes}"]:
    """z and, if there are classes, the class as one-hot code beside it: what a conditional generator is given.

    Raises:
        ValueError: classes and no labels, labels and no classes, or labels beyond num_classes.
    """
    if num_classes == 0:
        if labels is not None:
            raise ValueError("this model knows no classes: leave labels out")
        return z
    if labels is None:
        raise ValueError(f"this model draws images of {num_classes} classes: pass labels")
    return torch.cat([z, one_hot(labels, num_classes).to(z)], 1)


def labels_of(batch: Batch, num_classes: int) -> Int[Tensor, " B"] | None:
    """The class numbers of the batch if a model of so many classes needs them; None if that is 0.

    Raises:
        ValueError: they are needed, and there are none or one is beyond num_classes.
    """
    if num_classes == 0:
        return None
    if batch.labels is None:
        raise ValueError(
            f"num_classes={num_classes} needs images with class numbers, and these have none: "
            "take a source with classes, or num_classes=0"
        )
    one_hot(batch.labels, num_classes)
    return batch.labels


def of_class(scores: Float[Tensor, "B k ..."], labels: Int[Tensor, " B"] | None) -> Float[Tensor, "B 1 ..."]:
    """From the scores of a discriminator, one a class, the score for the class of the image; without labels, k is 1.

    It is the projection discriminator of Miyato and Koyama (2018) whose last layer alone depends on the class.
    """
    if labels is None:
        return scores
    index = labels.long().view(-1, *[1] * (scores.ndim - 1)).expand(-1, 1, *scores.shape[2:])  # (B, 1, ...)
    return scores.gather(1, index)
