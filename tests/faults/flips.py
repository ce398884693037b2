"""One flipped bit in a trajectory, by region: exactly what is said, and what is still read."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from random import Random
from typing import Any

import h5py

from faults.child import warm
from faults.forged import PAGE, RUNNING, fields_of, regions
from faults.formats import trajectories
from faults.report import Broken, Report
from faults.sandbox import READ, Outcome, call_on, in_turn, tried
from prdsim.symbols import ARRAYS

Problem = tuple[str, str]
"""Severity and pattern of a problem."""

_STRUCTURE = ("damage", "the file's structure or attributes are damaged")
_REFUSED = re.compile(
    r"is damaged|is not an HDF5 file|not a prdsim trajectory|format version|is truncated"
)
_RECORD = ("damage", "one of the two commit records is damaged")
_INDEX = ("damage", "the steps, times or checksums of the snapshots are damaged")
_SCALARS = ("damage", "the scalars are damaged")
_OLDER = ("damage", "the older restart state is damaged")
_OLDER_KILLED = ("harmless", "the older restart state is not whole, as after a kill")
_SESSION = ("harmless", "what is recorded of a resume is not whole")


@dataclass(frozen=True)
class Expected:
    """What follows from a flipped bit: problems, arrays that cannot be read.

    ``refused``: the file may be refused instead, as a whole; ``fewer``: the rows of the commit
    before are shown.
    """

    problems: tuple[Problem, ...] = ()
    lost: frozenset[str] = frozenset()
    refused: bool = False
    fewer: bool = False


@dataclass(frozen=True)
class Region:
    """A piece of a file, in which a bit at a place has a consequence."""

    name: str
    start: int
    size: int
    expected: Callable[[int], Expected]


def regions_of(content: bytes) -> list[Region]:
    """Return all regions of a trajectory; together they are the whole file."""
    with h5py.File(io.BytesIO(content), "r") as file:
        places = regions(file)
        rows = {name: file[name].shape[0] for name in places}
        sealed = {name for name in places if "crc32" in file[name].attrs}
        initial = [f"initial/{name}" for name in file["initial"]]
    assert initial
    start, _ = places["commit/record"]
    pages = [fields_of(content[start + k * PAGE : start + (k + 1) * PAGE]) for k in (0, 1)]
    newest = max(pages, key=lambda fields: fields["sequence"])
    found = [
        Region(name, offset, size, _consequence(name, size // rows[name], newest, name in sealed))
        for name, (offset, size) in places.items()
        if size
    ]
    return [*found, *_rest(found, len(content))]


def _rest(found: list[Region], size: int) -> Iterator[Region]:
    """The structure: what is not data."""
    whole = Expected((_STRUCTURE,), refused=True)
    position = 0
    for region in [*sorted(found, key=lambda r: r.start), Region("end", size, 0, lambda _: whole)]:
        if region.start > position:
            name = "superblock" if position == 0 else "structure"
            yield Region(name, position, region.start - position, lambda _: whole)
        position = region.start + region.size


def _consequence(
    name: str, row_bytes: int, newest: dict[str, Any], sealed: bool
) -> Callable[[int], Expected]:
    group, _, array = name.partition("/")

    def expected(place: int) -> Expected:
        row = place // row_bytes
        if group == "commit":
            return Expected((_RECORD,), fewer=row == newest["sequence"] % 2)
        if group == "sessions":
            return Expected((_SESSION,))
        if group == "scalars":
            lost = frozenset({"scalars/*"})
            return Expected((_SCALARS,), lost) if row < newest["scalar_rows"] else Expected()
        if group == "snapshots":
            return _snapshot(array, row, place) if row < newest["snapshot_rows"] else Expected()
        if group == "restart":
            return _restart(row, newest)
        if sealed:
            problem = ("damage", f"/{name} is damaged")
            return Expected((problem,), frozenset({_READ_AS.get(name, name)}))
        return Expected((_STRUCTURE,))

    def _snapshot(array: str, row: int, place: int) -> Expected:
        if array in ARRAYS:
            return Expected((_snapshot_problem(row, array),), frozenset({f"{array}[{row}]"}))
        hit = ARRAYS[place % row_bytes // 4] if array == "crc32" else ARRAYS
        problems = (_INDEX, *(_snapshot_problem(row, one) for one in hit))
        return Expected(problems, frozenset({"step", "time", *(f"{one}[{row}]" for one in hit)}))

    return expected


_READ_AS = {"schedule/snapshots": "planned_snapshots", "schedule/scalars": "planned_scalars"}


def _snapshot_problem(row: int, array: str) -> Problem:
    return ("damage", rf"snapshot {row} \(step -?\d+\) of {array} is damaged")


def _restart(slot: int, newest: dict[str, Any]) -> Expected:
    if newest["restart_slot"] < 0:
        return Expected()
    if slot == newest["restart_slot"]:
        text = f"the restart state of step {newest['restart_step']} is damaged"
        return Expected((("damage", text),))
    return Expected((_OLDER_KILLED if newest["status"] == RUNNING else _OLDER,))


def differences(right: dict[str, Any], found: dict[str, Any], expected: Expected) -> list[str]:
    """Return what is not as expected in the arrays that were read, and in the check."""
    wrong = []
    said = found["check"]
    if len(said) != len(expected.problems) or not all(
        any(severity == level and re.match(pattern, text) for level, text in said)
        for severity, pattern in expected.problems
    ):
        wrong.append(f"the check says {said}, not {list(expected.problems)}")
    for name in sorted(right.keys() - {"check"}):
        known, rows = right[name], found.get(name)
        lost = name in expected.lost or f"{name.partition('/')[0]}/*" in expected.lost
        if expected.fewer:
            if rows is not None and rows != known[: len(rows)]:
                wrong.append(f"{name} is not the beginning of the right one")
        elif (rows is None) != lost:
            wrong.append(f"{name} is {'lost' if rows is None else 'read'}")
        elif rows is not None and rows != known:
            wrong.append(f"{name} is wrong")
    return wrong


@cache
def _answer(number: int) -> dict[str, Any]:
    ended = call_on(trajectories()[number], (READ, "run.h5")).ended
    assert ended.code == 0, ended
    answer: dict[str, Any] = json.loads(ended.out)
    return answer


def campaign(count: int, seed: int) -> Report:
    """Flip ``count`` bits, as many in each kind of region as in others."""
    report = Report("one flipped bit")
    with report.timed():
        warm()
        contents = [files["run.h5"] for files in trajectories()]
        tables = [_by_kind(regions_of(content)) for content in contents]
        flips = [_drawn(Random(f"flips {seed} {number}"), tables) for number in range(count)]
        outcomes = in_turn(partial(_read, contents[flip.which], flip) for flip in flips)
        for flip, outcome in zip(flips, outcomes, strict=True):
            report.took_effect[flip.kind] += 1
            with report.case(str(flip)):
                _judge(flip, outcome)
    return report


@dataclass(frozen=True)
class Flip:
    """A bit of a run, at a place in a region of a kind."""

    which: int
    kind: str
    region: Region
    place: int
    bit: int

    def __str__(self) -> str:
        byte = self.region.start + self.place
        where = f"{self.region.name} + {self.place}"
        return f"run {self.which}, bit {self.bit} of byte {byte}, {where}"


def _drawn(rng: Random, tables: list[dict[str, list[Region]]]) -> Flip:
    which = rng.randrange(len(tables))
    kind = rng.choice(list(tables[which]))
    region = rng.choice(tables[which][kind])
    return Flip(which, kind, region, rng.randrange(region.size), rng.randrange(8))


def _by_kind(found: list[Region]) -> dict[str, list[Region]]:
    kinds: dict[str, list[Region]] = {}
    for region in found:
        group, slash, name = region.name.partition("/")
        if not slash and group not in ("superblock", "structure"):
            group = "scales"
        kind = f"{group}/{name}" if name in ("step", "crc32") else group
        kinds.setdefault(kind, []).append(region)
    return kinds


def _read(content: bytes, flip: Flip) -> Outcome | Broken:
    damaged = bytearray(content)
    damaged[flip.region.start + flip.place] ^= 1 << flip.bit
    return tried({"run.h5": bytes(damaged)}, (READ, "run.h5"))


def _judge(flip: Flip, outcome: Outcome | Broken) -> None:
    if isinstance(outcome, Broken):
        raise outcome
    ended = outcome.ended
    ended.require_order()
    expected = flip.region.expected(flip.place)
    if ended.code == 3 and expected.refused and _REFUSED.search(ended.err):
        return
    if ended.code != 0:
        raise Broken("promise", ended.err[:500])
    for text in differences(_answer(flip.which), json.loads(ended.out), expected):
        raise Broken("wrong" if text.endswith("wrong") else "promise", text)
