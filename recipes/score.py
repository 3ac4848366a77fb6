"""Parzen-window log-likelihood of a run, as papers report it: `python recipes/score.py RUN MNIST`.

10,000 samples are the centres; the bandwidth is chosen on 1,000 training images, which are not scored; the score is the
mean over all held-out images, with its standard error. The second line has training images in place of samples.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor

from ssimgen.data import load_images
from ssimgen.evaluation import parzen_bandwidth, parzen_log_likelihood
from ssimgen.training import load_model

SAMPLES, VALIDATION = 10_000, 1000


def score(centres: Tensor, validation: Tensor, test: Tensor) -> str:
    """Mean and standard error over the test images, at the bandwidth that is best for the validation images."""
    sigma = parzen_bandwidth(validation, centres)
    values = parzen_log_likelihood(test, centres, sigma=sigma)
    return f"{values.mean():.1f} +- {values.std() / len(values) ** 0.5:.1f} nats, sigma {sigma:g}"


def main(run: str, data: str) -> None:
    """Print both scores."""
    splits = load_images(data)
    train, test = splits.train.first(len(splits.train)).images, splits.held_out.first(len(splits.held_out)).images
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    validation, others = train[order[:VALIDATION]], train[order[VALIDATION:][:SAMPLES]]
    samples = load_model(Path(run)).sample(len(others), torch.Generator().manual_seed(0))
    print(f"samples of {run}: {score(samples, validation, test)}")
    print(f"training images: {score(others, validation, test)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
