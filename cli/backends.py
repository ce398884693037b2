"""``prdsim backends``."""

from __future__ import annotations

import json

import click

from .terminal import say


@click.command(name="backends")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def command(as_json: bool) -> int:
    """Show which backends work on this machine, and why others do not. `auto` takes the first."""
    from prdsim.backends import backend_names, backend_status

    statuses = [backend_status(name) for name in backend_names()]
    if as_json:
        rows = [
            {
                "name": s.name,
                "available": s.available,
                "reason": s.reason,
                "notes": list(s.notes),
                **s.description,
            }
            for s in statuses
        ]
        say(json.dumps(rows, indent=2))
        return 0
    for status in statuses:
        if status.available:
            say(f"{status.name:8} available    {_described(status.description)}")
            for note in status.notes:
                say(f"{'':22}{note}")
        else:
            reason = status.reason.partition(": ")[2].replace("\n", "\n" + " " * 22)
            say(f"{status.name:8} unavailable  {reason}")
    return 0


def _described(description: dict[str, object]) -> str:
    blas = description.get("blas")
    library = f", BLAS {blas[-1]}" if isinstance(blas, list) and blas else ""
    named = ("gpu", "cupy", "cublas", "numba", "numpy", "scipy")
    versions = ", ".join(f"{name} {description[name]}" for name in named if name in description)
    return f"{description['device']}, {description['threads']} threads; {versions}{library}"
