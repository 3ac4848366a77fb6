"""How good generated and reconstructed images are: metrics with intervals, and tables of them.

    from ssimgen.evaluation import evaluate_reconstructions, evaluate_samples

    rows = evaluate_samples(samples, train, held_out, data_range=1.0)        # images (n, C, H, W)
    rows = evaluate_reconstructions(images, reconstructions, data_range=1.0)

Everything takes tensors and functions, whatever model made them. Metrics that are means over images return one value
an image; :class:`Bootstrap` makes an estimate with an interval of them. See docs/evaluation.md.
"""

from ssimgen.evaluation.classification import at_chance, class_accuracy, train_classifier
from ssimgen.evaluation.distributions import frechet_distance, kernel_distance
from ssimgen.evaluation.estimates import Bootstrap, Estimate, PointEstimate
from ssimgen.evaluation.feature_networks import FeatureNetwork, efficientnet_lite0
from ssimgen.evaluation.images import Nearest, nearest, sharpness
from ssimgen.evaluation.manifolds import coverage, density, precision, recall
from ssimgen.evaluation.parzen import parzen_bandwidth, parzen_log_likelihood
from ssimgen.evaluation.reconstruction import evaluate_reconstructions, feature_distance, psnr
from ssimgen.evaluation.rows import Row
from ssimgen.evaluation.samples import ClassLabels, SampleOptions, evaluate_samples

__all__ = [
    "Bootstrap",
    "ClassLabels",
    "Estimate",
    "FeatureNetwork",
    "Nearest",
    "PointEstimate",
    "Row",
    "SampleOptions",
    "at_chance",
    "class_accuracy",
    "coverage",
    "density",
    "efficientnet_lite0",
    "evaluate_reconstructions",
    "evaluate_samples",
    "feature_distance",
    "frechet_distance",
    "kernel_distance",
    "nearest",
    "parzen_bandwidth",
    "parzen_log_likelihood",
    "precision",
    "psnr",
    "recall",
    "sharpness",
    "train_classifier",
]
