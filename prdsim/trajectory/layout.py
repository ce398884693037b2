"""The content of a trajectory file: one declared table for creation and documentation.

Every dataset has named axes. An axis is described by the dataset of that name in the same group,
else in the root ("dimension scales", which xarray and netCDF read as labels).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from prdsim.errors import PrdsimError
from prdsim.schedule import is_by_time
from prdsim.symbols import ARRAYS
from prdsim.trajectory.commit import SLOT_BYTES, SLOTS
from prdsim.trajectory.sessions import PAGE_BYTES, PAGES

FORMAT = "prdsim-trajectory"
FORMAT_VERSION = 3

#: Attributes that every file has, beside those of its layout.
OWN_ATTRIBUTES = ("format", "format_version", "prdsim_version")

#: All quantities are dimensionless.
UNITS = "1"

#: Types of attribute values in the file.
Attribute = str | int | float | Sequence[int]


@dataclass(frozen=True)
class ScalarField:
    """One float64 column of /scalars, present since a version of the format."""

    name: str
    long_name: str
    since: int = 1


SCALARS = (
    ScalarField("time", "time of the flow"),
    ScalarField("step_size", "step size of the integrator"),
    ScalarField("loss_sup", "supervised loss, 1/2 ||Z - Y||_F^2"),
    ScalarField("loss_adv", "adversarial loss, sum over samples of g(z)"),
    ScalarField("loss_aug", "augmented loss, loss_sup - diffusivity loss_adv"),
    ScalarField("loss_critic", "critic's loss with its gradient penalty"),
    ScalarField("residual_norm", "norm of the residual, ||Y - Z||_F"),
    ScalarField("reaction_norm_U", "Frobenius norm of the reaction term of U"),
    ScalarField("diffusion_norm_U", "Frobenius norm of the diffusion term of U"),
    ScalarField("reaction_norm_V", "Frobenius norm of the reaction term of V"),
    ScalarField("diffusion_norm_V", "Frobenius norm of the diffusion term of V"),
    ScalarField("distance_U_mean", "mean over neurons of ||u_j(t) - u_j(0)||"),
    ScalarField("distance_U_max", "largest over neurons of ||u_j(t) - u_j(0)||"),
    ScalarField("distance_V_mean", "mean over neurons of ||v_j(t) - v_j(0)||"),
    ScalarField("distance_V_max", "largest over neurons of ||v_j(t) - v_j(0)||"),
    ScalarField("balance_drift", "drift of the invariants ||u_j||^2 - ||v_j||^2"),
    ScalarField("critic_balance_drift", "drift of the invariants ||w_r||^2 - a_r^2"),
    ScalarField("score_norm_mean", "mean over samples of ||grad_z g||"),
    ScalarField("penalty_norm_mean", "mean over samples of ||q||, q = grad g(y_hat)"),
    ScalarField("mask_flips", "share of the gates 1{A >= 0} that differ from step 0"),
    ScalarField("evaluations", "velocities computed so far", since=2),
    ScalarField("rejected_steps", "adaptive steps rejected so far", since=2),
    ScalarField("invariant_error", "drift of the invariants beside the squared distances", since=2),
    ScalarField("lambda_max", "largest eigenvalue of the tangent kernel (fixed steps)", since=2),
)


def scalar_columns(version: int) -> tuple[str, ...]:
    """Return the columns of /scalars in a format version, "step" first, in checksum order."""
    return ("step", *(field.name for field in SCALARS if field.since <= version))


@dataclass(frozen=True)
class Row:
    """One line of the declared table.

    `dtype` is a NumPy name, "run" or "snapshot" precision, or "plan": int64 steps, float64 times.
    """

    path: str
    dims: tuple[str, ...]
    dtype: str
    long_name: str


_ARRAYS = {
    "U": (("neuron", "input"), "hidden layer U, row j is u_j"),
    "V": (("output", "neuron"), "top layer V, column j is v_j"),
    "W": (("critic_neuron", "output"), "critic's hidden layer W"),
    "a": (("critic_neuron",), "critic's top layer a"),
    "X": (("input", "sample"), "inputs X, one sample a column"),
    "Y": (("output", "sample"), "targets Y, one sample a column"),
    "Q": (("input", "rank"), "orthonormal basis Q of the inputs' range, X = Q R"),
    "R": (("rank", "sample"), "inputs in the basis Q, X = Q R"),
    "norm": (("sample",), "norm of a control's field, of a sample"),
}

#: Groups of arrays that are written once.
FIXED_GROUPS = ("initial", "chart", "forcing", "data")

#: A dataset that a file may have.
NORMS = Row("forcing/norm", _ARRAYS["norm"][0], "float64", _ARRAYS["norm"][1])

#: Datasets that a file has both or neither of; "stored" is a precision of its own.
PAIRS = tuple(
    tuple(Row(f"{group}/{n}", _ARRAYS[n][0], dtype, _ARRAYS[n][1]) for n in names)
    for group, names, dtype in (("chart", "QR", "run"), ("data", "XY", "stored"))
)

_SCALES = {
    "neuron": "hidden neuron j",
    "input": "coordinate of the input",
    "output": "coordinate of the output",
    "critic_neuron": "hidden neuron r of the critic",
    "sample": "sample p",
    "rank": "coordinate in the inputs' range",
    "array": "weight array: " + ", ".join(ARRAYS),
    "slot": "one of two alternating slots",
    "word": "64-bit word of a commit record",
    "session": "one of the pages for resumes",
    "byte": "byte of a page",
}

_COMMIT = (Row("commit/record", ("slot", "word"), "uint64", "commit records, packed"),)

_SESSIONS = (Row("sessions/record", ("session", "byte"), "uint8", "resumes, packed"),)

_SCHEDULE = (
    Row("schedule/snapshots", ("snapshots",), "plan", "planned steps, or times, of the snapshots"),
    Row("schedule/scalars", ("scalars",), "plan", "planned steps, or times, of the scalars"),
)

_SCALAR_TABLE = (
    Row("scalars/step", ("step",), "int64", "accepted steps; -1 where not yet written"),
    *(Row(f"scalars/{field.name}", ("step",), "float64", field.long_name) for field in SCALARS),
)

_SNAPSHOT_TABLE = (
    Row("snapshots/step", ("step",), "int64", "accepted steps; -1 where not yet written"),
    Row("snapshots/time", ("step",), "float64", "time of the flow"),
    *(
        Row(f"snapshots/{name}", ("step", *_ARRAYS[name][0]), "snapshot", _ARRAYS[name][1])
        for name in ARRAYS
    ),
    Row("snapshots/crc32", ("step", "array"), "uint32", "CRC-32 of step, time and one array"),
)

_RESTART_HEAD = (
    Row("restart/step", ("slot",), "int64", "accepted steps; -1 where not yet written"),
    Row("restart/time", ("slot",), "float64", "time of the flow"),
)
_RESTART_CRC = Row("restart/crc32", ("slot",), "uint32", "CRC-32 of the whole slot")

#: Names in /restart that a stepper's own arrays and scalars must not have.
RESERVED = {"step", "time", "crc32"}

#: The groups whose datasets are written after creation; all other bytes are fixed.
CHANGING_GROUPS = ("commit", "sessions", "scalars", "snapshots", "restart")

#: All groups of a file; others are of other programs.
GROUPS = (*CHANGING_GROUPS, "schedule", *FIXED_GROUPS, "sessions")


def changes(path: str) -> bool:
    """Whether commits write to the dataset."""
    return path.partition("/")[0] in CHANGING_GROUPS


def declared_rows(version: int) -> list[Row]:
    """Return the rows that every file of a format version has, /restart's own apart."""
    columns = {f"scalars/{name}" for name in scalar_columns(version)}
    initial = [Row(f"initial/{n}", _ARRAYS[n][0], "run", _ARRAYS[n][1]) for n in ARRAYS]
    scalars = [row for row in _SCALAR_TABLE if row.path in columns]
    return [
        *initial,
        *_COMMIT,
        *_SCHEDULE,
        *scalars,
        *_SNAPSHOT_TABLE,
        *_RESTART_HEAD,
        _RESTART_CRC,
    ]


@dataclass(frozen=True)
class DatasetSpec:
    """One dataset to be created."""

    path: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype
    long_name: str

    @property
    def nbytes(self) -> int:
        """Bytes of its data."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise PrdsimError(f"trajectory layout: {message}")


@dataclass(frozen=True)
class Layout:
    """Everything needed to create a trajectory file.

    `shapes` gives U (m, d_in), V (d_out, m), W (m_c, d_out), a (m_c,); `restart_shapes` and
    `restart_scalars` name the content of a restart slot besides step and time; the plans list the
    steps (whole numbers) or the times of the rows, ascending from 0. `initial` holds U, V, W, a at
    run precision; `chart`, `forcing` (norms, float64) and `data` are stored with the dtype they
    have.

    Raises:
        PrdsimError: arguments that contradict each other (a fault in the caller).
    """

    shapes: Mapping[str, tuple[int, ...]]
    restart_shapes: Mapping[str, tuple[int, ...]]
    restart_scalars: tuple[str, ...]
    precision: str
    snapshot_precision: str
    snapshot_plan: Sequence[float]
    scalar_plan: Sequence[float]
    attributes: Mapping[str, Attribute]
    initial: Mapping[str, np.ndarray]
    chart: Mapping[str, np.ndarray] = field(default_factory=dict)
    forcing: Mapping[str, np.ndarray] = field(default_factory=dict)
    data: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for precision in (self.precision, self.snapshot_precision):
            _require(precision in ("float64", "float32"), f"precision {precision!r}")
        _require(set(self.shapes) == set(ARRAYS), f"shapes of {sorted(self.shapes)}")
        m, d_in = self.shapes["U"]
        m_c, d_out = self.shapes["W"]
        expected = {"U": (m, d_in), "V": (d_out, m), "W": (m_c, d_out), "a": (m_c,)}
        _require(dict(self.shapes) == expected, f"shapes disagree: {dict(self.shapes)}")
        sizes = [n for s in (self.shapes, self.restart_shapes) for v in s.values() for n in v]
        _require(min(sizes) >= 1, "an array without elements")
        for what, plan in (("snapshot", self.snapshot_plan), ("scalar", self.scalar_plan)):
            array = np.asarray(plan)
            ascending = array.ndim == 1 and array.size > 0 and bool((np.diff(array) > 0).all())
            _require(ascending and array[0] == 0, f"the {what} plan must ascend from 0")
        names = [*self.restart_shapes, *self.restart_scalars]
        _require(len({*names, *RESERVED}) == len(names) + len(RESERVED), f"names {names}")
        _require(not set(OWN_ATTRIBUTES) & set(self.attributes), "a reserved attribute")
        for name in ARRAYS:
            array = self.initial[name]
            _require(array.shape == self.shapes[name], f"initial {name} is {array.shape}")
            _require(array.dtype == self.precision, f"initial {name} is {array.dtype}")

    @property
    def fixed_arrays(self) -> dict[str, np.ndarray]:
        """The arrays stored once, by path, of `FIXED_GROUPS`."""
        return {
            f"{group}/{name}": array
            for group in FIXED_GROUPS
            for name, array in getattr(self, group).items()
        }

    def datasets(self) -> list[DatasetSpec]:
        """Return every dataset of the file, the axes' scales first."""
        (m, d_in), (m_c, d_out) = self.shapes["U"], self.shapes["W"]
        sizes = {"neuron": m, "input": d_in, "output": d_out, "critic_neuron": m_c}
        sizes |= {"array": len(ARRAYS), "slot": SLOTS, "word": SLOT_BYTES // 8}
        sizes |= {"session": PAGES, "byte": PAGE_BYTES}
        free = self._free_rows(sizes)
        lengths = {"snapshots": len(self.snapshot_plan), "scalars": len(self.scalar_plan)}
        rows = [Row(name, (name,), "int32", _SCALES.get(name, "index")) for name in sizes]
        rows += [*_COMMIT, *_SESSIONS, *_SCHEDULE, *_SCALAR_TABLE, *_SNAPSHOT_TABLE, *free]
        specs = []
        for row in rows:
            local = sizes | lengths | {"step": lengths.get(row.path.partition("/")[0], 0)}
            specs.append(self._spec(row, tuple(local[axis] for axis in row.dims)))
        return specs

    def _free_rows(self, sizes: dict[str, int]) -> list[Row]:
        """Rows whose names or shapes depend on the layout; adds the axes they need to `sizes`."""
        rows = []
        for path, array in self.fixed_arrays.items():
            name = path.rpartition("/")[2]
            long_name = _ARRAYS[name][1] if name in _ARRAYS else name
            rows.append(Row(path, _axes(name, array.shape, sizes), array.dtype.name, long_name))
        rows += _RESTART_HEAD
        for name in self.restart_scalars:
            rows.append(Row(f"restart/{name}", ("slot",), "float64", f"carried {name}"))
        for name, shape in self.restart_shapes.items():
            axes = ("slot", *_axes(name, shape, sizes))
            rows.append(Row(f"restart/{name}", axes, "run", f"carried {name}, exact"))
        return [*rows, _RESTART_CRC]

    def _spec(self, row: Row, shape: tuple[int, ...]) -> DatasetSpec:
        precision = {"run": self.precision, "snapshot": self.snapshot_precision}
        if row.dtype == "plan":
            plan = self.snapshot_plan if row.path.endswith("snapshots") else self.scalar_plan
            precision["plan"] = "float64" if is_by_time(plan) else "int64"
        dtype = np.dtype(precision.get(row.dtype, row.dtype)).newbyteorder("<")
        return DatasetSpec(row.path, row.dims, shape, dtype, row.long_name)

    def nbytes(self) -> int:
        """Return the predicted size of the file, with an estimate for metadata."""
        # Datasets of 2 KiB or more start at a multiple of 4 KiB; metadata is some 1.5 KiB each.
        specs = self.datasets()
        data = sum(-(-spec.nbytes // 4096) * 4096 for spec in specs if spec.nbytes >= 2048)
        data += sum(spec.nbytes for spec in specs if spec.nbytes < 2048)
        text = sum(len(v) for v in self.attributes.values() if isinstance(v, str))
        return data + text + 1536 * len(specs)


def _axes(name: str, shape: tuple[int, ...], sizes: dict[str, int]) -> tuple[str, ...]:
    """Return an array's axes, the declared ones if they fit; adds new ones to `sizes`.

    An array such as velocity_U has the axes of U.
    """
    dims, _ = _ARRAYS.get(name.rpartition("_")[2], ((), ""))
    if len(dims) == len(shape) and all(
        sizes.get(d, n) == n for d, n in zip(dims, shape, strict=True)
    ):
        sizes.update(zip(dims, shape, strict=True))
        return dims
    dims = tuple(f"length_{n}" for n in shape)
    sizes.update(zip(dims, shape, strict=True))
    return dims


def markdown_table() -> str:
    """Return the declared table for the documentation of the file format."""
    rows = [*_COMMIT, *_SESSIONS, *_SCHEDULE]
    rows += [Row(f"initial/{n}", _ARRAYS[n][0], "run", _ARRAYS[n][1]) for n in ARRAYS]
    rows += [Row(f"chart/{n}", _ARRAYS[n][0], "run", _ARRAYS[n][1]) for n in "QR"]
    rows += [NORMS]
    rows += [Row(f"data/{n}", _ARRAYS[n][0], "run", _ARRAYS[n][1]) for n in "XY"]
    rows += [*_SCALAR_TABLE, *_SNAPSHOT_TABLE, *_RESTART_HEAD]
    rows += [Row("restart/<scalar>", ("slot",), "float64", "the stepper's own numbers")]
    rows += [Row("restart/<array>", ("slot", "..."), "run", "carried arrays, exact")]
    rows += [_RESTART_CRC]
    rows += [Row(name, (name,), "int32", text) for name, text in _SCALES.items()]
    lines = ["| dataset | axes | type | units | meaning |", "|---|---|---|---|---|"]
    lines += [
        f"| /{r.path} | {', '.join(r.dims)} | {r.dtype} | {UNITS} | {r.long_name} |" for r in rows
    ]
    return "\n".join(lines).replace("||", r"\|\|") + "\n"
