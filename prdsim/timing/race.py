"""Timing in turn: a block of steps for every entrant, round after round."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from statistics import median

from prdsim.progress import Say, silent

_MOST_STEPS = 100_000  # in a block
_PAUSE = 0.05  # seconds; idle threads of the last block's libraries stop spinning
_DISTURBED = 0.15  # cores that other processes kept busy during a block
_ATTEMPTS = 4  # to measure an undisturbed block


@dataclass(frozen=True)
class Block:
    """Mean seconds of a step in a block, and the number of cores that other processes kept busy."""

    seconds: float
    others: float = 0.0


Entrant = Callable[[int], Block]
"""Takes one uncounted step, then the requested number."""


@dataclass(frozen=True)
class Timing:
    """The blocks of one entrant, one per round, of ``steps`` steps each."""

    steps: int
    blocks: tuple[Block, ...]

    @property
    def seconds(self) -> float:
        """The median over the rounds of the seconds of one step."""
        return median(block.seconds for block in self.blocks)

    @property
    def disturbed(self) -> int:
        """The number of blocks that other processes disturbed."""
        return sum(block.others > _DISTURBED for block in self.blocks)


def race(
    entrants: Mapping[str, Entrant],
    *,
    rounds: int,
    block_seconds: float,
    progress: Say = silent,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Timing]:
    """Time every entrant once per round, in rotating order, and return all timings by label.

    A block has as many steps as fill ``block_seconds``, at least one. One that other processes
    disturbed is measured again, a few times; the block with the least disturbance is kept, whatever
    its duration.
    """
    steps = {label: _steps_of_a_block(each, block_seconds) for label, each in entrants.items()}
    blocks: dict[str, list[Block]] = {label: [] for label in entrants}
    order = list(entrants)
    for number in range(rounds):
        progress(f"round {number + 1}/{rounds}")
        for label in order:
            blocks[label].append(_least_disturbed(entrants[label], steps[label], sleep))
        order = order[1:] + order[:1]
    return {label: Timing(steps[label], tuple(found)) for label, found in blocks.items()}


def _steps_of_a_block(entrant: Entrant, block_seconds: float) -> int:
    steps = 1
    while steps < _MOST_STEPS:
        seconds = min(entrant(steps).seconds for _ in range(2))
        if seconds * steps > block_seconds / 10:
            return min(_MOST_STEPS, max(1, ceil(block_seconds / seconds)))
        steps *= 8
    return _MOST_STEPS


def _least_disturbed(entrant: Entrant, steps: int, sleep: Callable[[float], None]) -> Block:
    found: list[Block] = []
    while len(found) < _ATTEMPTS and not (found and found[-1].others <= _DISTURBED):
        sleep(_PAUSE)
        found.append(entrant(steps))
    return min(found, key=lambda block: block.others)
