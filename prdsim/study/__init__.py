"""Studies: many runs that differ in a few settings, on any number of machines."""

from __future__ import annotations

from prdsim.study.folder import State, StudyFolder
from prdsim.study.plan import Member, Plan, load_plan
from prdsim.study.sweep import Swept, sweep

__all__ = ["Member", "Plan", "State", "StudyFolder", "Swept", "load_plan", "sweep"]
