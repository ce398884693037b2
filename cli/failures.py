"""Errors of the system that no verb has put into words: of the output, of a file, or of a call."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import click

from prdsim.words import shown


def is_of_output(error: OSError) -> bool:
    """Whether standard output could not be written: all of it goes through click's echo."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code is click.echo.__code__


def in_words(error: OSError) -> str:
    """Name the file, or else the call, that the system has refused, and its reason."""
    reason = error.strerror or str(error)
    if error.filename is not None:
        return f"{shown(error.filename)} cannot be used: {reason}"
    try:
        os.getcwd()  # noqa: PTH109 - what fails in a folder that was deleted
    except OSError as lost:
        return f"the working folder is lost ({lost.strerror}): change to one that exists"
    from traceback import extract_tb

    call = extract_tb(error.__traceback__)[-1]
    return f"the system refused a call: {reason} ({call.name}: {call.line})"


def drop_unwritable() -> None:
    """Turn streams that cannot be written to the null device: Python would try again on exit."""
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            if stream is not None:  # None after >&-
                stream.flush()
        except (OSError, ValueError):
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)
