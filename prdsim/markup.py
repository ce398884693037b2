"""Pages as HTML, from the templates beside the modules that fill them."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined


def page_of(package: str, **values: Any) -> str:
    """Return the page that a package's ``page.html.j2`` makes of values; texts are escaped."""
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False}  # in the order given
    return environment.from_string(text_of(package, "page.html.j2")).render(values)


def text_of(package: str, *name: str) -> str:
    """Return the text of a file of a package."""
    return files(package).joinpath(*name).read_text(encoding="utf-8")
