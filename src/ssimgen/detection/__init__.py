"""Finding defects by structure: anomaly maps of what an autoencoder does not give back, thresholds and their scores.

    from ssimgen.detection import Detector
    found = Detector(load_model("runs/good"))(image)          # of any size; found.map, found.score

An autoencoder that was trained on good images alone does not give back what they do not have, and where image and
reconstruction differ, there may be a defect (Bergmann, Löwe, Fauser, Sattlegger, Steger 2018, "Improving unsupervised
defect segmentation by applying structural similarity to autoencoders"). Everything takes tensors and functions,
whatever model made them. docs/detection.md is the guide.
"""

from ssimgen._extras import extra

with extra("train", "ssimgen.detection"):
    from ssimgen.detection.detector import Detection, Detector
    from ssimgen.detection.maps import Residual, anomaly_map
    from ssimgen.detection.scores import AnomalyScores, pixel_auroc, pro
    from ssimgen.detection.thresholds import conformal_threshold
    from ssimgen.detection.tiles import reconstruct_in_tiles

__all__ = [
    "AnomalyScores",
    "Detection",
    "Detector",
    "Residual",
    "anomaly_map",
    "conformal_threshold",
    "pixel_auroc",
    "pro",
    "reconstruct_in_tiles",
]
