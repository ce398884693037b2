"""Turn results of benchmarks/accuracy.py into the table and the picture of docs/accuracy.md.

    python benchmarks/accuracy_report.py benchmarks/results/DATE-accuracy.json [--docs FOLDER]

The tables are between the marks "measured: methods" and "end of measured: methods". All their
numbers come from the file; nothing is measured here.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from pages import table as markdown

from prdsim.figures.style import DARK, GRAY, WITH, WITHOUT, new_figure, settings, write_figure

DOCS = Path(__file__).resolve().parents[1] / "docs"
REFERENCE = "gd h/64"
TITLES = {
    "readme": "README's job",
    "digits": "Preset poster, digits",
    "mnist": "Preset poster, MNIST",
}
COLUMNS = {
    "distance_U_mean": "distance of U",
    "distance_V_mean": "of V",
    "cv_U": "cv",
    "gini_U": "Gini",
    "ks_U": "KS",
    "morans_i_U": "Moran's I",
    "inactive_neurons": "silent",
    "loss_sup": "L_sup",
}
FIXED = {"gd h": 1, "gd h/4": 4, "gd h/16": 16, "gd h/64": 64}
DRAWN = {"distance_U_mean": (DARK, "o"), "cv_U": (WITH, "s"), "loss_sup": (WITHOUT, "^")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--docs", type=Path, default=DOCS)
    options = parser.parse_args()
    try:
        report = json.loads(options.results.read_text())
    except (OSError, ValueError) as error:
        sys.exit(f"{options.results}: cannot be read: {error}")
    page = options.docs / "accuracy.md"
    tables = "\n\n".join(table(TITLES[name], runs) for name, runs in report["cases"].items())
    pattern = r"(<!-- measured: methods -->\n).*?(<!-- end of measured: methods -->)"
    text = re.sub(
        pattern, lambda m: f"{m[1]}\n{tables}\n\n{m[2]}", page.read_text(), flags=re.DOTALL
    )
    page.write_text(text)
    draw(report["cases"], options.docs / "pictures" / "chatter.png")


def table(title: str, runs: dict[str, dict[str, float]]) -> str:
    """Return a table of one case: the reference's values, and the deviations of the others."""
    reference = runs[REFERENCE]
    head = ["", "steps", *COLUMNS.values(), "invariants"]
    rows = [
        [f"`{REFERENCE}`", count(reference), *map(plain, columns(reference)), drift(reference)],
    ]
    for name, run in runs.items():
        if name != REFERENCE:
            changes = [change(key, run[key], reference[key]) for key in COLUMNS]
            rows.append([f"`{name}`", count(run), *changes, drift(run)])
    words = "(first row: values; below: deviations in percent)"
    return f"**{title}** {words}\n\n{markdown(head, rows)}"


def columns(run: dict[str, float]) -> list[float]:
    return [run[key] for key in COLUMNS]


def count(run: dict[str, float]) -> str:
    return f"{run['steps']:,.0f}"


def plain(value: float) -> str:
    return f"{value:.3g}"


def change(key: str, value: float, reference: float) -> str:
    """Return a change in percent; for shares and values near 0, the value itself."""
    if key == "inactive_neurons" or abs(reference) < 5e-3 > abs(value):
        return f"({value:.2g})"
    return f"{100 * (value / reference - 1):+.1f}"


def drift(run: dict[str, float]) -> str:
    percent = 100 * run["invariant_error"]
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.2g} %"


def draw(cases: dict[str, dict[str, dict[str, float]]], path: Path) -> None:
    """Draw how functionals depend on the step: gd at h to h/64, bs23 at its tolerances."""
    with settings():
        figure = new_figure(3.3 * len(cases), 3.2)
        for place, (name, runs) in enumerate(cases.items(), 1):
            axes = figure.add_subplot(1, len(cases), place)
            panel(axes, runs)
            axes.set_title(TITLES[name])
            if place == 1:
                axes.set_ylabel("relative to gd h/64")
        axes.legend(loc="best")
        write_figure(figure, path)


def panel(axes: Any, runs: dict[str, dict[str, float]]) -> None:
    labels = {"distance_U_mean": "distance of U", "cv_U": "cv", "loss_sup": "L_sup"}
    best = runs["bs23 1e-3"]
    for key, (color, marker) in DRAWN.items():
        reference = runs[REFERENCE][key]
        steps = [divisor for method, divisor in FIXED.items() if method in runs]
        values = [runs[method][key] / reference for method in FIXED if method in runs]
        axes.plot(steps, values, color=color, marker=marker, markersize=4, label=labels[key])
        axes.axhline(best[key] / reference, color=color, linewidth=0.8, linestyle=(0, (3, 2)))
    axes.axhspan(0.98, 1.02, color=GRAY, alpha=0.15, linewidth=0)
    axes.set_xscale("log", base=4)
    axes.set_xticks(list(FIXED.values()), ["h", "h/4", "h/16", "h/64"])
    axes.set_xlabel("step of gd; dashed: bs23, rtol 1e-3")


if __name__ == "__main__":
    main()
