"""Generative models, one a file, each readable whole.

A model is a :class:`~ssimgen.models.steps.Model`: a `torch.nn.Module` made as `VAE(config, shape)`, where `config`
is a frozen dataclass of its options and `shape` is (channels, height, width) of its images. It offers

- `sample(n, generator)`: n images in [0, 1], (n, C, H, W);
- `draw(z, labels)`: the images of given noise, if it is a :class:`~ssimgen.models.steps.LatentModel` (all are);
- `reconstruct(images)`, if it is an :class:`~ssimgen.models.steps.Autoencoder`;
- `steps()`: how to train it, as a list of :class:`~ssimgen.models.steps.Step`, each with a name, the sub-modules
  that move, and a function from a batch to named loss terms.

A model knows nothing of the loop that trains it: no optimiser, device placement, logging or checkpoint. Losses
that look at a batch as a whole (moment matching) apply :func:`ssimgen.batches.gathered` to what they compare,
so that they see the batch of all devices; everything else is a mean over the batch, which data parallelism averages.

To add a model: write its file, add it to `MODELS`; `ssimgen train` then has a command for it. Length and optimiser of
its training are in `defaults.py`, where the usual ones do not do.
"""

from typing import Any

import torch

from ssimgen.batches import Shape
from ssimgen.models.aae import AAE, AAEConfig
from ssimgen.models.autoencoder import PlainAutoencoder, PlainAutoencoderConfig
from ssimgen.models.began import BEGAN, BEGANConfig
from ssimgen.models.cgmmn import CGMMN, CGMMNConfig
from ssimgen.models.code_gmmn import CodeGMMN, CodeGMMNConfig
from ssimgen.models.defaults import usual_training
from ssimgen.models.gan import GAN, GANConfig
from ssimgen.models.gmmn import GMMN, GMMNConfig
from ssimgen.models.lsgan import LSGAN, LSGANConfig
from ssimgen.models.making import make_model, with_networks
from ssimgen.models.steps import Autoencoder, LatentAutoencoder, LatentModel, Model, Step
from ssimgen.models.vae import VAE, VAEConfig

__all__ = [
    "AAE",
    "BEGAN",
    "CGMMN",
    "GAN",
    "GMMN",
    "LSGAN",
    "MODELS",
    "VAE",
    "AAEConfig",
    "Autoencoder",
    "BEGANConfig",
    "CGMMNConfig",
    "CodeGMMN",
    "CodeGMMNConfig",
    "GANConfig",
    "GMMNConfig",
    "LSGANConfig",
    "LatentAutoencoder",
    "LatentModel",
    "Model",
    "PlainAutoencoder",
    "PlainAutoencoderConfig",
    "Step",
    "VAEConfig",
    "check_model",
    "make_model",
    "usual_training",
    "with_networks",
]

MODELS: dict[str, tuple[type[Model], type]] = {
    "vae": (VAE, VAEConfig),
    "aae": (AAE, AAEConfig),
    "autoencoder": (PlainAutoencoder, PlainAutoencoderConfig),
    "gan": (GAN, GANConfig),
    "lsgan": (LSGAN, LSGANConfig),
    "began": (BEGAN, BEGANConfig),
    "gmmn": (GMMN, GMMNConfig),
    "code-gmmn": (CodeGMMN, CodeGMMNConfig),
    "cgmmn": (CGMMN, CGMMNConfig),
}
"""Name on the command line and in run folders -> (model, its options)."""


def check_model(name: str, config: Any, shape: Shape) -> None:
    """Raise ValueError if a model of MODELS cannot be made for images of this shape; at once, and without memory.

    Example:
        >>> from ssimgen.models import LSGANConfig, check_model
        >>> from ssimgen.models.networks import Network
        >>> check_model("lsgan", LSGANConfig(), (1, 28, 28))
        >>> check_model("lsgan", LSGANConfig(scores="patches", discriminator=Network("mlp")), (1, 28, 28))
        Traceback (most recent call last):
            ...
        ValueError: a map of scores needs a convolutional network: set kind='conv'
    """
    with torch.device("meta"):
        MODELS[name][0](config, shape)
