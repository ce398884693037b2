"""Measures of patterns, from weights or from trajectories.

Measures take arrays; `history`, `neuron_table` and `subspace_table` take a trajectory, or a
recording of arrays made by `recording_of`, and read one snapshot at a time.
"""

from prdsim.analysis.group import Measure
from prdsim.analysis.labels import by_label, told_apart
from prdsim.analysis.patterns.measures import GROUPS, History, history
from prdsim.analysis.recording import Recording, Snapshot, open_recording, recording_of
from prdsim.analysis.run_tables import neuron_table, scaling_like, scaling_table, subspace_table
from prdsim.analysis.stability.growth import growth_of
from prdsim.analysis.theory.forces import forces_of
from prdsim.table import Table, to_json

__all__ = [
    "GROUPS",
    "History",
    "Measure",
    "Recording",
    "Snapshot",
    "Table",
    "by_label",
    "forces_of",
    "growth_of",
    "history",
    "neuron_table",
    "open_recording",
    "recording_of",
    "scaling_like",
    "scaling_table",
    "subspace_table",
    "to_json",
    "told_apart",
]
