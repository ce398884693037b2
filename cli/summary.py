"""What a run prints when it ends."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from prdsim.runner import Result


def finish(result: Result) -> int:
    """Print the summary of a run; return the exit code."""
    first, last = result.first, result.last
    resolved = result.resolved
    lines = [
        f"{result.stop_reason} at step {result.step}, time {result.time:.6g} "
        f"({resolved.backend}, {resolved.threads} threads, step size {resolved.step_size:.3g})",
        f"  supervised loss L_sup    {first['loss_sup']:.6g} -> {last['loss_sup']:.6g}",
        f"  adversarial loss L_adv   {first['loss_adv']:.6g} -> {last['loss_adv']:.6g}",
        f"  critic loss              {first['loss_critic']:.6g} -> {last['loss_critic']:.6g}",
        f"  distance of u_j          mean {last['distance_U_mean']:.4f}, "
        f"largest {last['distance_U_max']:.4f}",
        f"  distance of v_j          mean {last['distance_V_mean']:.4f}, "
        f"largest {last['distance_V_max']:.4f}",
        f"  drift of the invariants  {last['balance_drift']:.2e} (generator), "
        f"{last['critic_balance_drift']:.2e} (critic)",
        f"  file                     {result.path} ({result.path.stat().st_size / 1e6:.1f} MB)",
    ]
    click.echo("\n".join(lines))
    path = shlex.quote(str(result.path))
    if result.signal is not None:
        click.echo(f"interrupted; continue with: prdsim resume {path}", err=True)
        return 128 + result.signal
    click.echo(f"next: prdsim inspect {path}    what it holds")
    if result.step == result.steps:  # not after end_time, which more steps would not move
        click.echo(f"      prdsim resume {path} --steps {2 * result.step}    go on")
    return 0
