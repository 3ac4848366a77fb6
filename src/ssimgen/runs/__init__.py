"""The folder of a run: what training leaves in it, and what an evaluation adds.

folder.py        configuration, log and pictures; the trained model
checkpoints.py   all that a run needs to go on, in one file
evaluation.py    scores of the trained model beside real images, as a file
judge.py         how they and pictures are made
checks.py        which metrics may judge models of these images
"""

from ssimgen._extras import extra

with extra("train", "ssimgen.runs"):
    from ssimgen._reading import Evaluation, ScoreRow
    from ssimgen.runs.checkpoints import Checkpoint, CheckpointError
    from ssimgen.runs.checks import checked_judges
    from ssimgen.runs.evaluation import add_checks, evaluate_run
    from ssimgen.runs.folder import RunFolder, load_model
    from ssimgen.runs.judge import EvaluationOptions

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "Evaluation",
    "EvaluationOptions",
    "RunFolder",
    "ScoreRow",
    "add_checks",
    "checked_judges",
    "evaluate_run",
    "load_model",
]
