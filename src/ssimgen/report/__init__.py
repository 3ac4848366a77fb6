"""Reports of runs: one HTML file that holds everything it shows. Reads run folders only, and needs no PyTorch.

folders.py     run folders, and which of them may stand in one report
statistics.py  means over seeds with intervals, paired comparisons, values at matched rate
results.py     every number of the runs
summary.py     means over seeds against a baseline, models at matched rate
endpoints.py   what a study named before it ran, tested once and for all
verdict.py     what stands first
arms.py        runs that differ only by their seed, in groups
ranking.py     models by rows, metrics by columns, best first
comparison.py  the same beside a baseline
charts.py      inline SVG
galleries.py   pictures
options.py     in which options models differ
page.py        the page; report.html, report.css and report.js are its template
"""

from ssimgen._extras import extra

with extra("train", "ssimgen.report"):
    from ssimgen.report.page import write_report
    from ssimgen.report.verdict import Verdict

__all__ = ["Verdict", "write_report"]
