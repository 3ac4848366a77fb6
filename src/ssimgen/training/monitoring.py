"""A few scores during training, cheap enough to take often; `ssimgen evaluate` has all of them, with intervals."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ssimgen.batches import Data
from ssimgen.discrepancy import energy_distance
from ssimgen.evaluation import psnr, sharpness
from ssimgen.metrics import StructuralDistance
from ssimgen.models.steps import Autoencoder, Model
from ssimgen.similarity import ssim
from ssimgen.training.hooks import Hook
from ssimgen.windows import Window

_IMAGES = 256  # samples, and as many held-out images at most


def evaluation_hook(every: int, held_out: Data, seed: int = 0) -> Hook:
    """A hook for `train` that scores up to 256 samples and held-out images every so many iterations.

    Logged as "evaluation/...": "energy_distance", of samples from held-out images with the structural distance, near 0
    and sometimes below it where the two do not differ; "sharpness" of samples; of an autoencoder also "psnr" (dB) and
    "ssim" of reconstructions. Samples are always of the same noise.

    Raises:
        ValueError: `every` below 1, or fewer than two held-out images.

    Example:
        >>> import torch
        >>> from ssimgen.data import Images
        >>> from ssimgen.models import VAE, VAEConfig
        >>> from ssimgen.training import evaluation_hook
        >>> held_out = Images(torch.rand(20, 1, 16, 16), None, "noise")
        >>> hook = evaluation_hook(100, held_out)
        >>> with torch.no_grad():
        ...     list(hook.run(VAE(VAEConfig(tau=0.1), held_out.shape).eval(), 100))
        ['evaluation/energy_distance', 'evaluation/sharpness', 'evaluation/psnr', 'evaluation/ssim']
    """
    if every < 1:
        raise ValueError(f"the iterations between evaluations must be at least 1, got {every}")
    real = held_out.first(_IMAGES).images
    if len(real) < 2:
        raise ValueError(f"an evaluation needs at least 2 held-out images, got {len(real)}: hold out more")
    window = Window.gaussian(min(11, *real.shape[-2:]), 1.5)  # smaller for images smaller than usual
    metric = StructuralDistance(1.0, window=window)

    def run(model: Model, iteration: int) -> Mapping[str, float]:
        images = real.to(model.device)
        samples = model.sample(len(images), torch.Generator().manual_seed(seed)).float()
        distance = energy_distance(metric(samples), metric(samples, images), metric(images), unbiased=True)
        scores = {"energy_distance": distance, "sharpness": sharpness(samples, data_range=1.0).mean()}
        if isinstance(model, Autoencoder):
            returned = model.reconstruct(images).float()
            scores["psnr"] = psnr(returned, images, data_range=1.0).mean()
            scores["ssim"] = ssim(returned, images, data_range=1.0, window=window).mean()
        return {f"evaluation/{name}": score.item() for name, score in scores.items()}

    return Hook(every, run)
