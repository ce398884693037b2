"""The configuration of a run: one flat, typed table from which every use of a key follows.

`RunConfig` is the only place that defines a key, its default, its range and its explanation. TOML
files, ``--set``, command-line options, the trajectory's ``config`` attribute and the documentation
follow from it. `prdsim.config.files.load_config` merges the layers: defaults < preset < TOML <
``--set`` < options.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from prdsim.config import checks
from prdsim.config.brief import Brief
from prdsim.config.messages import explain
from prdsim.config.presets import PRESETS
from prdsim.config.ranges import (
    Coupling,
    CriticSteps,
    NonNegative,
    Positive,
    Share,
    Size,
    Threads,
)
from prdsim.config.resolved import Resolved
from prdsim.files.small import bytes_of
from prdsim.running.tableaux import TABLEAUX
from prdsim.schedule import Rule
from prdsim.symbols import ForcingKind, Normalization, Precision, Split, Target

__all__ = [
    "INTEGRATORS",
    "PRESETS",
    "STEP_LIMIT",
    "Resolved",
    "RunConfig",
    "config_sha256",
    "group_of",
    "keys_of",
    "without_folder",
]

INTEGRATORS = ("gd", *TABLEAUX)
"""``gd`` alternates; the others integrate the joint flow of (U, V, W, a)."""

if TYPE_CHECKING:
    Integrator = str
else:
    Integrator = Literal[INTEGRATORS]

STEP_LIMIT = 10_000_000
"""Steps after which a run ends if ``steps`` is not given: more than any sensible run takes."""


def _key(group: str, default: Any, help_text: str) -> Any:
    return Field(default, description=help_text, json_schema_extra={"group": group})


class RunConfig(Brief):
    """The definition of a run; immutable.

    Keywords are the keys of the configuration table. Unknown keys, wrong types and values out of
    range raise `ConfigError`; nothing is converted silently, except an integer to a real number. A
    ``preset`` supplies defaults for the keys that are not given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    dataset: str = _key(
        "data", "synthetic", "synthetic, digits, mnist, fashion-mnist, or a .npz, .h5, .csv file"
    )
    data_dir: str | None = _key("data", None, "folder that holds downloaded data sets")
    split: Split = _key("data", "train", "part of the data set")
    samples: Size = _key("data", 256, "number of samples n, drawn by the seed")
    normalize: Normalization = _key("data", "unit", "scale every input to norm 1, or not")
    target: Target = _key(
        "data", "labels", "one-hot labels, one real target, or the inputs themselves"
    )
    outputs: Size = _key("data", 10, "classes of the synthetic data set")
    correlation_length: NonNegative = _key(
        "data", 0.0, "correlation length of synthetic inputs, in pixels; 0 is white noise"
    )

    spectrum: str | None = _key(
        "data", None, "ring:K: synthetic inputs of K waves along a side  (default: no ring)"
    )

    width: Size = _key("network", 512, "hidden neurons m of the generator")
    critic_width: Size | None = _key("network", None, "hidden neurons m_c of the critic (= width)")
    init_scale: NonNegative = _key(
        "network", 1.0, "standard deviation of the entries of U at t = 0"
    )
    output_init: Literal["rademacher", "normal"] = _key(
        "network", "rademacher", "distribution of V and a at t = 0"
    )
    groups: Size | None = _key(
        "network", None, "groups of neurons that are equal at t = 0; divides width (default: none)"
    )
    group_deviation: Share = _key(
        "network", 0.0, "size of random deviations within groups at t = 0, relative to U and V"
    )
    coupling: Coupling = _key(
        "network", 0.0, "kappa, the rate at which u_j and v_j are drawn to the mean of their group"
    )
    trainable: str = _key("network", "U,V,W,a", "arrays that move; the others stay fixed")
    seed: Annotated[int, Field(ge=0, lt=2**63)] = _key("network", 0, "seed of every random number")

    diffusion: bool = _key("adversary", False, "train with the adversary")
    diffusivity: NonNegative = _key("adversary", 1.0, "D, the weight of the adversarial loss")
    forcing: ForcingKind = _key(
        "adversary",
        "adversary",
        "what acts on each sample: the critic's field G, or a control in its place",
    )
    forcing_norm: Positive | str | None = _key(
        "adversary",
        None,
        "norm of a control: a number, or an adversarial run's file  (= 1; shuffled: that of G)",
    )
    forcing_time: Positive | None = _key(
        "adversary",
        None,
        "time between changes, or correlation time of slow  (= 0.1; slow: 5)",
    )
    critic: Literal["wgan-gp", "minimax"] = _key("adversary", "wgan-gp", "objective of the critic")
    critic_rate: Positive = _key(
        "adversary", 1.0, "beta, the critic's speed; minimax sums over samples: try 1/n"
    )
    critic_steps: CriticSteps = _key("adversary", 5, "critic updates per step (gd)")
    critic_step_size: Positive | None = _key(
        "adversary", None, "critic update size (gd)  (= critic_rate step_size / critic_steps)"
    )
    critic_warmup: NonNegative = _key(
        "adversary", 0.0, "time for which only the critic moves, before t = 0"
    )
    gradient_penalty: NonNegative = _key("adversary", 10.0, "weight of the penalty (wgan-gp)")
    penalty_points: str = _key(
        "adversary",
        "midpoint",
        "where the penalty is taken: midpoint, gauss:K (its average over e), random (gd)",
    )

    integrator: Integrator = _key(
        "time", "bs23", "adaptive steps: bs23, dopri5; fixed steps: heun, rk4; alternating: gd"
    )
    end_time: Positive | None = _key(
        "time", 50.0, "time at which the run ends; none if only steps are given"
    )
    rtol: Positive = _key("time", 1e-3, "relative tolerance (adaptive)")
    atol: NonNegative = _key("time", 1e-8, "absolute tolerance (adaptive)")
    step_size: Positive | Literal["auto"] = _key(
        "time", "auto", "step size of U, V (first if adaptive); auto: a fraction of 1/lambda_max"
    )
    steps: Size | None = _key("time", None, "largest number of accepted steps")

    backend: str = _key("computing", "auto", "auto, numpy, numba, cupy; cupy:1 picks a device")
    precision: Precision = _key(
        "computing", "float64", "precision of all arrays; tf32 on cupy only"
    )
    chart: Literal["auto", "weight", "range", "gram"] = _key(
        "computing", "auto", "coordinates that carry U; the trajectory is the same in each"
    )
    threads: Threads | None = _key(
        "computing", None, "CPU threads (default: the cores of this process)"
    )

    memory: str | None = _key(
        "computing",
        None,
        "memory for arrays, such as 2 GB: samples are taken in panels that fit (default: all)",
    )

    output: str | None = _key("output", None, "trajectory file (default: prdsim-TIME-ID.h5)")
    force: bool = _key("output", False, "overwrite the trajectory file")
    lock: bool = _key(
        "output", True, "lock the file against other writers; no-lock: where no locks exist"
    )
    snapshots: str | None = _key(
        "output",
        None,
        "when to keep the weights: times:geometric:COUNT, times:every:TIME, or by step "
        "geometric:COUNT, every:STEPS  (= times:geometric:40, or geometric:40 without an end time)",
    )
    scalars: str | None = _key(
        "output",
        None,
        "when to record losses, norms and distances, likewise  (= times:every:0.5, or every:10)",
    )
    snapshot_precision: Literal["float64", "float32"] | None = _key(
        "output", None, "precision of the snapshots (= precision)"
    )
    store_data: bool = _key("output", True, "keep X and Y in the trajectory file")
    restart_seconds: NonNegative = _key("output", 60.0, "wall-clock time between restart points")

    preset: Literal["poster", "theory"] | None = _key("preset", None, "a named set of defaults")

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise explain(error, type(self)) from None

    @model_validator(mode="before")
    @classmethod
    def _plain_values_over_preset(cls, values: dict[str, Any]) -> dict[str, Any]:
        plain = {key: _python_value(value) for key, value in values.items()}
        preset = plain.get("preset")
        if isinstance(preset, str):
            plain = {**PRESETS.get(preset, {}), **plain}
        if plain.get("steps") is not None:
            plain.setdefault("end_time", None)  # steps replace the end time
        return plain

    @field_validator("snapshots", "scalars")
    @classmethod
    def _known_schedule(cls, value: str | None) -> str | None:
        if value is not None:
            Rule.parse(value)
        return value

    @field_validator("memory")
    @classmethod
    def _known_memory(cls, value: str | None) -> str | None:
        if value is not None:
            bytes_of(value)
        return value

    _known_arrays = field_validator("trainable")(checks.arrays)
    _known_points = field_validator("penalty_points")(checks.penalty_points)
    _known_spectrum = field_validator("spectrum")(checks.spectrum)

    @field_validator("dataset", "backend", "output", "data_dir", "forcing_norm")
    @classmethod
    def _not_empty(cls, value: str | float | None) -> str | float | None:
        if isinstance(value, str) and (not value.strip() or "\0" in value):
            raise ValueError("must not be empty")
        return value

    @field_validator("output", "data_dir", "forcing_norm")
    @classmethod
    def _with_home(cls, value: str | float | None) -> str | float | None:
        """Replace ~ by the home folder: a shell leaves it in --output=~/run.h5."""
        if not isinstance(value, str):
            return value
        return os.path.expanduser(value)  # noqa: PTH111 - leaves that of nobody

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        checks.consistent(self)
        return self

    @property
    def diffuses(self) -> bool:
        """Whether a field acts beside the residual: diffusion with D > 0."""
        return self.effective_diffusivity > 0

    @property
    def controlled(self) -> bool:
        """Whether that field is a control's."""
        return self.diffuses and self.forcing != "adversary"

    @property
    def adversary(self) -> bool:
        """Whether the critic acts on the generator, be it by its field shuffled over samples."""
        return self.diffuses and self.forcing in ("adversary", "shuffled")

    @property
    def forcing_period(self) -> float:
        """The time between changes of a control, of ``slow`` its correlation time."""
        return self.forcing_time or (5.0 if self.forcing == "slow" else 0.1)

    @property
    def effective_diffusivity(self) -> float:
        """D, but 0 without diffusion."""
        return self.diffusivity if self.diffusion else 0.0

    @property
    def adversary_in_words(self) -> str:
        """Whether diffusion acts, with which D and critic."""
        if self.controlled:
            return f"with {self.forcing} forcing (D = {self.diffusivity:g})"
        if self.adversary:
            return f"with diffusion (D = {self.diffusivity:g}, {self.critic})"
        return "without diffusion" + " (D = 0)" * self.diffusion

    @property
    def coupled(self) -> bool:
        """Whether neurons are drawn to the mean of their group."""
        return self.groups is not None and self.coupling > 0.0

    @property
    def neurons_in_words(self) -> str:
        """How many neurons there are, in which groups, and how these are coupled."""
        if self.groups is None:
            return f"{self.width} neurons"
        coupled = f", coupled at {self.coupling:g}" if self.coupled else ""
        return f"{self.width} neurons in {self.groups} groups{coupled}"

    @property
    def moving(self) -> tuple[str, ...]:
        """The arrays that move, in the order U, V, W, a; W and a only with an adversary."""
        names = self.trainable.split(",")
        return tuple(name for name in names if self.adversary or name in "UV")

    @property
    def adaptive(self) -> bool:
        """Whether the integrator adapts its steps to an error estimate."""
        return self.integrator in TABLEAUX and TABLEAUX[self.integrator].adaptive

    @property
    def step_limit(self) -> int:
        """Accepted steps after which the run ends, at any time."""
        return STEP_LIMIT if self.steps is None else self.steps

    @property
    def snapshot_rule(self) -> Rule:
        """When snapshots are taken."""
        default = "geometric:40" if self.end_time is None else "times:geometric:40"
        return Rule.parse(self.snapshots or default)

    @property
    def scalar_rule(self) -> Rule:
        """When rows of scalars are recorded."""
        default = "every:10" if self.end_time is None else "times:every:0.5"
        return Rule.parse(self.scalars or default)

    @property
    def array_precision(self) -> str:
        """The NumPy name of the arrays' type: tf32 is a way to multiply float32."""
        return "float64" if self.precision == "float64" else "float32"

    def replace(self, **values: Any) -> RunConfig:
        """Return a copy with some keys replaced; raises `ConfigError` like the constructor.

        Keys that were set stay unchanged, including those that a preset supplied.
        """
        given = {key: value for key, value in self if key in self.model_fields_set}
        return RunConfig(**{**given, **values})

    def to_json(self) -> str:
        """Return every key and value as sorted JSON text, as in the trajectory file."""
        return json.dumps(self.model_dump(), sort_keys=True)

    def sha256(self) -> str:
        """Return the `config_sha256` of this configuration."""
        return config_sha256(self.model_dump())

    def describes(self, values: Mapping[str, Any]) -> bool:
        """Whether recorded values are of the same numbers; keys that they lack had the defaults."""
        defaults = {name: field.default for name, field in RunConfig.model_fields.items()}
        return config_sha256({**defaults, **values}) == self.sha256()


def config_sha256(values: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the keys that affect numbers: without output keys and folders.

    ``values`` maps keys to values, as in a trajectory file; keys that a later version of
    prdsim adds do not change the checksum of a file that lacks them. A file of norms counts by its
    name.
    """
    former = "scalars_every"  # of the group output, in files of format version 1
    left_out = {*keys_of("output", "preset"), "data_dir", former}
    kept = {key: without_folder(key, values[key]) for key in sorted(values) if key not in left_out}
    return hashlib.sha256(json.dumps(kept).encode()).hexdigest()


def without_folder(key: str, value: Any) -> Any:
    """Return the value of a key, of a file of norms its name: where it is decides no number."""
    return Path(value).name if key == "forcing_norm" and isinstance(value, str) else value


def keys_of(*groups: str) -> list[str]:
    """Return the keys of some groups of the configuration table, in the table's order."""
    return [key for key in RunConfig.model_fields if group_of(key) in groups]


def group_of(key: str) -> str:
    """Return the group of a key: data, network, adversary, time, computing, output or preset."""
    extra = RunConfig.model_fields[key].json_schema_extra
    assert isinstance(extra, dict)
    return str(extra["group"])


def _python_value(value: Any) -> Any:
    """Return NumPy scalars as Python numbers and paths as text."""
    if isinstance(value, Path):
        return str(value)
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
        return value.item()
    return value
