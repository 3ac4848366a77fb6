"""What a model is to the rest of the library: it draws images, and it says how it is to be trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ssimgen import _shown as shown
from ssimgen.batches import Batch, Shape, own_share, processes
from ssimgen.models.networks import begin_at_marginals


@dataclass(frozen=True)
class Step:
    """One update of an iteration: which parameters move, and down which loss.

    The loss is the sum of the terms, each times its weight. `terms` is called with a fresh batch; while it
    runs, only the parameters of `modules` require gradients, so nothing needs to be detached or frozen by hand.

    Attributes:
        name: short and unique in the model, such as "generator".
        modules: the sub-modules whose parameters move.
        terms: batch -> named scalars (0-d tensors). All are logged, and all are watched for NaN.
        weights: the weight of a term in the loss; 1 where not named. A term of weight 0 is only logged.
        every: take the step at every so-many-th iteration.
        span: the part of the run, in fractions of it, during which the step is taken: (0, 0.5) is the first half.
            The learning-rate schedule runs over the span.
        lr_scale: multiplies the learning rate of the run.

    Example:
        >>> import torch
        >>> from ssimgen.models import Step
        >>> network = torch.nn.Linear(1, 1)
        >>> step = Step("generator", (network,), lambda batch: {"l2": batch.images.square().mean()}, {"l2": 2.0})
        >>> step.every, step.weights["l2"]
        (1, 2.0)
    """

    name: str
    modules: tuple[nn.Module, ...]
    terms: Callable[[Batch], Mapping[str, Tensor]]
    weights: Mapping[str, float] = field(default_factory=dict)
    every: int = 1
    span: tuple[float, float] = (0.0, 1.0)
    lr_scale: float = 1.0


class Model(nn.Module, ABC):
    """A generative model of images in [0, 1] of shape (C, H, W), made from a frozen dataclass of options.

    `config` and `shape` are stored: with the weights, they are all it takes to make the model again.
    Whatever state training changes besides parameters belongs into buffers; change it in `terms` only
    when `self.training` is set.

    Raises:
        ValueError: when made, options that do not fit images of this shape.

    Example:
        >>> from ssimgen.models import GAN, GANConfig, Model
        >>> model: Model = GAN(GANConfig(), (1, 16, 16))
        >>> model.sample(4).shape, model.shape
        (torch.Size([4, 1, 16, 16]), (1, 16, 16))
    """

    name: ClassVar[str]
    """What `ssimgen train` calls the model."""
    averaged: ClassVar[tuple[str, ...]] = ()
    """Names of the sub-modules that an exponential moving average follows, when the run asks for one."""
    num_classes: int = 0
    """How many classes `sample` can be asked for, as `labels`; 0 if the model is not conditional."""

    def __init__(self, config: object, shape: Shape) -> None:
        super().__init__()
        self.config = config
        self.shape = shape

    def extra_repr(self) -> str:
        """The options, as `print` shows them before the networks."""
        return shown.attributes(self, "config", "shape")

    @abstractmethod
    def steps(self) -> list[Step]:
        """The updates of one iteration, in order."""

    def begin(self, batch: Batch) -> None:
        """What a run does before its first iteration, with its first batch: images begin at the mean of the batch."""
        begin_at_marginals(self, batch.images)

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "{n} C H W"]:
        """n images, without gradients. The same generator state gives the same images."""

    @property
    def device(self) -> torch.device:
        """The device on which the parameters are."""
        return next(self.parameters()).device

    def noise(self, n: int, size: int, generator: torch.Generator | None = None) -> Float[Tensor, "{n} {size}"]:
        """Standard normal noise on the model's device.

        With a generator: drawn on the generator's device, so that all devices sample the same images. Without:
        noise for training, from the global generator. Processes that train together are seeded alike; each draws
        the noise of all and keeps its share, so that the result does not depend on how many there are.
        """
        if generator is not None:
            return torch.randn(n, size, generator=generator, device=generator.device).to(self.device)
        return own_share(torch.randn(n * processes(), size, device=self.device))


class Autoencoder(Model):
    """A model that also encodes images and decodes them again.

    Example:
        >>> from ssimgen.models import MODELS, Autoencoder
        >>> [name for name, (model, _) in MODELS.items() if issubclass(model, Autoencoder)]
        ['vae', 'aae', 'autoencoder', 'code-gmmn']
    """

    @abstractmethod
    def reconstruct(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """The images as they come back from their codes, without noise and without gradients."""


class LatentModel(Model):
    """A model whose images are a function of noise z ~ N(0, I), and of a class if it is conditional.

    Attributes:
        latent: dimensions of z.

    Example:
        >>> import torch
        >>> from ssimgen.models import GAN, GANConfig
        >>> gan = GAN(GANConfig(latent=2, num_classes=3), (1, 16, 16))
        >>> gan.draw(torch.zeros(1, 2), labels=torch.tensor([1])).shape
        torch.Size([1, 1, 16, 16])
        >>> gan.chosen(5)
        tensor([0, 1, 2, 0, 1])
    """

    def __init__(self, config: object, shape: Shape, latent: int, num_classes: int = 0) -> None:
        super().__init__(config, shape)
        self.latent, self.num_classes = latent, num_classes

    @abstractmethod
    def draw(self, z: Float[Tensor, "n d"], labels: Int[Tensor, " n"] | None = None) -> Float[Tensor, "n C H W"]:
        """The images of z, with gradients; a conditional model needs the class numbers."""

    @torch.no_grad()
    def sample(
        self, n: int, generator: torch.Generator | None = None, labels: Int[Tensor, " {n}"] | None = None
    ) -> Float[Tensor, "{n} C H W"]:
        """n images, of the classes `labels` or, if the model is conditional and they are None, of all in turn."""
        return self.draw(self.noise(n, self.latent, generator), self.chosen(n, labels))

    def chosen(self, n: int, labels: Int[Tensor, " {n}"] | None = None) -> Int[Tensor, " {n}"] | None:
        """`labels` on the model's device, or the classes in turn; None if the model is not conditional.

        Raises:
            ValueError: labels for a model without classes.
        """
        if not self.num_classes:
            if labels is not None:
                raise ValueError("this model knows no classes: leave labels out")
            return None
        return torch.arange(n, device=self.device) % self.num_classes if labels is None else labels.to(self.device)


class LatentAutoencoder(LatentModel, Autoencoder):
    """A model that draws images from the very codes that it encodes images in.

    Example:
        >>> import torch
        >>> from ssimgen.models import VAE, VAEConfig
        >>> vae, images = VAE(VAEConfig(tau=6.5e-3), (1, 16, 16)), torch.rand(2, 1, 16, 16)
        >>> torch.equal(vae.draw(vae.code(images)), vae.reconstruct(images))
        True
    """

    @abstractmethod
    def code(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B d"]:
        """The codes of images, without noise; `draw` takes them back."""
