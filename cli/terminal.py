"""What the program prints: the only place that writes to the terminal, besides progress displays.

Names, attributes and errors come from files and arguments of anyone.
"""

from __future__ import annotations

from contextlib import nullcontext, suppress

import click

from prdsim.words import brief, visible


def say(text: object, *, err: bool = False, nl: bool = True) -> None:
    """Print a text, its control characters escaped.

    Raises `OSError` if standard output cannot be written. Standard error is dispensable.
    """
    with suppress(OSError, ValueError) if err else nullcontext():
        click.echo(visible(str(text)), err=err, nl=nl)


def complain(text: str) -> None:
    """Print an error: short, even if it repeats a long text from outside."""
    say(brief(visible(text)), err=True)
