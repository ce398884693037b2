"""What every answer of the program must be like, whatever the input."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field

from faults.sandbox import MEMORY, READ, Outcome

_LINES, _LONG = 4, 3000  # of an error
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028\u2029\ud800-\udfff]")
SECRET = b"private!"  # eight bytes, a float64
_CODES = {0, 2, 3, 4, 5}


@dataclass(frozen=True)
class Case:
    """A command line on some files.

    ``outputs`` are files that it may leave, ``changes`` files that it may change, if it succeeds.
    ``same_as`` is the answer for the unchanged input, which an answer without errors must equal.
    """

    name: str
    files: Mapping[str, bytes]
    arguments: tuple[str, ...]
    outputs: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    codes: frozenset[int] = frozenset()
    same_as: Outcome | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Fault:
    """A kind of fault, one of the columns of a report, and a description."""

    kind: str
    text: str


def judge(case: Case, outcome: Outcome) -> list[Fault]:
    """Return everything that is wrong with an outcome."""
    return [
        *_end(case, outcome),
        *_words(case, outcome),
        *_files(case, outcome),
        *_numbers(case, outcome),
        *_secrets(case, outcome),
    ]


def _end(case: Case, outcome: Outcome) -> list[Fault]:
    code, err = outcome.code, outcome.err
    if code in (-signal.SIGXCPU, -signal.SIGALRM, -signal.SIGKILL):
        return [Fault("hang", f"{outcome.cpu:.1f} s of CPU, {outcome.wall:.1f} s")]
    if code < 0:
        return [Fault("traceback", f"signal {-code}: {err[-300:]}")]
    if outcome.resident > MEMORY:
        return [Fault("memory", f"{outcome.resident >> 20} MB")]
    if "out of memory" in err:
        return [Fault("memory", "out of memory")]
    for words in ("Traceback", "internal error", "Exception ignored", "Warning:", "HDF5-DIAG"):
        if words in err or words in outcome.out:
            at = (err + outcome.out).index(words)
            return [Fault("traceback", (err + outcome.out)[at : at + 3000])]
    if code not in _CODES | case.codes:
        return [Fault("traceback", f"exit code {code}: {err[:300]}")]
    if code and not err.strip() and not outcome.out.strip():
        return [Fault("traceback", f"exit code {code} without a word")]
    return []


def _words(case: Case, outcome: Outcome) -> list[Fault]:
    faults = []
    for where, text in (("error", outcome.err), ("output", outcome.out)):
        if found := _CONTROL.search(text):
            near = text[max(found.start() - 60, 0) : found.end() + 20]
            faults.append(Fault("promise", f"control character in the {where}: {near!r}"))
    length = len(outcome.err) - sum(map(len, case.arguments))  # which an error may repeat
    lines = [line for line in outcome.err.splitlines() if line.strip()]
    if outcome.code in (2, 3, 4) and (len(lines) > _LINES or length > _LONG):
        faults.append(
            Fault(
                "promise",
                f"{len(lines)} lines, {len(outcome.err)} characters: {outcome.err[:200]!r}",
            )
        )
    return faults


def _files(case: Case, outcome: Outcome) -> list[Fault]:
    faults = []
    done = outcome.code in (0, 1, 5)
    for name, content in case.files.items():
        if outcome.files.get(name) != content and not (done and name in case.changes):
            faults.append(
                Fault("lost", f"{name} is changed, exit code {outcome.code}: {outcome.err[:200]}")
            )
    left = set(outcome.files) - set(case.files) - set(case.outputs if done else ())
    if case.outputs == ("*",) and done:
        left = set()
    if left and outcome.code >= 0:
        faults.append(Fault("promise", f"left behind: {sorted(left)}, exit code {outcome.code}"))
    return faults


def _secrets(case: Case, outcome: Outcome) -> list[Fault]:
    """Nothing of the file that no link may lead to is in an output, or printed."""
    told = [
        outcome.out.encode(errors="surrogateescape"),
        outcome.err.encode(errors="surrogateescape"),
    ]
    told += [content for name, content in outcome.files.items() if name not in case.files]
    if any(SECRET in text for text in told):
        return [Fault("promise", "the content of another file came out")]
    return []


def _numbers(case: Case, outcome: Outcome) -> list[Fault]:
    """Compare what was returned without an error to the answer for the undamaged file."""
    if case.same_as is None or outcome.code != 0:
        return []
    if case.arguments[0] == READ:
        return _arrays(json.loads(case.same_as.out), json.loads(outcome.out))
    if outcome.out != case.same_as.out:
        return [Fault("wrong", f"another answer: {outcome.out[:300]}")]
    return []


def _arrays(right: dict[str, list[int] | None], found: dict[str, list[int] | None]) -> list[Fault]:
    """An array may fail, or be shorter if the check says so; else it is the right one."""
    said = bool(found["check"])
    wrong = []
    for name in set(right) - {"check", "status"}:
        rows, known = found.get(name), right[name]
        if rows is None or known is None:
            if not said:
                wrong.append(f"{name} cannot be read, but the check is silent")
        elif rows != known[: len(rows)] or (rows != known and not said):
            wrong.append(name)
    return [Fault("wrong", f"wrong arrays: {wrong}; check: {found['check']}")] if wrong else []
