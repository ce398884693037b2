"""What a run prints when it ends."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from prdsim.runner import Result


def finish(result: Result) -> int:
    """Print the summary of a run; return the exit code."""
    from prdsim.accuracy import invariants_in_words, warnings_of

    first, last = result.first, result.last
    resolved = result.resolved
    lines = [
        f"{result.stop_reason} at {_place(result)} ({_method(result)})",
        f"  supervised loss L_sup    {first['loss_sup']:.6g} -> {last['loss_sup']:.6g}",
        f"  adversarial loss L_adv   {first['loss_adv']:.6g} -> {last['loss_adv']:.6g}",
        f"  critic loss              {first['loss_critic']:.6g} -> {last['loss_critic']:.6g}",
        f"  distance of u_j          mean {last['distance_U_mean']:.4f}, "
        f"largest {last['distance_U_max']:.4f}",
        f"  distance of v_j          mean {last['distance_V_mean']:.4f}, "
        f"largest {last['distance_V_max']:.4f}",
        f"  drift of the invariants  {invariants_in_words(last)}",
        f"  file                     {result.path} ({result.path.stat().st_size / 1e6:.1f} MB)",
    ]
    click.echo("\n".join(lines))
    for text in warnings_of(result.config, resolved.step_size, last):
        click.echo(f"warning: {text}", err=True)
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


def _place(result: Result) -> str:
    """Say where a run ended: first in what it was asked for by."""
    places = f"step {result.step}", f"time {result.time:.6g}"
    return ", ".join(places if result.config.end_time is None else reversed(places))


def _method(result: Result) -> str:
    """Say how the run was computed, and what it took."""
    config, resolved = result.config, result.resolved
    evaluations, rejected = (int(result.last[name]) for name in ("evaluations", "rejected_steps"))
    threads = f"{resolved.threads} thread{'s' * (resolved.threads != 1)}"
    size = (
        f"rtol {config.rtol:g}, {rejected} steps rejected"
        if config.adaptive
        else f"step size {resolved.step_size:.3g}"
    )
    return f"{config.integrator}, {size}, {evaluations} velocities; {resolved.backend}, {threads}"
