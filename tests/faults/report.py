"""What a campaign found: how many cases, which promises were broken, and the table of all."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

KINDS = {
    "lost": "lost",
    "wrong": "wrong numbers",
    "traceback": "tracebacks",  # "internal error" and deaths by a signal as well
    "hang": "hangs > 5 s",  # of processor time, or 20 s of waiting
    "memory": "peaks > 1 GB",
    "promise": "other promises",  # message, exit code, what is left on disk
}
_EXAMPLES = 20


class Broken(Exception):  # noqa: N818
    """A promise that a case found broken, of one of the KINDS."""

    def __init__(self, kind: str, text: str) -> None:
        assert kind in KINDS
        super().__init__(kind, text)
        self.kind, self.text = kind, text


@dataclass
class Report:
    """One campaign: its cases, the faults that took effect in them, the promises broken."""

    campaign: str
    cases: int = 0
    took_effect: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @contextmanager
    def case(self, label: str) -> Iterator[None]:
        """Count a case, and what it finds broken."""
        self.cases += 1
        with self.guard(label):
            yield

    @contextmanager
    def guard(self, label: str) -> Iterator[None]:
        """Note what is found broken inside."""
        try:
            yield
        except Broken as broken:
            self.add(broken.kind, f"{label}: {broken.text}")

    def add(self, kind: str, text: str) -> None:
        """Note a broken promise."""
        self.broken[kind] += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(f"[{kind}] {text}")

    @contextmanager
    def timed(self) -> Iterator[Report]:
        """Add the time that passes inside."""
        begun = time.monotonic()
        try:
            yield self
        finally:
            self.seconds += time.monotonic() - begun

    def to_dict(self) -> dict[str, Any]:
        """As the JSON file has it."""
        return {
            "campaign": self.campaign,
            "cases": self.cases,
            "took_effect": dict(self.took_effect),
            **{kind: self.broken[kind] for kind in KINDS},
            "examples": self.examples,
            "notes": self.notes,
            "seconds": round(self.seconds, 1),
        }


def table(reports: Iterable[dict[str, Any]]) -> str:
    """The campaigns as a table in Markdown, from what `Report.to_dict` returns."""
    head = ["campaign", "cases", *KINDS.values(), "seconds"]
    rows = [
        [report["campaign"], f"{report['cases']:,}"]
        + [str(report[kind]) for kind in KINDS]
        + [f"{report['seconds']:.0f}"]
        for report in reports
    ]
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, rule, *rows]) + "\n"
