"""The page: one HTML file with all that it shows, which requests nothing."""

from __future__ import annotations

import base64
import hashlib

from markupsafe import Markup

from prdsim.explorer.content import Content
from prdsim.markup import page_of, text_of

_PACKAGE = "prdsim.explorer"


def html_page(content: Content, *, version: str = "") -> str:
    """Return the page as HTML.

    A page with a ``version`` is served: it asks every other second whether its server has a newer
    one, and then loads that. A browser runs the page's own programs alone, told by their hashes:
    whatever names of files and keys hold stays text.
    """
    licence = f"/*\n{text_of(_PACKAGE, 'vendor', 'uPlot.LICENSE.txt')}*/\n"  # goes with copies
    uplot = licence + text_of(_PACKAGE, "vendor", "uPlot.iife.min.js")
    scripts = [_inline(text) for text in (uplot, *(text_of(_PACKAGE, name) for name in _PROGRAMS))]
    styles = [_inline(_style(content)), _inline(text_of(_PACKAGE, "vendor", "uPlot.min.css"))]
    policy = "; ".join(
        [
            "default-src 'none'",
            "img-src data:",
            f"script-src {' '.join(map(_source, scripts))}",
            f"style-src {' '.join(map(_source, styles))}",
            f"connect-src {chr(39)}{'self' if version else 'none'}{chr(39)}",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    text = page_of(
        _PACKAGE,
        **content.facts,
        policy=policy,
        styles=styles,
        scripts=scripts,
        data={**content.data, "version": version},
        frames=content.frames,
    )
    return text.encode(errors="backslashreplace").decode()  # names of files may be any bytes


_PROGRAMS = ("drawing.js", "page.js")


def _style(content: Content) -> str:
    """Return the style sheet, with the runs' colors: a policy of hashes allows no attributes."""
    colors = "".join(
        f".run-{k} {{ --run: {run['color']}; }}\n" for k, run in enumerate(content.facts["runs"])
    )
    return text_of(_PACKAGE, "page.css") + colors


def _inline(text: str) -> Markup:
    """Return a program or style sheet of ours as it stands between its tags."""
    assert "</" + "script" not in text
    assert "</" + "style" not in text
    return Markup(text)


def _source(text: Markup) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
