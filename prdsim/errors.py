"""Every error prdsim raises on purpose, each with the exit code the command line gives it.

An error's text is one or two lines: what is wrong, where, and what to do about it. The command
line prints it unchanged, without a traceback.
"""

from __future__ import annotations

from collections.abc import Iterable

EXIT_CODES = {
    0: "done",
    1: "a verification that failed, a run that has not converged, or an internal error",
    2: "usage or configuration",
    3: "data, a file, or the system",
    4: "the backend is unavailable",
    5: "diverged",
    129: "the terminal was closed",
    130: "interrupted (Ctrl-C)",
    141: "the reader of the output has quit",
    143: "terminated",
}
"""What each exit code of the command line says."""


class PrdsimError(Exception):
    """Base of all errors below; itself raised only for internal failures."""

    exit_code = 1


class ConfigError(PrdsimError):
    """A configuration key, value or command-line use that cannot work (exit code 2)."""

    exit_code = 2


class UnreadableConfigError(ConfigError):
    """A configuration file that is missing or cannot be read (exit code 3)."""

    exit_code = 3


class DataError(PrdsimError):
    """A data set that is missing, malformed or unusable (exit code 3)."""

    exit_code = 3


class TrajectoryError(PrdsimError):
    """A trajectory file that cannot be created, read, resumed or trusted (exit code 3)."""

    exit_code = 3


class NotATrajectoryError(TrajectoryError):
    """The file is not a prdsim trajectory, or not one that this version can read."""


class DamagedTrajectoryError(TrajectoryError):
    """A checksum fails, or the file is truncated."""


class TrajectoryLockedError(TrajectoryError):
    """Another process is writing the trajectory."""


class ResumeMismatchError(TrajectoryError):
    """The run to be continued is not the run in the file."""


class OutputError(TrajectoryError):
    """The output cannot be written: no folder, no permission, no space, no system support."""


class ReportError(PrdsimError):
    """A report of `prdsim converge` that is damaged, or of a newer version (exit code 3)."""

    exit_code = 3


class StudyError(PrdsimError):
    """A folder that is not that of a study, or whose plan cannot be read (exit code 3)."""

    exit_code = 3


class BackendUnavailableError(PrdsimError):
    """A backend that is not installed, finds no device or does not work (exit code 4)."""

    exit_code = 4


class BackendAbsentError(BackendUnavailableError):
    """A backend whose library is not installed, or whose device is not there: nothing is broken."""


class DivergedError(PrdsimError):
    """Numbers of the run became infinite or NaN (exit code 5)."""

    exit_code = 5


class PrdsimWarning(RuntimeWarning):
    """What the command line shows of warnings: those of prdsim, not those of libraries."""


def did_you_mean(word: str, known: Iterable[str], before: str = "") -> str:
    """Return "did you mean <the nearest known word>?", or nothing if none is near.

    ``before`` is what stands before the word, such as an option.
    """
    from difflib import get_close_matches  # needed by errors alone

    return "".join(
        f"did you mean {before}{close}?" for close in get_close_matches(word, list(known), n=1)
    )
