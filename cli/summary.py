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
        f"{result.stop_reason} at time {result.time:.6g}, {_steps(result)}",
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
    if result.config.end_time is None:
        click.echo(f"      prdsim resume {path} --steps {2 * result.step}    go on")
    else:
        click.echo(f"      prdsim resume {path} --end-time {2 * result.time:g}    go on")
    return 0


def _steps(result: Result) -> str:
    """Say what the run took."""
    evaluations, rejected = (int(result.last[name]) for name in ("evaluations", "rejected_steps"))
    text = f"step {result.step}: {result.config.integrator}, "
    if result.config.adaptive:
        text += f"rtol {result.config.rtol:g}, {rejected} rejected, "
    else:
        text += f"step size {result.resolved.step_size:.3g}, "
    return f"{text}{evaluations} velocities"
