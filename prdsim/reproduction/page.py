"""The page ``index.html``: every picture with its caption, numbers and command."""

from __future__ import annotations

import html
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

import numpy as np

from prdsim import __version__
from prdsim.analysis import Recording
from prdsim.analysis.comparison import Comparison
from prdsim.analysis.patterns.measures import MEANINGS
from prdsim.config import PRESETS, RunConfig
from prdsim.figures import FIGURES
from prdsim.reproduction.plan import Picture, run_command


@dataclass(frozen=True)
class Shown:
    """The pictures of a study (or of none, with an empty name), their files and their runs."""

    name: str
    pictures: Sequence[tuple[Picture, Path, Sequence[Recording]]]
    comparison: Comparison | None


_PAGE = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Pattern formation with and without diffusion</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; }
img { max-width: 100%; height: auto; }
figure { margin: 2rem 0; }
figcaption { margin-top: .4rem; }
code, pre { font-family: ui-monospace, monospace; font-size: .82rem; background: #f4f4f4; }
pre { padding: .6rem; overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; }
td, th { padding: .15rem .7rem; border-bottom: 1px solid #ddd; text-align: right; }
td:first-child, th:first-child { text-align: left; }
nav a { margin-right: 1rem; }
</style>
</head>
<body>
<h1>Pattern formation with and without diffusion</h1>
<p>The figures of Rout's poster "Towards a pseudo-reaction-diffusion model for Turing instability in
adversarial learning", made anew by prdsim $version from $runs runs: $seeds of each data set, once
without and once with the adversary, from the same weights and samples. Settings are those of the
preset <code>poster</code>, with the keys given: $preset. Numbers are means over the draws, &plusmn;
their standard deviation. The column <i>discretization</i> is the largest relative error of any run,
from replays at finer steps and twins (<code>prdsim converge</code>);
runs without them are not assessed.
The runs of <code>theory</code> have other settings: see their commands.
</p>
<nav>$links</nav>
$sections
<h2 id="runs">The runs</h2>
<p>Each is made, bit for bit on the same machine, by its command; this and all others are to be
given in the folder of this page:</p>
<pre>$commands</pre>
</body>
</html>
""")


def make_page(shown: Sequence[Shown], plans: Mapping[str, Sequence[RunConfig]], seeds: int) -> str:
    """Return the page as HTML; pictures are named relative to it."""
    names = [part.name for part in shown if part.name]
    links = [f'<a href="#{name}">{name}</a>' for name in [*names, "runs"]]
    configs = [config for plan in plans.values() for config in plan]
    poster = next((c for c in configs if c.preset == "poster"), RunConfig(preset="poster"))
    preset = ", ".join(f"{key} = {getattr(poster, key)}" for key in PRESETS["poster"])
    return _PAGE.substitute(
        version=__version__,
        runs=len(configs),
        seeds="one initial draw" if seeds == 1 else f"{seeds} initial draws",
        preset=html.escape(preset),
        links="".join(links),
        sections="\n".join(_section(part) for part in shown),
        commands="\n".join(html.escape(_run_command(config)) for config in configs),
    )


def _run_command(config: RunConfig) -> str:
    """Return the command that makes a run, from the folder of the page."""
    return run_command(config.replace(output=f"runs/{Path(str(config.output)).name}"))


def _section(part: Shown) -> str:
    title = part.name or "Beside the runs"
    blocks = [f'<h2 id="{part.name or "general"}">{html.escape(title)}</h2>']
    blocks += [_figure(*picture, part.comparison) for picture in part.pictures]
    if part.comparison is not None:
        blocks += [
            f"<h3>Measures at t = {part.comparison.time:.6g} "
            f'(<a href="numbers/{part.name}.csv">csv</a>)</h3>',
            *(f"<p>{html.escape(note)}</p>" for note in part.comparison.notes),
            _table(part.comparison),
        ]
    return "\n".join(blocks)


def _figure(
    picture: Picture, path: Path, runs: Sequence[Recording], comparison: Comparison | None
) -> str:
    number = f"<b>Figure {picture.poster}.</b> " if picture.poster else ""
    shown = FIGURES[picture.figure].caption
    caption = f"{number}{html.escape(picture.title)}. Shown: {html.escape(shown)}."
    if comparison is not None and picture.numbers:
        caption += " " + "; ".join(_number(comparison, name) for name in picture.numbers) + "."
    command = html.escape(_plot_command(picture, path, runs))
    return (
        f'<figure><img src="{path.as_posix()}" alt="{html.escape(picture.title)}">\n'
        f"<figcaption>{caption}<br><code>{command}</code></figcaption></figure>"
    )


def _number(comparison: Comparison, name: str) -> str:
    """Say how a measure differs between the labels."""
    parts = []
    for label, values in comparison.values.items():
        if name not in values:
            return f"{html.escape(MEANINGS[name])}: not to be had"
        parts.append(f"{_spread(values[name])} {label}")
    text = f"{html.escape(MEANINGS[name])}: {', '.join(parts)}"
    if len(parts) == 2:
        text += f" (higher in {comparison.higher(name)} pairs)"
    return text


def _spread(values: np.ndarray) -> str:
    if not np.all(np.isfinite(values)):
        return "-"
    if len(values) == 1:
        return f"{values[0]:.3g}"
    return f"{np.mean(values):.3g} &plusmn; {np.std(values, ddof=1):.2g}"


def _table(comparison: Comparison) -> str:
    labels = list(comparison.values)
    names = ("measure", *labels, "higher", "discretization")
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    rows = []
    for name in next(iter(comparison.values.values())):
        cells = "".join(f"<td>{_spread(comparison.values[label][name])}</td>" for label in labels)
        higher = comparison.higher(name) if len(labels) == 2 else ""
        cells += f"<td>{html.escape(higher)}</td>"
        cells += f"<td>{html.escape(comparison.discretization(name))}</td>"
        rows.append(f"<tr><td>{html.escape(MEANINGS[name])}</td>{cells}</tr>")
    return f"<table><tr>{head}</tr>\n" + "\n".join(rows) + "</table>"


def _plot_command(picture: Picture, path: Path, runs: Sequence[Recording]) -> str:
    """Return the command that draws a picture, from the folder of the page."""
    words = ["prdsim", "plot", *(f"runs/{run.name}.h5" for run in runs), picture.figure]
    for name, value in picture.options.items():
        option = f"--{name.replace('_', '-')}"
        words += [option] if value is True else [option, str(value)]
    return shlex.join([*words, "-o", path.as_posix(), "--force"])
