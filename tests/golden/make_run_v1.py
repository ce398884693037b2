"""Make run-v1.h5 and run-v1-end.npz by prdsim 0.1.0, whose files have format version 1.

A real run, which later versions must continue to the same bits: gd, its critic warmed up, stopped
at step 13 of 24; and the arrays at the end of the same run, never stopped. Never made again:
check out the last commit of version 0.1.0, copy this script there, and run it from its root.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile

import numpy as np

import prdsim

KEYS = {
    "dataset": "digits",
    "samples": 6,
    "width": 5,
    "critic_width": 4,
    "diffusion": True,
    "critic_steps": 3,
    "critic_step_size": 0.02,
    "critic_warmup": 7,
    "step_size": 0.05,
    "steps": 24,
    "snapshots": "every:6",
    "scalars_every": 4,
    "backend": "numpy",
    "threads": 1,
}


class StopAt13:
    """Progress that stops the run as a batch system does."""

    def start(self, step: int, steps: int) -> None:
        pass

    def update(self, step: int, loss: float) -> None:  # noqa: ARG002
        if step == 13:
            os.kill(os.getpid(), signal.SIGTERM)

    def close(self) -> None:
        pass


if __name__ == "__main__":
    assert prdsim.__version__ == "0.1.0"
    os.chdir(sys.argv[1])  # the file keeps the name of its output
    prdsim.run(**KEYS, output="run-v1.h5", progress=StopAt13())
    with tempfile.TemporaryDirectory() as scratch:
        end = prdsim.run(**KEYS, output=f"{scratch}/whole.h5")
        with prdsim.open_trajectory(end.path) as whole:
            scalars = {f"scalars_{name}": column for name, column in whole.scalars.items()}
    np.savez("run-v1-end.npz", **end.state, **scalars)
