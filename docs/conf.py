"""The documentation's site: ``sphinx-build -W docs site``, without a network.

The pages are Markdown that a code host shows as well. So are their links: those to the README and
its like lead to pages of ``project/`` here, which get the text of these files; those to other files
lead to copies; folders outside of docs/ are named without a link. Formulas become MathML, which
browsers show without a script. The notebooks are executed: what they show is never old.
"""

from __future__ import annotations

import os
import re
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.fileutil import copy_asset_file
from sphinx.util.nodes import make_refnode

import prdsim

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent

project = "prdsim"
author = "The prdsim developers"
project_copyright = author
release = version = prdsim.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["pictures"]
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!prdsim\.).*"),  # names of other libraries, and what is only set as code
    # What is not public, but occurs in signatures and texts:
    ("py:.*", r"prdsim\.(physics|schedule|vocabulary|study\.folder|running\.stopping)\b.*"),
    ("py:.*", r"prdsim\.(trajectory\.arrays\.Snapshots|datasets\.user_files\.load_file)"),
    ("py:.*", r"prdsim\.(analysis\.theory\.scaling\.\w+|backends\.fused\.\w+)"),
]

# -- Markdown --------------------------------------------------------------------------------------

myst_enable_extensions = ["dollarmath"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 4
myst_links_external_new_tab = False

# -- notebooks -------------------------------------------------------------------------------------

nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True

# -- docstrings ------------------------------------------------------------------------------------

autoclass_content = "both"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_use_type_comments = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
default_role = "py:obj"
python_maximum_signature_line_length = 88

# -- HTML ------------------------------------------------------------------------------------------

html_theme = "furo"
html_title = f"prdsim {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True}

_FENCES = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
_IMAGE = re.compile(r"(!\[[^\]]*\])\(([^()\s]+)\)")

# Pages that get the text of a file outside of docs/.
OUTSIDE = {
    "project/readme": ROOT / "README.md",
    "project/changelog": ROOT / "CHANGELOG.md",
    "project/contributing": ROOT / "CONTRIBUTING.md",
    "project/data": ROOT / "data" / "README.md",
}


def source_read(app: Sphinx, docname: str, source: list[str]) -> None:  # noqa: ARG001
    """Give pages of `OUTSIDE` their text, and let links lead where they can lead here."""
    page = DOCS / f"{docname}.md"
    origin = OUTSIDE.get(docname, page)
    if not page.exists():
        return  # a notebook, whose links stay within docs/
    text = source[0] if origin == page else origin.read_text(encoding="utf-8")
    source[0] = "".join(
        part if part.startswith("```") else _relinked(part, origin, page)
        for part in _FENCES.split(text)
    )


def _relinked(text: str, origin: Path, page: Path) -> str:
    """Rewrite the links of a text, written for the place of ``origin``, for that of ``page``."""

    def link(match: re.Match[str]) -> str:
        words, target = match[1], match[2]
        moved = _moved(target, origin, page)
        return words if moved is None else f"[{words}]({moved})"

    text = _LINK.sub(link, text)
    return _IMAGE.sub(lambda match: f"{match[1]}({_moved(match[2], origin, page)})", text)


def _moved(target: str, origin: Path, page: Path) -> str | None:
    """Return a link's target as seen from a page, None for a folder outside of docs/."""
    if re.match(r"[a-z]+:|#", target):
        return target
    name, hash_sign, anchor = target.partition("#")
    file = (origin.parent / name).resolve()
    here = {path: DOCS / f"{docname}.md" for docname, path in OUTSIDE.items()}
    file = here.get(file, file)
    if file.is_dir():
        return None
    if not file.is_relative_to(DOCS):
        anchor = hash_sign = ""  # a copy has no anchors
    return f"{os.path.relpath(file, page.parent)}{hash_sign}{anchor}"


# -- formulas --------------------------------------------------------------------------------------


def mathml(formula: str, *, display: str = "inline") -> str:
    r"""Return LaTeX as MathML; ``\tag`` is the caller's."""
    formula = re.sub(r"\\tag\{\w+\}", "", formula)
    # What is raised to a power is the whole, so that both brackets have one height.
    formula = re.sub(r"(\\[bB]igl.(?:(?!\\[bB]igl).)*?\\[bB]igr.)\^", r"{\1}^", formula)
    formula = formula.replace("{aligned}", "{align*}").replace(r"\lVert", r"\|")
    markup = convert(formula.replace(r"\rVert", r"\|"), display=display)
    # Bars are as high as what they are given, not as the line.
    markup = markup.replace(r">\|<", ">&#x02016;<")  # as left by \Bigl
    bars = r"<mo(?![^>]*minsize)[^>]*>(&#x0*2016;|&#x0*7C;)</mo>"
    return re.sub(bars, r'<mo stretchy="false">\1</mo>', markup)


def visit_inline_math(self: Any, node: nodes.math) -> None:
    """Write a formula in a line."""
    self.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def visit_math_block(self: Any, node: nodes.math_block) -> None:
    """Write a formula of its own, with its number."""
    formula = node.astext()
    number = re.search(r"\\tag\{(\w+)\}", formula)
    label = f'<span class="eqno">({number[1]})</span>' if number else ""
    self.body.append(f'<div class="formula">{mathml(formula, display="block")}{label}</div>')
    raise nodes.SkipNode


def copy_math_font(app: Sphinx, error: Exception | None) -> None:
    """Put the font of formulas beside the style sheet that names it."""
    if error is None and app.builder.format == "html":
        font = files("ziamath") / "fonts" / "STIXTwoMath-Regular.ttf"
        with as_file(font) as path:
            copy_asset_file(path, app.outdir / "_static")


# -- docstrings ------------------------------------------------------------------------------------

_LITERAL = re.compile(r"(``.*?``|`[^`]*`)")


def escape_docstring(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Keep bars and stars of formulas from being taken for markup, as docstrings are plain text."""
    del app, what, name, obj, options
    code = False
    for number, line in enumerate(lines):
        if line and not line.startswith(" "):
            code = lines[number].endswith("::")
        elif code:
            continue
        parts = _LITERAL.split(line)
        parts[::2] = [re.sub(r"([|*]|(?<=\w)_(?!\w))", r"\\\1", part) for part in parts[::2]]
        lines[number] = "".join(parts)


def find_by_last_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.reference | None:
    """Let a name lead to its entry however it is given: short, or by the module that defines it."""
    if node.get("refdomain") != "py":
        return None
    objects = env.domains.python_domain.objects
    last = node["reftarget"].rpartition(".")[2]
    found = [name for name in objects if name == last or name.endswith(f".{last}")]
    classes = [name for name in found if objects[name].objtype not in ("attribute", "property")]
    if not classes or not last.strip():
        return None
    entry = objects[min(classes, key=len)]
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, content, last)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect what is above."""
    app.connect("source-read", source_read)
    app.connect("autodoc-process-docstring", escape_docstring, priority=400)  # before napoleon
    app.connect("missing-reference", find_by_last_name)
    app.connect("build-finished", copy_math_font)
    app.add_html_math_renderer("mathml", (visit_inline_math, None), (visit_math_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
