"""Studies: many runs from one file, resumable, within a time budget, ending in tables and a report.

    plan.py        the study file, read and checked
    ranges.py      options drawn at random from what a file states
    search.py      as many trials of them for every model, judged on a part of the training images
    execution.py   what is checked before, budget, resuming
    workers.py     the processes that carry out runs
    run.py         one run, trained and evaluated
    progress.py    a bar, a line for each run, and what is left to do
    export.py      every number; means over seeds against the baseline; variational models at matched rate: as files
    quick/         does structure help on one's own images?

The command is `ssimgen study`; docs/study.md describes the file.
"""

from ssimgen._extras import extra

with extra("train", "ssimgen.study"):
    from ssimgen.study.execution import run_study
    from ssimgen.study.export import results, write_tables
    from ssimgen.study.plan import Plan, PlannedRun, make_plan, read_plan
    from ssimgen.study.run import Outcome

__all__ = [
    "Outcome",
    "Plan",
    "PlannedRun",
    "make_plan",
    "read_plan",
    "results",
    "run_study",
    "write_tables",
]
