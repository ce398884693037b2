"""What every answer of the program must be like, whatever the input."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from faults.child import Ended
from faults.report import Broken
from faults.sandbox import READ, Files, Outcome, call_on

_LINES, _LONG = 4, 3000  # of an error
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028\u2029\ud800-\udfff]")
SECRET = b"private!"  # eight bytes, a float64
_CODES = {0, 2, 3, 4, 5}
ANY = ("*",)  # outputs whose names the mutation decides


@dataclass(frozen=True)
class Case:
    """A command line on some files.

    ``outputs`` are files that it may leave, ``changes`` files that it may change, if it succeeds.
    An answer without errors must equal that for the ``undamaged`` files, if they are given.
    """

    name: str
    files: Files
    arguments: tuple[str, ...]
    outputs: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    codes: frozenset[int] = frozenset()
    undamaged: Files | None = field(default=None, repr=False)


def judge(case: Case, outcome: Outcome) -> None:
    """Raise `Broken` for the worst that is wrong with an outcome."""
    outcome.ended.require_order()
    _require_code(case, outcome.ended)
    _require_files(case, outcome)
    _require_numbers(case, outcome.ended)
    _require_secrecy(case, outcome)
    _require_words(case, outcome.ended)


def _require_code(case: Case, ended: Ended) -> None:
    if ended.code not in _CODES | case.codes:
        raise Broken("traceback", f"exit code {ended.code}: {ended.err[:300]}")
    if ended.code and not ended.err.strip() and not ended.out.strip():
        raise Broken("promise", f"exit code {ended.code} without a word")


def _require_files(case: Case, outcome: Outcome) -> None:
    code, done = outcome.ended.code, outcome.ended.code in (0, 1, 5)
    for name, content in case.files.items():
        if outcome.files.get(name) != content and not (done and name in case.changes):
            raise Broken("lost", f"{name} is changed, exit code {code}: {outcome.ended.err[:200]}")
    left = set(outcome.files) - set(case.files)
    if left and not (done and (case.outputs == ANY or left <= set(case.outputs))):
        raise Broken("promise", f"left behind: {sorted(left)}, exit code {code}")


def _require_secrecy(case: Case, outcome: Outcome) -> None:
    """Nothing of the file that no link may lead to is in an output, or printed."""
    told = [outcome.ended.out, outcome.ended.err]
    contents = [text.encode(errors="surrogateescape") for text in told]
    contents += [content for name, content in outcome.files.items() if name not in case.files]
    if any(SECRET in content for content in contents):
        raise Broken("promise", "the content of another file came out")


def _require_words(case: Case, ended: Ended) -> None:
    for where, text in (("error", ended.err), ("output", ended.out)):
        if found := _CONTROL.search(text):
            near = text[max(found.start() - 60, 0) : found.end() + 20]
            raise Broken("promise", f"control character in the {where}: {near!r}")
    length = len(ended.err) - sum(map(len, case.arguments))  # which an error may repeat
    lines = [line for line in ended.err.splitlines() if line.strip()]
    if ended.code in (2, 3, 4) and (len(lines) > _LINES or length > _LONG):
        words = f"{len(lines)} lines, {len(ended.err)} characters: {ended.err[:200]!r}"
        raise Broken("promise", words)


def _require_numbers(case: Case, ended: Ended) -> None:
    """What was returned without an error is the answer for the undamaged file.

    Another answer is right only if the check of the file says that it is damaged.
    """
    if case.undamaged is None or ended.code != 0:
        return
    right = _answer(tuple(case.undamaged.items()), case.arguments)
    if case.arguments[0] == READ:
        _require_arrays(json.loads(right), json.loads(ended.out))
    elif ended.out != right:
        checked = call_on(case.files, (READ, "run.h5")).ended
        found = json.loads(checked.out) if checked.code == 0 else {"check": [("damage", "")]}
        # `inspect --check` says what is harmless as well.
        if not (found["check"] if "--check" in case.arguments else is_said_damaged(found)):
            raise Broken("wrong", f"another answer: {ended.out[:300]}")


@cache
def _answer(files: tuple[tuple[str, bytes], ...], arguments: tuple[str, ...]) -> str:
    return call_on(dict(files), arguments).ended.out


def is_said_damaged(found: dict[str, Any]) -> bool:
    """Whether the check of a file that was read says that something is lost."""
    return any(severity == "damage" for severity, _ in found["check"])


def _require_arrays(right: dict[str, Any], found: dict[str, Any]) -> None:
    """An array may fail, or be shorter if the check says so; else it is the right one."""
    said = is_said_damaged(found)
    for name in sorted(right.keys() - {"check"}):
        rows, known = found.get(name), right[name]
        if rows is None or known is None:
            if not said:
                raise Broken("wrong", f"{name} cannot be read, but the check is silent")
        elif rows != known[: len(rows)] or (rows != known and not said):
            raise Broken("wrong", f"{name} is wrong; check: {found['check']}")
