"""The documentation is true: its code runs, commands parse, tables and links are current."""

from __future__ import annotations

import json
import pkgutil
import re
import runpy
import shlex
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import prdsim
from prdsim import backends
from prdsim.cli import _program
from prdsim.cli.options import given_options
from prdsim.config import RunConfig
from prdsim.config.files import load_config
from prdsim.physics import gradients

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "data").glob("*.md")])
PAGES += sorted((ROOT / "docs").glob("*.ipynb"))  # as their text; tests/test_tour.py runs them
GENERATE = ROOT / "docs" / "generate.py"

_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_NOT_RUN = re.compile(r"<!-- not run: [^\n]+ -->\s*$")  # compiled all the same

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def text_of(page: Path) -> str:
    text = page.read_text(encoding="utf-8")
    if page.suffix != ".ipynb":
        return text
    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def fences(page: Path, *languages: str) -> Iterator[tuple[int, str, bool]]:
    """Yield line number, text, and whether it is to be run, of the page's blocks of code."""
    text = text_of(page)
    for block in _FENCE.finditer(text):
        if block[1] in languages:
            line = text.count("\n", 0, block.start(2))
            yield line, block[2], not _NOT_RUN.search(text[: block.start()])


def prose(page: Path) -> str:
    return _FENCE.sub("", text_of(page))


def test_there_is_a_page_for_everything_promised():
    names = {str(page.relative_to(ROOT)) for page in PAGES}
    topics = ("mathematics", "trajectory-format", "backends", "configuration", "commands")
    topics += ("patterns", "theory", "performance", "index", "tutorial", "gallery", "limits")
    topics += ("how-to/data", "how-to/cluster", "how-to/gpu", "how-to/notebooks")
    topics += ("how-to/long-runs", "how-to/troubleshooting", "api/index")
    assert {"README.md", "CHANGELOG.md", "CONTRIBUTING.md"} <= names
    assert {f"docs/{topic}.md" for topic in topics} <= names


# -- code ------------------------------------------------------------------------------------------


@pages
def test_python_blocks_run_in_order(page, tmp_path, monkeypatch):
    """In one namespace and an empty folder; they assert what the text claims."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(backends, "_REGISTERED", {})
    names: dict[str, Any] = {"__name__": "docs"}
    for line, source, runs in fences(page, "python"):
        code = compile("\n" * line + source, str(page), "exec")  # tracebacks name the page's lines
        if runs:
            exec(code, names)


# -- generated tables ------------------------------------------------------------------------------


def test_generated_tables_are_current():
    generate = runpy.run_path(str(GENERATE))
    found = set()
    for page in PAGES:
        text = text_of(page)
        found.update(re.findall(r"<!-- begin (\w+) -->", text))
        assert generate["rewritten"](text) == text, f"{page.name}: run python docs/generate.py"
    assert found == set(generate["BLOCKS"])


def test_every_key_is_in_the_configuration_table():
    table = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for key in RunConfig.model_fields:
        assert f"| `{key}` |" in table


# -- commands --------------------------------------------------------------------------------------


def test_every_equation_has_its_function():
    """The table of docs/mathematics.md, the page's numbers and the docstrings agree."""
    text = (ROOT / "docs" / "mathematics.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| (\d+) \|.*\| `([\w.]+)` \|$", text, re.MULTILINE)
    assert {number for number, _ in table} == set(re.findall(r"\\tag\{(\d+)\}", text))
    listed = set()
    for number, path in table:
        function = pkgutil.resolve_name(re.sub(r"(\.physics\.\w+)\.", r"\1:", path))
        assert re.search(rf"\beq\. {number}\b", function.__doc__), path
        listed.add(path)
    for name, function in vars(gradients).items():
        numbers = re.findall(r"\beqs?\. ", getattr(function, "__doc__", None) or "")
        here = getattr(function, "__module__", "") == gradients.__name__
        if numbers and here and f"{gradients.__name__}.{name}" not in listed:
            assert name == "residual", f"{name} names an equation that the table gives to another"


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of every prdsim command in the page's shell blocks and inline code."""
    lines = [
        line.removeprefix("$ ")
        for _, text, _ in fences(page, "sh", "bash", "console")
        for line in text.replace("\\\n", " ").splitlines()
    ]
    lines += re.findall(r"`(prdsim [^`]+)`", prose(page).replace("\n", " "))
    for line in lines:
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.wordchars += "-./=:,+@%*[]{}$"
        command: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("();<>|&"):
                yield from [command[1:]] if command[:1] == ["prdsim"] else []
                command = []
            elif command or "=" not in word:  # leave out VARIABLE=value before the command
                command.append(word)


def check_command(words: list[str]) -> None:
    """Parse a command line as the program would, without running it."""
    command: click.Command = _program
    name = "prdsim"
    try:
        context = command.make_context(name, list(words))
        while isinstance(command, click.Group):
            name, found, words = command.resolve_command(
                context, [*context._protected_args, *context.args]
            )
            assert found is not None
            command = found
            context = command.make_context(name, list(words), parent=context)
    except click.exceptions.Exit:  # --help, --version
        return
    except click.MissingParameter:  # a command named in a sentence
        if len(words) > 1:
            raise
        return
    if context.command_path == "prdsim run":
        values = dict(context.params)
        values.pop("config")
        load_config(settings=values.pop("settings"), options=given_options(values))


@pages
def test_commands_parse(page):
    for words in commands(page):
        try:
            check_command(words)
        except Exception as error:
            pytest.fail(f"{page.name}: prdsim {shlex.join(words)}: {error}")


def test_the_check_of_commands_finds_what_is_wrong(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```sh\n$ A=b prdsim run --widht 3 | head # prdsim x\n```\nand `prdsim data`\n")
    assert list(commands(page)) == [["run", "--widht", "3"], ["data"]]
    wrong = (["runn"], ["run", "--widht", "3"], ["run", "--set", "widht=3"], ["data", "get"])
    for words in wrong:
        with pytest.raises((click.UsageError, prdsim.errors.PrdsimError)):
            check_command(words)
    for words in (["--help"], ["run", "--help"], ["data", "list"], ["run", "--set", "width=3"]):
        check_command(words)


# -- links and formulas ----------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """GitHub's anchors of a page's headings."""
    found = set()
    for heading in re.findall(r"^#+ +(.+?) *$", prose(page), re.MULTILINE):
        kept = "".join(
            c for c in heading.lower() if c in "-_ " or unicodedata.category(c)[0] in "LN"
        )
        found.add(kept.replace(" ", "-"))
    return found


@pages
def test_relative_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^()\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(linked), f"{page.name}: {target}"


@pages
def test_inline_formulas_survive_markdown(page):
    r"""GitHub's Markdown eats the backslash of \, \{ \| and \\, and reads * as emphasis."""
    text = re.sub(r"`[^`]*`", "", prose(page))
    for formula in re.findall(r"\$([^$]+)\$", text):
        assert not re.search(r"\\[^a-zA-Z]|\*|\n", formula), f"{page.name}: ${formula}$"


# -- versions --------------------------------------------------------------------------------------


def test_version_and_date_agree():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    version, date = re.findall(r"^## \[?([\d.]+)\]? - (\d{4}-\d\d-\d\d)$", changelog, re.M)[0]
    coming, is_coming, _ = prdsim.__version__.partition(".dev")
    if is_coming:  # its files must not pass for those of the last release
        assert "\n## [Unreleased]\n" in changelog
        assert [*map(int, coming.split("."))] > [*map(int, version.split("."))]
    else:
        assert version == coming
    assert f"\nversion: {version}\n" in citation
    assert f"\ndate-released: {date}\n" in citation
