"""Every format of input: undamaged examples, mutators, and the commands that read it."""

from __future__ import annotations

import functools
import gzip
import io
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np
from support_runs import Killed, kill_at

import prdsim
from faults import forged, mutated_archives, mutated_hdf5, mutations
from faults.mutations import ON_BYTES, ON_TEXT, Mutator, mutated
from faults.oracle import ANY, SECRET, Case
from faults.places import temporary_folder
from faults.sandbox import PIPE, READ, Files, call_on
from prdsim.cli import _VERBS

_GOLDEN = Path(__file__).parents[1] / "golden"


@dataclass(frozen=True)
class Command:
    """A command line; ``codes`` are exit codes it may give besides the usual ones."""

    arguments: tuple[str, ...]
    outputs: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    codes: frozenset[int] = frozenset()
    weight: int = 1


def command(text: str, weight: int = 1, **more: Any) -> Command:
    return Command(tuple(text.split()), weight=weight, **more)


@dataclass(frozen=True)
class Format:
    """A kind of input: in each example, the file ``target`` is mutated.

    ``faithful``: what is read without an error must be what the undamaged file holds.
    """

    name: str
    target: str
    examples: Callable[[], Sequence[Files]]
    mutators: Sequence[Mutator]
    commands: Sequence[Command]
    faithful: bool = False

    def case(self, rng: Random, name: str) -> Case:
        """Return a random case."""
        examples = self.examples()
        undamaged = rng.choice(examples)
        files = dict(undamaged)
        others = [example[self.target] for example in examples]
        files[self.target] = mutated(rng, files[self.target], others, self.mutators)
        chosen = rng.choices(self.commands, [c.weight for c in self.commands])[0]
        comparable = self.faithful and not (chosen.changes or chosen.outputs)
        return case_of(f"{self.name}: {name}", files, chosen, undamaged if comparable else None)


def case_of(name: str, files: Files, chosen: Command, undamaged: Files | None = None) -> Case:
    """Return the case of a command on files."""
    words = (chosen.arguments, chosen.outputs, chosen.changes, chosen.codes)
    return Case(name, files, *words, undamaged)


# --- Trajectories ---

_RUN: dict[str, Any] = {
    "samples": 5, "width": 4, "critic_width": 3, "diffusion": True, "integrator": "heun",
    "step_size": 0.05, "steps": 6, "snapshots": "every:2", "scalars": "every:1", "backend": "numpy",
    "threads": 1, "restart_seconds": 0.0,
}  # fmt: skip


def _made(keys: dict[str, Any], stop: int | None = None) -> bytes:
    """Return the trajectory of a tiny run on data of six inputs, killed at a step if asked."""
    with temporary_folder() as place:
        data, path = place / "data.npz", place / "run.h5"
        data.write_bytes(_npz())
        more = {} if stop is None else {"progress": kill_at(stop)}
        with suppress(Killed):
            prdsim.run(**{**_RUN, **keys}, dataset=str(data), output=str(path), **more)
        return path.read_bytes()


@functools.cache
def trajectories() -> list[Files]:
    """A finished run, a killed one, an adaptive one by time, and one of format version 1."""
    by_time = {
        "integrator": "bs23",
        "end_time": 0.2,
        "steps": None,
        "snapshots": "times:every:0.05",
    }
    by_time |= {"scalars": "times:every:0.02", "chart": "gram", "diffusion": False}
    contents = [
        _made({}),
        _made({}, stop=4),
        _made(by_time),
        (_GOLDEN / "run-v1.h5").read_bytes(),
    ]
    other = _made({"diffusion": False})
    return [{"run.h5": content, "other.h5": other} for content in contents]


_INSPECT = (
    command("inspect run.h5", 60),
    command("inspect run.h5 --json", 20),
    command("inspect run.h5 --check", 40, codes=frozenset({3})),
    command(f"{READ} run.h5", 90),
    command("list --json", 20),
)
_USE = (
    command("analyze run.h5 neurons --format csv", 6),
    command("analyze run.h5 --format json", 2),
    command("compare run.h5 other.h5", 2),
    command("plot run.h5 distances --dpi 30", 2, outputs=("run-distances.png",)),
    command("resume run.h5", 6, changes=("run.h5",)),
    command("resume run.h5 --steps 8", 4, changes=("run.h5",)),
    command("resume run.h5 --end-time 0.25", 1, changes=("run.h5",)),
    command(
        "converge run.h5 --accuracy 0.99", 1, outputs=("run.converge.json",), codes=frozenset({1})
    ),
)


# --- Data sets ---


def _samples() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"X": rng.standard_normal((12, 6)), "Y": np.arange(12) % 3, "grid": np.array([2, 3])}


def _npz(**more: Any) -> bytes:
    target = io.BytesIO()
    np.savez(target, **{**_samples(), **more})
    return target.getvalue()


@functools.cache
def _secret() -> Files:
    """Files that no reader of another file may follow a link to, and a pipe."""
    target = io.BytesIO()
    with h5py.File(target, "w") as file:
        file["X"] = np.frombuffer(SECRET * 72).reshape(12, 6)
        file["Y"] = np.arange(12) % 3
    return {"secret.h5": target.getvalue(), "secret.bin": SECRET * 100, "fifo": PIPE}


@functools.cache
def npz_examples() -> list[Files]:
    compressed = io.BytesIO()
    np.savez_compressed(compressed, X=_samples()["X"], y=np.arange(12) / 7)
    return [{"data.npz": _npz()}, {"data.npz": compressed.getvalue()}]


def _hdf5(**options: Any) -> bytes:
    target = io.BytesIO()
    with h5py.File(target, "w") as file:
        for name, value in _samples().items():
            file.create_dataset(name, data=value, **options)
    return target.getvalue()


@functools.cache
def hdf5_examples() -> list[Files]:
    contents = (
        _hdf5(),
        _hdf5(compression="gzip", shuffle=True),
        _hdf5(chunks=True, fletcher32=True),
    )
    return [{"data.h5": content, **_secret()} for content in contents]


@functools.cache
def csv_examples() -> list[Files]:
    rows = ["x1,x2,x3,label", *(f"{i / 7:.3f},{-i},1e-3,{i % 3}" for i in range(1, 13))]
    real = ["a,b,y1,y2", *(f"{i},0.5,{i * i},-1" for i in range(1, 13))]
    return [{"data.csv": ("\n".join(lines) + "\n").encode()} for lines in (rows, real)]


@functools.cache
def idx_examples() -> list[Files]:
    pixels = np.random.default_rng(0).integers(0, 255, (12, 2, 3), dtype=np.uint8)
    images = struct.pack(">4B3I", 0, 0, 8, 3, 12, 2, 3) + pixels.tobytes()
    labels = struct.pack(">4BI", 0, 0, 8, 1, 12) + bytes(range(12))
    return [{"train-images-idx3-ubyte": images, "train-labels-idx1-ubyte": labels}]


@functools.cache
def idx_gz_examples() -> list[Files]:
    return [{f"{k}.gz": gzip.compress(v) for k, v in files.items()} for files in idx_examples()]


_OUT = {"outputs": ("out.h5",)}
SMALL = (
    "--samples 4 --width 3 --critic-width 2 --steps 1 --end-time 1 --backend numpy --threads 1"
    " -o out.h5"
)


def _runs(dataset: str) -> tuple[Command, ...]:
    return (
        command(f"run --dataset {dataset} {SMALL}", 4, **_OUT),
        command(f"run --dataset {dataset} --normalize none --target inputs {SMALL}", 5, **_OUT),
        command(f"run --dataset {dataset} --normalize none --precision float32 {SMALL}", 1, **_OUT),
    )


_MNIST = (
    *_runs("mnist --data-dir ."),
    command("data list --data-dir .", 2),
    command("data check mnist --data-dir .", 2),
)


# --- Text ---


@functools.cache
def toml_examples() -> list[Files]:
    texts = (
        "# a run\ndataset = 'digits'\nsamples = 8\nwidth = 4\ndiffusion = true\n"
        'diffusivity = 0.5\nseed = 3\nintegrator = "heun"\nstep_size = 0.05\n'
        'snapshots = "times:geometric:5"\n',
        'preset = "theory"\nsplit = "test"\nrtol = 1e-3\nscalars = "every:2"\n'
        'snapshots = "every:1"\ntrainable = "U,V"\nnormalize = "none"\ntarget = "labels"\n'
        "store_data = false\n",
        'integrator = "gd"\ncritic_step_size = 0.01\ncritic_rate = 1.0\n'
        'penalty_points = "gauss:2"\nthreads = 1\nchart = "gram"\nprecision = "float32"\n'
        'output = "run.h5"\ninit_scale = 0.1\n',
    )
    return [{"run.toml": text.encode()} for text in texts]


#: Bounds what a valid configuration may ask for.
_BOUNDED = (
    "--dataset digits --samples 4 --width 3 --critic-width 2 --steps 1 --end-time 0.1"
    " --critic-steps 1 --critic-warmup 0 --backend numpy --threads 1 --restart-seconds 60"
    " --no-force -o out.h5"
)


SETTINGS = (
    "rtol=1e-3", "snapshots=every:2", "scalars=times:every:0.5", "seed=7", "trainable=U,V",
    "split=test", "penalty_points=gauss:3", "output_init=normal", "step_size=auto", "data_dir=.",
    "preset=theory", "critic=minimax", "store_data=false", "precision=float32", "chart=range",
    "normalize=none", "target=inputs", "atol=0", "gradient_penalty=10", "correlation_length=2",
    "snapshot_precision=float32", "dataset=digits", "output=x.h5", "backend=numpy",
    "diffusion=true", "init_scale=0.1", "outputs=3",
)  # fmt: skip
SCHEDULES = (
    "times:every:0.05",
    "times:geometric:5",
    "every:2",
    "geometric:4",
    "geometric:2",
    "every:1",
)


def _clean(content: bytes) -> str:
    """A text that the system lets be an argument."""
    return content.decode(errors="surrogateescape").replace("\0", "")[:100_000]


def setting(name: str, text: str) -> Case:
    """A --set on a configuration that is bounded otherwise."""
    return Case(name, {}, ("run", "--set", text, *_BOUNDED.split()), outputs=("out.h5",))


def setting_case(rng: Random, name: str) -> Case:
    """A mutated --set."""
    text = mutated(rng, rng.choice(SETTINGS).encode(), [s.encode() for s in SETTINGS], ON_TEXT)
    return setting(f"setting: {name}", _clean(text))


def schedule_case(rng: Random, name: str) -> Case:
    """A mutated schedule."""
    text = mutated(rng, rng.choice(SCHEDULES).encode(), [s.encode() for s in SCHEDULES], ON_TEXT)
    option = rng.choice(("--snapshots", "--scalars"))
    arguments = ("run", f"{option}={_clean(text)}", *_BOUNDED.split())
    return Case(f"schedule: {name}", {}, arguments, outputs=("out.h5",))


OPTIONS = (
    ("analyze", "run.h5", "neurons", "--format"), ("compare", "run.h5", "other.h5", "--time"),
    ("plot", "run.h5", "distances", "--dpi", "30", "--times"),
    ("plot", "run.h5", "filters", "--neurons"),
    ("plot", "run.h5", "filters", "--dpi", "30", "--count"), ("resume", "run.h5", "--steps"),
    ("resume", "run.h5", "--end-time"), ("converge", "run.h5", "--time"),
    ("plot", "run.h5", "input", "--sample"), ("converge", "run.h5", "--accuracy"),
    ("analyze", "run.h5", "-o"), ("plot", "run.h5"), ("inspect",), ("analyze", "run.h5"),
    ("data", "list", "--data-dir"), ("data", "check"), ("run",), (),
)  # fmt: skip


def option_case(rng: Random, name: str) -> Case:
    """Odd words on the command line of an undamaged trajectory."""
    words = rng.choice(OPTIONS)
    text = mutated(
        rng, rng.choice((b"0.1", b"2", b"run.h5", b"neurons")), [b"1,2", b"table"], ON_TEXT
    )
    files = trajectories()[0]
    arguments = (*words, _clean(text))
    if arguments[0] in _VERBS and len(arguments) == 1:
        arguments = (*arguments, "--help")  # the whole job of `run` takes longer than a hang
    return Case(f"option: {name}", files, arguments, ANY, ("run.h5",), frozenset({1}))


@functools.cache
def reports() -> list[Files]:
    """A run with its report of convergence."""
    run = trajectories()[0]
    done = call_on(run, ("converge", "run.h5", "--accuracy", "0.99"))
    assert done.ended.code == 0, done.ended
    return [{**run, "run.converge.json": done.files["run.converge.json"]}]


_REPORT = (
    command("inspect run.h5", 6),
    command("inspect run.h5 --json", 2),
    command("analyze run.h5 neurons", 2),
    command("plot run.h5 distances --dpi 30", 1, outputs=("run-distances.png",)),
    command("converge run.h5", 1, outputs=("run.converge.json",)),
)

_WITHOUT_SPLICE = tuple(m for m in ON_BYTES if m is not mutations.splice)
_ON_HDF5 = (mutated_hdf5.odd_hdf5,) * 3
_ON_NPZ = (*ON_BYTES, *(mutated_archives.odd_npz,) * 9, *(mutated_archives.odd_directory,) * 3)
_ON_IDX = (*ON_BYTES, *(mutated_archives.idx_header,) * 6)
_ON_GZIP = (*ON_BYTES, *(mutated_archives.behind_gzip,) * 9)
_ALL = (*_INSPECT, *_USE)
_IMAGES, _LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
_CONFIGURE = (command(f"run run.toml {_BOUNDED}", **_OUT),)

FORMATS = {
    each.name: each
    for each in (
        Format("trajectory", "run.h5", trajectories, _WITHOUT_SPLICE, _ALL, faithful=True),
        Format("spliced", "run.h5", trajectories, (mutations.splice,), _ALL),
        Format("restructured", "run.h5", trajectories, _ON_HDF5, _ALL),
        Format("forged", "run.h5", trajectories, forged.FORGERS, _ALL),
        Format("npz", "data.npz", npz_examples, _ON_NPZ, _runs("data.npz")),
        Format("hdf5", "data.h5", hdf5_examples, (*ON_BYTES, *_ON_HDF5 * 6), _runs("data.h5")),
        Format("csv", "data.csv", csv_examples, ON_TEXT, _runs("data.csv")),
        Format("idx", _IMAGES, idx_examples, _ON_IDX, _MNIST),
        Format("idx-labels", _LABELS, idx_examples, _ON_IDX, _MNIST),
        Format("idx-gz", f"{_IMAGES}.gz", idx_gz_examples, _ON_GZIP, _MNIST),
        Format("toml", "run.toml", toml_examples, ON_TEXT, _CONFIGURE),
        Format("report", "run.converge.json", reports, ON_TEXT, _REPORT),
    )
}


def make_examples() -> None:
    """Make all examples, by the product as it is now, in this process."""
    for form in FORMATS.values():
        form.examples()
