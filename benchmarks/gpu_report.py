"""The part of docs/performance.md about a GPU, from a file of benchmarks/gpu_evidence.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pages import table

NO_GPU = "No file of `benchmarks/gpu_evidence.py` was given to this page."

_HEAD = """\
From [{name}]({source}), measured {date} on one {gpu} (driver
{driver}, CUDA {runtime}, cuBLAS {cublas}, CuPy {cupy}, NumPy {numpy}) beside {threads} processor
cores. Inputs have 784 entries.

A step of `gd` with the WGAN-GP critic and five updates of it, m_c = m. `numba` are the same steps
on that machine's cores. JAX is one jitted step of `jax.grad` with donated buffers on the same
device, its products in full precision: medians of 7 rounds in turn, after three steps whose weights
agreed with prdsim's to {agreement:.0e} (float64) and {agreement_32:.0e} (float32). `tf32` rounds
the factors of products."""

_WHOLE = """\
Whole runs in float64, from the call to the closed file of 40 snapshots, in a process whose
libraries are loaded and whose kernels are compiled. Their last losses agree with Numba's to
{difference:.0e}: the errors that `prdsim converge` states of the one are those of the other."""

_GRAPHS = """\
Steps of n = 256, m = 512, with each operation issued by the host and as CUDA graphs; `bs23` and
`dopri5` read the error back and choose the next step on the host. The bits are the same."""

_CRITIC = """\
An update of the critic with ten outputs: by prdsim's kernels, which keep no gates, and by products,
as more than 16 outputs take. "Least" are six products at the published peak of tensor cores, which
these kernels do not use."""


def gpu_section(found: dict[str, Any], source: str) -> list[str]:
    """Return the parts of the page; ``source`` is the relative path to the file."""
    device, driver = found["device"], found["machine"]["nvidia_smi"][1].split(", ")[1]
    races = {_key(row): row for row in found["jax"]["rows"]}
    agreement = {
        precision: max(
            row["difference after 3 steps"] for (_, name), row in races.items() if name == precision
        )
        for precision in ("float64", "float32")
    }
    head = _HEAD.format(
        name=Path(source).name,
        source=source,
        date=found["date"][:10],
        driver=driver,
        runtime=device["cuda_runtime"],
        threads=found["cpu"]["threads"],
        agreement=agreement["float64"],
        agreement_32=agreement["float32"],
        **{name: device[name] for name in ("gpu", "cublas", "cupy", "numpy")},
    )
    runs = found["experiments"]
    difference = max(
        abs(row[loss] / runs[f"{job}, numba, warm"][loss] - 1.0)
        for job in _jobs(runs)
        for row in (_here(runs, job),)
        for loss in ("loss_sup", "loss_adv")
    )
    return [
        head,
        _steps(found, races),
        _WHOLE.format(difference=difference),
        _whole(runs),
        _GRAPHS,
        _graphs(found["graphs"]),
        _CRITIC,
        _critic(found["critic"]["rows"]),
        f"{_kernels(found['kernels']['rows'])} {_overlap(found['overlap'])}",
    ]


def _key(row: dict[str, Any]) -> tuple[tuple[int, ...], str]:
    return tuple(row["m, d_in, d_out, n"]), row["precision"]


def _steps(found: dict[str, Any], races: dict[Any, dict[str, Any]]) -> str:
    on_cpu = {_key(row): row["step_ms"] for row in found["cpu"]["rows"]}
    rows = []
    for row in (*found["timings"]["rows"], *found["60,000 samples"]["rows"]):
        (m, _, d_out, n), precision = key = _key(row)
        race, other = races.get(key), on_cpu.get(key)
        rows.append(
            (
                f"n = {n:,}, m = {m}, d_out = {d_out}, {precision}",
                f"{row['step_ms']:.3g}",
                f"{other:.3g}" if other else "",
                f"{race['jax_ms']:.3g}" if race else "",
                f"{race['ratio']:.2f}" if race else "",
            )
        )
    head = "ms per step", "`cupy`", "`numba`", "JAX, same device", "times prdsim's"
    return table(head, rows)


def _jobs(runs: dict[str, Any]) -> list[str]:
    """Return the names of the jobs, in the order in which they ran."""
    return list(dict.fromkeys(name.rsplit(", ", 2)[0] for name in runs))


def _here(runs: dict[str, Any], job: str) -> dict[str, Any]:
    """Return the job's run on the device."""
    names = [f"{job}, {where}, warm" for where in ("cupy:0", "cupy")]
    return next(runs[name] for name in names if name in runs)


def _whole(runs: dict[str, Any]) -> str:
    rows = []
    for job in _jobs(runs):
        here, there = _here(runs, job), runs[f"{job}, numba, warm"]
        seconds = f"{here['seconds']:.2f}", f"{there['seconds']:.2f}"
        rows.append((job, f"{here['steps']:,}", *seconds))
    return table(("", "steps", "`cupy`, s", "`numba`, s"), rows)


def _graphs(found: dict[str, Any]) -> str:
    kinds = {name: row for name, row in found.items() if isinstance(row, dict)}
    rows = [
        (name, f"{row['eager_step_ms']:.2f}", f"{row['graph_step_ms']:.2f}")
        for name, row in kinds.items()
        if not name.startswith("tf32")
    ]
    return table(("ms per step", "one by one", "graphs"), rows)


def _critic(found: list[dict[str, Any]]) -> str:
    rows = []
    for row in found:
        m_c, _, n = row["m_c, d_out, n"]
        times = (f"{row[f'{way}_us']:.3g}" for way in ("own", "products", "least"))
        rows.append((f"n = {n:,}, m_c = {m_c}, {row['precision']}", *times))
    return table(("microseconds", "own kernels", "products", "least"), rows)


def _kernels(rows: list[dict[str, Any]]) -> str:
    """How far linear combinations, which all methods consist of, are from the memory's limit."""
    shares = [
        row["measured_us"] / row["roofline_us"]
        for row in rows
        if row["name"].startswith("combine") and row["precision"] == "float64"
    ]
    return (
        f"Linear combinations of float64 arrays of 4096 x 4096 take {min(shares):.2f} to "
        f"{max(shares):.2f} times as long as the published bandwidth allows."
    )


def _overlap(found: dict[str, Any]) -> str:
    few, many, in_turn = (
        found[name]["seconds"] for name in ("2 snapshots", "40 snapshots", "40 snapshots, in turn")
    )
    return (
        f"A run with 40 snapshots of {found['snapshot_mb']:.1f} MB takes {many:.2f} s, one with 2 "
        f"{few:.2f} s; with the loop waiting for the file it would be {in_turn:.2f} s."
    )
