"""The values that ``auto`` takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from prdsim.config.ranges import NonNegative, Positive, Size, Threads
from prdsim.errors import ConfigError
from prdsim.words import shown, shown_value


@dataclass(frozen=True)
class Resolved:
    """The values that ``auto`` took in a run; a resumed run uses them again.

    ``ramp`` is that of `FixedSteps`; ``critic_rate`` the critic's speed beta, which for gd may
    follow from the size of its updates (None: a file of format version 1). ``panel`` is the number
    of samples taken at a time, None: all.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    backend: str
    device: str
    chart: Annotated[str, Field(pattern="^(weight|range|gram)$")]
    step_size: Positive
    threads: Threads
    ramp: Size = 1
    critic_rate: NonNegative | None = None
    panel: Size | None = None

    @property
    def panels_in_words(self) -> str:
        """How many samples are taken at a time, if not all."""
        return f", {self.panel} samples at a time" if self.panel else ""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Resolved:
        """Return the values that a file holds; raises `ConfigError` if a run cannot have them."""
        try:
            return TypeAdapter(cls).validate_json(json.dumps(dict(values)))
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            place = ".".join(map(str, problem["loc"]))
            raise ConfigError(
                f"{shown(place)}: {problem['msg']}, got {shown_value(problem['input'])}"
            ) from None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)
