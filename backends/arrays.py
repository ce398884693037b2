"""The two array types for annotations."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any
"""An array of whatever library the backend uses."""

HostArray = np.ndarray[Any, Any]
"""A NumPy array."""
