"""Studies: many runs from one file, resumable, within a time budget, ending in tables and a report.

    plan.py        the study file, read and checked
    execution.py   worker processes, budget, resuming
    export.py      every number; means over seeds against the baseline; variational models at matched rate: as files
    quick/         does structure help on one's own images?

The command is `ssimgen study`; docs/study.md describes the file.
"""

from ssimgen.study.execution import Outcome, run_study
from ssimgen.study.export import results, write_tables
from ssimgen.study.plan import Plan, PlannedRun, make_plan, read_plan

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
