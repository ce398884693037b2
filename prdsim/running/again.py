"""What a run writes once, computed again from its configuration: for files that lost a part."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from prdsim.config import Resolved, RunConfig
from prdsim.datasets import Dataset
from prdsim.datasets.configured import load_data
from prdsim.errors import PrdsimError
from prdsim.running.adversary_norms import norms_for
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
        norms = _norms(config, dataset)
        with Simulation(
            config, dataset.X, dataset.Y, resolved=resolved, forcing_norms=norms
        ) as simulation:
            found |= layout_of(simulation, dataset, plans).fixed_arrays
    except (PrdsimError, KeyError, TypeError, ValueError):
        pass  # of another version, or without its data
    return found


def _norms(config: RunConfig, dataset: Dataset) -> np.ndarray | None:
    """Return the norms of a control; anything in their place if their run is no longer there.

    Nothing else depends on them, and checksums tell them from the right ones.
    """
    try:
        return norms_for(config, dataset)
    except PrdsimError:
        return np.ones(dataset.X.shape[1])
