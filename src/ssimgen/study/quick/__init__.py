"""Does structure help on one's own images? A small study of a VAE, cut to a time budget, ends in a recommendation.

planning.py    how much fits into the budget, as a study file
running.py     the study from the first image to the report
concluding.py  what it says
"""

from ssimgen.study.quick.concluding import recommendation
from ssimgen.study.quick.planning import Costs, Extent, measure, planned, replanned
from ssimgen.study.quick.running import quick_study

__all__ = ["Costs", "Extent", "measure", "planned", "quick_study", "recommendation", "replanned"]
