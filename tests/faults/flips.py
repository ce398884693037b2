"""One flipped bit in a trajectory, by region: exactly what the check says and what is still read."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import h5py

from faults.forged import PAGE, fields_of, regions
from faults.formats import trajectories
from faults.report import Report
from faults.sandbox import READ, call, warm

NAMES = "UVWa"
_STRUCTURE = "the file's structure or attributes are damaged"
_REFUSED = re.compile(
    r"is damaged|is not an HDF5 file|not a prdsim trajectory|format version|is truncated"
)
_RECORD = "one of the two commit records is damaged"
_INDEX = "the steps, times or checksums of the snapshots are damaged"
_OLDER = r"the older restart state is (damaged|not whole)"


@dataclass(frozen=True)
class Expected:
    """What follows from a flipped bit: problems (patterns), arrays that cannot be read.

    ``refused``: the file may be refused instead, as a whole; ``fewer``: the rows of the commit
    before are shown.
    """

    problems: tuple[str, ...] = ()
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
        if group == "scalars":
            return _scalars() if row < newest["scalar_rows"] else Expected()
        if group == "snapshots":
            return _snapshot(array, row, place) if row < newest["snapshot_rows"] else Expected()
        if group == "restart":
            return _restart(row, newest)
        if sealed:
            return Expected((f"/{name} is damaged",), frozenset({_READ_AS.get(name, name)}))
        return Expected((_STRUCTURE,))

    def _snapshot(array: str, row: int, place: int) -> Expected:
        if array in NAMES:
            return Expected((_snapshot_text(row, array),), frozenset({f"{array}[{row}]"}))
        hit = NAMES[place % row_bytes // 4] if array == "crc32" else NAMES
        problems = (_INDEX, *(_snapshot_text(row, one) for one in hit))
        return Expected(problems, frozenset({"step", "time", *(f"{one}[{row}]" for one in hit)}))

    return expected


_READ_AS = {"schedule/snapshots": "planned_snapshots", "schedule/scalars": "planned_scalars"}


def _snapshot_text(row: int, array: str) -> str:
    return rf"snapshot {row} \(step -?\d+\) of {array} is damaged"


def _scalars() -> Expected:
    return Expected(("the scalars are damaged",), frozenset({"scalars/*"}))


def _restart(slot: int, newest: dict[str, Any]) -> Expected:
    if newest["restart_slot"] < 0:
        return Expected()
    if slot == newest["restart_slot"]:
        return Expected((f"the restart state of step {newest['restart_step']} is damaged",))
    return Expected((_OLDER,))


def differences(right: dict[str, Any], found: dict[str, Any], expected: Expected) -> list[str]:
    """Return what is not as expected in the arrays that were read, and in the check."""
    wrong = []
    said = list(found["check"])
    if len(said) != len(expected.problems) or not all(
        any(re.match(pattern, text) for text in said) for pattern in expected.problems
    ):
        wrong.append(f"the check says {said}, not {list(expected.problems)}")
    for name in sorted(set(right) - {"check", "status"}):
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
    outcome = call(trajectories()[number], (READ, "run.h5"))
    assert outcome.code == 0, outcome
    answer: dict[str, Any] = json.loads(outcome.out)
    return answer


def campaign_flips(count: int, seed: int, keep: Path | None = None) -> Report:  # noqa: ARG001
    """Flip ``count`` bits, as many in each kind of region as in others."""
    report = Report("one flipped bit")
    with report.timed():
        warm()
        contents = [files["run.h5"] for files in trajectories()]
        tables = [_by_kind(regions_of(content)) for content in contents]
        for number in range(count):
            rng = Random(f"flips {seed} {number}")
            which = rng.randrange(len(contents))
            region = rng.choice(tables[which][rng.choice(list(tables[which]))])
            place, bit = rng.randrange(region.size), rng.randrange(8)
            _try(report, which, contents[which], region, place, bit)
    return report


def _by_kind(found: list[Region]) -> dict[str, list[Region]]:
    kinds: dict[str, list[Region]] = {}
    for region in found:
        group, slash, name = region.name.partition("/")
        if not slash and group not in ("superblock", "structure"):
            group = "scales"
        kinds.setdefault(f"{group}/{name}" if name in ("step", "crc32") else group, []).append(
            region
        )
    return kinds


def _try(report: Report, which: int, content: bytes, region: Region, place: int, bit: int) -> None:
    label = f"run {which}, bit {bit} of byte {region.start + place}, {region.name} + {place}"
    damaged = bytearray(content)
    damaged[region.start + place] ^= 1 << bit
    expected = region.expected(place)
    report.cases += 1
    outcome = call({"run.h5": bytes(damaged)}, (READ, "run.h5"))
    if outcome.code == 3 and expected.refused and _REFUSED.search(outcome.err):
        return
    if outcome.code != 0:
        report.add("traceback" if outcome.code != 3 else "promise", f"{label}: {outcome.err[:500]}")
        return
    for text in differences(_answer(which), json.loads(outcome.out), expected):
        report.add("wrong" if text.endswith("wrong") else "promise", f"{label}: {text}")
