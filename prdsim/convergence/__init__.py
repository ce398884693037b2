"""How far a run's numbers can be trusted: replays at finer steps, twins, and a judgment of both.

`judgment` decides from numbers alone; `report` reads, writes and words the file next to the run;
`replays` makes the runs; `assess` combines them. Names that analyses need are exported here.
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
