"""How far a run's numbers can be trusted: replays at finer steps, twins, and a judgment of both.

`judgment` decides, on numbers alone; `report` is the file beside the run, and the words for it;
`replays` are the runs; `assess` puts them together. What analyses need of a report is here.
"""

from prdsim.convergence.judgment import HEADLINE, JudgedNumber, Verdict, judge, percent
from prdsim.convergence.report import NOT_ASSESSED, FoundReport, Report, Sides, error_text, look_up

__all__ = [
    "HEADLINE",
    "NOT_ASSESSED",
    "FoundReport",
    "JudgedNumber",
    "Report",
    "Sides",
    "Verdict",
    "error_text",
    "judge",
    "look_up",
    "percent",
]
