"""The command line: one file per verb, imported when the verb is called.

Nothing but click is imported before that, so that ``prdsim --help`` responds at once.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

import click

from prdsim import __version__
from prdsim.backends import listening
from prdsim.errors import EXIT_CODES, DamagedTrajectoryError, PrdsimError
from prdsim.files.stopping import SIGNALS
from prdsim.progress import announce

from .failures import drop_unwritable, in_words, is_of_output
from .shared_options import HintingGroup
from .terminal import complain, say

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_VERBS = {
    "run": "Run a simulation and write its trajectory file.",
    "resume": "Continue a run, bit for bit.",
    "list": "List the runs of a folder: settings that differ, status, losses.",
    "inspect": "Summarize a trajectory file, even while it is being written.",
    "repair": "Save what is whole in a damaged trajectory file.",
    "analyze": "Measure the patterns of a run, or of a study: tables, CSV or JSON.",
    "plot": "Draw figures of runs, movies, and curves of studies.",
    "report": "Make one page to explore runs: filters over time, curves, measures.",
    "compare": "Compare runs with diffusion to runs without.",
    "converge": "Assess how far a run's numbers can be trusted.",
    "sweep": "Run a study: many runs that differ in a few settings.",
    "controls": "Compare the adversary with controls: other fields of its norm in its place.",
    "turing": "Test whether a homogeneous state loses its stability with the adversary.",
    "reproduce": "Reproduce all figures of the poster: runs, pictures, one page.",
    "verify": "Check that backends agree with the float64 reference.",
    "bench": "Time a step on this machine, for every backend and chart.",
    "backends": "Show which backends work on this machine, and why others do not.",
    "data": "List, fetch and check the data sets.",
    "completion": "Print the line that makes a shell complete commands.",
}


def module_of(verb: str) -> str:
    """Return the name of a verb's module."""
    return f"{__name__}.{'list_runs' if verb == 'list' else verb}"  # `list` is Python's here


class _Verbs(HintingGroup):
    """A group that imports a verb's module only when the verb is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        if name not in _VERBS:
            return None
        command: click.Command = import_module(module_of(name)).command
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the verbs and options that begin so, without importing the verbs."""
        from click.shell_completion import CompletionItem

        verbs = [
            CompletionItem(name, help=text)
            for name, text in _VERBS.items()
            if name.startswith(incomplete)
        ]
        return [*verbs, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(_VERBS.items()))


_CODES = "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())


@click.group(
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"Exit codes: {_CODES}.",
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def _program() -> None:
    """Simulate pattern formation in adversarial learning.

    A two-layer generator, trained by supervision alone or together with a critic, as a
    pseudo-reaction-diffusion system (Rout, AAAI 2021). Try: prdsim run --diffusion
    """


def main() -> None:
    """Run the command line and exit, with one of `EXIT_CODES`.

    Errors are one or two lines, never a traceback.
    """
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # ignored by nohup and background jobs
            signal.signal(number, _stopped)
    try:
        code = _invoked()
    except click.exceptions.Exit as end:
        code = end.exit_code
    except click.ClickException as error:
        words = io.StringIO()
        error.show(words)
        complain(words.getvalue().rstrip())
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        say("interrupted", err=True)
        code = 128 + signal.SIGINT
    except OSError as error:
        code = _failed(error)
    except Exception as error:
        code = tell(error)
    drop_unwritable()
    sys.exit(code if isinstance(code, int) else 0)


def _failed(error: OSError) -> int:
    """Say what an error of the system is about; return the exit code."""
    if not is_of_output(error):
        complain(f"prdsim: {in_words(error)}")
    elif isinstance(error, BrokenPipeError):  # the reader of the output has quit: head, less
        return 128 + signal.SIGPIPE
    else:
        complain(f"prdsim: the output cannot be written: {error.strerror}")
    return 3


def _invoked() -> object:
    """Do what the command line says, or tell a shell how it may go on; return the exit code."""
    if instruction := os.environ.get("_PRDSIM_COMPLETE"):
        from .completion import answer

        return answer(_program, instruction)
    # Not through click's own main, which exits with 1 if the output is closed.
    with listening(announce), _program.make_context("prdsim", sys.argv[1:]) as context:
        return _program.invoke(context)


def _stopped(number: int, frame: object) -> None:  # noqa: ARG001
    """Exit at once. An exception during an import may be lost, or crash the interpreter.

    Verbs that must clean up handle the signals themselves meanwhile.
    """
    with suppress(OSError):
        os.write(2, b"interrupted\n")
    os._exit(128 + number)


def tell(error: Exception, about: str = "") -> int:
    """Print an error, in one line after its subject ``about`` if given; return the exit code."""
    if "PRDSIM_TRACEBACK" in os.environ:
        from traceback import format_exception

        say("".join(format_exception(error)), err=True)
    if isinstance(error, PrdsimError):
        text = str(error)
        if isinstance(error, DamagedTrajectoryError) and sys.argv[1:2] != ["repair"]:
            text += ", or save what is whole by prdsim repair" * ("repair" not in text)
        words = f"{about}: {'; '.join(text.splitlines())}" if about else text
        complain(f"prdsim: {words}")
        return error.exit_code
    if isinstance(error, MemoryError):
        complain("prdsim: out of memory; lower --width or --samples")
        return 2
    complain(
        f"prdsim: internal error: {type(error).__name__}: {error}\n"
        "please report it, with the traceback that PRDSIM_TRACEBACK=1 shows"
    )
    return 1
