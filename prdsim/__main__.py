"""The command ``prdsim``, and ``python -m prdsim``: what concerns the process as a whole."""

from __future__ import annotations

import io
import os
import signal
import sys
import warnings

from prdsim.errors import PrdsimWarning


def main() -> None:
    """Import the command line and run it."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # amid imports it would print a traceback
    _occupy_standard_descriptors()
    _print_anything()
    _silence_libraries()
    os.environ.pop("SOURCE_DATE_EPOCH", None)  # NumPy is not imported if it is not a number

    from prdsim import cli

    signal.signal(signal.SIGINT, handler)
    cli.main()


def _occupy_standard_descriptors() -> None:
    """Open the null device where a standard stream was closed before the start, as by ``2>&-``.

    The next file to be opened would else have its number, and get what libraries print.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)


def _print_anything() -> None:
    """Escape characters that the locale's encoding lacks."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _silence_libraries() -> None:
    """Show neither log records nor warnings of libraries: they speak to programmers."""
    import logging

    logging.lastResort = logging.NullHandler()
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", PrdsimWarning)
        warnings.showwarning = _show_warning


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    from prdsim.cli.terminal import complain

    complain(f"warning: {message}")


if __name__ == "__main__":
    main()
