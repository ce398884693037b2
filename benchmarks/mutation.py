"""Mutation score: how many small changes of the source the tests notice.

    pip install -e '.[mutation]'
    python benchmarks/mutation.py [MODULE ...] [--sample N]

cosmic-ray makes the mutants: one number, operator, comparison, condition, loop, decorator or caught
exception changed, or, by an operator added here, one call left out whose value is not used. Each is
judged by the tests that `mutants.toml` names for its module, in a copy of the checkout, so that the
checkout stays as it is. Types and texts are not mutated. Without MODULE all of `mutants.toml` are
judged, which takes hours on one core; ``--sample`` draws so many mutants of each module.

Writes ``benchmarks/results/<date>-mutation.json`` and ``.md``, and leaves in them what they say of
other modules. Survivors come with the explanation that `mutants.toml` has of them, if any.

The libraries are imported once, and every mutant is tried in a fork: most of the time of so many
short test runs would go into imports.
"""

from __future__ import annotations

import os

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")

import argparse
import ast
import difflib
import importlib
import json
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

import hypothesis
import parso
import pytest
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.operators.provider import OperatorProvider

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
LIBRARIES = ("h5py", "numba", "pydantic", "scipy.integrate", "scipy.linalg", "scipy.sparse.linalg")
MEMORY = 8 * 2**30  # of a mutant, bytes
SEED = 0

# One stand-in for each operator of arithmetic; bits and identity are left out, as they fail at once
# on floats and arrays.
ARITHMETIC = ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "Pow_Mul", "FloorDiv_Mul", "Mod_Mul")
SETS = ("BitOr_BitAnd", "BitAnd_BitOr")
UNARY = ("Delete_USub", "Delete_Not", "USub_UAdd")
LEFT_OUT = ("NoOp", "VariableReplacer", "VariableInserter")


class RemoveCall(Operator):  # type: ignore[misc]
    """Leaves out a call whose value is not used."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        if node.type == "simple_stmt" and node.children[0].type in {"atom_expr", "power"}:
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:  # noqa: ARG002
        call = node.children[0]
        prefix = call.get_first_leaf().prefix
        node.children[0] = parso.python.tree.Name("pass", call.start_pos, prefix)
        return node

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


@dataclass(frozen=True)
class Mutant:
    """A changed source, and the change in short: 'line before -> line after'."""

    operator: str
    line: int
    change: str
    source: str


# -- mutants ---------------------------------------------------------------------------------------


def operators() -> dict[str, Any]:
    """The operators of cosmic-ray that are used, and the one added here."""
    provider = OperatorProvider()
    return {name: provider[name] for name in provider if wanted(name)} | {"RemoveCall": RemoveCall}


def wanted(name: str) -> bool:
    kind, _, change = name.partition("Operator_")
    if kind == "ReplaceComparison":
        return "Is" not in change.replace("IsNot_Is", "").replace("Is_IsNot", "")
    return {
        "ReplaceBinary": change in (*ARITHMETIC, *SETS),
        "ReplaceUnary": change in UNARY,
    }.get(kind, name not in LEFT_OUT)


def mutants(source: str) -> list[Mutant]:
    """All mutants of a source, in the order of their lines, without those of types alone."""
    original, found = what_runs(source), []
    for name, operator in operators().items():
        for occurrence in count():
            mutated = mutate_code(source, operator(), occurrence)
            if mutated is None:
                break
            if what_runs(mutated) != original:
                found.append(Mutant(name, *difference(source, mutated), mutated))
    return sorted(found, key=lambda mutant: (mutant.line, mutant.operator, mutant.change))


def what_runs(source: str) -> str:
    """The syntax of a source without annotations, or the source itself if it has none."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return source
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
    return ast.dump(tree)


def difference(source: str, mutated: str) -> tuple[int, str]:
    """The number of the first line that differs, and 'lines before -> lines after'."""
    before, after = source.splitlines(), mutated.splitlines()
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    _, i, i_end, j, j_end = next(code for code in matcher.get_opcodes() if code[0] != "equal")
    sides = (before[i:i_end], after[j:j_end])
    return i + 1, " -> ".join(" ".join(" ".join(side).split()) for side in sides)


# -- judgment --------------------------------------------------------------------------------------


def copy_of_checkout(to: Path) -> None:
    """The files that git knows or would add."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, to / name)


def tried(arguments: list[str], log: Path, seconds: float) -> str:
    """Run pytest in a fork: "survived", "killed", or "timeout" beyond so much processor time."""
    child = os.fork()
    if child == 0:
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 5))
        code = 1
        try:
            code = int(pytest.main(arguments))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    deadline = time.monotonic() + 10 * seconds  # for mutants that wait and do nothing
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "timeout"
        time.sleep(0.01)
    code = os.waitstatus_to_exitcode(ended[1])
    if code == -signal.SIGXCPU:
        return "timeout"
    return "survived" if code == 0 else "killed"


def judge(copy: Path, module: str, tests: dict[str, Any], sample: int | None) -> dict[str, Any]:
    """Try the mutants of a module; return counts, score and survivors."""
    path = copy / module
    source = path.read_text()
    chosen = every = mutants(source)
    if sample is not None and sample < len(every):
        chosen = random.Random(SEED).sample(every, sample)
        chosen.sort(key=every.index)
    arguments = ["-x", "-q", "-p", "no:cacheprovider", "-n", "0", *tests["files"]]
    arguments += ["--hypothesis-profile=mutation", "-k", tests["select"]]
    arguments += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # hypothesis is imported
    log = copy / "log.txt"

    begun = time.process_time(), children_seconds()
    if tried(arguments, log, 600.0) != "survived":
        sys.exit(f"{module}: the tests fail without any mutation:\n{log.read_text()}")
    seconds = children_seconds() - begun[1]
    print(f"{module}: {len(chosen)} of {len(every)} mutants, {seconds:.1f} s each", flush=True)

    outcomes, survivors, known = Counter[str](), [], dict(tests.get("survivors", {}))
    for number, mutant in enumerate(chosen, 1):
        path.write_text(mutant.source)
        os.utime(path, (number, number))  # a time of its own: no stale .pyc is taken for it
        outcome = tried(arguments, log, 20.0 + 5.0 * seconds)
        outcomes[outcome] += 1
        if outcome == "survived":
            why = known.pop(mutant.change, None)
            survivors.append({"line": mutant.line, "change": mutant.change, "why": why})
        print(f"{number:4} {outcome:8} {mutant.line:4} {mutant.change}", flush=True)
    path.write_text(source)
    os.utime(path, (0, 0))

    if sample is None and known:
        print(f"no longer survivors: {sorted(known)}")
    noticed = outcomes["killed"] + outcomes["timeout"]
    return {
        "possible": len(every),
        "mutants": len(chosen),
        "killed": outcomes["killed"],
        "timeouts": outcomes["timeout"],
        "survived": outcomes["survived"],
        "score": round(100.0 * noticed / max(len(chosen), 1), 1),
        "seconds": round(children_seconds() - begun[1]),
        "tests": tests["files"],
        "survivors": survivors,
    }


def children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# -- the report ------------------------------------------------------------------------------------


def written(report: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(report, indent=2) + "\n")
    lines = [
        "# Mutation score",
        "",
        "Written by `python benchmarks/mutation.py`, which says what is mutated and how.",
        f"Mutants by cosmic-ray {report['cosmic_ray']}, Python {report['python']}.",
        "A mutant is noticed if a test fails (killed) or does not end (timeout).",
        "",
        "| module | possible | tried | killed | timeouts | survived | score |",
        "|---|---|---|---|---|---|---|",
    ]
    columns = ("possible", "mutants", "killed", "timeouts", "survived")
    for module, result in report["modules"].items():
        cells = [f"`{module}`", *(str(result[column]) for column in columns)]
        lines.append(f"| {' | '.join(cells)} | {result['score']} % |")
    lines += ["", "## Survivors"]
    for module, result in report["modules"].items():
        lines += ["", f"`{module}`:" + ("" if result["survivors"] else " none."), ""]
        for survivor in result["survivors"]:
            why = survivor["why"] or "not explained"
            lines.append(f"- line {survivor['line']}: `{survivor['change']}`: {why}")
    path.with_suffix(".md").write_text("\n".join(lines).rstrip() + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("modules", nargs="*", metavar="MODULE")
    parser.add_argument("--sample", type=int, metavar="N")
    options = parser.parse_args()
    known = tomllib.loads((ROOT / "benchmarks" / "mutants.toml").read_text())
    path = RESULTS / f"{datetime.now(UTC):%Y-%m-%d}-mutation.json"
    report: dict[str, Any] = {"modules": {}}
    if path.exists():
        report = json.loads(path.read_text())
    report |= {"cosmic_ray": version("cosmic-ray"), "python": sys.version.split()[0], "seed": SEED}

    hypothesis.settings.register_profile(
        "mutation", deadline=None, database=None, derandomize=True
    )
    for library in LIBRARIES:
        importlib.import_module(library)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        copy_of_checkout(copy)
        os.chdir(copy)
        os.environ["PYTHONPATH"] = folder
        sys.path[0] = folder
        for module in options.modules or known:
            report["modules"][module] = judge(copy, module, known[module], options.sample)
            written(report, path)


if __name__ == "__main__":
    main()
