"""How good generated and reconstructed images are: metrics with intervals, and tables of them.

    from ssimgen.evaluation import evaluate_reconstructions, evaluate_samples

    rows = evaluate_samples(samples, train, held_out, data_range=1.0)        # images (n, C, H, W)
    rows = evaluate_reconstructions(images, reconstructions, data_range=1.0)

Everything takes tensors and functions, whatever model made them. Metrics that are means over images return one value
an image; :class:`Bootstrap` makes an estimate with an interval of them. See docs/evaluation.md.
"""

from ssimgen._judged import JudgeCheck, Ranking, Rung
from ssimgen.evaluation.classification import at_chance, class_accuracy, probe_accuracy, train_classifier
from ssimgen.evaluation.classifier_test import c2st
from ssimgen.evaluation.colours import colour_distance, colour_error, mean_colours
from ssimgen.evaluation.distributions import frechet_distance, kernel_distance
from ssimgen.evaluation.estimates import Bootstrap, Estimate, PointEstimate
from ssimgen.evaluation.feature_networks import FeatureNetwork, efficientnet_lite0
from ssimgen.evaluation.images import Nearest, nearest, sharpness
from ssimgen.evaluation.judges import check_judges
from ssimgen.evaluation.manifolds import coverage, density, precision, recall
from ssimgen.evaluation.parzen import parzen_bandwidth, parzen_log_likelihood
from ssimgen.evaluation.perceptual import PerceptualDistance, st_lpips
from ssimgen.evaluation.reconstruction import evaluate_reconstructions, feature_distance, psnr
from ssimgen.evaluation.rows import Row
from ssimgen.evaluation.samples import ClassLabels, SampleOptions, evaluate_samples

__all__ = [
    "Bootstrap",
    "ClassLabels",
    "Estimate",
    "FeatureNetwork",
    "JudgeCheck",
    "Nearest",
    "PerceptualDistance",
    "PointEstimate",
    "Ranking",
    "Row",
    "Rung",
    "SampleOptions",
    "at_chance",
    "c2st",
    "check_judges",
    "class_accuracy",
    "colour_distance",
    "colour_error",
    "coverage",
    "density",
    "efficientnet_lite0",
    "evaluate_reconstructions",
    "evaluate_samples",
    "feature_distance",
    "frechet_distance",
    "kernel_distance",
    "mean_colours",
    "nearest",
    "parzen_bandwidth",
    "parzen_log_likelihood",
    "precision",
    "probe_accuracy",
    "psnr",
    "recall",
    "sharpness",
    "st_lpips",
    "train_classifier",
]
