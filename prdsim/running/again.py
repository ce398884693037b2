"""What a run writes once, computed again from its configuration: for files that lost a part."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from prdsim.config import Resolved, RunConfig
from prdsim.datasets.configured import load_data
from prdsim.errors import PrdsimError
from prdsim.running.runner import layout_of, plans_of
from prdsim.running.simulation import Simulation


def written_once(attributes: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the plans, samples, chart and initial state of a file with these attributes, by path.

    Left out are those that cannot be had: samples given as arrays, say. Nothing is verified: data
    and software may have changed since.
    """
    found: dict[str, np.ndarray] = {}
    try:
        config = RunConfig(**json.loads(attributes["config"]))
        resolved = Resolved.from_dict(json.loads(attributes["resolved"]))
        plans = plans_of(config)
        found["schedule/snapshots"], found["schedule/scalars"] = map(np.asarray, plans)
        dataset = load_data(config)
        with Simulation(config, dataset.X, dataset.Y, resolved=resolved) as simulation:
            found |= layout_of(simulation, dataset, plans).fixed_arrays
    except (PrdsimError, KeyError, TypeError, ValueError):
        pass  # of another version, or without its data
    return found
