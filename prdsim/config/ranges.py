"""Ranges of numbers in a configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

_LARGEST = 2**31 - 1  # BLAS counts rows and columns in 32 bits

Size = Annotated[int, Field(ge=1, le=_LARGEST)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Coupling = Annotated[float, Field(ge=0, le=1e6)]  # faster ones leave no step to integrate with
Share = Annotated[float, Field(ge=0, le=1)]
CriticSteps = Annotated[int, Field(ge=0, le=10_000)]  # a signal stops a run between two steps
Threads = Annotated[int, Field(ge=1, le=4096)]
