"""The summary that a run prints when it ends."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING

from prdsim.words import shell_word

from .terminal import say

if TYPE_CHECKING:
    from prdsim.running.loop import Result


def finish(result: Result) -> int:
    """Print the summary of a run; return the exit code, of a signal even if nobody listens."""
    if result.signal is None:
        _summarize(result)
        return 0
    with suppress(OSError):  # the terminal may be closed
        _summarize(result)
    return 128 + result.signal


def _summarize(result: Result) -> None:
    from prdsim.files.small import size_text
    from prdsim.running.accuracy import invariants_in_words

    first, last = result.first, result.last
    lines = [
        f"{result.stop_reason} at {_place(result)} ({_method(result)})",
        f"  run                      {result.config.dataset}, {result.config.samples} samples, "
        f"{result.config.adversary_in_words}",
        f"  supervised loss L_sup    {first['loss_sup']:.6g} -> {last['loss_sup']:.6g}",
        f"  adversarial loss L_adv   {first['loss_adv']:.6g} -> {last['loss_adv']:.6g}",
        f"  critic loss              {first['loss_critic']:.6g} -> {last['loss_critic']:.6g}",
        f"  distance of u_j          mean {last['distance_U_mean']:.4f}, "
        f"largest {last['distance_U_max']:.4f}",
        f"  distance of v_j          mean {last['distance_V_mean']:.4f}, "
        f"largest {last['distance_V_max']:.4f}",
        f"  drift of the invariants  {invariants_in_words(last)}",
        "  discretization error     not assessed",
        f"  wall time                {_pace(result)}",
        f"  file                     {result.path} ({size_text(result.path.stat().st_size)})",
    ]
    say("\n".join(lines))
    for text in result.warnings:
        say(f"warning: {text}", err=True)
    path = shell_word(result.path)
    if result.signal is not None:
        say(f"interrupted; continue with: prdsim resume {path}", err=True)
        return
    nexts = (
        (f"plot {path} distances", "how far neurons moved; prdsim plot lists the figures"),
        (f"analyze {path}", "the measures of its patterns"),
        (f"converge {path}", "how far these numbers can be trusted"),
        (f"inspect {path}", "a summary of the file"),
        (f"resume {path} {_longer(result)}", "continue the run"),
    )
    for head, (words, purpose) in zip(("next:", *4 * ("     ",)), nexts, strict=True):
        say(f"{head} prdsim {words}    {purpose}")


def _longer(result: Result) -> str:
    """Return options that double a finished run, in time or steps, whichever ended it."""
    from prdsim.trajectory import open_trajectory

    options = []
    if result.time == result.config.end_time:
        with open_trajectory(result.path) as trajectory:
            passed = trajectory.restart_time  # after a step that may be longer than the whole run
        time = result.time if passed < 2 * result.time else passed
        options.append(f"--end-time {2 * time:g}")
    if result.step >= result.config.step_limit:
        options.append(f"--steps {2 * result.step}")
    return " ".join(options)


def _place(result: Result) -> str:
    """Describe where a run ended: time and step, the planned one first."""
    places = f"step {result.step}", f"t = {result.time:.6g}"
    return ", ".join(places if result.config.end_time is None else reversed(places))


def _pace(result: Result) -> str:
    """Give the wall time, and that of a step if there were two."""
    step = (
        "" if math.isnan(result.step_seconds) else f", {1e3 * result.step_seconds:.3g} ms per step"
    )
    return f"{result.seconds:.2f} s{step}"


def _method(result: Result) -> str:
    """Describe how the run was computed, and at what cost."""
    config, resolved = result.config, result.resolved
    evaluations, rejected = (
        _count(result.last[name]) for name in ("evaluations", "rejected_steps")
    )
    threads = f"{resolved.threads} thread{'s' * (resolved.threads != 1)}"
    size = (
        f"rtol {config.rtol:g}, {rejected} steps rejected"
        if config.adaptive
        else f"step size {resolved.step_size:.3g}"
    )
    return f"{config.integrator}, {size}, {evaluations} velocities; {resolved.backend}, {threads}"


def _count(value: float) -> str:
    """Show an integer, or ? if a file of an older format version lacks it."""
    return "?" if math.isnan(value) else f"{value:.0f}"
