"""Named sets of defaults."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # To show patterns: small initial weights, so that the learned part stands out against the
    # initial noise; more samples than neurons, so that filters generalize instead of interpolating
    # single samples; a critic that has moved before diffusion first acts. The end time is about the
    # longest for which functionals of a run can be predicted; at 1e-3 the spread of the distances
    # on MNIST still errs by 4 %, see docs/accuracy.md.
    "poster": {
        "init_scale": 0.1,
        "width": 256,
        "samples": 500,
        "critic_warmup": 0.5,
        "end_time": 50.0,
        "rtol": 3e-4,
    },
    # The setting of Theorems 1 and 2: one output, V = +-1 fixed, unit inputs; scores are recorded
    # densely, since mu is the largest of them. Neurons move by half a percent of their norm, to
    # which the tolerance is relative: at 1e-3 a dozen steps would cover all of it.
    "theory": {
        "target": "scalar",
        "trainable": "U",
        "output_init": "rademacher",
        "normalize": "unit",
        "end_time": 20.0,
        "rtol": 1e-5,
        "scalars": "times:every:0.05",
    },
}
