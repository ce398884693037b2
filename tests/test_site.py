"""The site's pages are whole: public names with their errors, pictures with their accuracy."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
import runpy
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import prdsim
from prdsim import analysis, arguments, errors, figures
from prdsim.errors import PrdsimError

ROOT = Path(__file__).resolve().parents[1]
API: dict[str, tuple[str, ...]] = runpy.run_path(str(ROOT / "docs" / "generate.py"))["API"]
ENTRIES = [name for names in API.values() for name in names]
CONSTRUCTORS = ("__init__", "__post_init__")


# -- public names ----------------------------------------------------------------------------------


def test_every_public_name_has_an_entry():
    public = {f"prdsim.{name}" for name in prdsim.__all__ if name != "__version__"}
    public |= {f"prdsim.figures.{name}" for name in figures.__all__}
    public |= {f"prdsim.analysis.{name}" for name in analysis.__all__}
    public |= {
        f"prdsim.errors.{name}"
        for name, thing in vars(errors).items()
        if inspect.isclass(thing) and issubclass(thing, Exception)
    }
    public.add("prdsim.errors.EXIT_CODES")
    having = [pkgutil.resolve_name(name) for name in ENTRIES]
    missing = [name for name in public if not any(pkgutil.resolve_name(name) is h for h in having)]
    assert not missing
    assert len(ENTRIES) == len(set(ENTRIES)), "two entries of one name"


def test_every_page_of_names_is_generated():
    for page in API:
        text = (ROOT / "docs" / "api" / f"{page}.md").read_text(encoding="utf-8")
        assert f"<!-- begin api_{page} -->" in text


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield public functions, methods and properties by name; constructors by their class."""
    for name in ENTRIES:
        thing = pkgutil.resolve_name(name)
        if inspect.isfunction(thing):
            yield name, thing
        elif inspect.isclass(thing) and not issubclass(thing, Exception):
            for part, member in vars(thing).items():
                member = getattr(member, "fget", None) or getattr(member, "func", member)
                member = inspect.unwrap(getattr(member, "__func__", member))
                if inspect.isfunction(member) and (part[0] != "_" or part in CONSTRUCTORS):
                    yield f"{name}.{part}", member


NOT_REACHED = {
    (
        "prdsim.run_many",
        "BackendUnavailableError",
    ): "numpy predicts the memory, and is always there",
    ("prdsim.run_many", "TrajectoryLockedError"): "it is raised for files that exist, not new ones",
    ("prdsim.run_many", "TrajectoryError"): "finished members have just been verified",
    ("prdsim.analysis.scaling_like", "BackendUnavailableError"): "numba, else numpy",
    ("prdsim.analysis.scaling_like", "DataError"): "it draws its own samples",
    ("prdsim.figures.Request.runs", "ConfigError"): "recordings were checked when it was made",
    ("prdsim.figures.Request.histories", "ConfigError"): "the same",
}
"""Errors that the text of functions allows, and their use excludes, by name and class or base."""


def raised_by(function: Any) -> set[type[PrdsimError]]:
    """Return the errors of prdsim that a function raises, or the functions that it calls by name.

    What cannot be known from the text is left out: methods of objects, functions that were passed,
    and what is tried where some error is caught. `PrdsimError` itself means a fault of prdsim.
    """
    found: set[type[PrdsimError]] = set()
    _collect(function, found, set())
    return found - {PrdsimError}


def _collect(function: Any, found: set[type[PrdsimError]], seen: set[Any]) -> None:
    function = inspect.unwrap(function)
    made = "<" in function.__code__.co_filename  # by dataclass
    if function in seen or made or not function.__module__.startswith("prdsim"):
        return
    seen.add(function)

    def named(node: ast.expr) -> Any:
        if isinstance(node, ast.Name):
            return function.__globals__.get(node.id)
        if isinstance(node, ast.Attribute) and inspect.ismodule(module := named(node.value)):
            return getattr(module, node.attr, None)
        return None

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Raise) and node.exc is not None:
            found.update(_classes_of(named(getattr(node.exc, "func", node.exc))))
        if isinstance(node, ast.Call):
            called = named(node.func)
            own = inspect.isclass(called) and called.__module__.startswith("prdsim")
            makers = [vars(called).get(name) for name in CONSTRUCTORS] if own else [called]
            for maker in filter(inspect.isfunction, makers):
                _collect(maker, found, seen)
        caught = isinstance(node, ast.Try) and bool(node.handlers)
        for name, part in ast.iter_fields(node):
            if not (caught and name == "body"):
                for child in part if isinstance(part, list) else [part]:
                    if isinstance(child, ast.AST):
                        visit(child)

    visit(ast.parse(textwrap.dedent(inspect.getsource(function))))


def _classes_of(thing: Any) -> set[type[PrdsimError]]:
    """Return an error's class, also of a function that makes one."""
    if inspect.isfunction(thing):
        thing = get_type_hints(thing).get("return")
    return {thing} if inspect.isclass(thing) and issubclass(thing, PrdsimError) else set()


def documented(name: str, function: Any) -> set[type[PrdsimError]]:
    """Return the errors that a docstring names, also by "as `another`", "those of `another`"."""
    text = inspect.getdoc(function) or ""
    if function.__name__ in CONSTRUCTORS:
        text += inspect.getdoc(pkgutil.resolve_name(name.rpartition(".")[0])) or ""
    text = " ".join(text.split())
    found = {
        error
        for word in re.findall(r"\w+", text)
        if inspect.isclass(error := getattr(errors, word, None)) and issubclass(error, PrdsimError)
    }
    for other in re.findall(r"(?:\bas|errors are those of) `(?:[\w.]+\.)?(\w+)`", text):
        for path, another in PUBLIC.items():
            if path.endswith(f".{other}") and another is not function:
                found |= documented(path, another)
    return found


PUBLIC = dict(functions())


def undocumented(name: str, function: Any) -> list[str]:
    known = documented(name, function)
    return [
        error.__name__
        for error in raised_by(function)
        if not any(issubclass(error, other) for other in known)
        and not any((name, base.__name__) in NOT_REACHED for base in error.__mro__)
    ]


@pytest.mark.parametrize("name", PUBLIC)
def test_docstrings_name_the_errors_that_are_raised(name):
    assert not undocumented(name, PUBLIC[name])
    assert inspect.getdoc(PUBLIC[name]) or name.rpartition(".")[2] in CONSTRUCTORS


def silent(width: int) -> int:
    """Return the width, checked."""
    return arguments.integer("width", width, least=1)


def test_the_check_of_docstrings_finds_what_is_missing(monkeypatch):
    monkeypatch.setattr(silent, "__module__", "prdsim.somewhere")
    assert undocumented("prdsim.silent", silent) == ["ConfigError"]
    silent.__doc__ = "Return the width; raises `ConfigError`."
    assert undocumented("prdsim.silent", silent) == []
    for (name, error), _ in NOT_REACHED.items():  # no exception outlives its reason
        assert any(error in (c.__name__ for c in e.__mro__) for e in raised_by(PUBLIC[name]))


# -- pictures --------------------------------------------------------------------------------------

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
COMMAND = re.compile(r"(?:`|^)(?:prdsim|python (?:benchmarks|docs)/\w+\.py)\b[^`]*", re.MULTILINE)
ACCURACY = re.compile(r"discretization|accuracy|\berrors?\b|not assessed|converge", re.IGNORECASE)


def pictures(text: str) -> Iterator[tuple[str, str]]:
    """Yield each picture of a page, with the block before it and the two after it.

    Blocks are paragraphs, lists, and blocks of code; none beyond a heading counts.
    """
    blocks = re.findall(r"^```.*?^```|^(?!\s*$|```).+?(?=^\s*$|^```|\Z)", text, re.DOTALL | re.M)
    for index, block in enumerate(blocks):
        for picture in re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", block):
            before, after = blocks[max(index - 1, 0) : index], blocks[index + 1 : index + 3]
            near = [*_until_heading(before[::-1]), block, *_until_heading(after)]
            yield picture, "\n\n".join(near)


def _until_heading(blocks: list[str]) -> Iterator[str]:
    for block in blocks:
        if block.startswith("#"):
            return
        yield block


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_picture_names_its_command_and_its_accuracy(page):
    for picture, near in pictures(page.read_text(encoding="utf-8")):
        assert COMMAND.search(near), f"{page.name}: {picture} names no command"
        assert ACCURACY.search(near), f"{page.name}: {picture} says nothing of its accuracy"


def test_the_check_of_pictures_finds_what_is_missing():
    page = (
        "# A\n\n![a](a.png)\n\n*By `prdsim plot`, not assessed.*\n\n## B\n\n![b](b.png)\n\nText.\n"
    )
    found = dict(pictures(page))
    assert list(found) == ["a.png", "b.png"]
    assert [bool(COMMAND.search(near) and ACCURACY.search(near)) for near in found.values()] == [
        True,
        False,
    ]


def test_every_picture_is_shown():
    shown = {
        (page.parent / picture).resolve()
        for page in PAGES
        for picture, _ in pictures(page.read_text(encoding="utf-8"))
    }
    kept = {
        *(ROOT / "docs" / "pictures").rglob("*.png"),
        *(ROOT / "docs" / "pictures").rglob("*.gif"),
    }
    assert shown == kept


def test_the_gallery_has_every_figure():
    """But that of Turing's question, which has a page and runs of its own."""
    text = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    table = runpy.run_path(str(ROOT / "docs" / "gallery.py"))["PICTURES"]
    headings = re.findall(r"^## (\w+)$", text, re.MULTILINE)
    assert headings == [picture.figure for picture in table], "run python docs/gallery.py"
    assert {*headings, "turing"} == set(figures.FIGURES)
