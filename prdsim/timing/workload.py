"""The input of every contender: a configuration, its data, the weights at t = 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from prdsim.backends.arrays import HostArray
from prdsim.backends.numpy import NumpyBackend
from prdsim.config import RunConfig
from prdsim.datasets.configured import load_data
from prdsim.errors import ConfigError
from prdsim.physics.initial import draw_initial
from prdsim.physics.model import dimensions_of
from prdsim.physics.state import Dimensions
from prdsim.running.memory import check_memory
from prdsim.running.resolve import automatic_step

_ENDLESS = 2**31 - 1  # steps: as many as requested


@dataclass(frozen=True)
class Workload:
    """Data X (d_in, n), Y (d_out, n) and U, V, W, a at t = 0, float64; keys of the run.

    The step size is a number, and there is no last step. Each contender casts the arrays to the
    precision of ``config`` itself.
    """

    config: RunConfig
    X: HostArray
    Y: HostArray
    initial: Mapping[str, HostArray]

    @classmethod
    def of(cls, config: RunConfig) -> Workload:
        """Load the data and draw the weights of a configuration, as `comparable` completes it.

        Raises `ConfigError` for a configuration that `comparable` rejects or that does not fit into
        memory, and `DataError`.
        """
        config = comparable(config)
        dataset = load_data(config)
        sizes = dimensions_of(config, dataset.X.shape[0], dataset.Y.shape[0], dataset.X.shape[1])
        check_memory(config, sizes, NumpyBackend(config.array_precision), "weight")
        initial = draw_initial(config, sizes, dataset.X)
        step_size = config.step_size
        if step_size == "auto":
            step_size = automatic_step(config, dataset.X, dataset.Y, initial)
        endless = config.replace(
            step_size=float(step_size),
            steps=_ENDLESS,
            end_time=None,
            critic_warmup=0.0,
            snapshots=None,
            scalars=None,
        )
        return cls(endless, dataset.X, dataset.Y, initial)

    @property
    def sizes(self) -> Dimensions:
        """The sizes of the arrays."""
        return dimensions_of(self.config, self.X.shape[0], self.Y.shape[0], self.X.shape[1])

    def replace(self, **keys: Any) -> Workload:
        """Return the same data and weights with other keys of the configuration."""
        return replace(self, config=self.config.replace(**keys))


def comparable(config: RunConfig) -> RunConfig:
    """Return a configuration completed with the settings of the paper's steps.

    Raises `ConfigError` if it sets others: only the paper's steps are compared.
    """
    given = config.model_fields_set
    if "integrator" not in given:
        config = config.replace(integrator="gd")
    only = {"integrator": "gd", "critic": "wgan-gp", "trainable": "U,V,W,a"}
    for key, value in only.items():
        found = getattr(config, key)
        if found != value:
            raise ConfigError(f"bench compares only {key} {value}, not {found}")
    if config.penalty_points.startswith("gauss"):
        raise ConfigError("bench compares only penalty_points random and midpoint")
    if config.precision == "tf32":
        raise ConfigError("bench compares only precision float64 and float32, not tf32")
    return config if "penalty_points" in given else config.replace(penalty_points="random")
