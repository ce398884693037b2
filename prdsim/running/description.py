"""A run in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prdsim.config import Resolved, RunConfig
from prdsim.files.small import size_text
from prdsim.physics.state import Dimensions
from prdsim.running.memory import needed_bytes

if TYPE_CHECKING:
    from prdsim.backends.base import Backend


def description(config: RunConfig, sizes: Dimensions, backend: Backend, resolved: Resolved) -> str:
    """Return one line with data, diffusion, sizes, backend, chart and predicted memory."""
    needed = needed_bytes(config, sizes, backend, resolved.chart, resolved.panel)
    count = f"{resolved.threads} thread{'s' if resolved.threads > 1 else ''}"
    threads = f", {count}" if resolved.device == "cpu" else ""
    rate = ""
    beta = resolved.critic_rate  # unknown in files of version 1
    if beta is not None and config.critic_step_size is not None and config.adversary:
        rate = f"; critic's speed beta = {beta:.3g}"
    return (
        f"{config.dataset}, {config.adversary_in_words}; "
        f"{config.neurons_in_words}, {sizes.n} samples, {sizes.d_in} inputs, "
        f"{sizes.d_out} outputs; "
        f"{resolved.backend} on {resolved.device}{threads}, {config.precision}, "
        f"{resolved.chart} chart{resolved.panels_in_words}{rate}; "
        f"about {size_text(needed)} of memory for arrays"
    )
