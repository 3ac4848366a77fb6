"""Reports of runs: one HTML file that holds everything it shows. Reads run folders only, and needs no PyTorch.

folders.py     run folders, and which of them may stand in one report
statistics.py  means over seeds with intervals, paired comparisons, values at matched rate
results.py     every number of the runs
summary.py     means over seeds against a baseline, models at matched rate
arms.py        runs that differ only by their seed, in groups
ranking.py     models by rows, metrics by columns, best first
comparison.py  the same beside a baseline
charts.py      inline SVG
galleries.py   pictures
options.py     in which options models differ
page.py        the page; report.html, report.css and report.js are its template
"""

from ssimgen.report.page import Verdict, write_report

__all__ = ["Verdict", "write_report"]
