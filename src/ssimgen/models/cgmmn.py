"""Conditional generative moment-matching network (Ren, Zhu, Li, Luo 2016), with pixel or structural kernels.

A generator maps noise z ~ U[-1, 1]^d and a condition to an image. For the conditions of a batch it draws one each,
and brings down the conditional discrepancy between (condition, drawn) and (condition, real),

    CMMD^2 = Tr(K K~^-1 L_d K~^-1) + Tr(K K~^-1 L_s K~^-1) - 2 Tr(K K~^-1 L_ds K~^-1),     K~ = K + lambda I,

with K the kernel of the conditions and L that of the images (:func:`ssimgen.discrepancy.cmmd2`). Conditions are

- "labels": class numbers, K = 1 for equal and 0 for different ones. A class of n_c images then counts as its own MMD^2
  (V-statistic) times (n_c / (n_c + lambda))^2, and CMMD^2 is the sum over classes;
- "upper_half": the upper half of an image, from which the lower half is predicted: only that is compared.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from ssimgen._arguments import choice, is_positive
from ssimgen.batches import Batch, Shape, gathered
from ssimgen.discrepancy import cmmd2
from ssimgen.models import networks
from ssimgen.models.classes import with_class
from ssimgen.models.networks import Network
from ssimgen.models.steps import LatentModel, Step
from ssimgen.objectives.moment_matching import FittedKernel, PairKernel, uniform
from ssimgen.similarity import root


@dataclass(frozen=True)
class CGMMNConfig:
    """Options of the conditional moment-matching network.

    Attributes:
        condition: "labels" or "upper_half".
        num_classes: how many classes there are, with "labels".
        latent: dimensions of the noise.
        kernel: how two images, or lower halves, are compared.
        condition_kernel: how two upper halves are compared; labels are compared for equality.
        regularisation: lambda. Larger values smooth over conditions; with upper halves, which are all different, small
            ones prefer a single completion of each (docs/kernels.md, F9).
        root: minimise CMMD instead of CMMD^2.
        network: generator, and encoder of upper halves.
        features: numbers that an upper half is encoded in.

    Raises:
        ValueError: an option that is unknown or out of range, by its name.

    Example:
        >>> from ssimgen.models import CGMMNConfig
        >>> CGMMNConfig(condition="upper_half").regularisation
        0.001
    """

    condition: Literal["labels", "upper_half"] = "labels"
    num_classes: int = 10
    latent: int = 10
    kernel: PairKernel = field(default_factory=PairKernel)
    condition_kernel: PairKernel = field(default_factory=lambda: PairKernel(metric="l2"))
    regularisation: float = 1e-3
    root: bool = True
    network: Network = field(default_factory=lambda: Network(norm="batch"))
    features: int = 64

    def __post_init__(self) -> None:
        choice("condition", self.condition, ("labels", "upper_half"))
        for name in ("num_classes", "latent", "features"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not is_positive(self.regularisation):
            raise ValueError(f"regularisation must be a positive number, got {self.regularisation!r}: 1e-3 is usual")


class _Labels:
    """Conditions that are class numbers, equal or not; whole images are compared."""

    shown = 0  # how many conditions the model keeps, to sample with

    def __init__(self, config: CGMMNConfig, shape: Shape) -> None:
        self.num_classes = self.features = config.num_classes
        self.compared_shape = shape

    def encoder(self, config: CGMMNConfig, shape: Shape) -> nn.Module:
        return nn.Identity()

    def of(self, batch: Batch) -> Int[Tensor, " B"]:
        if batch.labels is None:
            raise ValueError(
                "condition='labels' needs images with class numbers, and these have none: "
                "take a source with classes, or condition='upper_half'"
            )
        return batch.labels

    def draw(self, model: CGMMN, z: Float[Tensor, "n d"], labels: Int[Tensor, " n"] | None) -> Float[Tensor, "n C H W"]:
        images: Tensor = model.generator(with_class(uniform(z), labels, self.num_classes))
        return images

    def gram(self, model: CGMMN, labels: Int[Tensor, " n"]) -> Shaped[Tensor, "n n"]:
        return labels[:, None] == labels

    def compared(self, images: Float[Tensor, "n C H W"]) -> Float[Tensor, "n C H W"]:
        return images


class _UpperHalves:
    """Conditions that are upper halves of images; the lower ones are compared. Where none are given, those shown."""

    shown = 64
    num_classes = 0

    def __init__(self, config: CGMMNConfig, shape: Shape) -> None:
        channels, self.height, width = shape
        self.features = config.features
        self.compared_shape = channels, self.height - self.height // 2, width

    def encoder(self, config: CGMMNConfig, shape: Shape) -> nn.Module:
        return networks.encoder(config.network, shape, config.features)

    def of(self, batch: Batch) -> Float[Tensor, "B C h W"]:
        return batch.images[:, :, : self.height // 2]

    def draw(
        self, model: CGMMN, z: Float[Tensor, "n d"], upper: Float[Tensor, "n C h W"] | None
    ) -> Float[Tensor, "n C H W"]:
        if upper is None:
            upper = model.shown[torch.arange(len(z), device=model.device) % self.shown]
        padded = F.pad(upper, (0, 0, 0, self.height - upper.shape[2]))  # (n, C, H, W), the lower half black
        images: Tensor = model.generator(torch.cat([uniform(z), model.encoder(padded)], 1))
        return torch.cat([upper, self.compared(images)], 2)

    def gram(self, model: CGMMN, upper: Float[Tensor, "n C h W"]) -> Float[Tensor, "n n"]:
        if model.training and not model.shown.any():
            model.shown.copy_(upper[torch.arange(self.shown) % len(upper)])
        model.conditions.fit(upper)
        return model.conditions.kernel(torch.zeros_like(upper[:1]))(upper)

    def compared(self, images: Float[Tensor, "n C H W"]) -> Float[Tensor, "n C h W"]:
        return images[:, :, self.height // 2 :]


_CONDITIONS: dict[str, type[_Labels] | type[_UpperHalves]] = {"labels": _Labels, "upper_half": _UpperHalves}


class CGMMN(LatentModel):
    """Conditional moment matching: draws images of a class, or lower halves that fit upper halves.

    Minimises the conditional discrepancy of (condition, drawn image) from (condition, real image),
    :func:`ssimgen.discrepancy.cmmd2` (Ren, Zhu, Li, Luo 2016).

    Example:
        >>> import torch
        >>> from ssimgen.models import CGMMN, CGMMNConfig
        >>> cgmmn = CGMMN(CGMMNConfig(num_classes=3), (1, 16, 16))
        >>> cgmmn.sample(2, labels=torch.tensor([0, 2])).shape
        torch.Size([2, 1, 16, 16])
    """

    name = "cgmmn"
    averaged = ("encoder", "generator")
    config: CGMMNConfig

    def __init__(self, config: CGMMNConfig, shape: Shape) -> None:
        condition = _CONDITIONS[config.condition](config, shape)
        super().__init__(config, shape, config.latent, condition.num_classes)
        self.condition = condition
        upper = (shape[0], shape[1] // 2, shape[2])
        self.encoder = condition.encoder(config, shape)
        self.generator = networks.decoder(config.network, config.latent + condition.features, shape)
        self.outcomes = FittedKernel(config.kernel, config.kernel.image_metrics(condition.compared_shape))
        self.conditions = FittedKernel(config.condition_kernel, config.condition_kernel.image_metrics(upper))
        self.register_buffer("shown", torch.zeros(condition.shown, *upper))

    shown: Float[Tensor, "s C h W"]

    # --- drawing -----------------------------------------------------------------------------------------------

    def generate(self, condition: Tensor, generator: torch.Generator | None = None) -> Float[Tensor, "n C H W"]:
        """One image for each condition, a class number or an upper half, with gradients."""
        return self.condition.draw(self, self.noise(len(condition), self.latent, generator), condition)

    def draw(self, z: Float[Tensor, "n d"], labels: Int[Tensor, " n"] | None = None) -> Float[Tensor, "n C H W"]:
        """Images of the classes `labels`; or completions of upper halves of the first batch, in turn."""
        return self.condition.draw(self, z, labels if self.num_classes else None)

    @torch.no_grad()
    def complete(
        self, images: Float[Tensor, "n C H W"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "n C H W"]:
        """The images with their lower halves drawn anew."""
        if self.num_classes:
            raise ValueError(
                "this model draws images of classes: to complete images, train with condition='upper_half'"
            )
        return self.generate(self.condition.of(Batch(images)), generator)

    # --- training ----------------------------------------------------------------------------------------------

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """The conditional discrepancy of one drawn image for each real one, over all devices."""
        condition = self.condition.of(batch)
        drawn = self.generate(condition)
        images, drawn, condition = gathered(batch.images), gathered(drawn), gathered(condition)
        with torch.autocast(images.device.type, enabled=False):  # a small difference of large sums: full precision
            value = self._discrepancy(condition, drawn.float(), images)
        return {"cmmd": root(value) if self.config.root else value}

    def steps(self) -> list[Step]:
        """One step that moves the generator."""
        return [Step("generator", (self.encoder, self.generator), self.terms)]

    def _discrepancy(self, condition: Tensor, drawn: Tensor, real: Tensor) -> Float[Tensor, ""]:
        k = self.condition.gram(self, condition).to(real)  # (n, n)
        drawn, real = self.condition.compared(drawn), self.condition.compared(real)
        self.outcomes.fit(real)
        outcome = self.outcomes.kernel(torch.zeros_like(real[:1]))  # "energy": from the black image
        gram = outcome(real), outcome(real, drawn), outcome(drawn)
        return cmmd2(k, k, k, *gram, regularisation=self.config.regularisation)
