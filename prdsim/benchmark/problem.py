"""What every contender is given: a configuration, its data, the weights at t = 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prdsim.backends.numpy import NumpyBackend
from prdsim.config import RunConfig
from prdsim.datasets.configured import load_data
from prdsim.errors import ConfigError
from prdsim.physics.initial import draw_initial
from prdsim.physics.model import dimensions_of
from prdsim.physics.randomness import Stream, uniforms
from prdsim.physics.state import Dimensions
from prdsim.running.integrators import AlternatingDescent, make_stepper
from prdsim.running.memory import check_memory
from prdsim.running.resolve import automatic_step

if TYPE_CHECKING:
    from prdsim.backends.base import HostArray

_ENDLESS = 2**31 - 1  # steps: as many as are asked for


@dataclass(frozen=True)
class Problem:
    """Data X (d_in, n), Y (d_out, n) and U, V, W, a at t = 0, float64; keys of the run.

    The step size is a number, and there is no last step. Each contender casts them to
    the precision of ``config`` itself.
    """

    config: RunConfig
    X: HostArray
    Y: HostArray
    initial: Mapping[str, HostArray]

    @classmethod
    def of(cls, config: RunConfig) -> Problem:
        """Load the data and draw the weights of a configuration, as `comparable` completes it.

        Raises `ConfigError` for a configuration that the rivals have no program for or that does
        not fit into memory, and `DataError`.
        """
        config = comparable(config)
        dataset = load_data(config)
        sizes = dimensions_of(config, dataset.X.shape[0], dataset.Y.shape[0], dataset.X.shape[1])
        check_memory(config, sizes, NumpyBackend(config.array_precision), "weight")
        initial = draw_initial(config, sizes)
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

    @property
    def step_size(self) -> float:
        """The step size of U and V."""
        assert not isinstance(self.config.step_size, str)
        return self.config.step_size

    @cached_property
    def critic_step_size(self) -> float:
        """The size of one critic update."""
        stepper = make_stepper(self.config)
        assert isinstance(stepper, AlternatingDescent)
        return stepper.critic_update_size(self.step_size)

    def penalty_points(self, step: int) -> HostArray:
        """Return e_p of every critic update of a step, shape (critic_steps, n), float64."""
        config, n = self.config, self.sizes.n
        if not config.random_penalty_points:
            return np.full((config.critic_steps, n), 0.5)
        rows = [
            uniforms(config.seed, Stream.PENALTY_POINTS, step, update, n)
            for update in range(config.critic_steps)
        ]
        return np.reshape(rows, (config.critic_steps, n))

    def save(self, path: Path) -> None:
        """Write everything to a file that `load` reads."""
        initial: dict[str, Any] = dict(self.initial)
        np.savez(path, config=self.config.to_json(), X=self.X, Y=self.Y, **initial)

    @classmethod
    def load(cls, path: Path, **keys: Any) -> Problem:
        """Read what `save` wrote; ``keys`` replace some of the configuration's."""
        with np.load(path) as arrays:
            initial = {name: arrays[name] for name in "UVWa"}
            return cls(cls.stored_config(path, **keys), arrays["X"], arrays["Y"], initial)

    @staticmethod
    def stored_config(path: Path, **keys: Any) -> RunConfig:
        """Read the configuration alone of what `save` wrote."""
        with np.load(path) as arrays:
            return RunConfig.from_json(str(arrays["config"])).replace(**keys)


def comparable(config: RunConfig) -> RunConfig:
    """Return a configuration with the paper's steps where it does not say which.

    Raises `ConfigError` unless the rivals implement what it asks for.
    """
    given = config.model_fields_set
    if "integrator" not in given:
        config = config.replace(integrator="gd")
    only = {"integrator": "gd", "critic": "wgan-gp", "trainable": "U,V,W,a"}
    for key, value in only.items():
        given = getattr(config, key)
        if given != value:
            raise ConfigError(f"bench compares {key} {value} alone, not {given}")
    if config.penalty_points.startswith("gauss"):
        raise ConfigError("bench compares penalty_points random and midpoint alone")
    if config.precision == "tf32":
        raise ConfigError("bench compares precision float64 and float32 alone, not tf32")
    return config if "penalty_points" in given else config.replace(penalty_points="random")
