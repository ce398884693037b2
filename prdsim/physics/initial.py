"""The initial draw: made once, on the host, in float64, whatever the backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prdsim.config import RunConfig
from prdsim.physics.groups import clones
from prdsim.physics.randomness import Stream, generator
from prdsim.physics.state import Dimensions

if TYPE_CHECKING:
    from prdsim.backends.arrays import HostArray


def draw_initial(config: RunConfig, dimensions: Dimensions, X: HostArray) -> dict[str, HostArray]:
    """Return U, V, W, a at t = 0, float64, in the shapes of `Dimensions.state_shapes`.

    u ~ N(0, init_scale^2), w ~ N(0, 1); v and a are Rademacher (+-1) or N(0, 1) by
    ``output_init``. Each array has its own stream of the seed. Neurons in groups are `clones`,
    whose deviations lie in the span of the inputs X (d_in, n).
    """
    shapes = dimensions.state_shapes

    def normal(name: str, stream: Stream) -> HostArray:
        return generator(config.seed, stream).standard_normal(shapes[name])

    def output(name: str, stream: Stream) -> HostArray:
        if config.output_init == "normal":
            return normal(name, stream)
        return 2.0 * generator(config.seed, stream).integers(0, 2, shapes[name]) - 1.0

    with np.errstate(over="ignore"):  # the caller looks for infinities
        U = config.init_scale * normal("U", Stream.INITIAL_U)
    drawn = {
        "U": U,
        "V": output("V", Stream.INITIAL_V),
        "W": normal("W", Stream.INITIAL_W),
        "a": output("a", Stream.INITIAL_A),
    }
    return clones(config, drawn, X)
