"""Rewrite the tables in docs/ that follow from declarations in the code.

Each table is between ``<!-- begin NAME -->`` and ``<!-- end NAME -->``, where NAME is a key of
`BLOCKS`. Run ``python docs/generate.py`` after a declaration has changed; tests/test_docs.py fails
until the files agree with the code.
"""

from __future__ import annotations

import inspect
import json
import pkgutil
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args

import prdsim
import prdsim.figures as figures_package
from prdsim import analysis, explorer, vocabulary
from prdsim.analysis import GROUPS, Measure
from prdsim.backends.base import Backend
from prdsim.backends.primitives import Primitives
from prdsim.config import PRESETS, RunConfig, group_of
from prdsim.figures import FIGURES
from prdsim.physics.randomness import Stream
from prdsim.running.tableaux import TABLEAUX
from prdsim.trajectory import markdown_table

DOCS = Path(__file__).resolve().parent

_OF_DISTRIBUTIONS = ("_sd", "_q05", "_q50", "_q95", "_max")
_SIGNS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def configuration() -> str:
    """Every key with its group, default, values and meaning."""
    rows = [
        (
            group_of(key),
            f"`{key}`",
            _value(field.default),
            _values(field.annotation, field.metadata),
            str(field.description).replace("<", "&lt;"),
        )
        for key, field in RunConfig.model_fields.items()
    ]
    return _table(("group", "key", "default", "values", "meaning"), rows)


def presets() -> str:
    """The keys that each preset sets, and the defaults that they replace."""
    rows = [
        (f"`{preset}`", f"`{key}`", _value(value), _value(RunConfig.model_fields[key].default))
        for preset, values in PRESETS.items()
        for key, value in values.items()
    ]
    return _table(("preset", "key", "sets", "default"), rows)


def datasets() -> str:
    """Every dataset of a trajectory file."""
    return markdown_table().strip().replace("<", "&lt;")


def operations() -> str:
    """Every operation of a backend, by the first sentence of its docstring."""
    ordered = [item for kind in (Primitives, Backend) for item in vars(kind).items()]
    rows = [
        (
            f"`{name}({_arguments(method)})`",
            f"`{_first_line(method)}`",
            "" if name in Backend.__abstractmethods__ else "yes",
        )
        for name, method in ordered
        if inspect.isfunction(method) and not name.startswith("_")
    ]
    return _table(("operation", "meaning", "supplied"), rows)


def integrators() -> str:
    """Every Runge-Kutta method, from its tableau."""
    rows = [
        (
            f"`{name}`",
            str(tableau.order),
            str(len(tableau.a)),
            str(tableau.error_order) if tableau.error else "fixed step",
            str(min(tableau.order, tableau.dense_order)),
            "yes" if tableau.first_same_as_last else "no",
        )
        for name, tableau in TABLEAUX.items()
    ]
    return _table(
        ("integrator", "order", "stages", "order of the estimate", "between steps", "FSAL"), rows
    )


def streams() -> str:
    """The streams of random numbers."""
    return _table(
        ("stream", "use"), [(str(int(s)), s.name.lower().replace("_", " ")) for s in Stream]
    )


def measures() -> str:
    """Every group of measures, with its measures; only the mean of a distribution over neurons."""

    def text(measure: Measure) -> str:
        unit = "" if measure.unit == "1" else f" ({measure.unit})"
        return f"`{measure.name}`{unit}"

    rows = [
        (
            f"`{group.name}`",
            vocabulary.GROUPS[group.name],
            ", ".join(text(m) for m in group.measures if not m.name.endswith(_OF_DISTRIBUTIONS)),
        )
        for group in GROUPS.values()
    ]
    return _table(("group", "subject", "measures"), rows)


def figures() -> str:
    """Every figure, and the poster's number for it."""
    rows = [(f"`{kind.name}`", kind.caption, kind.poster) for kind in FIGURES.values()]
    return _table(("figure", "contents", "poster"), rows)


def faults() -> str:
    """The last long run of the fault suite."""
    found = _latest("faults")
    kinds: dict[str, str] = found["kinds"]
    rows = [
        (f"{c['campaign']}", f"{c['cases']:,}", *(str(c[kind]) for kind in kinds))
        for c in found["campaigns"]
    ]
    return f"{found['date'][:10]}, prdsim {found['prdsim']}:\n\n" + _table(
        ("campaign", "cases", *kinds.values()), rows
    )


API = {
    "runs": (
        *("prdsim.run", "prdsim.run_many", "prdsim.resume", "prdsim.Result", "prdsim.Observation"),
        *("prdsim.RunConfig", "prdsim.Simulation", "prdsim.progress.Progress"),
    ),
    "trajectories": (
        *("prdsim.open_trajectory", "prdsim.Trajectory", "prdsim.trajectory.SnapshotArray"),
        *("prdsim.trajectory.Status", "prdsim.trajectory.Problem"),
        "prdsim.trajectory.check.Severity",
        "prdsim.trajectory.repair_trajectory",
        "prdsim.trajectory.Repair",
    ),
    "samples": (
        *("prdsim.load_dataset", "prdsim.datasets.from_arrays", "prdsim.datasets.Dataset"),
        *("prdsim.datasets.fingerprint", "prdsim.datasets.available_datasets"),
        *("prdsim.datasets.DatasetInfo", "prdsim.datasets.fetch.fetch_dataset"),
        *("prdsim.datasets.fetch.check_dataset", "prdsim.datasets.fetch.FileStatus"),
    ),
    "analysis": (
        *("prdsim.history", "prdsim.History"),
        *(f"prdsim.analysis.{name}" for name in analysis.__all__ if name.lower() != "history"),
        "prdsim.analysis.group.Group",
        *("prdsim.analysis.theory.forces.Forces", "prdsim.analysis.theory.forces.ForceNorms"),
        *(f"prdsim.analysis.stability.growth.{name}" for name in ("Growth", "GrowthRates")),
        "prdsim.analysis.stability.growth.GrowthSpectrum",
        "prdsim.analysis.theory.scaling.Scaling",
    ),
    "accuracy": (
        "prdsim.convergence.assess.converge",
        "prdsim.convergence.assess.Assessment",
        "prdsim.convergence.report.Report",
        "prdsim.convergence.report.ReplayRecord",
        "prdsim.convergence.report.look_up",
        "prdsim.convergence.report.FoundReport",
        "prdsim.convergence.judgment.JudgedNumber",
        "prdsim.convergence.judgment.Verdict",
    ),
    "drawing": (
        *(f"prdsim.figures.{name}" for name in figures_package.__all__),
        *(f"prdsim.explorer.{name}" for name in explorer.__all__),
    ),
    "studies": ("prdsim.open_study", "prdsim.study.results.Study"),
    "backend": (
        *("prdsim.get_backend", "prdsim.backends.backend_names", "prdsim.backends.backend_status"),
        *("prdsim.backends.BackendStatus", "prdsim.backends.register_backend"),
        *("prdsim.backends.base.Backend", "prdsim.backends.primitives.Primitives"),
        *("prdsim.backends.base.Rates", "prdsim.backends.base.Sums"),
        "prdsim.backends.fused.Fused",
    ),
    "errors": (
        *(f"prdsim.{name}" for name in prdsim.__all__ if name.endswith("Error")),
        *("prdsim.errors.PrdsimWarning", "prdsim.errors.EXIT_CODES"),
    ),
}
"""The public names, by the page of docs/api/ that has their entries."""

_DATA = {
    "prdsim.analysis.GROUPS": "The groups of measures by name; each is a `Group`.",
    "prdsim.figures.FIGURES": "The figures by name; each is a `FigureKind`.",
    "prdsim.errors.EXIT_CODES": "What each exit code of the command line says, by its number.",
}
"""Public names that are neither functions nor classes, and so have no docstring."""


def entries(page: str) -> Callable[[], str]:
    """Return what writes a page's public names: a table, and the directives of their entries."""

    def written() -> str:
        rows, directives = [], []
        for name in API[page]:
            text = _DATA.get(name) or _first_line(pkgutil.resolve_name(name))
            rows.append((f"`{name}`", text.replace("`", "").replace("<", "&lt;")))
            directives.append(_directive(name))
        body = "\n\n".join(directives)
        return f"{_table(('name', 'meaning'), rows)}\n\n```{{eval-rst}}\n{body}\n```"

    return written


def _directive(name: str) -> str:
    """Return what makes Sphinx write the entry of a public name."""
    if name in _DATA:
        return f".. py:data:: {name}\n\n   {_DATA[name]}"
    thing = pkgutil.resolve_name(name)
    if not inspect.isclass(thing):
        return f".. autofunction:: {name}"
    if issubclass(thing, Exception):
        return f".. autoexception:: {name}\n   :show-inheritance:"
    special = "\n   :special-members: __getitem__" if "__getitem__" in vars(thing) else ""
    return f".. autoclass:: {name}\n   :members:{special}"


def mutants() -> str:
    """The last mutation scores: equations by module, the rest by folder."""
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    for module, result in _latest("mutation")["modules"].items():
        folder = str(Path(module).parent)
        group = module if folder == "prdsim/physics" else f"{folder}/"
        groups[group].update({key: result[key] for key in ("possible", "mutants", "survived")})
    rows = [
        (
            f"`{group}`",
            f"{found['mutants']:,} of {found['possible']:,}",
            str(found["survived"]),
            f"{100 * (1 - found['survived'] / found['mutants']):.1f}",
        )
        for group, found in groups.items()
    ]
    return _table(("source", "mutants tried", "survivors", "noticed, %"), rows)


BLOCKS = {
    "configuration": configuration,
    "presets": presets,
    "datasets": datasets,
    "operations": operations,
    "integrators": integrators,
    "streams": streams,
    "measures": measures,
    "figures": figures,
    "faults": faults,
    "mutants": mutants,
    **{f"api_{page}": entries(page) for page in API},
}

_BLOCK = re.compile(r"(<!-- begin (\w+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)


def rewritten(text: str) -> str:
    """Return a page with its blocks regenerated."""
    return _BLOCK.sub(lambda block: f"{block[1]}\n{BLOCKS[block[2]]()}\n\n{block[3]}", text)


def _values(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """Describe the values of a key: a type with its bounds, and the choices."""
    arguments = get_args(annotation)
    bounds = [
        f"{sign} {_number(getattr(bound, name))}"
        for bound in _flat(metadata)
        for name, sign in _SIGNS.items()
        if getattr(bound, name, None) is not None
    ]
    words = {int: "integer", float: "number", bool: "true, false", str: "text", type(None): ""}
    if annotation in words:
        return " ".join([words[annotation], ", ".join(bounds)]).strip()
    if hasattr(annotation, "__metadata__"):
        return _values(arguments[0], annotation.__metadata__)
    if all(isinstance(argument, str) for argument in arguments):
        return ", ".join(f"`{argument}`" for argument in arguments)
    return " or ".join(filter(None, (_values(argument) for argument in arguments)))


def _latest(kind: str) -> Any:
    """Return the newest results of a kind."""
    path = max((DOCS.parent / "benchmarks" / "results").glob(f"*-{kind}.json"))
    return json.loads(path.read_text(encoding="utf-8"))


def _flat(metadata: Iterable[Any]) -> Iterable[Any]:
    """Return bounds, extracted from the fields that hold them."""
    for item in metadata:
        yield from getattr(item, "metadata", None) or [item]


def _number(value: float) -> str:
    powers = {2**31 - 1: "2^31 - 1", 2**63: "2^63"}
    return powers.get(int(value), f"{value:g}")


def _value(value: Any) -> str:
    if value is None:
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _arguments(method: Any) -> str:
    names = list(inspect.signature(method).parameters)[1:]
    return ", ".join(names)


def _first_line(method: Any) -> str:
    return " ".join(str(inspect.getdoc(method)).split("\n\n")[0].split()).replace("`", "")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cells)} |"

    body = [line(cell.replace("|", r"\|") for cell in row) for row in rows]
    return "\n".join([line(head), "|" + "---|" * len(head), *body])


def main() -> None:
    """Rewrite every page whose tables are stale, and print its name."""
    for page in sorted(DOCS.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        new = rewritten(text)
        if new != text:
            page.write_text(new, encoding="utf-8")
            print(page.name)


if __name__ == "__main__":
    main()
