"""Names that several parts of prdsim share."""

from __future__ import annotations

from typing import Literal, get_args

ARRAYS = ("U", "V", "W", "a")
"""The four arrays of a state, by the paper's symbols, in the order of every listing."""

Split = Literal["train", "test"]
Precision = Literal["float64", "float32", "tf32"]
Normalization = Literal["unit", "none"]
Target = Literal["labels", "scalar", "inputs"]
ForcingKind = Literal["adversary", "static", "common", "shuffled", "white", "slow"]

CONTROLS: tuple[str, ...] = get_args(ForcingKind)[1:]
"""What acts in the critic's place."""

CONDITIONS = ("none", "adversary", *CONTROLS)
"""What acts beside the residual, in the order of every comparison."""

DOWNLOADED = ("mnist", "fashion-mnist")
"""Data sets that are files of a folder, where `prdsim data fetch` puts them."""
