"""Do conditional samples show the class that was asked for, and what do codes tell of it? Classifiers answer."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ssimgen import _arguments as arguments
from ssimgen._extras import extra
from ssimgen._numbers import positive_integer
from ssimgen._request import DataRange
from ssimgen.evaluation.images import in_unit_range

_BATCH = 32


def train_classifier(
    images: Float[Tensor, "n C H W"],
    labels: Int[Tensor, " n"],
    *,
    data_range: DataRange,
    epochs: int = 8,
    seed: int = 0,
) -> Callable[[Tensor], Tensor]:
    """A small convolutional classifier: a function of images (B, C, H, W) in `data_range` to scores (B, classes).

    Trained by Adam at 3e-3 falling to 0, on batches of 32. How good it is, the reference row of held-out images says.

    Args:
        images: real images, none of those that the classifier will judge.
        labels: their class numbers, from 0.
        data_range: of the images.
        epochs: passes over the images.
        seed: of weights and order; the global random state is left as it was.

    Raises:
        TypeError, ValueError: images that are not finite or beyond their data_range; labels that do not fit the
            images, are negative, or of a single class.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation import train_classifier
        >>> labels = torch.arange(20) % 2
        >>> images = labels.view(20, 1, 1, 1) * torch.ones(1, 16, 16)  # black and white
        >>> classifier = train_classifier(images, labels, data_range=1.0, epochs=1)
        >>> classifier(images).shape
        torch.Size([20, 2])
    """
    unit = in_unit_range("images", images, data_range).float()
    check_labels("labels", labels, unit)
    check_several_classes("labels", labels)
    positive_integer("epochs", epochs, "passes")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _network(unit.shape[1], int(labels.max()) + 1).to(unit.device)
        _fit(network, unit, labels, epochs)
    network.eval()

    @torch.no_grad()
    def classify(batch: Tensor) -> Tensor:
        scores: Tensor = network(in_unit_range("images", batch, data_range).float())
        return scores

    return classify


def class_accuracy(
    classifier: Callable[[Tensor], Tensor], images: Float[Tensor, "n C H W"], labels: Int[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """1 for each image whose greatest class score is that of its label, else 0 (Shmelkov, Schmid, Alahari 2018).

    The mean is what they call GAN-test when the images are conditional samples and the classifier saw real images. It
    says nothing if the classifier is :func:`at_chance` for real images.

    Args:
        classifier: images (B, C, H, W) to scores (B, classes), from :func:`train_classifier` or any other.
        images: conditional samples.
        labels: the classes that were asked for.

    Raises:
        ValueError: labels that do not fit the images, or a classifier that does not return one finite row an image.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation import class_accuracy
        >>> images = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 16, 16)
        >>> brightness = lambda batch: torch.stack([0.5 - batch.mean((1, 2, 3)), batch.mean((1, 2, 3)) - 0.5], 1)
        >>> class_accuracy(brightness, images, torch.tensor([0, 0]))
        tensor([1., 0.])
    """
    check_labels("labels", labels, images)
    scores = torch.cat([classifier(batch) for batch in images.split(_BATCH)])
    if scores.ndim != 2 or len(scores) != len(images) or not scores.isfinite().all():
        raise ValueError(
            f"the classifier must return finite scores (batch, classes), got shape {tuple(scores.shape)} for "
            f"{len(images)} images"
        )
    return (scores.argmax(1) == labels.to(scores.device)).float()


def probe_accuracy(
    train: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    codes: Float[Tensor, "m d"],
    of_codes: Int[Tensor, " m"],
) -> Float[Tensor, " m"]:
    """1 for each code whose class a linear classifier names that was fitted to codes of training images, else 0.

    Multinomial logistic regression on standardised codes, with scikit-learn's ridge of 1 (the linear probe of Alain,
    Bengio 2017; Snell et al. 2017 judge structural autoencoders by it). It measures what a code tells of its image and
    not how the image looks.

    Args:
        train: codes of training images.
        labels: their class numbers, from 0.
        codes: of other images.
        of_codes: the class numbers of these.

    Raises:
        TypeError, ValueError: codes that are not finite, or of unequal dtypes or widths; labels that do not fit them,
            are negative, or, of the training images, of a single class.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation import probe_accuracy
        >>> codes, labels = torch.tensor([[-1.0], [-2.0], [1.0], [2.0]]), torch.tensor([0, 0, 1, 1])
        >>> probe_accuracy(codes, labels, torch.tensor([[-3.0], [3.0]]), torch.tensor([0, 0]))
        tensor([1., 0.])
    """
    with extra("sklearn", "probe_accuracy"):
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

    train, codes = arguments.feature_sets(train, codes, ("train", "codes"), 1, "a probe")
    for name, of, points in (("labels", labels, train), ("of_codes", of_codes, codes)):
        check_labels(name, of, points)
    check_several_classes("labels", labels)
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    probe.fit(train.double().cpu().numpy(), labels.cpu().numpy())
    found = torch.as_tensor(probe.predict(codes.double().cpu().numpy()))
    return (found == of_codes.cpu()).float()


def principal_components(
    train: Float[Tensor, "n C H W"], images: Float[Tensor, "m C H W"], count: int
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
    """Codes that need no training: the first `count` principal components of training images, or all there are."""
    with extra("sklearn", "principal_components"):
        from sklearn.decomposition import PCA

    most = min(count, len(train), train[0].numel())
    pca = PCA(most, svd_solver="randomized", random_state=0).fit(train.flatten(1).double().numpy())
    first, second = (torch.as_tensor(pca.transform(z.flatten(1).double().numpy())) for z in (train, images))
    return first, second


def at_chance(right: Float[Tensor, " n"], labels: Int[Tensor, " n"], level: float = 0.01) -> str:
    """Why a classifier must not judge others: it does not tell held-out real images apart itself; "" if it does.

    It does if always naming their most frequent class would be right so often with a probability of at most `level`
    (exact binomial test, one-sided).

    Args:
        right: 1 for each held-out image that it puts into its class, else 0, from :func:`class_accuracy`.
        labels: the classes of these images.

    Example:
        >>> import torch
        >>> from ssimgen.evaluation import at_chance
        >>> labels = torch.arange(20) % 2
        >>> at_chance(torch.ones(20), labels) == "", at_chance(torch.ones(20) * (labels == 0), labels) == ""
        (True, False)
    """
    with extra("sklearn", "at_chance"):
        from scipy.stats import binomtest

    n, count, hits = len(labels), int(labels.bincount().max()), int(right.sum())
    if binomtest(hits, n, count / n, alternative="greater").pvalue <= level:
        return ""
    return (
        f"the classifier puts {hits} of {n} real held-out images into their class, and always naming one "
        f"class is right for {count}: it needs more images of each class, or fewer classes"
    )


def _network(channels: int, classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, 32, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(32, 64, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(7),  # any size of image; 28 x 28 px as it is
        nn.Flatten(),  # (B, 64 * 7 * 7)
        nn.Dropout(0.5),
        nn.Linear(64 * 7 * 7, classes),
    )


def _fit(network: nn.Module, images: Tensor, labels: Tensor, epochs: int) -> None:
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    batches = -(-len(images) // _BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * batches)
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).to(images.device).split(_BATCH):
            optimiser.zero_grad()
            F.cross_entropy(network(images[batch]), labels[batch]).backward()
            optimiser.step()
            schedule.step()


def check_labels(name: str, labels: Tensor, images: Tensor) -> None:
    """Raise unless `labels` are class numbers, one an image."""
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.ndim != 1 or len(labels) != len(images):
        got = f"{labels.dtype} of shape {tuple(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
        raise ValueError(f"{name} must be a tensor of {len(images)} class numbers, one an image, got {got}")
    if labels.min() < 0:
        raise ValueError(f"{name} must be class numbers from 0, got {int(labels.min())}")


def check_several_classes(name: str, labels: Tensor) -> None:
    """Raise unless `labels` are of two classes or more."""
    if len(labels.unique()) < 2:
        raise ValueError(
            f"a classifier needs images of at least two classes, but all of {name} are {int(labels[0])}: "
            "leave class accuracy out, or pass labels of all classes"
        )
