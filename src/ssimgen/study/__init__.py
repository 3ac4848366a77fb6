"""Studies: many runs from one file, resumable, within a time budget, ending in tables and a report.

    plan.py        the study file, read and checked
    execution.py   worker processes, budget, resuming
    tables.py      every number; means over seeds against the baseline; variational models at matched rate
    quick.py       does structure help on one's own images?

The command is `ssimgen study`; docs/study.md describes the file.
"""

from ssimgen.study.execution import Outcome, run_study
from ssimgen.study.plan import Plan, PlannedRun, make_plan, read_plan
from ssimgen.study.tables import results, write_tables

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
