"""CUDA graphs: recurring operations are recorded once, then launched together.

Issuing an operation costs the host some microseconds, which dominate a step of small arrays. A
graph issues a whole step in one call. It holds addresses and scalars, never references to arrays.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from prdsim.errors import PrdsimWarning

WARM_UP = 2  # calls before recording: kernels are compiled and loaded, cuBLAS is set up


@dataclass(slots=True)
class _Recording:
    """How often operations were issued one by one, and their graph once it is recorded."""

    calls: int = 0
    graph: Any = None


class Recorder:
    """Issues recurring operations to one stream: eagerly at first, then as a graph.

    A recording lives as long as its owner. If recording fails for any reason, operations are
    issued eagerly from then on, after one RuntimeWarning: the same results, at another speed.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._recordings: WeakKeyDictionary[Any, dict[Hashable, _Recording]] = WeakKeyDictionary()
        self.failure = ""

    def __call__(self, owner: object, key: Hashable, operations: Callable[[], None]) -> None:
        """Issue the operations once; for one owner and key they are always the same."""
        recording = self._recordings.setdefault(owner, {}).setdefault(key, _Recording())
        if recording.graph is None and recording.calls >= WARM_UP and not self.failure:
            recording.graph = self._record(operations)
        if recording.graph is None or self.failure:
            recording.calls += 1
            operations()
        else:
            recording.graph.launch(self._stream)

    def _record(self, operations: Callable[[], None]) -> Any:
        """Return a graph of the operations without executing them; None if that fails."""
        try:
            self._stream.begin_capture()
            try:
                operations()
            except BaseException:
                with suppress(Exception):  # ending a broken capture is an error
                    self._stream.end_capture()
                raise
            graph = self._stream.end_capture()
            graph.upload(self._stream)  # fails here, not at launch, if memory is lacking
        except Exception as error:
            self.failure = (str(error).strip() or type(error).__name__).splitlines()[0]
            warnings.warn(
                f"steps are issued to the device one operation at a time, because recording them "
                f"as a CUDA graph failed ({self.failure}); results are the same, small runs slower",
                PrdsimWarning,
                stacklevel=2,
            )
            return None
        return graph
