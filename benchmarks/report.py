"""Turn results of benchmarks/suite.py into docs/performance.md and its pictures.

    python benchmarks/report.py benchmarks/results/DATE-cpu.json [AGAIN.json ...] \
        [--converged benchmarks/results/DATE-converged.json] \
        [--gpu benchmarks/results/DATE-gpu-DEVICE.json] [--docs FOLDER]

Everything on the page comes from these files, of benchmarks/suite.py (what a later one holds takes
the place of the same groups), benchmarks/converged.py and benchmarks/gpu_evidence.py; nothing is
measured here.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from math import log
from pathlib import Path
from typing import Any

import matplotlib as mpl
from gpu_report import NO_GPU, gpu_section
from pages import table
from thresholds import OURS, RIVALS, Promise, promises, promises_of_whole_runs, timed

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

DOCS = Path(__file__).resolve().parents[1] / "docs"
PRECISIONS = ("float64", "float32")
CHARTS = ("weight", "range", "gram")
BY_CHART = [f"prdsim {chart}" for chart in CHARTS]

TITLES = {
    "steps": "Time per step over n, without critic",
    "critic": "With the WGAN-GP critic",
    "autoencoder": "Targets of the inputs' size",
    "products": "Share of the products' limit",
    "charts": "Where the charts cross",
    "width": "Growth with the width m",
    "outputs": "Growth with the outputs d_out",
    "small inputs": "Small inputs, where others may win",
    "gpu": "CPU against GPU",
}

Case = dict[str, Any]


def main() -> None:
    """Write the page and the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--converged", type=Path, metavar="RESULTS")
    parser.add_argument("--gpu", type=Path, metavar="RESULTS")
    parser.add_argument("--docs", type=Path, default=DOCS)
    options = parser.parse_args()
    first, *later = options.results
    report, again = _read(first), []
    for path in later:
        found = _read(path)
        again.append(_AGAIN_FROM.format(
            groups=", ".join(_replace(report, found)), name=path.name,
            source=_source(path, options.docs), **_circumstances(found),
        ))  # fmt: skip
    whole = _read(options.converged) if options.converged else None
    pictures = options.docs / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    drawn = [name for name, draw in PICTURES.items() if draw(report, pictures / f"{name}.png")]
    parts = converged(whole, _source(options.converged, options.docs)) if whole else []
    on_gpu = [NO_GPU]
    if options.gpu:
        on_gpu = gpu_section(_read(options.gpu), _source(options.gpu, options.docs))
    text = page(report, _source(first, options.docs), drawn, parts, on_gpu, again)
    (options.docs / "performance.md").write_text(text)


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        sys.exit(f"{path}: cannot be read: {error}")
    return found


def _replace(report: dict[str, Any], later: dict[str, Any]) -> list[str]:
    """Put what a later report holds in the place of the same groups; return their names."""
    groups = list(dict.fromkeys(case["group"] for case in later["cases"]))
    others = [case for case in report["cases"] if case["group"] not in groups]
    report["cases"] = [*others, *later["cases"]]
    whole = [name for name in ("memory", "snapshots") if later.get(name)]
    report |= {name: later[name] for name in whole}
    return [*groups, *whole]


def _source(results: Path, docs: Path) -> str:
    return Path(os.path.relpath(results.resolve(), docs.resolve())).as_posix()


# -- the page --------------------------------------------------------------------------------------


def page(
    report: dict[str, Any],
    source: str,
    pictures: Sequence[str] = (),
    whole_experiments: Sequence[str] = (),
    on_gpu: Sequence[str] = (NO_GPU,),
    again: Sequence[str] = (),
) -> str:
    """Return the text of docs/performance.md; ``source`` is the relative path to the results.

    ``whole_experiments`` are the parts that `converged` returns, ``on_gpu`` those of `gpu_section`,
    ``again`` says what was measured later.
    """
    parts = [
        _INTRODUCTION.format(
            name=Path(source).name, source=source, **_circumstances(report), **_settings(report)
        ),
        *again,
        "## Promises and measurements",
        _promises(promises(report)),
        "## Where others come closest",
        _others(report["cases"]),
        *whole_experiments,
    ]
    for group, title in TITLES.items():
        cases = [case for case in report["cases"] if case["group"] == group]
        if cases:
            parts += [f"## {title}", *_group(group, cases, pictures)]
    parts += ["## On a GPU", *on_gpu]
    parts += growth(report) + _memory(report) + _snapshots(report)
    return "\n\n".join([*parts, _AGAIN]) + "\n"


_INTRODUCTION = """\
# Performance

Written by `benchmarks/report.py` from [{name}]({source}).

Measured {date} at commit {commit} on {processor}, {cores} cores, with {threads} threads:
{versions}.

Each contender runs the same loss and the same alternating algorithm on the same data from the same
initial weights, in a process of its own that is limited to as many cores as threads. After three
steps the change of each array is compared with that in prdsim's float64 reference; a contender that
differs by more than rounding is not timed. Then all take a block of about {block_seconds} s in
turn, for {rounds} rounds in rotating order, without counting the first step of a block; results are
medians over the rounds. Disturbed blocks are repeated; {disturbed} of {blocks} stayed disturbed.

`torch` is PyTorch's autograd, `torch.compile` the same algorithm with the whole step compiled,
`jax` one jitted step with donated buffers, `numpy` gradients by hand in plain NumPy. The rivals
receive the penalty points for free; prdsim draws them within the step. `prdsim` is the numba
backend with chart `auto`, *prdsim weight* the same with that chart, and *products weight* the bare
matrix products of that chart by the same BLAS with as many threads of its own, which no program in
those coordinates can avoid; prdsim divides them among its own threads, which is sometimes faster,
and a step may then take less than its products. *prdsim* and the column of the chart that it chose
are the same program in two processes: their difference shows how accurate a figure is. "By rounds"
is the median of the ratios within each round. Inputs have 784 entries and there are 10 outputs
unless a row says otherwise."""

_AGAIN_FROM = """\
What is shown of {groups} was measured once more, on an idle machine: from
[{name}]({source}), {date}, at commit {commit}."""

_WHOLE = """\
## Whole experiments

From [{name}]({source}), measured {date} at commit {commit} on {processor}, {cores} cores,
with {threads} threads: {versions}.

A job from the start of its program to its last number: medians of {rounds} rounds in turn, each
contender in a process of its own. *Cold* is with no compiled code kept from before, *warm* with all
of it: prdsim's kernels, XLA's programs. prdsim is its command, with interpreter, imports, and the
file of 40 snapshots that it writes; a rival's clock begins at the import of its library, its data
and initial weights are given, and it records nothing but the last weights.

`diffrax` is Bosh3, the same method, with its PID controller at the same tolerances, in the same
norm and with the same coefficients; the velocity is `jax.grad` of the losses, and all is one jitted
program in float64. It differs in that an accepted step never shortens the next one. `jax` and
`torch` alternate between critic and generator by fixed steps, the largest of $1/\\lambda_{{max}}$,
its half, its quarter, ... at which the functionals err no more than is stated of prdsim's run (or,
if none is so accurate, a 256th). They take minutes, and ran in the first round alone. Who does not
know the answer has to find that step: the search is not in their time.
Errors are differences from the finest replay of `prdsim converge`. At a fiftieth of the end time
diffrax and prdsim agree, at a tenth of the tolerance, up to the error stated there; at the end they
scatter, as runs of one method do, and differ by no more than three stated errors; fixed steps agree
with prdsim's own to rounding. Where they did not, nothing would be shown."""

_AGAIN = """\
## Measure it yourself

`prdsim bench` measures prdsim's backends and charts in one case, yours if you give a configuration.
To repeat the whole comparison, and write this page, from a clone of the repository:

```sh
pip install -e '.[bench]'
python benchmarks/suite.py
python benchmarks/converged.py
python benchmarks/report.py benchmarks/results/DATE-cpu.json \\
  --converged benchmarks/results/DATE-converged.json
```

With a CUDA device, `python benchmarks/gpu_evidence.py` writes the file for `--gpu`."""


def _circumstances(report: dict[str, Any]) -> dict[str, Any]:
    machine, versions = report["machine"], report["versions"]
    return {
        "date": report["date"][:10],
        "commit": (report["commit"] or "unknown")[:12],
        "processor": machine["processor"],
        "cores": machine["cores"],
        "versions": ", ".join(f"{name} {number}" for name, number in versions.items()),
    }


def _settings(report: dict[str, Any]) -> dict[str, Any]:
    rows = [row for case in report["cases"] for row in timed(case).values()]
    return {
        "threads": report["threads"],
        "rounds": report["rounds"],
        "block_seconds": report["block_seconds"],
        "disturbed": sum(row["disturbed_blocks"] for row in rows),
        "blocks": sum(len(row["rounds_ms"]) for row in rows),
    }


def _promises(found: Iterable[Promise]) -> str:
    words = {True: "yes", False: "**no**", None: "not measured"}
    rows = [
        (
            promise.what,
            promise.case,
            "-" if promise.measured is None else f"{promise.measured:.3g}",
            f"{'at least' if promise.at_least else 'at most'} {promise.required:.3g}",
            words[promise.holds],
            promise.note,
        )
        for promise in found
    ]
    return table(("quantity", "case", "measured", "required", "holds", ""), rows)


def _others(cases: Iterable[Case]) -> str:
    """Return the cases in which the rivals do best, beginning with those that they win."""
    rows = []
    for case in cases:
        found = timed(case)
        rivals = [(found[rival]["ms"], rival) for rival in RIVALS if rival in found]
        if OURS in found and rivals:
            ms, rival = min(rivals)
            ours = found[OURS]["ms"]
            cells = (case["group"], case["name"], f"{ours:.3g}", f"`{rival}` {ms:.3g}")
            rows.append((ms / ours, (*cells, f"{ms / ours:.2f}")))
    rows.sort()
    head = ("group", "case", "`prdsim`, ms", "fastest of all others, ms", "times faster")
    words = (
        "The ten cases in which another program, plain NumPy included, comes closest to\n"
        "`prdsim`, or is ahead of it (below 1):"
    )
    return f"{words}\n\n{table(head, [cells for _, cells in rows[:10]])}"


CAPTION = """\
*Made by `python benchmarks/suite.py` and `python benchmarks/report.py`: medians over rounds, whose
errors the difference of* prdsim *and the column of its chart shows.*"""


def _group(group: str, cases: list[Case], pictures: Sequence[str]) -> list[str]:
    shown = [
        f"![{TITLES[group]}](pictures/{name}.png)\n\n{CAPTION}"
        for name in pictures
        if group in name
    ]
    labels = list(dict.fromkeys(row["label"] for case in cases for row in case["contenders"]))
    rows = [(case["name"], *(_milliseconds(case, label) for label in labels)) for case in cases]
    left_out = {
        f"`{row['label']}` is left out of {case['name']}: {row['left_out']}."
        for case in cases
        for row in case["contenders"]
        if row["left_out"]
    }
    times = table(("ms per step", *labels), rows)
    return [*shown, times, *_ratios(group, cases), *sorted(left_out)]


def _milliseconds(case: Case, label: str) -> str:
    row = timed(case).get(label)
    if row is None:
        return ""
    chart = f" ({row['chart']})" if label == OURS else ""
    return f"{row['ms']:.3g}{chart}"


def _ratios(group: str, cases: list[Case]) -> list[str]:
    """Return a table of times divided by those of the bare products, if these were measured."""
    if group not in ("steps", "products"):
        return []
    rows = []
    for case in cases:
        found = timed(case)
        cells = []
        for chart in CHARTS:
            ours, bare = found.get(f"prdsim {chart}"), found.get(f"products {chart}")
            cells.append(f"{ours['ms'] / bare['ms']:.2f}" if ours and bare else "")
        rows.append((case["name"], *cells))
    return [table(("step over its bare products", *(f"`{chart}`" for chart in CHARTS)), rows)]


def converged(whole: dict[str, Any], source: str) -> list[str]:
    """Return the parts of the page about whole experiments, from a file of converged.py."""
    parts = [
        _WHOLE.format(
            name=Path(source).name,
            source=source,
            rounds=whole["rounds"],
            threads=whole["threads"],
            **_circumstances(whole),
        )
    ]
    for job in whole["jobs"]:
        keys, sizes = job["keys"], job["sizes"]
        title = {"readme": "README's job", "poster": "Preset poster"}[job["name"]]
        stated = ", ".join(
            f"{words} {100 * job['stated_errors'][name]:.2g} %"
            for name, words in _FUNCTIONALS.items()
        )
        parts += [
            f"### {title}: n = {sizes['n']}, m = {sizes['m']}, to t = {keys['end_time']:g} at "
            f"rtol {keys['rtol']:g}, float64",
            table(
                _WHOLE_HEAD, [_whole_row(row, job["contenders"][0]) for row in job["contenders"]]
            ),
            f"Stated errors of prdsim's run: {stated}.",
        ]
    found = promises_of_whole_runs(whole)
    return [*parts, _promises(found)] if found else parts


_FUNCTIONALS = {
    "loss_sup": "$L_{sup}$",
    "loss_adv": "$L_{adv}$",
    "loss_critic": "$L_c$",
    "distance_U_mean": "mean distance of U",
    "distance_V_mean": "of V",
}
_WHOLE_HEAD = (
    *(
        "",
        "cold, s",
        "warm, s",
        "times prdsim's",
        "processors, s",
        "steps",
        "rejected",
        "ms per step",
    ),
    *("error of $L_{sup}$", "of distances"),
)


def _whole_row(row: dict[str, Any], ours: dict[str, Any]) -> tuple[str, ...]:
    errors = row["errors"]
    return (
        row["label"],
        f"{row['cold_seconds']:.3g}",
        f"{row['warm_seconds']:.3g}",
        f"{row['warm_seconds'] / ours['warm_seconds']:.2f}",
        f"{row['processor_seconds']:.3g}",
        f"{row['steps']:,}",
        str(row["rejected"]),
        f"{row['ms_per_step']:.3g}",
        f"{100 * errors['loss_sup']:.2g} %",
        f"{100 * max(errors['distance_U_mean'], errors['distance_V_mean']):.2g} %",
    )


def growth(report: dict[str, Any]) -> list[str]:
    """Return the part of the page that says how the time per step grows with each size.

    The exponent is the slope between neighboring sizes in logarithms: 1 is growth in proportion.
    """
    rows = [
        cells
        for group, size in (("steps", "n"), ("width", "m"), ("outputs", "d_out"))
        for precision in PRECISIONS
        for cells in _exponents(_cases(report, group, precision=precision), size)
    ]
    if not rows:
        return []
    head = ("case", "`prdsim`, ms", "exponent", "fastest of the others, ms", "exponent")
    words = (
        "Time per step over each size, and the exponent of its growth since the size above: 1 is\n"
        "in proportion, 2 the square. Small sizes cost their calls. In the Gram chart steps grow\n"
        "with the square of n; where that costs more than in others, prdsim takes another one."
    )
    return ["## Growth with n, m and d_out", words, table(head, rows)]


def _exponents(cases: list[Case], size: str) -> Iterable[tuple[str, ...]]:
    before: dict[str, tuple[int, float]] = {}
    for case in sorted(cases, key=lambda case: case["sizes"][size]):
        found, here = timed(case), case["sizes"][size]
        rivals = [found[rival]["ms"] for rival in RIVALS if rival in found]
        cells = []
        for who, ms in ((OURS, found[OURS]["ms"]), ("others", min(rivals, default=None))):
            slope = ""
            if ms and who in before:
                smaller, less = before[who]
                slope = f"{log(ms / less) / log(here / smaller):.2f}"
            if ms:
                before[who] = (here, ms)
            cells += [f"{ms:.3g}" if ms else "", slope]
        yield (case["name"], *cells)


def _memory(report: dict[str, Any]) -> list[str]:
    parts = ["## Memory"]
    if report.get("memory"):
        rows = [
            (row["name"], f"{row['measured_mb']:.0f}", f"{row['predicted_mb']:.0f}")
            for row in report["memory"]
        ]
        parts.append(
            "Peak resident memory of whole runs of 20 steps, interpreter and libraries included, "
            "and the prediction for their arrays by the check before a run."
        )
        parts.append(table(("run", "peak, MB", "predicted, MB"), rows))
    cases = [case for case in report["cases"] if case["group"] in ("steps", "critic")]
    labels = [*RIVALS, OURS, *BY_CHART]
    rows = [
        (case["name"], *(_peak(case, label) for label in labels))
        for case in cases
        if case["precision"] == "float64"
    ]
    if rows:
        parts.append("Peak of each contender's process over the whole comparison:")
        parts.append(table(("peak, MB", *labels), rows))
    return parts if len(parts) > 1 else []


def _peak(case: Case, label: str) -> str:
    row = timed(case).get(label)
    return f"{row['peak_mb']:.0f}" if row else ""


def _snapshots(report: dict[str, Any]) -> list[str]:
    found = report.get("snapshots")
    if not found:
        return []
    return [
        "## Snapshots",
        f"A whole run ({found['name']}) with 40 snapshots takes {found['ratio']:.3f} times as long "
        "as one with 2, by medians of alternating runs.",
    ]


# -- the pictures ----------------------------------------------------------------------------------


def draw_steps(report: dict[str, Any], path: Path) -> bool:
    """Draw the time per step over n."""
    panels = [
        (precision, _cases(report, "steps", precision=precision), "n", "samples n")
        for precision in PRECISIONS
    ]
    return _draw(panels, [*RIVALS, OURS], path)


def draw_charts(report: dict[str, Any], path: Path) -> bool:
    """Draw the time per step of each chart over n."""
    panels = [
        (precision, _cases(report, "charts", precision=precision), "n", "samples n")
        for precision in PRECISIONS
    ]
    return _draw(panels, [*BY_CHART, OURS], path)


def draw_growth(report: dict[str, Any], path: Path) -> bool:
    """Draw the time per step over m and over d_out."""
    panels = [
        ("float32, n = 500", _cases(report, "width"), "m", "hidden neurons m"),
        ("float32, n = 500, m = 1024", _cases(report, "outputs"), "d_out", "outputs d_out"),
    ]
    return _draw(panels, [*RIVALS, OURS], path)


PICTURES: dict[str, Callable[[dict[str, Any], Path], bool]] = {
    "performance-steps": draw_steps,
    "performance-charts": draw_charts,
    "performance-width-outputs": draw_growth,
}
"""Drawing functions by name; a picture appears under each title whose group is in its name."""


def _cases(report: dict[str, Any], group: str, **values: Any) -> list[Case]:
    return [
        case
        for case in report["cases"]
        if case["group"] == group and all(case[key] == value for key, value in values.items())
    ]


def _draw(
    panels: list[tuple[str, list[Case], str, str]], labels: Sequence[str], path: Path
) -> bool:
    """Draw panels of time over a size; return whether there was anything to draw."""
    if not any(cases for _, cases, _, _ in panels):
        return False
    figure, axes = plt.subplots(1, len(panels), figsize=(10, 3.8), layout="constrained")
    for axis, (title, cases, size, words) in zip(axes, panels, strict=True):
        axis.set(title=title, xlabel=words, ylabel="ms per step", xscale="log", yscale="log")
        _draw_lines(axis, cases, size, labels)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    figure.savefig(path, dpi=100)
    plt.close(figure)
    return True


def _draw_lines(axis: Axes, cases: list[Case], size: str, labels: Sequence[str]) -> None:
    for label in labels:
        found = sorted(
            (case["sizes"][size], timed(case)[label]["ms"])
            for case in cases
            if label in timed(case)
        )
        if found:
            style = {"linewidth": 2.5, "color": "black"} if label == OURS else {"linewidth": 1.2}
            axis.plot(*zip(*found, strict=True), marker="o", markersize=3, label=label, **style)


if __name__ == "__main__":
    main()
