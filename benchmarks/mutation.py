"""Mutation score: how many small changes of the source the tests notice.

    pip install -e '.[mutation]'
    python benchmarks/mutation.py [MODULE ...] [--sample N]

cosmic-ray makes the mutants: one number, operator, comparison, condition, loop, decorator or caught
exception changed, or, by an operator added here, one call left out whose value is not used. Types
and texts are not mutated. Each mutant is judged by the tests that `mutants.toml` names for its
module, in a copy of the checkout and in a fork, as most of the time of so many short test runs
would go into imports. Without MODULE all of `mutants.toml` are judged, which takes hours;
``--sample`` draws so many mutants of each module.

Writes ``benchmarks/results/<date>-mutation.json`` and ``.md``, and leaves in them what they say of
other modules. Survivors come with the explanation that `mutants.toml` has of them, if any.
"""

from __future__ import annotations

import os

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")

import argparse
import ast
import contextlib
import difflib
import gc
import importlib
import json
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
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
LIBRARIES = ("h5py", "numba", "pydantic", "scipy.integrate", "scipy.linalg", "scipy.sparse.linalg")
MEMORY = 8 * 2**30  # of a mutant, bytes
SEED = 1

# Of cosmic-ray's operators. Of those that replace an operator of arithmetic one for each: others
# fail at once on floats and arrays.
USED = re.compile(
    """(AddNot|ExceptionReplacer|NumberReplacer|RemoveDecorator|ZeroIterationForLoop
    |Replace(And|Or|True|False|Break|Continue)With\\w+
    |ReplaceUnaryOperator_Delete_(USub|Not)
    |ReplaceBinaryOperator_((Div|FloorDiv|Mod|Pow)_Mul|Add_Sub|Sub_Add|Mul_Div)
    |ReplaceBinaryOperator_(BitOr_BitAnd|BitAnd_BitOr)
    |ReplaceComparisonOperator_(Eq|NotEq|Lt|LtE|Gt|GtE)_(Eq|NotEq|Lt|LtE|Gt|GtE)
    |ReplaceComparisonOperator_(Is_IsNot|IsNot_Is))""",
    re.VERBOSE,
)


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


def mutants(source: str) -> list[tuple[int, str, str]]:
    """(line, 'text before -> after', source) of all mutants that differ in what runs, by line."""
    provider, found = OperatorProvider(), {what_runs(source): (0, "", source)}
    for operator in [RemoveCall, *(provider[name] for name in provider if USED.fullmatch(name))]:
        for occurrence in count():
            mutated = mutate_code(source, operator(), occurrence)
            if mutated is None:
                break
            with contextlib.suppress(SyntaxError):
                found.setdefault(what_runs(mutated), (*difference(source, mutated), mutated))
    return sorted(list(found.values())[1:])


def what_runs(source: str) -> str:
    """The syntax of a source without types, and without the `*` and `/` of signatures."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef():
                node.returns = None
            case ast.arg():
                node.annotation = None
            case ast.AnnAssign():
                node.annotation = ast.Constant(None)
            case ast.If() if "TYPE_CHECKING" in ast.unparse(node.test):
                node.test = ast.Constant(False)
            case ast.arguments():
                node.args = [*node.posonlyargs, *node.args, *node.kwonlyargs]
                node.defaults += [value for value in node.kw_defaults if value is not None]
                node.posonlyargs, node.kwonlyargs, node.kw_defaults = [], [], []
    return ast.dump(tree)


def difference(source: str, mutated: str) -> tuple[int, str]:
    """The number of the first line that differs, and 'lines before -> lines after'."""
    before, after = source.splitlines(), mutated.splitlines()
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    _, i, i_end, j, j_end = next(code for code in matcher.get_opcodes() if code[0] != "equal")
    sides = (before[i:i_end], after[j:j_end])
    return i + 1, " -> ".join(" ".join(" ".join(side).split()) for side in sides)


def tried(arguments: list[str], log: Path, seconds: float) -> str:
    """Run pytest in a fork: "survived", "killed", or "timeout" after so many seconds."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setsid()
            signal.alarm(int(seconds))
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            code = int(pytest.main(arguments))
            sys.stdout.flush()
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(ProcessLookupError):  # what the tests started and left behind
        os.killpg(child, signal.SIGKILL)
    return {0: "survived", -signal.SIGALRM: "timeout"}.get(code, "killed")


def judge(copy: Path, module: str, tests: dict[str, Any], sample: int | None) -> dict[str, Any]:
    """Try the mutants of a module; return counts, score and survivors."""
    path, log = copy / module, copy / "log.txt"
    source = path.read_text()
    every = mutants(source)
    chosen = every if sample is None else random.Random(SEED).sample(every, min(sample, len(every)))
    arguments = ["-x", "-q", "-p", "no:cacheprovider", "-n", "0", f"--basetemp={copy}-temporary"]
    arguments += [*tests["files"], "-k", tests["select"], "--hypothesis-profile=mutation"]
    arguments += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # hypothesis is imported

    begun = time.monotonic()
    if tried(arguments, log, 600.0) != "survived":
        sys.exit(f"{module}: the tests fail without any mutation:\n{log.read_text()}")
    seconds = time.monotonic() - begun
    print(f"{module}: {len(chosen)} of {len(every)} mutants, {seconds:.1f} s each", flush=True)

    outcomes, survivors = Counter[str](), []
    for number, (line, change, mutated) in enumerate(sorted(chosen), 1):
        path.write_text(mutated)
        os.utime(path, (number, number))  # a time of its own: no stale .pyc is taken for it
        outcome = tried(arguments, log, 20.0 + 5.0 * seconds)
        outcomes[outcome] += 1
        if outcome == "survived":
            survivors.append({"line": line, "change": change})
        print(f"{number:4} {outcome:8} {line:4} {change}", flush=True)
    path.write_text(source)
    os.utime(path, (0, 0))
    gone = set(tests.get("survivors", {})) - {survivor["change"] for survivor in survivors}
    if sample is None and gone:
        print(f"explained, but no survivors: {sorted(gone)}")
    return {
        "possible": len(every),
        "mutants": len(chosen),
        **{outcome: outcomes[outcome] for outcome in ("killed", "timeout", "survived")},
        "score": round(100.0 * (1.0 - outcomes["survived"] / len(chosen)), 1),
        "survivors": survivors,
    }


HEAD = """# Mutation score

Written by `python benchmarks/mutation.py`, which says what is mutated and how.
Mutants by cosmic-ray {cosmic_ray}, Python {python}.
A mutant is noticed if a test fails (killed) or does not end (timeout).

| module | possible | mutants | killed | timeout | survived | score, % |
|---|---|---|---|---|---|---|
"""


def write(report: dict[str, Any], known: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(report, indent=2) + "\n")
    text, survivors = HEAD.format(**report), "\n## Survivors\n"
    for module, result in report["modules"].items():
        numbers = " | ".join(str(value) for value in list(result.values())[:6])
        text += f"| `{module}` | {numbers} |\n"
        survivors += f"\n`{module}`:" + ("\n\n" if result["survivors"] else " none.\n")
        explained = known[module].get("survivors", {})
        for survivor in result["survivors"]:
            why = explained.get(survivor["change"], "not explained")
            survivors += f"- line {survivor['line']}: `{survivor['change']}`: {why}\n"
    path.with_suffix(".md").write_text(text + survivors)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("modules", nargs="*", metavar="MODULE")
    parser.add_argument("--sample", type=int, metavar="N")
    options = parser.parse_args()
    known = tomllib.loads((ROOT / "benchmarks/mutants.toml").read_text())
    path = ROOT / f"benchmarks/results/{datetime.now(UTC):%Y-%m-%d}-mutation.json"
    report = json.loads(path.read_text()) if path.exists() else {"modules": {}}
    report |= {"cosmic_ray": version("cosmic-ray"), "python": sys.version.split()[0]}

    hypothesis.settings.register_profile("mutation", database=None, derandomize=True, deadline=None)
    for library in LIBRARIES:
        importlib.import_module(library)
    gc.freeze()  # collections of the forks need not go through what is imported
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "checkout"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__"))
        os.chdir(copy)
        os.environ["PYTHONPATH"] = sys.path[0] = str(copy)
        for module in options.modules or known:
            report["modules"][module] = judge(copy, module, known[module], options.sample)
            write(report, known, path)


if __name__ == "__main__":
    main()
